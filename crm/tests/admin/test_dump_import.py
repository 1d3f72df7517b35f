"""The older CRM's dump on the pages of the import: recognised, shown before it is written, written whole, undone."""

import copy
import io
import json
import tracemalloc

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import catalogue, imports, jobs, roles, tasks
from crm.admin import imports as pages
from crm.imports import runs
from crm.models import AuditEntry, Case, CaseStep, Client, ImportRun, Note, User
from crm.tests import factories
from crm.tests.admin.importing import csv_file, database_dump
from crm.tests.imports.test_older_crm import RECORDS, SAMPLE, client_record, dump

UPLOAD = reverse("admin:crm_client_import")
CONTENT = SAMPLE.read_bytes()
WRITTEN = (Client, Case, CaseStep, Note)


@pytest.fixture(autouse=True)
def _catalogue(db):
    catalogue.load()


@pytest.fixture
def browser(client, manager):
    User.objects.update(language="en")
    client.force_login(manager)
    return client


def send(browser, content=CONTENT, name="dump.json", page=UPLOAD):
    return browser.post(page, {"file": SimpleUploadedFile(name, content)})


def upload(browser, content=CONTENT, **kwargs) -> str:
    """The preview's address."""
    answer = send(browser, content, **kwargs)
    assert answer.status_code == 302, answer.context["form"].errors
    return answer["Location"]


def counts() -> list[int]:
    return [model.objects.count() for model in WRITTEN]


def history() -> list[int]:
    return [model.history.count() for model in WRITTEN]


def note(pk, klient, text="x") -> dict:
    fields = {"klient": klient, "text": text, "created": "2026-01-01T00:00:00Z"}
    return {"model": "klienti.poznamka", "pk": pk, "fields": fields}


def by_outcome(page) -> dict[str, list]:
    found = {}
    for row in page.context["rows"]:
        found.setdefault(str(row.outcome), []).append(row.number)
    return found


# --- Before it is written ---


def test_the_preview_counts_and_tells_every_problem_with_its_record(browser):
    page = browser.get(upload(browser))
    run = ImportRun.objects.get()
    assert (run.rows, run.created_count, run.updated_count, run.skipped_count, run.error_count) == (14, 13, 0, 0, 1)
    assert counts() == [0, 0, 0, 0]
    assert by_outcome(page) == {
        "will be created": [str(pk) for pk in range(101, 115) if pk != 113], "refused": ["113"],
    }  # fmt: skip
    told = {(row.number, each.column) for row in page.context["rows"] for each in row.problems}
    assert {("113", "jmeno"), ("107", "cena"), ("103", "cena")} <= told
    text = page.content.decode()
    assert "User profile 1" in text and "2 new notes" in text and page.context["is_dump"]


