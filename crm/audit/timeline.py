"""All that happened around one client, newest first: the history rows of the client, his cases and all that belongs to
them, with his messages, the exports that took his data out, and what the older CRM remembered.

One UNION of index scans, each cut to what a page can need, finds the page; a query a model then reads it."""

import dataclasses
import datetime
import uuid
from collections.abc import Collection, Iterator

from django.db import connection, models
from django.db.models import Exists, OuterRef, Subquery
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from crm.audit.changes import Change, describe, may_read, told_fields
from crm.choices import MessageState, NoteKind
from crm.models import (
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    ExportedClient,
    ExportRun,
    FinanceItem,
    Identification,
    MessageLog,
    Note,
    Property,
)
from crm.models.base import sees_all_cases
from crm.models.history import CHANGED, CREATED, DELETED

PER_PAGE = 50
OF_CASE = (CaseStep, CaseParty, Property, Document, Note, Commission)
OF_CLIENT = (FinanceItem, Consent, Identification)
TRACKED = (Client, Case, *OF_CASE, *OF_CLIENT)
MESSAGE, SENT, EXPORT, OLDER = "message", "sent", "export", "older"


@dataclasses.dataclass(frozen=True)
class Filters:
    """`field` goes with `model`; `since` and `until` are moments, `until` not included."""

    user_id: int | None = None
    kind: str = ""
    model: type[models.Model] | None = None
    field: str = ""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """A change of a record, or (`change` is None) a message, an export or a line of the older CRM, told by `text`."""

    at: datetime.datetime
    kind: str
    by: str
    source: str = ""
    reason: str = ""
    operation_id: uuid.UUID | None = None
    change: Change | None = None
    label: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    entries: list[Entry]
    number: int
    has_next: bool


def page_of(client_id: int, user, *, filters: Filters | None = None, number: int = 1) -> Page:
    """What `user` may see of it now: cases of others, where he sees only his own, and all that hangs on them are left out.
    So are models that he may not view. Every query counts the same, whatever the length of the past."""
    asked = filters or Filters()
    parts = list(_parts(client_id, user, asked))
    if not parts:
        return Page([], 1, False)
    start = (number - 1) * PER_PAGE
    keys = _newest(parts, start)
    return Page(_entries(keys[:PER_PAGE], user), number, len(keys) > PER_PAGE)


def people(client_id: int, user) -> list[tuple[int, str]]:
    """Who changed or took out anything here, for the filter: id, and of several names one."""
    parts = [part for part in _parts(client_id, user, Filters()) if part.who]
    sql = " UNION ".join(part.sql(", ".join(part.who)) for part in parts)
    found: dict[int, str] = {}
    for key, name in _rows(sql, [value for part in parts for value in part.values]):
        if key is not None:
            found[key] = max(name, found.get(key, ""))
    return sorted(found.items(), key=lambda pair: pair[1])


# The cases that a timeline tells of, also deleted ones where the reader sees everybody's. Of a case that was given to
# another client, until when it is told; else None.
Cases = dict[int, datetime.datetime | None]


def _cases_of(client_id: int, user) -> Cases:
    """What became of a case at another client is that one's affair: it is told until the change that moved it."""
    history = Case.history.model.objects.order_by()
    newer = history.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"))
    last_here = history.filter(~Exists(newer.filter(client_id=client_id)), client_id=client_id)
    moved = newer.order_by("history_id").values("history_date")[:1]
    found = dict(last_here.annotate(moved_at=Subquery(moved)).values_list("id", "moved_at"))
    if any(found.values()) and Client.objects.filter(pk=client_id).exclude(anonymised_at=None).exists():
        found = {key: until for key, until in found.items() if until is None}  # the other client's own by now
    return _seen(found, user)


def _cases_as_party(client_id: int, user) -> Cases:
    parties = CaseParty.history.filter(client_id=client_id).order_by()
    return _seen(dict.fromkeys(parties.values_list("case_id", flat=True).distinct()), user)


def _seen(cases: Cases, user) -> Cases:
    if not sees_all_cases(user):
        seen = set(Case.objects.visible_to(user).filter(pk__in=cases).order_by().values_list("pk", flat=True))
        cases = {key: until for key, until in cases.items() if key in seen}
    return dict(sorted(cases.items()))


# --- The query ---


