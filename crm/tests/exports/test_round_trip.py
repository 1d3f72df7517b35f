"""What was exported can be imported again: nothing changes, nothing is refused, nothing is even remarked on."""

import datetime
from decimal import Decimal

import pytest
from django.utils import translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm import imports, roles, workflow
from crm.choices import PurposeKind
from crm.encryption import UNREADABLE_MARK
from crm.models import Case, Client
from crm.spreadsheet import LEFT_OUT, TOO_LONG_MARK
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, export
from crm.tests.raw import stored, tamper

NAMES = (
    "Ing. Jiří Šťastný, Ph.D.", "NOVÁK Jan", "Mgr. et Mgr. Žofie Ďáblová-Ťápalová", "Jan 🏠👨‍👩‍👧 Novák", "O'Brien",
    "Nguyễn Thị Ánh", "Владимир", "<script>alert(1)</script>", "_x0041_ _x000D_", "a;b,c|d", 'řekl "ano"', "x" * 200,
)  # fmt: skip
FORMATS = ["xlsx", "csv"]
LANGUAGES = ["en", "cs"]


def imported_again(model, file_format, language="en", user=None) -> imports.Plan:
    with translation.override(language):
        content = export(model.objects.all(), file_format, user)
        return imports.check(content, f"export.{file_format}", user)


def assert_unchanged(plan: imports.Plan, rows: int) -> None:
    assert [str(problem) for problem in plan.problems] == []
    assert (plan.rows, plan.created, plan.updated, plan.skipped, plan.errors) == (rows, 0, 0, rows, 0)


@pytest.fixture
def office(db):
    manager = factories.make_user(roles.MANAGER, first_name="Eva", last_name="Malá")
    for name in NAMES:
        factories.make_client(
            name,
            email="jana@example.com",
            phone="00420 777 123 456",
            birth_number="780123/3540",
            birth_date=datetime.date(1978, 1, 23),
            postal_code="01001",
            mailing_address="Dlouhá 1\r\n010 01 Žilina",
            bank_account="19-2000145399/0800",
            business_id="27074358",
            citizenship="CZ",
            id_document_valid_until=datetime.date(2031, 12, 31),
            note="Tučně\r\n\r\n  odsazeno  dvojitě\tsloupec ",
            legacy_id=f"{len(name)}-{name[:3]}",
        )
    case = factories.make_case(
        Client.objects.first(),
        adviser=manager,
        stand_in=factories.make_user(),
        purpose_kind=PurposeKind.PURCHASE,
        loan_purpose="Byt 3+kk\n+ garáž",
        property_price_czk=Decimal("12345678.90"),
        loan_amount_czk=Decimal("0.01"),
        own_funds_czk=Decimal("0.00"),
        ltv_percent=Decimal("0.80"),
        lender=factories.make_lender("Banka Pod Lipou"),
        interest_rate_percent=Decimal("0.200"),
        term_months=360,
        fixation_years=5,
        fixation_until=datetime.date(2031, 2, 28),
        monthly_payment_czk=Decimal("999999999999.99"),
        contract_number="0012/2026",
        dti=Decimal("8.25"),
        dsti_percent=Decimal("2.00"),
    )
    workflow.reject(case, by=manager, on=factories.TODAY, reason="=Důvod")
    factories.make_case(Client.objects.last(), ltv_percent=Decimal("100.00"), interest_rate_percent=Decimal("3.125"))
    return manager


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_clients_come_back_unchanged(office, file_format, language):
    assert_unchanged(imported_again(Client, file_format, language, office), len(NAMES))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_cases_come_back_unchanged(office, file_format, language):
    assert_unchanged(imported_again(Case, file_format, language, office), 2)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("first_name", ["Jan  Maria", "Jan\u200b", "Jan\tMaria", "Jan \u00a0Maria"])
