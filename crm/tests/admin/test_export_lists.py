"""Exports of what hangs on cases and clients: each of these lists has the same page, file and record."""

import io

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from crm import exports, jobs, roles, tasks
from crm.admin import exports as pages
from crm.choices import MessageKind, RunState, Withheld
from crm.encryption import encrypted_names
from crm.exports.columns import PARTS, columns_of
from crm.imports.columns import recognise
from crm.imports.problems import UnusableFile
from crm.imports.reading import read
from crm.models import (
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    DocumentType,
    ExportedClient,
    ExportPreset,
    ExportRun,
    FinanceItem,
    Identification,
    MessageLog,
    Note,
    Property,
)
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, plain_rows, xlsx_rows

LISTS = list(PARTS)
READ = {exports.CSV: csv_rows, exports.PLAIN_CSV: plain_rows, exports.XLSX: xlsx_rows}
# Of each list a row of a case, and what it is told by: its header and cell in words, and as a machine reads it.
MAKE = {
    CaseStep: lambda case: case.steps.order_by("step__number").first(),
    Document: lambda case: Document.objects.create(case=case, type=DocumentType.objects.get(code="vypis_z_katastru")),
    Note: lambda case: Note.objects.create(case=case, text="Called at noon."),
    Commission: lambda case: Commission.objects.create(case=case, expected_czk=12500),
    Property: lambda case: Property.objects.create(case=case, address="Lipová 5"),
    MessageLog: lambda case: MessageLog.objects.create(
        claim_key=str(case.pk), case=case, kind=MessageKind.CLIENT_DEADLINES, recipient="alice@example.com"
    ),
    CaseParty: lambda case: CaseParty.objects.create(case=case, client=case.client, role="guarantor"),
    FinanceItem: lambda case: FinanceItem.objects.create(client=case.client, kind="employment", monthly_czk=41000),
    Consent: lambda case: Consent.objects.create(
        client=case.client, purpose="processing", text_version="1", given_on=factories.TODAY
    ),
    Identification: lambda case: Identification.objects.create(
        client=case.client, method="in_person", done_on=factories.TODAY
    ),
}
TOLD = {
    CaseStep: (("state", "pending"), ("State", "Pending")),
    Document: (("type", "vypis_z_katastru"), ("Type", "Land register extract")),
    Note: (("text", "Called at noon."), ("Text", "Called at noon.")),
    Commission: (("expected_czk", "12500.00"), ("Expected (CZK)", "12500,00")),
    Property: (("kind", "flat"), ("Kind", "Flat")),
    MessageLog: (("kind", "client_deadlines"), ("Kind", "Deadlines, to the client")),
    CaseParty: (("role", "guarantor"), ("Role", "Guarantor")),
    FinanceItem: (("monthly_czk", "41000.00"), ("Monthly amount (CZK, net)", "41000,00")),
    Consent: (("purpose", "processing"), ("Purpose", "Processing of personal data")),
    Identification: (("method", "in_person"), ("Method", "In person")),
}
every_list = pytest.mark.parametrize("model", LISTS)


def url(model, page: str = "export") -> str:
    """Of a list that shows all its rows: that of steps shows what is due unless it is asked for more."""
    shown = "?quick=all" if model is CaseStep else ""
    return reverse(f"admin:crm_{model._meta.model_name}_{page}") + shown


def of_list(model) -> list[str]:
    return [each.name for each in columns_of(model) if exports.is_own(each)]


def written(browser, model, *names, file_format=exports.CSV, **values) -> list[dict]:
    given = {"format": file_format, "columns": names or of_list(model)[1:], "reason": "a test", **values}
    response = browser.post(url(model), given)
    assert response.status_code == 200 and "attachment" in response.headers.get("Content-Disposition", "")
    return READ[file_format](response.content)


def case_of(name: str = "Alice Nováková", **fields):
    return factories.make_case(factories.make_client(name), **fields)


def only_row(model, case):
    """A case has a step of every kind."""
    row = MAKE[model](case)
    model.objects.filter(**{PARTS[model]: case.client_id}).exclude(pk=row.pk).delete()
    return row


@every_list
def test_a_file_says_whose_its_rows_are_in_words(browse, manager, model):
    manager.first_name, manager.last_name = "Eva", "Malá"
    manager.save()
    case = case_of(adviser=manager)
    only_row(model, case)
    browser = browse(manager)
    for file_format in (exports.CSV, exports.XLSX):
        [row] = written(browser, model, file_format=file_format)
        assert (row["Client"], row["Full name"]) == (case.client.reference, "Alice Nováková")
        if hasattr(model, "case"):
            assert (row["Case"], row["Adviser"]) == (case.reference, "Eva Malá")
        label, value = TOLD[model][1]
        assert row[label] in (value, 12500, 41000)
    [row] = written(browser, model, file_format=exports.PLAIN_CSV)
    name, value = TOLD[model][0]
    assert (row[name], row["client"], row["full_name"]) == (value, case.client.reference, "Alice Nováková")


