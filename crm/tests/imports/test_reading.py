import datetime
import io
import sys
import unicodedata
import zipfile

import pytest

from crm.imports import parsers, reading, shelf, workbook
from crm.imports.problems import UnusableFile
from crm.imports.reading import read
from crm.tests.imports.workbooks import NINE, csv, repacked, with_sheet, xlsx

HEADER = "jmeno;datum\r\n"
BOOK = xlsx(NINE, ("Alice Nová", datetime.date(2025, 1, 2)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1250", "iso8859-2", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_encoding_and_delimiter_are_found(encoding, delimiter):
    sheet = read(csv(["Žaneta Čížková", "1.2.2025"], header=["jmeno", "datum"], delimiter=delimiter, encoding=encoding))
    assert (sheet.header, sheet.rows[0].cells) == (["jmeno", "datum"], ["Žaneta Čížková", "1.2.2025"])


@pytest.mark.parametrize(("encoding", "name"), [("cp1250", "Windows-1250"), ("iso8859-2", "ISO-8859-2")])
def test_a_guess_at_the_encoding_is_told(encoding, name):
    [notice] = read(csv(["Žaneta"], encoding=encoding)).notices
    assert name in notice and not read(csv(["Žaneta"])).notices


@pytest.mark.parametrize(
    "name", ["Žaneta", "Šťastná", "ŽIŽKA", "LUKÁŠ", "Tomáš", "Aleš", "Zhouť", "šíp", "Ťuhýk", "Ánaš"]
)
def test_one_letter_is_enough_to_know_iso_8859_2(name):
    assert read(csv([name, "Á"], encoding="iso8859-2")).rows[0].cells[0] == name


@pytest.mark.parametrize(
    "cells",
    [
        ("©Alfa »Beta", "Žaneta"), ("©Alfa", "ťuk"), ("®Alfa", "„Beta“"), ("«Á", "–"), ("Alfa® ©", "Áňa"), ("»Alfa«", "Áňa"),
        ("© 2026", "Áňa"), ("ľuľ", "Áňa"),
    ],
)  # fmt: skip
def test_signs_of_windows_1250_are_no_letters_of_iso_8859_2(cells):
    sheet = read(csv(cells, encoding="cp1250"))
    assert (tuple(sheet.rows[0].cells), sheet.source) == (cells, "CSV, Windows-1250, separated by semicolons")


@pytest.mark.parametrize(
    ("encoding", "delimiter", "said"),
    [
        ("utf-8-sig", ";", "CSV, UTF-8, separated by semicolons"),
        ("utf-8", ",", "CSV, UTF-8, separated by commas"),
        ("utf-16", "\t", "CSV, UTF-16, separated by tabs"),
        ("utf-16-be", "|", "CSV, UTF-16, separated by vertical bars"),
        ("cp1250", ";", "CSV, Windows-1250, separated by semicolons"),
        ("iso8859-2", ";", "CSV, ISO-8859-2, separated by semicolons"),
    ],
)
def test_encoding_and_delimiter_are_said(encoding, delimiter, said):
    content = csv(["Žaneta", "1.2.2025"], header=["jmeno", "datum"], delimiter=delimiter, encoding=encoding)
    assert read(content).source == said


def test_a_delimiter_of_the_files_own_is_said_and_none_where_nothing_is_split():
    assert read(b"sep=#\r\njmeno#datum\r\nA#1.1.2025\r\n").source == "CSV, UTF-8, separated by “#”"
    assert [read(head + b"jmeno\r\nA\r\n").source for head in (b"", b"sep=;\r\n")] == ["CSV, UTF-8, one column"] * 2


def test_the_sheet_of_a_workbook_is_said():
    assert read(xlsx(sheets={"Klienti": [NINE, ("A",)]})).source == "XLSX, sheet “Klienti”"


def test_a_file_of_two_encodings_says_so():
    content = csv(["Žaneta Čížková", "1.2.2025"], header=["jmeno", "datum"], encoding="cp1250")
    with pytest.raises(UnusableFile, match="another encoding"):
        read(b"\xef\xbb\xbf" + content)


def test_excels_line_about_the_delimiter_is_obeyed():
    assert read(b"sep=|\r\njmeno;x|datum\r\nA|1.1.2025\r\n").header == ["jmeno;x", "datum"]


def test_quotes_hold_delimiters_quotes_and_line_breaks():
    sheet = read('jmeno;datum\r\n"Byt ""3+kk""; dům\r\nchata";1.1.2025\r\n'.encode())
    assert sheet.rows[0].cells == ['Byt "3+kk"; dům\r\nchata', "1.1.2025"]


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_header_with_a_line_break_in_quotes_is_cut_where_its_delimiter_stands(delimiter, end):
    sheet = read(f'"Jméno{end}klienta"{delimiter}email{end}Jana{delimiter}jana@example.com{end}'.encode())
    assert sheet.header == [f"Jméno{end}klienta", "email"]
    assert [row.cells for row in sheet.rows] == [["Jana", "jana@example.com"]]


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("Příjmení, jméno, titul;email", ["Příjmení, jméno, titul", "email"]),
        ('"Příjmení, jméno, titul";email', ["Příjmení, jméno, titul", "email"]),
        ("Cena; jak je,email,telefon", ["Cena; jak je", "email", "telefon"]),
        ("jmeno, email, telefon", ["jmeno", "email", "telefon"]),
        ("jmeno; email; telefon", ["jmeno", "email", "telefon"]),
        ("jmeno;,;,;", ["jmeno", ",", ","]),
    ],
)
def test_a_comma_in_the_words_of_a_header_cuts_nothing(line, header):
    assert read(f"{line}\r\nx\r\n".encode()).header == header


