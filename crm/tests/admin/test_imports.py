"""Upload, preview, confirmation and result as a manager meets them; and what the plain package does instead."""

import datetime
import threading
import uuid
from urllib.parse import urlencode

import pytest
import tablib
import time_machine
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client as Browser
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from import_export import resources
from import_export.admin import ImportMixin

from crm import imports, jobs, roles, tasks
from crm.admin import import_runs
from crm.admin import imports as pages
from crm.choices import RunState
from crm.encryption import encrypt_bytes
from crm.imports import runs
from crm.models import Case, Client, ImportRun, User
from crm.tests import factories
from crm.tests.exports.reading import export

UPLOAD = reverse("admin:crm_client_import")
HEADER = "jmeno;email;cena;navrh_financovani_castka;datum"
GOOD = "Jana Bílá;jana@example.com;5 000 000;4 000 000;1.2.2026"
PAGES = (
    "import_preview", "import_progress", "import_columns", "import_result", "import_refused_rows", "import_problems",
    "import_refused_book",
)  # fmt: skip
POSTED = ("import_preview", "import_cancel", "import_again", "import_columns", "import_cells")
BAD = "Petr Zlý;petr@example.com;asi milion;1;1.2.2026"


@pytest.fixture
def browse(client):
    def as_user(user):
        User.objects.filter(pk=user.pk).update(language="en")
        client.force_login(user)
        return client

    return as_user


def csv_file(*rows, name="clients.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "\r\n".join([HEADER, *rows, ""]).encode())


def database_dump() -> str:
    """Every row of every table, as the database gives them."""
    with connection.cursor() as cursor:
        found = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += map(repr, cursor.fetchall())
    return "\n".join(found)


def upload(browser, *rows, **kwargs):
    """The preview's address."""
    response = browser.post(UPLOAD, {"file": csv_file(*rows, **kwargs)})
    assert response.status_code == 302, response.context["form"].errors
    return response["Location"]


def url(page: str, run: ImportRun) -> str:
    return reverse(f"admin:crm_client_{page}", args=[run.token])


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


@override_settings(UPLOAD_LIMIT_MB=0)
def test_a_file_that_is_too_large_is_refused(browse, manager):
    response = browse(manager).post(UPLOAD, {"file": csv_file(GOOD)})
    assert "The file is too large" in response.content.decode()


@override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=10)
def test_a_file_that_django_does_not_take_into_memory_is_too_large(browse, manager):
    response = browse(manager).post(UPLOAD, {"file": csv_file(GOOD)})
    assert "The file is too large" in response.content.decode()


LONG_PASTE = "jmeno\n" + "Jan\n" * 1_000_000


@pytest.fixture
def strict(manager):
    """A browser whose forms need their token, as a person's do."""
    User.objects.filter(pk=manager.pk).update(language="en")
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(manager)
    return browser


def token(browser) -> str:
    return browser.get(UPLOAD).context["csrf_token"]


@pytest.mark.parametrize("kind", [{}, {"content_type": "application/x-www-form-urlencoded"}])
def test_more_than_a_form_takes_is_told_on_the_form_with_the_cure(strict, kind):
    sent = {"csrfmiddlewaretoken": token(strict), "empty_deletes": "", "text": LONG_PASTE}
    response = strict.post(UPLOAD, urlencode(sent) if kind else sent, **kind)
    assert response.status_code == 200
    assert response.context["form"].errors == {
        "text": ["At most 2.5 MB can be pasted. Save the rows as XLSX or CSV, and choose that file."]
    }
    assert not ImportRun.objects.exists() and token(strict)


def test_as_much_as_a_form_takes_is_taken(strict):
    text = "jmeno\n" + "Jan\n" * 10 + "\n" * 2_600_000
    assert strict.post(UPLOAD, {"csrfmiddlewaretoken": token(strict), "text": text}).status_code == 302


def test_an_upload_without_the_forms_token_is_refused(strict):
    assert strict.post(UPLOAD, {"file": csv_file(GOOD)}).status_code == 403
    assert strict.post(UPLOAD, {"csrfmiddlewaretoken": token(strict), "file": csv_file(GOOD)}).status_code == 302


