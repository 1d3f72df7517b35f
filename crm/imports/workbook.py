"""XLSX -> raw rows, by python-calamine (0.6 s for 50,000 rows where openpyxl takes 6). It trusts what it is given, and
where it asks for more memory than there is the whole process ends. So every part of the zip is looked through first, as
bytes, for what it would become. Calamine gives empty cells for errors (`#REF!`) and for formulas never computed; they are
put back here."""

import contextlib
import io
import re
import struct
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.etree import ElementTree

import python_calamine
from django.utils.translation import gettext as _

from crm.imports.problems import UnusableFile, refused_with
from crm.imports.shelf import CellError, CellShelf, Uncomputed
from crm.spreadsheet import BESIDE_DATA

MAX_ENTRIES = 1_000
MAX_UNPACKED_BYTES = 400 * 1024 * 1024
# XML of a sheet packs about 1:10 to 1:40; looked at only above 20 MB unpacked, where it begins to hurt.
MAX_RATIO = 120
RATIO_MATTERS_FROM_BYTES = 20 * 1024 * 1024
# Calamine holds the rectangle that the outermost cells span, about 32 bytes a cell.
MAX_CELLS = 8_000_000
# From so many on, at least every twentieth has to be written; a row of ours has a third of its cells.
SPARSE_FROM, MAX_SPARSE = 1_000_000, 20
# No cell of Excel holds more than 32,767 characters, six bytes each where all are escaped.
MAX_TAG_BYTES = 1024 * 1024
# A shared text is copied into each cell that names it.
MAX_COPIES, COPIES_MATTER_FROM_BYTES = 10, 32 * 1024 * 1024
# What one cell may hold, in a CSV too; there it is mostly an unclosed quote that ate the rows below.
LONGEST_CELL = 100_000
# Of the parts that say which sheets there are and where.
MAX_INDEX_BYTES = 8 * 1024 * 1024
_WORKBOOK, _RELATIONS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"

# What a sheet is; of two the first of the higher kind is read.
_BESIDE, _FILLED, _TABLE = 1, 2, 3
_PIECE = 1 << 20
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
# Letters of the column and number of the row, as nearly every program writes them, and as it could be written.
_PLACE = (re.compile(rb' r="([A-Za-z]+)'), re.compile(rb' r="[A-Za-z]*([0-9]{4,})'))
_ODD_PLACE = (re.compile(rb"""\sr\s*=\s*["']([A-Za-z]+)"""), re.compile(rb"""\sr\s*=\s*["'][A-Za-z]*([0-9]{4,})"""))
_ODD = (b"\t", b"\r", b"\n", b" r ", b" r= ", b" r='")
_NEEDS_A_LOOK = re.compile(rb"""<(?:[^\s<>/]+:)?f[\s>/]|\st\s*=\s*["']e["']""")
_ERROR = re.compile(rb"""(\st\s*=\s*["']e["'][^<>]*>(?:<[^<>]*f(?:\s[^<>]*)?>[^<]*(?:</[^<>]*>)?)?<[^<>]*v>)#[^<]*""")
_SHARED = re.compile(rb"""\st\s*=\s*["']s["']""")
_SHARED_NUMBER = re.compile(rb"""\st\s*=\s*["']s["'][^<>]*>\s*<(?:[^\s<>/]+:)?v[^<>]*>\s*([0-9]{1,9})\s*<""")
_TEXT = re.compile(rb"<(?:[^\s<>/]+:)?si(?=[\s/>])")
_ROW = re.compile(rb"<(?:[^\s<>/]+:)?row(?=[\s/>])")
_CELL = re.compile(rb"<(?:[^\s<>/]+:)?c(?=[\s/>])")
# Where each program that gives a place at all has it; what looks otherwise is counted as one without.
_PLACED_ROW, _PLACED_CELL = b'<row r="', b'<c r="'
# Of a sheet whose tags have no prefix, which is nearly every one: a tenth of the time.
_UNPLACED_ROW = re.compile(rb'<row(?=[\s/>])(?! r=")')
_UNPLACED_CELL = re.compile(rb'<c(?=[\s/>])(?! r=")')
_PREFIXED = re.compile(rb"<[^\s<>/:]+:(?:row|c)[\s/>]")


