"""Columns that nobody knows: asked for, remembered for one person, forgotten."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from crm import imports
from crm.models import Client, ImportRun
from crm.tests import factories
from crm.tests.admin.importing import UNKNOWN, UPLOAD, database_dump, paste, url
from crm.tests.imports.workbooks import xlsx


def test_columns_that_nobody_knows_are_asked_for_and_remembered(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview, run = paste(browser)
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
    _preview, run = paste(browser, UNKNOWN.replace("Jana", "Hana").replace("Mail klienta", "MAIL Klienta"))
    assert (run.state, run.created_count) == ("checked", 1)
    page = browser.get(UPLOAD)
    assert page.context["remembered"] == [("Mail klienta", "E-mail"), ("Poznámky navíc", "")]
    browser.post(reverse("admin:crm_client_import_forget"))
    assert paste(browser)[1].state == "uploaded"


def test_a_file_without_a_known_column_of_names_is_asked_for_it(browse, manager):
    browser = browse(manager)
    _preview, run = paste(browser, "Zákazník\r\nJana Bílá\r\n")
    assert run.state == "uploaded"
    page = browser.post(url("import_columns", run), {"column-0": ""}, follow=True)
    assert "No column holds the clients" in page.content.decode()
    page = browser.post(url("import_columns", run), {"column-0": "client.full_name"}, follow=True)
    assert page.context["rows"][0].who == "Jana Bílá"


def test_the_other_sheets_of_a_workbook_are_said_where_its_columns_are_named_and_where_it_is_refused(browse, manager):
    said = "Only the sheet Sheet was read, not Další."
    content = xlsx(["Zákazník", "Obec"], ["Jana Bílá", "Brno"], sheets={"Další": [["x"]]})
    browser = browse(manager)
    answer = browser.post(UPLOAD, {"file": SimpleUploadedFile("x.xlsx", content)}, follow=True)
    assert said in answer.content.decode()
    columns_url = url("import_columns", ImportRun.objects.latest("pk"))
    page = browser.post(columns_url, {"column-0": "", "column-1": ""}, follow=True).content.decode()
    assert "No column holds the clients" in page and said in page
    page = browser.post(columns_url, {"column-0": "client.full_name", "column-1": ""}, follow=True)
    assert said in page.context["notices"]


def test_of_very_many_columns_the_first_hundred_are_asked_for_and_the_others_are_told(browse, manager):
    browser = browse(manager)
    header = ["full name", *(f"Sloupec {number}" for number in range(990))]
    _preview, run = paste(browser, "\r\n".join("\t".join(row) for row in (header, ["Jana Bílá", *["x"] * 990])))
    page = browser.get(url("import_columns", run))
    assert (len(page.context["lines"]), len(page.content) < 1_000_000) == (100, True)
    page = browser.post(url("import_columns", run), {f"column-{number}": "" for number in range(1, 101)}, follow=True)
    assert page.context["rows"][0].who == "Jana Bílá"
    assert "Sloupec 500" in page.content.decode()


def test_two_columns_cannot_hold_one_field(browse, manager):
    browser = browse(manager)
    _preview, run = paste(browser)
    page = browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": "client.email"})
    assert "Another column is to hold this already." in page.content.decode()
    run.refresh_from_db()
    assert run.state == "uploaded"


@pytest.mark.parametrize("headers", ["Poznámka A;Poznámka A", "Moje pole;Moje-pole!"])
def test_columns_of_one_header_are_asked_for_each(browse, manager, headers):
    factories.make_catalogue()
    browser = browse(manager)
    first, second = headers.split(";")
    for number, name in enumerate(["Jana Bílá", "Hana Bílá"]):
        text = f"jmeno;{headers}\r\n{name};Brno;Alfa\r\n"
        preview, run = paste(browser, text)
        if not number:  # remembered for the next file
            page = browser.get(preview, follow=True)
            assert [line[:2] for line in page.context["lines"]] == [(first, ["Brno"]), (f"{second} (2)", ["Alfa"])]
            browser.post(url("import_columns", run), {"column-1": "client.birth_place", "column-2": "client.employer"})
        browser.post(preview, {"mode": "good"})
        client = Client.objects.latest("pk")
        assert (client.full_name, client.birth_place, client.employer) == (name, "Brno", "Alfa")


@pytest.mark.django_db
def test_a_number_after_a_header_is_nobody_elses():
    plan = imports.check(b"jmeno;A;A;A 2\r\nJana;x;y;z\r\n", "x.csv", mapping={"a3": "client.note"})
    assert (plan.items[0].client.note, [*plan.layout.unknown.values()]) == ("y", ["A", "A 2"])


@pytest.mark.django_db
def test_rows_that_differ_in_a_column_of_a_header_met_before_are_two():
    plan = imports.check(b"jmeno;Pozn;Pozn\r\nJana;x;y\r\nJana;z;y\r\n", "x.csv")
    assert plan.created == 2


def test_what_one_person_said_of_columns_is_nobody_elses(browse, manager, administrator):
    browser = browse(manager)
    _preview, run = paste(browser)
    browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": ""})
    assert paste(browse(administrator))[1].state == "uploaded"


def test_headers_and_samples_are_nowhere_in_the_clear(browse, manager):
    browser = browse(manager)
    _preview, run = paste(browser)
    browser.post(url("import_columns", run), {"column-1": "client.email", "column-2": ""})
    dump = database_dump()
    assert "Mail klienta" not in dump
    assert "mailklienta" not in dump
