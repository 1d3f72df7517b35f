"""What putting back would do: of an operation, of one record to one of its versions, of what was deleted; and what stands in
its way. crm.audit.undo does it.

What somebody touched since is left and listed, unless it is forced. What the reader may not see is in no plan. Accounts
and schedules are never put back by machine."""

import collections
import dataclasses
import functools
import itertools
import operator
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from django.db import models
from django.db.models import Max
from django.utils.translation import gettext_lazy as _

from crm.audit.changes import tracked_models
from crm.exceptions import NotAllowed
from crm.jobs import unwatched
from crm.models import AuditEntry, CalendarFeed, Case, CaseStep, Client, JobSchedule, Step, User
from crm.models.base import RESTRICTED_BY
from crm.models.history import CREATED, DELETED

CHUNK = 500
# Records that are looked at together: of 850,000 no list of their versions is made.
BATCH = 2_000
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
    as it is. `made` is what the operation made and does not go again, `left` which fields a touched record would have got
    back."""

    model: type[models.Model]
    deletes: list[int] = dataclasses.field(default_factory=list)
    reverts: dict[int, tuple[int, frozenset[str]]] = dataclasses.field(default_factory=dict)
    restores: dict[int, int] = dataclasses.field(default_factory=dict)
    touched: dict[int, int] = dataclasses.field(default_factory=dict)
    blocked: dict[int, object] = dataclasses.field(default_factory=dict)
    made: set[int] = dataclasses.field(default_factory=set)
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
            self.made.update(key for key in self.deletes if key in gone)
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


def plan(
    operation_id: uuid.UUID,
    user,
    *,
    forced: Collection[tuple[str, int, int]] = (),
    only: Mapping[str, Collection[int]] | None = None,
    progress: Callable[[int], None] = unwatched,
) -> Plan:
    """What undoing an operation would do now: records that are back already are not in it. `forced` are touched records to
    put back all the same: (model name, key, the newest history row that was seen). `only` looks at these records, by model
    name, as if the operation had changed no others. `progress` is told how many were looked at. Raises NotAllowed."""
    require(user)
    sides = _readings(operation_id)
    made, looked = Plan({}), 0

    def tick(records: int) -> None:
        nonlocal looked
        looked += records
        progress(looked)

    for model in tracked_models():
        rows = model.history.model.objects.filter(operation_id=operation_id)
        if only is not None:
            rows = rows.filter(id__in=only.get(model._meta.model_name, ()))
        part = _effects(model, rows, operation_id, *sides, tick)
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


def _effects(
    model: type[models.Model], rows, operation_id: uuid.UUID, after: set, before: set, tick: Callable[[int], None]
) -> Part | None:
    """The operation's net effect on each record, turned round; None where it has none. `rows` are its history rows."""
    part, is_empty = Part(model), True
    for some in itertools.batched(_spans(rows), BATCH):
        is_empty = False
        later = _later(model, some, operation_id)
        changed, touched = [], {}
        for key, (first, began), (last, ended) in some:
            number, by = later.get(key, (last, None))
            if number > last and by in before:
                continue
            if number > last and by not in after:
                touched[key] = number
            if began == CREATED and ended == DELETED:
                part.made.add(key)
            elif began == CREATED:
                part.deletes.append(key)
            elif ended == DELETED:
                part.restores[key] = first if began == DELETED else _before(model, key, first)
            else:
                changed.append((key, first, last, began))
                continue
            if key in touched and key not in part.made:
                part.touched[key] = touched[key]
        for keys in itertools.batched(changed, CHUNK):
            found = _differences(model, keys)
            part.reverts |= found
            part.touched |= {key: touched[key] for key in found.keys() & touched.keys()}
        tick(len(some))
    return None if is_empty else part


def _spans(rows) -> Iterator[tuple[int, tuple[int, str], tuple[int, str]]]:
    """(key, the first history row and its type, the last one and its type) of each record, by key."""
    read = rows.order_by("id", "history_id").values_list("id", "history_id", "history_type").iterator(BATCH)
    for key, versions in itertools.groupby(read, operator.itemgetter(0)):
        numbers = [(number, kind) for _key, number, kind in versions]
        yield key, numbers[0], numbers[-1]