def is_zip(content: bytes) -> bool:
    return content.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_compound(content: bytes) -> bool:
    """OLE2, the container of old .xls files and of password-protected new ones."""
    return content.startswith(_COMPOUND)


def compound_reason(content: bytes) -> str:
    if "EncryptedPackage".encode("utf-16-le") in content:
        return _("The workbook is protected by a password. Remove the password in Excel and save it again.")
    return _("This is a workbook of the old .xls kind. Open it in Excel and save it as XLSX.")


def read(content: bytes) -> tuple[CellShelf, list[str], str, str]:
    """Rows of the first visible sheet that looks like a table, from A1 on; notices; which sheet it was; and which others
    were not read, if there are any. Where none looks like one it is the first that holds anything."""
    parts = _look_through(content)
    places, begins_1904 = _sheet_places(content, parts)
    with _calamine_fails():
        try:
            name, rows, others = _first_filled(content, places)
        except python_calamine.CalamineError as error:
            if "cell error value" not in str(error):
                raise
            name, rows, others = _first_filled(_with_known_errors(content), places)
    if parts[places[name]].needs_a_look:
        rows = _put_back(rows, _lost_cells(content, places[name]))
    sheets = _only(name, [other for other in others if other not in BESIDE_DATA])
    with refused_with(sheets):
        _refuse_long(rows)
    notices = []
    if begins_1904:
        notices.append(_("The workbook counts its days from 1904; look whether the dates are right."))
    return rows, notices, _("XLSX, sheet “%(sheet)s”") % {"sheet": name}, sheets


def _only(name: str, others: list[str]) -> str:
    if not others:
        return ""
    return _("Only the sheet %(read)s was read, not %(others)s.") % {"read": name, "others": ", ".join(others)[:300]}


def _refuse_long(rows: CellShelf) -> None:
    for number, cells in enumerate(rows, start=1):
        if any(isinstance(cell, str) and len(cell) > LONGEST_CELL for cell in cells):
            raise UnusableFile(
                _("A cell of row %(row)s holds more than %(limit)s characters. Shorten it."),
                row=number,
                limit=LONGEST_CELL,
            )


def _put_back(rows: CellShelf, lost: dict[tuple[int, int], CellError]) -> CellShelf:
    by_row: dict[int, dict[int, CellError]] = {}
    for (row, column), value in lost.items():
        by_row.setdefault(row, {})[column] = value
    whole = CellShelf()
    for row in range(max([len(rows), *(row + 1 for row in by_row)])):
        cells = rows[row] if row < len(rows) else []
        for column, value in by_row.get(row, {}).items():
            cells = cells + [""] * (column + 1 - len(cells))
            if cells[column] in ("", None):
                cells[column] = value
        whole.add(cells)
    return whole


@contextlib.contextmanager
def _calamine_fails() -> Iterator[None]:
    try:
        yield
    except python_calamine.CalamineError as error:
        raise UnusableFile(_damaged()) from error
    except OverflowError as error:
        raise UnusableFile(
            _(
                "A cell that is formatted as a date or a time holds a number that no calendar has. Format it as a number."
            )
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust raises is no Exception, and of no module
            raise
        raise UnusableFile(_damaged()) from error


def _first_filled(content: bytes, places: dict[str, str]) -> tuple[str, CellShelf, list[str]]:
    """Name and rows of the sheet to read, and the names of the other filled ones. Each is parsed once."""
    with python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)) as book:
        visible = [
            sheet.name
            for sheet in book.sheets_metadata
            if sheet.visible == python_calamine.SheetVisibleEnum.Visible
            and sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
            and sheet.name in places
        ]
        chosen, best, filled = None, 0, []
        for name in visible:
            sheet = book.get_sheet_by_name(name)
            if sheet.end is not None:
                filled.append(name)
                if best < _TABLE and (rank := _rank(sheet)) > best:
                    chosen, best = sheet, rank
        if chosen is None:
            raise UnusableFile(_("The workbook has no visible sheet with anything in it."))
        rows, before = CellShelf(), [""] * chosen.start[1]
        for cells in chosen.iter_rows():  # from the first row on, but from the first filled column
            rows.add(before + cells)
    return chosen.name, rows, [name for name in filled if name != chosen.name]


