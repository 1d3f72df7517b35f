"""Rows of an import that are given back, as a workbook: each cell as it came, so that it is read as the same value again.
A text stays a text, a number a number and a day a day, whatever the rest of its column is."""

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.translation import gettext as _

from crm.exports import xlsx_file
from crm.exports.columns import Kind
from crm.exports.tables import text_cell
from crm.imports import parsers

WIDTH, LAST_WIDTH = 20, 60
# Days beyond them are no dates of a workbook.
_FIRST, _LAST = datetime.datetime.combine(xlsx_file.FIRST_DAY, datetime.time()), datetime.datetime(9999, 12, 31)


def write(header: list[str], rows: Iterable[Sequence], target: BinaryIO) -> None:
    """The last column says why. Its header is no table's: those of a stranger may be empty, or twice the same."""
    xlsx_file.write(_GivenBack(header, rows), target, is_table=False)


@dataclass(frozen=True)
class _Column:
    width: int
    kind = Kind.ANY


class _GivenBack:
    """Stands for a Table."""

    def __init__(self, header: list[str], rows: Iterable[Sequence]):
        self.header = [text_cell(each) or "" for each in header]
        self.columns = [_Column(WIDTH) for _each in header[1:]] + [_Column(LAST_WIDTH)]
        self.rows = rows

    def __iter__(self) -> Iterator[list]:
        for row in self.rows:
            yield [_cell(value) for value in row]

    def summary(self) -> None:
        return None

    def about(self, rows: int) -> list[tuple]:
        return [
            (_("Refused rows"), None, ""),
            (_("Rows"), rows, Kind.INTEGER),
            (_("Note"), _("Correct them on the first sheet and import this file. The last column is left out."), ""),
        ]


def _cell(value: object) -> object:
    if type(value) is datetime.datetime:
        value = value.replace(tzinfo=None)
        return value if _FIRST <= value < _LAST else text_cell(parsers.shown(value))
    if type(value) is datetime.date or (type(value) in (int, float) and math.isfinite(value)):
        return value
    # Also what no column takes: a time of day, a length of time, true and false.
    return text_cell(value if isinstance(value, str) else parsers.shown(value))
