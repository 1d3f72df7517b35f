"""A file of an export comes back after the office went on: what only one of them changed is taken, what both did is told."""

import datetime
from io import StringIO

import pytest
from django.core.management import call_command

from crm import imports
from crm.imports import conflicts
from crm.imports.conflicts import EVERY
from crm.models import Case, Client, ExportRun, ImportRun
from crm.tests.factories import make_case, make_catalogue, make_client, make_lender
from crm.tests.imports.workbooks import csv
from crm.values import moment

TODAY = datetime.date(2026, 3, 2)
HEADER = ["Reference", "Full name", "E-mail", "City", "Row version"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def alice():
    return make_client("Alice", email="alice@example.com", city="Brno")


def version(record) -> str:
    return str(record.history.first().history_id)


def load(header, *rows, **options):
    plan = imports.check(csv(*rows, header=header), "x.csv", on=TODAY, **options)
    imports.write(plan)
    return plan


def change(record, **fields):
    for name, value in fields.items():
        setattr(record, name, value)
    record.save()


def said(plan):
    return [(each.row, each.column, each.value) for each in plan.problems]


def values(plan):
    """What each conflict said when the file was made, what the office wrote since, what the file says."""
    return [tuple(map(str, (each.was, each.now, each.value))) for each in plan.conflicts]


def marks(plan, *rows):
    return {each.mark for each in plan.conflicts if not rows or each.row in rows}


def test_what_only_the_file_changed_is_written_and_what_only_the_office_changed_stays(alice):
    row = [alice.reference, "Alice", "alice@example.com", "Praha", version(alice)]
    change(alice, email="office@example.com")
    plan = load(HEADER, row)
    alice.refresh_from_db()
    assert (alice.email, alice.city, plan.updated, plan.problems) == ("office@example.com", "Praha", 1, [])


def test_what_both_changed_is_told_with_all_three_values_and_not_written(alice):
    row = [alice.reference, "Alice", "file@example.com", "Praha", version(alice)]
    change(alice, email="office@example.com")
    plan = load(HEADER, row)
    alice.refresh_from_db()
    assert (alice.email, alice.city, plan.updated) == ("office@example.com", "Praha", 1)
    assert said(plan) == [(2, "E-mail", "file@example.com")]
    assert values(plan) == [("alice@example.com", "office@example.com", "file@example.com")]
    assert not plan.problems[0].is_error


@pytest.mark.parametrize("text", ["E1-abc", "1.2", "E-5", "v3"])
def test_a_version_that_is_none_is_refused_and_nothing_of_its_row_is_written(alice, text):
    change(alice, email="office@example.com")
    plan = load(HEADER, [alice.reference, "Alice", "file@example.com", "Praha", text])
    alice.refresh_from_db()
    assert (alice.email, alice.city, plan.errors) == ("office@example.com", "Brno", 1)
    assert ("Row version", text) in [(each.column, each.value) for each in plan.problems]


def test_a_row_of_the_newest_version_and_one_without_a_version_change_what_they_say(alice):
    bob = make_client("Bob", email="bob@example.com")
    old = version(bob)
    change(bob, email="office@example.com")
    rows = [
        [alice.reference, "Alice", "new@example.com", "", version(alice)],
        [bob.reference, "Bob", "file@example.com", "", ""],
    ]
    plan = load(HEADER, *rows)
    assert [Client.objects.get(pk=each.pk).email for each in (alice, bob)] == ["new@example.com", "file@example.com"]
    assert (plan.updated, plan.problems, old.isdecimal()) == (2, [], True)


def exported(by=None) -> ExportRun:
    return ExportRun.objects.create(
        user=by, user_name=by.get_display_name() if by else "", model="client", format="csv"
    )


def test_a_version_names_the_export_that_its_row_came_from_and_still_finds_what_the_office_wrote(alice, manager):
    runs = [exported(manager), exported()]
    bob = make_client("Bob")
    rows = [
        [each.reference, each.full_name, "file@example.com", "", f"E{run.pk}-{version(each)}"]
        for each, run in zip((alice, bob), runs, strict=True)
    ]
    change(alice, email="office@example.com")
    plan = imports.check(csv(*rows, header=HEADER), "x.csv", manager)
    assert values(plan) == [("alice@example.com", "office@example.com", "file@example.com")]
    assert (plan.updated, plan.sheet.notices) == (1, [
        f"The rows were exported by {who} on {moment(run.created_at)} (export {run.pk})."
        for run, who in zip(runs, (manager.get_display_name(), "the system"), strict=True)
    ])  # fmt: skip


def test_whose_export_it_was_is_told_to_whoever_sees_its_record(alice, adviser, manager):
    other, own, unknown = exported(manager).pk, exported(adviser).pk, 10**17
    bob, eva = make_client("Bob"), make_client("Eva")
    rows = [
        [each.reference, each.full_name, "", "", f"E{number}-{version(each)}"]
        for each, number in zip((alice, bob, eva), (other, own, unknown), strict=True)
    ]
    for user, seen in ((adviser, [own]), (manager, [other, own]), (None, [other, own])):
        plan = imports.check(csv(*rows, header=HEADER), "x.csv", user)
        assert [notice.partition("export ")[2] for notice in plan.sheet.notices] == [f"{number})." for number in seen]


def test_of_many_exports_the_newest_are_told(alice, monkeypatch):
    monkeypatch.setattr(conflicts, "MOST_EXPORTS", 1)
    bob, runs = make_client("Bob"), [exported(), exported()]
    rows = [
        [each.reference, each.full_name, "", "", f"E{run.pk}-{version(each)}"]
        for each, run in zip((alice, bob), runs, strict=True)
    ]
    [notice] = imports.check(csv(*rows, header=HEADER), "x.csv").sheet.notices
    assert f"(export {runs[1].pk})" in notice


@pytest.mark.parametrize("wrong", ["0", "999999999", "another's"])
def test_a_version_that_is_not_one_of_the_record_writes_nothing_over_the_office(alice, wrong):
    written = version(make_client("Bob")) if wrong == "another's" else wrong
    plan = load(HEADER, [alice.reference, "Alice", "file@example.com", "Brno", written])
    alice.refresh_from_db()
    assert (alice.email, said(plan)) == ("alice@example.com", [(2, "E-mail", "file@example.com")])


def test_an_empty_cell_deletes_nothing_that_the_office_wrote_since(alice):
    row = [alice.reference, "Alice", "", "", version(alice)]
    change(alice, note="", phone="777111222", city="Praha")
    plan = load([*HEADER, "Phone"], [*row, ""], empty_deletes=True)
    alice.refresh_from_db()
    assert (alice.email, alice.city, alice.phone) == ("", "Praha", "777111222")
    assert said(plan) == [(2, "City", "")]


def test_relations_and_amounts_of_cases_conflict_too(alice, adviser, manager):
    make_catalogue()
    first, other = make_lender("Banka U Mostu"), make_lender("Banka Pod Lípou")
    case = make_case(alice, adviser=adviser, lender=first, loan_amount_czk=1_000_000)
    row = [case.reference, alice.reference, "Banka Na Rohu", "1 000 000", version(case)]
    make_lender("Banka Na Rohu")
    change(case, lender=other, loan_amount_czk=2_000_000)
    plan = load(["Reference", "Client", "Lender", "Loan amount (CZK)", "Row version"], row)
    case = Case.objects.get()
    assert (case.lender, case.loan_amount_czk, plan.skipped) == (other, 2_000_000, 1)
    assert said(plan) == [(2, "Lender", "Banka Na Rohu")]
    assert values(plan) == [("Banka U Mostu", "Banka Pod Lípou", "Banka Na Rohu")]


# --- Merged by choice ---


def test_the_files_value_is_taken_where_it_was_chosen_and_nowhere_else(alice):
    bob = make_client("Bob", email="bob@example.com")
    rows = [[each.reference, each.full_name, "file@example.com", "", version(each)] for each in (alice, bob)]
    for each in (alice, bob):
        change(each, email="office@example.com")
    first = imports.check(csv(*rows, header=HEADER), "x.csv", on=TODAY)
    plan = load(HEADER, *rows, taken=marks(first, 3))
    assert [Client.objects.get(pk=each.pk).email for each in (alice, bob)] == ["office@example.com", "file@example.com"]
    assert [(each.row, each.is_taken) for each in plan.conflicts] == [(2, False), (3, True)]
    assert (plan.updated, plan.skipped, plan.errors) == (1, 1, 0)
    assert plan.items[0].before == {"email": "office@example.com"}
    assert [" stays" in each.reason for each in plan.problems] == [True, False]


@pytest.mark.parametrize(
    ("office", "file", "stored"),
    [
        ("third@example.com", "file@example.com", "third@example.com"),
        ("office@example.com", "other@example.com", "office@example.com"),
        ("office@example.com", "file@example.com", "file@example.com"),
    ],
)
def test_a_choice_holds_no_longer_than_both_values(alice, office, file, stored):
    def row(email):
        return [alice.reference, "Alice", email, "", made]

    made = version(alice)
    change(alice, email="office@example.com")
    chosen = marks(imports.check(csv(row("file@example.com"), header=HEADER), "x.csv", on=TODAY))
    change(alice, email=office)
    load(HEADER, row(file), taken=chosen)
    alice.refresh_from_db()
    assert alice.email == stored


def test_a_choice_is_of_one_cell_of_one_record(alice):
    bob = make_client("Bob", email="alice@example.com", city="Brno")
    rows = [[each.reference, each.full_name, "file@example.com", "File", version(each)] for each in (alice, bob)]
    for each in (alice, bob):
        change(each, email="office@example.com", city="File2")
    assert len(marks(imports.check(csv(*rows, header=HEADER), "x.csv", on=TODAY))) == 4


def test_the_file_wins_over_a_version_that_nobody_knows_only_by_choice(alice):
    row = [alice.reference, "Alice", "file@example.com", "Brno", "999999999"]
    plan = imports.check(csv(row, header=HEADER), "x.csv", on=TODAY)
    assert [(each.was, each.is_known) for each in plan.conflicts] == [(None, False)]
    load(HEADER, row, taken=marks(plan))
    alice.refresh_from_db()
    assert (alice.email, alice.city) == ("file@example.com", "Brno")


def test_an_empty_cell_deletes_by_choice_what_the_office_wrote_since(alice):
    row = [alice.reference, "Alice", "", "", version(alice)]
    change(alice, email="office@example.com", city="Praha")
    plan = imports.check(csv(row, header=HEADER), "x.csv", on=TODAY, empty_deletes=True)
    assert values(plan) == [("alice@example.com", "office@example.com", "None"), ("Brno", "Praha", "None")]
    load(HEADER, row, empty_deletes=True, taken={plan.conflicts[1].mark})
    alice.refresh_from_db()
    assert (alice.email, alice.city) == ("office@example.com", "")


def test_relations_and_dates_of_cases_are_taken_too(alice, adviser, manager):
    make_catalogue()
    first, other, third = (make_lender(name) for name in ("Banka U Mostu", "Banka Pod Lípou", "Banka Na Rohu"))
    case = make_case(alice, adviser=adviser, lender=first, contract_number="S-1", fixation_until=TODAY)
    row = [case.reference, alice.reference, "Banka Na Rohu", manager.username, "S-3", "1.1.2031", version(case)]
    change(case, lender=other, adviser=None, contract_number="S-2", fixation_until=datetime.date(2030, 1, 1))
    header = ["Reference", "Client", "Lender", "Adviser", "Contract number", "Fixation until", "Row version"]
    plan = imports.check(csv(row, header=header), "x.csv", on=TODAY)
    assert values(plan)[:2] == [
        ("Banka U Mostu", "Banka Pod Lípou", "Banka Na Rohu"),
        (str(adviser), "None", str(manager)),
    ]
    load(header, row, taken=EVERY)
    case = Case.objects.get()
    assert (case.lender, case.adviser, case.contract_number) == (third, manager, "S-3")
    assert case.fixation_until == datetime.date(2031, 1, 1)


def test_a_relation_that_is_gone_is_told_by_its_number(alice):
    make_catalogue()
    gone = make_lender("Banka U Mostu")
    case = make_case(alice, lender=gone)
    row = [case.reference, alice.reference, make_lender("Banka Na Rohu").name, version(case)]
    change(case, lender=make_lender("Banka Pod Lípou"))
    number = gone.pk
    gone.delete()
    plan = imports.check(csv(row, header=["Reference", "Client", "Lender", "Row version"]), "x.csv", on=TODAY)
    assert plan.conflicts[0].was == f"#{number}"


def test_client_and_case_of_a_combined_row_conflict_each_on_its_own(alice):
    make_catalogue()
    case = make_case(alice, loan_amount_czk=1_000_000)
    header = [
        "Reference",
        "Full name",
        "E-mail",
        "Row version",
        "Reference (case)",
        "Loan amount (CZK)",
        "Row version (case)",
    ]
    row = [alice.reference, "Alice", "file@example.com", version(alice), case.reference, "3 000 000", version(case)]
    change(alice, email="office@example.com")
    change(case, loan_amount_czk=2_000_000)
    plan = imports.check(csv(row, header=header), "x.csv", on=TODAY)
    assert [(each.column.owner, each.column.name) for each in plan.conflicts] == [
        ("client", "email"), ("case", "loan_amount_czk"),
    ]  # fmt: skip
    load(header, row, taken={plan.conflicts[1].mark})
    alice.refresh_from_db()
    case.refresh_from_db()
    assert (alice.email, case.loan_amount_czk) == ("office@example.com", 3_000_000)


def test_what_an_import_may_not_write_is_no_choice(alice):
    make_catalogue()
    case = make_case(alice)
    row = [case.reference, alice.reference, "Declined", "999999999"]
    plan = load(["Reference", "Client", "Status", "Row version"], row, taken=EVERY)
    assert [(each.is_taken, bool(each.refusal)) for each in plan.conflicts] == [(False, True)]
    assert (plan.errors, plan.skipped, Case.objects.get().status) == (0, 1, "open")


def test_no_problem_quotes_what_is_stored(alice):
    row = [alice.reference, "Alice", "file@example.com", "File", version(alice)]
    change(alice, email="office@example.com", city="Praha")
    content = csv(row, [alice.reference, "Alice", "x@example.com", "", "1"], header=HEADER)
    plan = imports.check(content, "x.csv", on=TODAY, taken=EVERY)
    imports.write(plan)
    for told in (str([str(each) for each in plan.problems]), ImportRun.objects.get().problems):
        assert not [value for value in ("alice@example.com", "office@example.com", "Brno", "Praha") if value in told]


@pytest.mark.parametrize(
    ("args", "stored"), [([], "office@example.com"), (["--conflicts", "file"], "file@example.com")]
)
def test_the_command_keeps_the_offices_value_unless_told_otherwise(alice, tmp_path, args, stored):
    path = tmp_path / "x.csv"
    path.write_bytes(csv([alice.reference, "Alice", "file@example.com", "", version(alice)], header=HEADER))
    change(alice, email="office@example.com")
    said = StringIO()
    call_command("import_clients", path, *args, stdout=said)
    alice.refresh_from_db()
    assert (alice.email, "office@example.com" in said.getvalue()) == (stored, False)