def _rank(sheet: python_calamine.CalamineSheet) -> int:
    """How likely the rows of clients are there: a table has a row with two cells and another one below it, where a cover
    has a title."""
    if sheet.name in BESIDE_DATA:
        return _BESIDE
    is_wide = False
    for cells in sheet.iter_rows():
        count = sum(not isinstance(cell, str) or bool(cell.strip()) for cell in cells)
        if is_wide and count:
            return _TABLE
        is_wide = is_wide or count > 1
    return _FILLED


def _damaged() -> str:
    return _("The workbook is damaged or was cut short on its way. Open it in Excel, save it and send it again.")


def _too_big() -> UnusableFile:
    return UnusableFile(
        _("The workbook unpacks to far more than it should. Copy the rows into a new workbook and save that.")
    )


@dataclass(slots=True)
class _Part:
    """What a part of the zip would become."""

    size: int = 0
    cells: int = 0
    needs_a_look: bool = False
    # How many of its cells name a shared text; and how long each text is that it shares.
    shared: int = 0
    lengths: array = field(default_factory=lambda: array("L"))


def holds_at_most(content: bytes, cells: int, unpacked: int) -> bool:
    """Of all sheets, and of the bytes that its parts claim to be: before anything is parsed. Raises UnusableFile as `read`."""
    size = sum(entry.file_size for entry in _entries(content))
    if size > unpacked and not _is_out_of_ratio(size, len(content)):  # which the look below would refuse
        return False
    return sum(part.cells for part in _look_through(content).values()) <= cells


def _entries(content: bytes) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OverflowError) as error:
        raise UnusableFile(_damaged()) from error


def _look_through(content: bytes) -> dict[str, _Part]:
    """By the parts' own names. Raises UnusableFile for what no calm program writes."""
    entries = _entries(content)
    names = Counter(_plain(entry.filename) for entry in entries)
    if _WORKBOOK not in names:
        if "xl/workbook.bin" in names or "content.xml" in names:
            raise UnusableFile(_("This kind of workbook is not read. Save it as XLSX."))
        raise UnusableFile(_("This is a packed file, not a workbook. Unpack it and send the spreadsheet in it."))
    if len(entries) > MAX_ENTRIES:
        raise UnusableFile(_("The workbook has too many parts. Copy the rows into a new workbook and save that."))
    if len(names) < len(entries):
        raise UnusableFile(_damaged())
    parts, unpacked = {}, 0
    for entry in entries:
        if entry.flag_bits & 1:
            raise UnusableFile(_("The workbook is protected by a password. Remove the password and save it again."))
        part = parts[_plain(entry.filename)] = _look_at(content, entry, unpacked)
        unpacked += part.size
    _refuse_copies(content, entries, parts, unpacked)
    return parts


