"""Who may export what, what is recorded of it, and what it costs."""

import datetime
import hashlib
import io

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from crm import exports, roles
from crm.choices import RunState
from crm.encryption import encrypted_names
from crm.exceptions import NotAllowed
from crm.exports import xlsx_file
from crm.exports.columns import Kind, columns_of
from crm.models import Case, Client, DocumentType, ExportRun, Lender, RegulatoryLimit, Step
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, export

NOT_EXPORTED = {
    Client: {"id"},
    # The digest says nothing to a person.
    Case: {"id", "import_digest"},
}


@pytest.mark.parametrize("model", [Client, Case])
def test_every_column_of_the_model_is_in_the_file(model):
    names = {column.name for column in columns_of(model)}
    assert {field.name for field in model._meta.concrete_fields} - names == NOT_EXPORTED[model]


@pytest.mark.parametrize("language", ["en", "cs"])
@pytest.mark.parametrize("model", [Client, Case, Lender, Step, DocumentType, RegulatoryLimit])
def test_no_two_columns_have_one_header(model, language):
    with translation.override(language):
        labels = [column.label for column in columns_of(model)]
    assert len(labels) == len(set(labels)) == len({column.name for column in columns_of(model)})


def test_a_model_without_columns_is_no_list():
    with pytest.raises(LookupError):
        columns_of(ExportRun)


@pytest.mark.parametrize("role", [roles.ASSISTANT, roles.AUDITOR])
def test_whoever_may_not_export_gets_nothing_and_leaves_no_record(db, role):
    factories.make_client()
    target = io.BytesIO()
    with pytest.raises(NotAllowed):
        exports.write(Client.objects.all(), target, file_format="csv", user=factories.make_user(role))
    assert (target.getvalue(), ExportRun.objects.count()) == (b"", 0)


@pytest.mark.parametrize("role", [roles.ADMINISTRATOR, roles.MANAGER, roles.ADVISER])
def test_managers_and_advisers_export(db, role):
    factories.make_client()
    assert len(csv_rows(export(Client.objects.all(), "csv", factories.make_user(role)))) == 1


@pytest.mark.parametrize("model", [Lender, Step, DocumentType, RegulatoryLimit])
def test_a_catalogue_is_exported_by_whoever_keeps_it(db, model):
    factories.make_catalogue()
    assert csv_rows(export(model.objects.all(), "csv", factories.make_user(roles.MANAGER)))
    with pytest.raises(NotAllowed):
        export(model.objects.all(), "csv", factories.make_user(roles.ADVISER))


@override_settings(ADVISER_SCOPE="own")
def test_nobody_exports_rows_that_he_does_not_see(adviser):
    own = factories.make_case(factories.make_client("Alice"), adviser=adviser)
    factories.make_case(factories.make_client("Bob"), adviser=factories.make_user())
    assert [row["Reference"] for row in csv_rows(export(Case.objects.all(), "csv", adviser))] == [own.reference]
    assert [row["Full name"] for row in csv_rows(export(Client.objects.all(), "csv", adviser))] == ["Alice"]


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_a_run_is_recorded(manager, file_format):
    factories.make_client()
    target = io.BytesIO()
    run = exports.write(
        Client.objects.all(),
        target,
        file_format=file_format,
        user=manager,
        columns=["full_name"],
        filtered_by={"citizenship": "CZ"},
    )
    run.refresh_from_db()
    assert (run.user, run.user_name, run.state) == (manager, manager.get_display_name(), RunState.DONE)
    assert (run.model, run.format, run.rows) == ("client", file_format, 1)
    assert (run.columns, run.filter) == (["reference", "full_name", "row_version"], {"citizenship": "CZ"})
    assert run.sha256 == hashlib.sha256(target.getvalue()).hexdigest()
    assert run.finished_at <= timezone.now()


def test_a_run_that_fails_is_recorded_too(manager, monkeypatch):
    factories.make_client()
    monkeypatch.setattr(xlsx_file, "MAX_ROWS", 0)
    with pytest.raises(xlsx_file.TooManyRows):
        export(Client.objects.all(), "xlsx", manager)
    assert ExportRun.objects.get().state == RunState.FAILED


def test_the_keys_are_in_every_file(db):
    factories.make_case()
    [row] = csv_rows(export(Case.objects.all(), "csv", columns=["status"]))
    assert list(row) == ["Reference", "Client", "Status", "Row version"]


def test_a_file_asks_the_database_for_its_own_columns_only(db):
    factories.make_client(note="something")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        export(Client.objects.all(), "csv", columns=["email"])
    read = " ".join(query["sql"] for query in queries if 'FROM "crm_client"' in query["sql"])
    fetched = {name for name in encrypted_names(Client) if f'"{name}"' in read}
    assert fetched == {"email"}


def test_ten_rows_and_twenty_cost_the_same_number_of_queries(manager):
    def queries():
        with CaptureQueriesContext(connection) as found:
            export(Case.objects.all(), "csv", manager)
        return len(found)

    for _number in range(10):
        factories.make_case(adviser=manager)
    queries()  # asks for the manager's permissions, which stay known
    few = queries()
    for _number in range(10):
        factories.make_case(adviser=manager)
    assert queries() == few


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_nothing_is_written_to_a_temporary_folder(db, file_format, monkeypatch):
    factories.make_client()
    monkeypatch.setattr("tempfile._mkstemp_inner", lambda *args, **kwargs: pytest.fail("a temporary file"))
    export(Client.objects.all(), file_format)


def test_the_file_name_says_the_list_the_day_and_the_record():
    run = ExportRun(
        pk=7, model="client", format="xlsx", created_at=datetime.datetime(2026, 3, 1, 23, 30, tzinfo=datetime.UTC)
    )
    assert exports.file_name(run) == "clients-2026-03-02-7.xlsx"


def test_two_advisers_of_one_name_are_told_apart(db):
    one, two = (factories.make_user(first_name="Jan", last_name="Novák") for _number in range(2))
    three = factories.make_user(first_name="Eva", last_name="Malá")
    for adviser in (one, two, three):
        factories.make_case(adviser=adviser)
    shown = [row["Adviser"] for row in csv_rows(export(Case.objects.order_by("pk"), "csv"))]
    assert shown == [one.username, two.username, "Eva Malá"]


def test_codes_are_text_whatever_they_look_like():
    kinds = {column.name: column.kind for column in columns_of(Client)}
    assert {kinds[name] for name in ("reference", "phone", "birth_number", "postal_code", "business_id")} == {Kind.CODE}
