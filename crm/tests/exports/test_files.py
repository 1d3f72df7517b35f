"""What the two kinds of files hold, as Excel and others would read them."""

import csv
import datetime
import io
import itertools
import re
import zipfile
from decimal import Decimal

import openpyxl
import pytest
import tablib
from django.test import override_settings
from django.utils import translation
from import_export.formats.base_formats import CSV as StockCsv
from import_export.formats.base_formats import XLSX as StockXlsx

from crm import exports
from crm.choices import CaseStatus
from crm.exports import csv_file, summary, xlsx_file
from crm.models import Case, Client, Document, DocumentType
from crm.spreadsheet import TOO_LONG_MARK
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, export, plain_rows, sheet, xlsx_rows

FORMULA = '=HYPERLINK("http://example.com";"Jana")'


@pytest.fixture
def client(db):
    return factories.make_client("Ing. Jiří Šťastný 🏠", phone="00420777123456", postal_code="01001")


@pytest.fixture
def case(client):
    return factories.make_case(
        client,
        opened_on=datetime.date(2026, 2, 1),
        loan_amount_czk=Decimal("1234567.50"),
        ltv_percent=Decimal("79.90"),
        interest_rate_percent=Decimal("3.125"),
        term_months=360,
    )


def test_a_workbook_holds_numbers_and_dates_as_such(case):
    [row] = xlsx_rows(export(Case.objects.all(), "xlsx"))
    assert (row["Loan amount (CZK)"], row["LTV (%)"]) == (1234567.5, 79.9)
    assert (row["Interest rate (% a year)"], row["Term (months)"]) == (3.125, 360)
    assert row["Opened on"] == datetime.datetime(2026, 2, 1)


def test_a_workbook_shows_amounts_and_dates_the_czech_way(case):
    found = sheet(export(Case.objects.all(), "xlsx"))
    formats = {head.value: cell.number_format.replace("\\", "") for head, cell in zip(found[1], found[2], strict=True)}
    assert (formats["Loan amount (CZK)"], formats["Opened on"]) == ('#,##0 "Kč"', "d.m.yyyy")


def test_a_workbook_keeps_leading_zeros_as_text(client):
    found = sheet(export(Client.objects.all(), "xlsx"))
    cells = {head.value: cell for head, cell in zip(found[1], found[2], strict=True)}
    assert (cells["Postal code"].value, cells["Postal code"].number_format) == ("01001", "@")
    assert cells["Phone"].value == "00420777123456"


def test_a_workbook_has_a_bold_frozen_header_with_filters_and_widths(client):
    found = sheet(export(Client.objects.all(), "xlsx"))
    assert all(cell.font.b for cell in found[1])
    assert found.freeze_panes == "A2"
    assert found.tables["Data"].ref == found.tables["Data"].autoFilter.ref == "A1:AA2"
    assert found.column_dimensions["B"].width == 28


def test_empty_values_have_no_cell_at_all(client):
    with zipfile.ZipFile(io.BytesIO(export(Client.objects.all(), "xlsx"))) as archive:
        xml = archive.read("xl/worksheets/sheet1.xml").decode()
    row = re.search(r'<row r="2">(.*)</row>', xml)[1]
    # Reference, name, phone, postal code, created, updated, version.
    assert row.count("<c ") == 7


def test_an_empty_list_is_a_workbook_with_a_header(db):
    found = sheet(export(Client.objects.all(), "xlsx"))
    assert (found.max_row, found.tables["Data"].ref) == (1, "A1:AA2")


def test_totals_stand_beside_the_table(case, client):
    factories.make_case(client, loan_amount_czk=100, lender=factories.make_lender("=1+1"))
    found = sheets(export(Case.objects.all(), "xlsx"))
    assert found["Data"][0][0] == "Reference"
    assert ["Rows", 2] in found["Summary"] and ["Loan amount (CZK)", 1234667.5] in found["Summary"]
    assert found["Summary"].count(["Status", None]) == 1 and ["Open", 2] in found["Summary"]
    assert ["'=1+1", 1] in found["Summary"] and ["Current step", None] in found["Summary"]


def test_what_repeats_in_the_rows_is_in_no_total(case, client):
    kind = DocumentType.objects.create(code="passport", name_cs="Pas", name_en="Passport")
    Document.objects.bulk_create([Document(case=case, type=kind) for _number in range(3)])
    content = export(Document.objects.all(), "xlsx", columns=["status", "case.loan_amount_czk", "case.status"])
    assert sheets(content)["Summary"] == [["Rows", 3], [None, None], ["Status", None], ["Requested", 3]]


