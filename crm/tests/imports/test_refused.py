"""Refused rows that are given back: in either format each cell is read again as what it was, and a row that was put right
goes in."""

import datetime
import io
from pathlib import Path

import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.urls import reverse

from crm import catalogue, imports
from crm.exports import given_back
from crm.imports import parsers, preview
from crm.imports.plans import REASON_COLUMN, csv_file
from crm.models import Case, Client, ImportRun, User
from crm.tests.exports.test_formulas import PAYLOADS
from crm.tests.imports import naughty
from crm.tests.imports.workbooks import csv, xlsx

HEADER = ["jmeno", "email", "datum", "cena", "navrh_financovani_procento", "vlastni_zdroj"]
DAY, MOMENT = datetime.date(2026, 2, 1), datetime.datetime(2026, 2, 1, 13, 45, 7)
CELLS = [
    0.8, 1.234, 5_000_000, -5, 0, 1e15, 0.1 + 0.2, DAY, MOMENT, datetime.datetime(2026, 2, 1), datetime.date(1900, 3, 1),
    datetime.datetime(2026, 2, 1, 23, 59, 59), datetime.time(12, 30), True, "00123", " x ", "=1+1", "'=1+1", "''=1", "+420 777", "-5",
    "@x", "1.234", "1. 2. 2026", "80 %", "a\r\nb", "a\nb", "_x0041_", "😀", "<b>&amp;</b>", "⚠", "#REF!", "x" * 32_767,
    "TRUE", "1e5", "\ta",
]  # fmt: skip
pytestmark = pytest.mark.django_db


@pytest.fixture
def _office(manager):
    catalogue.load()
    User.objects.update(language="en")
    manager.refresh_from_db()


def workbook(header, rows) -> bytes:
    target = io.BytesIO()
    given_back.write(header, rows, target)
    return target.getvalue()


def cells_of(content: bytes, name: str, column: int) -> list:
    return [row.cell(column) for row in imports.read(content, name).rows]


def meaning(cell) -> list:
    """What the columns of each kind make of it: a value, or that it is none."""
    found = []
    for parse in (parsers.text, parsers.line, parsers.amount, parsers.percent, parsers.date, parsers.integer):
        try:
            found.append(parse(cell))
        except imports.problems.UnreadableValue:
            found.append(None)
    return found


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_a_cell_of_a_refused_row_comes_back_as_the_value_it_was(cell):
    """As calamine reads the workbook, not as Python wrote it."""
    content = xlsx(HEADER, ["Jan", cell, "nikdy", "1", "", ""])
    plan = imports.check(content, "x.xlsx")
    [row] = plan.sheet.rows
    [again] = imports.read(workbook(*plan.refused()), "y.xlsx").rows
    assert meaning(again.cell(1)) == meaning(row.cell(1))
    assert isinstance(again.cell(1), str) == isinstance(row.cell(1), (str, bool, datetime.time))


@pytest.mark.parametrize("cell", [each for each in CELLS if isinstance(each, str)], ids=repr)
def test_a_text_of_a_csv_comes_back_in_either_format(cell):
    quoted = '"' + cell.replace('"', '""') + '"'
    plan = imports.check(csv(["Jan", quoted, "nikdy", "1", "", ""], header=HEADER), "x.csv")
    [row] = plan.sheet.rows
    for content, name in ((plan.errors_file(), "y.csv"), (workbook(*plan.refused()), "y.xlsx")):
        [again] = imports.read(content, name).rows
        assert meaning(again.cell(1)) == meaning(row.cell(1))


def test_no_text_of_a_refused_row_is_a_formula():
    texts = [*PAYLOADS, *naughty.PLAIN]
    rows = [["Jan", text, "nikdy", "", "", ""] for text in texts]
    book = openpyxl.load_workbook(
        io.BytesIO(workbook(["=1+1", *HEADER[1:], REASON_COLUMN], [[*row, "=x"] for row in rows]))
    )
    kinds = {cell.data_type for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None}
    assert kinds == {"s", "n"}  # the one number counts the rows
    assert book.active["A1"].value == "'=1+1" and book.active["G2"].value == "'=x"
    assert book.active.max_row == len(texts) + 1


def test_headers_of_a_stranger_make_no_table():
    header = ["", "a", "a", "x" * 300, "a\nb", REASON_COLUMN]
    book = openpyxl.load_workbook(io.BytesIO(workbook(header, [["1", "2", "3", "4", "5", "6"]])))
    assert not book.active.tables and book.active.auto_filter.ref == "A1:F2"
    assert [cell.value or "" for cell in book.active[1]] == header


