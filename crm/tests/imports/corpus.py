"""What an import may be given: files that are damaged, hostile or only odd, each made by code, and what has to come of it:
a refusal with these words in it, or so many rows created and refused, with these words among what is said of them."""

import datetime
import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from crm.tests.imports.naughty import EMPTY, PLAIN, REFUSED
from crm.tests.imports.workbooks import xlsx


@dataclass(frozen=True)
class File:
    name: str
    make: Callable[[], bytes]
    refused: str = ""
    created: int = 0
    errors: int = 0
    skipped: int = 0
    says: str = ""


# --- Text ---

HEADER = "jmeno;datum"
ALICE = "Žaneta Čížková;1.2.2025"


def text(*rows: str, header: str = HEADER, end: str = "\r\n", encoding: str = "utf-8") -> bytes:
    return "".join(row + end for row in [header, *rows]).encode(encoding)


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


CZECH = text(ALICE)
MEGABYTE = 1024 * 1024

# --- Workbooks, written by hand so that every byte can be wrong ---

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
STRICT = "http://purl.oclc.org/ooxml/officeDocument/relationships"
TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
SHEET, TEXTS, STYLES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"
WORKBOOK, RELATIONS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
# Style 1 is a date, 2 a time over 24 hours.
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/{WORKBOOK}" ContentType="{TYPE}.sheet.main+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="{WORKBOOK}"/></Relationships>',
    STYLES: f'<styleSheet xmlns="{MAIN}"><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="46"/>'
    "</cellXfs></styleSheet>",
    TEXTS: f'<sst xmlns="{MAIN}"><si><t>jmeno</t></si><si><t>datum</t></si></sst>',
}
HEAD = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
ROW = '<row r="2"><c r="A2" t="inlineStr"><is><t>Žaneta</t></is></c><c r="B2" s="1"><v>45000</v></c></row>'


def index(*sheets: str, first: str = "") -> str:
    """The workbook part; each sheet as the attributes of its tag."""
    tags = "".join(f"<sheet {sheet}/>" for sheet in sheets)
    return f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{first}<sheets>{tags}</sheets></workbook>'


def relations(*targets: str, kind: str = "worksheet") -> str:
    others = (("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml"))
    tags = [
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for number, target in enumerate(targets, start=1)
    ]
    tags += [f'<Relationship Id="{each}" Type="{OFFICE}/{each}" Target="{target}"/>' for each, target in others]
    return f'<Relationships xmlns="{PACKAGE}/relationships">{"".join(tags)}</Relationships>'


FIRST = 'name="Data" sheetId="1" r:id="rId1"'


def sheet(rows: str, after: str = "", root: str = "worksheet") -> str:
    return f'<{root} xmlns="{MAIN}"><sheetData>{rows}</sheetData>{after}</{root}>'


def book(rows: str = HEAD + ROW, **parts: str | bytes | None) -> bytes:
    """A workbook of one sheet; `parts` by name are others, None for one that is missing."""
    every = PARTS | {WORKBOOK: index(FIRST), RELATIONS: relations("worksheets/sheet1.xml"), SHEET: sheet(rows)} | parts
    return packed({name: part for name, part in every.items() if part is not None})


def packed(parts: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method, compresslevel=1) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return target.getvalue()


def with_parts(**parts) -> Callable[[], bytes]:
    return lambda: book(**parts)


def with_rows(*rows: str, head: str = HEAD) -> Callable[[], bytes]:
    return lambda: book(head + "".join(rows))


def cell(place: str, value: object, **attributes: str) -> str:
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<c r="{place}"{said}><v>{value}</v></c>'


