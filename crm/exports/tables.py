"""Rows of a list as typed values: text, Decimal, int, date, datetime, or None for an empty cell. One query whatever the
number of rows, and only the chosen columns are fetched, so nothing is decrypted that is not in the file. A list of clients
with columns of their cases has a row for each case, and one for each client without any."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import FilteredRelation, OuterRef, Q, QuerySet, Subquery

from crm.encryption import Unreadable
from crm.exports.columns import CASES, Column, Kind
from crm.exports.summary import Line, Summary
from crm.models import Case, Client, User
from crm.models.base import sees_all_cases
from crm.search import fold
from crm.spreadsheet import TOO_LONG_MARK, escape_cell

CHUNK = 2_000
# What one cell of Excel holds, counted in UTF-16 units; it cuts a CSV's longer texts off without a word.
LONGEST_TEXT = 32_767
# An import takes a bare 0.8 for 80 % and does not guess at 2; with the sign it is what it says.
SIGN_UP_TO = {Kind.SHARE: Decimal(3), Kind.RATE: Decimal("0.3")}


@dataclass(frozen=True)
class Table:
    columns: list[Column]
    rows: QuerySet
    # Where a row's client is, if the rows are of clients, and whose rows went by.
    client_path: str = ""
    clients: set[int] = field(default_factory=set)
    # What the file says of itself, as lines of a label, a value and its kind; it is asked for the number of rows.
    about: Callable[[int], list[Line]] = lambda rows: []
    progress: Callable[[int], None] = lambda done: None

    def summary(self) -> Summary | None:
        return Summary(self.columns)

    @property
    def header(self) -> list[str]:
        return [column.header for column in self.columns]

    def __iter__(self) -> Iterator[list]:
        people = user_names(self.columns)
        shows = [_shower(column, people) for column in self.columns]
        parts, start = [], 0
        for column in self.columns:
            parts.append(slice(start, start + len(column.paths)))
            start += len(column.paths)
        paths = [path for column in self.columns for path in column.paths]
        if self.client_path:
            paths.append(self.client_path)
        for number, values in enumerate(self._values(paths).iterator(chunk_size=CHUNK)):
            if number % CHUNK == 0:
                self.progress(number)
            if self.client_path:
                self.clients.add(values[-1])
            yield [show(*values[part]) for show, part in zip(shows, parts, strict=True)]

    def _values(self, paths: list[str]) -> QuerySet:
        versions = {column.paths[0]: column.owner for column in self.columns if column.kind == Kind.VERSION}
        rows = self.rows.annotate(**{path: _newest(self.rows.model, owner) for path, owner in versions.items()})
        return rows.values_list(*paths)


def with_cases(clients: QuerySet, user) -> QuerySet:
    """Joined to those of their cases that `user` sees (None: all), as `its_case`."""
    if user is None or sees_all_cases(user):
        return clients.annotate(**{CASES: FilteredRelation("cases")})
    own = Q(cases__adviser=user) | Q(cases__stand_in=user)
    return clients.annotate(**{CASES: FilteredRelation("cases", condition=own)})


def _newest(model, owner) -> Subquery:
    """The newest history row of the row, of its case or of its client."""
    key = {(Client, Case): f"{CASES}__pk", (Case, Client): "client_id"}.get((model, owner), "pk")
    history = owner.history.model.objects.filter(id=OuterRef(key)).order_by("-history_id")
    return Subquery(history.values("history_id")[:1])


def _shower(column: Column, people: dict[int, str]):
    """What makes a cell's value of the values that the database gave."""
    if column.field.related_model is User:
        return lambda key: escape_cell(people.get(key, ""))
    kind, show = column.kind, column.show
    if kind in (Kind.TEXT, Kind.CODE):
        return lambda *values: text_cell(show(*values))
    if not column.is_plain and (least := SIGN_UP_TO.get(kind)):
        return lambda *values: _with_sign(text_or(show(*values)), least)
    return lambda *values: text_or(show(*values))


def text_or(value):
    """Another type than text as it is; an encrypted date that no key opens is a text all the same."""
    return text_cell(value) if isinstance(value, str) else value


def text_cell(value) -> str | None:
    if not value:
        return None
    # Its mark goes out as it is: see crm.spreadsheet.LEFT_OUT.
    text = str(value) if isinstance(value, Unreadable) else escape_cell(_lines(str(value)))
    if len(text) > LONGEST_TEXT // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST_TEXT:
        return TOO_LONG_MARK
    return text


def _lines(text: str) -> str:
    """One kind of line end: browsers send CRLF, and in a workbook a CR is no line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _with_sign(value, least: Decimal):
    if isinstance(value, Decimal) and value < least:
        return f"{value:f} %".replace(".", ",")
    return value


def user_names(columns: list[Column]) -> dict[int, str]:
    """The name by which an import finds the same person again: the full name, or the user name where two share it and where
    a machine reads. Empty where no column is of people."""
    of_people = [column for column in columns if column.field.related_model is User]
    if not of_people:
        return {}
    people = list(User.objects.all())
    if of_people[0].is_plain:
        return {user.pk: user.username for user in people}
    taken: dict[str, int] = {}
    for user in people:
        for name in {fold(user.get_full_name()), fold(user.email), fold(user.username)}:
            taken[name] = taken.get(name, 0) + 1
    return {
        user.pk: user.get_full_name()
        if user.get_full_name() and taken[fold(user.get_full_name())] == 1
        else user.username
        for user in people
    }
