"""What a workbook says of its rows beside them: how many, sums of amounts, and how many of each kind. A client or a case
whose columns repeat, in a list of what hangs on it, would be counted as often; they are in no total."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from django.db import models
from django.utils.translation import gettext as _

from crm.exports.columns import Column, Kind, is_own
from crm.models import Case, Client, DocumentType, Lender, Step, User

# Of each kind the most frequent; the rest in one line.
MOST = 30
Line = tuple[str, object, str]


class Summary:
    """Sees some rows after the others, a list for each column: nothing is kept but the counts."""

    def __init__(self, columns: list[Column], model: type[models.Model]):
        counted = [(index, each) for index, each in enumerate(columns) if _is_of_rows(each, columns, model)]
        self.amounts = {index: Decimal(0) for index, each in counted if each.kind == Kind.AMOUNT}
        self.kinds = {index: Counter() for index, each in counted if _is_kind(each)}
        self.columns = columns

    def see(self, columns: Sequence[Sequence]) -> None:
        for index in self.amounts:
            self.amounts[index] += sum(value for value in columns[index] if isinstance(value, Decimal))
        for index, counts in self.kinds.items():
            counts.update(columns[index])

    def lines(self, rows: int) -> list[Line]:
        found = [(_("Rows"), rows, Kind.INTEGER)]
        if self.amounts:
            found += [("", None, ""), (_("Sums"), None, "")]
            found += [(self.columns[index].label, amount, Kind.AMOUNT) for index, amount in self.amounts.items()]
        for index, counts in self.kinds.items():
            shown = counts.most_common(MOST)
            found += [("", None, ""), (self.columns[index].label, None, "")]
            found += [(value or "–", count, Kind.INTEGER) for value, count in shown]
            if rest := counts.total() - sum(count for _value, count in shown):
                found.append((_("Others"), rest, Kind.INTEGER))
        return found


def _is_of_rows(column: Column, columns: list[Column], model: type[models.Model]) -> bool:
    """With columns of their cases, a list of clients has a row for each case."""
    if model is Client and any(each.owner is Case for each in columns):
        return column.owner is Case
    return is_own(column)


def _is_kind(column: Column) -> bool:
    return bool(column.field.choices) or column.field.related_model in (DocumentType, Lender, Step, User)
