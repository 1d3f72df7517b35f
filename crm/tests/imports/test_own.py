"""Files of our own exports: unchanged they change nothing, and what differs is an update of that record alone."""

import datetime
import io
import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from crm import exports, imports
from crm.encryption import encrypt_str
from crm.models import Case, CaseStep, Client, User
from crm.models.steps import LENDER_SELECTION
from crm.tests.factories import make_case, make_catalogue, make_client, make_lender, make_user
from crm.tests.imports.workbooks import csv, xlsx

TODAY = datetime.date(2026, 3, 2)
SAMPLES = Path(__file__).parent / "samples"
pytestmark = pytest.mark.django_db

AWKWARD = [
    "=HYPERLINK(\"http://x\")", "'=1+1", "''x", "+420 777", "-5", "@SUM", "Byt \"3+kk\"; dům", "a\r\nb\r\n\r\nc", "\tx",
    "1. 2. 2025", "0.8", "80 %", "007", "gA", "🏡", "＝1", "'", "  spaces  inside  ", "TRUE", "1e5", "½ × 2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _catalogue(db):
    make_catalogue()


@pytest.fixture
def full_office(adviser):
    """Records with every column filled, and awkward texts in the free ones."""
    alice = make_client(
        "Ing.  Alice  Nováková, Ph.D.", email="alice@example.com", phone="+420 777 123 456", birth_number="855101/0001",
        birth_date=datetime.date(1985, 1, 1), birth_place="Brno", street="Dlouhá 1", city="Praha", postal_code="01001",
        mailing_address="a\r\nb", id_document_number="012345", id_document_issuer="MÚ", bank_account="19-2000145399/0800",
        employer="=ACME", business_id="27074358", note="'poznámka", citizenship="CZ", legacy_id="101",
        id_document_valid_until=datetime.date(2030, 1, 1), retention_until=datetime.date(2040, 1, 1),
    )  # fmt: skip
    other = make_user(first_name="Petra", last_name="Radová")
    make_case(
        alice, adviser=adviser, stand_in=other, opened_on=datetime.date(2026, 1, 5), purpose_kind="purchase",
        loan_purpose="<b>byt</b>", property_price_czk=Decimal("5000000.50"), loan_amount_czk=Decimal("4000000"),
        own_funds_czk=Decimal("0"), ltv_percent=Decimal("0.80"), proposed_terms="-1", lender=make_lender("KB; a.s."),
        approved_terms="=1", approved_amount_czk=Decimal("1234.56"), approved_own_funds_czk=Decimal("1.234") * 1000,
        approved_ltv_percent=Decimal("120"), decided_on=datetime.date(2026, 2, 1), interest_rate_percent=Decimal("0.125"),
        term_months=360, fixation_years=5, fixation_until=datetime.date(2031, 1, 1), monthly_payment_czk=Decimal("0.99"),
        contract_number="0001", dti=Decimal("8.50"), dsti_percent=Decimal("2.00"), legacy_id="101",
    )  # fmt: skip
    for number, text in enumerate(AWKWARD):
        client = make_client(f"Bob {number}", note=text, employer=text.strip()[:200], city=text.strip()[:200])
        make_case(client, loan_purpose=text, proposed_terms=text)
    declined = make_case(make_client("Charlie"))
    Case.objects.filter(pk=declined.pk).update(status="declined", rejection_reason="=registr", next_deadline=None)
    return alice


def exported(model, file_format, language="en", user=None, columns=None) -> bytes:
    target = io.BytesIO()
    with translation.override(language):
        exports.write(model.objects.all(), target, file_format=file_format, user=user, columns=columns, reason="x")
    return target.getvalue()


def check(content, file_format="csv", user=None):
    return imports.check(content, f"x.{file_format}", user, on=TODAY)


def load(header, *rows, user=None):
    plan = check(csv(*rows, header=header), user=user)
    imports.write(plan, user)
    return plan


def history_count():
    return sum(model.history.count() for model in (Client, Case, CaseStep))


@pytest.mark.parametrize("language", ["en", "cs"])
@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
@pytest.mark.parametrize("model", [Client, Case])
def test_what_was_exported_can_be_imported_again_unchanged(full_office, model, file_format, language):
    before = history_count()
    plan = check(exported(model, file_format, language), file_format)
    imports.write(plan)
    rows = model.objects.count()
    assert plan.summary_line() == f"{rows} rows: 0 created, 0 updated, {rows} skipped, 0 errors"
    assert (plan.problems, history_count()) == ([], before)


def test_an_export_of_one_language_is_imported_in_the_other(full_office):
    content = exported(Case, "xlsx", "cs")
    with translation.override("en"):
        assert check(content, "xlsx").skipped == Case.objects.count()


def test_a_cell_that_differs_is_an_update_of_that_field_alone():
    client = make_client("Alice", email="old@example.com", phone="777")
    load(["Reference", "Full name", "E-mail", "Phone"], [client.reference, "Alice", "new@example.com", "777"])
    client.refresh_from_db()
    assert (client.email, client.phone) == ("new@example.com", "777")
    record = client.history.first()
    assert (record.history_type, record.source, record.email) == ("~", "import", "new@example.com")
    assert [change.field for change in record.diff_against(record.prev_record).changes] == ["email"]
    assert Client.objects.search("new@example.com").exists() and not Client.objects.search("old@example.com").exists()


@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
def test_a_stored_day_that_no_import_takes_comes_back_unchanged(file_format):
    make_client("Alice", birth_date=datetime.date(1899, 12, 31))
    plan = check(exported(Client, file_format), file_format)
    assert (plan.skipped, plan.problems) == (1, [])


def test_no_import_takes_another_such_day():
    alice = make_client("Alice", birth_date=datetime.date(1899, 12, 31))
    plan = load(["reference", "birth_date"], [alice.reference, "30.12.1899"])
    assert [each.reason for each in plan.problems] == ["The year has to be between 1900 and 2100."]


def test_an_empty_cell_leaves_the_value():
    client = make_client("Alice", email="alice@example.com")
    plan = load(["reference", "full_name", "email"], [client.reference, "", ""])
    client.refresh_from_db()
    assert (plan.skipped, client.full_name, client.email) == (1, "Alice", "alice@example.com")


def test_cases_are_updated_by_reference_with_lender_adviser_and_amounts(adviser):
    case = make_case(make_client("Alice"))
    lender = make_lender("Banka Pod Lipou", aliases=["BPL"])
    plan = load(
        ["Reference", "Client", "Lender", "Adviser", "Loan amount (CZK)", "LTV (%)", "Interest rate (% a year)"],
        [case.reference, case.client.reference, "b.p.l.", adviser.username, "3 mil.", "0.8", "3,99 %"],
    )
    case.refresh_from_db()
    assert plan.updated == 1
    assert (case.lender, case.adviser, case.loan_amount_czk) == (lender, adviser, Decimal("3000000"))
    assert (case.ltv_percent, case.interest_rate_percent) == (Decimal("80"), Decimal("3.99"))


def test_rows_match_by_the_older_crms_id_where_there_is_no_reference():
    client = make_client("Alice", legacy_id="101")
    plan = load(["id in the older CRM", "full name"], ["101", "Alice Nová"], ["102", "Bob"])
    client.refresh_from_db()
    assert (client.full_name, Client.objects.get(legacy_id="102").full_name) == ("Alice Nová", "Bob")
    assert plan.summary_line() == "2 rows: 1 created, 1 updated, 0 skipped, 0 errors"


def test_a_new_client_among_exported_ones_is_created_once():
    rows = ["reference", "full name", "e-mail"], ["", "Dana Nová", "dana@example.com"]
    assert (load(*rows).created, load(*rows).skipped, Client.objects.count()) == (1, 1, 1)


def test_a_new_client_who_says_more_than_a_namesake_is_created_and_told():
    make_client("Dana Nová")
    plan = load(["reference", "full name", "e-mail"], ["", "Dana Nová", "dana@example.com"])
    assert (plan.created, len(plan.problems), plan.problems[0].severity) == (1, 1, "warning")


def test_a_new_case_of_a_client_has_its_steps_and_is_created_once():
    client = make_client("Alice")
    rows = ["reference", "client", "opened on", "lender"], ["", client.reference, "1.2.2025", "Banka Na Rohu"]
    assert (load(*rows).created, load(*rows).skipped) == (1, 1)
    case = client.cases.get()
    assert (case.steps.count(), case.opened_on) == (15, datetime.date(2025, 2, 1))
    assert case.steps.get(step__code=LENDER_SELECTION).note == "Banka Na Rohu"


def test_an_unknown_lender_of_a_stored_case_is_kept_once():
    case = make_case(make_client("Alice"), lender=make_lender())
    rows = ["reference", "client", "lender"], [case.reference, case.client.reference, "Banka Na Rohu"]
    assert (load(*rows).updated, load(*rows).skipped) == (1, 1)
    case.refresh_from_db()
    step = case.steps.get(step__code=LENDER_SELECTION)
    assert (step.note, case.lender) == ("Banka Na Rohu", make_lender())
    assert step.history.first().history_type == "~"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "approved"), ("rejection reason", "registr"), ("adviser", "nobody"), ("opened on", "31.2.2025"),
        ("loan amount (CZK)", "-1"), ("term (months)", "0"), ("lender", "gAAAAABx"), ("kind of purpose", "cosi"),
        ("client", "C-999999"), ("LTV (%)", "1,5"),
    ],
)  # fmt: skip
def test_what_an_import_may_not_change_refuses_the_row(column, value):
    case = make_case(make_client("Alice"))
    before = history_count()
    plan = load(["reference", "client", column], [case.reference, case.client.reference, value]) if column != "client" \
        else load(["reference", "client"], [case.reference, value])  # fmt: skip
    assert [(problem.column, problem.is_error) for problem in plan.problems] == [(column, True)]
    assert history_count() == before