def test_of_a_clients_list_with_cases_only_the_cases_are_counted(case, client):
    factories.make_case(client, loan_amount_czk=100)
    content = export(Client.objects.all(), "xlsx", columns=["portal_user", "case.loan_amount_czk", "case.status"])
    found = sheets(content)["Summary"]
    assert ["Loan amount (CZK)", 1234667.5] in found and ["Open", 2] in found
    assert ["Portal user", None] not in found


def test_many_kinds_are_counted_to_the_end(db):
    counted = summary.Summary([column for column in exports.columns_of(Case) if column.name == "lender"], Case)
    for number in range(summary.MOST + 5):
        counted.see([[f"Bank {number}"]])
    lines = counted.lines(35)
    assert (len(lines), lines[-1][:2]) == (summary.MOST + 4, ("Others", 5))


@pytest.mark.parametrize("language", ["en", "cs"])
def test_a_workbook_says_what_it_is_and_an_import_passes_that_over(case, manager, language):
    with translation.override(language):
        target = io.BytesIO()
        run = exports.write(
            Case.objects.filter(status="open"), target, file_format="xlsx", user=manager,
            columns=["status"], filtered_by={"status__exact": "open"},
        )  # fmt: skip
        said = f"{str(Case._meta.get_field('status').verbose_name).capitalize()}: {CaseStatus.OPEN.label}"
    info = dict(sheets(target.getvalue())["Info"])
    assert {run.pk, 1, manager.get_display_name(), said} < set(info.values())
    assert exports.file_name(run).endswith(f"-{run.pk}.xlsx")
    from crm.imports import workbook

    _rows, notices, _source, others = workbook.read(target.getvalue())
    assert (notices, others) == ([], "")


def sheets(content):
    book = openpyxl.load_workbook(io.BytesIO(content))
    return {page.title: [list(row) for row in page.iter_rows(values_only=True)] for page in book}


def test_text_that_xml_cannot_say_comes_back_from_the_workbook(db):
    factories.make_client("Jan <b>&amp;</b> _x0041_ \u200b", note="first\r\nsecond\tthird")
    with translation.override("en"):
        content = export(Client.objects.all(), "xlsx")
    from crm.imports import workbook

    header, row = workbook.read(content)[0]
    cells = dict(zip(header, row, strict=True))
    assert cells["Full name"] == "Jan <b>&amp;</b> _x0041_ \u200b"
    assert cells["Note"] == "first\nsecond\tthird"


def test_a_csv_opens_in_czech_excel(case):
    content = export(Case.objects.all(), "csv")
    assert content.startswith(b"\xef\xbb\xbfReference;Client;Full name;")
    assert content.count(b"\r\n") == 2
    [row] = csv_rows(content)
    assert (row["Loan amount (CZK)"], row["Opened on"]) == ("1234567,50", "1.2.2026")
    assert (row["LTV (%)"], row["Interest rate (% a year)"]) == ("79,90", "3,125")