@pytest.mark.parametrize("end", ["\r\n", ""])
def test_the_mark_by_which_dos_ends_a_text_is_no_row(end):
    sheet = read(f"jmeno;datum\r\nJana;1.2.2026{end}\x1a".encode())
    assert ([row.cells for row in sheet.rows], sheet.cut_row) == ([["Jana", "1.2.2026"]], 0)


def test_rows_have_the_spreadsheets_own_numbers():
    sheet = read(b"\r\n;;\r\njmeno;datum\r\nA;1\r\n;\r\n\r\nB;2\r\n\r\n")
    assert [(row.number, row.is_blank) for row in sheet.rows] == [(4, False), (5, True), (6, True), (7, False)]


def test_a_workbook_has_dates_numbers_and_its_own_row_numbers():
    sheet = read(xlsx(NINE, ("A", datetime.date(2025, 5, 28), None, 1.5), (), ("B",)), "x.xlsx")
    assert [(row.number, row.is_blank) for row in sheet.rows] == [(2, False), (3, True), (4, False)]
    assert sheet.rows[0].cells[1:4] == [datetime.date(2025, 5, 28), "", 1.5]


def test_a_sheet_that_starts_lower_keeps_its_row_numbers():
    sheet = read(xlsx((), (), NINE, ("A",)))
    assert (sheet.header[0], sheet.rows[0].number) == ("jmeno", 4)


@pytest.mark.parametrize(
    "cover", [[("Seznam klientů 2026",)], [("Seznam klientů 2026",), ("vypracoval: Marek",)], [(), ("", "Seznam")]]
)
def test_a_cover_page_is_passed_over(cover):
    sheet = read(xlsx(*cover, sheets={"Klienti": [NINE, ("A",)], "Další": [NINE, ("B",)]}))
    assert ([row.cells[0] for row in sheet.rows], sheet.source) == (["A"], "XLSX, sheet “Klienti”")
    assert sheet.notices == [sheet.sheets] == ["Only the sheet Klienti was read, not Sheet, Další."]


def test_a_header_alone_is_passed_over_for_a_table():
    assert [row.cells[0] for row in read(xlsx(NINE, sheets={"Klienti": [NINE, (), ("A",)]})).rows[-1:]] == ["A"]


def test_a_column_of_names_is_read_where_no_sheet_is_a_table():
    sheet = read(xlsx(("jmeno",), ("A",), ("B",), sheets={"Další": [["x", "y"]], "Info": [["x", "y"], ["1", "2"]]}))
    assert [row.cells[0] for row in sheet.rows] == ["A", "B"]


@pytest.mark.parametrize("rows", [[["jmeno"]], [["jmeno"], ["x" * 20_000]], [["x"] * 1_001]])
def test_a_refusal_says_which_sheet_was_read(monkeypatch, rows):
    monkeypatch.setattr(workbook, "LONGEST_CELL", 10_000)
    with pytest.raises(UnusableFile, match=r"\. Only the sheet Sheet was read, not 100 %s\.$"):
        read(xlsx(*rows, sheets={"100 %s": [["x"]]}))


def test_other_sheets_are_named():
    assert "Druhý" in read(xlsx(NINE, ("A",), sheets={"Druhý": [["x"]], "Prázdný": []})).notices[0]


@pytest.mark.parametrize("parse", [parsers.text, parsers.line, parsers.amount, parsers.date, parsers.integer])
def test_a_formula_that_was_never_computed_is_no_value(parse):
    [cell] = read(xlsx(["jmeno"], ['="Pra"&"ha"'])).rows[0].cells
    assert cell == '="Pra"&"ha"'
    with pytest.raises(parsers.UnreadableValue, match="formula without a result"):
        parse(cell)


