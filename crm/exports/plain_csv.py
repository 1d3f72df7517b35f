"""A table as CSV for machines: UTF-8 without a BOM, `,`, CRLF (RFC 4180), ISO dates, decimal points. A text is escaped as in
every format, since nobody knows that a spreadsheet does not open it."""

import csv
import datetime
import io
from decimal import Decimal
from typing import BinaryIO

from crm.exports.tables import Table


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.header)
    rows = 0
    for row in table:
        writer.writerow([_shown(value) for value in row])
        rows += 1
    text.flush()
    text.detach()
    return rows


def _shown(value) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return "" if value is None else str(value)
