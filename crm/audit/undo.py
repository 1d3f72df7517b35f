"""Putting back what an operation did, one record, or what was deleted, as crm.audit.plans has it: in one transaction, and
itself an operation that can be undone.

The values are copied by the database from the history, tokens as they are: nothing is decrypted."""

import collections
import contextlib
import itertools
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping

from django.db import IntegrityError, connection, models, transaction
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm import workflow
from crm.audit.plans import (
    CHUNK,
    Part,
    Plan,
    among_keys,
    as_range,
    newest_row,
    parents_first,
    plan,
    plan_restore,
    plan_revert,
)
from crm.choices import OPERATION_KINDS, AuditKind
from crm.exceptions import CrmError, ReasonMissing
from crm.jobs import unwatched
from crm.models import AuditEntry, Case, CaseStep, Client, SearchToken, Step, operation
from crm.models.bulk import stored
from crm.models.history import CHANGED, CREATED, DELETED, is_tracked, record
from crm.search import INDEXED_FIELDS

# Sent with `keys` of records that were deleted and stand again, in the transaction that put them back.
came_back = Signal()


class AlreadyUndone(CrmError):
    message = _("This operation was undone already.")


class NothingToUndo(CrmError):
    message = _("Nothing is left here that could be put back.")


class ChangedMeanwhile(CrmError):
    message = _("Somebody changed the record while you were looking. This is how it stands now; look once more.")


class DoesNotFit(CrmError):
    message = _("These values do not fit what stands there now. Put back more of it, or change it by hand.")


def undo(
    operation_id: uuid.UUID,
    user,
    *,
    forced: Collection[tuple[str, int, int]] = (),
    only: Mapping[str, Collection[int]] | None = None,
    reason: str = "",
) -> Plan:
    """Undoes what is left of an operation, or of these records of it (`plans.plan`): all of the plan or nothing. Nobody
    changes its records meanwhile; of two at once one waits and is told. Raises AlreadyUndone, NothingToUndo, DoesNotFit,
    ReasonMissing (where something is forced), NotAllowed."""
    if forced and not reason.strip():
        raise ReasonMissing()
    with fitting(), transaction.atomic():
        hold(operation_id, only)
        made = plan(operation_id, user, forced=forced, only=only)
        if not made.count and undone_by(operation_id):
            raise AlreadyUndone()
        carry_out(made, user, kind=AuditKind.UNDO, reason=reason, undoes=operation_id)
    return made


def undone_by(operation_id: uuid.UUID) -> AuditEntry | None:
    return undone([operation_id]).get(operation_id)


def undone(operation_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, AuditEntry]:
    """The last undo, at least of a part, of those whose last one was not undone itself."""
    undoing = AuditEntry.objects.filter(undoes__in=operation_ids).order_by("pk") if operation_ids else ()
    last = {entry.undoes: entry for entry in undoing}
    again = undone([entry.operation_id for entry in last.values()]) if last else {}
    return {operation_id: entry for operation_id, entry in last.items() if entry.operation_id not in again}


def revert(
    row: models.Model, user, *, fields: Iterable[str] | None = None, seen: int | None = None, reason: str = ""
) -> Plan:
    """`seen` is the newest history row of the record that the person looked at. Raises ChangedMeanwhile where there is a
    newer one, NothingToUndo, DoesNotFit, NotAllowed."""
    with fitting(), transaction.atomic():
        _lock(row.instance_type, [row.id])
        if seen is not None and newest_row(row.instance_type, row.id).history_id != seen:
            raise ChangedMeanwhile()
        made = plan_revert(row, user, fields=fields)
        carry_out(made, user, kind=AuditKind.REVERT, reason=reason)
    return made


def restore(model: type[models.Model], key: int, user, *, reason: str = "") -> Plan:
    with fitting(), transaction.atomic():
        made = plan_restore(model, key, user)
        carry_out(made, user, kind=AuditKind.RESTORE, reason=reason)
    return made


@contextlib.contextmanager
def fitting():
    """What the database itself forbids, also at the end of the transaction."""
    try:
        yield
    except IntegrityError as error:
        raise DoesNotFit() from error


def hold(operation_id: uuid.UUID, only: Mapping[str, Collection[int]] | None = None) -> None:
    """Locks the operation and its records, or these of them, until the transaction ends. Raises NothingToUndo."""
    entries = AuditEntry.objects.select_for_update().filter(kind__in=OPERATION_KINDS)
    if entries.filter(operation_id=operation_id).first() is None:
        raise NothingToUndo()
    for model in parents_first():
        rows = model.history.model.objects.filter(operation_id=operation_id)
        if only is not None:
            rows = rows.filter(id__in=only.get(model._meta.model_name, ()))
        _lock(model, rows.order_by().values("id"))


def _lock(model: type[models.Model], keys) -> None:
    """Until the transaction ends; a step's case first, as crm.workflow does."""
    if model is CaseStep:
        _lock(Case, CaseStep.objects.filter(pk__in=keys).order_by().values("case"))
    rows = model._base_manager.filter(pk__in=keys).order_by("pk")
    collections.deque(rows.select_for_update(no_key=True).values_list("pk", flat=True).iterator(), maxlen=0)


