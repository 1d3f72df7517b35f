"""What the office changed in a record since a file was exported from it, by the version that the file's row carries: the
number of the newest history row of then, behind that of the export. Where both changed a cell a person chooses; the
office's value stays until then."""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Max, Model
from django.utils.translation import gettext as _

from crm import search, values
from crm.audit import past
from crm.choices import ImportPart
from crm.encryption import Unreadable
from crm.imports import parsers, pieces
from crm.imports.columns import Column
from crm.imports.values import user_key
from crm.models import ExportRun, ImportRun, Lender, User
from crm.models.reference import lender_key

# Of the exports that rows of a file came from, the newest.
MOST_EXPORTS = 5
# Begins with a letter, or spreadsheets would take it for a number or a day. Exports before 2026-11 wrote the number alone.
_VERSION = re.compile(r"(?:E([0-9]{1,18})-)?([0-9]{1,18})")


class Version(NamedTuple):
    """Of a row: the newest history row of its record, and the export that wrote it; None of an older one."""

    number: int
    export: int | None = None

    def __str__(self) -> str:
        return f"E{self.export}-{self.number}"


def read_version(text: str) -> Version | None:
    found = _VERSION.fullmatch(text)
    return Version(int(found[2]), int(found[1]) if found[1] else None) if found else None


def exports_told(numbers: set[int | None], user) -> list[str]:
    """Who made the exports that the rows came from, and when; those of them whose records `user` sees (None: all). One
    query, or none."""
    asked = sorted(numbers - {None}, reverse=True)[:MOST_EXPORTS]
    runs = ExportRun.objects if user is None else ExportRun.objects.visible_to(user)
    return [
        _("The rows were exported by %(who)s on %(when)s (export %(number)s).")
        % {"who": run.user_name or _("the system"), "when": values.moment(run.created_at), "number": run.pk}
        for run in (runs.filter(pk__in=asked).order_by("pk") if asked else ())
    ]


class _Every:
    def __contains__(self, mark: str) -> bool:
        return True


# Of the marks of conflicts: the file's value is taken in each.
EVERY = _Every()


@dataclass(frozen=True, slots=True)
class Conflict:
    """One cell. `was`, `now` and `value` are what it said when the file was made (nobody knows it where not `is_known`), what
    the office wrote since, and what the file says. `refusal`: why the file's may not be taken at all."""

    row: int
    column: Column
    was: object
    now: object
    value: object
    is_known: bool
    mark: str
    is_taken: bool
    refusal: str

    @property
    def reason(self) -> str:
        """Without the values: this is kept with the import, and goes into files."""
        if self.is_taken:
            return _("The file's value was chosen over what the office wrote since the file was made.")
        if self.is_known:
            said = _("Changed on both sides since the file was made: the office's value stays.")
        else:
            said = _("The office changed this record since the file was made: its value stays.")
        return f"{said} {self.refusal}".strip()


def changed_since(model: type[Model], versions: dict[int, int]) -> dict[int, Model | None]:
    """By key: how each record was at its version, of those that changed since; None where no such version of it is known.
    Two queries."""
    if not versions:
        return {}
    newest = dict(model.history.filter(id__in=versions).order_by().values_list("id").annotate(Max("history_id")))
    behind = {key: version for key, version in versions.items() if newest.get(key) != version}
    if not behind:
        return {}
    then = {row.id: row for row in model.history.filter(history_id__in=set(behind.values()))}
    return {key: then[key] if key in then and then[key].history_id == behind[key] else None for key in behind}


class NamesThen:
    """What lenders and people were called when a file was made: two queries for each export, of at most MOST_EXPORTS."""

    def __init__(self):
        self._moments: dict[int, datetime.datetime | None] = {}
        self._names: dict[tuple, dict[int, set[str]]] = {}

    def says(self, cell: object, model: type[Model], key: int | None, export: int | None) -> bool:
        """Whether the cell of that export's file still says this one."""
        at = self._moment(export) if key and export else None
        if at is None:
            return False
        if (model, at) not in self._names:
            self._names[model, at] = {row.id: _names_of(model, row) for row in past.versions(model, at)}
        folded = lender_key if model is Lender else user_key
        return folded(parsers.line(cell)) in self._names[model, at].get(key, ())

    def _moment(self, export: int) -> datetime.datetime | None:
        if export not in self._moments and len(self._moments) < MOST_EXPORTS:
            run = ExportRun.objects.filter(pk=export).only("finished_at", "created_at").first()
            self._moments[export] = run and (run.finished_at or run.created_at)
        return self._moments.get(export)


def _names_of(model: type[Model], row: Model) -> set[str]:
    if model is Lender:
        return {lender_key(row.name)}
    return {user_key(name) for name in (User.get_full_name(row), row.email, row.username) if name}


def mark(record: Model, column: Column, value: object) -> str:
    """Keyed, and of both values: a choice holds no longer than they do."""
    values = [_comparable(getattr(record, column.field.attname)), _comparable(getattr(value, "pk", value))]
    said = repr((column.owner, column.name, record.pk, values))
    return search.digest("conflict", said).hex()


def is_same(one: object, other: object) -> bool:
    """Nothing is nothing, whether it is stored as an empty text or as NULL."""
    return _comparable(one) == _comparable(other)


def _comparable(value: object) -> object:
    if isinstance(value, Unreadable):
        return (value.stored,)
    return None if value == "" else value


# --- In which of them the file's value is taken ---


def keep(run: ImportRun, taken: Iterable[str]) -> None:
    """The marks of those conflicts, until the file is forgotten."""
    pieces.store_json(run, ImportPart.TAKEN, [sorted(taken)])


def taken(run: ImportRun) -> frozenset[str]:
    return frozenset(next(pieces.load_json(run, ImportPart.TAKEN), ()))