@every_list
def test_a_file_leaves_a_record_of_whose_data_went_out(browse, manager, model):
    case = case_of()
    case_of("Not in the file")
    row = only_row(model, case)
    written(browse(manager), model, selected=str(row.pk))
    run = ExportRun.objects.get()
    assert (run.user, run.model, run.rows, run.columns) == (manager, model._meta.model_name, 1, of_list(model))
    assert list(ExportedClient.objects.values_list("run", "client_id")) == [(run.pk, case.client_id)]
    assert str(run.pk) in exports.file_name(run) and len(run.sha256) == 64


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (roles.ADMINISTRATOR, 200),
        (roles.MANAGER, 200),
        (roles.ADVISER, 200),
        (roles.ASSISTANT, 403),
        (roles.AUDITOR, 403),
    ],
)
@every_list
def test_the_page_and_its_doors_are_for_who_may_export_the_list(browse, db, model, role, status):
    only_row(model, case_of())
    if (model, role) == (MessageLog, roles.ADVISER):
        status = 403
    browser = browse(factories.make_user(role))
    assert browser.get(url(model)).status_code == status
    posted = {"format": exports.CSV, "columns": of_list(model)[1:2]}
    assert browser.post(url(model), posted).status_code == status
    assert ExportRun.objects.count() == (status == 200)
    listed = browser.get(url(model, "changelist"))
    if listed.status_code == 200:
        content = listed.content.decode()
        assert (url(model).partition("?")[0] in content) == ("export_admin_action" in content) == (status == 200)


@every_list
def test_ticked_rows_go_to_the_page(browse, manager, model):
    row = only_row(model, case_of())
    posted = {"action": "export_admin_action", "_selected_action": [row.pk]}
    response = browse(manager).post(url(model, "changelist"), posted)
    assert (response.context["rows"], response.context["form"].initial["selected"]) == (1, str(row.pk))


@override_settings(ADVISER_SCOPE="own")
@pytest.mark.parametrize("model", [model for model in LISTS if model is not MessageLog])
def test_an_adviser_gets_rows_of_his_own(browse, adviser, model):
    only_row(model, case_of("Own", adviser=adviser))
    foreign = only_row(model, case_of("Foreign", adviser=factories.make_user()))
    browser = browse(adviser)
    assert [row["Full name"] for row in written(browser, model, "full_name")] == ["Own"]
    assert written(browser, model, "full_name", selected=str(foreign.pk)) == []


@every_list
def test_more_rows_cost_no_more_queries(browse, manager, model):
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            rows = written(browser, model)
        assert len(rows) == model.objects.count()
        return len(found)

    browser = browse(manager)
    for number in range(3):
        only_row(model, case_of(f"Client {number}"))
    queries()
    few = queries()
    for number in range(5):
        only_row(model, case_of(f"Another {number}"))
    # One statement notes whose data went out, however many they are.
    assert queries() == few


@every_list
def test_only_the_chosen_columns_are_fetched(browse, manager, model):
    only_row(model, case_of())
    browser = browse(manager)
    with CaptureQueriesContext(connection) as queries:
        written(browser, model, of_list(model)[1])
    read = " ".join(query["sql"] for query in queries if f'FROM "{model._meta.db_table}"' in query["sql"])
    fetched = {name for owner in (model, Client) for name in encrypted_names(owner) if f'"{name}"' in read}
    assert read and fetched == ({"full_name"} if of_list(model)[1] == "full_name" else set())


@pytest.mark.parametrize("language", ["en", "cs"])
@every_list
def test_no_two_columns_have_one_header(model, language):
    with translation.override(language):
        labels = [column.label for column in columns_of(model)]
    assert len(labels) == len(set(labels)) == len({column.name for column in columns_of(model)})


@every_list
def test_every_field_is_offered_but_what_only_machines_read(model):
    internal = {
        Note: {"author", "legacy_id"},
        MessageLog: {"claim_key", "recipient_digest", "html", "attachments", "needs_all_cases", "message_id"},
    }
    fields = {field.name for field in model._meta.concrete_fields} - {"id"}
    assert fields - {column.name for column in columns_of(model)} == internal.get(model, set())


@every_list
def test_columns_of_the_client_are_for_who_may_export_clients(browse, manager, model):
    only_row(model, factories.make_case(factories.make_client(phone="777 123 456")))
    [row] = written(browse(manager), model, "client.phone")
    assert row["Phone"] == "777 123 456"
    trainee = factories.make_user(roles.AUDITOR)
    trainee.user_permissions.add(Permission.objects.get(codename=f"export_{model._meta.model_name}"))
    form = browse(trainee).get(url(model)).context["form"]
    assert not [name for name, _label in form.fields["columns"].choices if "." in name]


