"""Preview, confirmation and result as a manager meets them; long files, repeated ones, and the list of imports."""

import datetime
import threading
import uuid

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client as Browser
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import imports, roles, values
from crm.admin import import_runs
from crm.admin import imports as pages
from crm.audit import undo, undo_runs
from crm.choices import RunState
from crm.imports import runs
from crm.models import AuditEntry, Case, Client, ImportRun, User
from crm.tests import factories
from crm.tests.admin.importing import (
    BAD,
    GOOD,
    HEADER,
    UPLOAD,
    csv_file,
    database_dump,
    upload,
    url,
    work,
)
from crm.tests.exports.reading import export

PAGES = (
    "import_preview", "import_progress", "import_columns", "import_result", "import_refused_rows", "import_problems",
    "import_refused_book",
)  # fmt: skip
POSTED = ("import_preview", "import_cancel", "import_again", "import_columns", "import_cells")


def test_the_preview_shows_every_problem_of_every_row_and_writes_nothing(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD, BAD, "Eva Bez;;-5;;nikdy"))
    content = page.content.decode()
    found = {(problem.row, problem.column) for problem in page.context["problems"] if problem.is_error}
    assert found == {(3, "cena"), (4, "cena"), (4, "datum")}
    assert all(problem.reason in content for problem in page.context["problems"])
    assert [number for _label, number in page.context["counts"]] == [1, 0, 0, 0, 2]
    assert "asi milion" in content
    assert "Jana Bílá" in content
    assert Client.objects.count() == 0


def test_the_preview_says_how_the_file_was_read(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD))
    assert "CSV, UTF-8, separated by semicolons." in page.content.decode()
    assert page.context["notices"] == []


def test_a_confirmation_writes_the_good_rows(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    response = browser.post(upload(browser, GOOD, BAD), {"mode": "good"})
    [client] = Client.objects.all()
    run = ImportRun.objects.get()
    assert (client.full_name, response["Location"]) == ("Jana Bílá", url("import_result", run))
    assert (run.state, run.created_count, run.error_count) == (RunState.DONE, 1, 1)


def test_all_or_nothing_writes_nothing_while_a_row_is_refused(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    page = browser.post(upload(browser, GOOD, BAD), {"mode": "all"}, follow=True)
    assert "Nothing was written, since some rows are refused." in page.content.decode()
    assert (Client.objects.count(), ImportRun.objects.get().created_count) == (0, 0)


def test_all_or_nothing_writes_all_when_none_is_refused(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "all"})
    assert Client.objects.count() == 1


def test_only_a_post_writes(browse, manager):
    browser = browse(manager)
    browser.get(upload(browser, GOOD), {"mode": "good"})
    assert Client.objects.count() == 0


def test_the_result_counts_and_links_what_was_written(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    page = browser.post(upload(browser, GOOD, BAD), {"mode": "good"}, follow=True)
    content = page.content.decode()
    assert [number for _label, number in page.context["counts"]] == [1, 0, 0, 0, 1]
    assert reverse("admin:crm_client_change", args=[Client.objects.get().pk]) in content
    assert reverse("admin:crm_case_change", args=[Case.objects.get().pk]) in content


def test_the_refused_rows_download_as_they_came_with_the_reason(browse, manager):
    browser = browse(manager)
    upload(browser, GOOD, BAD)
    response = browser.get(url("import_refused_rows", ImportRun.objects.get()))
    header, row, end = response.content.decode("utf-8-sig").split("\r\n")
    assert (header, end) == (f"{HEADER};problem", "")
    assert row.startswith(f"{BAD};")


def test_the_problems_download_after_the_import(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD, BAD), {"mode": "good"})
    response = browser.get(url("import_problems", ImportRun.objects.get()))
    assert response["Content-Disposition"] == 'attachment; filename="import-problems.csv"'
    assert "3;cena;asi milion;" in response.content.decode("utf-8-sig")


def test_files_of_problems_speak_the_readers_language(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD, BAD), {"mode": "good"})
    User.objects.filter(pk=manager.pk).update(language="cs")
    problems, refused = (
        browser.get(url(page, ImportRun.objects.get())) for page in ("import_problems", "import_refused_rows")
    )
    assert problems.content.decode("utf-8-sig").splitlines()[0] == "řádek;sloupec;hodnota;problém"
    assert problems["Content-Disposition"] == 'attachment; filename="problemy-importu.csv"'
    assert refused["Content-Disposition"] == 'attachment; filename="odmitnute-radky.csv"'


def test_a_confirmation_works_once(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD)
    browser.post(preview, {"mode": "good"})
    again = browser.post(preview, {"mode": "good"}, follow=True)
    assert Client.objects.count() == 1
    assert again.redirect_chain[-1][0] == url("import_result", ImportRun.objects.get())


