"""Codes that a spreadsheet took for numbers: it cuts them to 15 digits, writes them with an exponent, and drops zeros."""

import datetime

import pytest

from crm import imports
from crm.models import Client
from crm.tests.factories import make_case, make_client
from crm.tests.imports.workbooks import csv, xlsx

CUT = (
    "A spreadsheet took this code for a number and cut it. Make the column a text (Format cells, Text) and type the code "
    "again."
)
KEPT = "Only zeros at the beginning are missing, which a spreadsheet drops: the stored value stays."
CODES = ["phone", "birth_number", "postal_code", "id_document_number", "bank_account", "business_id"]
ALL = [("client", name) for name in CODES] + [("case", "contract_number")]

pytestmark = pytest.mark.django_db


def load(header, *rows, content=None):
    content = content or csv(*rows, header=header)
    plan = imports.check(content, "x.xlsx" if content[:2] == b"PK" else "x.csv", on=datetime.date(2026, 3, 2))
    imports.write(plan)
    return plan


def said(plan):
    return [(each.column, each.reason) for each in plan.problems]


def stored(owner, **fields):
    client = make_client("Alice", **(fields if owner == "client" else {}))
    return client if owner == "client" else make_case(client, **fields)


@pytest.mark.parametrize(("owner", "name"), ALL)
@pytest.mark.parametrize("cell", ["1,23457E+15", "4,20777E+11", "1.23e+14", "1E+20"])
def test_a_code_with_an_exponent_is_refused(owner, name, cell):
    record = stored(owner)
    plan = load(["reference", name], [record.reference, cell])
    record.refresh_from_db()
    assert said(plan) == [(name, CUT)]
    assert (getattr(record, name), plan.errors) == ("", 1)


@pytest.mark.parametrize("written", ["750815 / 5006", "750815\xa0/\u202f5006", "750815/ 5006", "750815\u200b /5006"])
def test_a_birth_number_may_have_blanks_round_its_slash(written):
    record = stored("client", birth_number="750815/5006")
    plan = load(["reference", "birth_number"], [record.reference, written])
    assert (said(plan), plan.skipped) == ([], 1)
    load(["jmeno", "Rodné číslo"], ["Bob", written])
    assert Client.objects.latest("pk").birth_number == "750815/5006"


def test_so_is_one_of_somebody_new():
    plan = load(["jmeno", "telefon", "Číslo smlouvy", "datum"], ["Alice", "4,20777E+11", "1,23457E+15", "1.2.2026"])
    assert (said(plan), Client.objects.count()) == ([("telefon", CUT), ("Číslo smlouvy", CUT)], 0)


def test_and_an_id_in_the_older_crm():
    plan = load(["reference", "legacy_id", "full_name"], ["", "1,23457E+14", "Alice"])
    assert (said(plan), Client.objects.count()) == ([("legacy_id", CUT)], 0)


def test_a_number_of_more_digits_than_a_workbook_keeps_is_refused():
    case = make_case()
    content = xlsx(["reference", "contract_number"], [case.reference, 1234567890123456])
    assert said(load([], content=content)) == [("contract_number", CUT)]


@pytest.mark.parametrize("cell", ["12E3", "1E14", "E+12", "1234567890123456", "12-E+14"])
def test_what_no_spreadsheet_would_write_is_a_code_like_any_other(cell):
    case = make_case()
    plan = load(["reference", "contract_number"], [case.reference, cell])
    case.refresh_from_db()
    assert (case.contract_number, said(plan)) == (cell, [])


def test_a_text_that_is_no_code_may_say_anything():
    alice = make_client("Alice")
    load(["reference", "note"], [alice.reference, "1,23E+15"])
    alice.refresh_from_db()
    assert alice.note == "1,23E+15"


@pytest.mark.parametrize(
    ("owner", "name", "before", "cell"),
    [
        ("client", "postal_code", "00123", "123"),
        ("client", "phone", "00420777123", "420777123"),
        ("client", "id_document_number", "0012345", "12345"),
        ("case", "contract_number", "0001", "01"),
    ],
)
def test_a_code_that_lost_its_zeros_leaves_the_stored_one(owner, name, before, cell):
    record = stored(owner, **{name: before})
    plan = load(["reference", name], [record.reference, cell])
    record.refresh_from_db()
    assert (getattr(record, name), said(plan)) == (before, [(name, KEPT)])
    assert (plan.skipped, plan.errors) == (1, 0)


def test_so_does_the_number_of_a_workbook():
    alice = make_client("Alice", postal_code="00123")
    plan = load([], content=xlsx(["reference", "postal_code", "city"], [alice.reference, 123, "Praha"]))
    alice.refresh_from_db()
    assert (alice.postal_code, alice.city, (("postal_code", KEPT) in said(plan))) == ("00123", "Praha", True)


@pytest.mark.parametrize(("before", "cell"), [("123", "00123"), ("00123", "1230"), ("00123", "124"), ("A0123", "123")])
def test_another_code_is_written(before, cell):
    alice = make_client("Alice", postal_code=before)
    assert said(load(["reference", "postal_code"], [alice.reference, cell])) == []
    alice.refresh_from_db()
    assert alice.postal_code == cell