def _later(model: type[models.Model], spans, operation_id: uuid.UUID) -> dict[int, tuple[int, uuid.UUID]]:
    """The newest history row of the records that have one of others after the spans' first end, and its operation."""
    lowest = min(last for _key, _first, (last, _ended) in spans)
    rows = model.history.model.objects.filter(id__in=[key for key, *_rest in spans], history_id__gt=lowest)
    newest = (
        rows.exclude(operation_id=operation_id).order_by("history_id").values_list("id", "history_id", "operation_id")
    )
    return {key: (number, by) for key, number, by in newest}


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
    part.drop(part.reverts.keys() - set(_standing(part.model, part.reverts)), GONE)
    part.drop(list(_standing(part.model, part.restores)), HERE)
    part.deletes = list(_standing(part.model, part.deletes))


def _standing(model: type[models.Model], keys: Iterable[int]) -> Iterator[int]:
    for among in among_keys("pk", list(keys)):
        rows = model._base_manager.filter(**among).order_by("pk").values_list("pk", flat=True)
        yield from rows.iterator()


def as_range(keys: list[int]) -> Sequence[int]:
    """Where they are one, as those of an import are: a single condition for all of them."""
    is_one = bool(keys) and keys[-1] - keys[0] == len(keys) - 1 and all(map(operator.lt, keys, keys[1:]))
    return range(keys[0], keys[-1] + 1) if is_one else keys


def among_keys(name: str, keys: list[int]) -> Iterator[dict[str, object]]:
    """Filters that find them all."""
    found = as_range(keys)
    if isinstance(found, range):
        yield {f"{name}__gte": found[0], f"{name}__lte": found[-1]}
        return
    for some in itertools.batched(keys, CHUNK):
        yield {f"{name}__in": some}


def _check_restricted(part: Part) -> None:
    """Nor does anything come back to such a client."""
    model, path = part.model, getattr(part.model, "client_path", None)
    if path is None:
        return
    keys = [*part.deletes, *part.reverts]
    rows = model.objects.restricted().order_by().values_list("pk", flat=True)
    # Of an office's clients few are restricted: of many keys they are looked up together.
    found = rows.filter(pk__in=keys) if len(keys) <= CHUNK else set(keys).intersection(rows.iterator())
    part.drop(found, ERASED)
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


def _comes(part: Part, names: set[str]) -> Iterator[dict[int, int]]:
    """Record -> the history row that it comes back from, a chunk at a time: of those that get such a field."""
    reverts = ((key, row) for key, (row, fields) in part.reverts.items() if fields & names)
    return map(dict, itertools.batched(itertools.chain(part.restores.items(), reverts), CHUNK))


def _check_taken(part: Part) -> None:
    """What comes back must find its unique values free, or held by what goes."""
    model, history, going = part.model, part.model.history.model.objects, None
    for names in _unique(model):
        columns, taken = [model._meta.get_field(name).attname for name in names], []
        for comes in _comes(part, set(names)):
            rows = history.filter(history_id__in=comes.values()).values_list("id", *columns)
            wanted = {tuple(values): key for key, *values in rows if None not in values}
            if not wanted:
                continue
            going = set(part.deletes) if going is None else going
            held = model._base_manager.filter(**{f"{columns[0]}__in": {values[0] for values in wanted}})
            for key, *values in held.values_list("pk", *columns):
                owner = wanted.get(tuple(values))
                if owner not in (None, key) and key not in going:
                    taken.append(owner)
        part.drop(taken, TAKEN)


def _check_targets(made: Plan, part: Part) -> None:
    """What a record points at must be here, or come back with it. A record that comes back does without what may be
    empty."""
    history = part.model.history.model.objects
    for field in relations(part.model):
        other, gone = made.parts.get(field.related_model), []
        for comes in _comes(part, {field.name}):
            rows = history.filter(history_id__in=comes.values()).values_list("id", field.attname)
            targets = {key: target for key, target in rows if target is not None}
            here = set(_standing(field.related_model, set(targets.values())))
            missing = {
                key
                for key, target in targets.items()
                if target not in here and not (other and target in other.restores)
            }
            gone += missing & part.reverts.keys() if field.null else missing
        part.drop(gone, PARENT_GONE)


