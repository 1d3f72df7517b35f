"""Odd records of the older CRM's dump: each is told by its row, and the rest goes in."""

import json

import pytest

from crm import catalogue
from crm.imports import older_crm
from crm.models import Case, Client, ImportRun, Note
from crm.tests.imports.test_older_crm import TODAY, case_of, client_record, dump, load

CREATED = "2026-01-01T08:00:00Z"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    catalogue.load()


def note(pk=1, client=1, **fields):
    return {
        "model": "klienti.poznamka",
        "pk": pk,
        "fields": {"klient": client, "text": "x", "created": CREATED} | fields,
    }


def log(pk=1, **fields):
    return {"model": "klienti.hypotekaworkflow", "pk": pk, "fields": {"klient": 1, "datum": CREATED} | fields}


@pytest.mark.parametrize("char", ["\x07", "\x0b", "\x0c", "\x1b", "\x01"])
def test_a_note_with_control_characters_keeps_its_text(char):
    plan = load(client_record(), note(text=f"zavolal{char}klient"))
    assert Note.objects.get().text == f"zavolal{char}klient"
    assert [problem.column for problem in plan.problems] == ["poznamka"]


@pytest.mark.parametrize(("char", "kept"), [("\0", " "), ("\ud800", "?")])
def test_what_no_column_holds_is_replaced(char, kept):
    load(client_record(), note(text=f"a\x07{char}b"))
    assert Note.objects.get().text == f"a\x07{kept}b"


def test_a_token_leaves_no_text_in_a_note():
    load(client_record(), note(text="gAAAAABx"), log(krok="gAAAAABx"), note(2, gAAAAABx="x", text=""))
    assert set(Note.objects.values_list("legacy_id", flat=True)) == {"poznamka-1", "poznamka-2", "hypotekaworkflow-1"}
    assert {each.text for each in Note.objects.all()} == {""}


def test_a_client_whose_case_was_deleted_stays_as_he_is_and_is_told():
    records = client_record(1), client_record(2), note()
    load(*records)
    Note.objects.all().delete()
    case_of(1).delete()
    plan = load(*records, client_record(3))
    assert plan.summary_line() == "3 rows: 1 created, 0 updated, 2 skipped, 0 errors"
    assert [(problem.row, problem.severity) for problem in plan.problems] == [(1, "warning"), (1, "warning")]
    assert (Client.objects.count(), Case.objects.count(), Note.objects.count()) == (3, 2, 0)


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00",
        "9999-12-31",
        "1899-12-31T00:00:00Z",
    ],
)
def test_an_absurd_moment_is_told_and_kept_as_text(moment):
    plan = load(client_record(), note(created=moment))
    assert Note.objects.get().text == f"x\ncreated: {moment}"
    assert [problem.column for problem in plan.problems] == ["poznamka"]


@pytest.mark.parametrize("moment", ["1900-01-01T00:00:00Z", "2100-12-31T23:59:59+01:00"])
def test_a_moment_at_the_limit_is_taken(moment):
    assert load(client_record(), note(created=moment)).problems == []


def test_a_step_number_of_thousands_of_digits_is_text():
    digits = "9" * 5000
    load(client_record(), log(1, krok=digits), log(2, krok=7))
    assert Note.objects.get(legacy_id="hypotekaworkflow-1").text == digits
    assert Note.objects.get(legacy_id="hypotekaworkflow-2").text == "7. Podání žádosti"


def test_a_number_of_thousands_of_digits_in_json_does_not_refuse_the_dump():
    content = dump([client_record(1, cena="HUGE"), client_record(2), log(1, krok="HUGE"), note(1, "HUGE")])
    plan = older_crm.check(content.replace(b'"HUGE"', b"9" * 5000), "dump.json", on=TODAY)
    older_crm.write(plan)
    assert plan.summary_line() == "3 rows: 2 created, 0 updated, 0 skipped, 1 errors"
    assert case_of(1).property_price_czk is None and "999" in case_of(1).client.note


def test_of_two_notes_with_one_id_the_second_is_refused():
    plan = load(client_record(), note(1), note(1, text="y"), note(2))
    assert [each.text for each in Note.objects.order_by("legacy_id")] == ["x", "x"]
    assert plan.summary_line() == "2 rows: 1 created, 0 updated, 0 skipped, 1 errors"


def test_of_two_clients_with_one_id_the_second_is_refused():
    plan = load(client_record(1), client_record(1, jmeno="Bob", jmeno_index=""), client_record(2))
    assert (plan.errors, case_of(1).client.full_name, Client.objects.count()) == (1, "Alice Nová", 2)


@pytest.mark.parametrize(("length", "created"), [(40, 2), (41, 1)])
def test_an_id_has_at_most_40_characters(length, created):
    plan = load(client_record("9" * length), client_record(2))
    assert (plan.errors, Client.objects.count()) == (2 - created, created)


@pytest.mark.parametrize(("length", "created"), [(51, 2), (52, 1)])
def test_an_id_of_a_note_fits_its_column(length, created):
    plan = load(client_record(1), note("9" * length), note(2))
    assert (plan.errors, Note.objects.count()) == (2 - created, created)


@pytest.mark.parametrize("column", ["a\ud800b", "a\0b", "gAAAAABx"])
def test_an_odd_column_name_is_told(column):
    plan = load(client_record(1, **{column: "modrá"}), client_record(2), note(**{column: "modrá"}))
    assert (plan.errors, Client.objects.count(), Note.objects.count()) == (0, 2, 1)
    assert json.loads(ImportRun.objects.get().problems)
    assert str(plan.problems[0]).encode()


@pytest.mark.parametrize("pk", ["a\ud800b", "a\0b", None, [1], {"a": 1}])
def test_an_odd_id_is_a_text(pk):
    load(client_record(pk), client_record(2), note(2, 2), note(pk, 2))
    assert (Client.objects.count(), Note.objects.count()) == (2, 2)


def test_an_odd_account_signs_as_text():
    account = {"model": "auth.user", "pk": 1, "fields": {"username": "a\ud800\0b"}}
    load(client_record(user=1), account, note(author=1))
    assert Note.objects.get().author_name == "a? b"