@pytest.mark.django_db(transaction=True)
def test_of_two_confirmations_at_once_one_wins():
    roles.sync()
    factories.make_catalogue()
    manager = factories.make_user(roles.MANAGER)
    browsers = [Browser(), Browser()]
    for browser in browsers:
        browser.force_login(manager)
    preview = upload(browsers[0], GOOD)
    start, pages_seen = threading.Barrier(2), []

    def confirm(browser):
        start.wait()
        pages_seen.append(browser.post(preview, {"mode": "good"})["Location"])
        connections.close_all()

    threads = [threading.Thread(target=confirm, args=[browser]) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (Client.objects.count(), Case.objects.count()) == (1, 1)
    assert len(pages_seen) == 2


@pytest.mark.parametrize(("minutes", "written"), [(24 * 60 - 1, 1), (24 * 60 + 1, 0)])
def test_a_file_waits_a_day(browse, manager, minutes, written):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD)
    with time_machine.travel(timezone.now() + datetime.timedelta(minutes=minutes)):
        browser = browse(manager)  # a session is shorter
        page = browser.post(preview, {"mode": "good"}, follow=True)
    assert Client.objects.count() == written
    assert ("Upload the file again" in page.content.decode()) == (written == 0)


def test_a_file_that_nobody_confirmed_is_forgotten_at_the_next_upload(browse, manager, administrator):
    browser = browse(manager)
    upload(browser, GOOD)
    with time_machine.travel(timezone.now() + datetime.timedelta(hours=25)):
        upload(browse(administrator), GOOD)
    assert [(run.state, run.pieces.exists()) for run in ImportRun.objects.order_by("pk")] == [
        ("missed", False),
        ("checked", True),
    ]


def test_two_files_wait_beside_each_other(browse, manager):
    browser = browse(manager)
    previews = [upload(browser, GOOD), upload(browser, BAD)]
    assert [browser.get(preview).status_code for preview in previews] == [200, 200]


def test_the_file_is_gone_after_the_import(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD)
    run = ImportRun.objects.get()
    assert set(run.pieces.values_list("part", flat=True)) == {"file", "rows", "index"}
    browser.post(preview, {"mode": "good"})
    assert run.pieces.filter(part="file").count() == 0


def test_a_waiting_file_is_nowhere_in_the_clear(browse, manager):
    browser = browse(manager)
    upload(browser, "Zvláštní Značkovaná;mark@example.com;5;4;1.2.2026", BAD)
    dump = database_dump()
    assert "mark@example.com" not in dump
    assert "asi milion" not in dump
    assert "bWFyaw" not in dump  # base64 of "mark"


def test_no_temporary_file_is_made(browse, manager, monkeypatch):
    factories.make_catalogue()
    browser = browse(manager)
    monkeypatch.setattr("tempfile._mkstemp_inner", lambda *args, **kwargs: pytest.fail("a temporary file"))
    browser.post(upload(browser, GOOD), {"mode": "good"})
    assert Client.objects.count() == 1


@pytest.mark.parametrize("role", [roles.ADVISER, roles.ASSISTANT, roles.AUDITOR])
@pytest.mark.parametrize("model", ["client", "case"])
def test_whoever_may_not_import_finds_no_door(browse, manager, role, model):
    run = imports.begin(csv_file(GOOD).read(), "x.csv", manager)
    browser = browse(factories.make_user(role))
    listed = browser.get(reverse(f"admin:crm_{model}_changelist"))
    assert reverse(f"admin:crm_{model}_import") not in listed.content.decode()
    assert browser.get(reverse(f"admin:crm_{model}_import")).status_code == 403
    assert browser.post(reverse(f"admin:crm_{model}_import"), {"file": csv_file(GOOD)}).status_code == 403
    for page in PAGES:
        assert browser.get(reverse(f"admin:crm_{model}_{page}", args=[run.token])).status_code == 403
    for page in POSTED:
        assert browser.post(reverse(f"admin:crm_{model}_{page}", args=[run.token])).status_code == 403


def test_a_manager_finds_the_button(browse, manager):
    assert UPLOAD in browse(manager).get(reverse("admin:crm_client_changelist")).content.decode()


def test_somebody_elses_upload_does_not_exist(browse, manager, administrator):
    upload(browse(administrator), GOOD)
    run = ImportRun.objects.get()
    browser = browse(manager)
    for page in PAGES:
        assert browser.get(url(page, run)).status_code == 404
    for page in POSTED:
        assert browser.post(url(page, run), {"mode": "good"}).status_code == 404
    assert browser.get(reverse("admin:crm_client_import_preview", args=[uuid.uuid4()])).status_code == 404
    assert Client.objects.count() == 0


