"""The template as a spreadsheet program reads it, and as the import takes it back."""

import io

import openpyxl
import pytest
from django.urls import reverse
from django.utils import translation

from crm import imports, roles
from crm.exports import template
from crm.models import User
from crm.spreadsheet import EXAMPLE_NAMES
from crm.tests import factories

URL = reverse("admin:crm_client_import_template")


@pytest.fixture(params=["en", "cs"])
def language(request, db):
    factories.make_catalogue()
    factories.make_user(first_name="Olga", last_name="Poradkyně")
    with translation.override(request.param):
        yield request.param


def made():
    target = io.BytesIO()
    template.write(target)
    return target.getvalue()


def filled(book, rows) -> bytes:
    """The template with these rows in the place of its example; each is header -> value."""
    sheet = book.worksheets[0]
    header = [cell.value for cell in sheet[1]]
    for number, row in enumerate(rows, start=2):
        for column, name in enumerate(header, start=1):
            sheet.cell(number, column).value = row.get(name)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def read(book) -> tuple[list, dict]:
    header, example = book.worksheets[0].iter_rows(values_only=True)
    return list(header), dict(zip(header, example, strict=True))


def test_every_column_is_known_and_the_example_is_left_out(language):
    plan = imports.check(made(), "template.xlsx")
    assert (plan.created, plan.skipped, plan.errors) == (0, 1, 0)
    assert not plan.layout.unknown and not plan.sheet.notices
    assert [(each.row, each.is_error, each.value) for each in plan.problems] == [(2, False, EXAMPLE_NAMES[language])]
    assert len(plan.layout.columns) > 30


def test_the_examples_name_in_another_column_is_a_text(language):
    book = openpyxl.load_workbook(io.BytesIO(made()))
    header, _example = read(book)
    note = {"en": "Note", "cs": "Poznámka"}[language]
    plan = imports.check(filled(book, [{header[0]: "Jana Nováková", note: EXAMPLE_NAMES[language]}]), "template.xlsx")
    assert (plan.created, plan.items[0].client.note) == (1, EXAMPLE_NAMES[language])


def test_the_example_is_a_row_that_the_import_would_take(language):
    book = openpyxl.load_workbook(io.BytesIO(made()))
    header, example = read(book)
    plan = imports.check(filled(book, [{**example, header[0]: "Jana Nováková"}]), "template.xlsx")
    assert (plan.created, [str(problem) for problem in plan.problems]) == (1, [])
    assert sum(value is not None for value in example.values()) > 20


def test_whatever_may_be_chosen_is_taken(language):
    book = openpyxl.load_workbook(io.BytesIO(made()))
    header, _example = read(book)
    lists = {
        column[0].value: [cell.value for cell in column[1:] if cell.value] for column in book.worksheets[2].columns
    }
    assert any("Olga Poradkyně" in values for values in lists.values())
    offered = {name: values for name, values in lists.items() if name in header}
    assert len(offered) == len(lists) == 4
    longest = max(map(len, offered.values()))
    chosen = [{name: values[n % len(values)] for name, values in offered.items()} for n in range(longest)]
    plan = imports.check(filled(book, [{header[0]: f"Jan {n}", **row} for n, row in enumerate(chosen)]), "x.xlsx")
    assert (plan.created, plan.errors) == (longest, 0)
    assert not [problem for problem in plan.problems if problem.column in offered]


def test_each_list_is_the_rule_of_its_cells(language):
    book = openpyxl.load_workbook(io.BytesIO(made()))
    header, _example = read(book)
    lists = {column[0].value: column for column in book.worksheets[2].columns}
    found = {}
    for rule in book.worksheets[0].data_validations.dataValidation:
        [cells] = rule.sqref.ranges
        name = header[cells.min_col - 1]
        assert (cells.min_row, cells.max_row) == (2, 1_048_576)
        found.setdefault(rule.type, []).append(name)
        if rule.type == "list":
            title, place = rule.formula1.replace("'", "").split("!")
            values = [cell.value for [cell] in book[title][place.replace("$", "")]]
            assert values == [cell.value for cell in lists[name][1:] if cell.value]
    assert sorted(found["list"]) == sorted(lists) and len(found["date"]) >= 3 and len(found["decimal"]) >= 5


def test_who_may_import_downloads_it_in_his_language(client, manager):
    client.force_login(manager)
    for language, name in (("en", "Full name"), ("cs", "Celé jméno")):
        User.objects.filter(pk=manager.pk).update(language=language)
        response = client.get(URL)
        assert openpyxl.load_workbook(io.BytesIO(response.content)).worksheets[0]["A1"].value == name
        assert response["Content-Disposition"].endswith('.xlsx"')
        assert URL in client.get(reverse("admin:crm_client_import")).content.decode()


@pytest.mark.parametrize("role", [roles.ADVISER, roles.ASSISTANT, roles.AUDITOR])
def test_who_may_not_import_gets_no_template(client, db, role):
    client.force_login(factories.make_user(role))
    assert client.get(URL).status_code == 403
