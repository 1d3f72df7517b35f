"""A table as CSV for machines: UTF-8 without a BOM, `,`, CRLF (RFC 4180), ISO dates, decimal points. A text is escaped as in
every format, since nobody knows that a spreadsheet does not open it."""

import csv
import datetime
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import BinaryIO

from crm.exports.tables import Table, chunks_of


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.header)
    rows = 0
    for columns in chunks_of(table):
        writer.writerows(zip(*map(_shown, columns), strict=True))
        rows += len(columns[0])
    text.flush()
    text.detach()
    return rows


def _shown(values: Sequence) -> Sequence:
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str, int}:
        return values
    return [value if value is None or type(value) is str else _cell(value) for value in values]


def _cell(value) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