def test_a_file_with_cases_needs_the_permission_for_cases(browse, manager):
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["view_client", "import_client"]))
    response = browse(manager).post(UPLOAD, {"file": csv_file(GOOD)})
    assert "Your role does not allow this." in response.content.decode()
    assert not ImportRun.objects.exists()


def test_a_text_of_the_file_is_never_markup(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, "<script>alert(1)</script>;x@example.com;<i>x</i>;1;1.2.2026"))
    assert "<script>alert(1)</script>" not in page.content.decode()
    assert "&lt;i&gt;x&lt;/i&gt;" in page.content.decode()


def test_a_refused_row_is_shown_with_its_name(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD, BAD))
    assert [row.who for row in page.context["rows"]] == ["Jana Bílá", "Petr Zlý"]


def test_an_update_shows_what_changes(browse, manager):
    client = factories.make_client("Alice Nováková", email="alice@example.com")
    content = export(Client.objects.all(), "csv").replace(b"alice@example.com", b"new@example.com")
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})["Location"]
    [row] = browser.get(preview).context["rows"]
    assert row.who == f"Alice Nováková ({client.reference})"
    assert [(each["label"], each["before"], each["now"]) for each in row.changes] == [
        ("E-mail", "alice@example.com", "new@example.com")
    ]
    assert client.email == "alice@example.com"


def test_what_changed_since_the_preview_is_shown_again_before_it_is_written(browse, manager):
    client = factories.make_client("Alice Nováková", email="alice@example.com")
    content = f"Reference;E-mail\r\n{client.reference};new@example.com\r\n".encode()
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})["Location"]
    Client.objects.filter(pk=client.pk).update(email="third@example.com")
    page = browser.post(preview, {"mode": "good"}, follow=True)
    assert "Look at the rows again" in page.content.decode()
    assert page.context["rows"][0].changes[0]["before"] == "third@example.com"
    browser.post(preview, {"mode": "good"})
    assert Client.objects.get().email == "new@example.com"


@override_settings(ADVISER_SCOPE="own")
def test_a_foreign_row_is_neither_shown_nor_overwritten(browse, adviser):
    adviser.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    foreign = factories.make_case(factories.make_client("Foreign Person"), adviser=factories.make_user()).client
    content = f"Reference;Full name\r\n{foreign.reference};Taken Over\r\n".encode()
    browser = browse(adviser)
    preview = browser.post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})["Location"]
    page = browser.get(preview)
    assert "Foreign Person" not in page.content.decode()
    assert [number for _label, number in page.context["counts"]] == [0, 0, 0, 0, 1]
    browser.post(preview, {"mode": "good"})
    foreign.refresh_from_db()
    assert foreign.full_name == "Foreign Person"


def test_an_import_writes_history_for_every_row_under_one_operation(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD, GOOD.replace("Jana", "Hana").replace("jana", "hana")), {"mode": "good"})
    written = Client.history.filter(operation_id=ImportRun.objects.get().operation_id)
    assert written.count() == 2
    assert {(row.source, row.history_user_id) for row in written} == {("import", manager.pk)}


def test_the_preview_costs_the_same_number_of_queries_for_ten_rows_and_twenty(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)

    def queries(rows):
        preview = upload(browser, *[f"Jan Řádek{n};jan{n}@example.com;5;4;1.2.2026" for n in range(rows)])
        with CaptureQueriesContext(connection) as found:
            browser.get(preview)
        return len(found)

    assert queries(10) == queries(20)


@pytest.fixture
def long_files(monkeypatch):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 1)


def test_a_long_file_shows_how_far_it_is_until_there_is_a_preview(browse, manager, long_files):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    run = ImportRun.objects.get()
    assert "The file waits for a worker." in browser.get(preview).content.decode()
    assert "HX-Refresh" not in browser.get(url("import_progress", run)).headers
    work(run)
    assert browser.get(url("import_progress", run)).headers["HX-Refresh"] == "true"
    assert [number for _label, number in browser.get(preview).context["counts"]] == [1, 0, 0, 0, 1]
    assert browser.post(preview, {"mode": "good"})["Location"] == preview
    assert Client.objects.count() == 0
    assert work(run).state == "done"
    assert browser.get(preview)["Location"] == url("import_result", run)


def test_a_long_import_is_cancelled_and_checked_again(browse, manager, long_files):
    browser = browse(manager)
    upload(browser, GOOD, BAD)
    run = ImportRun.objects.get()
    page = browser.post(url("import_cancel", run), follow=True)
    assert "Nothing was written. Cancelled." in page.content.decode()
    browser.post(url("import_again", run))
    assert work(run).state == "checked"