def test_a_long_paste_of_a_stranger_is_not_read(client, assistant):
    assert client.post(UPLOAD, {"text": LONG_PASTE})["Location"].startswith(reverse("admin:login"))
    client.force_login(assistant)
    assert client.post(UPLOAD, {"text": LONG_PASTE}).status_code == 403


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"<html>", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_file_that_is_no_spreadsheet_is_an_error_on_the_form(browse, manager, content):
    response = browse(manager).post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})
    assert response.status_code == 200
    assert response.context["form"].errors["file"]
    assert not ImportRun.objects.exists()


def test_the_browsers_file_name_is_a_label_only(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD, name="../../<b>evil</b>.csv"))
    assert "<b>evil</b>" not in page.content.decode()


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


class PlainAdmin(ImportMixin, admin.ModelAdmin):
    pass


@override_settings(IMPORT_EXPORT_IMPORT_PERMISSION_CODE=None)
def test_the_plain_package_lets_staff_without_any_permission_import(rf, db):
    nobody = factories.make_user()
    nobody.groups.clear()
    request = rf.get("/")
    request.user = User.objects.get(pk=nobody.pk)
    assert not request.user.get_all_permissions()
    assert PlainAdmin(Client, admin.site).import_action(request).status_code == 200


class PlainResource(resources.ModelResource):
    class Meta:
        model = Client
        import_id_fields = ["reference"]
        fields = ["reference", "full_name"]


class PlainBulkResource(PlainResource):
    class Meta(PlainResource.Meta):
        use_bulk = True


def plain_import(resource, client) -> None:
    table = tablib.Dataset([client.reference, "Taken Over"], headers=["reference", "full_name"])
    assert not resource().import_data(table).has_errors()


@override_settings(ADVISER_SCOPE="own")
def test_the_plain_package_overwrites_a_foreign_row(adviser):
    foreign = factories.make_case(factories.make_client("Foreign Person"), adviser=factories.make_user()).client
    assert not Client.objects.visible_to(adviser).exists()
    plain_import(PlainResource, foreign)
    foreign.refresh_from_db()
    assert foreign.full_name == "Taken Over"


def test_even_the_plain_packages_bulk_leaves_its_history_row(db):
    client = factories.make_client("Alice Nováková")
    before = client.history.count()
    plain_import(PlainBulkResource, client)
    client.refresh_from_db()
    assert (client.full_name, client.history.count()) == ("Taken Over", before + 1)


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


# --- Long files ---


@pytest.fixture
def long_files(monkeypatch):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 1)


def work(run: ImportRun) -> ImportRun:
    jobs.carry_out(ImportRun.objects.get(pk=run.pk).job_id, tasks.JOBS)
    return ImportRun.objects.get(pk=run.pk)


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


def test_a_probable_duplicate_is_counted_and_found(browse, manager):
    factories.make_client("Jana Bílá", email="jana@example.com")
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    page = browser.get(f"{preview}?show=duplicate")
    assert dict(page.context["counts"])["Probable duplicates"] == 1
    assert [row.number for row in page.context["rows"]] == [2]


def test_whoever_may_not_read_clients_sees_no_stored_value(browse, manager):
    client = factories.make_client("Alice Nováková", email="alice@example.com")
    content = export(Client.objects.all(), "csv").replace(b"alice@example.com", b"new@example.com")
    preview = browse(manager).post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})["Location"]
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    page = browse(manager).get(preview)
    assert page.context["rows"][0].changes[0]["before"] == "•••"
    assert client.email not in page.content.decode()
    page = browse(manager).get(browse(manager).post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})["Location"])
    assert (page.context["rows"][0].changes, client.email in page.content.decode()) == ([], False)


# --- A file that was imported before; the list of imports ---


def test_a_repeated_file_is_recognised_with_a_link_to_what_it_wrote(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD), {"mode": "good"})
    first = ImportRun.objects.get()
    page = browser.get(upload(browser, GOOD)).content.decode()
    assert "The same file was imported already" in page
    assert url("import_result", first) in page


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


def test_who_sees_all_imports_but_imports_nothing_finds_no_link_to_their_pages(browse, manager):
    run = imports.confirm(imports.begin(csv_file(GOOD).read(), "clients.csv", manager), manager)
    browser = browse(factories.make_user(roles.AUDITOR))
    for page in ("changelist", "change"):
        args = [run.pk] if page == "change" else []
        response = browser.get(reverse(f"admin:crm_importrun_{page}", args=args))
        assert response.status_code == 200
        assert url("import_result", run) not in response.content.decode()


