"""Every door through which a list leaves the admin: button, page, action. Plain django-import-export is run beside."""

import datetime
import hashlib
import uuid

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.http import HttpResponse
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone
from import_export.admin import ExportActionModelAdmin, ExportMixin

from crm import exports, jobs, roles, schedules, tasks
from crm.admin import exports as pages
from crm.admin.filters import UnreadFilter
from crm.choices import RunState
from crm.exports import waiting
from crm.models import AuditEntry, Case, Client, ExportedClient, ExportPreset, ExportRun, JobRun, User
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, plain_rows, xlsx_rows

CLIENTS, CASES = reverse("admin:crm_client_changelist"), reverse("admin:crm_case_changelist")
EXPORT = reverse("admin:crm_client_export")
XLSX, CSV, PLAIN_CSV = exports.XLSX, exports.CSV, exports.PLAIN_CSV


def chosen(*names, **values):
    return {"format": CSV, "columns": names or ["full_name"], **values}


def test_a_manager_exports_the_list(browse, manager):
    factories.make_client("Alice Nováková")
    response = browse(manager).post(EXPORT, chosen("full_name", "email"))
    [row] = csv_rows(response.content)
    assert list(row) == ["Reference", "Full name", "E-mail", "Row version"]
    assert row["Full name"] == "Alice Nováková"


def test_a_workbook_downloads_under_a_name_with_the_day_and_nobodys_name(browse, manager):
    factories.make_client()
    response = browse(manager).post(EXPORT, chosen(format=XLSX))
    today = timezone.localdate().isoformat()
    run = ExportRun.objects.get()
    assert response["Content-Disposition"] == f'attachment; filename="clients-{today}-{run.pk}.xlsx"'
    assert response["Content-Type"].startswith("application/vnd.openxmlformats")
    assert len(xlsx_rows(response.content)) == 1


def test_the_page_offers_every_column_and_says_how_many_rows(browse, manager):
    factories.make_client()
    response = browse(manager).get(EXPORT)
    assert response.context["rows"] == 1
    content = response.content.decode()
    assert "Identity document issuer" in content
    assert "Always in the file" in content


def test_a_machine_gets_names_of_fields_and_commas(browse, manager):
    factories.make_client("Alice, Nováková")
    response = browse(manager).post(EXPORT, chosen(format=PLAIN_CSV))
    [row] = plain_rows(response.content)
    assert (list(row), row["full_name"]) == (["reference", "full_name", "row_version"], "Alice, Nováková")
    assert response["Content-Disposition"].endswith(f'-{ExportRun.objects.get().pk}.csv"')


def test_columns_of_cases_are_offered_beside_those_of_clients_and_make_a_row_a_case(browse, manager):
    case = factories.make_case()
    factories.make_client("Without a case")
    browser = browse(manager)
    form = browser.get(EXPORT).context["form"]
    offered = {name for name, _label in form.fields["columns"].choices}
    assert {"full_name", "case.status"} <= offered and "case.status" not in form.initial["columns"]
    rows = csv_rows(browser.post(EXPORT, chosen("full_name", "case.status")).content)
    assert sorted(row["Reference (case)"] for row in rows) == ["", case.reference]


def test_columns_of_cases_are_for_who_may_export_cases(browse, adviser):
    adviser.groups.get().permissions.remove(Permission.objects.get(codename="export_case"))
    browser = browse(adviser)
    offered = {name for name, _label in browser.get(EXPORT).context["form"].fields["columns"].choices}
    assert offered and not [name for name in offered if name.startswith("case.")]
    assert browser.post(EXPORT, chosen("case.status")).context["form"].errors["columns"]


