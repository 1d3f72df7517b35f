"""What the case's own form and actions refuse, an import refuses: by row, column, value and reason."""

import datetime

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from crm import imports, roles, workflow
from crm.audit.plans import OF_THE_WORKFLOW
from crm.choices import CaseStatus
from crm.exceptions import NotAllowed
from crm.models import AuditEntry, Case, User
from crm.tests.factories import make_case, make_catalogue, make_client, make_user
from crm.tests.imports.test_own import TODAY, check, history_count, load
from crm.tests.imports.workbooks import csv

pytestmark = pytest.mark.django_db
NEW = ["reference", "client", "opened_on"]


@pytest.fixture(autouse=True)
def _catalogue(db):
    make_catalogue()


@pytest.fixture
def client_row():
    return make_client("Alice Nováková")


def new_case(client_row, user=None, **cells):
    return load([*NEW, *cells], ["", client_row.reference, "1.2.2026", *cells.values()], user=user)


def change(case, user=None, **cells):
    return load(["reference", "client", *cells], [case.reference, case.client.reference, *cells.values()], user=user)


def made_user(role, *codes):
    """Of this role, with rights of the office's own choice."""
    user = make_user(role)
    user.user_permissions.add(*Permission.objects.filter(codename__in=codes, content_type__app_label="crm"))
    return User.objects.get(pk=user.pk)


def refused(plan):
    return [(each.column, each.value) for each in plan.problems if each.is_error]


# --- Whose a case is ---


def test_nobody_who_left_or_only_reads_gets_a_case(client_row, adviser, auditor):
    left = make_user(is_active=False)
    before = history_count()
    for user in (left, auditor):
        assert refused(new_case(client_row, adviser=user.username)) == [("adviser", user.username)]
    case = make_case(client_row, adviser=adviser)
    for user in (left, auditor):
        assert refused(change(case, adviser=user.username)) == [("adviser", user.username)]
    assert Case.objects.get().adviser == adviser
    assert Case.history.count() == 1 and history_count() > before


def test_nobody_who_left_or_only_reads_stands_in(client_row, auditor):
    for user in (make_user(is_active=False), auditor):
        assert refused(new_case(client_row, stand_in=user.username)) == [("stand_in", user.username)]
        assert refused(change(make_case(client_row), stand_in=user.username)) == [("stand_in", user.username)]


def test_who_is_given_a_case_stands_in_for_it_no_more_and_that_is_told(client_row, adviser):
    other = make_user()
    case = make_case(client_row, adviser=other, stand_in=adviser)
    plan = change(case, adviser=adviser.username)
    assert [(each.column, each.is_error) for each in plan.problems] == [("adviser", False)]
    case.refresh_from_db()
    assert (case.adviser, case.stand_in) == (adviser, None)
    assert {each.field for each in case.history.first().diff_against(case.history.last()).changes} == {
        "adviser", "stand_in",
    }  # fmt: skip


@pytest.mark.parametrize("stands_in", [True, False])
def test_a_row_that_gives_a_case_to_its_stand_in_is_refused_where_it_says_both(client_row, adviser, stands_in):
    case = make_case(client_row, adviser=make_user(), stand_in=adviser if stands_in else None)
    plan = change(case, adviser=adviser.username, stand_in=adviser.username)
    assert refused(plan) == [("stand_in", adviser.username)]


def test_an_empty_cell_takes_no_case_from_its_adviser(client_row, adviser):
    case = make_case(client_row, adviser=adviser, stand_in=make_user())
    content = csv([case.reference, "", ""], header=["reference", "adviser", "stand_in"])
    plan = imports.check(content, "x.csv", on=TODAY, empty_deletes=True)
    assert [each.column for each in plan.problems if each.is_error] == ["adviser"]
    content = csv([case.reference, ""], header=["reference", "stand_in"])
    imports.write(imports.check(content, "x.csv", on=TODAY, empty_deletes=True))
    case.refresh_from_db()
    assert (case.adviser, case.stand_in) == (adviser, None)


# --- How a case ended ---


def test_a_new_declined_case_has_a_reason_and_a_day(client_row):
    plan = new_case(client_row, status="declined", rejection_reason="registr", decided_on="3.2.2026")
    case = Case.objects.get()
    assert plan.problems == []
    assert (case.status, case.rejection_reason, case.decided_on) == ("declined", "registr", datetime.date(2026, 2, 3))


