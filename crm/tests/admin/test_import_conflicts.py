"""Cells that the office changed too since the file was made; and stored values, masked for who may not read them."""

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from crm import imports
from crm.admin import imports as pages
from crm.imports import runs
from crm.models import Client, ImportRun
from crm.tests import factories
from crm.tests.admin.importing import GOOD, UPLOAD, database_dump, paste, upload, url, work
from crm.tests.exports.reading import export


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


@pytest.mark.parametrize("everything", [True, False])
def test_a_conflict_that_was_chosen_and_not_checked_is_shown_before_it_is_written(two_conflicts, everything):
    browser, preview, run, done = two_conflicts
    [first, second] = [each["name"] for row in browser.get(preview).context["rows"] for each in row.conflicts]
    browser.post(url("import_cells", run), {first: "file"})
    done(run)
    choice = {"conflicts": "file"} if everything else {first: "file", second: "file"}
    browser.post(preview, choice)
    done(run)
    assert chosen(browser.get(preview)) == [[True], [True]]
    assert emails() == [WROTE, WROTE]
    browser.post(preview, {first: "file", second: "file"})
    assert done(run) and emails() == [FILED, FILED]


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
    preview, _run = paste(browser, text)
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