@pytest.mark.parametrize("role", [roles.ASSISTANT, roles.AUDITOR])
@pytest.mark.parametrize("model", ["client", "case"])
def test_whoever_may_not_export_finds_no_door(browse, db, role, model):
    factories.make_case()
    browser = browse(factories.make_user(role))
    url = reverse(f"admin:crm_{model}_export")
    listed = browser.get(reverse(f"admin:crm_{model}_changelist"))
    assert url not in listed.content.decode()
    assert "export_admin_action" not in listed.content.decode()
    assert browser.get(url).status_code == 403
    assert browser.post(url, chosen()).status_code == 403
    assert not ExportRun.objects.exists()


def test_the_action_of_the_list_is_refused_without_the_permission(browse, assistant):
    client = factories.make_client("Alice Nováková")
    response = browse(assistant).post(
        CLIENTS, {"action": "export_admin_action", "_selected_action": [client.pk]}, follow=True
    )
    assert "admin/import_export/export.html" not in [template.name for template in response.templates]
    assert "Alice" in response.content.decode()  # the list again


@pytest.mark.parametrize("role", [roles.ADMINISTRATOR, roles.MANAGER, roles.ADVISER])
def test_whoever_may_export_finds_the_button_and_the_action(browse, db, role):
    factories.make_client()
    content = browse(factories.make_user(role)).get(CLIENTS).content.decode()
    assert EXPORT in content
    assert "export_admin_action" in content


@override_settings(ADVISER_SCOPE="own")
def test_a_foreign_row_is_in_no_file(browse, adviser):
    factories.make_case(factories.make_client("Own"), adviser=adviser)
    foreign = factories.make_case(factories.make_client("Foreign"), adviser=factories.make_user())
    browser = browse(adviser)
    assert [row["Full name"] for row in csv_rows(browser.post(EXPORT, chosen()).content)] == ["Own"]
    ticked = browser.post(EXPORT, chosen(selected=str(foreign.client_id)))
    assert csv_rows(ticked.content) == []


def test_the_filters_of_the_list_hold_for_its_file(browse, manager):
    factories.make_client("Czech", citizenship="CZ")
    factories.make_client("Slovak", citizenship="SK")
    response = browse(manager).post(f"{EXPORT}?citizenship=SK", chosen())
    assert [row["Full name"] for row in csv_rows(response.content)] == ["Slovak"]
    assert ExportRun.objects.get().filter == {"citizenship": "SK"}


def test_a_search_is_recorded_without_its_words(browse, manager):
    factories.make_client("Alice Nováková")
    factories.make_client("Bob")
    response = browse(manager).post(f"{EXPORT}?q=novakova", chosen())
    assert [row["Full name"] for row in csv_rows(response.content)] == ["Alice Nováková"]
    assert ExportRun.objects.get().filter == {"search": True}


@pytest.mark.parametrize(
    ("model", "query"),
    [
        ("case", "opened_on_from=31.2.2026"),
        ("case", "next_deadline_to=zz"),
        ("case", "loan_amount_czk_from=much"),
        ("case", "adviser=zz"),
        ("case", "quick=title"),
        ("auditentry", "person=zz"),
        ("auditentry", "changed=zz"),
        ("auditentry", "at_from=zz"),
    ],
)
def test_a_filter_that_cannot_be_read_exports_nothing_and_is_named(browse, admin_user, model, query):
    factories.make_case()
    page, browser = f"{reverse(f'admin:crm_{model}_export')}?{query}", browse(admin_user)
    given = chosen("status" if model == "case" else "source")
    for preset in ({}, {"_save_new_preset": "1", "preset_name": "x"}):
        response = browser.post(page, given | preset)
        assert (response.status_code, response.url) == (302, page)
    assert not ExportRun.objects.exists() and not ExportPreset.objects.exists()
    response = browser.get(page)
    [said] = [str(message) for message in response.context["messages"]]
    assert "cannot be read" in said and response.context["rows"] is None


def test_a_job_makes_no_file_by_a_filter_that_cannot_be_read(manager):
    factories.make_case()
    run = exports.planned(Case, CSV, manager, ["status"], {})
    waiting.order(run, query="opened_on_from=31.2.2026", selected="")
    with pytest.raises(UnreadFilter):
        pages.rows_of(run)