def test_somebody_who_left_gets_no_cases():
    left = make_user(first_name="Petra", last_name="Radová", is_active=False)
    case = make_case(make_client("Alice"))
    assert load(["reference", "client", "adviser"], [case.reference, "", left.username]).errors == 1


def test_two_people_of_one_name_are_told_apart_by_their_user_names():
    for name in ("petra1", "petra2"):
        make_user(username=name, first_name="Petra", last_name="Radová")
    case = make_case(make_client("Alice"))
    assert load(["reference", "client", "adviser"], [case.reference, "", "Petra Radová"]).errors == 1
    assert load(["reference", "client", "adviser"], [case.reference, "", "petra2"]).updated == 1
    case.refresh_from_db()
    assert case.adviser == User.objects.get(username="petra2")


@pytest.fixture
def unlike_by_case():
    return [make_user(username=name) for name in ("Jan.S", "jan.s")]


@pytest.mark.parametrize("file_format", ["csv", "xlsx", "plain_csv"])
def test_whoever_is_stored_stays_though_he_could_not_be_chosen_any_more(unlike_by_case, file_format):
    left, gone = (make_user(first_name="Petra", last_name=name) for name in ("Radová", "Malá"))
    people = [left, gone, *unlike_by_case]
    for adviser, stand_in in itertools.pairwise([*people, left]):
        make_case(make_client("Alice"), adviser=adviser, stand_in=stand_in)
    User.objects.filter(pk=left.pk).update(is_staff=False)
    User.objects.filter(pk=gone.pk).update(is_active=False)
    plan = check(exported(Case, file_format), exports.ENDINGS[file_format])
    assert (plan.summary_line(), plan.problems) == ("4 rows: 0 created, 0 updated, 4 skipped, 0 errors", [])