@pytest.mark.parametrize("delimiter", [";", ","])
@pytest.mark.parametrize("width", [1, 3])
def test_a_csv_has_quotes_where_pythons_own_writer_puts_them(delimiter, width):
    texts = ["", "plain", "a;b", "a,b", 'a "b"', '"', "a\nb", "a\rb", " a ", "'=1", "č 🏠", "None"]
    rows = list(itertools.product(texts, repeat=width))
    expected = io.StringIO()
    csv.writer(expected, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    columns = list(zip(*rows, strict=True))
    assert csv_file._lines(columns, delimiter).decode() == expected.getvalue()


@pytest.mark.parametrize("microsecond", [0, 120_000, 123_456])
def test_a_moment_for_machines_is_iso_whatever_its_fraction(case, microsecond):
    moment = datetime.datetime(2026, 7, 1, 22, 30, 5, microsecond, tzinfo=datetime.UTC)
    Case.objects.update(created_at=moment)
    [row] = plain_rows(export(Case.objects.all(), "plain_csv"))
    assert row["created_at"] == moment.isoformat()


def test_rows_of_a_workbook_keep_what_looks_like_a_place_for_a_value(db):
    texts = ["None", "100 %s", "%.0s%%", "5 % z ceny", "%(a)s"]
    for number, text in enumerate(texts):
        factories.make_client(f"Client {number}", note=text, employer=text if number % 2 else "")
    rows = xlsx_rows(export(Client.objects.order_by("pk"), "xlsx"))
    assert [(row["Note"], row["Employer"]) for row in rows] == [
        (text, text if number % 2 else None) for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_headers_and_choices_speak_the_readers_language(case, file_format, settings):
    read = xlsx_rows if file_format == "xlsx" else csv_rows
    with translation.override("en"):
        [row] = read(export(Case.objects.all(), file_format))
        assert row["Status"] == "Open"
    with translation.override("cs"):
        [row] = read(export(Case.objects.all(), file_format))
        assert row[xlsx_label(Case, "status")] == str(case.get_status_display())


def xlsx_label(model, name):
    return next(column.label for column in exports.columns_of(model) if column.name == name)


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_no_cell_is_a_formula(db, file_format):
    factories.make_client(FORMULA, employer="+420777123456", note="@SUM(A1)", city="-5")
    content = export(Client.objects.all(), file_format)
    if file_format == "xlsx":
        cells = [
            cell for page in openpyxl.load_workbook(io.BytesIO(content)) for row in page.iter_rows() for cell in row
        ]
        assert all(cell.data_type != "f" for cell in cells)
    [row] = xlsx_rows(content) if file_format == "xlsx" else csv_rows(content)
    assert row["Full name"] == f"'{FORMULA}"
    assert (row["Employer"], row["Note"], row["City"]) == ("'+420777123456", "'@SUM(A1)", "'-5")


@override_settings(IMPORT_EXPORT_ESCAPE_FORMULAE_ON_EXPORT=True)
def test_the_plain_packages_escape_damages_what_it_exports():
    table = tablib.Dataset(["=", None, 5, "==1+1"], headers=["text", "empty", "number", "formula"])
    row = StockXlsx().export_data(table)
    [_header, cells] = openpyxl.load_workbook(io.BytesIO(row)).active.iter_rows(values_only=True)
    # The `=` is gone for good, empty became the word, the number became text, and a formula is one still.
    assert cells == (None, "None", "5", "=1+1")


def test_the_plain_package_exports_formulas_without_its_escape():
    table = tablib.Dataset(["=1+1"], headers=["text"])
    cell = openpyxl.load_workbook(io.BytesIO(StockXlsx().export_data(table))).active["A2"]
    assert cell.data_type == "f"
    assert "=1+1" in StockCsv().export_data(tablib.Dataset(["=1+1"], headers=["text"]))


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
@pytest.mark.parametrize(("length", "fits"), [(32_767, True), (32_768, False)])
def test_a_text_longer_than_a_cell_is_marked_rather_than_cut(db, file_format, length, fits):
    factories.make_client(note="x" * length)
    content = export(Client.objects.all(), file_format)
    [row] = xlsx_rows(content) if file_format == "xlsx" else csv_rows(content)
    assert row["Note"] == ("x" * length if fits else TOO_LONG_MARK)


def test_a_length_is_counted_as_excel_counts_it(db):
    factories.make_client(note="🏠" * 16_384)
    assert csv_rows(export(Client.objects.all(), "csv"))[0]["Note"] == TOO_LONG_MARK


@pytest.mark.parametrize(("share", "shown"), [("2.99", "2,99 %"), ("3.00", 3)])
def test_a_small_share_is_written_with_its_sign(client, share, shown):
    factories.make_case(client, ltv_percent=Decimal(share))
    assert xlsx_rows(export(Case.objects.all(), "xlsx"))[0]["LTV (%)"] == shown


@pytest.mark.parametrize(
    ("born", "shown"), [("1900-02-28", "28.2.1900"), ("1900-03-01", datetime.datetime(1900, 3, 1))]
)
def test_a_day_before_excels_calendar_is_text(db, born, shown):
    factories.make_client(birth_date=datetime.date.fromisoformat(born))
    assert xlsx_rows(export(Client.objects.all(), "xlsx"))[0]["Date of birth"] == shown


def test_a_workbook_too_long_for_excel_is_refused(client, monkeypatch):
    factories.make_client("Bob")
    monkeypatch.setattr(xlsx_file, "MAX_ROWS", 1)
    with pytest.raises(xlsx_file.TooManyRows):
        export(Client.objects.all(), "xlsx")


@pytest.mark.parametrize(("index", "letters"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (701, "ZZ"), (702, "AAA")])
def test_columns_are_named_as_in_a_spreadsheet(index, letters):
    assert xlsx_file.column_letters(index) == letters