def test_columns_of_another_clients_case_are_not_offered_with_its_parties():
    assert not [column.name for column in columns_of(CaseParty) if column.name.startswith("case.")]
    assert [column.name for column in columns_of(Commission) if column.name == "case.status"]


def test_a_party_takes_out_the_partys_data_and_not_the_applicants(browse, manager):
    case, guarantor = case_of(), factories.make_client("Bob")
    CaseParty.objects.create(case=case, client=guarantor)
    [row] = written(browse(manager), CaseParty)
    assert (row["Case"], row["Client"], row["Full name"]) == (case.reference, guarantor.reference, "Bob")
    assert ExportedClient.objects.get().client_id == guarantor.pk


@pytest.mark.parametrize(
    ("model", "sensitive"),
    [(FinanceItem, ["monthly_czk", "balance_czk"]), (Identification, ["is_pep", "risk"])],
)
def test_what_somebody_earns_or_is_suspected_of_needs_a_right_and_a_reason(browse, adviser, manager, model, sensitive):
    only_row(model, case_of(adviser=adviser))
    offered = dict(browse(adviser).get(url(model)).context["form"].fields["columns"].choices)
    assert offered and not offered.keys() & set(sensitive)
    form = browse(manager).post(url(model), {"format": exports.CSV, "columns": sensitive}).context["form"]
    assert form.errors["reason"]
    assert written(browse(manager), model, *sensitive, reason="for the bank")


def test_a_message_of_no_case_is_nobodys_data(browse, manager):
    case = case_of()
    only_row(MessageLog, case)
    MessageLog.objects.create(claim_key="test", kind="test", recipient="eva@example.com", error=Withheld.USER)
    [row] = [row for row in written(browse(manager), MessageLog) if row["Case"] != case.reference]
    assert (row["Case"], row["Full name"], row["Kind"]) == ("", "", "Test of a text")
    assert row["Error"] == "The user is gone or may not log in."
    assert ExportRun.objects.get().state == RunState.DONE
    assert ExportedClient.objects.get().client_id == case.client_id


def test_what_is_due_goes_out_as_its_list_shows_it(browse, manager):
    steps = case_of().steps
    done = steps.first()
    CaseStep.objects.filter(pk=done.pk).update(state="not_applicable")
    page = reverse("admin:crm_casestep_export")
    response = browse(manager).post(page, {"format": exports.CSV, "columns": ["step"]})
    rows = csv_rows(response.content)
    assert len(rows) == steps.count() - 1 and str(done.step) not in [row["Step"] for row in rows]
    assert ExportRun.objects.get().filter == {"quick": "pending"}


@every_list
def test_a_preset_keeps_columns_and_filter(browse, manager, model):
    only_row(model, case_of())
    browser = browse(manager)
    name = of_list(model)[-1]
    posted = {"format": exports.CSV, "columns": [name], "preset_name": "Mine", "_save_new_preset": ""}
    page = browser.post(url(model), posted)["Location"]
    assert ExportPreset.objects.get().query == url(model).partition("?")[2]
    assert browser.get(page).context["form"].initial["columns"] == [name]


@every_list
def test_a_long_list_is_made_by_a_job(browse, manager, model, monkeypatch):
    monkeypatch.setattr(pages, "MOST_ROWS", 1)
    for name in ("Alice", "Bob"):
        only_row(model, case_of(name))
    browse(manager).post(url(model), {"format": exports.CSV, "columns": ["full_name"]})
    run = ExportRun.objects.get()
    jobs.carry_out(run.job_id, tasks.JOBS)
    run.refresh_from_db()
    assert (run.state, run.rows, run.exported_clients.count()) == (RunState.DONE, 2, 2)


@pytest.mark.parametrize("language", ["en", "cs"])
@pytest.mark.parametrize("file_format", exports.FORMATS)
@every_list
def test_an_import_says_that_it_takes_no_such_list(manager, model, file_format, language):
    only_row(model, case_of())
    target = io.BytesIO()
    with translation.override(language):
        exports.write(model.objects.all(), target, file_format=file_format, reason="a test")
    sheet = read(target.getvalue(), f"list.{exports.ENDINGS[file_format]}")
    with translation.override("en"), pytest.raises(UnusableFile, match="exported and not imported"):
        recognise(sheet)


def test_the_clients_timeline_tells_of_it(browse, manager):
    case = case_of()
    only_row(Note, case)
    written(browse(manager), Note)
    page = browse(manager).get(reverse("admin:crm_client_timeline", args=[case.client_id]))
    assert "The client&#x27;s data left the office" in page.content.decode()
