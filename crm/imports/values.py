"""One cell under a known column -> the value of that field, checked as a form would check it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import translation
from django.utils.translation import gettext as _

from crm.imports import parsers
from crm.imports.columns import CASE, CLIENT, CODES, Column
from crm.imports.drafts import Draft
from crm.imports.problems import ERROR, WARNING, RowProblem, UnreadableValue
from crm.imports.reading import Row, is_left_out
from crm.imports.rules import Rules
from crm.models import Case, Client, Lender, User
from crm.models.reference import lender_key
from crm.search import fold

# Percent of a value, where a bare 0.8 is 80 %; an interest rate of 0.8 % is a rate.
SHARES = ("ltv_percent", "approved_ltv_percent", "dsti_percent")
HUNDRED = 100
# Of a column; more of them are rarely seen twice.
MOST_KNOWN = 1000
# Problems of each severity. Whoever has more mends the column or the program that wrote the file, not cells.
MOST_LISTED = 20_000
RELATIONS = {"adviser", "stand_in", "lender"}


class UnknownLender(UnreadableValue):
    """The text is kept as a note, so this never refuses a row."""


@dataclass(slots=True)
class Lookups:
    """What cells refer to, loaded once: two queries, whatever the number of rows."""

    lenders: dict[str, Lender] = field(default_factory=lambda: Lender.objects.by_key())
    people: "_People" = field(default_factory=lambda: _People(User.objects.all()))

    def named(self, name: str, key: int | None) -> str:
        """What a relation's key stands for; the key where that is gone."""
        if key is None:
            return ""
        known = self.lenders if name == "lender" else self.people.by_user_name
        return next((str(each) for each in known.values() if each.pk == key), f"#{key}")


class _People:
    """By user name, e-mail or full name; also who left, since a cell may say no more than what is stored. The staff go
    before others of their name."""

    def __init__(self, users: Iterable[User]):
        self.by_user_name = {user.username: user for user in users}
        everybody = list(self.by_user_name.values())
        staff = [user for user in everybody if user.is_staff]
        self._by_name = _by_name(everybody) | _by_name(staff)

    def find(self, written: str) -> User:
        """A user name as it is written goes before all: two may differ only in case. Raises UnreadableValue."""
        if user := self.by_user_name.get(written) or self._by_name.get(user_key(written)):
            return user
        if user_key(written) in self._by_name:
            raise UnreadableValue(_("Several users have this name. Write the user name or the e-mail."))
        raise UnreadableValue(_("No user has this name."))


def user_key(name: str) -> str:
    """By which a user name, e-mail or full name is found, however its spaces are stored."""
    return fold(parsers.one_line(name))


def _by_name(people: list[User]) -> dict[str, User | None]:
    """By the key of user name, e-mail or full name; None where two people share it."""
    found: dict[str, User | None] = {}
    for names in (lambda user: user.get_full_name(), lambda user: user.email, lambda user: user.username):
        shared: dict[str, list] = {}
        for user in people:
            if key := user_key(names(user)):
                shared.setdefault(key, []).append(user)
        found |= {key: users[0] if len(users) == 1 else None for key, users in shared.items()}
    return found


def read(column: Column, cell: object, lookups: Lookups, warn=parsers.ignore):
    """Raises UnreadableValue, also for a value that the form of this field would refuse. Empty gives "" or None."""
    return reader_of(column, lookups)(cell, warn)


def reader_of(column: Column, lookups: Lookups) -> Callable:
    """What reads the cells of this column, as `read` does."""
    model_field = column.field
    if isinstance(model_field, models.ForeignKey):
        return partial(_related, column.name, lookups)
    if model_field.choices:
        return partial(_choice, model_field)
    return partial(_cleaned, model_field, _parser(model_field))


def _cleaned(model_field: models.Field, parse: Callable, cell: object, warn):
    value = parse(cell, warn)
    if value is None or value == "":
        return value
    try:
        value = model_field.clean(value, None)
    except ValidationError as error:
        raise UnreadableValue(" ".join(error.messages)) from error
    if model_field.name in ("ltv_percent", "approved_ltv_percent") and value > HUNDRED:
        warn(_("LTV is over 100 %."))
    return value


def _parser(model_field: models.Field):
    if isinstance(model_field, models.DateField):
        return parsers.date
    if isinstance(model_field, models.DecimalField):
        if model_field.name.endswith("_czk"):
            return parsers.amount
        if model_field.name in SHARES:
            return parsers.percent
        return parsers.rate if model_field.name == "interest_rate_percent" else parsers.decimal
    if isinstance(model_field, models.IntegerField):
        return parsers.integer
    if model_field.name in CODES:
        return parsers.code
    return parsers.line if isinstance(model_field, models.CharField) else parsers.text


def _related(name: str, lookups: Lookups, cell: object, warn):
    written = parsers.line(cell, warn)
    if not written:
        return None
    if name == "lender":
        if lender := lookups.lenders.get(lender_key(written)):
            return lender
        raise UnknownLender(_("The lender is not known; its text is kept as the note of the lender's step."))
    return lookups.people.find(written)


