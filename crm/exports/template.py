"""The workbook to fill in: headers that the import knows, one row as an example, and beside it what may be chosen. It is in
its reader's language, and the import takes either."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

from django.utils.translation import get_language
from django.utils.translation import gettext as _

from crm.exports import xlsx_file
from crm.exports.columns import Column, Kind, column
from crm.exports.tables import user_names
from crm.imports.columns import CASE_FIELDS, CLIENT_FIELDS
from crm.models import Case, Client, Lender, User
from crm.spreadsheet import EXAMPLE_NAMES

# The office's own: set by what becomes of a case, not by a list of new clients.
_LATER = (
    "retention_until", "status", "approved_terms", "approved_amount_czk", "approved_own_funds_czk", "approved_ltv_percent",
    "rejection_reason", "decided_on", "fixation_until", "contract_number",
)  # fmt: skip
_NAMES = ("full_name", "opened_on", *CLIENT_FIELDS[1:], *(name for name in CASE_FIELDS if name != "opened_on"))
_EXAMPLE = {
    "opened_on": datetime.date(2026, 3, 2), "email": "jana.novakova@example.com", "phone": "+420 777 123 456",
    "birth_number": "855101/1238", "birth_date": datetime.date(1985, 1, 1), "birth_place": "Brno",
    "street": "Lipová 12", "city": "Brno", "postal_code": "602 00", "id_document_number": "123456789",
    "id_document_valid_until": datetime.date(2031, 12, 31), "bank_account": "19-2000145399/0800", "citizenship": "CZ",
    "property_price_czk": Decimal(5_000_000), "loan_amount_czk": Decimal(4_000_000), "own_funds_czk": Decimal(1_000_000),
    "ltv_percent": Decimal(80), "interest_rate_percent": Decimal("4.79"), "term_months": 360, "fixation_years": 5,
}  # fmt: skip
_LAST_ROW = xlsx_file.MAX_ROWS + 1
# What a cell of a kind should be; the spreadsheet asks before it takes anything else, since the import reads more.
_BOUNDS = {
    Kind.DATE: ("date", "1", "73415"),
    Kind.AMOUNT: ("decimal", "0", "999999999999"),
    Kind.SHARE: ("decimal", "0", "1000"),
    Kind.RATE: ("decimal", "0", "100"),
    Kind.NUMBER: ("decimal", "0", "1000"),
    Kind.INTEGER: ("whole", "0", "1200"),
}


def write(target: BinaryIO) -> None:
    sheet = _Template()
    xlsx_file.write(sheet, target, checks=sheet.checks(), beside={_("Values"): xlsx_file.list_sheet(sheet.choices)})


class _Template:
    """Stands for a Table of one row."""

    def __init__(self):
        self.columns = [_column(name) for name in _NAMES if name not in _LATER]

    @property
    def header(self) -> list[str]:
        return [each.header for each in self.columns]

    def __iter__(self) -> Iterator[list]:
        chosen = {label: values[0] for label, values in self.choices.items() if values}
        example = {**_EXAMPLE, "stand_in": None, "full_name": EXAMPLE_NAMES.get(get_language(), EXAMPLE_NAMES["en"])}
        yield [example.get(each.name, chosen.get(each.label)) for each in self.columns]

    def summary(self) -> None:
        return None

    def about(self, rows: int) -> list[tuple]:
        lines = (
            _("One row is one client with one case. Only the name is needed."),
            _("The row of the example is left out; write over it, or leave it."),
            _("Columns may stand in any order, and those that you do not need may be deleted."),
            _("Dates as 31.12.2025, amounts in crowns, percent as 79.9 or 79.9 %."),
            _("What may be chosen in a cell stands on the sheet “%(sheet)s”.") % {"sheet": _("Values")},
        )
        return [(_("How to fill in the sheet"), None, ""), *((_("Note"), line, "") for line in lines)]

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """Header -> what its cells may hold, in the order in which it is offered."""
        people = sorted(user_names(self.columns).items(), key=lambda each: each[1])
        staff = set(User.objects.filter(is_staff=True, is_active=True).values_list("pk", flat=True))
        lenders = list(Lender.objects.filter(is_active=True).order_by("name").values_list("name", flat=True))
        found = {}
        for each in self.columns:
            if each.field.choices:
                found[each.label] = [str(label) for _value, label in each.field.flatchoices]
            elif each.field.related_model is User:
                found[each.label] = [name for key, name in people if key in staff]
            elif each.field.related_model is Lender:
                found[each.label] = lenders
        return found

    def checks(self) -> str:
        """Rules of the cells, as XML."""
        lists = list(self.choices)
        rules = []
        for index, each in enumerate(self.columns):
            cells = f"{xlsx_file.column_letters(index)}2:{xlsx_file.column_letters(index)}{_LAST_ROW}"
            if values := self.choices.get(each.label):
                letters = xlsx_file.column_letters(lists.index(each.label))
                place = f"'{xlsx_file.sheet_name(_('Values'))}'!${letters}$2:${letters}${len(values) + 1}"
                # A lender that is not known becomes a note.
                style = "warning" if each.field.related_model is Lender else "stop"
                rules.append(_rule(cells, "list", style, _("Choose one of the list."), place))
            elif bounds := _BOUNDS.get(each.kind):
                kind, least, most = bounds
                rules.append(_rule(cells, kind, "warning", _about(each.kind), least, most))
        return f'<dataValidations count="{len(rules)}">{"".join(rules)}</dataValidations>'


def _column(name: str) -> Column:
    return column(Client if name in CLIENT_FIELDS else Case, name)


def _about(kind: Kind) -> str:
    if kind == Kind.DATE:
        return _("Write a date, such as 31.12.2025.")
    return _("Write a number without a unit.")


def _rule(cells: str, kind: str, style: str, said: str, *formulas: str) -> str:
    numbered = "".join(f"<formula{n}>{each}</formula{n}>" for n, each in enumerate(formulas, start=1))
    return (
        f'<dataValidation type="{kind}" errorStyle="{style}" allowBlank="1" showErrorMessage="1" '
        f'error={quoteattr(said)} sqref="{cells}">{numbered}</dataValidation>'
    )
