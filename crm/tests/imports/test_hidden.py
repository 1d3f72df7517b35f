"""Characters that nobody sees: a text of nothing else is empty, and a token behind one is a token."""

import pytest

from crm import imports
from crm.imports import older_crm
from crm.imports.reading import bare, is_empty
from crm.models import Client
from crm.tests.factories import make_catalogue
from crm.tests.imports.test_older_crm import case_of, client_record, dump
from crm.tests.imports.workbooks import csv

HIDDEN = ["\u200b", "\ufeff\u200b", "\u2060", "\u200e ", " \u200b \u00ad"]
TOKEN = "gAAAAABk0000aaaa"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    make_catalogue()


def load(header, *rows):
    plan = imports.check(csv(*rows, header=header), "x.csv")
    imports.write(plan)
    return [(problem.row, problem.column) for problem in plan.problems if problem.is_error]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_characters_alone_are_an_empty_cell(hidden):
    assert is_empty(hidden) and is_empty(hidden * 3)
    assert not is_empty(hidden + "a")


def test_hidden_characters_inside_a_text_stay():
    assert bare("\u200bJan\u200dNovák\u200e") == "Jan\u200dNovák"


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("column", ["jmeno", "vyber_banky", "co_financuje", "navrh_financovani", "note"])
def test_a_hidden_token_is_an_error_of_its_cell(hidden, column):
    header = ["jmeno", "datum", "vyber_banky", "co_financuje", "navrh_financovani", "note"]
    cells = ["Alice" if name == "jmeno" else "1.2.2025" if name == "datum" else "" for name in header]
    cells[header.index(column)] = hidden + TOKEN
    assert load(header, cells, ["Bob", "1.2.2025", "", "", "", ""]) == [(2, column)]
    assert Client.objects.count() == 1


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_hidden_token_in_our_own_layout_is_an_error_of_its_cell(hidden):
    assert load(["reference", "full_name", "note"], ["", hidden + TOKEN, "x"], ["", "Bob", hidden + TOKEN]) == [
        (2, "full_name"),
        (3, "note"),
    ]


@pytest.mark.parametrize("header", [["jmeno", "datum"], ["legacy_id", "full_name"]])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_name_that_nobody_sees_is_missing(header, hidden):
    cells = ["1.2.2025", "7"][header[0] == "legacy_id"]
    row = [hidden, cells] if header[0] == "jmeno" else [cells, hidden]
    assert load(header, row) == [(2, header[1] if header[0] == "legacy_id" else "jmeno")]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_dump_has_the_same_eyes(hidden):
    plan = older_crm.check(
        dump(
            [
                client_record(1, jmeno=hidden, jmeno_index=""),
                client_record(2, jmeno=hidden + TOKEN, jmeno_index="Bob"),
                client_record(3, vyber_banky=hidden + TOKEN, odhad=hidden + TOKEN, barva=hidden + TOKEN),
            ]
        ),
        "dump.json",
    )
    older_crm.write(plan)
    assert plan.summary_line() == "3 rows: 2 created, 0 updated, 0 skipped, 1 errors"
    assert case_of(2).client.full_name == "Bob" and TOKEN not in case_of(3).client.note