def carry_out(
    made: Plan,
    user,
    *,
    kind: str,
    reason: str,
    undoes: uuid.UUID | None = None,
    progress: Callable[[int], None] = unwatched,
) -> None:
    """In the caller's transaction, under the locks with which it was planned. `progress` is told how many records of the
    plan are done. Raises NothingToUndo."""
    if not made.count:
        raise NothingToUndo()
    done = 0

    def tick(records: int) -> None:
        nonlocal done
        done += records
        progress(done)

    with operation(user=user, kind=kind, reason=reason.strip(), undoes=undoes):
        if Step in made.parts:
            workflow.let_no_case_begin()
        # What goes first makes room for what comes back in its place; foreign keys are looked at when all is done.
        for model in reversed(parents_first()):
            if part := made.parts.get(model):
                _delete(part, tick)
        for model in parents_first():
            if part := made.parts.get(model):
                _restore(part, tick)
        for part in made.parts.values():
            _revert(part, tick)
        _settle(made)


def _restore(part: Part, tick: Callable[[int], None]) -> None:
    if not part.restores:
        return
    model = part.model
    quote, table, history = connection.ops.quote_name, model._meta.db_table, model.history.model._meta.db_table
    columns, values = [], []
    for field in model.history.model.tracked_fields:
        column = quote(field.column)
        columns.append(column)
        original = model._meta.get_field(field.name)
        if original.is_relation and original.null:
            target = quote(original.related_model._meta.db_table)
            values.append(f"(SELECT id FROM {target} o WHERE o.id = h.{column})")  # noqa: S608
        else:
            values.append(f"h.{column}")
    names, taken = ", ".join(columns), ", ".join(values)
    sql = f"INSERT INTO {quote(table)} ({names}) SELECT {taken} FROM {quote(history)} h WHERE h.history_id IN (%s)"  # noqa: S608
    _in_chunks(sql, part.restores.values(), tick)
    record(model, part.restores, CREATED)
    if model is Client:
        SearchToken.objects.rebuild(Client.objects.filter(pk__in=part.restores))


def _revert(part: Part, tick: Callable[[int], None]) -> None:
    model = part.model
    quote, table, history = connection.ops.quote_name, model._meta.db_table, model.history.model._meta.db_table
    groups: dict[frozenset[str], list[int]] = {}
    for row, fields in part.reverts.values():
        groups.setdefault(fields, []).append(row)
    stamp = next((field for field in model._meta.concrete_fields if getattr(field, "auto_now", False)), None)
    now = [stored(model, [stamp.name])(stamp.name, timezone.now())] if stamp else []
    for fields, rows in groups.items():
        columns = [quote(model._meta.get_field(name).column) for name in sorted(fields)]
        sets = [f"{column} = h.{column}" for column in columns] + ([f"{quote(stamp.column)} = %%s"] if stamp else [])
        sql = (
            f"UPDATE {quote(table)} SET {', '.join(sets)} FROM {quote(history)} h "  # noqa: S608
            f"WHERE {quote(table)}.id = h.id AND h.history_id IN (%s)"
        )
        _in_chunks(sql, rows, tick, now)
    record(model, part.reverts, CHANGED)
    indexed = [key for key, (_row, fields) in part.reverts.items() if fields & set(INDEXED_FIELDS)]
    if model is Client and indexed:
        SearchToken.objects.rebuild(Client.objects.filter(pk__in=indexed))


def _delete(part: Part, tick: Callable[[int], None]) -> None:
    if not part.deletes:
        return
    model = part.model
    record(model, as_range(part.deletes), DELETED)
    for relation in _relations_to(model):
        for among in among_keys(relation.field.name, part.deletes):
            rows = relation.related_model._base_manager.filter(**among)
            if relation.on_delete is models.SET_NULL:
                rows.update(**{relation.field.name: None})
            elif relation.on_delete is models.CASCADE and not is_tracked(relation.related_model):
                rows._raw_delete(rows.db)
    for among in among_keys("pk", part.deletes):
        rows = model._base_manager.filter(**among)
        tick(rows._raw_delete(rows.db))


def _relations_to(model: type[models.Model]) -> list:
    """Also those that have no name here."""
    fields = model._meta.get_fields(include_hidden=True)
    return [field for field in fields if field.auto_created and not field.concrete and not field.many_to_many]


def _in_chunks(sql: str, keys: Iterable[int], tick: Callable[[int], None], before: list = ()) -> None:
    with connection.cursor() as cursor:
        for chunk in itertools.batched(keys, CHUNK):
            cursor.execute(sql % ", ".join(["%s"] * len(chunk)), [*before, *chunk])
            tick(len(chunk))


def _settle(made: Plan) -> None:
    """What is stored of the steps on their cases stays true."""
    cases = {key for kept in ("reverts", "restores") for key in getattr(made.parts.get(Case, Part(Case)), kept)}
    if part := made.parts.get(CaseStep):
        rows = CaseStep.history.model.objects
        for among in (*among_keys("id", part.deletes), *among_keys("id", [*part.reverts, *part.restores])):
            cases |= set(rows.filter(**among).order_by().values_list("case_id", flat=True).distinct())
    cases.difference_update(made.parts[Case].deletes if Case in made.parts else ())
    for keys in itertools.batched(sorted(cases), CHUNK):
        workflow.resettle(Case.objects.filter(pk__in=keys))
    if Step in made.parts:
        workflow.follow_the_order()
    for model, part in made.parts.items():
        for keys in itertools.batched(part.restores, CHUNK):
            came_back.send(sender=model, keys=keys)