def test_a_filter_that_chose_nothing_is_everything(browse, manager):
    factories.make_case()
    query = "quick=&adviser=&status__exact=&lender__id__exact=&opened_on_from=&opened_on_to=&loan_amount_czk_from="
    response = browse(manager).post(f"{reverse('admin:crm_case_export')}?{query}", chosen("status"))
    assert len(csv_rows(response.content)) == 1
    assert exports.filter_text(ExportRun.objects.get(), manager) == "everything"


def test_an_impossible_filter_leads_back_to_the_list(browse, manager):
    response = browse(manager).get(f"{EXPORT}?created_at__gte=never")
    assert response.status_code == 302
    assert response["Location"].startswith(CLIENTS)


def test_a_run_is_recorded_with_who_and_what(browse, manager):
    factories.make_client()
    browse(manager).post(EXPORT, chosen("email"))
    run = ExportRun.objects.get()
    assert (run.user, run.model, run.format, run.rows, run.columns) == (
        manager, "client", "csv", 1, ["reference", "email", "row_version"],
    )  # fmt: skip
    assert len(run.sha256) == 64


def test_no_column_at_all_is_an_error_on_the_form(browse, manager):
    response = browse(manager).post(EXPORT, {"format": CSV, "columns": []})
    assert response.context["form"].errors["columns"]
    assert not ExportRun.objects.exists()


@pytest.mark.parametrize("keys", ["1; DROP", "x", "1,,2", "²", "1,9" + "\0"])
def test_a_forged_selection_is_an_error_on_the_form(browse, manager, keys):
    response = browse(manager).post(EXPORT, chosen(selected=keys))
    assert response.context["form"].errors["selected"]


@pytest.mark.parametrize("keys", ["9" * 30, "9" * 5000])
def test_a_selection_of_what_can_be_no_row_is_empty(browse, manager, keys):
    factories.make_client()
    assert csv_rows(browse(manager).post(EXPORT, chosen(selected=keys)).content)[1:] == []


@pytest.fixture
def long_list(browse, manager, monkeypatch):
    """A list of three rows where two are the most that a page waits for."""
    monkeypatch.setattr(pages, "MOST_ROWS", 2)
    monkeypatch.setattr(waiting, "PIECE_BYTES", 30)
    for name in ("Alice", "Bob", "Charlie"):
        factories.make_client(name, citizenship="CZ")
    factories.make_client("Dan", citizenship="SK")
    return browse(manager)


def work(run):
    jobs.carry_out(run.job_id, tasks.JOBS)
    run.refresh_from_db()


def fetch(browser, run):
    return browser.get(reverse("admin:crm_exportrun_file", args=[run.pk]))


def body(response) -> bytes:
    async def gathered():
        return [piece async for piece in response.streaming_content]

    return b"".join(async_to_sync(gathered)())


def test_a_list_of_as_many_rows_as_a_page_waits_for_is_made_at_once(long_list, monkeypatch):
    monkeypatch.setattr(pages, "MOST_ROWS", 3)
    assert len(csv_rows(long_list.post(f"{EXPORT}?citizenship=CZ", chosen()).content)) == 3


@pytest.mark.parametrize("file_format", [CSV, XLSX])
def test_a_long_list_is_made_by_a_job_and_waits_for_its_person(long_list, manager, file_format):
    response = long_list.post(f"{EXPORT}?q=&citizenship=CZ", chosen(format=file_format))
    run = ExportRun.objects.get()
    page = reverse("admin:crm_exportrun_change", args=[run.pk])
    assert (response["Location"], run.state, run.job.queue) == (page, RunState.QUEUED, "long")
    assert "waits for a worker" in long_list.get(page).content.decode()
    assert fetch(long_list, run).status_code == 404
    work(run)
    assert (run.state, run.rows, run.pieces.count() > 1) == (RunState.DONE, 3, True)
    assert "Download" in long_list.get(page).content.decode()
    response = fetch(long_list, run)
    content = body(response)
    assert hashlib.sha256(content).hexdigest() == run.sha256
    assert response["Content-Disposition"] == f'attachment; filename="{exports.file_name(run)}"'
    read = csv_rows if file_format == CSV else xlsx_rows
    assert sorted(row["Full name"] for row in read(content)) == ["Alice", "Bob", "Charlie"]
    assert AuditEntry.objects.filter(kind="export").count() == 1
    assert ExportedClient.objects.filter(run=run).count() == 3


