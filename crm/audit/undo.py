"""Putting back what an operation did, one record, or what was deleted: planned first, done in one transaction, and itself
an operation that can be undone.

The values are copied by the database from the history, tokens as they are: nothing is decrypted. What somebody touched
since is left and listed, unless it is forced with a reason. Accounts are never put back by machine."""

import dataclasses
import functools
import itertools
import uuid
from collections.abc import Iterable

from django.db import connection, models, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm import workflow
from crm.audit.changes import tracked_models
from crm.choices import OPERATION_KINDS, AuditKind
from crm.exceptions import CrmError, NotAllowed, ReasonMissing
from crm.models import AuditEntry, Case, CaseStep, Client, SearchToken, User, operation
from crm.models.bulk import stored
from crm.models.history import CHANGED, CREATED, DELETED, record
from crm.search import INDEXED_FIELDS

CHUNK = 500
PERMISSION = "crm.undo_operation"
STAMPS = {"created_at", "updated_at"}


class AlreadyUndone(CrmError):
    message = _("This operation was undone already.")


class NothingToUndo(CrmError):
    message = _("Nothing is left here that could be put back.")


NOT_YOURS = _("Your role may not do this to such a record.")
ACCOUNT = _("Accounts are changed by hand.")
GONE = _("The record is not here any more.")
HERE = _("The record is here again.")
TAKEN = _("Another record has its number or name now.")
PARENT_GONE = _("What it belongs to is not here any more.")
STAYS = _("Something that came later belongs to it.")


@dataclasses.dataclass
class Part:
    """What happens to the records of one model, by primary key. `touched` holds the newest history row of each record
    that somebody else changed since, `blocked` why a record stays as it is."""

    model: type[models.Model]
    deletes: list[int] = dataclasses.field(default_factory=list)
    reverts: dict[int, tuple[int, frozenset[str]]] = dataclasses.field(default_factory=dict)
    restores: dict[int, int] = dataclasses.field(default_factory=dict)
    touched: dict[int, int] = dataclasses.field(default_factory=dict)
    blocked: dict[int, object] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model._meta.model_name

    def drop(self, keys: Iterable[int], reason) -> None:
        gone = set(keys)
        if not gone:
            return
        self.deletes = [key for key in self.deletes if key not in gone]
        for kept in (self.reverts, self.restores):
            for key in gone & kept.keys():
                del kept[key]
        self.blocked |= dict.fromkeys(gone, reason)


@dataclasses.dataclass
class Plan:
    parts: dict[type[models.Model], Part]

    @property
    def count(self) -> int:
        return sum(len(part.deletes) + len(part.reverts) + len(part.restores) for part in self.parts.values())


# --- Plans ---


def plan(operation_id: uuid.UUID, user, *, forced: Iterable[tuple[str, int]] = ()) -> Plan:
    """What undoing an operation would do. `forced` are (model name, key) of touched records to put back all the same.
    Raises NotAllowed."""
    _require(user)
    made = Plan({})
    forced = set(forced)
    for model in tracked_models():
        part = _effects(model, operation_id)
        if part is None:
            continue
        made.parts[model] = part
        part.touched = {key: row for key, row in part.touched.items() if (part.name, key) not in forced}
        part.deletes = [key for key in part.deletes if key not in part.touched]
        part.reverts = {key: each for key, each in part.reverts.items() if key not in part.touched}
        part.restores = {key: each for key, each in part.restores.items() if key not in part.touched}
    _check(made, user)
    return made


def _effects(model: type[models.Model], operation_id: uuid.UUID) -> Part | None:
    """The operation's net effect on each record, turned round."""
    history = model.history.model.objects
    spans: dict[int, list[tuple[int, str]]] = {}
    mine = history.filter(operation_id=operation_id).order_by("history_id")
    for key, number, kind in mine.values_list("id", "history_id", "history_type"):
        spans.setdefault(key, []).append((number, kind))
    if not spans:
        return None
    part = Part(model)
    touched_ids = history.filter(operation_id=operation_id).order_by().values("id")
    newest = dict(history.filter(id__in=touched_ids).order_by().values_list("id").annotate(Max("history_id")))
    changed = []
    for key, rows in spans.items():
        (first, began), (last, ended) = rows[0], rows[-1]
        if newest[key] > last:
            part.touched[key] = newest[key]
        if began == CREATED and ended != DELETED:
            part.deletes.append(key)
        elif began != CREATED and ended == DELETED:
            part.restores[key] = first if began == DELETED else _before(model, key, first)
        elif began != CREATED:
            changed.append((key, first, last, began))
    for keys in itertools.batched(changed, CHUNK):
        part.reverts |= _differences(model, keys)
    return part