@pytest.mark.parametrize("status", ["declined", "withdrawn"])
@pytest.mark.parametrize(
    ("reason", "day", "columns"),
    [
        ("", "", ["rejection_reason", "decided_on"]), ("registr", "", ["decided_on"]),
        ("", "3.2.2026", ["rejection_reason"]), ("registr", "3.3.2026", ["decided_on"]),
    ],
)  # fmt: skip
def test_a_new_case_ends_as_the_actions_would_end_it(client_row, status, reason, day, columns):
    plan = new_case(client_row, status=status, rejection_reason=reason, decided_on=day)
    assert ([column for column, _value in refused(plan)], Case.objects.count()) == (columns, 0)


def test_what_a_file_has_no_column_for_is_said_of_the_status(client_row):
    assert refused(new_case(client_row, status="declined")) == [("status", "declined")] * 2


@pytest.mark.parametrize("status", ["open", "approved", ""])
@pytest.mark.parametrize("column", ["rejection_reason", "decided_on"])
def test_a_new_case_that_goes_on_has_neither_reason_nor_day(client_row, status, column):
    value = {"rejection_reason": "registr", "decided_on": "3.2.2026"}[column]
    plan = new_case(client_row, **{"status": status, column: value})
    if (status, column) == ("", "rejection_reason"):  # the reason alone says that it was declined, but not when
        assert [reason for reason, _value in refused(plan)] == ["status"]
    else:
        assert refused(plan) == [(column, value)]


def test_a_withdrawn_case_stays_withdrawn_and_its_reason_is_in_its_history(client_row):
    rows = [["", client_row.reference, f"{day}.2.2026", "withdrawn", f"důvod {day}", "20.2.2026"] for day in (1, 2)]
    plan = load([*NEW, "status", "rejection_reason", "decided_on"], *rows)
    assert (plan.created, [each.is_error for each in plan.problems]) == (2, [False, False])
    for case in Case.objects.all():
        assert (case.status, case.rejection_reason, case.next_deadline) == ("withdrawn", "", None)
        assert [row.history_change_reason for row in case.history.all()] == [f"důvod {case.opened_on.day}"]
    assert list(workflow.mismatches()) == []


def test_the_reason_of_one_withdrawn_case_is_not_the_imports(client_row):
    new_case(client_row, status="withdrawn", rejection_reason="tajný důvod", decided_on="3.2.2026")
    assert [entry.reason for entry in AuditEntry.objects.filter(kind="import")] == [""]


def test_an_older_list_may_not_know_the_day_but_the_reason():
    header = ["jmeno", "datum", "stav", "duvod_zamitnuti"]
    rows = [
        ["Alice", "1.2.2025", "Zamítnuto", "registr"], ["Bob", "1.2.2025", "Zamítnuto", ""],
        ["Charlie", "1.2.2025", "Staženo", ""], ["Dana", "1.2.2025", "Otevřeno", "registr"],
    ]  # fmt: skip
    plan = load(header, *rows)
    assert [(each.row, each.column) for each in plan.problems if each.is_error] == [
        (3, "duvod_zamitnuti"), (4, "duvod_zamitnuti"), (5, "duvod_zamitnuti"),
    ]  # fmt: skip
    assert [(case.client.full_name, case.status) for case in Case.objects.all()] == [("Alice", CaseStatus.DECLINED)]
    assert check(csv(rows[0], header=header)).skipped == 1


# --- Rights ---


def test_a_hand_over_takes_its_right_in_an_import_too(client_row):
    user, mine, other = made_user(roles.ADVISER, "import_client", "import_case"), make_user(), make_user()
    case = make_case(client_row, adviser=mine)
    assert refused(change(case, user, adviser=other.username)) == [("adviser", other.username)]
    assert change(case, user, adviser=mine.username, loan_purpose="byt").updated == 1
    assert change(case, made_user(roles.ADVISER, "hand_over_case"), adviser=other.username).updated == 1
    case.refresh_from_db()
    assert case.adviser == other


