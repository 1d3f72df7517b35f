"""A table as CSV that Czech Excel opens by a double click: UTF-8 with a BOM, `;`, CRLF, decimal commas."""

import csv
import datetime
import io
from decimal import Decimal
from typing import BinaryIO

from crm.exports.tables import Table


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    text = io.TextIOWrapper(target, encoding="utf-8-sig", newline="", write_through=False)
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
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
        return f"{value:f}".replace(".", ",")
    if isinstance(value, datetime.datetime):
        return f"{value.day}.{value.month}.{value.year} {value:%H:%M}"
    if isinstance(value, datetime.date):
        return f"{value.day}.{value.month}.{value.year}"
    return "" if value is None else str(value)