def _before(model, key: int, number: int) -> int:
    rows = model.history.model.objects.filter(id=key, history_id__lt=number).order_by("-history_id")
    return rows.values_list("history_id", flat=True).first() or number


def _differences(model, spans) -> dict[int, tuple[int, frozenset[str]]]:
    """Key -> the version before the operation, and the fields that the operation left otherwise."""
    history = model.history.model.objects
    fields = _fields(model)
    names = [field.attname for field in fields]
    keys = [key for key, *_rest in spans]
    firsts = {key: first for key, first, _last, _began in spans}
    before: dict[int, int] = {}
    rows = history.filter(id__in=keys).order_by("history_id").values_list("id", "history_id")
    for key, number in rows:
        if number < firsts[key]:
            before[key] = number
    for key, first, _last, began in spans:
        if began == DELETED:  # deleted and made again: the deletion's row holds what stood
            before[key] = first
    wanted = {*before.values(), *(last for _key, _first, last, _began in spans)}
    values = {number: row for number, *row in history.filter(history_id__in=wanted).values_list("history_id", *names)}
    found = {}
    for key, _first, last, _began in spans:
        if key in before:
            pairs = zip(fields, values[before[key]], values[last], strict=True)
            differing = frozenset(field.name for field, old, new in pairs if old != new)
            if differing:
                found[key] = (before[key], differing)
    return found


def plan_revert(row: models.Model, user, *, fields: Iterable[str] | None = None) -> Plan:
    """A record, or some of its fields, as one of its versions has them; a deleted record comes back so."""
    _require(user)
    model = row.instance_type
    part = Part(model)
    newest = model.history.model.objects.filter(id=row.id).order_by("-history_id").first()
    if newest.history_type == DELETED:
        part.restores[row.id] = row.history_id
    else:
        differing = {
            each.name for each in _fields(model) if getattr(row, each.attname) != getattr(newest, each.attname)
        }
        wanted = frozenset(differing if fields is None else differing & set(fields))
        if wanted:
            part.reverts[row.id] = (row.history_id, wanted)
    made = Plan({model: part})
    _check(made, user)
    return made


def plan_restore(model: type[models.Model], key: int, user) -> Plan:
    """A deleted record with all that was deleted with it, and what it belongs to where that is gone too."""
    _require(user)
    made = Plan({each: Part(each) for each in _parents_first()})
    _gather(made, model, key)
    made.parts = {each: part for each, part in made.parts.items() if part.restores}
    _check(made, user)
    return made


def _gather(made: Plan, model: type[models.Model], key: int) -> None:
    row = model.history.model.objects.filter(id=key).order_by("-history_id").first()
    if row is None or row.history_type != DELETED or key in made.parts[model].restores:
        return
    made.parts[model].restores[key] = row.history_id
    for child, column in _children(model):
        gone = child.history.model.objects.filter(operation_id=row.operation_id, history_type=DELETED, **{column: key})
        for number in gone.order_by().values_list("id", flat=True):
            _gather(made, child, number)
    for field in _owners(model):
        owner = getattr(row, field.attname)
        if owner is not None and not field.related_model._base_manager.filter(pk=owner).exists():
            _gather(made, field.related_model, owner)


# --- What stands in the way ---


def _require(user) -> None:
    if user is not None and not user.has_perm(PERMISSION):
        raise NotAllowed()


def _check(made: Plan, user) -> None:
    for model, part in made.parts.items():
        if model is User:
            part.drop([*part.deletes, *part.reverts, *part.restores], ACCOUNT)
            continue
        _check_rights(part, user)
        standing = set()
        for keys in itertools.batched([*part.deletes, *part.reverts, *part.restores], CHUNK):
            standing |= set(model._base_manager.filter(pk__in=keys).order_by().values_list("pk", flat=True))
        part.drop([key for key in part.reverts if key not in standing], GONE)
        part.deletes = [key for key in part.deletes if key in standing]
        part.drop([key for key in part.restores if key in standing], HERE)
    for model in _parents_first():
        if part := made.parts.get(model):
            _check_taken(part)
            _check_owners(made, part)
    for model in reversed(_parents_first()):
        if (part := made.parts.get(model)) and part.deletes:
            _check_dependents(made, part)


def _check_rights(part: Part, user) -> None:
    if user is None:
        return
    app, name = part.model._meta.app_label, part.name
    verbs = {"delete": part.deletes, "change": part.reverts, "add": part.restores}
    for verb, keys in verbs.items():
        if keys and not user.has_perm(f"{app}.{verb}_{name}"):
            part.drop(list(keys), NOT_YOURS)
    if part.restores and not user.has_perm("crm.view_all_cases"):
        part.drop(list(part.restores), NOT_YOURS)
    if user.has_perm("crm.view_all_cases"):
        return
    seen = set()
    for keys in itertools.batched([*part.deletes, *part.reverts], CHUNK):
        rows = part.model.objects.visible_to(user).filter(pk__in=keys)
        seen |= set(rows.order_by().values_list("pk", flat=True))
    part.drop({*part.deletes, *part.reverts} - seen, NOT_YOURS)