# --- Columns that nobody knows ---

UNKNOWN = "jmeno;Mail klienta;Poznámky navíc\r\nJana Bílá;jana@example.com;x\r\n"


def upload_unknown(browser, text=UNKNOWN):
    response = browser.post(UPLOAD, {"text": text})
    assert response.status_code == 302, response.context["form"].errors
    return response["Location"], ImportRun.objects.latest("pk")


def test_columns_that_nobody_knows_are_asked_for_and_remembered(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview, run = upload_unknown(browser)
    page = browser.get(preview, follow=True)
    assert page.redirect_chain[-1][0] == url("import_columns", run)
    assert [(header, samples) for header, samples, _field in page.context["lines"]] == [
        ("Mail klienta", ["jana@example.com"]),
        ("Poznámky navíc", ["x"]),
    ]
    page = browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": ""}, follow=True)
    assert page.context["said"] == [("Mail klienta", "E-mail"), ("Poznámky navíc", "")]
    browser.post(preview, {"mode": "good"})
    assert Client.objects.get().email == "jana@example.com"
    _preview, run = upload_unknown(browser, UNKNOWN.replace("Jana", "Hana").replace("Mail klienta", "MAIL Klienta"))
    assert (run.state, run.created_count) == ("checked", 1)
    page = browser.get(UPLOAD)
    assert page.context["remembered"] == [("Mail klienta", "E-mail"), ("Poznámky navíc", "")]
    browser.post(reverse("admin:crm_client_import_forget"))
    assert upload_unknown(browser)[1].state == "uploaded"


def test_a_file_without_a_known_column_of_names_is_asked_for_it(browse, manager):
    browser = browse(manager)
    _preview, run = upload_unknown(browser, "Zákazník\r\nJana Bílá\r\n")
    assert run.state == "uploaded"
    page = browser.post(url("import_columns", run), {"column-0": ""}, follow=True)
    assert "No column holds the clients" in page.content.decode()
    page = browser.post(url("import_columns", run), {"column-0": "client.full_name"}, follow=True)
    assert page.context["rows"][0].who == "Jana Bílá"


def test_two_columns_cannot_hold_one_field(browse, manager):
    browser = browse(manager)
    _preview, run = upload_unknown(browser)
    page = browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": "client.email"})
    assert "Another column is to hold this already." in page.content.decode()
    run.refresh_from_db()
    assert run.state == "uploaded"


def test_what_one_person_said_of_columns_is_nobody_elses(browse, manager, administrator):
    browser = browse(manager)
    _preview, run = upload_unknown(browser)
    browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": ""})
    assert upload_unknown(browse(administrator))[1].state == "uploaded"


def test_headers_and_samples_are_nowhere_in_the_clear(browse, manager):
    browser = browse(manager)
    _preview, run = upload_unknown(browser)
    browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": ""})
    dump = database_dump()
    assert "Mail klienta" not in dump
    assert "mailklienta" not in dump


# --- Pasted rows, and cells put right in the page ---


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_rows_are_pasted_from_a_spreadsheet(browse, manager, delimiter):
    factories.make_catalogue()
    browser = browse(manager)
    text = "\r\n".join(row.replace(";", delimiter) for row in (HEADER, GOOD))
    preview, run = upload_unknown(browser, text)
    assert run.file_name == "pasted rows"
    browser.post(preview, {"mode": "good"})
    assert Client.objects.get().full_name == "Jana Bílá"


@pytest.mark.parametrize("data", [{}, {"text": "  \r\n"}])
def test_neither_file_nor_rows_is_an_error(browse, manager, data):
    assert browse(manager).post(UPLOAD, data).context["form"].errors["file"]


def test_a_file_and_rows_are_an_error(browse, manager):
    page = browse(manager).post(UPLOAD, {"file": csv_file(GOOD), "text": "x"})
    assert page.context["form"].errors["text"]


def test_cells_of_refused_rows_are_put_right_in_the_page(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD, "Eva Bez;;-5;;nikdy")
    run = ImportRun.objects.get()
    names = [(cell["name"], cell["value"]) for row in browser.get(preview).context["rows"] for cell in row.cells]
    assert names == [("cell-3-2", "asi milion"), ("cell-4-2", "-5"), ("cell-4-4", "nikdy")]
    page = browser.post(url("import_cells", run), {**dict(names), "cell-3-2": "1 000 000"}, follow=True)
    assert [number for _label, number in page.context["counts"]] == [2, 0, 0, 0, 1]
    browser.post(url("import_cells", run), {"cell-4-2": "5"})
    assert "Eva Bez;;5;;nikdy;" in browser.get(url("import_refused_rows", run)).content.decode("utf-8-sig")
    browser.post(preview, {"mode": "good"})
    assert sorted(int(case.property_price_czk) for case in Case.objects.all()) == [1_000_000, 5_000_000]
    assert "Eva Bez;;5;;nikdy;" in browser.get(url("import_refused_rows", run)).content.decode("utf-8-sig")
    assert "1 000 000" not in database_dump()


def test_only_bad_cells_of_refused_rows_are_put_right(browse, manager):
    browser = browse(manager)
    upload(browser, GOOD, BAD)
    run = ImportRun.objects.get()
    page = browser.post(url("import_cells", run), {"cell-2-0": "Else", "cell-3-0": "Else", "cell-x": "1"}, follow=True)
    assert "Nothing was changed." in page.content.decode()


def test_a_token_is_no_cell(browse, manager):
    browser = browse(manager)
    upload(browser, BAD)
    token = encrypt_bytes(b"x").decode()
    page = browser.post(url("import_cells", ImportRun.objects.get()), {"cell-2-2": token}, follow=True)
    assert "looks like an encrypted value" in page.content.decode()


# --- Rows that are probably about somebody known ---


@pytest.mark.parametrize(
    ("known", "row"),
    [
        ({"birth_number": "8503191235"}, "Jana Jiná;;850319/1235;"),
        ({"email": "jana@example.com"}, "Jana Bílá;jana@example.com;;"),
        ({"birth_date": datetime.date(1985, 3, 19)}, "Jana Bílá;;;19.3.1985"),
    ],
)
def test_what_identifies_a_known_client_is_proposed(manager, known, row):
    client = factories.make_client("Jana Bílá", **known)
    content = f"jmeno;email;rodne cislo;datum narození\r\n{row}\r\n".encode()
    [problem] = [each for each in imports.check(content, "x.csv", manager).problems if each.kind == "duplicate"]
    assert (problem.about, "Probably" in problem.reason) == (client.reference, True)


@pytest.mark.parametrize(("choice", "clients", "cases"), [("", 2, 1), ("skip", 1, 0), ("C", 1, 1), ("case:C", 1, 1)])
def test_what_becomes_of_a_probable_duplicate_is_chosen(browse, manager, choice, clients, cases):
    factories.make_catalogue()
    known = factories.make_client("Jana Bílá", email="jana@example.com")
    browser = browse(manager)
    preview = upload(browser, GOOD)
    [row] = browser.get(preview).context["rows"]
    assert [each["value"] for each in row.choices] == ["", "skip", known.reference, f"case:{known.reference}"]
    assert [each["label"] for each in row.choices][2:] == [
        f"It is {known.reference}: update this client",
        f"Only give the case to {known.reference}",
    ]
    chosen = choice.replace("C", known.reference)
    page = browser.post(url("import_cells", ImportRun.objects.get()), {"row-2": chosen}, follow=True)
    assert [each["value"] for each in page.context["rows"][0].choices if each["is_chosen"]] == [chosen]
    browser.post(preview, {"mode": "good"})
    assert (Client.objects.count(), Case.objects.count()) == (clients, cases)
    assert Case.objects.filter(client=known).count() == choice.endswith("C")


def test_no_case_is_given_to_a_client_that_was_not_proposed(browse, manager):
    other = factories.make_client("Somebody Else")
    factories.make_client("Jana Bílá", email="jana@example.com")
    browser = browse(manager)
    upload(browser, GOOD)
    run = ImportRun.objects.get()
    page = browser.post(url("import_cells", run), {"row-2": other.reference}, follow=True)
    assert "Nothing was changed." in page.content.decode()


def test_probable_duplicates_are_left_out_together_but_for_those_decided_one_by_one(browse, manager):
    factories.make_catalogue()
    known = factories.make_client("Jana Bílá", email="jana@example.com")
    factories.make_client("Eva Nová", email="eva@example.com")
    browser = browse(manager)
    preview = upload(browser, GOOD, "Eva Nová;eva@example.com;5;4;1.2.2026", "Ivan Sám;;5;4;1.2.2026")
    browser.post(url("import_cells", ImportRun.objects.get()), {"row-2": known.reference})
    browser.post(preview, {"mode": "good", "duplicates": "skip"})
    run = ImportRun.objects.get()
    assert (run.created_count, run.skipped_count, Client.objects.count(), known.cases.count()) == (2, 1, 3, 1)


# --- Cells that the office changed too since the file was made ---

SAID, WROTE, FILED = "alice@example.com", "office@example.com", "file@example.com"


def conflicting(*names):
    """A file of clients whose e-mail both the file and the office changed since it was exported."""
    clients = [factories.make_client(name, email=SAID) for name in names]
    content = export(Client.objects.order_by("pk"), "csv").replace(SAID.encode(), FILED.encode())
    for client in clients:
        client.email = WROTE
        client.save()
    return SimpleUploadedFile("x.csv", content)


def emails():
    return [client.email for client in Client.objects.order_by("pk")]


def chosen(page):
    return [[each["is_taken"] for each in row.conflicts] for row in page.context["rows"]]


def test_a_conflict_is_shown_with_all_three_values_and_the_offices_stays(browse, manager):
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": conflicting("Alice", "Bob")})["Location"]
    page = browser.get(f"{preview}?show=conflict")
    [conflict] = page.context["rows"][0].conflicts
    assert [conflict[name] for name in ("label", "was", "now", "file")] == ["E-mail", SAID, WROTE, FILED]
    assert all(value in page.content.decode() for value in (SAID, WROTE, FILED))
    assert chosen(page) == [[False], [False]]
    assert ("conflict", "2") in [(each["value"], each["count"]) for each in page.context["filters"]]
    assert page.context["writes"] == 0
    assert WROTE not in database_dump()


def test_a_file_without_conflicts_asks_for_none(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD))
    assert "conflict" not in page.content.decode().lower()