def test_user_names_that_differ_in_case_are_told_apart_as_they_are_written(unlike_by_case):
    case = make_case(make_client("Alice"))
    for user in unlike_by_case:
        assert load(["reference", "client", "adviser"], [case.reference, "", user.username]).updated == 1
        assert Case.objects.get().adviser == user
    assert load(["reference", "client", "adviser"], [case.reference, "", "JAN.S"]).errors == 1


def test_somebody_of_the_staff_goes_before_others_of_his_name():
    petra = make_user(first_name="Petra", last_name="Radová")
    User.objects.create_user(username="portal", first_name="Petra", last_name="Radová")
    case = make_case(make_client("Alice"))
    assert load(["reference", "client", "adviser"], [case.reference, "", "Petra Radová"]).updated == 1
    assert Case.objects.get().adviser == petra
    assert load(["reference", "client", "adviser"], [case.reference, "", "portal"]).errors == 1


@pytest.mark.parametrize("row", [["C-999999", "Alice"], ["x", "Alice"], ["'=1", "Alice"]])
def test_an_unknown_reference_is_an_error(row):
    assert load(["reference", "full name"], row).errors == 1


def test_a_reference_twice_in_a_file_is_an_error_the_second_time():
    client = make_client("Alice")
    plan = load(["reference", "full name"], [client.reference, "Alice A"], [client.reference, "Alice B"])
    client.refresh_from_db()
    assert (client.full_name, plan.updated, plan.errors) == ("Alice A", 1, 1)


def test_a_reference_and_another_records_older_id_do_not_mix():
    client = make_client("Alice", legacy_id="1")
    assert load(["reference", "full name", "legacy_id"], [client.reference, "Alice", "2"]).errors == 1