def _check_taken(part: Part) -> None:
    """What comes back must find its unique values free."""
    model, history = part.model, part.model.history.model.objects
    for names in _unique(model):
        comes = part.restores | {key: row for key, (row, fields) in part.reverts.items() if fields & set(names)}
        columns = [model._meta.get_field(name).attname for name in names]
        for keys in itertools.batched(comes, CHUNK):
            rows = history.filter(history_id__in=[comes[key] for key in keys]).values_list("id", *columns)
            wanted = {tuple(values): key for key, *values in rows if None not in values}
            if not wanted:
                continue
            held = model._base_manager.filter(**{f"{columns[0]}__in": {values[0] for values in wanted}})
            for key, *values in held.values_list("pk", *columns):
                owner = wanted.get(tuple(values))
                if owner is not None and owner != key:
                    part.drop([owner], TAKEN)


def _check_owners(made: Plan, part: Part) -> None:
    """What comes back must find what it belongs to."""
    model, history = part.model, part.model.history.model.objects
    for field in [each for each in model._meta.concrete_fields if each.is_relation]:
        comes = part.restores | {key: row for key, (row, fields) in part.reverts.items() if field.name in fields}
        for keys in itertools.batched(comes, CHUNK):
            rows = history.filter(history_id__in=[comes[key] for key in keys])
            owners = {key: owner for key, owner in rows.values_list("id", field.attname) if owner is not None}
            here = set(
                field.related_model._base_manager.filter(pk__in=set(owners.values())).values_list("pk", flat=True)
            )
            if other := made.parts.get(field.related_model):
                here |= other.restores.keys()
            missing = [key for key, owner in owners.items() if owner not in here]
            if field.remote_field.on_delete is not models.SET_NULL:
                part.drop(missing, PARENT_GONE)


def _check_dependents(made: Plan, part: Part) -> None:
    """Nothing that stays may belong to what goes."""
    for child, column in _children(part.model, owned=False):
        going = set(made.parts[child].deletes) if child in made.parts else set()
        for keys in itertools.batched(list(part.deletes), CHUNK):
            rows = child._base_manager.filter(**{f"{column}__in": keys}).order_by().values_list("pk", column)
            part.drop({owner for key, owner in rows if key not in going}, STAYS)


def _fields(model) -> list[models.Field]:
    return [field for field in model.history.model.tracked_fields if field.name not in {"id", *STAMPS}]


def _unique(model) -> list[tuple[str, ...]]:
    own = [(field.name,) for field in model._meta.concrete_fields if field.unique and not field.primary_key]
    return own + [tuple(each.fields) for each in model._meta.constraints if isinstance(each, models.UniqueConstraint)]


@functools.cache
def _children(model, *, owned: bool = True) -> list[tuple[type[models.Model], str]]:
    """(tracked model, column) of what belongs to this one: `owned` goes with it, otherwise also what protects it."""
    deleting = (models.CASCADE,) if owned else (models.CASCADE, models.PROTECT)
    return [
        (relation.related_model, relation.field.attname)
        for relation in model._meta.related_objects
        if relation.related_model in tracked_models() and relation.field.remote_field.on_delete in deleting
    ]


def _owners(model) -> list[models.Field]:
    kinds = (models.CASCADE, models.PROTECT)
    return [
        field
        for field in model._meta.concrete_fields
        if field.is_relation and field.related_model in (Client, Case) and field.remote_field.on_delete in kinds
    ]


@functools.cache
def _parents_first() -> list[type[models.Model]]:
    left, found = list(tracked_models()), []
    while left:
        for model in list(left):
            owners = {field.related_model for field in model._meta.concrete_fields if field.is_relation} - {model}
            if not owners & set(left):
                found.append(model)
                left.remove(model)
    return found


# --- Doing it ---


def undo(operation_id: uuid.UUID, user, *, forced: Iterable[tuple[str, int]] = (), reason: str = "") -> Plan:
    """Undoes an operation: all of the plan or nothing. Of two at once one waits and is told. Raises AlreadyUndone,
    NothingToUndo, ReasonMissing (where something is forced), NotAllowed."""
    forced = set(forced)
    if forced and not reason.strip():
        raise ReasonMissing()
    with transaction.atomic():
        entries = AuditEntry.objects.select_for_update().filter(kind__in=OPERATION_KINDS)
        entry = entries.filter(operation_id=operation_id).first()
        if entry is None:
            raise NothingToUndo()
        if was_undone(operation_id):
            raise AlreadyUndone()
        made = plan(operation_id, user, forced=forced)
        _carry_out(made, user, kind=AuditKind.UNDO, reason=reason, undoes=operation_id)
    return made