def _plain(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()


def _look_at(content: bytes, entry: zipfile.ZipInfo, before: int) -> _Part:
    """Unpacks one entry piece by piece, since the size that the zip claims may be a lie. `before` it others unpacked to
    so much."""
    name = _plain(entry.filename)
    is_xml = name.endswith((".xml", ".rels"))
    part, checked, tail, looks = _Part(), zlib.crc32(b""), b"", {}
    for piece in _unpacked(content, entry):
        part.size += len(piece)
        checked = zlib.crc32(piece, checked)
        if (
            before + part.size > MAX_UNPACKED_BYTES
            or _is_out_of_ratio(part.size, entry.compress_size)
            or _is_out_of_ratio(before + part.size, len(content))
            or (name in (_WORKBOOK, _RELATIONS) and part.size > MAX_INDEX_BYTES)
        ):
            raise _too_big()
        seen = tail + piece
        if b"<!DOCTYPE" in seen or (is_xml and b"\0" in piece):
            raise UnusableFile(_damaged())
        for kind in (_Sheet, _Texts):
            if kind in looks:
                looks[kind].see(piece)
            elif any(mark in seen for mark in kind.marks):
                looks[kind] = kind()
                looks[kind].see(seen)
        tail = piece[-16:]
    if part.size != entry.file_size or checked != entry.CRC:
        raise UnusableFile(_damaged())
    for look in looks.values():
        look.end(part)
    return part


def _is_out_of_ratio(size: int, packed: int) -> bool:
    return size > RATIO_MATTERS_FROM_BYTES and size > MAX_RATIO * max(1, packed)


def _unpacked(content: bytes, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    head = content[entry.header_offset : entry.header_offset + 30]
    if len(head) < 30 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnusableFile(_damaged())
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
    packed = memoryview(content)[start : start + entry.compress_size]
    if len(packed) < entry.compress_size:
        raise UnusableFile(_damaged())
    pieces = (packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE))
    if entry.compress_type == zipfile.ZIP_STORED:
        yield from map(bytes, pieces)
        return
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            while piece and not unpack.eof:
                yield unpack.decompress(piece, _PIECE)
                piece = unpack.unconsumed_tail
        yield unpack.flush()
    except zlib.error as error:
        raise UnusableFile(_damaged()) from error


class _Tags:
    """Sees a part piece by piece, each cut behind a tag; first the one that has a mark of its own."""

    marks: tuple[bytes, ...] = ()

    def __init__(self):
        self.rest = b""

    def see(self, piece: bytes) -> None:
        xml = self.rest + piece
        end = xml.rfind(b">") + 1
        self.rest = xml[end:]
        if len(self.rest) > MAX_TAG_BYTES:
            raise _too_big()
        self.look(xml[:end])


class _Sheet(_Tags):
    """How far the cells reach, and how many there are. A row or a cell without a place is the next one. What is found is
    never less than what calamine will find; it may be more."""

    marks = (b"sheetData",)

    def __init__(self):
        super().__init__()
        # The outermost places that are written; near ones are not looked at one by one.
        self.row, self.column = 999, 1
        self.rows = self.cells = self.widest = self.width = self.shared = 0
        self.needs_a_look = False

    def look(self, xml: bytes) -> None:
        places = _ODD_PLACE if any(mark in xml for mark in _ODD) else _PLACE
        self.column = max([self.column, *map(_column_number, set(places[0].findall(xml)))])
        self.row = max([self.row, *(int(number.lstrip(b"0")[:9] or 0) for number in set(places[1].findall(xml)))])
        placed = xml.count(_PLACED_CELL)
        if _PREFIXED.search(xml):
            unplaced = len(_CELL.findall(xml)) - placed
            self.rows += len(_ROW.findall(xml)) - xml.count(_PLACED_ROW)
        else:
            unplaced = len(_UNPLACED_CELL.findall(xml))
            self.rows += len(_UNPLACED_ROW.findall(xml))
        self.cells += placed + unplaced
        if unplaced:
            self._count_widths(xml)
        self.shared += xml.count(b'"s"') + xml.count(b"'s'")
        if not self.needs_a_look and any(mark in xml for mark in (b"<f", b":f", b'"e"', b"'e'")):
            self.needs_a_look = bool(_NEEDS_A_LOOK.search(xml))

    def _count_widths(self, xml: bytes) -> None:
        for number, row in enumerate(_ROW.split(xml)):
            cells = row.count(b"<c") + row.count(b":c") - row.count(_PLACED_CELL)
            self.width = self.width + cells if number == 0 else cells
            self.widest = max(self.widest, self.width)

    def end(self, part: _Part) -> None:
        span = max(1, self.row + self.rows) * max(1, self.column + self.widest)
        if span > MAX_CELLS or (span > SPARSE_FROM and span > MAX_SPARSE * self.cells):
            raise UnusableFile(
                _(
                    "A cell far from the others makes the sheet too big. Copy the rows into a new workbook and save that."
                )
            )
        part.cells, part.needs_a_look, part.shared = self.cells, self.needs_a_look, self.shared


class _Texts(_Tags):
    """How long each shared text is, with its tags."""

    marks = (b"<si", b":si")

    def __init__(self):
        super().__init__()
        self.lengths = array("L", [0])

    def look(self, xml: bytes) -> None:
        first, *others = map(len, _TEXT.split(xml))
        self.lengths[-1] += first
        self.lengths.extend(others)

    def end(self, part: _Part) -> None:
        part.lengths = self.lengths[1:]
        if max(part.lengths, default=0) > MAX_TAG_BYTES:
            raise _too_big()


class _Copies(_Tags):
    """How often each shared text is named by a sheet; a reference that is not understood may be to any."""

    def __init__(self):
        super().__init__()
        self.named, self.unknown = Counter(), 0

    def look(self, xml: bytes) -> None:
        found = _SHARED_NUMBER.findall(xml)
        self.named.update(map(int, found))
        self.unknown += len(_SHARED.findall(xml)) - len(found)


def _refuse_copies(content: bytes, entries: list[zipfile.ZipInfo], parts: dict[str, _Part], unpacked: int) -> None:
    """Looks once more at sheets that might copy much text: a megabyte, named a thousand times, is a gigabyte."""
    lengths = max((part.lengths for part in parts.values()), key=lambda each: max(each, default=0))
    longest = max(lengths, default=0)
    for entry in entries:
        if parts[_plain(entry.filename)].shared * longest <= COPIES_MATTER_FROM_BYTES:
            continue
        copies = _Copies()
        for piece in _unpacked(content, entry):
            copies.see(piece)
        copied = sum(lengths[number] * times for number, times in copies.named.items() if number < len(lengths))
        copied += copies.unknown * longest
        if copied > COPIES_MATTER_FROM_BYTES and copied > MAX_COPIES * unpacked:
            raise _too_big()


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters[:4].upper():
        number = number * 26 + letter - 64
    return number


def _with_known_errors(content: bytes) -> bytes:
    """Calamine gives up on errors that are younger than it is, `#SPILL!` and the like."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, _ERROR.sub(rb"\1#N/A", old.read(entry)))
    return target.getvalue()


def _lost_cells(content: bytes, path: str) -> dict[tuple[int, int], CellError]:
    """(row, column) from 0 -> the cells that calamine leaves out: errors, and formulas without a result."""
    found, row, column, rows = {}, -1, -1, None
    with _parsed_xml(), _opened(content, path) as xml:
        for event, element in ElementTree.iterparse(xml, events=("start", "end")):  # noqa: S314 DTDs are refused
            tag = element.tag.rpartition("}")[2]
            if event == "start" and tag == "row":
                row, column = int(element.get("r") or row + 2) - 1, -1
            elif event == "start" and tag == "sheetData":
                rows = element
            elif event == "end" and tag == "c":
                letters = (element.get("r") or "").rstrip("0123456789")
                column = _column_number(letters.encode()) - 1 if letters else column + 1
                parts = {part.tag.rpartition("}")[2]: part.text or "" for part in element}
                if element.get("t") == "e":
                    found[row, column] = CellError(parts.get("v") or "#ERROR!")
                elif "f" in parts and not parts.get("v") and element.get("t") != "str":
                    # A `str` without text is a formula whose result is an empty text; that one was computed.
                    found[row, column] = Uncomputed(f"={parts['f']}")
            elif event == "end" and tag == "row" and rows is not None:
                rows.clear()
    return found


@contextlib.contextmanager
def _parsed_xml() -> Iterator[None]:
    try:
        yield
    except (ElementTree.ParseError, zipfile.BadZipFile, ValueError, LookupError) as error:
        raise UnusableFile(_damaged()) from error


@contextlib.contextmanager
def _opened(content: bytes, path: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = next(entry for entry in archive.infolist() if _plain(entry.filename) == path)
        with archive.open(entry) as part:
            yield part


def _sheet_places(content: bytes, parts: dict[str, _Part]) -> tuple[dict[str, str], bool]:
    """Name of a sheet -> its part, and whether days count from 1904. Two sheets of one name or of one part are nobody's
    work: each would be read anew."""
    if _RELATIONS not in parts:
        raise UnusableFile(_damaged())
    with _parsed_xml():
        with _opened(content, _RELATIONS) as xml:
            targets = {each.get("Id"): each.get("Target") or "" for each in ElementTree.parse(xml).iter()}  # noqa: S314
        with _opened(content, _WORKBOOK) as xml:
            index = {}
            for each in ElementTree.parse(xml).iter():  # noqa: S314
                index.setdefault(each.tag.rpartition("}")[2], []).append(each)
    found = {}
    for sheet in index.get("sheet", ()):
        # Its namespace is another one in a workbook saved as Strict Open XML.
        key = next((value for name, value in sheet.items() if name.endswith("}id")), None)
        target = targets.get(key, "")
        place = _plain(target if target.startswith("/") else f"xl/{target}")
        if sheet.get("name") in found or place in found.values():
            raise UnusableFile(_damaged())
        if place in parts:
            found[sheet.get("name")] = place
    return found, any(each.get("date1904") in ("1", "true") for each in index.get("workbookPr", ()))