def put_right(content: bytes, name: str) -> bytes:
    """As a person does it: the bad cells written over, in the file that came."""
    if name.endswith(".csv"):
        return content.replace(b"nikdy", b"1.2.2026").replace(b"asi milion", b"1 000 000")
    book = openpyxl.load_workbook(io.BytesIO(content))
    for row in book.active.iter_rows(min_row=2):
        for cell in row:
            cell.value = {"nikdy": DAY, "asi milion": 1_000_000}.get(cell.value, cell.value)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


ROWS = [
    ["Jana Bílá", "jana@example.com", DAY, 5_000_000, 0.8, 1.5],
    ["'=SUM(A1)", "eva@example.com", "nikdy", 4_000_000, 0.8, 1.5],
    ["00123", "petr@example.com", DAY, "asi milion", 80, 0.5],
]


@pytest.mark.usefixtures("_office")
@pytest.mark.parametrize("name", ["clients.xlsx", "clients.csv"])
@pytest.mark.parametrize("returned", [0, 1])
def test_refused_rows_that_were_put_right_go_in(client, manager, name, returned):
    """Both formats, each of a file of both formats, through the pages."""
    client.force_login(manager)
    is_book = name.endswith(".xlsx")
    texts = [[str(cell).replace(".", ",") if isinstance(cell, float) else cell for cell in row] for row in ROWS]
    content = xlsx(HEADER, *ROWS) if is_book else csv(*([f"{cell}" for cell in row] for row in texts), header=HEADER)
    page = client.get(send(client, content, name))
    formats = page.context["refused_urls"]
    assert [each for each, _url in formats] == (["XLSX", "CSV"] if is_book else ["CSV", "XLSX"])
    kind, url = formats[returned]
    client.post(page.request["PATH_INFO"])
    assert Client.objects.count() == 1
    given = client.get(url)
    assert f'refused-rows.{kind.lower()}"' in given["Content-Disposition"]
    again = f"again.{kind.lower()}"
    page = client.get(send(client, put_right(given.content, again), again))
    assert (ImportRun.objects.first().created_count, ImportRun.objects.first().error_count) == (2, 0)
    client.post(page.request["PATH_INFO"])
    stored = {
        each.full_name: (each.email, case.opened_on, case.property_price_czk, case.ltv_percent)
        for case in Case.objects.all()
        for each in [case.client]
    }
    assert stored == {
        "Jana Bílá": ("jana@example.com", DAY, 5_000_000, 80),
        "=SUM(A1)": ("eva@example.com", DAY, 4_000_000, 80),
        "00123": ("petr@example.com", DAY, 1_000_000, 80),
    }


def send(browser, content: bytes, name: str) -> str:
    answer = browser.post(reverse("admin:crm_client_import"), {"file": SimpleUploadedFile(name, content)})
    assert answer.status_code == 302, answer.context["form"].errors
    return answer["Location"]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_what_is_refused_again_has_its_new_reason_only(kind):
    content = csv(["Jan", "jan@example.com", "nikdy", "asi milion", "", ""], header=HEADER)
    for _each in range(3):
        plan = imports.check(content, f"x.{kind}" if _each else "x.csv")
        assert plan.errors == 1
        header, [row] = plan.refused()[0], list(plan.refused()[1])
        assert header == [*HEADER, REASON_COLUMN] and row[-1].count("row 2, datum") == 1
        content = csv_file(*plan.refused()) if kind == "csv" else workbook(*plan.refused())


@pytest.mark.usefixtures("_office")
def test_cells_that_were_put_right_in_the_page_are_given_back_so(manager):
    run = imports.begin(xlsx(HEADER, ["Jan", "", "nikdy", "asi milion", 0.8, DAY]), "x.xlsx", manager)
    imports.runs.correct(run, manager, {(2, 2): "1.2.2026"})
    _header, rows = preview.refused(run)
    assert [row[:-1] for row in rows] == [["Jan", "", "1.2.2026", "asi milion", 0.8, DAY]]


@pytest.mark.usefixtures("_office")
@pytest.mark.parametrize("command", ["import_clients", "import_older_crm"])
def test_a_command_writes_a_workbook_where_the_name_says_so(tmp_path, command):
    sample = {"import_clients": "czech_excel.xlsx", "import_older_crm": "older_crm_dump.json"}[command]
    errors = tmp_path / "refused.xlsx"
    with pytest.raises(SystemExit):
        call_command(command, Path(__file__).parent / "samples" / sample, errors=errors, stdout=io.StringIO())
    header, *rows = openpyxl.load_workbook(errors).active.iter_rows(values_only=True)
    assert header[-1] == REASON_COLUMN and rows and all(row[-1] for row in rows)
    assert errors.stat().st_mode & 0o777 == 0o600
