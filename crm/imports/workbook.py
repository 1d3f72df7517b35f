"""XLSX -> raw rows, by python-calamine (0.6 s for 50,000 rows where openpyxl takes 6). It trusts what it is given, so
the zip is looked through first: a small file may unpack to gigabytes, or claim a cell at the sheet's far corner.
Calamine gives empty cells for errors (`#REF!`) and for formulas never computed; they are put back here."""

import io
import re
import struct
import zipfile
import zlib
from xml.etree import ElementTree

import python_calamine
from django.utils.translation import gettext as _

from crm.imports.problems import UnusableFile
from crm.spreadsheet import BESIDE_DATA

MAX_ENTRIES = 1_000
MAX_UNPACKED_BYTES = 400 * 1024 * 1024
# XML of a sheet packs about 1:10 to 1:40; looked at only above 20 MB unpacked, where it begins to hurt.
MAX_RATIO = 120
RATIO_MATTERS_FROM_BYTES = 20 * 1024 * 1024
# Calamine holds the rectangle that the outermost cells span, about 32 bytes a cell.
MAX_CELLS = 8_000_000

_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_FAR_ROW = re.compile(rb"""\sr\s*=\s*["'][A-Z]{0,3}(\d{5,})["']""")
_FAR_COLUMN = re.compile(rb"""\sr\s*=\s*["']([A-Z]{2,})\d""")
_NEEDS_A_LOOK = re.compile(rb"""<(?:\w+:)?f[\s>/]|\st\s*=\s*["']e["']""")


class CellError(str):
    """`#REF!` and its like: what a spreadsheet shows where a formula failed. No column can hold it."""


def is_zip(content: bytes) -> bool:
    return content.startswith(b"PK")


def is_compound(content: bytes) -> bool:
    """OLE2, the container of old .xls files and of password-protected new ones."""
    return content.startswith(_COMPOUND)


def compound_reason(content: bytes) -> str:
    if "EncryptedPackage".encode("utf-16-le") in content:
        return _("The workbook is protected by a password. Remove the password in Excel and save it again.")
    return _("This is a workbook of the old .xls kind. Open it in Excel and save it as XLSX.")


def read(content: bytes) -> tuple[list[list], list[str]]:
    """Rows of the first visible sheet that holds data, from A1 on, and notices about the other sheets."""
    _check_zip(content)
    try:
        with python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)) as book:
            visible = [
                sheet.name
                for sheet in book.sheets_metadata
                if sheet.visible == python_calamine.SheetVisibleEnum.Visible
                and sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
            ]
            filled = [name for name in visible if book.get_sheet_by_name(name).end is not None]
            filled.sort(key=BESIDE_DATA.__contains__)
            if not filled:
                raise UnusableFile(_("The workbook has no visible sheet with anything in it."))
            rows = book.get_sheet_by_name(filled[0]).to_python(skip_empty_area=False)
    except python_calamine.CalamineError as error:
        raise UnusableFile(_damaged()) from error
    try:
        lost = _lost_cells(content, filled[0])
    except (ElementTree.ParseError, KeyError, StopIteration, ValueError) as error:
        raise UnusableFile(_damaged()) from error
    for (row, column), value in lost.items():
        rows += [[] for _row in range(row + 1 - len(rows))]
        rows[row] += [""] * (column + 1 - len(rows[row]))
        if rows[row][column] in ("", None):
            rows[row][column] = value
    notices = []
    if others := [name for name in filled[1:] if name not in BESIDE_DATA]:
        notices.append(
            _("Only the sheet %(read)s was read, not %(others)s.") % {"read": filled[0], "others": ", ".join(others)}
        )
    return rows, notices


def _damaged() -> str:
    return _("The workbook is damaged or was cut short on its way. Open it in Excel, save it and send it again.")


def _check_zip(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OverflowError) as error:
        raise UnusableFile(_damaged()) from error
    names = {entry.filename.replace("\\", "/").lstrip("/").lower() for entry in entries}
    if "xl/workbook.xml" not in names:
        if "xl/workbook.bin" in names or "content.xml" in names:
            raise UnusableFile(_("This kind of workbook is not read. Save it as XLSX."))
        raise UnusableFile(_("This is a packed file, not a workbook. Unpack it and send the spreadsheet in it."))
    if len(entries) > MAX_ENTRIES:
        raise UnusableFile(_("The workbook has too many parts. Copy the rows into a new workbook and save that."))
    unpacked = 0
    for entry in entries:
        if entry.flag_bits & 1:
            raise UnusableFile(_("The workbook is protected by a password. Remove the password and save it again."))
        unpacked += _check_entry(content, entry, MAX_UNPACKED_BYTES - unpacked)


