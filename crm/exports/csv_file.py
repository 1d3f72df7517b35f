"""A table as CSV that Czech Excel opens by a double click: UTF-8 with a BOM, `;`, CRLF, decimal commas."""

import csv
import datetime
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import BinaryIO

from crm.exports.tables import Table, chunks_of


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    return write_columns(table, target, _shown, encoding="utf-8-sig", delimiter=";")


def write_columns(table: Table, target: BinaryIO, shown: Callable, *, encoding: str, delimiter: str) -> int:
    """`shown` makes texts of a column's values. Returns the number of rows."""
    text = io.TextIOWrapper(target, encoding=encoding, newline="", write_through=False)
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(table.header)
    rows = 0
    for columns in chunks_of(table):
        writer.writerows(zip(*map(shown, columns), strict=True))
        rows += len(columns[0])
    text.flush()
    text.detach()
    return rows


def _shown(values: Sequence) -> Sequence:
    """An empty cell is empty whether it is None or no text."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return values
    shown = _SHOWN.get(kinds.pop(), str) if len(kinds) == 1 else _cell
    return [None if value is None else shown(value) for value in values]


def _number(value: Decimal) -> str:
    return f"{value:f}".replace(".", ",")


def _moment(value: datetime.datetime) -> str:
    return "%d.%d.%d %02d:%02d" % (value.day, value.month, value.year, value.hour, value.minute)  # noqa: UP031 - the quicker


def _day(value: datetime.date) -> str:
    return f"{value.day}.{value.month}.{value.year}"


_SHOWN = {Decimal: _number, datetime.datetime: _moment, datetime.date: _day, int: str}


def _cell(value) -> str:
    return _SHOWN.get(type(value), str)(value)
