"""What a person puts right in the preview, and says of rows that are probably about somebody known."""

import datetime
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from crm import imports
from crm.encryption import encrypt_bytes
from crm.imports import runs
from crm.models import Case, Client, ImportRun
from crm.tests import factories
from crm.tests.admin.importing import (
    BAD,
    GOOD,
    UPLOAD,
    database_dump,
    upload,
    url,
    work,
)


def test_a_probable_duplicate_is_counted_and_found(browse, manager):
    factories.make_client("Jana Bílá", email="jana@example.com")
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    page = browser.get(f"{preview}?show=duplicate")
    assert dict(page.context["counts"])["Probable duplicates"] == 1
    assert [row.number for row in page.context["rows"]] == [2]


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


@pytest.mark.parametrize(("choice", "cases"), [("", 2), ("skip", 1)])
def test_a_case_that_a_client_has_already_is_one_more_or_left_out(browse, manager, choice, cases):
    factories.make_catalogue()
    known = factories.make_client("Jana Bílá")
    rows = [
        "reference;client;property_price_czk",
        *(f";{known.reference};{price}" for price in ("5000000", "5 000 000 Kč")),
    ]
    browser = browse(manager)
    file = SimpleUploadedFile("cases.csv", "\r\n".join([*rows, ""]).encode())
    preview = browser.post(UPLOAD, {"file": file})["Location"]
    first, second = browser.get(preview).context["rows"]
    labels = {"": "One more case", "skip": "Leave the case out"}
    assert (first.choices, second.is_about_case) == ([], True)
    assert {each["value"]: each["label"] for each in second.choices} == labels
    browser.post(url("import_cells", ImportRun.objects.get()), {"row-3": choice})
    page = browser.get(preview)
    assert [each["value"] for each in page.context["rows"][1].choices if each["is_chosen"]] == [choice]
    browser.post(preview, {"row-3": choice})
    assert known.cases.count() == cases


# --- What was picked and not checked when Import is pressed ---

TAKEN = "What you chose and put right is taken."


@pytest.mark.parametrize("choice", ["skip", "C", "case:C"])
def test_a_choice_that_was_not_checked_is_shown_before_it_is_written(browse, manager, choice):
    factories.make_catalogue()
    known = factories.make_client("Jana Bílá", email="jana@example.com")
    chosen = choice.replace("C", known.reference)
    browser = browse(manager)
    preview = upload(browser, GOOD, "Ivan Sám;;5;4;1.2.2026")
    page = browser.post(preview, {"row-2": chosen}, follow=True)
    assert TAKEN in page.content.decode()
    assert [each["value"] for each in page.context["rows"][0].choices if each["is_chosen"]] == [chosen]
    assert Client.objects.count() == 1
    browser.post(preview, {"row-2": chosen})
    assert (Client.objects.count(), Case.objects.filter(client=known).count()) == (2, choice.endswith("C"))