def test_ticked_rows_of_a_long_list_are_remembered_and_what_was_searched_is_not_readable(long_list):
    keys = ",".join(str(client.pk) for client in Client.objects.filter(citizenship="CZ"))
    long_list.post(f"{EXPORT}?o=1&q=ali", chosen(selected=keys))
    assert not JobRun.objects.exists()  # one row: made at once
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen(selected=keys))
    run = ExportRun.objects.get(state=RunState.QUEUED)
    assert waiting.source(run) == ("citizenship=CZ", keys)
    with connection.cursor() as cursor:
        cursor.execute("SELECT source FROM crm_exportrun WHERE id = %s", [run.pk])
        assert "citizenship" not in cursor.fetchone()[0]
    work(run)
    assert run.rows == 3


def test_the_pieces_of_a_file_say_nothing(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    work(run)
    stored = b"".join(bytes(piece) for piece in run.pieces.values_list("content", flat=True))
    assert b"Alice" not in stored and b"Alice" in body(fetch(long_list, run))


def test_a_file_is_for_its_person_alone(long_list, browse, administrator, adviser):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    work(run)
    assert fetch(browse(administrator), run).status_code == 403
    assert fetch(browse(adviser), run).status_code == 404
    page = browse(administrator).get(reverse("admin:crm_exportrun_change", args=[run.pk])).content.decode()
    assert "waits for somebody else" in page


def test_who_may_no_longer_export_does_not_fetch_either(long_list, manager):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    work(run)
    roles.assign(manager, roles.AUDITOR)
    assert fetch(long_list, run).status_code == 403


def take(user, codename):
    user.groups.get().permissions.remove(Permission.objects.get(codename=codename))


def of_less(user):
    roles.assign(user, roles.ADVISER)


@pytest.mark.parametrize(
    ("columns", "change"),
    [
        (["birth_number"], lambda user: take(user, "export_sensitive")),
        (["full_name", "case.status"], lambda user: take(user, "export_case")),
        (["full_name"], lambda user: take(user, "export_client")),
        (["full_name"], of_less),
    ],
)
def test_a_right_that_was_taken_away_holds_for_files_that_wait(long_list, manager, settings, columns, change):
    settings.ADVISER_SCOPE = "own"
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen(*columns, reason="The bank asks"))
    run = ExportRun.objects.get()
    work(run)
    page, listed = (
        reverse(f"admin:crm_exportrun_{name}", args=args) for name, args in (("change", [run.pk]), ("changelist", []))
    )
    url = reverse("admin:crm_exportrun_file", args=[run.pk])
    assert [url in long_list.get(each).content.decode() for each in (page, listed)] == [True, True]
    change(manager)
    assert fetch(long_list, run).status_code == 403
    shown = [long_list.get(each).content.decode() for each in (page, listed)]
    assert [url in each for each in shown] == [False, False]
    assert "Your role may no longer have this file." in shown[0]


@override_settings(ADVISER_SCOPE="own")
def test_whoever_sees_own_cases_fetches_what_was_made_of_them(browse, adviser, monkeypatch):
    monkeypatch.setattr(pages, "MOST_ROWS", 0)
    factories.make_case(adviser=adviser)
    browser = browse(adviser)
    browser.post(EXPORT, chosen())
    run = ExportRun.objects.get()
    work(run)
    assert fetch(browser, run).status_code == 200


