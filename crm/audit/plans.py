"""What putting back would do: of an operation, of one record to one of its versions, of what was deleted; and what stands in
its way. crm.audit.undo does it.

What somebody touched since is left and listed, unless it is forced. What the reader may not see is in no plan. Accounts
and schedules are never put back by machine."""

import dataclasses
import functools
import itertools
import uuid
from collections.abc import Collection, Iterable

from django.db import models
from django.db.models import Max
from django.utils.translation import gettext_lazy as _

from crm.audit.changes import tracked_models
from crm.exceptions import NotAllowed
from crm.models import AuditEntry, CalendarFeed, Case, CaseStep, Client, JobSchedule, Step, User
from crm.models.base import RESTRICTED_BY
from crm.models.history import CREATED, DELETED

CHUNK = 500
PERMISSION = "crm.undo_operation"
STAMPS = {"created_at", "updated_at"}

NOT_YOURS = _("Your role may not do this to such a record.")
ACCOUNT = _("Accounts are changed by hand.")
GONE = _("The record is not here any more.")
HERE = _("The record is here again.")
TAKEN = _("Another record has its number or name now.")
PARENT_GONE = _("What it belongs to is not here any more.")
STAYS = _("Something that came later belongs to it.")
OWNER_STAYS = _("What it was made with stays.")
INACTIVE = _("Its adviser of then takes no cases any more.")
DECIDED = _("Its case stays as it was decided.")
BY_ACTION = _("A status changes by its own actions: complete, reopen, approve, reject, withdraw.")
ORDER = _("The order of steps is changed on a step's own page.")
ERASED = _("What was restricted or erased as the law asks stays so.")

BY_HAND = {
    User: ACCOUNT,
    JobSchedule: _("Schedules are changed by hand."),
    CalendarFeed: _("A revoked calendar address stays revoked."),
}
# What only the workflow may set of a single record; an operation goes back as a whole.
OF_THE_WORKFLOW = {
    Case: frozenset({"status", "decided_on", "rejection_reason"}),
    CaseStep: frozenset({"state", "completed_on", "completed_by"}),
}