def name_cell(place: str, value: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'


def named(number: int, name: str, *cells: str) -> str:
    return f'<row r="{number}">{name_cell(f"A{number}", name)}{"".join(cells)}</row>'


BOOK = book()


def cut(percent: int) -> Callable[[], bytes]:
    return lambda: BOOK[: len(BOOK) * percent // 100]


def flipped() -> bytes:
    middle = len(BOOK) // 2
    return BOOK[:middle] + bytes(byte ^ 0xFF for byte in BOOK[middle : middle + 40]) + BOOK[middle + 40 :]


def in_directory(offset: int, value: bytes) -> Callable[[], bytes]:
    """The same thing said in the zip's directory about every part."""

    def make() -> bytes:
        changed, at = bytearray(BOOK), 0
        while (at := changed.find(b"PK\x01\x02", at)) >= 0:
            changed[at + offset : at + offset + len(value)] = value
            at += 4
        return bytes(changed)

    return make


def overlapping() -> bytes:
    """A hundred entries of the directory that are all one and the same part of ten megabytes."""
    content = book(**{"xl/media/a.bin": b" " * (10 * MEGABYTE)})
    end = content.rfind(b"PK\x05\x06")
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    directory = content[start : start + size]
    at = directory.find(b"xl/media/a.bin") - 46
    entry = directory[at : at + 46 + len(b"xl/media/a.bin")]
    names = [entry.replace(b"a.bin", f"{number:05}".encode()) for number in range(100)]
    copies = b"".join(names)
    count = struct.unpack("<H", content[end + 10 : end + 12])[0] + len(names)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, size + len(copies), start, 0)
    return content[:start] + directory + copies + tail


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def laughing(part: str, doctype: str = LAUGHS) -> Callable[[], bytes]:
    plain = {**PARTS, WORKBOOK: index(FIRST), RELATIONS: relations("worksheets/sheet1.xml"), SHEET: sheet(HEAD + ROW)}
    return lambda: book(**{part: doctype + plain[part].replace("jmeno", "&j;")})


def many_sheets(own_parts: bool) -> Callable[[], bytes]:
    def make() -> bytes:
        names = [
            f'name="S{number}" sheetId="{number}" r:id="rId{number if own_parts else 1}"' for number in range(1, 10_001)
        ]
        targets = [f"worksheets/sheet{number}.xml" for number in range(1, 10_001 if own_parts else 2)]
        others = {f"xl/{target}": sheet(HEAD + ROW) for target in targets} if own_parts else {}
        return book(**{WORKBOOK: index(*names), RELATIONS: relations(*targets), **others})

    return make


def lone(attributes: str, **parts) -> Callable[[], bytes]:
    return with_parts(**{WORKBOOK: index(attributes)}, **parts)


def compound(*names: str) -> Callable[[], bytes]:
    return lambda: bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600 + "".join(names).encode("utf-16-le") + b"\0" * 600


def prefixed() -> bytes:
    rows = '<x:row r="1"><x:c r="A1" t="inlineStr"><x:is><x:t>jmeno</x:t></x:is></x:c></x:row>'
    rows += '<x:row r="2"><x:c r="A2" t="inlineStr"><x:is><x:t>Jan</x:t></x:is></x:c></x:row>'
    page = f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>{rows}</x:sheetData></x:worksheet>'
    return book(**{SHEET: page})


def unplaced(row: str, rows: int, head: str = "<row><c><v>1</v></c></row>") -> Callable[[], bytes]:
    """Rows and cells without a place, each of which is the next one."""
    return lambda: book(head + row * rows)


def naughty_book() -> bytes:
    """The same texts in a workbook; what XML cannot hold is written as Excel does."""
    rows = [named(number, _xml(name)) for number, name in enumerate(PLAIN, start=2)]
    return book(HEAD + "".join(rows))


def _xml(value: str) -> str:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"_x{ord(char):04X}_" if char in "\uffff\ufffe" else char for char in escaped)


# Of the naughty names those that say what another one says: only the space differs, or what escapes an apostrophe.
SPACED = 6
OLD, NEW = datetime.date(1950, 3, 1), datetime.date(2025, 3, 1)
DAMAGED, TOO_BIG, FAR = "is damaged or was cut short", "unpacks to far more", "A cell far from the others"
NOT_EXCEL, NO_NAMES, PASSWORD = "is no Excel workbook", "No column holds the clients' names", "protected by a password"