def test_the_preview_tells_what_the_command_tells(browser, capsys):
    """One code: neither says anything that the other does not."""
    page = browser.get(upload(browser))
    shown = {(row.number, each.column, each.reason) for row in page.context["rows"] for each in row.problems}
    with pytest.raises(SystemExit):
        call_command("import_older_crm", SAMPLE, "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert len(shown) == sum(line.startswith("row ") for line in lines)
    for row, column, reason in shown:
        assert any(line.startswith(f"row {row}, {column}") and line.endswith(reason) for line in lines), (row, reason)
    run = ImportRun.objects.get()
    assert lines[-1] == f"{run.rows} rows: {run.created_count} created, 0 updated, 0 skipped, {run.error_count} errors"


@pytest.mark.parametrize("name", ["dump.json", "dump", "dump.csv", "dump.xlsx", "Záloha 2025.JSON"])
@pytest.mark.parametrize(
    "written",
    [bytes, lambda content: b"\xef\xbb\xbf\r\n " + content, lambda content: content.decode().encode("utf-16")],
)
def test_a_dump_is_known_by_its_content(browser, name, written):
    upload(browser, written(CONTENT), name=name)
    assert ImportRun.objects.get().created_count == 13


def test_a_dump_in_windows_1250_is_read_and_said(browser):
    page = browser.get(
        upload(browser, json.dumps([client_record(jmeno="Žofie Říhová")], ensure_ascii=False).encode("cp1250"))
    )
    assert [row.who for row in page.context["rows"]] == ["Žofie Říhová"]
    assert "Windows-1250" in page.content.decode()


def test_a_dump_goes_in_by_the_list_of_cases_too_and_pasted(browser):
    upload(browser, page=reverse("admin:crm_case_import"))
    assert browser.post(UPLOAD, {"text": CONTENT.decode()}).status_code == 302
    assert set(ImportRun.objects.values_list("model", "created_count")) == {("case", 13), ("client", 13)}


def test_each_refused_record_is_a_line_with_its_own_reason(browser):
    records = [
        client_record(1),
        client_record(1, jmeno="Bob"),
        client_record("x" * 41),
        note(1, 1),
        note(1, 1),
        note(2, 9),
    ]
    page = browser.get(upload(browser, dump(records)) + "?show=error")
    told = {row.number: [each.reason for each in row.problems if each.is_error] for row in page.context["rows"]}
    assert told == {
        "1 #1": ["Another client of the dump has the same id."],
        "x" * 41: ["The id is longer than 40 characters."],
        "poznamka-1 #3": ["Another record of the dump has the same id."],
        "poznamka-2": ["Its client is not in the dump."],
    }


def test_the_preview_of_a_dump_is_filtered_and_paged(browser, monkeypatch):
    monkeypatch.setattr(pages, "PER_PAGE", 5)
    preview = upload(browser)
    page = browser.get(preview, {"p": 3})
    assert [row.number for row in page.context["rows"]] == ["111", "112", "113", "114"]
    page = browser.get(preview, {"show": "error"})
    assert [row.number for row in page.context["rows"]] == ["113"]
    page = browser.get(preview, {"show": "noted"})
    assert all(row.problems for row in page.context["rows"])


def test_the_preview_costs_the_same_number_of_queries_for_ten_clients_and_twenty(browser):
    def cost(start, count):
        preview = upload(browser, dump([client_record(pk) for pk in range(start, start + count)]))
        with CaptureQueriesContext(connection) as found:
            assert browser.get(preview).status_code == 200
        return len(found)

    assert cost(1, 10) == cost(100, 20)


def test_the_problems_of_a_dump_download_before_and_after(browser):
    browser.get(preview := upload(browser))
    run = ImportRun.objects.get()
    before = browser.get(reverse("admin:crm_client_import_refused_rows", args=[run.token])).content.decode("utf-8-sig")
    browser.post(preview)
    after = browser.get(reverse("admin:crm_client_import_problems", args=[run.token])).content.decode("utf-8-sig")
    assert before.splitlines()[0] == after.splitlines()[0] == "row;column;value;problem"
    assert sorted(before.splitlines()) == sorted(after.splitlines()) and "113;jmeno;" in before


def test_a_waiting_dump_is_nowhere_in_the_clear(browser):
    upload(browser, dump([client_record(jmeno="Zdislava Tajemná", jmeno_index="", cena="zvlastni")]))
    stored = database_dump()
    assert "Tajemn" not in stored and "zvlastni" not in stored


# --- What is no dump ---


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (CONTENT[:20_000], "dump.json"), (b"[", "dump.json"), (b"{}", "x.csv"), (b"[]", "x"), (b"[1, 2]", "dump.json"),
        (b'{"clients": [{"name": "Eva"}]}', "clients.csv"), (b'[{"name": "Eva"}]', "x.txt"), (b"not json", "dump.json"),
        (b"[" * 200_000, "dump.json"), (b'[{"model":' * 50_000, "x.json"), (b'[{"model": "a.klient", "pk": 1, "fields": 5}]', ""),
        (CONTENT + b"x", "dump.json"), (CONTENT.rstrip()[:-1] + b",]", "dump.json"), (b"\0\1\2" * 50, "dump.json"),
        (b"\xff\xfe[\0", "dump.json"), (dump([{"model": "auth.user", "pk": 1, "fields": {}}]), "dump.json"),
        (b'[{"model": "a.klient", "pk": 1, "fields": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]", "dump.json"),
    ],
)  # fmt: skip
def test_what_is_no_dump_is_an_error_on_the_form_with_the_cure(browser, content, name):
    answer = send(browser, content, name=name or "x")
    assert answer.status_code == 200
    [said] = answer.context["form"].errors["file"]
    assert "dumpdata" in said
    assert not ImportRun.objects.exists()


def test_a_dump_of_millions_of_nothings_is_refused_before_it_fills_the_memory():
    content = b"[" + b"{}," * 4_000_000 + b"{}]"
    wide = b'[{"model": "a.klient", "pk": 1, "fields": {"a": [' + b"[]," * 3_000_000 + b"1]}}]"
    for hostile in (content, wide):
        tracemalloc.start()
        try:
            with pytest.raises(imports.UnusableFile):
                runs.older_crm.check(hostile, "dump.json")
            _now, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 100 * 1024 * 1024


