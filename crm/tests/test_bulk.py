import datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction

from crm.exceptions import CiphertextRefused
from crm.models import Case, Client, Lender, Note, Property, SearchToken, bulk
from crm.tests import factories, raw

pytestmark = pytest.mark.django_db
NAMES = ["case_id", "kind", "text", "author_id", "author_name", "created_at", "visible_to_client", "legacy_id"]
NOW = datetime.datetime(2026, 3, 2, 8, 30, tzinfo=datetime.UTC)


def note_row(case, text: str, **changes) -> tuple:
    values = dict.fromkeys(NAMES) | {"case_id": case.pk, "kind": "note", "text": text, "author_name": ""}
    values |= {"created_at": NOW, "visible_to_client": True} | changes
    convert = bulk.stored(Note, NAMES)
    return tuple(convert(name, values[name]) for name in NAMES)


def test_rows_come_back_as_they_were_given():
    case = factories.make_case()
    text = "Tab\there, line\nbreak, backslash \\N and „uvozovky“ 🏡"
    bulk.insert_rows(Note, NAMES, [note_row(case, text, legacy_id="x\\.")])
    note = Note.objects.get()
    assert (note.text, note.created_at, note.visible_to_client, note.legacy_id) == (text, NOW, True, "x\\.")


def test_encrypted_values_are_stored_as_tokens():
    bulk.insert_rows(Note, NAMES, [note_row(factories.make_case(), "tajné")])
    with connection.cursor() as cursor:
        cursor.execute("SELECT text FROM crm_note")
        assert cursor.fetchone()[0].startswith("gAAAAA")


def test_what_looks_encrypted_already_is_refused():
    with pytest.raises(CiphertextRefused):
        note_row(factories.make_case(), "gAAAAABk0000not-a-real-token")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_every_row_arrives_whatever_the_chunks(monkeypatch, count):
    monkeypatch.setattr(bulk, "CHUNK", 2)
    case = factories.make_case()
    bulk.insert_rows(Note, NAMES, (note_row(case, str(number)) for number in range(count)))
    assert sorted(note.text for note in Note.objects.all()) == [str(number) for number in range(count)]


def test_rows_may_come_from_a_query():
    alice = factories.make_client("Alice")
    rows = ((client.pk, "n", b"0123456789abcdef") for client in Client.objects.all())
    bulk.insert_rows(SearchToken, ["client_id", "kind", "digest"], rows)
    assert alice.search_tokens.filter(digest=b"0123456789abcdef").exists()


def test_reserved_keys_are_free_and_are_not_given_out_again():
    first = factories.make_lender("První")
    with transaction.atomic():
        keys = list(bulk.reserve_keys(Lender, 3))
        names = ["id", "name", "aliases", "business_id", "bank_code", "contact", "is_active"]
        convert = bulk.stored(Lender, names)
        bulk.insert_rows(
            Lender,
            names,
            [
                tuple(convert(*pair) for pair in zip(names, (key, f"B{key}", ["x"], "", "", "", True), strict=True))
                for key in keys
            ],
        )
    assert first.pk not in keys
    assert factories.make_lender("Další").pk not in keys
    assert Lender.objects.get(pk=keys[0]).aliases == ["x"]


def test_amounts_and_dates_come_back_as_they_were_given():
    case = factories.make_case()
    names = ["case_id", "kind", "address", "cadastral_reference", "valuation_czk", "valued_on", "valid_until"]
    values = (case.pk, "flat", "", "", Decimal("2000100.10"), factories.TODAY, None)
    convert = bulk.stored(Property, names)
    bulk.insert_rows(Property, names, [tuple(convert(*pair) for pair in zip(names, values, strict=True))])
    assert Property.objects.values_list(*names[4:]).get() == values[4:]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's write lock leaves no gaps")
def test_keys_that_somebody_took_in_between_are_not_among_the_reserved_ones():
    with transaction.atomic():
        taken = factories.make_lender("První").pk
        with connection.cursor() as cursor:
            cursor.execute("ALTER SEQUENCE crm_lender_id_seq INCREMENT BY 2")
        assert list(bulk.reserve_keys(Lender, 3)) == [taken + 2, taken + 4, taken + 6]
        transaction.set_rollback(True)


def test_reserving_no_keys_takes_none():
    first = factories.make_lender("První")
    with transaction.atomic():
        assert not bulk.reserve_keys(Lender, 0)
    assert factories.make_lender("Další").pk == first.pk + 1


def test_columns_are_stored_as_rows_would_be():
    case = factories.make_case()
    columns = {
        "case_id": [case.pk] * 2,
        "kind": ["flat", "house"],
        "address": ["Dlouhá 1", ""],
        "cadastral_reference": ["", "č. 2"],
        "valuation_czk": [Decimal("2000100.10"), None],
        "valued_on": [None, factories.TODAY],
        "valid_until": [None, None],
    }
    bulk.insert_columns(Property, columns)
    stored = Property.objects.order_by("pk").values(*columns)
    assert {name: [row[name] for row in stored] for name in columns} == columns
    with connection.cursor() as cursor:
        cursor.execute("SELECT address FROM crm_property ORDER BY id")
        assert [text[:6] for (text,) in cursor.fetchall()] == ["gAAAAA", ""]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        bulk.insert_columns(Lender, {"name": ["A", "B"], "business_id": [""]})


def test_each_row_gets_its_own_columns_and_keeps_the_others_token_for_token():
    alice = factories.make_client("Alice", phone="777", citizenship="CZ", birth_date=factories.TODAY)
    bob = factories.make_client("Bob", phone="602", citizenship="SK")
    charlie = factories.make_client("Charlie", phone="603")
    before = {client: raw.stored(client, "phone") for client in (bob, charlie)}
    changes = {
        alice.pk: {"phone": "778", "citizenship": "", "birth_date": None},
        bob.pk: {"retention_until": factories.TODAY},
        charlie.pk: {},
    }
    with transaction.atomic():
        bulk.update_rows(Client, changes)
        bulk.update_rows(Client, {bob.pk: {"note": "tajné"}})
    names = ("full_name", "phone", "citizenship", "birth_date", "retention_until", "note")
    assert list(Client.objects.order_by("pk").values_list(*names)) == [
        ("Alice", "778", "", None, None, ""),
        ("Bob", "602", "SK", None, factories.TODAY, "tajné"),
        ("Charlie", "603", "", None, None, ""),
    ]
    assert raw.stored(alice, "phone").startswith("gAAAAA") and raw.stored(bob, "note").startswith("gAAAAA")
    assert before == {client: raw.stored(client, "phone") for client in (bob, charlie)}


def test_amounts_and_moments_are_updated_as_they_were_given():
    case = factories.make_case()
    changes = {"loan_amount_czk": Decimal("1234.50"), "interest_rate_percent": Decimal("4.125"), "updated_at": NOW}
    with transaction.atomic():
        bulk.update_rows(Case, {case.pk: changes})
        bulk.update_rows(Case, {})
    case.refresh_from_db()
    assert {name: getattr(case, name) for name in changes} == changes