@pytest.fixture(params=["short", "long"])
def two_conflicts(request, browse, manager, monkeypatch):
    """A file that is checked and written at once, or by jobs, which `done` does."""
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 1 if request.param == "long" else 500)
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": conflicting("Alice", "Bob")})["Location"]
    run, done = ImportRun.objects.get(), work if request.param == "long" else lambda run: run
    done(run)
    return browser, preview, run, done


def test_each_conflict_is_merged_by_choice(two_conflicts):
    browser, preview, run, done = two_conflicts
    [_first, name] = [each["name"] for row in browser.get(preview).context["rows"] for each in row.conflicts]
    browser.post(url("import_cells", run), {name: "file"})
    done(run)
    page = browser.get(preview)
    assert chosen(page) == [[False], [True]]
    [change] = page.context["rows"][1].changes
    assert (change["before"], change["now"], page.context["rows"][0].changes) == (WROTE, FILED, [])
    browser.post(preview, {"mode": "good"})
    assert done(run) and emails() == [WROTE, FILED]
    assert not run.pieces.filter(part="taken").exists()


def test_a_choice_is_for_all_conflicts_of_the_file(browse, manager, monkeypatch):
    monkeypatch.setattr(pages, "PER_PAGE", 1)
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": conflicting("Alice", "Bob", "Eva")})["Location"]
    run = ImportRun.objects.get()
    cells = url("import_cells", run)
    for everything, expected in (("file", 3), ("office", 0), ("file", 3)):
        browser.post(cells, {"conflicts": everything})
        assert browser.get(preview).context["writes"] == expected
    page = browser.get(f"{preview}?show=conflict&p=2")
    [conflict] = page.context["rows"][0].conflicts
    assert f'action="{cells}?show=conflict&amp;p=2"' in page.content.decode()
    response = browser.post(f"{cells}?show=conflict&p=2", {"conflicts": "", conflict["name"]: "office"})
    assert response["Location"] == f"{preview}?show=conflict&p=2"
    browser.post(preview, {"mode": "good"})
    assert emails() == [FILED, WROTE, FILED]


