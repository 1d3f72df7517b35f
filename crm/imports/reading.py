"""Bytes of a CSV or XLSX file -> a header and numbered rows of raw cells. What the columns mean is columns.py's matter;
the inside of a workbook is workbook.py's."""

import bisect
import codecs
import csv
import io
import re
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import PurePath

from django.utils.translation import gettext as _

from crm.imports import workbook
from crm.imports.cutting import MAX_COLUMNS, Cutter, too_wide
from crm.imports.problems import UnusableFile, refused_with
from crm.imports.shelf import CellShelf
from crm.spreadsheet import LEFT_OUT

DELIMITERS = ";,\t|"
# Beyond any office's list. What is longer would cost memory before anybody could say what is wrong with it.
MAX_BYTES = 150 * 1024 * 1024
MAX_ROWS = 300_000
# A UTF-8 letter of two bytes as it stands in Czech, Slovak or German text; in Windows-1250 these pairs are not words.
_UTF8_PAIR = re.compile(rb"[\xc3-\xc5][\x80-\xbf]")
# Š, Ť, Ž, š or ť of ISO-8859-2 where a word has such a letter; as Windows-1250 these bytes are ©, «, ®, ą and ».
_ISO_LETTER = re.compile(
    rb"[A-Z\xc0-\xdf][\xa9\xab\xae]|[\xa9\xab\xae][A-Za-z\xc0-\xff]|[A-Za-z\xc0-\xff][\xb9\xbb]|[\xb9\xbb][a-z\xe0-\xff]"
)
# Bytes that ISO-8859-2 has no letter for; Windows-1250 has š, ž, ť and quotation marks there.
_BEYOND_ISO = re.compile(rb"[\x80-\x9f]")
_ENCODING_NAMES = {"utf-8-sig": "UTF-8", "cp1250": "Windows-1250", "iso8859-2": "ISO-8859-2"}
_ASCII = bytes(range(128))
_PIECE = 1024 * 1024
# Of the longest cell, and of what stands before it, in any encoding.
_HEAD_BYTES = 4 * workbook.LONGEST_CELL
_JSON = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*(\[\s*([{\[\]]|$)|\{\s*[\"}])")
_DECLARED = re.compile(r'[ "]*sep=(.)[ "]*(\r\n?|\n)', re.IGNORECASE)
# White space, and what nobody sees: zero-width spaces, the BOM, marks of direction. The other planes have none of them,
# and to look through a million letters takes every process a quarter of a second.
_UNSEEN = "".join(
    char
    for char in map(chr, (*range(0x20000), *range(0xE0000, 0xE1000)))
    if char.isspace() or (char > "\x7f" and unicodedata.category(char) == "Cf")
)


class Row:
    """Its cells lie on the sheet's shelf; of one that was corrected they are its own."""

    __slots__ = ("_corrected", "_shelf", "number")

    def __init__(self, number: int, shelf: Sequence[list], corrected: dict[int, list]):
        self.number, self._shelf, self._corrected = number, shelf, corrected

    @property
    def cells(self) -> list:
        """To be read; `correct` writes."""
        return self._corrected.get(self.number) or self._shelf[self.number - 1]

    def correct(self, index: int, text: str) -> None:
        cells = list(self.cells)
        cells.extend([None] * (index + 1 - len(cells)))
        cells[index] = text
        self._corrected[self.number] = cells

    def cell(self, index: int) -> object:
        """None for an empty one, beyond the row's end, and for what an export could not put into a cell."""
        cell = self.cells[index] if index < len(self.cells) else None
        return None if is_left_out(cell) else cell

    @property
    def is_blank(self) -> bool:
        return all(is_empty(cell) for cell in self.cells)


class Rows(Sequence):
    """Rows of a sheet by their numbers, each made when it is asked for: kept as objects they would take as much as their
    cells."""

    __slots__ = ("_corrected", "_shelf", "numbers")

    def __init__(self, shelf: Sequence[list], numbers: Sequence[int], corrected: dict[int, list] | None = None):
        """`numbers` grow."""
        self._shelf, self.numbers = shelf, numbers
        self._corrected = {} if corrected is None else corrected

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return self.only(self.numbers[at])
        return Row(self.numbers[at], self._shelf, self._corrected)

    def position(self, number: int) -> int | None:
        at = bisect.bisect_left(self.numbers, number)
        return at if at < len(self.numbers) and self.numbers[at] == number else None

    def only(self, numbers: Sequence[int]) -> "Rows":
        return Rows(self._shelf, numbers, self._corrected)

    def where(self, holds: Callable[[Row], bool]) -> "Rows":
        return self.only(array("L", (row.number for row in self if holds(row))))


@dataclass(slots=True)
class Sheet:
    header: list[str]
    rows: Rows
    notices: list[str] = field(default_factory=list)
    # How it was read, in words.
    source: str = ""
    # The number of a last row that the file's end cuts off; 0 if there is none.
    cut_row: int = 0
    is_text: bool = False
    # Of a workbook: which other sheets were not read; empty where there are none.
    sheets: str = ""

    def is_missing(self, row: Row, index: int) -> bool:
        """Whether a line of text ends before this cell. A workbook need not write the empty ones at a row's end."""
        return self.is_text and (index >= len(row.cells) or row.cells[index] is None)

    def shape_error(self, row: Row) -> str:
        """What is wrong with the row as a whole; empty if nothing is."""
        if row.number == self.cut_row:
            return _("The file ends in the middle of this row. Send it again, whole.")
        if not all(map(is_empty, row.cells[len(self.header) :])):
            return _("The row has more cells than the header. A text with a delimiter in it has to stand in quotes.")
        return ""


def is_empty(cell: object) -> bool:
    if isinstance(cell, str):
        return not ("!" <= cell[:1] <= "~" or bare(cell))  # the first is quick, and says nearly always that it is not
    return cell is None


def is_left_out(cell: object) -> bool:
    """An empty cell, and what an export wrote where it could not put the value into one."""
    return is_empty(cell) or cell in LEFT_OUT


def bare(text: str) -> str:
    """Without white space and without characters that nobody sees (zero-width space, BOM, marks of direction) at its
    ends: what decides whether a text is empty, and whether it is a token."""
    return text.strip(_UNSEEN)


def read(content: bytes, name: str = "") -> Sheet:
    """Raises UnusableFile with the cure. The content decides what it is; a name that contradicts it is refused. What was
    pasted has a name without an ending."""
    if len(content) > MAX_BYTES:
        raise too_large()
    return read_cells(Held(content), name).sheet()


class Source(ABC):
    """The bytes of a file, in pieces from its beginning each time that somebody walks through it: a text is walked through
    twice or three times, and never lies in the memory whole."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """No piece is empty."""

    def whole(self) -> bytes:
        """For what cannot be read in pieces."""
        target = io.BytesIO()
        target.writelines(self)
        return target.getvalue()

    @cached_property
    def head(self) -> bytes:
        """As much as the first cell may take, or all there is."""
        found = b""
        for piece in self:
            found += piece
            if len(found) >= _HEAD_BYTES:
                break
        return found[:_HEAD_BYTES]


class Held(Source):
    """Of bytes that are at hand."""

    def __init__(self, content: bytes):
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        return (self.content[start : start + _PIECE] for start in range(0, len(self.content), _PIECE))

    def whole(self) -> bytes:
        return self.content


@dataclass(slots=True)
class Cells:
    """What stands in a file, before anybody asks what is a header."""

    rows: CellShelf
    notices: list[str]
    # How it was read, in words.
    source: str
    # Whether the text ends without a line end, as one does that was cut short.
    is_cut: bool = False
    is_text: bool = False
    # Of a workbook: which other sheets were not read; empty where there are none.
    sheets: str = ""

    def sheet(self) -> Sheet:
        with refused_with(self.sheets):
            sheet = _with_header(self.rows, [*self.notices, *filter(None, [self.sheets])])
        sheet.source, sheet.is_text, sheet.sheets = self.source, self.is_text, self.sheets
        if self.is_cut and len(sheet.rows[-1].cells) < len(sheet.header):
            sheet.cut_row = sheet.rows[-1].number
        return sheet


def read_cells(source: Source, name: str, packed: MutableSequence[bytes] | None = None) -> Cells:
    """`packed` is given the rows of a text, block by block."""
    suffix = PurePath(name).suffix.lower()
    if not any(piece.strip(b"\0 \t\r\n\xef\xbb\xbf") for piece in source):
        raise UnusableFile(_("The file is empty. Save the spreadsheet again and send that file."))
    if is_json(source.head):
        raise UnusableFile(
            _(
                "The file is JSON, not a spreadsheet. A dump of the older CRM goes in by the admin's import or "
                "“manage.py import_older_crm”; save anything else as XLSX or CSV."
            )
        )
    if workbook.is_compound(source.head):
        raise UnusableFile(workbook.compound_reason(source.whole()))
    if workbook.is_zip(source.head):
        if suffix in (".csv", ".txt"):
            raise UnusableFile(
                _("The file is named %(suffix)s but is a workbook. Give it the name ending .xlsx, or save it as CSV."),
                suffix=suffix,
            )
        rows, notices, said, sheets = workbook.read(source.whole())
        return Cells(rows, notices, said, sheets=sheets)
    if suffix in (".xlsx", ".xlsm", ".xls"):
        raise UnusableFile(
            _(
                "The file is named %(suffix)s but is no Excel workbook, or only a piece of one. "
                "Open it in Excel and save it as XLSX, or name it .csv if it is text."
            ),
            suffix=suffix,
        )
    return _read_csv(source, CellShelf(packed), is_pasted=not suffix)


def is_json(content: bytes) -> bool:
    """A list or an object; also as UTF-16."""
    return bool(_JSON.match(content[:1000].replace(b"\0", b"")))


def too_large() -> UnusableFile:
    return UnusableFile(
        _("The file is larger than %(limit)s MB. Delete what is not rows of clients, or split it."),
        limit=MAX_BYTES // 1024 // 1024,
    )


def _with_header(raw: CellShelf, notices: list[str]) -> Sheet:
    index = next((index for index in range(len(raw)) if not all(map(is_empty, raw[index]))), None)
    if index is None:
        raise UnusableFile(_("The file has no rows. Save the spreadsheet again and send that file."))
    header = ["" if cell is None else str(cell).strip() for cell in raw[index]]
    while header and not header[-1]:
        header.pop()
    if len(header) > MAX_COLUMNS:
        raise too_wide()
    if len(raw) - index - 1 > MAX_ROWS:
        raise _too_long()
    count = len(raw)
    while not raw[count - 1]:  # lines without a cell at the end
        count -= 1
    if count == index + 1:
        raise UnusableFile(_("The file has a header and no rows below it."))
    return Sheet(header, Rows(raw, range(index + 2, count + 1)), notices)


def _too_long() -> UnusableFile:
    return UnusableFile(
        _("The file has more than %(limit)s rows. Delete the rows below the last client, or split the file."),
        limit=MAX_ROWS,
    )


def _read_csv(source: Source, rows: CellShelf, *, is_pasted: bool) -> Cells:
    encoding, notices = encoding_of(source)
    head = codecs.getincrementaldecoder(encoding)().decode(source.head)[: workbook.LONGEST_CELL]
    if re.match(r"\s*<(!doctype|html|\?xml|table)", head, re.IGNORECASE):
        raise UnusableFile(
            _("The file is a web page or XML, not a spreadsheet. Open it in Excel and save it as XLSX or CSV.")
        )
    declared = _DECLARED.match(head)
    delimiter = declared[1] if declared else find_delimiter(head, is_pasted=is_pasted)
    text = io.TextIOWrapper(io.BufferedReader(_Stream(source)), encoding, newline="")
    text.read(declared.end() if declared else 0)
    cutter = Cutter(text, delimiter, is_clipboard=is_pasted and delimiter == "\t")
    for cells in cutter:
        if len(rows) > MAX_ROWS:  # with the header
            raise _too_long()
        rows.add(cells)
    if cutter.odd_row and not cutter.is_clipboard:
        said = _(
            "Quotes that do not enclose a whole cell were read as letters, first in row %(row)s; look at its cells."
        )
        notices.append(said % {"row": cutter.odd_row})
    is_split = delimiter in head[declared.end() if declared else 0 :]
    is_cut = not cutter.last.endswith(("\n", "\r"))
    return Cells(rows, notices, _source(encoding, delimiter if is_split else ""), is_cut, is_text=True)


class _Stream(io.RawIOBase):
    """What a decoder of text reads from."""

    def __init__(self, source: Source):
        self._pieces, self._left = iter(source), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target) -> int:
        left = self._left or memoryview(next(self._pieces, b""))
        count = min(len(target), len(left))
        target[:count] = left[:count]
        self._left = left[count:]
        return count


def _source(encoding: str, delimiter: str) -> str:
    """`delimiter` is empty where nothing of the text is split."""
    encoding = _ENCODING_NAMES.get(encoding, "UTF-16")
    if not delimiter:
        return _("CSV, %(encoding)s, one column") % {"encoding": encoding}
    names = {";": _("semicolons"), ",": _("commas"), "\t": _("tabs"), "|": _("vertical bars")}
    said = {"encoding": encoding, "delimiter": names.get(delimiter, f"“{delimiter}”")}
    return _("CSV, %(encoding)s, separated by %(delimiter)s") % said


def encoding_of(source: Source) -> tuple[str, list[str]]:
    """UTF-8 with or without a BOM, UTF-16, else Windows-1250, which is what Czech Excel writes, or ISO-8859-2, as older
    programs do; and notices."""
    if encoding := _utf16(source.head):
        try:
            if any("\0" in piece for piece in codecs.iterdecode(source, encoding)):
                raise UnusableFile(_not_text())
        except UnicodeDecodeError as error:
            raise UnusableFile(_("The UTF-16 text of the file is damaged. Save it again as CSV UTF-8.")) from error
        return encoding, []
    if _is_utf8(source):
        return "utf-8-sig", []
    if source.head.startswith(codecs.BOM_UTF8):
        raise UnusableFile(
            _("The file begins as UTF-8 but holds letters of another encoding. Save it again as CSV UTF-8.")
        )
    encoding = _older_encoding(source)
    said = _("The file was read as %(encoding)s; look whether accented letters are right.")
    return encoding, [said % {"encoding": _ENCODING_NAMES[encoding]}]


def _is_utf8(source: Source) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = True
    for piece in source:
        if b"\0" in piece:
            raise UnusableFile(_not_text())
        is_utf8 = is_utf8 and _decodes(decoder, piece)
    return is_utf8 and _decodes(decoder, b"", final=True)


def _decodes(decoder: codecs.IncrementalDecoder, piece: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        return False
    return True


def _older_encoding(source: Source) -> str:
    """Raises UnusableFile for what is UTF-8 no more, and for what is not Windows-1250 either."""
    decoder = codecs.getincrementaldecoder("cp1250")()
    is_ours, may_be_iso, has_iso_letter, count, pairs, before = True, True, False, 0, 0, b""
    for piece in source:
        is_ours = is_ours and _decodes(decoder, piece)
        letters, joined = piece.translate(None, _ASCII), before + piece
        may_be_iso = may_be_iso and not _BEYOND_ISO.search(letters)
        has_iso_letter = has_iso_letter or bool(may_be_iso and _ISO_LETTER.search(joined))
        count += len(letters)
        pairs += _UTF8_PAIR.subn(b"", joined)[1]
        before = piece[-1:]
    if pairs > count // 4:
        raise UnusableFile(
            _("The file is UTF-8 text with damaged letters in it. Save it again as CSV UTF-8, without joining files.")
        )
    if not is_ours:
        raise UnusableFile(_("The letters of the file are neither UTF-8 nor Windows-1250. Save it again as CSV UTF-8."))
    return "iso8859-2" if may_be_iso and has_iso_letter else "cp1250"


def _not_text() -> str:
    return _("The file is not text. Send the spreadsheet as XLSX, or as CSV in UTF-8 or Windows-1250.")


def _utf16(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = head[:400]
    # Without a BOM: Latin text has its zero bytes on one side only, and there nearly everywhere.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if 4 * (even + odd) < len(head):
        return ""
    if odd and not even:
        return "utf-16-le"
    return "utf-16-be" if even and not odd else ""


def find_delimiter(text: str, *, is_pasted: bool = False) -> str:
    """The one that cuts the first row with something in it into the most cells; `;` where it does not matter. What a space
    follows is rather a comma of the header's words. Spreadsheets copy tabs, so one in the header that was pasted decides,
    and where nothing cuts it no later row is cut by its own words."""
    text = text[: workbook.LONGEST_CELL]
    found = max(DELIMITERS, key=partial(_cut, text))
    is_copied = is_pasted and (_cut(text, "\t")[1] > 1 or _cut(text, found)[1] == 1)
    return "\t" if is_copied else found


def _cut(text: str, delimiter: str) -> tuple[int, int]:
    """Of the first row: how many of its cells begin without a space, and how many it has."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    row = next((row for row in rows if any(cell.strip(DELIMITERS + ' \r\n"') for cell in row)), [])
    return sum(not cell.startswith(" ") for cell in row), len(row)