@pytest.mark.parametrize(
    ("missing", "role"),
    [
        (("crm.import_case",), None), (("crm.import_client",), None), (("crm.add_client",), None), (("crm.add_case",), None),
        (("crm.add_note",), None), (("crm.view_all_cases",), None),
        ((), roles.MANAGER), ((), roles.ADMINISTRATOR),
    ],
)  # fmt: skip
def test_a_dump_asks_for_the_rights_of_all_that_it_writes(client, missing, role):
    user = factories.make_user(role or roles.ADVISER)
    User.objects.update(language="en")
    needed = {"crm.import_client", "crm.import_case", "crm.view_client", "crm.view_case", *runs.DUMP_PERMISSIONS}
    if not role:
        user.groups.clear()
        codes = [code.partition(".")[2] for code in needed - set(missing)]
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client.force_login(user)
    page = reverse(f"admin:crm_{'case' if 'crm.import_client' in missing else 'client'}_import")
    answer = send(client, page=page)
    assert answer.status_code == (200 if missing else 302)
    if missing:
        assert "takes the rights" in answer.content.decode() and not ImportRun.objects.exists()


def test_a_long_dump_of_who_may_not_import_it_makes_no_job(client, monkeypatch):
    monkeypatch.setattr(runs, "BYTES_AT_ONCE", 10)
    user = factories.make_user()
    user.groups.clear()
    user.user_permissions.set(Permission.objects.filter(codename__in=["import_client", "view_client"]))
    client.force_login(user)
    assert send(client).status_code == 200 and not jobs.JobRun.objects.exists()


# --- Written ---


def test_a_confirmed_dump_is_written_under_one_operation_with_the_record_of_who_and_what(browser, manager):
    browser.post(upload(browser))
    run = ImportRun.objects.get()
    assert (run.state, run.user, run.file_name) == ("done", manager, "dump.json")
    assert run.sha256 == imports.plans.sha256(CONTENT)
    assert counts() == [13, 13, 195, 5] == history()
    for model in WRITTEN:
        assert set(model.history.values_list("operation_id", "history_user_id")) == {(run.operation_id, manager.pk)}
    entry = AuditEntry.objects.get(operation_id=run.operation_id)
    assert (entry.kind, run.pieces.filter(part="file").count()) == ("import", 0)


def test_page_and_command_write_the_same(browser):
    def stored():
        rows = Client.objects.order_by("legacy_id").values_list("legacy_id", "full_name", "note", "email")
        notes = Note.objects.order_by("legacy_id").values_list("legacy_id", "text", "author_name", "created_at", "kind")
        cases = Case.objects.order_by("legacy_id").values_list("legacy_id", "status", "loan_amount_czk", "current_step")
        steps = CaseStep.objects.order_by("case__legacy_id", "step").values_list("deadline", "state", "note")
        return [list(found) for found in (rows, notes, cases, steps)]

    browser.post(upload(browser))
    by_page = stored()
    for model in (Note, CaseStep, Case, Client):
        model.objects.all().delete()
    with pytest.raises(SystemExit):
        call_command("import_older_crm", SAMPLE, stdout=io.StringIO())
    assert stored() == by_page


def test_the_result_links_what_was_written_and_keeps_what_was_said(browser):
    page = browser.get(browser.post(upload(browser))["Location"])
    text = page.content.decode()
    assert [len(each["rows"]) for each in page.context["lists"]] == [13, 13]
    assert "User profile 1" in text and ">113</td>" in text.replace("\n", "").replace(" ", "")
    assert not page.context["refused_urls"] and page.context["problems_url"] and page.context["undo_url"]


def test_all_or_nothing_writes_nothing_of_a_dump_while_a_client_is_refused(browser):
    browser.post(upload(browser), {"mode": "all"})
    run = ImportRun.objects.get()
    assert (counts(), run.state, run.created_count, run.skipped_count) == ([0, 0, 0, 0], "done", 0, 13)
    browser.post(upload(browser, dump([client_record()])), {"mode": "all"})
    assert Client.objects.count() == 1