@pytest.mark.parametrize("code", ["change_client", "change_case"])
def test_who_may_not_change_records_changes_none_by_an_import(client_row, code):
    user, case = made_user(roles.AUDITOR, "import_client", "import_case"), make_case(client_row)
    others = {"change_client", "change_case", "change_casestep"} - {code}
    other = made_user(roles.AUDITOR, *others)
    rows = {
        "change_client": (["reference", "employer"], [client_row.reference, "ACME"]),
        "change_case": (["reference", "client", "loan_purpose"], [case.reference, "", "byt"]),
    }[code]
    before = history_count()
    for each in (user, other):
        plan = load(*rows, user=each)
        assert (plan.errors, [(each.column, each.is_error) for each in plan.problems][-1:]) == (1, [("", True)])
    assert history_count() == before
    assert load(rows[0], [rows[1][0]] + [""] * (len(rows[0]) - 1), user=user).skipped == 1
    assert load(*rows, user=made_user(roles.AUDITOR, code, "change_casestep")).updated == 1


def test_a_lender_that_is_kept_as_a_note_takes_the_right_to_change_steps(client_row):
    case = make_case(client_row)
    row = ["reference", "client", "lender"], [case.reference, "", "Banka Na Rohu"]
    assert load(*row, user=made_user(roles.AUDITOR, "change_case")).errors == 1
    assert load(*row, user=made_user(roles.AUDITOR, "change_case", "change_casestep")).updated == 1


@pytest.mark.parametrize(
    ("header", "row", "codes"),
    [
        (["reference", "full_name"], ["", "Bob"], ["add_client"]),
        (["reference", "client", "opened_on"], ["", "C-000001", "1.2.2026"], ["add_case"]),
        (["jmeno", "datum"], ["Bob", "1.2.2026"], ["add_client", "add_case"]),
        (["reference", "full_name", "case.reference", "case.opened_on"], ["", "Bob", "", "1.2.2026"], ["add_client", "add_case"]),
    ],
)  # fmt: skip
def test_who_may_not_add_records_adds_none_by_an_import(client_row, header, row, codes):
    row = [client_row.reference if cell == "C-000001" else cell for cell in row]
    for code in codes:
        plan = load(header, row, user=made_user(roles.AUDITOR, *(set(codes) - {code})))
        assert (
            [(each.column, str(NotAllowed.message)) for each in plan.problems if each.is_error]
            == [(each.column, each.reason) for each in plan.problems if each.is_error]
            != []
        )
    assert load(header, row, user=made_user(roles.AUDITOR, *codes)).created == 1


@pytest.mark.parametrize(("status", "code"), [("declined", "reject_case"), ("withdrawn", "withdraw_case")])
def test_a_new_case_ends_by_whom_could_end_it(client_row, status, code):
    cells = {"status": status, "rejection_reason": "registr", "decided_on": "3.2.2026"}
    assert refused(new_case(client_row, made_user(roles.AUDITOR, "add_case"), **cells)) == [("status", status)]
    assert new_case(client_row, made_user(roles.AUDITOR, "add_case", code), **cells).created == 1


def test_rights_are_asked_once_whatever_the_number_of_rows(client_row, manager):
    cases = [make_case(client_row) for _number in range(30)]
    counts = []
    for part in (cases[:5], cases[5:]):
        rows = [[case.reference, manager.username] for case in part]
        user = User.objects.get(pk=manager.pk)
        with CaptureQueriesContext(connection) as queries:
            check(csv(*rows, header=["reference", "adviser"]), user=user)
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- What only the workflow sets ---


@pytest.mark.parametrize("status", ["open", "approved", "declined"])
@pytest.mark.parametrize("column", sorted(OF_THE_WORKFLOW[Case]))
def test_what_an_action_decided_no_import_changes(client_row, status, column):
    case = make_case(client_row, status=status, decided_on=datetime.date(2026, 2, 3), rejection_reason="registr")
    Case.objects.filter(pk=case.pk).update(status=status)
    value = {"status": "completed" if status == "open" else "open", "decided_on": "1.1.2020", "rejection_reason": "x"}
    assert refused(change(case, **{column: value[column]})) == [(column, value[column])]
    content = csv([case.reference, ""], header=["reference", column])
    plan = imports.check(content, "x.csv", on=TODAY, empty_deletes=True)
    assert [each.column for each in plan.problems if each.is_error] == [column]