def test_a_text_that_looks_like_a_formula_is_a_text():
    rows = (
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>jmeno</t></is></c></row>'
        b'<row r="2"><c r="A2" t="inlineStr"><is><t>=1+1</t></is></c><c r="B2"><f>1</f></c></row>'
    )
    assert parsers.text(read(with_sheet(BOOK, rows)).rows[0].cells[0]) == "=1+1"


def test_a_formula_with_a_result_is_its_result():
    sheet = read(
        with_sheet(
            BOOK,
            b'<row r="1"><c r="A1" t="inlineStr"><is><t>jmeno</t></is></c><c r="B1"><v>1</v></c><c r="C1"><v>1</v></c></row>'
            b'<row r="2"><c r="A2" t="str"><f>A1</f><v>Alice</v></c><c r="B2"><f>1+1</f><v>2</v></c>'
            b'<c r="C2" t="str"><f>IF(1,"")</f><v></v></c></row>',
        )
    )
    assert sheet.rows[0].cells == ["Alice", 2, ""]


def test_an_error_cell_is_not_an_empty_one():
    sheet = read(
        with_sheet(
            BOOK,
            b'<row r="1"><c r="A1" t="inlineStr"><is><t>jmeno</t></is></c></row>'
            b'<row r="2"><c r="A2" t="e"><v>#REF!</v></c></row><row><c t="e"><f>1/0</f><v>#DIV/0!</v></c></row>',
        )
    )
    assert [row.cells for row in sheet.rows] == [["#REF!"], ["#DIV/0!"]]
    with pytest.raises(parsers.UnreadableValue):
        parsers.text(sheet.rows[0].cells[0])


def archive(**parts) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return target.getvalue()


def lying_about_sizes(content: bytes) -> bytes:
    """Every size in the zip's directory says 10 bytes."""
    changed, at = bytearray(content), 0
    while (at := changed.find(b"PK\x01\x02", at)) >= 0:
        changed[at + 24 : at + 28] = (10).to_bytes(4, "little")
        at += 4
    return bytes(changed)