@cache
def _choices(model_field: models.Field) -> dict[str, str]:
    """Folded value, English and Czech label -> value."""
    found = {}
    for language in ("en", "cs"):
        with translation.override(language):
            found |= {fold(str(label)): value for value, label in model_field.flatchoices}
    return found | {fold(str(value)): value for value, _label in model_field.flatchoices}


def _choice(model_field: models.Field, cell: object, warn) -> str:
    written = fold(parsers.line(cell, warn))
    if not written:
        return ""
    if value := _choices(model_field).get(written):
        return value
    allowed = ", ".join(str(label) for _value, label in model_field.flatchoices)
    raise UnreadableValue(_("This is none of: %(allowed)s."), allowed=allowed)


def is_multiline(model_field: models.Field) -> bool:
    return _parser(model_field) is parsers.text


@dataclass(slots=True)
class RowValues:
    """What the readable cells of a row say, by owner and field name; the empty ones are left out."""

    given: dict[str, dict[str, object]] = field(default_factory=lambda: {CLIENT: {}, CASE: {}})
    is_bad: bool = False
    # Names of the fields whose cells cannot be read.
    unread: set[str] = field(default_factory=set)
    lender_text: str = ""
    # What `tell` reports: column, reason, severity.
    untold: list[tuple[Column, str, str]] = field(default_factory=list)

    def of(self, owner: str) -> dict[str, object]:
        return self.given[owner]

    def draft(self, owner: str, **more) -> Draft:
        given = self.given[owner] | more
        for name in RELATIONS & given.keys():
            given[f"{name}_id"] = given.pop(name).pk
        return Draft(Client if owner == CLIENT else Case, given)


class _Cells:
    """The cells of one column. What a text says is worked out once, where the column has not too many of them."""

    __slots__ = ("column", "is_zero_unknown", "known", "parse")

    def __init__(self, column: Column, lookups: Lookups, *, is_history: bool):
        self.column, self.parse = column, reader_of(column, lookups)
        # Lists from elsewhere write 0 where nobody knows an amount.
        self.is_zero_unknown = is_history and _parser(column.field) in (parsers.amount, parsers.percent)
        self.known: dict[str, tuple[object, list[str]]] = {}

    def read(self, cell: object) -> tuple[object, list[str]]:
        """Value and warnings, of a text that is not known."""
        warnings: list[str] = []
        value = None if is_left_out(cell) else self.parse(cell, warnings.append)
        found = (None if self.is_zero_unknown and value == 0 else value, warnings)
        if len(self.known) < MOST_KNOWN and type(cell) is str:
            self.known[cell] = found
        return found


class RowReader:
    """Reads rows one after another and gathers what is wrong with their cells: of errors and of warnings the first
    MOST_LISTED, and all of the row that has the last of them. The others are counted in `left_out`."""

    def __init__(self, lookups: Lookups, rules: Rules, problems: list[RowProblem]):
        self.lookups, self.rules, self.problems = lookups, rules, problems
        self.left_out: Counter[str] = Counter()
        self._listed: Counter[str] = Counter()
        self._last_row: dict[str, int] = {}
        self._cells: dict[int, _Cells] = {}

    def report(self, row: Row, column: Column | None, reason: str, severity: str = ERROR, kind: str = "") -> None:
        if self._listed[severity] >= MOST_LISTED and self._last_row[severity] != row.number:
            self.left_out[severity] += 1
            return
        self._listed[severity] += 1
        self._last_row[severity] = row.number
        header, cell = (column.header, parsers.shown(row.cell(column.index))) if column else ("", "")
        self.problems.append(RowProblem(row.number, header, cell, str(reason), severity, kind))

    def values(self, row: Row, columns: list[Column]) -> RowValues:
        found = self.read(row, columns)
        self.tell(row, found)
        return found

    def tell(self, row: Row, values: RowValues) -> None:
        """What is wrong with cells that were `read`."""
        for column, reason, severity in values.untold:
            self.report(row, column, reason, severity)

    def read(self, row: Row, columns: list[Column]) -> RowValues:
        """Without a word of what is wrong, for a row that may turn out to be known."""
        found = RowValues()
        cells = row.cells
        for column in columns:
            cell = cells[column.index] if column.index < len(cells) else None
            if cell is None or cell == "":
                continue
            of_column = self._cells.get(column.index)
            if of_column is None or of_column.column is not column:
                of_column = self._cells[column.index] = _Cells(column, self.lookups, is_history=self.rules.is_history)
            try:
                value, warnings = (type(cell) is str and of_column.known.get(cell)) or of_column.read(cell)
            except UnknownLender as unknown:
                found.lender_text = parsers.line(cell)
                found.untold.append((column, str(unknown), WARNING))
            except UnreadableValue as error:
                found.is_bad = True
                found.unread.add(column.name)
                found.untold.append((column, str(error), ERROR))
            else:
                for reason in warnings:
                    found.untold.append((column, reason, WARNING))
                if value is not None and value != "":
                    found.given[column.owner][column.name] = value
        return found