@dataclasses.dataclass
class Part:
    """What happens to the records of one model, by primary key. `reverts` says to which history row, and which fields.
    `touched` holds the newest history row of each record that somebody else changed since, `blocked` why a record stays
    as it is. `created` is all that the operation made, `left` which fields a touched record would have got back."""

    model: type[models.Model]
    deletes: list[int] = dataclasses.field(default_factory=list)
    reverts: dict[int, tuple[int, frozenset[str]]] = dataclasses.field(default_factory=dict)
    restores: dict[int, int] = dataclasses.field(default_factory=dict)
    touched: dict[int, int] = dataclasses.field(default_factory=dict)
    blocked: dict[int, object] = dataclasses.field(default_factory=dict)
    created: set[int] = dataclasses.field(default_factory=set)
    left: dict[int, frozenset[str]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model._meta.model_name

    @property
    def keys(self) -> list[int]:
        return [*self.deletes, *self.reverts, *self.restores]

    def forget(self, keys: Iterable[int]) -> set[int]:
        gone = set(keys)
        if gone:
            self.deletes = [key for key in self.deletes if key not in gone]
            for kept in (self.reverts, self.restores):
                for key in gone & kept.keys():
                    del kept[key]
        return gone

    def drop(self, keys: Iterable[int], reason) -> None:
        self.blocked |= dict.fromkeys(self.forget(keys), reason)

    def keep(self, keys: Iterable[int], names: Iterable[str], reason) -> None:
        """These fields of these records stay; a record of which nothing else goes back is blocked."""
        for key in set(keys) & self.reverts.keys():
            row, fields = self.reverts[key]
            if rest := fields - set(names):
                self.reverts[key] = (row, rest)
            else:
                self.drop([key], reason)


@dataclasses.dataclass
class Plan:
    parts: dict[type[models.Model], Part]

    @property
    def count(self) -> int:
        return sum(len(part.keys) for part in self.parts.values())

    @property
    def is_empty(self) -> bool:
        return not any(part.keys or part.touched for part in self.parts.values())


# --- An operation ---


def plan(operation_id: uuid.UUID, user, *, forced: Collection[tuple[str, int, int]] = ()) -> Plan:
    """What undoing an operation would do now: records that are back already are not in it. `forced` are touched records to
    put back all the same: (model name, key, the newest history row that was seen). Raises NotAllowed."""
    require(user)
    after, before = _readings(operation_id)
    made = Plan({})
    for model in tracked_models():
        part = _effects(model, operation_id, after, before)
        if part is not None:
            _leave_touched(part, {key: row for name, key, row in forced if name == part.name})
            made.parts[model] = part
    _check(made, user)
    return made


def _readings(operation_id: uuid.UUID) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """The operations that leave what they touch as after this one (itself, an undo of its undo), and as before it."""
    sides, level, number = ({operation_id}, set()), {operation_id}, 0
    while level:
        entries = AuditEntry.objects.filter(undoes__in=level).order_by()
        level = set(entries.values_list("operation_id", flat=True)) - sides[0] - sides[1]
        number = 1 - number
        sides[number].update(level)
    return sides


def _effects(model: type[models.Model], operation_id: uuid.UUID, after: set, before: set) -> Part | None:
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
    later = {newest[key]: key for key, rows in spans.items() if newest[key] > rows[-1][0]}
    for numbers in itertools.batched(later, CHUNK):
        for number, by in history.filter(history_id__in=numbers).values_list("history_id", "operation_id"):
            if by in before:
                del spans[later[number]]
            elif by not in after:
                part.touched[later[number]] = number
    changed = []
    for key, rows in spans.items():
        (first, began), (last, ended) = rows[0], rows[-1]
        if began == CREATED:
            part.created.add(key)
        if began == CREATED and ended != DELETED:
            part.deletes.append(key)
        elif began != CREATED and ended == DELETED:
            part.restores[key] = first if began == DELETED else _before(model, key, first)
        elif began != CREATED:
            changed.append((key, first, last, began))
    for keys in itertools.batched(changed, CHUNK):
        part.reverts |= _differences(model, keys)
    concerned = set(part.keys)
    part.touched = {key: number for key, number in part.touched.items() if key in concerned}
    return part


def _before(model, key: int, number: int) -> int:
    rows = model.history.model.objects.filter(id=key, history_id__lt=number).order_by("-history_id")
    return rows.values_list("history_id", flat=True).first() or number


def _differences(model, spans) -> dict[int, tuple[int, frozenset[str]]]:
    """Key -> the version before the operation, and the fields that the operation left otherwise."""
    history = model.history.model.objects
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
    lasts = {key: last for key, _first, last, _began in spans}
    values = _values(model, [*before.values(), *lasts.values()])
    found = {}
    for key, number in before.items():
        differing = _differing(model, values[number], values[lasts[key]])
        if differing:
            found[key] = (number, differing)
    return found


def _values(model, numbers: Iterable[int]) -> dict[int, list]:
    """History row -> what it says of the fields that are put back."""
    names = [field.attname for field in _fields(model)]
    rows = model.history.model.objects.filter(history_id__in=set(numbers)).values_list("history_id", *names)
    return {number: values for number, *values in rows}


def _differing(model, one: list, other: list) -> frozenset[str]:
    pairs = zip(_fields(model), one, other, strict=True)
    return frozenset(field.name for field, old, new in pairs if old != new)


def _leave_touched(part: Part, forced: dict[int, int]) -> None:
    """Forced is what was seen as it is now; of that only what really differs."""
    takes = {key for key, number in part.touched.items() if forced.get(key) == number}
    part.touched = {key: number for key, number in part.touched.items() if key not in takes}
    part.left = {key: fields for key, (_row, fields) in part.reverts.items() if key in part.touched}
    part.forget(part.touched)
    for keys in itertools.batched(takes & part.reverts.keys(), CHUNK):
        newest = dict(
            part.model.history.model.objects.filter(id__in=keys)
            .order_by()
            .values_list("id")
            .annotate(Max("history_id"))
        )
        values = _values(part.model, [*newest.values(), *(part.reverts[key][0] for key in keys)])
        for key in keys:
            row, fields = part.reverts[key]
            if differing := fields & _differing(part.model, values[row], values[newest[key]]):
                part.reverts[key] = (row, differing)
            else:
                del part.reverts[key]


# --- One record ---


def plan_revert(row: models.Model, user, *, fields: Iterable[str] | None = None) -> Plan:
    """A record, or some of its fields, as one of its versions has them; a deleted record comes back so, with its parts."""
    require(user)
    model = row.instance_type
    newest = newest_row(model, row.id)
    if newest.history_type == DELETED:
        return _planned_restore(model, row.id, user, version=row.history_id)
    part = Part(model)
    values = _values(model, [row.history_id, newest.history_id])
    differing = _differing(model, values[row.history_id], values[newest.history_id])
    wanted = differing if fields is None else differing & set(fields)
    if wanted:
        part.reverts[row.id] = (row.history_id, wanted)
        part.keep([row.id], OF_THE_WORKFLOW.get(model, ()), BY_ACTION)
        if model is Step:
            part.keep([row.id], {"number"}, ORDER)
    made = Plan({model: part})
    _check(made, user)
    return made


def newest_row(model: type[models.Model], key: int) -> models.Model | None:
    return model.history.model.objects.filter(id=key).order_by("-history_id").first()


def plan_restore(model: type[models.Model], key: int, user) -> Plan:
    """A deleted record with all that was deleted with it, and what it belongs to or points at where that is gone too."""
    require(user)
    return _planned_restore(model, key, user)


def _planned_restore(model: type[models.Model], key: int, user, *, version: int | None = None) -> Plan:
    made = Plan({each: Part(each) for each in parents_first()})
    _gather(made, model, key)
    if version is not None:
        made.parts[model].restores[key] = version
    made.parts = {each: part for each, part in made.parts.items() if part.restores}
    _check(made, user)
    return made


def _gather(made: Plan, model: type[models.Model], key: int) -> None:
    row = newest_row(model, key)
    if row is None or row.history_type != DELETED or key in made.parts[model].restores:
        return
    made.parts[model].restores[key] = row.history_id
    for child, column in children(model):
        gone = child.history.model.objects.filter(operation_id=row.operation_id, history_type=DELETED, **{column: key})
        for number in gone.order_by().values_list("id", flat=True):
            _gather(made, child, number)
    for field in relations(model):
        target, owner = field.related_model, getattr(row, field.attname)
        comes_back = target in made.parts and target is not User and owner is not None
        if comes_back and not target._base_manager.filter(pk=owner).exists():
            _gather(made, target, owner)


# --- What stands in the way ---


def require(user) -> None:
    if user is not None and not user.has_perm(PERMISSION):
        raise NotAllowed()


def _check(made: Plan, user) -> None:
    for model, part in made.parts.items():
        if user is not None and not user.has_perm("crm.view_all_cases"):
            _hide_foreign(part, user)
        if model in BY_HAND:
            part.drop(part.keys, BY_HAND[model])
            continue
        _check_rights(part, user)
        _check_standing(part)
        if model is Client:
            part.keep(part.reverts, RESTRICTED_BY, ERASED)
        _check_restricted(part)
    _check_fields(made, user)
    for model in parents_first():
        if part := made.parts.get(model):
            _check_taken(part)
            _check_targets(made, part)
    _keep_families(made)


def _hide_foreign(part: Part, user) -> None:
    """Nothing tells of what this person does not see; of what is gone nobody can say any more whose it was."""
    keys = {*part.deletes, *part.reverts, *part.touched}
    seen = set()
    for some in itertools.batched(keys, CHUNK):
        rows = part.model.objects.visible_to(user).filter(pk__in=some)
        seen |= set(rows.order_by().values_list("pk", flat=True))
    part.forget({*keys, *part.restores} - seen)
    part.touched = {key: number for key, number in part.touched.items() if key in seen}


def _check_rights(part: Part, user) -> None:
    if user is None:
        return
    app, name = part.model._meta.app_label, part.name
    verbs = {"delete": part.deletes, "change": part.reverts, "add": part.restores}
    for verb, keys in verbs.items():
        if keys and not user.has_perm(f"{app}.{verb}_{name}"):
            part.drop(list(keys), NOT_YOURS)


def _check_standing(part: Part) -> None:
    standing = set()
    for keys in itertools.batched(part.keys, CHUNK):
        standing |= set(part.model._base_manager.filter(pk__in=keys).order_by().values_list("pk", flat=True))
    part.drop(part.reverts.keys() - standing, GONE)
    part.drop(part.restores.keys() & standing, HERE)
    part.deletes = [key for key in part.deletes if key in standing]


def _check_restricted(part: Part) -> None:
    """Nor does anything come back to such a client."""
    model, path = part.model, getattr(part.model, "client_path", None)
    if path is None:
        return
    for keys in itertools.batched([*part.deletes, *part.reverts], CHUNK):
        part.drop(model.objects.restricted().filter(pk__in=keys).order_by().values_list("pk", flat=True), ERASED)
    if owner := path.partition("__")[0]:
        restricted = model._meta.get_field(owner).related_model.objects.restricted().order_by().values("pk")
        for keys in itertools.batched(part.restores, CHUNK):
            rows = model.history.model.objects.filter(history_id__in=[part.restores[key] for key in keys])
            part.drop(rows.filter(**{f"{owner}_id__in": restricted}).values_list("id", flat=True), ERASED)


def _check_fields(made: Plan, user) -> None:
    """Rules that stand over the plain values."""
    if cases := made.parts.get(Case):
        owners = {key for key, (_row, fields) in cases.reverts.items() if "adviser" in fields}
        if owners and user is not None and not user.has_perm("crm.hand_over_case"):
            cases.keep(owners, {"adviser", "stand_in"}, NOT_YOURS)
        else:
            cases.keep(_of_inactive(cases, owners), {"adviser"}, INACTIVE)
        if steps := made.parts.get(CaseStep):
            decided = {key for key, fields in cases.left.items() if "status" in fields} | cases.blocked.keys()
            kept = _of_cases(steps, decided) if decided else ()
            steps.keep(kept, OF_THE_WORKFLOW[CaseStep], DECIDED)
    if order := made.parts.get(Step):
        numbers = dict(Step.objects.values_list("pk", "number")) | _targets(order, order.reverts, "number")
        if len(set(numbers.values())) < len(numbers):
            order.keep(order.reverts, {"number"}, ORDER)


def _targets(part: Part, keys: Iterable[int], name: str) -> dict[int, object]:
    """What the field would be again, of those records that get it back."""
    wanted = {part.reverts[key][0]: key for key in keys if name in part.reverts[key][1]}
    rows = part.model.history.model.objects.filter(history_id__in=wanted)
    column = part.model._meta.get_field(name).attname
    return {wanted[number]: value for number, value in rows.values_list("history_id", column)}


def _of_inactive(cases: Part, keys: set[int]) -> list[int]:
    then = _targets(cases, keys, "adviser")
    working = set(User.objects.filter(is_active=True, is_staff=True).values_list("pk", flat=True))
    return [key for key, adviser in then.items() if adviser is not None and adviser not in working]


def _of_cases(steps: Part, cases: set[int]) -> list[int]:
    found = []
    for keys in itertools.batched(steps.reverts, CHUNK):
        found += CaseStep.objects.filter(pk__in=keys, case_id__in=cases).values_list("pk", flat=True)
    return found


def _check_taken(part: Part) -> None:
    """What comes back must find its unique values free, or held by what goes."""
    model, history, going = part.model, part.model.history.model.objects, set(part.deletes)
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
                if owner not in (None, key) and key not in going:
                    part.drop([owner], TAKEN)


def _check_targets(made: Plan, part: Part) -> None:
    """What a record points at must be here, or come back with it. A record that comes back does without what may be
    empty."""
    history = part.model.history.model.objects
    for field in relations(part.model):
        comes = part.restores | {key: row for key, (row, fields) in part.reverts.items() if field.name in fields}
        other = made.parts.get(field.related_model)
        for keys in itertools.batched(comes, CHUNK):
            rows = history.filter(history_id__in=[comes[key] for key in keys])
            targets = {key: target for key, target in rows.values_list("id", field.attname) if target is not None}
            here = set(
                field.related_model._base_manager.filter(pk__in=set(targets.values())).values_list("pk", flat=True)
            )
            here |= other.restores.keys() if other else set()
            missing = {key for key, target in targets.items() if target not in here}
            part.drop(missing & part.reverts.keys() if field.null else missing, PARENT_GONE)


def _keep_families(made: Plan) -> None:
    """Nothing that stays may belong to what goes; and what was made with a record that stays, stays with it."""
    links = [
        (part, child, column, owns, list(_links(part, child, column)))
        for part in made.parts.values()
        if part.created
        for child, column in children(part.model, owned=False)
        for owns in [_owner_column(child) == column]
    ]
    moved = True
    while moved:
        moved = False
        for part, child, _column, owns, pairs in links:
            below = made.parts.get(child)
            goes, below_goes = set(part.deletes), set(below.deletes) if below else set()
            stays = {owner for key, owner in pairs if owner in goes and key not in below_goes}
            part.drop(stays, STAYS)
            goes -= stays
            kept = {key for key, owner in pairs if owns and key in below_goes and owner not in goes}
            if below:
                below.drop(kept, OWNER_STAYS)
            moved = moved or bool(stays or kept)


def _links(part: Part, child: type[models.Model], column: str) -> Iterable[tuple[int, int]]:
    """(key, owner) of what belongs now to anything that the operation made."""
    for keys in itertools.batched(part.created, CHUNK):
        yield from child._base_manager.filter(**{f"{column}__in": keys}).order_by().values_list("pk", column)


# --- The models ---


def _fields(model) -> list[models.Field]:
    return [field for field in model.history.model.tracked_fields if field.name not in {"id", *STAMPS}]


def _unique(model) -> list[tuple[str, ...]]:
    own = [(field.name,) for field in model._meta.concrete_fields if field.unique and not field.primary_key]
    return own + [tuple(each.fields) for each in model._meta.constraints if isinstance(each, models.UniqueConstraint)]


def relations(model) -> list[models.Field]:
    return [field for field in model._meta.concrete_fields if field.is_relation]


@functools.cache
def children(model, *, owned: bool = True) -> list[tuple[type[models.Model], str]]:
    """(tracked model, column) of what belongs to this one: `owned` goes with it, otherwise also what protects it."""
    deleting = (models.CASCADE,) if owned else (models.CASCADE, models.PROTECT)
    return [
        (relation.related_model, relation.field.attname)
        for relation in model._meta.related_objects
        if relation.related_model in tracked_models() and relation.field.remote_field.on_delete in deleting
    ]


@functools.cache
def _owner_column(model) -> str:
    """Of what a record is a part: its case, else its client."""
    owners = {field.related_model: field for field in relations(model)}
    field = owners.get(Case) or owners.get(Client)
    cascades = field is not None and field.remote_field.on_delete is models.CASCADE
    return field.attname if cascades else ""


@functools.cache
def parents_first() -> list[type[models.Model]]:
    left, found = list(tracked_models()), []
    while left:
        for model in list(left):
            owners = {field.related_model for field in relations(model)} - {model}
            if not owners & set(left):
                found.append(model)
                left.remove(model)
    return found