def test_what_the_office_writes_after_the_choice_is_asked_about_again(two_conflicts):
    browser, preview, run, done = two_conflicts
    browser.post(url("import_cells", run), {"conflicts": "file"})
    done(run)
    alice = Client.objects.order_by("pk").first()
    alice.email = "later@example.com"
    alice.save()
    browser.post(preview, {"mode": "good"})
    done(run)
    page = browser.get(preview)
    assert "Look at the rows again" in page.content.decode()
    assert chosen(page) == [[False], [True]]
    assert page.context["rows"][0].conflicts[0]["now"] == "later@example.com"
    assert emails() == ["later@example.com", WROTE]
    browser.post(preview, {"mode": "good"})
    done(run)
    assert emails() == ["later@example.com", FILED]


def test_a_choice_that_is_no_conflict_changes_nothing(browse, manager):
    browser = browse(manager)
    browser.post(UPLOAD, {"file": conflicting("Alice")})
    page = browser.post(url("import_cells", ImportRun.objects.get()), {"conflict-2-0": "file"}, follow=True)
    assert "Nothing was changed." in page.content.decode()


@pytest.mark.parametrize("choice", ["office", "file"])
def test_who_may_not_read_clients_is_told_no_stored_value_of_a_conflict(browse, manager, choice):
    file = conflicting("Alice")
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": file})["Location"]
    run = ImportRun.objects.get()
    browser.post(url("import_cells", run), {"conflicts": choice})
    shown = [browser.get(preview)]
    [conflict] = shown[0].context["rows"][0].conflicts
    assert [conflict[name] for name in ("was", "now", "file")] == ["•••", "•••", FILED]
    browser.post(preview, {"mode": "good"})
    shown += [browser.get(url(page, run)) for page in ("import_result", "import_problems")]
    assert [page.status_code for page in shown] == [200, 200, 200]
    for page in shown:
        assert not [value for value in (SAID, WROTE) if value in page.content.decode()]


