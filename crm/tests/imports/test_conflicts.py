"""A file of an export comes back after the office went on: what only one of them changed is taken, what both did is told."""

import datetime

import pytest

from crm import imports
from crm.models import Case, Client
from crm.tests.factories import make_case, make_catalogue, make_client, make_lender
from crm.tests.imports.workbooks import csv

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
    assert "alice@example.com" in plan.problems[0].reason and "office@example.com" in plan.problems[0].reason
    assert not plan.problems[0].is_error


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
    assert "“Banka U Mostu”" in plan.problems[0].reason and "“Banka Pod Lípou”" in plan.problems[0].reason
