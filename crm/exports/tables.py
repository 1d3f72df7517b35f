"""Rows of a list as typed values: text, Decimal, int, date, datetime, or None for an empty cell. One query whatever the
number of rows, and only the chosen columns are fetched, so nothing is decrypted that is not in the file. A list of clients
with columns of their cases has a row for each case, and one for each client without any."""

import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, FilteredRelation, OuterRef, Q, QuerySet, Subquery, TextField
from django.db.models.functions import Cast
from django.db.models.sql.constants import MULTI
from django.utils import timezone

from crm.encryption import Unreadable, is_encrypted
from crm.exports.columns import CASES, Column, Kind, as_it_is
from crm.exports.summary import Line, Summary
from crm.imports.conflicts import Version
from crm.imports.values import user_key
from crm.models import Case, Client, Lender, Step, User
from crm.models.base import sees_all_cases
from crm.models.bulk import ahead
from crm.spreadsheet import MAY_BE_ESCAPED, TOO_LONG_MARK, escape_cell

# More rows at a time are a little faster, and take 25 MB a thousand in a workbook of all columns.
CHUNK = 750
# What one cell of Excel holds, counted in UTF-16 units; it cuts a CSV's longer texts off without a word.
LONGEST_TEXT = 32_767
SURELY_FITS = LONGEST_TEXT // 2
# As PostgreSQL writes it in UTC, but where the microseconds end in a zero.
_WHOLE_MOMENT = len("2026-01-31 12:34:56.123456+00")
# An import takes a bare 0.8 for 80 % and does not guess at 2; with the sign it is what it says.
SIGN_UP_TO = {Kind.SHARE: Decimal(3), Kind.RATE: Decimal("0.3")}


@dataclass(frozen=True)
class Table:
    columns: list[Column]
    rows: QuerySet
    # Where a row's client is, if the rows are of clients, and whose rows went by.
    client_path: str = ""
    clients: set[int] = field(default_factory=set)
    # The number of its record, which the rows' versions carry.
    number: int = 0
    # What the file says of itself, as lines of a label, a value and its kind; it is asked for the number of rows.
    about: Callable[[int], list[Line]] = lambda rows: []
    progress: Callable[[int], None] = lambda done: None

    def summary(self) -> Summary | None:
        return Summary(self.columns, self.rows.model)

    @property
    def header(self) -> list[str]:
        return [column.header for column in self.columns]

    def __iter__(self) -> Iterator[list]:
        for chunk in self.chunks():
            yield from map(list, zip(*chunk, strict=True))

    def chunks(self) -> Iterator[list[Sequence]]:
        """Some rows at a time, as a list of values for each column: a call a column costs a tenth of one a cell."""
        people, done = user_names(self.columns), 0
        shows = [_shower(column, people, self.number) for column in self.columns]
        parts, start = [], 0
        for column in self.columns:
            parts.append(slice(start, start + len(column.paths)))
            start += len(column.paths)
        paths = [path for column in self.columns for path in column.paths]
        if self.client_path:
            paths.append(self.client_path)
        self.progress(0)
        for stored in _stored(self._values(paths)):
            if self.client_path:
                self.clients.update(stored[-1])
            yield [show(*stored[part]) for show, part in zip(shows, parts, strict=True)]
            done += len(stored[0])
            self.progress(done)

    def _values(self, paths: list[str]) -> QuerySet:
        """Moments as text: both engines write them in ISO, and reading that takes a tenth of what their own objects take."""
        model, computed = self.rows.model, {}
        for column in self.columns:
            [path, *_others] = column.paths
            if column.kind == Kind.VERSION:
                computed[path] = _newest(model, column.owner)
            elif column.kind == Kind.MOMENT:
                computed[f"text_of_{path}"] = Cast(F(path), TextField())
        names = [f"text_of_{path}" if f"text_of_{path}" in computed else path for path in paths]
        return self.rows.annotate(**computed).values_list(*names)


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


def chunks_of(table) -> Iterator[list[Sequence]]:
    """Also of what only stands for a Table, and gives rows."""
    if isinstance(table, Table):
        return table.chunks()
    return (list(zip(*rows, strict=True)) for rows in itertools.batched(table, CHUNK))