def test_no_file_of_an_import_quotes_what_is_stored(browse, manager):
    """Exports need a right and leave a record; these files need neither."""
    file = conflicting("Alice", "Bob")
    bad = file.read().replace(b"Bob", b"B" * 300)
    browser = browse(manager)
    preview = browser.post(UPLOAD, {"file": SimpleUploadedFile("x.csv", bad)})["Location"]
    run = ImportRun.objects.get()
    files = [browser.get(url("import_refused_rows", run))]
    browser.post(url("import_cells", run), {"conflicts": "file"})
    browser.post(preview, {"mode": "good"})
    files += [browser.get(url(page, run)) for page in ("import_refused_rows", "import_problems")]
    assert [FILED in file.content.decode() for file in files] == [True, True, True]
    assert not [value for file in files for value in (SAID, WROTE) if value in file.content.decode()]


def test_the_client_of_a_new_case_is_named_to_whoever_may_read_clients(browse, manager):
    factories.make_catalogue()
    client = factories.make_client("Alice Nováková")
    text = f"Reference;Client;Loan amount (CZK)\r\n;{client.reference};5\r\n"
    browser = browse(manager)
    preview, _run = upload_unknown(browser, text)
    assert browser.get(preview).context["rows"][0].who == "Alice Nováková"
    manager.groups.clear()
    manager.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "import_case"]))
    page = browse(manager).get(preview)
    assert (page.context["rows"][0].who, "Alice" in page.content.decode()) == ("•••", False)


def test_cells_of_somebody_elses_import_are_shown_to_whoever_may_read_clients(browse, manager, administrator):
    content = "jmeno;datum\r\nJana Bílá;nikdy\r\n".encode()
    run = imports.confirm(imports.begin(content, "x.csv", administrator), administrator)
    browser = browse(manager)
    assert b"nikdy" in browser.get(url("import_problems", run)).content
    manager.groups.clear()
    names = ["import_client", "import_case", "view_all_cases"]
    manager.user_permissions.set(Permission.objects.filter(codename__in=names))
    browser = browse(manager)
    for page in ("import_problems", "import_result"):
        content = browser.get(url(page, run)).content.decode()
        assert ("nikdy" in content, "•••" in content) == (False, True)


def test_conflicts_cost_the_same_number_of_queries_for_two_and_four(browse, manager):
    browser = browse(manager)

    def queries(*names):
        Client.objects.all().delete()
        preview = browser.post(UPLOAD, {"file": conflicting(*names)})["Location"]
        with CaptureQueriesContext(connection) as found:
            browser.get(preview)
            browser.post(f"{preview}cells/", {"conflicts": "file"})
        return len(found)

    assert queries("A B", "C D") == queries("E F", "G H", "I J", "K L")
