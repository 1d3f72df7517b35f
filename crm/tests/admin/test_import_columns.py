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


SAME = "Columns “Mail klienta” and “Druhý mail” mean the same. Leave one of them."
TAKEN = "Another column is to hold this already."


def remember(browser, *headers):
    """As e-mail, each by a file of its own."""
    for header in headers:
        _preview, run = paste(browser, f"jmeno;{header}\r\nEva Bílá;eva@example.com\r\n")
        browser.post(url("import_columns", run), {"column-1": "client.email"})


def test_two_columns_that_are_remembered_as_one_field_are_asked_about(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    remember(browser, "Mail klienta", "Druhý mail")
    preview, run = paste(browser, "jmeno;Mail klienta;Druhý mail\r\nJana Bílá;first@example.com;second@example.com\r\n")
    page = browser.get(preview, follow=True)
    assert [(header, field.value()) for header, _samples, field in page.context["lines"]] == [
        ("Mail klienta", "client.email"),
        ("Druhý mail", "client.email"),
    ]
    assert SAME in page.content.decode()
    columns_url = url("import_columns", run)
    page = browser.post(columns_url, {"column-1": "client.email", "column-2": "client.email"})
    assert TAKEN in page.content.decode()
    page = browser.post(columns_url, {"column-1": "", "column-2": "client.email"}, follow=True)
    assert page.context["said"] == [("Mail klienta", ""), ("Druhý mail", "E-mail")]
    browser.post(preview, {"mode": "good"})
    assert Client.objects.get().email == "second@example.com"


def test_a_column_that_is_remembered_as_what_the_file_has_already_is_asked_about(browse, manager):
    browser = browse(manager)
    remember(browser, "Mail klienta")
    preview, run = paste(browser, "jmeno;email;Mail klienta\r\nJana Bílá;first@example.com;second@example.com\r\n")
    page = browser.get(preview, follow=True)
    assert [line[0] for line in page.context["lines"]] == ["Mail klienta"]
    assert "Columns “email” and “Mail klienta” mean the same." in page.content.decode()
    page = browser.post(url("import_columns", run), {"column-2": "client.email"})
    assert TAKEN in page.content.decode()
    page = browser.post(url("import_columns", run), {"column-2": ""}, follow=True)
    assert page.context["said"] == [("Mail klienta", "")]


def test_a_column_is_not_named_as_what_the_file_has_already(browse, manager):
    browser = browse(manager)
    _preview, run = paste(browser, "jmeno;email;Mail klienta\r\nJana Bílá;first@example.com;second@example.com\r\n")
    page = browser.post(url("import_columns", run), {"column-2": "client.email"})
    assert TAKEN in page.content.decode()
    run.refresh_from_db()
    assert run.state == "uploaded"


def test_columns_of_one_field_are_asked_about_before_others(browse, manager):
    browser = browse(manager)
    remember(browser, "Mail klienta", "Druhý mail")
    header = ["jmeno", *(f"Sloupec {number}" for number in range(150)), "Mail klienta", "Druhý mail"]
    _preview, run = paste(browser, "\r\n".join("\t".join(row) for row in (header, ["Jana Bílá", *["x"] * 152])))
    page = browser.get(url("import_columns", run))
    assert [line[0] for line in page.context["lines"]][-3:] == ["Sloupec 97", "Mail klienta", "Druhý mail"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("cells", "email", "told"),
    [("first@e.cz;second@e.cz", "first@e.cz", ("B", "A")), (";second@e.cz", "second@e.cz", ("A", "B"))],
)
def test_where_nobody_can_be_asked_a_column_without_values_gives_way_and_what_is_left_out_is_told(cells, email, told):
    mapping = {"a": "client.email", "b": "client.email"}
    plan = imports.check(f"jmeno;A;B\r\nJana;{cells}\r\n".encode(), "x.csv", mapping=mapping)
    assert plan.items[0].client.email == email
    left_out, holder = told
    [problem] = [problem for problem in plan.problems if problem.column in ("A", "B")]
    assert (problem.column, problem.reason) == (
        left_out,
        f"Column “{holder}” holds the same, so this one was left out.",
    )


@pytest.mark.django_db
def test_a_remembered_column_without_values_is_not_asked_about():
    mapping = {"a": "client.email", "b": "client.email"}
    plan = imports.check(b"jmeno;A;B\r\nJana;;second@e.cz\r\n", "x.csv", mapping=mapping, asks=True)
    assert plan.items[0].client.email == "second@e.cz"


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