def test_the_preview_is_paged_and_filtered(browse, manager, monkeypatch):
    monkeypatch.setattr(pages, "PER_PAGE", 2)
    browser = browse(manager)
    preview = upload(browser, *[f"Jan Řádek{n};jan{n}@example.com;5;4;1.2.2026" for n in range(3)], BAD)
    shown = [[row.number for row in browser.get(f"{preview}?{query}").context["rows"]] for query in ("", "p=2")]
    assert shown == [[2, 3], [4, 5]]
    page = browser.get(f"{preview}?show=error")
    assert [row.number for row in page.context["rows"]] == [5]
    assert [(each["value"], each["count"]) for each in page.context["filters"]] == [
        ("", "4"), ("create", "3"), ("error", "1"), ("noted", "1"),
    ]  # fmt: skip
    assert [row.number for row in browser.get(f"{preview}?show=nonsense").context["rows"]] == [2, 3]


def test_a_preview_is_read_from_the_database_and_checks_nothing(browse, manager, monkeypatch):
    browser = browse(manager)
    preview = upload(browser, GOOD)
    monkeypatch.setattr(runs, "check_file", lambda *args, **kwargs: pytest.fail("checked again"))
    assert browser.get(preview).status_code == 200


def test_a_repeated_file_is_recognised_with_a_link_to_what_it_wrote(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "good"})
    first = ImportRun.objects.get()
    page = browser.get(upload(browser, GOOD)).content.decode()
    assert "The same file was imported already" in page
    assert url("import_result", first) in page


def test_a_repeated_file_whose_import_was_undone_is_said_to_be_so(browse, manager, administrator):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "good"})
    result = url("import_result", first := ImportRun.objects.get())
    undo.undo(first.operation_id, administrator)
    entry = AuditEntry.objects.get(kind="undo")
    said = f"{administrator} undid that import on {values.moment(entry.at)}"
    page = browser.get(upload(browser, GOOD))
    assert said in page.content.decode()
    assert dict(page.context["counts"])["New"] == 1
    assert said in browser.get(result).content.decode()
    undo.undo(entry.operation_id, administrator)
    for address in (upload(browser, GOOD), result):
        assert "undid that import" not in browser.get(address).content.decode()


def test_who_sees_his_own_alone_is_not_told_who_undid_the_import(browse, manager, administrator):
    factories.make_catalogue()
    run = imports.confirm(imports.begin(csv_file(GOOD).read(), "clients.csv", administrator), administrator)
    undo.undo(run.operation_id, administrator)
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    with override_settings(ADVISER_SCOPE="own"):
        browser = browse(manager)
        page = browser.get(upload(browser, GOOD)).content.decode()
    assert "That import was undone on" in page and str(administrator) not in page


def test_somebody_elses_import_of_the_file_is_said_without_a_link(browse, manager, administrator):
    factories.make_catalogue()
    run = imports.confirm(imports.begin(csv_file(GOOD).read(), "clients.csv", administrator), administrator)
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    with override_settings(ADVISER_SCOPE="own"):
        browser = browse(manager)
        page = browser.get(upload(browser, GOOD)).content.decode()
    assert "The same file was imported already" in page
    assert url("import_result", run) not in page


def test_the_list_of_imports_leads_to_result_operation_and_undo(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "good"})
    run = ImportRun.objects.get()
    waiting = ImportRun.objects.get(token=upload(browser, GOOD).rstrip("/").rpartition("/")[2])
    listed = browser.get(reverse("admin:crm_importrun_changelist")).content.decode()
    assert url("import_result", run) in listed
    assert url("import_preview", waiting) in listed
    assert [import_runs.written("created_count")(None, each) for each in (run, waiting)] == [1, "–"]
    page = browser.get(reverse("admin:crm_importrun_change", args=[run.pk])).content.decode()
    assert reverse("admin:crm_operation", args=[run.operation_id]) in page
    assert reverse("admin:crm_operation_undo", args=[run.operation_id]) in page


def test_a_result_says_that_its_import_is_being_undone(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "good"})
    run = ImportRun.objects.get()
    assert "Undo the import" in browser.get(url("import_result", run)).content.decode()
    undo_runs.order(run.operation_id, manager)
    page = browser.get(url("import_result", run)).content.decode()
    assert "Is being undone in the background" in page and "Undo the import" not in page


def test_who_sees_all_imports_but_imports_nothing_finds_no_link_to_their_pages(browse, manager):
    run = imports.confirm(imports.begin(csv_file(GOOD).read(), "clients.csv", manager), manager)
    browser = browse(factories.make_user(roles.AUDITOR))
    for page in ("changelist", "change"):
        args = [run.pk] if page == "change" else []
        response = browser.get(reverse(f"admin:crm_importrun_{page}", args=args))
        assert response.status_code == 200
        assert url("import_result", run) not in response.content.decode()