@dataclasses.dataclass
class _Part:
    """One SELECT of the union: what it is called there, its table, and the conditions on it."""

    name: str
    table: str
    conditions: list[str]
    values: list
    key: str = "history_id"
    at: str = "history_date"
    who: tuple[str, ...] = ("history_user_id", "history_user_name")

    def sql(self, columns: str) -> str:
        return f"SELECT {columns} FROM {self.table} h WHERE {' AND '.join(self.conditions)}"  # noqa: S608


def _parts(client_id: int, user, asked: Filters) -> Iterator[_Part]:
    cases = _cases_of(client_id, user)
    if asked.kind in ("", CREATED, CHANGED, DELETED):
        for model in TRACKED:
            if asked.model not in (None, model) or not may_read(user, model):
                continue
            condition, keys = _belonging(model, client_id, cases, user)
            part = _history_part(model, condition, keys, asked)
            if part is not None:
                yield part
    if asked.model is not None:
        return
    if asked.user_id is None and asked.kind in ("", OLDER) and may_read(user, Note):
        condition, keys = _of_cases("case_id", cases, "created_at")
        yield _other(OLDER, Note, f"{condition} AND kind <> %s", [*keys, NoteKind.NOTE.value], asked)
    # A message is part of its case; nobody but a manager may view the list of all.
    if asked.user_id is None and asked.kind in ("", MESSAGE) and may_read(user, Case):
        condition, keys = _of_cases("case_id", cases, "created_at")
        yield _other(MESSAGE, MessageLog, condition, keys, asked)
        condition, keys = _of_cases("case_id", cases, "sent_at")
        yield _other(SENT, MessageLog, f"{condition} AND sent_at IS NOT NULL", keys, asked, at="sent_at")
    if asked.kind in ("", EXPORT):
        lists = [model._meta.model_name for model in (*TRACKED, MessageLog) if may_read(user, model)]
        runs = f"id IN (SELECT run_id FROM {_table(ExportedClient)} WHERE client_id = %s) AND {_among('model', lists)}"  # noqa: S608
        yield _other(EXPORT, ExportRun, runs, [client_id, *lists], asked, who=("user_id", "user_name"))


def _belonging(model, client_id: int, cases: Cases, user) -> tuple[str, list]:
    if model is Client:
        return "id = %s", [client_id]
    if model in OF_CLIENT:
        return "client_id = %s", [client_id]
    if model is Case:
        return _of_cases("id", cases, "history_date")
    condition, keys = _of_cases("case_id", cases, "history_date")
    if model is CaseParty:  # also where the client is a party of somebody else's case; its other parties are not his
        elsewhere = _cases_as_party(client_id, user)
        both = f"({condition} OR client_id = %s AND {_among('case_id', elsewhere)})"
        return both, [*keys, client_id, *elsewhere]
    return condition, keys


def _of_cases(column: str, cases: Cases, at: str) -> tuple[str, list]:
    standing = [key for key, until in cases.items() if until is None]
    conditions, values = [_among(column, standing)], standing
    for key, until in cases.items():
        if until is not None:
            conditions.append(f"{column} = %s AND {at} <= %s")
            values += [key, connection.ops.adapt_datetimefield_value(until)]
    return f"({' OR '.join(conditions)})", values


def _history_part(model, condition: str, keys: list, asked: Filters) -> _Part | None:
    part = _Part(model._meta.model_name, _table(model.history.model), [condition], [*keys])
    if model is Note:  # what the older CRM wrote is told on its own day
        part.conditions.append("(kind = %s OR history_type <> '+')")
        part.values.append(NoteKind.NOTE.value)
    if asked.kind:
        part.conditions.append("history_type = %s")
        part.values.append(asked.kind)
    if asked.field:
        condition = _changed(model, asked.field)
        if condition is None:
            return None
        part.conditions.append(condition)
    return _narrowed(part, model.history.model, asked)


def _changed(model, name: str) -> str | None:
    """SQL: this version says something else of the field than the version before, or it is the first one (also of a
    restored record) and says something. Encrypted values are compared as they are stored, since the history keeps the
    token of what did not change."""
    field = next((each for each in told_fields(model) if each.name == name), None)
    if field is None:
        return None
    column, table = connection.ops.quote_name(field.column), _table(model.history.model)
    before = (
        f"(SELECT p.{column} FROM {table} p WHERE p.id = h.id AND p.history_id < h.history_id "  # noqa: S608
        "ORDER BY p.history_id DESC LIMIT 1)"
    )
    differs = "IS DISTINCT FROM" if connection.vendor == "postgresql" else "IS NOT"
    return f"(history_type = '~' AND h.{column} {differs} {before} OR history_type = '+' AND {_says(field, column)})"