def test_a_dump_that_breaks_in_the_middle_leaves_nothing(browser, monkeypatch):
    preview = upload(browser)
    monkeypatch.setattr(Note.objects.__class__, "bulk_create", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        browser.post(preview)
    assert (counts(), history(), ImportRun.objects.get().state) == ([0] * 4, [0] * 4, "checked")


def test_the_dump_twice_changes_nothing_and_the_page_says_so(browser):
    browser.post(upload(browser))
    before = history()
    page = browser.get(upload(browser))
    text = page.content.decode()
    assert "There is nothing to write." in text and "The same file was imported already" in text
    assert {row.who for row in page.context["rows"]} == {*Case.objects.values_list("reference", flat=True), ""}
    browser.post(page.request["PATH_INFO"])
    assert history() == before
    assert ImportRun.objects.order_by("pk").last().skipped_count == 13


def test_a_later_dump_brings_its_new_notes_and_links_their_cases(browser):
    browser.post(upload(browser))
    page = browser.get(upload(browser, dump([*copy.deepcopy(RECORDS), note(70, 101), note(71, 101), note(72, 102)])))
    changed = {row.number: row.says for row in page.context["rows"] if str(row.outcome) == "will be updated"}
    assert changed == {"101": ["2 new notes"], "102": ["1 new note"]}
    page = browser.get(browser.post(page.request["PATH_INFO"])["Location"])
    assert [len(each["rows"]) for each in page.context["lists"]] == [0, 2]
    assert (Client.objects.count(), Note.objects.count()) == (13, 8)


def test_what_the_command_imported_meanwhile_is_shown_again(browser):
    preview = upload(browser, dump([client_record(), note(1, 1), note(2, 1)]))
    runs.older_crm.write(runs.older_crm.check(dump([client_record(), note(1, 1)]), "dump.json"))
    page = browser.post(preview, follow=True)
    assert [row.says for row in page.context["rows"]] == [["1 new note"]] and Note.objects.count() == 1
    browser.post(preview)
    assert (Client.objects.count(), Note.objects.count()) == (1, 2)


def test_notes_that_came_meanwhile_are_shown_again(browser):
    """The outcome alone does not say which notes are new."""
    runs.older_crm.write(runs.older_crm.check(dump([client_record()]), "dump.json"))
    preview = upload(browser, dump([client_record(), note(1, 1), note(2, 1)]))
    runs.older_crm.write(runs.older_crm.check(dump([client_record(), note(1, 1)]), "dump.json"))
    page = browser.post(preview, follow=True)
    assert [row.says for row in page.context["rows"]] == [["1 new note"]] and Note.objects.count() == 1


def test_a_written_dump_is_undone_whole(browser):
    page = browser.get(browser.post(upload(browser))["Location"])
    assert browser.post(page.context["undo_url"]).status_code == 302
    assert counts() == [0, 0, 0, 0]
    browser.post(upload(browser))
    assert counts() == [13, 13, 195, 5]


# --- Long ones ---


@pytest.fixture
def _long(monkeypatch):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 3)


def work(run: ImportRun) -> ImportRun:
    jobs.carry_out(run.job_id, tasks.JOBS)
    return ImportRun.objects.select_related("job", "user").get(pk=run.pk)


@pytest.mark.usefixtures("_long")
def test_a_long_dump_is_checked_and_written_by_jobs(browser):
    preview = upload(browser)
    run = ImportRun.objects.get()
    assert (run.state, run.job.queue) == ("checking", "long")
    assert "waits for a worker" in browser.get(preview).content.decode()
    run = work(run)
    assert (run.state, run.created_count, counts()) == ("checked", 13, [0] * 4)
    browser.post(preview)
    run.refresh_from_db()
    assert (run.state, counts()) == ("running", [0] * 4)
    run = work(run)
    assert (run.state, run.job.state, counts()) == ("done", "done", [13, 13, 195, 5])


@pytest.mark.usefixtures("_long")
def test_a_long_dump_is_cancelled_while_it_is_written(browser, monkeypatch):
    preview = upload(browser)
    run = work(ImportRun.objects.get())
    browser.post(preview)
    real = runs.older_crm.write

    def cancelled(*args, progress, **kwargs):
        progress.is_cancelled = True
        return real(*args, progress=progress, **kwargs)

    monkeypatch.setattr(runs.older_crm, "write", cancelled)
    run.refresh_from_db()
    run = work(run)
    assert (runs.state_of(run), counts(), history()) == ("failed", [0] * 4, [0] * 4)


def test_a_large_piece_of_a_dump_says_why_and_keeps_nothing(browser, monkeypatch):
    monkeypatch.setattr(runs, "BYTES_AT_ONCE", 10)
    preview = upload(browser, CONTENT[:20_000])
    run = work(ImportRun.objects.get())
    assert (run.state, run.pieces.count()) == ("failed", 0)
    assert "only a part of one" in browser.get(preview).content.decode()


def test_a_spreadsheet_is_a_spreadsheet_all_the_same(browser):
    page = browser.get(browser.post(UPLOAD, {"file": csv_file("Jana Bílá;jana@example.com;1;1;1.2.2026")})["Location"])
    assert not page.context["is_dump"] and ImportRun.objects.get().created_count == 1