def _stored(rows: QuerySet) -> Iterator[list[Sequence]]:
    """The values of `values_list`, a chunk of rows and a list a column at a time: what is encrypted is decrypted together."""
    is_chunked = not connections[rows.db].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    with _streaming(connections[rows.db]) as connection:
        compiler = rows.query.get_compiler(connection=connection)
        results = compiler.execute_sql(MULTI, chunked_fetch=is_chunked, chunk_size=CHUNK)
        expressions = [selected[0] for selected in compiler.select[: compiler.col_count]]
        readers = [
            (at, _reader(expression, converters, connection))
            for at, (converters, expression) in compiler.get_converters(expressions).items()
        ]
        is_shared = connection is connections[rows.db]
        with contextlib.closing((chunk for chunk in results) if is_shared else ahead(iter(results))) as chunks:
            for chunk in chunks:
                columns = list(zip(*chunk, strict=True))
                for at, read in readers:
                    columns[at] = read(columns[at])
                if columns:
                    yield columns


@contextlib.contextmanager
def _streaming(connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Outside a transaction PostgreSQL runs a query to its end, and stores what it found, before it gives the first row; and
    the file's own pieces are written meanwhile. So there the rows come by a connection of their own, in its transaction.
    A pool has none to spare: two to a request would wait for each other."""
    if (
        connection.vendor != "postgresql"
        or connection.in_atomic_block
        or connection.settings_dict["OPTIONS"].get("pool")
    ):
        yield connection
        return
    own = connection.copy()
    own.inc_thread_sharing()
    try:
        own.set_autocommit(False)
        yield own
    finally:
        own.close()


def _reader(expression, converters, connection) -> Callable[[Sequence], Sequence]:
    field = expression.output_field
    if is_encrypted(field):
        return field.read_many

    def read(values: Sequence) -> Sequence:
        for convert in converters:
            values = [convert(value, expression, connection) for value in values]
        return values

    return read


class _Remembered(dict):
    """What was made of the few values that come again and again."""

    def __init__(self, make: Callable):
        self.make = make

    def __missing__(self, values: tuple):
        self[values] = made = self.make(*values)
        return made


def _shower(column: Column, people: dict[int, str], number: int) -> Callable[..., Sequence]:
    """What makes a column's cells of the values that the database gave."""
    kind, show, field = column.kind, column.show, column.field
    if kind == Kind.VERSION:
        return lambda values: [str(Version(value, number)) if value else None for value in values]
    if field.related_model is User:
        names = {key: escape_cell(name) for key, name in people.items()}
        return lambda keys: [names.get(key, "") for key in keys]
    if field.choices or field.related_model in (Step, Lender):
        texts = _Remembered(lambda *values: text_cell(show(*values)))
        return lambda *columns: [texts[values] for values in zip(*columns, strict=True)]
    if kind in (Kind.TEXT, Kind.CODE):
        if show is as_it_is:
            return lambda values: [text_cell(value) for value in values]
        return lambda *columns: [text_cell(show(*values)) for values in zip(*columns, strict=True)]
    if not column.is_plain and (least := SIGN_UP_TO.get(kind)):
        return lambda values: [_with_sign(value, least) for value in values]
    if kind == Kind.MOMENT and column.is_plain:
        return lambda values: [_iso_moment(value) if value else None for value in values]
    if kind == Kind.MOMENT:
        zone = timezone.get_current_timezone()
        return lambda values: [_moment(value).astimezone(zone) if value else None for value in values]
    if is_encrypted(field):
        return lambda values: [text_or(value) for value in values]
    return (lambda values: values) if show is as_it_is else (lambda values: [show(value) for value in values])


def _moment(text: str) -> datetime.datetime:
    """SQLite keeps UTC and does not say so."""
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _iso_moment(text: str) -> str:
    if len(text) == _WHOLE_MOMENT and text.endswith("+00"):
        return f"{text[:10]}T{text[11:]}:00"
    return _moment(text).astimezone(datetime.UTC).isoformat()


def text_or(value):
    """Another type than text as it is; an encrypted date that no key opens is a text all the same."""
    return text_cell(value) if isinstance(value, str) else value


def text_cell(value) -> str | None:
    if not value:
        return None
    if type(value) is str and len(value) <= SURELY_FITS and value[0] not in MAY_BE_ESCAPED and "\r" not in value:
        return value
    # Its mark goes out as it is: see crm.spreadsheet.LEFT_OUT.
    text = str(value) if isinstance(value, Unreadable) else escape_cell(_lines(str(value)))
    if len(text) > SURELY_FITS and len(text.encode("utf-16-le")) // 2 > LONGEST_TEXT:
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
        for name in {user_key(user.get_full_name()), user_key(user.email), user_key(user.username)}:
            taken[name] = taken.get(name, 0) + 1
    return {
        user.pk: user.get_full_name()
        if user.get_full_name() and taken[user_key(user.get_full_name())] == 1
        else user.username
        for user in people
    }