@pytest.mark.parametrize("left", ["is_active", "role"])
def test_nothing_is_made_for_who_left_meanwhile(long_list, manager, left):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    if left == "role":
        roles.assign(manager, roles.AUDITOR)
    else:
        User.objects.filter(pk=manager.pk).update(is_active=False)
    work(run)
    assert (run.pieces.count(), run.job.state) == (0, RunState.FAILED)


def test_a_waiting_export_is_cancelled(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    response = long_list.post(reverse("admin:crm_exportrun_cancel", args=[run.pk]), follow=True)
    assert "ended without a file. Cancelled." in " ".join(response.content.decode().split())
    work(run)
    assert run.pieces.count() == 0


def killed(run):
    JobRun.objects.update(state=RunState.FAILED, message="The worker was killed.")


def cancelled_elsewhere(run):
    jobs.cancel(run.job, by=None)


def cancelled(run):
    waiting.cancel(run, by=run.user)


@pytest.mark.parametrize(
    ("end", "said"),
    [(killed, "The worker was killed."), (cancelled_elsewhere, "Cancelled."), (cancelled, "Cancelled.")],
)
def test_the_record_of_an_export_without_a_file_ends_too(long_list, end, said):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    assert waiting.settle(timezone.now()) == 0  # it may still be made
    end(run)
    assert waiting.settle(timezone.now()) == (end is not cancelled)
    assert waiting.settle(timezone.now()) == 0
    run.refresh_from_db()
    assert (run.state, run.message, run.finished_at is None) == (RunState.FAILED, said, False)
    entry = AuditEntry.objects.get(kind="export")
    assert (entry.user_id, '"state": "failed"' in entry.detail) == (run.user_id, True)


def test_an_export_that_was_cancelled_can_be_made_after_all(long_list, manager):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    waiting.cancel(run, by=manager)
    jobs.retry(run.job, by=manager)
    work(run)
    assert (run.state, run.message, fetch(long_list, run).status_code) == (RunState.DONE, "", 200)


def test_what_a_killed_page_left_ends_after_a_day(db):
    run = ExportRun.objects.create(model="client", format=CSV, state=RunState.RUNNING)
    assert waiting.settle(run.created_at + datetime.timedelta(hours=23)) == 0
    assert waiting.settle(run.created_at + datetime.timedelta(hours=25)) == 1


def test_an_export_whose_job_is_forgotten_waits_for_nothing(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    ExportRun.objects.update(job=None)
    run = ExportRun.objects.get()
    page = long_list.get(reverse("admin:crm_exportrun_change", args=[run.pk])).content.decode()
    assert "has ended without a file" in page and "hx-get" not in page and "/cancel/" not in page


def test_another_adviser_cancels_nothing(long_list, browse, adviser, administrator):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    url = reverse("admin:crm_exportrun_cancel", args=[run.pk])
    assert browse(adviser).post(url).status_code == 404
    assert browse(factories.make_user(roles.AUDITOR)).post(url).status_code == 403
    assert browse(administrator).get(url).status_code == 405
    assert browse(administrator).post(url).status_code == 302


def test_an_export_that_is_stopped_begins_again_and_leaves_one_record(long_list, monkeypatch):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen(format=XLSX))
    run = ExportRun.objects.get()
    jobs.stopping.set()
    try:
        work(run)
    finally:
        jobs.stopping.clear()
    assert (run.pieces.count(), run.job.state) == (0, RunState.QUEUED)
    work(run)
    assert len(xlsx_rows(body(fetch(long_list, run)))) == 3
    assert AuditEntry.objects.filter(kind="export").count() == 1


def test_who_wakes_after_another_took_over_spoils_nothing(long_list, monkeypatch):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen(format=XLSX))
    run = ExportRun.objects.get()
    real, woke = exports.FORMATS["xlsx"].write, []

    def stall(table, target):
        if not woke:  # the first: while it sleeps the run is given back, and another makes the whole file
            woke.append(1)
            target.write(b"x" * 100)
            JobRun.objects.update(beat_at=timezone.now() - datetime.timedelta(hours=1))
            jobs.sweep(timezone.now())
            jobs.carry_out(run.job_id, tasks.JOBS)
        return real(table, target)

    monkeypatch.setattr(exports.FORMATS["xlsx"], "write", stall)
    work(run)
    assert (run.state, run.job.state, ExportRun.objects.get().rows) == (RunState.DONE, RunState.DONE, 3)
    assert hashlib.sha256(body(fetch(long_list, run))).hexdigest() == run.sha256
    assert set(run.pieces.values_list("claim", flat=True)) == {run.claim}
    assert AuditEntry.objects.filter(kind="export").count() == 1