def test_an_adviser_is_found_again_however_his_name_is_spaced(db, first_name, file_format):
    factories.make_case(adviser=factories.make_user(first_name=first_name, last_name="Novák"))
    assert_unchanged(imported_again(Case, file_format), 1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_advisers_whose_names_differ_by_a_space_are_told_apart(db, file_format):
    for first_name in ("Jan Maria", "Jan  Maria"):
        factories.make_case(adviser=factories.make_user(first_name=first_name, last_name="Novák"))
    assert_unchanged(imported_again(Case, file_format), 2)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_of_one_language_is_known_in_the_other(office, file_format):
    with translation.override("cs"):
        content = export(Client.objects.all(), file_format)
    with translation.override("en"):
        assert_unchanged(imports.check(content, "x", office), len(NAMES))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("model", [Client, Case])
def test_writing_the_file_again_writes_nothing(office, model, file_format):
    before = list(model.objects.order_by("pk").values_list("pk", "updated_at")), model.history.count()
    imports.write(imported_again(model, file_format, user=office), office)
    assert (list(model.objects.order_by("pk").values_list("pk", "updated_at")), model.history.count()) == before


def test_a_formula_in_a_changed_cell_is_stored_as_it_was_before_the_export(db, without_versions):
    client = factories.make_client(note="before")
    other = factories.make_client(note="=1+1")
    content = export(Client.objects.filter(pk=other.pk), "csv", columns=["note"])
    content = content.replace(other.reference.encode(), client.reference.encode())
    imports.write(imports.check(content, "x.csv"))
    client.refresh_from_db()
    assert client.note == "=1+1"


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_no_workbook_can_hold_comes_back_unchanged(db, file_format):
    factories.make_client("Jan\ufffe Novák", street="=\uffff", note="first\ufffe\n_xFFFE_")
    assert_unchanged(imported_again(Client, file_format), 1)


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("file_format", FORMATS)
def test_any_note_comes_back_unchanged(db, file_format, text):
    Client.objects.all().delete()
    factories.make_client(note=text)
    assert_unchanged(imported_again(Client, file_format), 1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_unreadable_value_is_not_written_back(db, file_format):
    client = factories.make_client(email="alice@example.com", birth_date=datetime.date(1978, 1, 23))
    for name in ("email", "birth_date"):
        tamper(client, name, "gAAAAAdamaged")
    content = export(Client.objects.all(), file_format)
    assert (csv_rows(export(Client.objects.all(), "csv"))[0]["E-mail"]) == UNREADABLE_MARK
    plan = imports.check(content, f"x.{file_format}")
    assert_unchanged(plan, 1)
    imports.write(plan)
    assert [stored(client, name) for name in ("email", "birth_date")] == ["gAAAAAdamaged"] * 2


@pytest.mark.parametrize("mark", LEFT_OUT)
@pytest.mark.parametrize("file_format", FORMATS)
def test_no_mark_replaces_a_value(db, file_format, mark):
    client = factories.make_client(note=mark, email="alice@example.com")
    content = export(Client.objects.all(), file_format)
    Client.objects.filter(pk=client.pk).update(note="the real note")
    assert_unchanged(imports.check(content, f"x.{file_format}"), 1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_text_that_did_not_fit_stays(db, file_format):
    client = factories.make_client(note="x" * 40_000)
    plan = imported_again(Client, file_format)
    assert_unchanged(plan, 1)
    assert TOO_LONG_MARK in (row["Note"] for row in csv_rows(export(Client.objects.filter(pk=client.pk), "csv")))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_chosen_few_columns_come_back_unchanged(office, file_format):
    for column in ("status", "ltv_percent", "adviser", "full_name", "current_step"):
        content = export(Case.objects.all(), file_format, columns=[column])
        assert_unchanged(imports.check(content, f"x.{file_format}", office), 2)


def test_an_edited_cell_is_the_only_change(office):
    content = export(Client.objects.all(), "csv").replace(b"27074358", b"45274649", 1)
    before = Client.history.count()
    imports.write(imports.check(content, "x.csv", office), office)
    assert sorted(client.business_id for client in Client.objects.all()).count("45274649") == 1
    assert Client.history.count() == before + 1
