"""What a person puts right in the preview, and says of rows that are probably about somebody known."""

import datetime

import pytest

from crm import imports
from crm.encryption import encrypt_bytes
from crm.models import Case, Client, ImportRun
from crm.tests import factories
from crm.tests.admin.importing import (
    BAD,
    GOOD,
    database_dump,
    upload,
    url,
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