def test_a_foreign_client_looks_like_one_who_is_not_there(settings, adviser):
    settings.ADVISER_SCOPE = "own"
    foreign = make_client("Alice")
    make_case(foreign)
    own = make_client("Bob")
    make_case(own, adviser=adviser)
    header = ["reference", "full name", "phone"]
    plan = load(
        header, [foreign.reference, "X", "1"], ["C-999999", "X", "1"], [own.reference, "Bob", "777"], user=adviser
    )
    foreign.refresh_from_db()
    assert (foreign.full_name, plan.updated, plan.errors) == ("Alice", 1, 2)
    assert len({problem.reason for problem in plan.problems}) == 1


def test_a_foreign_case_and_a_foreign_client_of_a_new_case_are_refused(settings, adviser):
    settings.ADVISER_SCOPE = "own"
    foreign = make_case(make_client("Alice"))
    header = ["reference", "client", "proposed terms"]
    plan = load(header, [foreign.reference, "", "x"], ["", foreign.client.reference, "x"], user=adviser)
    assert (plan.errors, foreign.client.cases.count()) == (2, 1)


def test_a_case_row_with_another_clients_name_is_told_and_a_new_one_refused():
    case = make_case(make_client("Alice"))
    header = ["reference", "client", "full name", "proposed terms"]
    plan = load(header, [case.reference, case.client.reference, "Bob", "x"], ["", case.client.reference, "Bob", "x"])
    assert [problem.severity for problem in plan.problems] == ["warning", "error"]


def test_a_restricted_record_stays_as_it_is():
    client = make_client("Alice")
    Client.objects.filter(pk=client.pk).update(restricted_at="2026-01-01T00:00:00Z")
    assert load(["reference", "full name"], [client.reference, "Bob"]).errors == 1
    assert load(["reference", "full name"], [client.reference, "Alice"]).skipped == 1


def test_an_unreadable_value_is_never_replaced():
    client = make_client("Alice", note="x")
    with connection.cursor() as cursor:
        broken = encrypt_str("tajné").decode()[:-8] + "AAAAAAA="
        cursor.execute("UPDATE crm_client SET note = %s WHERE id = %s", [broken, client.pk])
    content = exported(Client, "csv")
    assert check(content).skipped == 1
    assert load(["reference", "full name", "note"], [client.reference, "Alice", "new"]).errors == 1
    assert load(["reference", "full name", "phone"], [client.reference, "Alice", "777"]).updated == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT note FROM crm_client")
        assert cursor.fetchone()[0] == broken


def test_a_record_changed_since_the_check_is_not_overwritten():
    alice, bob = make_client("Alice"), make_client("Bob")
    content = csv([alice.reference, "Alice A"], [bob.reference, "Bob B"], header=["reference", "full name"])
    plan = check(content)
    alice.full_name = "Alice by hand"
    alice.save()
    run = imports.write(plan)
    alice.refresh_from_db()
    assert (alice.full_name, run.updated_count, run.error_count) == ("Alice by hand", 1, 1)
    assert plan.summary_line() == "2 rows: 0 created, 1 updated, 0 skipped, 1 errors"


def test_one_changed_record_keeps_all_out_where_all_or_nothing_is_asked():
    alice, bob = make_client("Alice"), make_client("Bob")
    plan = check(csv([alice.reference, "A"], [bob.reference, "B"], header=["reference", "full name"]))
    alice.note = "changed meanwhile"
    alice.save()
    run = imports.write(plan, all_or_nothing=True)
    bob.refresh_from_db()
    assert (bob.full_name, run.updated_count, run.error_count) == ("Bob", 0, 1)


def test_an_import_of_updates_asks_as_often_for_sixty_rows_as_for_ten():
    clients = [make_client(f"Client {number}") for number in range(70)]
    counts = []
    for part in (clients[:10], clients[10:]):
        rows = [[client.reference, client.full_name, "777"] for client in part]
        with CaptureQueriesContext(connection) as queries:
            check(csv(*rows, header=["reference", "full name", "phone"]))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_rows_that_change_different_cells_change_those_alone():
    alice = make_client("Alice", email="alice@example.com", phone="777111222")
    bob = make_client("Bob", email="bob@example.com", phone="602111222")
    load(
        ["Reference", "Full name", "E-mail", "Phone"],
        [alice.reference, "Alice", "new@example.com", "777111222"],
        [bob.reference, "Robert", "bob@example.com", "602999999"],
    )
    changed = [
        {change.field for change in record.diff_against(record.prev_record).changes}
        for record in (alice.history.first(), bob.history.first())
    ]
    assert changed == [{"email"}, {"full_name", "phone"}]
    assert [client.history.count() for client in (alice, bob)] == [2, 2]
    for text, found in {
        "new@example.com": alice, "777111222": alice, "alice": alice,
        "bob@example.com": bob, "602999999": bob, "robert": bob,
    }.items():  # fmt: skip
        assert list(Client.objects.search(text)) == [found], text
    for text in ("alice@example.com", "602111222", "bob"):
        assert not Client.objects.search(text).exists(), text


