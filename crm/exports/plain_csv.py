"""A table as CSV for machines: UTF-8 without a BOM, `,`, CRLF (RFC 4180), ISO dates, decimal points. A text is escaped as in
every format, since nobody knows that a spreadsheet does not open it."""

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import BinaryIO

from crm.exports.csv_file import write_columns
from crm.exports.tables import Table


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    return write_columns(table, target, _shown, encoding="utf-8", delimiter=",")


def _shown(values: Sequence) -> Sequence:
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str, int}:
        return values
    return [value if value is None or type(value) is str else _cell(value) for value in values]


def _cell(value) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
