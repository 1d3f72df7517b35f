"""A case that a client who is known has already: told and left to a person, however the file spells it."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from crm import imports
from crm.imports import own, runs
from crm.imports.decisions import CASE_ONLY, SKIP
from crm.imports.people import RowDigests
from crm.models import Case, Client
from crm.tests.factories import make_case, make_catalogue, make_client
from crm.tests.imports.test_own import TODAY, check, exported, load
from crm.tests.imports.workbooks import csv, xlsx

CASES = ["reference", "client", "opened on", "loan amount (CZK)", "kind of purpose", "lender"]
COMBINED = ["reference", "full_name", "phone", "case.reference", "case.opened_on", "case.loan_amount_czk"]
PEOPLE = ["jmeno", "datum", "navrh_financovani_castka", "vyber_banky"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    make_catalogue()


@pytest.fixture
def alice():
    return make_client("Alice Nová", phone="601")


def row(client, day="1.2.2026", amount="3000000", purpose="purchase", lender="", reference=""):
    return [reference, client.reference, day, amount, purpose, lender]


def proposed(plan):
    return [(each.row, each.value, each.code) for each in plan.problems if each.kind == "duplicate"]


def counts(plan):
    return plan.created, plan.updated, plan.skipped, plan.errors


@pytest.mark.parametrize("other", [{}, {"amount": "3 000 000 Kč", "day": "2026-02-01", "purpose": "Koupě"}])
def test_a_case_twice_in_a_file_is_proposed_and_written_unless_somebody_says_otherwise(alice, monkeypatch, other):
    monkeypatch.setattr(own, "BATCH", 1)
    plan = load(CASES, row(alice), row(alice, **other), row(make_client("Bob")))
    assert (counts(plan), proposed(plan)) == ((3, 0, 0, 0), [(3, alice.reference, "case 2")])
    [problem] = [each for each in plan.problems if each.row == 3]
    assert problem.reason == "Probably a case already known: row 2 says the same of this client."
    assert (problem.column, alice.cases.count()) == ("client", 2)


@pytest.mark.parametrize("amounts", [("1000000", "1 000 000"), ("1 000 000", "1000000")])
def test_nor_does_a_file_of_clients_with_cases_bring_one_twice_without_a_word(alice, amounts):
    rows = [[alice.reference, "Alice Nová", "601", "", "1.2.2026", amount] for amount in amounts]
    plan = check(csv(*rows, header=COMBINED))
    assert (counts(plan), proposed(plan)) == ((2, 0, 0, 0), [(3, alice.reference, "case 2")])


@pytest.mark.parametrize("choice", ["row by row", "all"])
def test_the_second_is_left_out_where_somebody_says_so_and_nothing_else_of_its_row(alice, manager, choice):
    bob = make_client("Bob")
    rows = [
        [alice.reference, "Alice Nová", "601", "", "1.2.2026", "1000000"],
        [alice.reference, "Alice Nová", "601", "", "1.2.2026", "1 000 000 Kč"],
        [bob.reference, "Bob", "602", "", "1.2.2026", "5"],
        [bob.reference, "Bob", "602", "", "1.2.2026", "5,00"],
    ]
    make_case(bob, opened_on=TODAY.replace(day=1, month=2), loan_amount_czk=5)
    run = imports.begin(csv(*rows, header=COMBINED), "x.csv", manager)
    assert (run.created_count, run.updated_count, run.duplicate_count) == (4, 1, 3)
    if choice == "row by row":
        runs.correct(run, manager, {}, dict.fromkeys((3, 4, 5), SKIP))
        assert (run.created_count, run.updated_count, run.duplicate_count) == (1, 1, 3)
    run = imports.confirm(run, manager, duplicates=choice != "all")
    bob.refresh_from_db()
    assert (run.created_count, run.updated_count, run.skipped_count) == (1, 1, 2)
    assert (alice.cases.count(), bob.cases.count(), bob.phone) == (1, 1, "602")


def test_a_case_that_another_file_brought_is_known_in_any_format_and_spelling(alice):
    bob = make_client("Bob")
    first = load(CASES, row(alice, amount="3 000 000 Kč"), row(bob, day="1. 2. 2026", amount="2.500.000,-"))
    assert (counts(first), proposed(first)) == ((2, 0, 0, 0), [])
    Case.objects.filter(client=bob).update(loan_amount_czk=1)  # the office went on with it
    cells = ["", alice.reference, TODAY.replace(day=1, month=2), 3000000, "Koupě", None]
    again = check(xlsx(CASES, cells, [*cells[:1], bob.reference, cells[2], 2500000.0, *cells[4:]]), "xlsx")
    assert (counts(again), again.problems) == ((0, 0, 2, 0), [])


def test_a_case_that_the_office_wrote_itself_is_proposed_by_its_reference(alice):
    case = make_case(
        alice, opened_on=TODAY.replace(day=1, month=2), loan_amount_czk=3000000, dti=8, purpose_kind="purchase"
    )
    make_case(make_client("Bob"), opened_on=case.opened_on, loan_amount_czk=3000000, purpose_kind="purchase")
    plan = check(csv(row(alice, amount="3 mil."), row(alice, day="", amount="3 mil."), header=CASES))
    known = [(2, alice.reference, f"case {case.reference}"), (3, alice.reference, f"case {case.reference}")]
    assert (counts(plan), proposed(plan)) == ((2, 0, 0, 0), known)


@pytest.mark.parametrize(
    "other", [{"amount": "3000001"}, {"day": "2.2.2026"}, {"purpose": ""}, {"lender": "Banka Na Rohu"}]
)
def test_two_cases_of_a_client_that_differ_are_two(alice, other):
    plan = load(CASES, row(alice), row(alice, **other))
    assert (proposed(plan), alice.cases.count()) == ([], 2)
    assert counts(check(csv(row(alice, **other), row(alice), header=CASES))) == (0, 0, 2, 0)


def test_a_case_with_an_id_of_its_own_is_a_case_of_its_own(alice):
    header = ["legacy_id", "client", "opened on"]
    rows = [["7", alice.reference, "1.2.2026"], ["8", alice.reference, "1.2.2026"]]
    assert (proposed(load(header, *rows)), alice.cases.count()) == ([], 2)
    for columns in (None, ["client", "opened_on", "reference"]):
        plan = check(exported(Case, "csv", columns=columns))
        assert (counts(plan), plan.problems) == ((0, 0, 2, 0), [])


def test_a_case_that_somebody_does_not_see_is_not_told_of(settings, adviser, manager, alice):
    settings.ADVISER_SCOPE = "own"
    make_case(alice, adviser=manager, opened_on=TODAY.replace(day=1, month=2))
    make_case(alice, adviser=adviser)
    header, cells = ["reference", "client", "opened on"], ["", alice.reference, "1.2.2026"]
    assert len(proposed(check(csv(cells, header=header), user=manager))) == 1
    assert proposed(check(csv(cells, header=header), user=adviser)) == []


@pytest.mark.parametrize("choice", ["", CASE_ONLY])
def test_whoever_is_said_to_be_known_may_have_the_case_already(alice, choice):
    case = make_case(alice, opened_on=TODAY.replace(day=1, month=2), loan_amount_czk=3000000)
    content = csv(["Alice Nová", "1.2.2026", "3 000 000 Kč", ""], ["Bob", "1.2.2026", "3", ""], header=PEOPLE)
    plan = imports.check(content, "x.csv", on=TODAY, decisions={2: f"{choice}{alice.reference}"})
    assert [each[2] for each in proposed(plan)] == [f"details {alice.reference}", f"case {case.reference}"]
    assert plan.created == 2


def test_a_list_of_people_is_known_in_any_format_and_spelling():
    first = load(PEOPLE, ["Alice  Nová", "1. 2. 2026", "3 000 000 Kč", "KB"], ["Bob", "2.2.2026", "", "KB"])
    assert counts(first) == (2, 0, 0, 0)
    day = TODAY.replace(day=1, month=2)
    again = check(xlsx(PEOPLE, ["Alice Nová", day, 3000000, "KB"], ["Bob", day.replace(day=2), 0, "KB"]), "xlsx")
    assert (counts(again), again.problems) == ((0, 0, 2, 0), [])


def test_in_one_list_of_people_the_other_spelling_is_left_out_and_told():
    plan = load(PEOPLE, ["Alice", "1.2.2026", "3000000", ""], ["Alice", "2026-02-01", "3 mil. Kč", ""])
    assert (counts(plan), [each.row for each in plan.problems]) == ((1, 0, 1, 0), [3])
    assert plan.problems[0].reason == "Every cell is equal to row 2, so it was left out."


def test_a_row_that_cannot_be_read_is_no_row_that_is_known(alice):
    load(PEOPLE, ["Bob", "1.2.2026", "", ""])
    load(CASES, row(alice, amount=""))
    assert check(csv(["Bob", "1.2.2026", "asi milion", ""], header=PEOPLE)).errors == 1
    assert check(csv(row(alice, amount="asi milion"), header=CASES)).errors == 1


def test_what_an_import_by_the_cells_digest_brought_is_known_still(alice):
    """As it was stored before digests were of values."""
    people = csv(["Bob", "1.2.2026", "3 000 000 Kč", "KB"], header=PEOPLE)
    cases = csv(row(alice), header=CASES)
    for content, client in ((people, None), (cases, alice)):
        plan = check(content)
        older = RowDigests(plan).older(next(iter(plan.sheet.rows)))
        imports.write(plan)
        Case.objects.filter(client=client or Client.objects.exclude(pk=alice.pk).get()).update(import_digest=older)
    assert [counts(check(content)) for content in (people, cases)] == [(0, 0, 1, 0)] * 2


def test_a_known_row_is_not_told_of_what_its_cells_say():
    header, cells = ["jmeno", "datum", "vyber_banky", "navrh_financovani_procento"], ["Bob", "1.2.2026", "?", "120 %"]
    assert len(load(header, cells).problems) == 2
    assert check(csv(cells, header=header)).problems == []


def test_queries_follow_the_batches_of_known_clients_not_the_rows():
    clients = [make_client(f"Client {number}") for number in range(30)]
    made = []
    for some in (clients[:3], clients):
        with CaptureQueriesContext(connection) as queries:
            check(csv(*(row(client) for client in some for _twice in range(2)), header=CASES))
        made.append(len(queries))
    assert made[0] == made[1]