def test_zero_is_written_where_the_form_takes_it():
    case = make_case(make_client("Alice"), own_funds_czk=Decimal("2620000"), ltv_percent=Decimal("79.98"))
    rows = ["reference", "client", "own_funds_czk", "ltv_percent"], [case.reference, "", "0", "0 %"]
    plan = load(*rows)
    case.refresh_from_db()
    assert (plan.updated, plan.problems, case.own_funds_czk, case.ltv_percent) == (1, [], 0, 0)
    assert load(*rows).skipped == 1
    load(["reference", "client", "opened_on", "own_funds_czk"], ["", case.client.reference, "1.2.2026", "0,00 Kč"])
    assert Case.objects.exclude(pk=case.pk).get().own_funds_czk == 0


@pytest.mark.parametrize(
    ("stored", "cell", "now"),
    [
        ("první druhý", "první\ndruhý", "první\ndruhý"), ("a\r\nb", "a\nb", None), ("a\nb", "a\r\nb", None),
        ("a\nb", "a b", "a b"), ("a\n\nb", "a\nb", "a\nb"), ("a b", "a  b", "a  b"), ("a\tb", "a b", "a b"),
        (" a ", "a", None), ("a", " a\r\n", None),
    ],
)  # fmt: skip
def test_a_longer_text_is_compared_with_its_lines_and_spaces(stored, cell, now):
    client = make_client("Alice", note=stored)
    plan = load(["reference", "note"], [client.reference, f'"{cell}"'])
    client.refresh_from_db()
    assert (plan.updated, plan.skipped, client.note) == ((0, 1, stored) if now is None else (1, 0, now))


def test_a_text_of_one_line_is_compared_without_its_spaces():
    client = make_client("Alice  Nováková", city="Hradec  Králové")
    plan = load(["reference", "full name", "city"], [client.reference, "Alice Nováková", '"Hradec\nKrálové"'])
    assert (plan.skipped, plan.problems) == (1, [])


def test_every_bad_cell_is_told_also_where_the_record_is_not_known():
    case = make_case(make_client("Alice"), loan_amount_czk=1)
    header = ["reference", "client", "loan amount (CZK)", "decided on", "term (months)"]
    bad = ["abc", "99.99.2020", "xx"]
    plan = load(
        header,
        ["H-999999", case.client.reference, *bad], ["", "C-999999", *bad], [case.reference, "", "1", "", ""],
        [case.reference, "", "1", *bad[1:]],
    )  # fmt: skip
    assert [(each.row, each.column) for each in plan.problems] == [
        (2, "reference"), *((2, name) for name in header[2:]), (3, "client"), *((3, name) for name in header[2:]),
        (5, "reference"), *((5, name) for name in header[3:]),
    ]  # fmt: skip


def test_every_bad_cell_of_an_unknown_client_is_told():
    plan = load(["reference", "full_name", "birth_date", "birth_number"], ["C-999999", "X", "1.1.1", "2"])
    assert [each.column for each in plan.problems] == ["reference", "birth_date", "birth_number"]


def test_a_bad_cell_hides_nothing_else_of_a_new_case():
    header = ["reference", "client", "opened_on", "status", "rejection_reason", "decided_on", "loan_amount_czk"]
    client = make_client("Alice")
    rows = [
        ["", client.reference, "1.2.2026", "declined", "", "3.2.2026", "abc"],
        ["", client.reference, "1.2.2026", "declined", "registr", "31.2.2026", ""],
        ["", client.reference, "1.2.2026", "maybe", "registr", "", ""],
    ]
    plan = load(header, *rows)
    assert [(each.row, each.column) for each in plan.problems] == [
        (2, "loan_amount_czk"), (2, "rejection_reason"), (3, "decided_on"), (4, "status"),
    ]  # fmt: skip


@pytest.mark.parametrize("stored", ["Brno", '="Pra"&"ha"'])
def test_a_formula_without_a_result_is_an_error_of_its_cell(stored):
    """Also where its text is what is stored; its row is given back without it, so that it is refused again."""
    client = make_client(city=stored)
    plan = check(xlsx(["Reference", "City"], [client.reference, '="Pra"&"ha"']), "xlsx")
    [problem] = plan.problems
    assert (problem.column, problem.value, problem.is_error) == ("City", '="Pra"&"ha"', True)
    assert "formula without a result" in problem.reason and not plan.items
    assert check(plan.errors_file()).errors == 1
