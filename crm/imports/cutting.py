"""Lines of text -> rows of cells. Text in quotes holds delimiters, line breaks and doubled quotes; where quotes do not
enclose a whole cell they are letters like others, as people write them and as Excel puts them on the clipboard."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator

from django.utils.translation import gettext as _

from crm.imports.problems import UnusableFile
from crm.imports.workbook import LONGEST_CELL

# Beyond any office's list: what is wider would cost memory before anybody could say what is wrong with it.
MAX_COLUMNS = 1_000
# Up to the first quote that is not doubled.
_INSIDE = re.compile(r'(?:[^"]++|"")*+')


class Cutter:
    """Rows of a text, as wide as a header may be. Raises UnusableFile where a line would become millions of cells, a cell is
    too long, and where nobody can say what a quote encloses."""

    def __init__(self, text: Iterable[str], delimiter: str, *, is_clipboard: bool = False):
        """`is_clipboard`: the text is what a spreadsheet copies: every row as wide as the header, and in quotes is only what
        needs them, so a name that stands in quotes keeps them."""
        self.delimiter, self.is_clipboard = delimiter, is_clipboard
        # The first row with something in it.
        self.header: list[str] = []
        # How many rows there were; the first of them with quotes that are letters, else 0; the last line.
        self.rows, self.odd_row, self.last = 0, 0, ""
        self._lines, self._ahead = self._narrow(text), deque()
        self._plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*+")

    def _narrow(self, text: Iterable[str]) -> Iterator[str]:
        """Without the Ctrl-Z by which programs of DOS end a text."""
        for line in text:
            if line.count(self.delimiter) > LONGEST_CELL:
                raise too_wide()
            if line := line.removesuffix("\x1a"):
                self.last = line
                yield line

    def _next(self) -> str | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def __iter__(self) -> Iterator[list[str]]:
        while (line := self._next()) is not None:
            self.rows += 1
            cells = self._cells(line)
            if len(line) > LONGEST_CELL or '"' in line:
                self._refuse_long(cells)
            if not self.header and any(map(str.strip, cells)):
                self.header = cells
            # What stands beyond the most columns is one cell more.
            yield [*cells[:MAX_COLUMNS], *list(filter(None, cells[MAX_COLUMNS:]))[:1]]

    def _refuse_long(self, cells: list[str]) -> None:
        index = next((index for index, cell in enumerate(cells) if len(cell) > LONGEST_CELL), None)
        if index is not None:
            raise UnusableFile(
                _("The cell in row %(row)s, column “%(column)s”, holds more than %(limit)s characters. Shorten it."),
                **self._place(index),
                limit=LONGEST_CELL,
            )

    def _cells(self, line: str) -> list[str]:
        if '"' not in line:
            line = line.rstrip("\r\n")
            return line.split(self.delimiter) if line else []
        if not self.is_clipboard:
            try:
                return next(csv.reader([line], delimiter=self.delimiter, strict=True))
            except csv.Error:
                pass  # there is more in the next line, or there are quotes that are letters
        cells, at = [], 0
        while True:
            cell, line, at = self._enclosed(line, at, cells) or self._open(line, at)
            cells.append(cell)
            if len(cells) > LONGEST_CELL:
                raise too_wide()
            if not line.startswith(self.delimiter, at):
                return cells
            at += 1

    def _open(self, line: str, at: int) -> tuple[str, str, int]:
        end = self._plain.match(line, at).end()
        return line[at:end], line, end

    def _enclosed(self, line: str, at: int, cells: list[str]) -> tuple[str, str, int] | None:
        """Of quotes that open here: the cell, the line in which it ends, and where. None where they are letters. `cells`
        stand before."""
        if not line.startswith('"', at):
            return None
        end, last, length, ahead = _INSIDE.match(line, at + 1).end(), line, len(line) - at, []
        while end == len(last) and length <= LONGEST_CELL and (more := self._next()) is not None:
            ahead.append(more)
            end, last, length = _INSIDE.match(more).end(), more, length + len(more)
        closes = end < len(last) and last[end + 1 : end + 2] in ("", self.delimiter, "\r", "\n")
        text = "".join([line[at + 1 :], *ahead[:-1], last[:end]]) if ahead else line[at + 1 : end]
        if closes and (not self.is_clipboard or self._is_copied(text, cells, line, at, ahead)):
            return text.replace('""', '"'), last, end + 1
        is_open = ahead or end == len(last)
        if is_open and not self.is_clipboard and not self._are_rows(cells, line, at, ahead):
            raise self._never_closed(len(cells))
        self._ahead.extendleft(reversed(ahead))
        self.odd_row = self.odd_row or self.rows
        return None

    def _is_copied(self, text: str, cells: list[str], line: str, at: int, ahead: list[str]) -> bool:
        """Whether a spreadsheet put the quotes around `text`, and they do not belong to two cells."""
        if ahead or self.delimiter in text:
            return len(self.header) < 2 or not self._are_rows(cells, line, at, ahead)
        if '"' in text:
            return True
        if not self.header:
            self.is_clipboard = False  # whoever wrote this puts quotes around anything
        return not self.is_clipboard

    def _are_rows(self, cells: list[str], line: str, at: int, ahead: list[str]) -> bool:
        """Whether the line, from here on behind `cells`, and those ahead are rows as wide as the header where quotes are
        letters."""
        width = len(self.header)
        if len(cells) > MAX_COLUMNS or len(cells) + 1 + line.count(self.delimiter, at) != width:
            return False
        return all(self._is_row(each, width) for each in ahead)

    def _never_closed(self, index: int) -> UnusableFile:
        return UnusableFile(
            _(
                "The quote at the beginning of row %(row)s, column “%(column)s”, is not closed where its cell ends. Delete it "
                "or close it: a text with a delimiter or a line break in it stands in quotes, and quotes inside are doubled."
            ),
            **self._place(index),
        )

    def _is_row(self, line: str, width: int) -> bool:
        """With quotes as letters, or as a line by itself has them. An empty one may stand anywhere."""
        if not line.strip("\r\n") or line.count(self.delimiter) + 1 == width:
            return True
        return len(line) <= LONGEST_CELL and len(next(csv.reader([line], delimiter=self.delimiter))) == width

    def _place(self, index: int) -> dict:
        header = self.header[index].strip()[:60] if index < len(self.header) else ""
        return {"row": self.rows, "column": header or index + 1}


def too_wide() -> UnusableFile:
    return UnusableFile(
        _("The file has more than %(limit)s columns. Keep those with clients' data, and save it with one row a line."),
        limit=MAX_COLUMNS,
    )