# fmt: off
TEXTS_REFUSED = {
    "0 bytes": File("x.csv", bytes, "is empty"),
    "0 bytes named XLSX": File("x.xlsx", bytes, "is empty"),
    "only a BOM": File("x.csv", lambda: b"\xef\xbb\xbf", "is empty"),
    "only a BOM of UTF-16": File("x.csv", lambda: b"\xff\xfe", "has no rows"),
    "only line ends": File("x.csv", lambda: b"\r\n" * 500_000, "is empty"),
    "only delimiters": File("x.csv", lambda: b";;;\r\n" * 50_000, "has no rows"),
    "only what nobody sees": File("x.csv", lambda: "\u200b;\u2060\r\n\ufeff".encode() * 9, "has no rows"),
    "a header alone": File("x.csv", lambda: text(), "no rows below it"),
    "only zeros": File("x.csv", lambda: bytes(5000), "is empty"),
    "200 MB": File("x.csv", lambda: bytes(200 * MEGABYTE), "larger than 150 MB"),
    "200 MB named XLSX": File("x.xlsx", lambda: bytes(200 * MEGABYTE), "larger than 150 MB"),
    "NUL in a cell": File("x.csv", lambda: text("Jan\0Novák;1.2.2025"), "is not text"),
    "NUL far behind": File("x.csv", lambda: text(*[ALICE] * 99, "\0"), "is not text"),
    "any bytes": File("x.csv", lambda: bytes(range(256)) * 40, "is not text"),
    "UTF-32": File("x.csv", lambda: text(ALICE, encoding="utf-32"), "is not text"),
    "UTF-16 with half a letter": File("x.csv", lambda: text(ALICE, encoding="utf-16")[:-1], "UTF-16 text"),
    "UTF-16 with half a pair": File("x.csv", lambda: b"\xff\xfe" + "jmeno\r\n".encode("utf-16-le") + b"\x00\xd8", "UTF-16 text"),
    "EBCDIC": File("x.csv", lambda: text("Jana;1", encoding="cp500"), "neither UTF-8 nor"),
    "UTF-8 and Windows-1250 joined": File("x.csv", lambda: CZECH * 9 + text(ALICE, encoding="cp1250"), "damaged letters"),
    "a BOM before Windows-1250": File("x.csv", lambda: b"\xef\xbb\xbf" + text(ALICE, encoding="cp1250"), "another encoding"),
    "UTF-8 cut in a letter": File("x.csv", lambda: CZECH[: CZECH.index("ž".encode()) + 1], "damaged letters"),
    "UTF-8 with a surrogate": File("x.csv", lambda: text(ALICE) + b"Jan \xed\xa0\x80;1.2.2025\r\n", "damaged letters"),
    "UTF-8 longer than it may be": File("x.csv", lambda: text(ALICE) + b"Jan \xc0\xaf;1.2.2025\r\n", "damaged letters"),
    "millions of letters and a broken one": File("x.csv", lambda: text("ž" * 2_000_000) + b"\xff", "damaged letters"),
    "quotes never closed": File("x.csv", lambda: text('"Alice', "Bob;2.2.2025"), "row 2, column “jmeno”, is not closed"),
    "quotes, 50,001 of them": File("x.csv", lambda: text('"' * 50_001), "is not closed"),
    "quotes of the whole file": File("x.csv", lambda: text('"' + "a\r\n" * 60_000), "is not closed"),
    "an enormous cell": File("x.csv", lambda: text("x" * 200_000), "row 2, column “jmeno”, holds more than"),
    "a million columns": File("x.csv", lambda: text("1", header=";".join(["jmeno"] * 1_000_000)), "more than 1000 columns"),
    "a million cells in a row": File("x.csv", lambda: text(";" * 1_000_000), "more than 1000 columns"),
    "a row of a million cells with line breaks": File("x.csv", lambda: text('"\r\n";' * 1_000_000), "more than 1000 columns"),
    "1,001 columns": File("x.csv", lambda: text("1", header=";".join(["jmeno", *map(str, range(1_000))])), "more than 1000 columns"),
    "a row beyond the most": File("x.csv", lambda: text("Jan") + b"\r\n" * 300_000 + b"Eva", "more than 300000 rows"),
    "columns of one meaning": File("x.csv", lambda: text("A;B", header="jmeno;Jméno klienta"), "mean the same"),
    "names in two columns": File("x.csv", lambda: text("Jan;Bílý", header="Jméno;Příjmení"), "in two pieces"),
    "columns of one name": File("x.csv", lambda: text("A;B", header="jmeno;jmeno"), "mean the same"),
    "no header": File("x.csv", lambda: text(ALICE, header="Jan Novák;1.2.2025"), NO_NAMES),
    "a header of numbers": File("x.csv", lambda: text("1;2", header="1;2"), NO_NAMES),
    "a name in the header as long as a cell": File("x.csv", lambda: text("1", header="x" * 90_000), NO_NAMES),
    "JSON": File("x.csv", lambda: b'{"jmeno": "Jan",\r\n"datum": null}\r\n', "older CRM"),
    "lines of JSON": File("x.txt", lambda: b'{"jmeno": "Jan"}\n{"jmeno": "Eva"}\n', "older CRM"),
    "JSON named XLSX": File("x.xlsx", lambda: b'[{"jmeno": "Jan"}]', "older CRM"),
    "a list in a list in a list": File("x.json", lambda: b"[" * MEGABYTE, "older CRM"),
    "a piece of a dump": File("x.json", lambda: b'[{"model": "klienti.klient", "pk": 1, "fields": {"jmeno": "Ja', "older CRM"),
    "a dump of nothing": File("x.txt", lambda: b"[]\n", "older CRM"),
    "a web page named XLS": File("x.xls", lambda: b"<html><table><tr><td>jmeno</td></tr></table></html>", NOT_EXCEL),
    "a web page named CSV": File("x.csv", lambda: b"\r\n <!DOCTYPE html><table><tr><td>jmeno", "web page or XML"),
    "XML of Excel 2003": File("x.csv", lambda: b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook/>', "web page or XML"),
    "laughing XML": File("x.csv", lambda: f'<?xml version="1.0"?>{LAUGHS}<a>&j;</a>'.encode(), "web page or XML"),
    "a PDF named XLSX": File("x.xlsx", lambda: b"%PDF-1.7\n" + CZECH, NOT_EXCEL),
    "a PDF named CSV": File("x.csv", lambda: b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n", NO_NAMES),
    "a picture": File("x.csv", lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "is not text"),
    "a picture named XLSX": File("x.xlsx", lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), NOT_EXCEL),
    "gzip": File("x.csv", lambda: gzip.compress(CZECH * 50, mtime=0), "is not text"),
    "a database": File("x.csv", lambda: b"SQLite format 3\0" + bytes(range(200)), "is not text"),
    "rich text": File("x.csv", lambda: b"{\\rtf1\\ansi jmeno;datum\\par}\r\n{x}", NO_NAMES),
    "text named XLSX": File("x.xlsx", lambda: CZECH, NOT_EXCEL),
}
WORKBOOKS_REFUSED = {
    "a workbook named CSV": File("x.csv", lambda: BOOK, "named .csv but is a workbook"),
    **{f"a workbook cut at {percent} %": File("x.xlsx", cut(percent), DAMAGED) for percent in (5, 25, 50, 75, 99)},
    "the first four bytes of a workbook": File("x.xlsx", lambda: BOOK[:4], DAMAGED),
    "flipped bytes": File("x.xlsx", flipped, DAMAGED),
    "a password": File("x.xlsx", compound("EncryptionInfo", "EncryptedPackage"), PASSWORD),
    "an old workbook": File("x.xls", compound("Workbook"), "old .xls kind"),
    "an old workbook named XLSX": File("x.xlsx", compound("Workbook"), "old .xls kind"),
    "encrypted parts": File("x.xlsx", in_directory(8, b"\x01\0"), PASSWORD),
    "a binary workbook": File("x.xlsb", lambda: packed({"xl/workbook.bin": b"x"}), "Save it as XLSX"),
    "OpenDocument": File("x.ods", lambda: packed({"content.xml": "<x/>"}), "Save it as XLSX"),
    "a document of Word": File("x.xlsx", lambda: packed({"word/document.xml": "<x/>"}), "packed file, not a workbook"),
    "a zip of a spreadsheet": File("x.zip", lambda: packed({"x.csv": CZECH}), "packed file, not a workbook"),
    "a zip in a zip": File("x.xlsx", lambda: packed({"x.xlsx": BOOK}), "packed file, not a workbook"),
    "an empty zip": File("x.xlsx", lambda: packed({}), "packed file, not a workbook"),
    "a bomb in the sheet": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + ROW) + " " * (25 * MEGABYTE)}), TOO_BIG),
    "a bomb in the texts": File("x.xlsx", with_parts(**{TEXTS: f'<sst xmlns="{MAIN}">{"<si/>" * (5 * MEGABYTE)}</sst>'}), TOO_BIG),
    "a bomb beside": File("x.xlsx", with_parts(**{"xl/media/a.png": b"\0" * (25 * MEGABYTE)}), TOO_BIG),
    "a bomb in a bomb": File("x.xlsx", with_parts(**{"xl/media/a.zip": packed({"b": packed({"c": b"\0" * (30 * MEGABYTE)})}) + b"\0" * (25 * MEGABYTE)}), TOO_BIG),
    "one part a hundred times": File("x.xlsx", overlapping, TOO_BIG),
    "a size that is too small": File("x.xlsx", in_directory(24, struct.pack("<I", 10)), DAMAGED),
    "a size that is too large": File("x.xlsx", in_directory(24, struct.pack("<I", 2**31)), DAMAGED),
    "a packed size beyond the file": File("x.xlsx", in_directory(20, struct.pack("<I", 2**31)), DAMAGED),
    "a part that begins beyond the file": File("x.xlsx", in_directory(42, struct.pack("<I", 2**31)), DAMAGED),
    "another checksum": File("x.xlsx", in_directory(16, b"\1\2\3\4"), DAMAGED),
    "another way of packing": File("x.xlsx", in_directory(10, b"\x0e\0"), DAMAGED),
    "a part twice": File("x.xlsx", with_parts(**{"XL/Worksheets/Sheet1.xml": sheet("")}), DAMAGED),
    **{
        f"an entity bomb in {part}": File("x.xlsx", laughing(part), DAMAGED)
        for part in (*PARTS, WORKBOOK, RELATIONS, SHEET)
    },
    **{
        f"an entity from outside in {part}": File("x.xlsx", laughing(part, OUTSIDE), DAMAGED)
        for part in (WORKBOOK, SHEET, TEXTS)
    },
    "a DOCTYPE where two pieces meet": File(
        "x.xlsx", laughing(SHEET, "<!--" + "x" * (MEGABYTE - 4 - 3 - 5) + "-->" + LAUGHS), DAMAGED
    ),
    "a DOCTYPE in UTF-16": File("x.xlsx", with_parts(**{WORKBOOK: (LAUGHS + index(FIRST)).encode("utf-16")}), DAMAGED),
    "a sheet in UTF-16": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + ROW).encode("utf-16")}), DAMAGED),
    "an index of megabytes": File("x.xlsx", with_parts(**{WORKBOOK: index(FIRST, first="<a/>" * (3 * MEGABYTE))}), TOO_BIG),
    "a cell at the far corner": File("x.xlsx", with_rows(f'<row r="1048576">{cell("XFD1048576", 1)}</row>'), FAR),
    "a far cell in small letters": File("x.xlsx", with_rows(f'<row r="2">{cell("xfd1048576", 1)}</row>'), FAR),
    "a far cell behind zeros": File("x.xlsx", with_rows(f'<row r="2">{cell("XFD0000000000001048576", 1)}</row>'), FAR),
    "a far cell in other quotes": File("x.xlsx", with_rows("<row><c\nr = 'XFD1048576'><v>1</v></c></row>"), FAR),
    "a far cell with a blank before its quotes": File("x.xlsx", with_rows('<row><c r= "XFD1048576"><v>1</v></c></row>'), FAR),
    "a far cell beyond every sheet": File("x.xlsx", with_rows(f'<row r="2">{cell("ZZZZZZ99999999999", 1)}</row>'), FAR),
    "a far cell in the only sheet, named a picture": File(
        "x.xlsx",
        with_parts(**{RELATIONS: relations("media/a.png"), "xl/media/a.png": sheet(f'<row r="2">{cell("XFD1048576", 1)}</row>'), SHEET: None}),
        FAR,
    ),
    "a far column in small letters": File("x.xlsx", with_rows(f'<row r="900">{cell("xfd900", 1)}</row>'), FAR),
    "a far row behind zeros": File("x.xlsx", with_rows(f'<row r="2">{cell("Z0000000000001048576", 1)}</row>'), FAR),
    "four cells as far apart as is allowed": File("x.xlsx", with_rows(f'<row r="300000">{cell("A300000", 1)}{cell("Z300000", 1)}</row>'), FAR),
    "many prefixed rows without a place": File(
        "x.xlsx", with_parts(**{SHEET: f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row r="1">{cell("ZZ1", 1)}</x:row>{"<x:row><x:c><x:v>1</x:v></x:c></x:row>" * 20_000}</x:sheetData></x:worksheet>'}), FAR
    ),
    "a far row without cells of its own place": File("x.xlsx", with_rows('<row r="1048576"><c><v>1</v></c></row>', f'<row r="2">{cell("ZZ2", 1)}</row>'), FAR),
    "a million columns without a place": File("x.xlsx", unplaced(f"<row>{'<c><v>1</v></c>' * 1_000_000}</row>", 1, '<row r="900"/>'), FAR),
    "many rows without a place": File("x.xlsx", unplaced("<row><c><v>1</v></c></row>", 500_000, f'<row r="1">{cell("ZZ1", 1)}</row>'), FAR),
    "columns without a place, one by one prefixed": File(
        "x.xlsx", with_parts(**{SHEET: f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row>{"<x:c><x:v>1</x:v></x:c>" * 10_000}</x:row><x:row r="900"/></x:sheetData></x:worksheet>'}), FAR
    ),
    "more rows than an office has": File("x.xlsx", unplaced("<row><c><v>1</v></c></row>", 301_000), "more than 300000 rows"),
    "a text of megabytes, named often": File(
        "x.xlsx",
        with_parts(**{TEXTS: f'<sst xmlns="{MAIN}"><si><t>{"x" * 900_000}</t></si></sst>', SHEET: sheet('<row r="1">' + '<c t="s"><v>0</v></c>' * 900 + "</row>")}),
        TOO_BIG,
    ),
    "a text named often, in ways of its own": File(
        "x.xlsx",
        with_parts(**{TEXTS: f'<x:sst xmlns:x="{MAIN}"><x:si ><x:t>{"x" * 900_000}</x:t></x:si></x:sst>', SHEET: sheet('<row r="1">' + "<c t='s'><!-- --><v>0</v></c>" * 900 + "</row>")}),
        TOO_BIG,
    ),
    "a shared text of megabytes": File("x.xlsx", with_parts(**{TEXTS: f'<sst xmlns="{MAIN}"><si>{"<r><t>x</t></r>" * 90_000}</si></sst>'}), TOO_BIG),
    "a cell of megabytes": File("x.xlsx", with_rows(named(2, "x" * (3 * MEGABYTE))), TOO_BIG),
    "a cell of 200,000 letters": File("x.xlsx", with_rows(named(2, "x" * 200_000)), "more than 100000 characters"),
    "10,000 sheets": File("x.xlsx", many_sheets(own_parts=True), "too many parts"),
    "10,000 sheets that are one": File("x.xlsx", many_sheets(own_parts=False), DAMAGED),
    "two sheets of one name": File("x.xlsx", with_parts(**{WORKBOOK: index(FIRST, FIRST)}), DAMAGED),
    "hidden sheets only": File("x.xlsx", lone(f'{FIRST} state="hidden"'), "no visible sheet"),
    "very hidden sheets only": File("x.xlsx", lone(f'{FIRST} state="veryHidden"'), "no visible sheet"),
    "a chart sheet only": File(
        "x.xlsx",
        with_parts(**{RELATIONS: relations("chartsheets/sheet1.xml", kind="chartsheet"), SHEET: None, "xl/chartsheets/sheet1.xml": f'<chartsheet xmlns="{MAIN}"/>'}),
        "no visible sheet",
    ),
    "no sheets": File("x.xlsx", with_parts(**{WORKBOOK: index()}), "no visible sheet"),
    "an empty sheet": File("x.xlsx", lambda: book(""), "no visible sheet"),
    "a sheet of a header": File("x.xlsx", lambda: book(HEAD), "no rows below it"),
    "a sheet that is missing": File("x.xlsx", with_parts(**{SHEET: None}), "no visible sheet"),
    "relations that are missing": File("x.xlsx", with_parts(**{RELATIONS: None}), DAMAGED),
    "shared texts that are missing": File("x.xlsx", with_parts(**{TEXTS: None}), DAMAGED),
    "a shared text that is missing": File("x.xlsx", with_rows(f'<row r="2">{cell("A2", 77, t="s")}</row>'), DAMAGED),
    "a sheet that is no XML": File("x.xlsx", with_parts(**{SHEET: b"\xff<<sheetData"}), DAMAGED),
    "a sheet of another encoding": File("x.xlsx", with_parts(**{SHEET: ('<?xml version="1.0" encoding="windows-1250"?>' + sheet(HEAD + ROW)).encode("cp1250")}), DAMAGED),
    "an index that is no XML": File("x.xlsx", with_parts(**{WORKBOOK: "<workbook"}), DAMAGED),
    "an index of nothing": File("x.xlsx", with_parts(**{WORKBOOK: ""}), DAMAGED),
    "a row 0": File("x.xlsx", with_rows(f'<row r="0">{cell("A0", 1)}</row>'), DAMAGED),
    "a row -1": File("x.xlsx", with_rows('<row r="-1"><c r="A-1"><v>1</v></c></row>'), DAMAGED),
    "a character that XML has not": File("x.xlsx", with_rows(named(2, "a&#0;b")), DAMAGED),
    "half of a character": File("x.xlsx", with_rows(named(2, "a&#xD800;b")), DAMAGED),
    "an entity that is unknown": File("x.xlsx", with_rows(named(2, "a&foo;b")), DAMAGED),
    "bytes that are no UTF-8": File("x.xlsx", lambda: book(**{SHEET: sheet(HEAD + named(2, "~")).encode().replace(b"~", b"\xc3(")}), DAMAGED),
    "a time beyond every calendar": File("x.xlsx", with_rows(named(2, "Jan", cell("B2", 99999999999, s="2"))), "no calendar has"),
}
TEXTS_TAKEN = {
    "CR alone ends the lines": File("x.csv", lambda: text(ALICE, end="\r"), created=1),
    "all kinds of line ends": File("x.csv", lambda: b"jmeno;datum\rJan;1.2.2025\nEva;1.2.2025\r\nIvo;1.2.2025", created=3),
    "sep= in a line of its own": File("x.csv", lambda: b"sep=,\r\n" + text("Jan,1.2.2025", header="jmeno,datum"), created=1),
    "sep= before lines that end with CR": File("x.csv", lambda: b"sep=|\r" + text("Jan|1.2.2025", header="jmeno|datum", end="\r"), created=1),
    "sep= of something odd": File("x.csv", lambda: "sep=§\r\n".encode() + text("Jan§1.2.2025", header="jmeno§datum"), created=1),
    "UTF-16 with a BOM": File("x.csv", lambda: text(ALICE, encoding="utf-16"), created=1),
    "UTF-16 without a BOM": File("x.csv", lambda: text(ALICE, encoding="utf-16-be"), created=1),
    "Windows-1250": File("x.csv", lambda: text(ALICE, encoding="cp1250"), created=1, says="read as Windows-1250"),
    "ISO 8859-2": File("x.csv", lambda: text(ALICE, encoding="iso8859-2"), created=1, says="read as ISO-8859-2"),
    "tabs": File("x.txt", lambda: text("Jan\t1.2.2025", header="jmeno\tdatum"), created=1),
    "blank rows everywhere": File("x.csv", lambda: b"\r\n;\r\n" + text(";", ALICE, "", ";;", "Jan;1.2.2025", ";"), created=2, skipped=4),
    "100,000 blank rows": File("x.csv", lambda: text("Jan;1.2.2025") + b";\r\n" * 100_000 + b"Eva;1.2.2025\r\n", created=2, skipped=100_000),
    "a column that begins with PK": File("x.csv", lambda: text("1;Jan;1.2.2025", header="PK;jmeno;datum"), created=1, says="column is not known"),
    "a header in capitals with odd spaces": File("x.csv", lambda: text("Jan", header="\u00a0JMÉNO\u2007KLIENTA\u200b"), created=1),
    "a header that breaks the line": File("x.csv", lambda: text("Jan;1.2.2025", header='"Jméno\r\nklienta";datum'), created=1),
    "a column without a header": File("x.csv", lambda: text("Jan;x;1.2.2025", header="jmeno;;datum"), created=1, says="has no header"),
    "headers alone, 900 of them": File("x.csv", lambda: text(*["Jan"] * 2, header="jmeno;" + ";".join(f"x{n}" for n in range(900))), created=1, skipped=1),
    "a row that is too long": File("x.csv", lambda: text("Jan;1.2.2025;x"), errors=1, says="more cells than the header"),
    "a row that is 5,000 cells too long": File("x.csv", lambda: text("Jan;1.2.2025" + ";" * 5_000 + "x"), errors=1, says="more cells than the header"),
    "a row that is too short": File("x.csv", lambda: text("Jan"), created=1, says="opened today"),
    "a file that ends within a row": File("x.csv", lambda: text(ALICE, "Eva", header="jmeno;datum")[:-2], created=1, errors=1, says="in the middle of this row"),
    "the header twice": File("x.csv", lambda: CZECH + b"\xef\xbb\xbf" + text("Jan;1.2.2025"), created=2, errors=1, says="not a date"),
    "errors of a spreadsheet": File("x.csv", lambda: text("#REF!;1.2.2025", "Jan;#N/A", "Eva;#HODNOTA!"), errors=3, says="spreadsheet's error"),
    "formulas": File("x.csv", lambda: text(quoted('=HYPERLINK("http://a")') + ";1.2.2025", "=1+1;1.2.2025", "@SUM(1);=A1"), created=2, errors=1),
    "ciphertext": File("x.csv", lambda: text("gAAAAABmVx5C" + "a" * 120 + ";1.2.2025"), errors=1),
    "quotes within quotes": File("x.csv", lambda: text(quoted('"' * 60) + ";1.2.2025", quoted("a;b\r\nc") + ";1.2.2025"), created=2),
    "a letter behind the quote": File("x.csv", lambda: text('"Alice"Nová;1.1.2025'), created=1, says="read as letters, first in row 2"),
    "a quote never closed": File("x.csv", lambda: text('"Alice;1.1.2025', "Bob;2.2.2025"), created=2, says="read as letters, first in row 2"),
    "copied cells with quotes": File("rows", lambda: text('"Alice" Nová\t1.1.2025', '"Bob\t2.2.2025', header="jmeno\tdatum"), created=2),
    "digits without end": File("x.csv", lambda: text("Jan;" + "9" * 90_000, "Eva;" + "1." * 40_000), errors=2),
    "an amount without end": File("x.csv", lambda: text("Jan;1.2.2025;" + "1 000" * 15_000, header=HEADER + ";cena"), errors=1),
    "naughty texts": File("x.csv", lambda: text(*[quoted(name) + ";1.2.2025" for name in PLAIN]), created=len(PLAIN) - SPACED, skipped=SPACED),
    "texts that no row may bring in": File("x.csv", lambda: text(*[quoted(name) + ";1.2.2025" for name in REFUSED]), errors=len(REFUSED)),
    "names that nobody sees": File("x.csv", lambda: text(*[quoted(name) + ";1.2.2025" for name in EMPTY]), errors=len(EMPTY), says="name is missing"),
    "bad cells, four to a row": File("x.csv", lambda: text(*["Jan;x;x;x;x"] * 500, header="jmeno;datum;cena;navrh_financovani_castka;navrh_financovani_procento"), errors=500),
}
WORKBOOKS_TAKEN = {
    "a plain workbook": File("x.xlsx", lambda: BOOK, created=1),
    "macros": File("x.xlsm", with_parts(**{"xl/vbaProject.bin": b"\0" * 900}), created=1),
    "no extension": File("clients", lambda: BOOK, created=1),
    "styles that are missing": File("x.xlsx", with_parts(**{STYLES: None}), created=1),
    "a style that is missing": File("x.xlsx", with_rows(named(2, "Jan", cell("B2", 45000, s="99"))), created=1),
    "content types that are missing": File("x.xlsx", with_parts(**{"[Content_Types].xml": None}), created=1),
    "tags with a prefix": File("x.xlsx", prefixed, created=1),
    "Strict Open XML": File(
        "x.xlsx",
        with_parts(**{WORKBOOK: index(FIRST).replace(OFFICE, STRICT), RELATIONS: relations("worksheets/sheet1.xml").replace(OFFICE, STRICT)}),
        created=1,
    ),
    "cells without a place": File("x.xlsx", with_rows("<row><c t=\"inlineStr\"><is><t>Jan</t></is></c><c s=\"1\"><v>45000</v></c></row>"), created=1),
    "rows out of order": File("x.xlsx", with_rows(named(5, "Jan", cell("B5", 45000, s="1")), named(3, "Eva", cell("B3", 45000, s="1"))), created=2, skipped=2),
    "a cell twice": File("x.xlsx", with_rows(f'<row r="2">{name_cell("A2", "Jan")}{name_cell("A2", "Eva")}{cell("B2", 45000, s="1")}</row>'), created=1),
    "a dimension that lies": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + ROW).replace("<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>')}), created=1),
    "merged cells": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + named(2, "Jan", cell("B2", 45000, s="1")) + named(3, ""), '<mergeCells count="1"><mergeCell ref="A2:A3"/></mergeCells>')}), created=1, skipped=1),
    "everything merged": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + ROW, '<mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells>')}), created=1),
    "formulas with a result": File("x.xlsx", with_rows('<row r="2"><c r="A2" t="str"><f>A1</f><v>Jan</v></c><c r="B2" s="1"><f>TODAY()</f><v>45000</v></c></row>'), created=1),
    "formulas without a result": File("x.xlsx", with_rows('<row r="2"><c r="A2"><f>A1</f></c><c r="B2" s="1"><f>TODAY()</f></c></row>'), errors=1, says="formula without a result"),
    "errors": File("x.xlsx", with_rows(*[f'<row r="{n}">{cell(f"A{n}", error, t="e")}{cell(f"B{n}", error, t="e")}</row>' for n, error in enumerate(["#REF!", "#N/A", "#DIV/0!", "#NAME?", "#SPILL!", "#nonsense"], start=2)]), errors=6, says="spreadsheet's error"),
    "an error in nested tags without end": File("x.xlsx", with_rows(f'<row r="2"><c r="A2" t="e">{"<v>" * 50_000}#REF!{"</v>" * 50_000}</c></row>'), errors=1),
    "days as serials": File("x.xlsx", with_rows(named(2, "Jan", cell("B2", 45000)), named(3, "Eva", cell("B3", 45000.5, s="1")), named(4, "Ivo", cell("B4", "45000", t="str"))), created=3),
    "days as serials of 1904": File("x.xlsx", with_parts(**{WORKBOOK: index(FIRST, first='<workbookPr date1904="1"/>')}), created=1, says="from 1904"),
    "days that are none": File("x.xlsx", with_rows(named(2, "Jan", cell("B2", -5, s="1")), named(3, "Eva", cell("B3", 2958466, s="1")), named(4, "Ivo", cell("B4", "NaN")), named(5, "Oto", cell("B5", "1e400")), named(6, "Ota", cell("B6", "1e300", s="1")), named(7, "Jiří", cell("B7", "NaN", s="1"))), errors=6),
    "days in ISO, and a truth": File("x.xlsx", with_rows(named(2, "Jan", cell("B2", "2025-03-01", t="d")), named(3, "Eva", cell("B3", 1, t="b"))), created=1, errors=1),
    "numbers where names are meant": File("x.xlsx", with_rows(f'<row r="2">{cell("A2", 7)}{cell("B2", 45000, s="1")}</row>'), created=1, says="number or a date where text"),
    "dates by another library": File("x.xlsx", lambda: xlsx(["jmeno", "datum"], ["Jan", NEW], ["Eva", OLD]), created=2),
    "characters that XML cannot hold": File("x.xlsx", with_rows(named(2, "a_x0000_b"), named(3, "a_x0001_b"), named(4, "a_xD800_b")), created=1, errors=2, says="cannot be stored"),
    "text as CDATA": File("x.xlsx", with_rows(named(2, "<![CDATA[Jan <b>]]>")), created=1),
    "tags nested without end": File("x.xlsx", with_rows(f'<row r="2"><c r="A2" t="inlineStr">{"<is>" * 50_000}{"</is>" * 50_000}</c></row>', named(3, "Jan")), created=1, skipped=1),
    "a sheet that never ends": File("x.xlsx", with_parts(**{SHEET: sheet(HEAD + ROW)[:-30]}), DAMAGED),
    "a hidden sheet first": File(
        "x.xlsx",
        with_parts(**{WORKBOOK: index('name="Hidden" sheetId="1" r:id="rId1" state="hidden"', 'name="Data" sheetId="2" r:id="rId2"'), RELATIONS: relations("worksheets/sheet1.xml", "worksheets/sheet2.xml"), SHEET: sheet(HEAD + named(2, "Hidden")), "xl/worksheets/sheet2.xml": sheet(HEAD + ROW)}),
        created=1,
    ),
    "another sheet beside": File(
        "x.xlsx",
        with_parts(**{WORKBOOK: index(FIRST, f'name="{"x" * 9_000}" sheetId="2" r:id="rId2"'), RELATIONS: relations("worksheets/sheet1.xml", "worksheets/sheet2.xml"), "xl/worksheets/sheet2.xml": sheet(HEAD)}),
        created=1, says="Only the sheet Data was read",
    ),
    "naughty texts in a workbook": File("x.xlsx", naughty_book, created=len(PLAIN) - SPACED, skipped=SPACED),
}
# fmt: on
CORPUS = TEXTS_REFUSED | WORKBOOKS_REFUSED | TEXTS_TAKEN | WORKBOOKS_TAKEN
