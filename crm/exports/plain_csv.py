"""A table as CSV for machines: UTF-8 without a BOM, `,`, CRLF (RFC 4180), ISO dates, decimal points. A text is escaped as in
every format, since nobody knows that a spreadsheet does not open it."""

import datetime
from decimal import Decimal
from typing import BinaryIO

from crm.exports.csv_file import write_columns
from crm.exports.tables import Table


def write(table: Table, target: BinaryIO) -> int:
    """Returns the number of rows."""
    return write_columns(table, target, _SHOWN, delimiter=",")


_SHOWN = {
    Decimal: "{:f}".format,
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
}