def _check_entry(content: bytes, entry: zipfile.ZipInfo, budget: int) -> int:
    """Unpacks one entry piece by piece, since the size that the zip claims may be a lie. Returns its real size."""
    too_big = _("The workbook unpacks to far more than it should. Copy the rows into a new workbook and save that.")
    head = content[entry.header_offset : entry.header_offset + 30]
    if len(head) < 30 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnusableFile(_damaged())
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
    packed = content[start : start + entry.compress_size]
    size, checked, tail = 0, zlib.crc32(b""), b""
    look = entry.filename.lower().lstrip("/").startswith("xl/worksheets/") and entry.filename.lower().endswith(".xml")
    farthest = _Corner()
    for piece in _pieces(packed, entry.compress_type):
        size += len(piece)
        checked = zlib.crc32(piece, checked)
        if size > budget or (size > RATIO_MATTERS_FROM_BYTES and size > MAX_RATIO * max(1, len(packed))):
            raise UnusableFile(too_big)
        if b"<!DOCTYPE" in piece:
            raise UnusableFile(_damaged())
        if look:
            farthest.see(tail + piece)
            tail = piece[-64:]
    if size != entry.file_size or checked != entry.CRC:
        raise UnusableFile(_damaged())
    if farthest.rows * farthest.columns > MAX_CELLS:
        raise UnusableFile(
            _("A cell far from the others makes the sheet too big. Copy the rows into a new workbook and save that.")
        )
    return size


def _pieces(packed: bytes, method: int):
    if method == zipfile.ZIP_STORED:
        yield packed
        return
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    data = packed
    try:
        while not unpack.eof and data:
            yield unpack.decompress(data, 1 << 20)
            data = unpack.unconsumed_tail
        yield unpack.flush(1 << 20)
    except zlib.error as error:
        raise UnusableFile(_damaged()) from error


class _Corner:
    """How far the cells of a sheet reach. Cells within 9,999 rows and column Z are not counted one by one."""

    def __init__(self):
        self.rows, self.columns = 9_999, 26

    def see(self, xml: bytes) -> None:
        if far := _FAR_ROW.findall(xml):
            self.rows = max(self.rows, max(int(row[:8]) for row in far))
        if far := set(_FAR_COLUMN.findall(xml)):
            self.columns = max(self.columns, max(_column_number(letters) for letters in far))


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters[:4]:
        number = number * 26 + letter - 64
    return number


def _lost_cells(content: bytes, sheet_name: str) -> dict[tuple[int, int], str]:
    """(row, column) from 0 -> text of the cells that calamine leaves out: errors, and formulas without a result."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        xml = archive.read(_sheet_path(archive, sheet_name))
    if not _NEEDS_A_LOOK.search(xml):
        return {}
    found, row, column = {}, -1, -1
    for event, element in ElementTree.iterparse(io.BytesIO(xml), events=("start", "end")):  # noqa: S314 DTDs are refused
        tag = element.tag.rpartition("}")[2]
        if event == "start" and tag == "row":
            row, column = int(element.get("r") or row + 2) - 1, -1
        elif event == "end" and tag == "c":
            letters = (element.get("r") or "").rstrip("0123456789")
            column = _column_number(letters.encode()) - 1 if letters else column + 1
            parts = {part.tag.rpartition("}")[2]: part.text or "" for part in element}
            if element.get("t") == "e":
                found[row, column] = CellError(parts.get("v") or "#ERROR!")
            elif "f" in parts and not parts.get("v") and element.get("t") != "str":
                # A `str` without text is a formula whose result is an empty text; that one was computed.
                found[row, column] = f"={parts['f']}"
        elif event == "end" and tag == "row":
            element.clear()
    return found


def _sheet_path(archive: zipfile.ZipFile, sheet_name: str) -> str:
    relation = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
    names = {name.lstrip("/").lower(): name for name in archive.namelist()}
    for sheet in ElementTree.fromstring(archive.read(names["xl/workbook.xml"])).iter():  # noqa: S314
        if sheet.tag.endswith("}sheet") and sheet.get("name") == sheet_name:
            break
    targets = ElementTree.fromstring(archive.read(names["xl/_rels/workbook.xml.rels"]))  # noqa: S314
    target = next(each.get("Target") for each in targets if each.get("Id") == sheet.get(relation))
    path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return names[path.lower()]