def test_a_try_that_fails_is_no_end(long_list, monkeypatch):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    with monkeypatch.context() as broken:
        broken.setattr(exports.FORMATS["csv"], "write", lambda table, target: 1 / 0)
        work(run)
    page = reverse("admin:crm_exportrun_change", args=[run.pk])
    assert "waits for a worker" in long_list.get(page).content.decode()
    assert not AuditEntry.objects.filter(kind="export").exists()
    JobRun.objects.update(due_at=timezone.now())
    work(run)
    assert (run.state, AuditEntry.objects.filter(kind="export").count()) == (RunState.DONE, 1)


def test_the_last_try_that_fails_is_an_end(long_list, monkeypatch):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    monkeypatch.setattr(exports.FORMATS["csv"], "write", lambda table, target: 1 / 0)
    for _number in range(jobs.MOST_ATTEMPTS):
        JobRun.objects.update(due_at=timezone.now())
        work(run)
    assert (run.state, AuditEntry.objects.filter(kind="export").count()) == (RunState.FAILED, 1)


def test_pieces_of_a_killed_export_go_with_the_next_tidying(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    run.pieces.create(claim=uuid.uuid4(), number=0, content=b"x")
    assert waiting.tidy(timezone.now()) == 0  # it may still be made
    jobs.cancel(run.job, by=None)
    assert waiting.tidy(timezone.now()) == 1


def test_an_old_job_goes_and_its_export_stays(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    work(run)
    JobRun.objects.update(due_at=timezone.now() - datetime.timedelta(days=401))
    assert schedules.tidy(timezone.now()) == 1
    run.refresh_from_db()
    assert (run.job, run.state) == (None, RunState.DONE)
    assert "Download" in long_list.get(reverse("admin:crm_exportrun_change", args=[run.pk])).content.decode()


def test_nobody_fills_the_queue_with_his_exports(long_list, browse, administrator):
    for _number in range(waiting.MOST_AT_ONCE):
        long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    answer = long_list.post(f"{EXPORT}?citizenship=CZ", chosen(), follow=True)
    assert "3 of your exports are not finished yet" in answer.content.decode()
    assert ExportRun.objects.count() == waiting.MOST_AT_ONCE
    browse(administrator).post(f"{EXPORT}?citizenship=CZ", chosen())
    assert ExportRun.objects.count() == waiting.MOST_AT_ONCE + 1


def test_a_file_goes_after_a_week_and_its_record_stays(long_list):
    long_list.post(f"{EXPORT}?citizenship=CZ", chosen())
    run = ExportRun.objects.get()
    work(run)
    assert waiting.tidy(run.kept_until) == 0
    assert waiting.tidy(run.kept_until + datetime.timedelta(seconds=1)) > 0
    ExportRun.objects.update(kept_until=timezone.now() - datetime.timedelta(seconds=1))
    assert fetch(long_list, run).status_code == 404
    assert run.pieces.count() == 0 and ExportRun.objects.get().rows == 3


def test_ticked_rows_travel_in_one_field(browse, manager):
    clients = [factories.make_client(name) for name in ("Alice", "Bob", "Charlie")]
    ticked = [client.pk for client in clients[:2]]
    browser = browse(manager)
    page = browser.post(CLIENTS, {"action": "export_admin_action", "_selected_action": ticked})
    keys = page.context["form"].initial["selected"]
    assert sorted(keys.split(",")) == sorted(map(str, ticked))
    assert page.context["rows"] == 2
    rows = csv_rows(browser.post(page.context["export_url"], chosen(selected=keys)).content)
    assert sorted(row["Full name"] for row in rows) == ["Alice", "Bob"]


def test_all_rows_of_the_list_selected_means_the_filtered_list(browse, manager):
    first = factories.make_client("Alice", citizenship="CZ")
    factories.make_client("Bob", citizenship="CZ")
    factories.make_client("Charlie", citizenship="SK")
    browser = browse(manager)
    action = {"action": "export_admin_action", "_selected_action": [first.pk], "select_across": "1"}
    page = browser.post(f"{CLIENTS}?citizenship=CZ", action)
    assert page.context["form"].initial["selected"] == ""
    rows = csv_rows(browser.post(page.context["export_url"], chosen()).content)
    assert sorted(row["Full name"] for row in rows) == ["Alice", "Bob"]


def test_a_selection_of_1001_rows_is_exported(browse, manager, monkeypatch):
    monkeypatch.setattr(pages, "MOST_ROWS", 1001)
    Client.objects.bulk_create(Client(full_name=f"Client {number}") for number in range(1001))
    keys = ",".join(map(str, Client.objects.values_list("pk", flat=True)))
    response = browse(manager).post(EXPORT, chosen(selected=keys))
    assert len(csv_rows(response.content)) == 1001


@override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=1000)
def test_the_plain_package_fails_from_the_thousandth_selected_row_on(browse, administrator, rf):
    response = browse(administrator).post(EXPORT, {"format": CSV, "export_items": list(range(1001))})
    assert response.status_code == 400


class PlainAdmin(ExportMixin, admin.ModelAdmin):
    pass


class PlainActionAdmin(ExportActionModelAdmin):
    pass


@override_settings(IMPORT_EXPORT_EXPORT_PERMISSION_CODE=None)
def test_the_plain_package_gives_every_client_decrypted_to_staff_without_any_permission(rf, db):
    factories.make_client("Alice Nováková", birth_number="7801233540")
    nobody = factories.make_user(username="nobody")
    nobody.groups.clear()
    request = rf.post("/", {"format": "0", "clientresource_full_name": "on", "clientresource_birth_number": "on"})
    request.user = type(nobody).objects.get(pk=nobody.pk)
    assert not request.user.get_all_permissions()
    response = PlainAdmin(Client, admin.site).export_action(request)
    assert isinstance(response, HttpResponse)
    assert "Alice Nováková" in response.content.decode()


@pytest.mark.parametrize("model", ["lender", "step", "documenttype", "regulatorylimit"])
def test_a_catalogue_is_exported_by_managers_only(browse, manager, adviser, model):
    factories.make_catalogue()
    url = reverse(f"admin:crm_{model}_export")
    browser = browse(manager)
    name = browser.get(url).context["form"].fields["columns"].choices[0][0]
    assert csv_rows(browser.post(url, chosen(name)).content)
    assert browse(adviser).get(url).status_code == 403


def test_the_permissions_are_there_to_be_given(db):
    codes = Permission.objects.filter(content_type__app_label="crm").values_list("codename", flat=True)
    assert {"export_client", "export_case", "import_client", "import_case"} <= set(codes)


def test_the_cases_list_exports_too(browse, manager):
    case = factories.make_case(adviser=manager)
    response = browse(manager).post(reverse("admin:crm_case_export"), chosen("status"))
    [row] = csv_rows(response.content)
    assert row.pop("Row version") == f"E{ExportRun.objects.get().pk}-{case.history.first().history_id}"
    assert row == {"Reference": case.reference, "Client": case.client.reference, "Status": "Open"}
    assert Case.objects.count() == 1