def test_a_cell_that_was_not_checked_is_shown_before_its_row_is_written(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    page = browser.post(f"{preview}?show=error", {"cell-3-2": "1 000 000"}, follow=True)
    assert (TAKEN in page.content.decode(), page.redirect_chain[-1][0]) == (True, f"{preview}?show=error")
    assert [number for _label, number in page.context["counts"]] == [2, 0, 0, 0, 0]
    browser.post(preview, {})
    assert Case.objects.filter(property_price_czk=1_000_000).exists()


def test_a_cell_that_mends_nothing_does_not_hold_the_other_rows(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    browser.post(upload(browser, GOOD, BAD), {"cell-3-2": "asi dva"})
    run = ImportRun.objects.get()
    assert (run.state, run.created_count, run.error_count) == ("done", 1, 1)
    assert "Petr Zlý;petr@example.com;asi dva;" in browser.get(url("import_refused_rows", run)).content.decode()


def test_a_cell_comes_back_as_a_browser_sends_it(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD, 'Petr Zlý;petr@example.com;"asi\nmilion";1;1.2.2026')
    page = browser.post(url("import_cells", ImportRun.objects.get()), {"cell-3-2": "asimilion"}, follow=True)
    assert "Nothing was changed." in page.content.decode()
    assert browser.post(preview, {"cell-3-2": "asimilion"})["Location"] == url("import_result", ImportRun.objects.get())


def test_a_cell_that_cannot_be_stored_writes_nothing(browse, manager):
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    page = browser.post(preview, {"cell-3-2": encrypt_bytes(b"x").decode()}, follow=True)
    assert "looks like an encrypted value" in page.content.decode()
    assert not Client.objects.exists()


def test_a_long_file_is_checked_by_a_job_with_what_was_chosen(browse, manager, monkeypatch):
    factories.make_catalogue()
    known = factories.make_client("Jana Bílá", email="jana@example.com")
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 0)
    browser = browse(manager)
    preview = upload(browser, GOOD)
    run = work(ImportRun.objects.get())
    assert TAKEN in browser.post(preview, {"row-2": known.reference}, follow=True).content.decode()
    run = work(run)
    assert (run.state, run.decisions, Case.objects.count()) == ("checked", {2: known.reference}, 0)
    browser.post(preview, {"row-2": known.reference})
    assert (work(run).state, known.cases.count(), Client.objects.count()) == ("done", 1, 1)


@pytest.mark.parametrize("page", ["import_preview", "import_cells"])
def test_which_rows_to_write_is_still_chosen_when_the_preview_is_shown_again(browse, manager, page):
    client = factories.make_client("Jana Bílá", email="jana@example.com")
    rows = [f"{client.reference};Jana Nová;", ";Ivan Sám;", ";Jana Nová;nikdy"]
    content = "\r\n".join(["Reference;Full name;Birth date", *rows]).encode()
    browser = browse(manager)
    browser.post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})
    chosen = {"what": "create", "mode": "all", "duplicates": "skip", "cell-4-2": "1.1.1990"}
    shown = browser.post(url(page, ImportRun.objects.get()), chosen, follow=True)
    options = {"all_or_nothing": True, "create": True, "update": False, "duplicates": False}
    assert shown.context["to_write"] | options == shown.context["to_write"]
    assert [number for _label, number in shown.context["counts"]] == [2, 1, 0, 0, 0]
    assert 'value="create" checked' in shown.content.decode()


@pytest.mark.parametrize("page", ["import_preview", "import_cells"])
def test_a_page_that_shows_an_older_preview_changes_nothing(browse, manager, page):
    factories.make_catalogue()
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    run = ImportRun.objects.get()
    browser.post(url("import_cells", run), {"seen": run.fingerprint, "cell-3-2": "5"})
    shown = browser.post(url(page, run), {"seen": run.fingerprint, "cell-3-2": "7"}, follow=True)
    assert "The rows were checked anew meanwhile." in shown.content.decode()
    assert not Client.objects.exists()
    run.refresh_from_db()
    browser.post(preview, {"seen": run.fingerprint})
    assert sorted(int(case.property_price_czk) for case in Case.objects.all()) == [5, 5_000_000]


def test_the_preview_is_one_form_and_enter_imports_nothing(browse, manager):
    factories.make_client("Jana Bílá", email="jana@example.com")
    browser = browse(manager)
    preview = upload(browser, GOOD, BAD)
    page = browser.get(f"{preview}?show=noted").content.decode()
    start = page.index(f'action="{preview}cells/?show=noted"')
    form = page[start : page.index("</form>", start)]
    assert all(f'name="{name}"' in form for name in ("row-2", "cell-3-2", "mode", "duplicates", "seen"))
    buttons = re.findall(r"<button[^>]*>", form)
    assert ["formaction" in each for each in buttons] == [False, True, False]
    assert f'formaction="{preview}?show=noted"' in buttons[1]