OLD_XLS = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600
TEXT = csv(["Žaneta Čížková", "1.2.2025"])
BAD_FILES = {
    "empty": (b"", "x.csv"),
    "only a BOM": (b"\xef\xbb\xbf", "x.csv"),
    "only line ends": (b"\r\n\r\n", "x.csv"),
    "only delimiters": (b";;;\r\n;;;\r\n", "x.csv"),
    "a header alone": (HEADER.encode(), "x.csv"),
    "zeros": (b"\0" * 1000, "x.xlsx"),
    "binary": (bytes(range(256)) * 20, "x.csv"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "x.csv"),
    "a PDF named XLSX": (b"%PDF-1.7\n" + TEXT, "x.xlsx"),
    "a web page named XLS": (b"<html><table><tr><td>jmeno</td></tr></table></html>", "x.xls"),
    "a web page": (b"<!DOCTYPE html><table><tr><td>jmeno</td></tr></table>", "x.csv"),
    "XML": (b'<?xml version="1.0"?><Workbook/>', "x.csv"),
    "text named XLSX": (TEXT, "x.xlsx"),
    "a workbook named CSV": (BOOK, "x.csv"),
    "an old workbook": (OLD_XLS, "x.xls"),
    "an old workbook named XLSX": (OLD_XLS, "x.xlsx"),
    "a workbook with a password": (OLD_XLS + "EncryptedPackage".encode("utf-16-le"), "x.xlsx"),
    "quotes never closed": ((HEADER + '"Alice\r\nBob;2.2.2025\r\n').encode(), "x.csv"),
    "an enormous cell": ((HEADER + "x" * 200_000 + ";1.1.2025\r\n").encode(), "x.csv"),
    "UTF-8 cut in a letter": (TEXT[: TEXT.index("ž".encode()) + 1], "x.csv"),
    "UTF-8 joined with Windows-1250": (TEXT + "\r\nŘíha;1.1.2025".encode("cp1250"), "x.csv"),
    "neither UTF-8 nor Windows-1250": (HEADER.encode() + b"\x81\x83\x88;1.1.2025\r\n", "x.csv"),
    "UTF-16 with half a letter": (csv(["Žaneta"], encoding="utf-16")[:-1], "x.csv"),
    "a workbook cut in half": (BOOK[: len(BOOK) // 2], "x.xlsx"),
    "a workbook without its end": (BOOK[:-30], "x.xlsx"),
    "the first bytes of a workbook": (BOOK[:4], "x.xlsx"),
    "a workbook with flipped bytes": (BOOK[:200] + b"\xff" * 40 + BOOK[240:], "x.xlsx"),
    "a zip of something else": (archive(readme_dot_txt="hello"), "x.zip"),
    "an empty zip": (archive(), "x.xlsx"),
    "OpenDocument": (archive(content_dot_xml="<x/>", mimetype="application/vnd.oasis"), "x.ods"),
    "a binary workbook": (archive(xl__workbook_dot_bin="x"), "x.xlsb"),
    "a workbook part and no more": (archive(xl__workbook_dot_xml="<workbook/>"), "x.xlsx"),
    "a sheet that is missing": (repacked(BOOK, lambda n, p: None if n.endswith("sheet1.xml") else p), "x.xlsx"),
    "a sheet that is no XML": (repacked(BOOK, lambda n, p: b"\xff<<" if n.endswith("sheet1.xml") else p), "x.xlsx"),
    "an empty workbook": (xlsx(), "x.xlsx"),
    "a workbook with a header alone": (xlsx(NINE), "x.xlsx"),
    "a workbook with hidden rows only": (
        repacked(BOOK, lambda n, p: p.replace(b'state="visible"', b'state="hidden"') if n == "xl/workbook.xml" else p),
        "x.xlsx",
    ),
    "a zip bomb": (repacked(BOOK, lambda n, p: p + b" " * 60_000_000 if n.endswith("sheet1.xml") else p), "x.xlsx"),
    "a zip that lies about its sizes": (lying_about_sizes(BOOK), "x.xlsx"),
    "a cell at the far corner": (
        with_sheet(
            BOOK, b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        ),
        "x.xlsx",
    ),
    "a far cell in a short row": (with_sheet(BOOK, b'<row r="2"><c r="ZZZ2"><v>1</v></c></row>'), "x.xlsx"),
    "an entity bomb": (
        repacked(BOOK, lambda n, p: b'<!DOCTYPE a [<!ENTITY b "c">]>' + p if n.endswith("sheet1.xml") else p),
        "x.xlsx",
    ),
    "a thousand and one parts": (archive(xl__workbook_dot_xml="x", **{f"part{n}": "" for n in range(1_000)}), "x.xlsx"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_the_cure(name):
    content, file_name = BAD_FILES[name]
    with pytest.raises(UnusableFile) as refused:
        read(content, file_name)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("seed", range(60))
def test_a_workbook_with_any_byte_changed_is_read_or_refused_by_name(seed):
    at = seed * len(BOOK) // 60
    changed = BOOK[:at] + bytes([BOOK[at] ^ 0x5A]) + BOOK[at + 1 :]
    try:
        read(changed, "x.xlsx")
    except UnusableFile as refused:
        assert str(refused)


@pytest.mark.parametrize(("spare", "refused"), [(0, False), (-1, True)])
def test_the_limit_of_unpacked_bytes_has_two_sides(monkeypatch, spare, refused):
    with zipfile.ZipFile(io.BytesIO(BOOK)) as packed:
        size = sum(entry.file_size for entry in packed.infolist())
    monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", size + spare)
    if refused:
        with pytest.raises(UnusableFile):
            read(BOOK)
    else:
        assert read(BOOK).rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1250", "iso8859-2"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_text_of_many_pieces_is_read_as_one(monkeypatch, encoding, end):
    monkeypatch.setattr(reading, "_PIECE", 7)
    monkeypatch.setattr(shelf, "BLOCK", 2)
    lines = ["sep=|", "jmeno|datum", *(f"Žaneta {number}|{number}.2.2025" for number in range(1, 6)), "", ""]
    sheet = reading.read(end.join(lines).encode(encoding), "x.csv")
    assert [row.cells for row in sheet.rows] == [[f"Žaneta {number}", f"{number}.2.2025"] for number in range(1, 6)]
    assert ([row.number for row in sheet.rows], sheet.cut_row) == ([2, 3, 4, 5, 6], 0)


def test_a_corrected_row_keeps_its_correction_and_the_others_theirs(monkeypatch):
    monkeypatch.setattr(shelf, "BLOCK", 1)
    rows = reading.read(b"jmeno;datum\r\nAlice;1\r\nBob;2\r\n", "x.csv").rows
    rows[0].correct(3, "x")
    assert [row.cells for row in rows] == [["Alice", "1", None, "x"], ["Bob", "2"]]


def test_everything_that_nobody_sees_is_known():
    unseen = {
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if char.isspace() or (char > "\x7f" and unicodedata.category(char) == "Cf")
    }
    assert unseen == set(reading._UNSEEN)