def _says(field, column: str) -> str:
    if isinstance(field, models.BooleanField):
        return f"h.{column}"
    is_text = isinstance(field, models.CharField | models.TextField)
    return f"h.{column} IS NOT NULL" + (f" AND h.{column} <> ''" if is_text else "")


def _other(name: str, model, condition: str, values: list, asked: Filters, *, at="created_at", who=()) -> _Part:
    return _narrowed(_Part(name, _table(model), [condition], [*values], "id", at, who), model, asked)


def _narrowed(part: _Part, model, asked: Filters) -> _Part:
    if asked.user_id is not None:
        part.conditions.append(f"{part.who[0]} = %s")
        part.values.append(asked.user_id)
    field = model._meta.get_field(part.at)
    for moment, sign in ((asked.since, ">="), (asked.until, "<")):
        if moment is not None:
            part.conditions.append(f"{part.at} {sign} %s")
            part.values.append(field.get_db_prep_value(moment, connection))
    return part


def _newest(parts: list[_Part], start: int) -> list[tuple[str, int]]:
    """(name, key) of one row more than a page."""
    inner = " UNION ALL ".join(
        f"SELECT * FROM ({part.sql(f"'{part.name}' AS name, {part.key} AS key, {part.at} AS at")} "  # noqa: S608
        f"ORDER BY {part.at} DESC, {part.key} DESC LIMIT {start + PER_PAGE + 1}) {part.name}_rows"
        for part in parts
    )
    sql = f"SELECT name, key FROM ({inner}) found ORDER BY at DESC, key DESC, name LIMIT {PER_PAGE + 1} OFFSET {start}"  # noqa: S608
    return _rows(sql, [value for part in parts for value in part.values])


def _rows(sql: str, values: list) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def _table(model) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _among(column: str, keys: Collection) -> str:
    return f"{column} IN ({', '.join(['%s'] * len(keys))})" if keys else "1 = 0"


# --- The page ---


def _entries(keys: list[tuple[str, int]], user) -> list[Entry]:
    wanted: dict[str, list[int]] = {}
    for name, key in keys:
        wanted.setdefault(name, []).append(key)
    rows = []
    for model in TRACKED:
        if mine := wanted.get(model._meta.model_name):
            rows += model.history.model.objects.filter(history_id__in=mine)
    found = {(each.model._meta.model_name, each.row.history_id): _changed_entry(each) for each in describe(rows, user)}
    for message in _some(MessageLog, [*wanted.get(MESSAGE, ()), *wanted.get(SENT, ())]):
        found |= {(MESSAGE, message.pk): _message(message), (SENT, message.pk): _sent(message)}
    found |= {(EXPORT, each.pk): _export(each) for each in _some(ExportRun, wanted.get(EXPORT))}
    found |= {(OLDER, each.pk): _older(each) for each in _some(Note, wanted.get(OLDER))}
    return [found[each] for each in map(tuple, keys) if each in found]


def _some(model, keys) -> list:
    return list(model.objects.filter(pk__in=keys)) if keys else []


def _changed_entry(change: Change) -> Entry:
    row = change.row
    return Entry(
        row.history_date, change.kind, row.history_user_name, row.get_source_display(),
        row.history_change_reason or "", row.operation_id, change, change.label,
    )  # fmt: skip


def _message(message: MessageLog) -> Entry:
    """Its writing; what became of it stands here too, unless that is an entry of its own."""
    text = message.subject if message.sent_at else f"{message.subject} · {message.get_state_display()}"
    return Entry(message.created_at, MESSAGE, "", label=capfirst(str(message._meta.verbose_name)), text=text)


def _sent(message: MessageLog) -> Entry:
    text = f"{message.subject} · {MessageState.SENT.label}"
    return Entry(message.sent_at, MESSAGE, "", label=capfirst(str(message._meta.verbose_name)), text=text)


def _export(run: ExportRun) -> Entry:
    # Not how many rows: that would tell of other people's.
    text = _("The client's data left the office in a file (%(format)s).") % {"format": run.format.upper()}
    return Entry(run.created_at, EXPORT, run.user_name, reason=run.reason, operation_id=run.operation_id,
                 label=capfirst(str(run._meta.verbose_name)), text=text)  # fmt: skip


def _older(note: Note) -> Entry:
    return Entry(note.created_at, OLDER, note.author_name, label=note.get_kind_display(), text=note.text)