def _keep_families(made: Plan) -> None:
    """Nothing that stays may belong to what goes; and what was made with a record that stays, stays with it."""
    links = [
        (part, child, column, _owner_column(child) == column)
        for part in made.parts.values()
        if part.deletes or part.made
        for child, column in children(part.model, owned=False)
    ]
    stayed: dict[type[models.Model], set[int]] | None = None
    while stayed is None or any(stayed.values()):
        # First all that the operation made, then only what touches what was found to stay.
        last, stayed = stayed, collections.defaultdict(set)
        for part, child, column, owns in links:
            if last is None:
                pairs = _links(child, column, "owner", itertools.chain(part.deletes, part.made))
            else:
                owners, keys = last.get(part.model, ()), last.get(child, ())
                pairs = itertools.chain(_links(child, column, "owner", owners), _links(child, column, "key", keys))
            below = made.parts.get(child)
            goes, below_goes = set(part.deletes), set(below.deletes) if below else set()
            alone = [(key, owner) for key, owner in pairs if (owner in goes) != (key in below_goes)]
            stays = {owner for _key, owner in alone if owner in goes}
            part.drop(stays, STAYS)
            stayed[part.model] |= stays
            if owns and below:
                kept = {key for key, _owner in alone if key in below_goes}
                below.drop(kept, OWNER_STAYS)
                stayed[child] |= kept


def _links(child: type[models.Model], column: str, end: str, keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(key, owner) of what belongs to another record now, by one of the two."""
    name = column if end == "owner" else "pk"
    for some in itertools.batched(keys, CHUNK):
        yield from child._base_manager.filter(**{f"{name}__in": some}).order_by().values_list("pk", column)


# --- What an undo has left ---


def families(made: Plan, most: int) -> list[dict[str, list[int]]]:
    """What stays as it is, by model name: each record with what stays because of it, or it because of that; first what
    somebody touched. At most `most` of each fate, with all of their families."""
    left = {model: part.touched.keys() | part.blocked.keys() for model, part in made.parts.items()}
    parts = [made.parts[model] for model in parents_first() if model in made.parts]
    touched = ((part.model, key) for part in parts for key in sorted(part.touched))
    blocked = ((part.model, key) for part in parts for key in sorted(part.blocked))
    seeds = [*itertools.islice(touched, most), *itertools.islice(blocked, most)]
    near, met, edge = collections.defaultdict(set), set(seeds), set(seeds)
    while edge:
        pairs = {pair for model, keys in _by_model(edge).items() for pair in _relatives(model, keys, left)}
        for one, other in pairs:
            near[one].add(other)
            near[other].add(one)
        edge = {record for pair in pairs for record in pair} - met
        met |= edge
    found, placed = [], set()
    for seed in seeds:
        family, waiting = [], [seed]
        while waiting:
            record = waiting.pop()
            if record not in placed:
                placed.add(record)
                family.append(record)
                waiting += near[record]
        if family:
            found.append({model._meta.model_name: sorted(keys) for model, keys in _by_model(family).items()})
    return found


def _by_model(records: Iterable[tuple[type[models.Model], int]]) -> dict[type[models.Model], list[int]]:
    found: dict[type[models.Model], list[int]] = {}
    for model, key in records:
        found.setdefault(model, []).append(key)
    return found


def _relatives(model: type[models.Model], keys: Iterable[int], left: Mapping) -> Iterator[tuple[tuple, tuple]]:
    """Pairs of records that are left, one of which belongs to the other: a client, or a case."""
    ends = [(model, field.attname, field.related_model, "key") for field in relations(model)]
    ends += [(child, column, model, "owner") for child, column in children(model, owned=False)]
    for child, column, owner_model, end in ends:
        if owner_model in (Client, Case) and child in left and owner_model in left:
            for key, owner in _links(child, column, end, keys):
                if key in left[child] and owner in left[owner_model]:
                    yield (child, key), (owner_model, owner)


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