def was_undone(operation_id: uuid.UUID) -> bool:
    """Undone, and the undo not undone itself."""
    undoing = (
        AuditEntry.objects.filter(undoes=operation_id).order_by("-pk").values_list("operation_id", flat=True).first()
    )
    return undoing is not None and not was_undone(undoing)


def revert(row: models.Model, user, *, fields: Iterable[str] | None = None, reason: str = "") -> Plan:
    with transaction.atomic():
        list(row.instance_type._base_manager.select_for_update().filter(pk=row.id).values_list("pk"))
        made = plan_revert(row, user, fields=fields)
        _carry_out(made, user, kind=AuditKind.REVERT, reason=reason)
    return made


def restore(model: type[models.Model], key: int, user, *, reason: str = "") -> Plan:
    with transaction.atomic():
        made = plan_restore(model, key, user)
        _carry_out(made, user, kind=AuditKind.RESTORE, reason=reason)
    return made


def _carry_out(made: Plan, user, *, kind: str, reason: str, undoes: uuid.UUID | None = None) -> None:
    if not made.count:
        raise NothingToUndo()
    with operation(user=user, kind=kind, reason=reason.strip(), undoes=undoes):
        for model in _parents_first():
            if part := made.parts.get(model):
                _restore(part)
        for part in made.parts.values():
            _revert(part)
        for model in reversed(_parents_first()):
            if part := made.parts.get(model):
                _delete(part)
        _settle(made)


def _restore(part: Part) -> None:
    if not part.restores:
        return
    model = part.model
    quote, table, history = connection.ops.quote_name, model._meta.db_table, model.history.model._meta.db_table
    columns, values = [], []
    for field in model.history.model.tracked_fields:
        column = quote(field.column)
        columns.append(column)
        original = model._meta.get_field(field.name)
        if original.is_relation and original.remote_field.on_delete is models.SET_NULL:
            target = quote(original.related_model._meta.db_table)
            values.append(f"(SELECT id FROM {target} o WHERE o.id = h.{column})")  # noqa: S608
        else:
            values.append(f"h.{column}")
    names, taken = ", ".join(columns), ", ".join(values)
    sql = f"INSERT INTO {quote(table)} ({names}) SELECT {taken} FROM {quote(history)} h WHERE h.history_id IN (%s)"  # noqa: S608
    _in_chunks(sql, part.restores.values())
    record(model, part.restores, CREATED)
    if model is Client:
        SearchToken.objects.rebuild(Client.objects.filter(pk__in=part.restores))


def _revert(part: Part) -> None:
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
        _in_chunks(sql, rows, now)
    record(model, part.reverts, CHANGED)
    indexed = [key for key, (_row, fields) in part.reverts.items() if fields & set(INDEXED_FIELDS)]
    if model is Client and indexed:
        SearchToken.objects.rebuild(Client.objects.filter(pk__in=indexed))


def _delete(part: Part) -> None:
    if not part.deletes:
        return
    model, table = part.model, connection.ops.quote_name(part.model._meta.db_table)
    record(model, part.deletes, DELETED)
    for keys in itertools.batched(part.deletes, CHUNK):
        for relation in model._meta.related_objects:
            rows = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": keys})
            if relation.on_delete is models.SET_NULL:
                rows.update(**{relation.field.name: None})
            elif relation.related_model is SearchToken:
                rows._raw_delete(rows.db)
    _in_chunks(f"DELETE FROM {table} WHERE id IN (%s)", part.deletes)  # noqa: S608


def _in_chunks(sql: str, keys: Iterable[int], before: list = ()) -> None:
    with connection.cursor() as cursor:
        for chunk in itertools.batched(keys, CHUNK):
            cursor.execute(sql % ", ".join(["%s"] * len(chunk)), [*before, *chunk])


def _settle(made: Plan) -> None:
    """What is stored of the steps on their cases stays true."""
    cases = {key for kept in ("reverts", "restores") for key in getattr(made.parts.get(Case, Part(Case)), kept)}
    if part := made.parts.get(CaseStep):
        rows = CaseStep.history.model.objects
        for keys in itertools.batched([*part.deletes, *part.reverts, *part.restores], CHUNK):
            cases |= set(rows.filter(id__in=keys).order_by().values_list("case_id", flat=True).distinct())
    for keys in itertools.batched(sorted(cases), CHUNK):
        workflow.resettle(Case.objects.filter(pk__in=keys))
