"""History rows told to a person: which record, and each field as it was and as it became, in the reader's language.

The number of queries follows the models and the kinds of things they point at, never the rows."""

import dataclasses
import datetime
from collections.abc import Iterable
from decimal import Decimal

from django.db import models
from django.db.models import OuterRef, Subquery
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from simple_history.models import HistoricalRecords

from crm import values
from crm.encryption import encrypted_names, is_encrypted
from crm.models import Case, CaseStep, Client, CrmModel, User
from crm.models.history import CREATED, DELETED

# Written by machine at every save: no change that a person made.
UNTOLD = {"id", "created_at", "updated_at", "import_digest", "digest"}


@dataclasses.dataclass(frozen=True)
class Line:
    """`is_secret`: the reader may not read the values, only that they changed; both are empty then."""

    name: str
    label: str
    old: str
    new: str
    is_secret: bool = False


@dataclasses.dataclass(frozen=True)
class Change:
    """`label` names the record, `url` is its page where it still stands and this reader may open it. `before` is the
    version that `row` came after; of a creation None."""

    row: models.Model
    before: models.Model | None
    model: type[models.Model]
    record_id: int
    label: str
    url: str
    kind: str
    lines: list[Line]


def tracked_models() -> list[type[models.Model]]:
    return [*CrmModel.__subclasses__(), User]


def told_fields(model: type[models.Model]) -> list[models.Field]:
    """The fields whose change a person wants to hear of, as the history has them."""
    return [field for field in model.history.model.tracked_fields if field.name not in UNTOLD]


def describe(rows: Iterable[models.Model], user) -> list[Change]:
    """One change for each history row, in their order. Values of encrypted fields for who may view the model only."""
    rows = list(rows)
    by_model: dict[type, list] = {}
    for row in rows:
        by_model.setdefault(row.instance_type, []).append(row)
    before, groups, standing = {}, {}, {}
    for model, mine in by_model.items():
        before |= {(model, key): row for key, row in rows_before(model, mine).items()}
        groups |= _many_to_many(model, [*mine, *before.values()])
        keys = {_key(row) for row in mine}
        standing[model] = set(model._base_manager.filter(pk__in=keys).order_by().values_list("pk", flat=True))
    names = _names([*rows, *before.values()])
    allowed = {model: may_read(user, model) for model in by_model}
    found = []
    for row in rows:
        model = row.instance_type
        then = before.get((model, row.history_id)) if row.history_type != CREATED else None
        lines = [] if row.history_type == DELETED else list(_lines(row, then, names, allowed[model]))
        lines += _group_lines(groups.get(row), groups.get(then), model)
        url = _url(model, _key(row)) if allowed[model] and _key(row) in standing[model] else ""
        found.append(Change(row, then, model, _key(row), _label(row, names), url, row.history_type, lines))
    return found


@dataclasses.dataclass(frozen=True)
class Version:
    """A record as one history row has it, and (`since`) what a later row of it says otherwise."""

    row: models.Model
    label: str
    lines: list[Line]
    since: list[Line]


def compare(pairs: Iterable[tuple[models.Model, models.Model | None]], user) -> list[Version]:
    """(row, a later row of the same record or None) -> the whole record as it was, and what differs since."""
    pairs = list(pairs)
    names = _names([row for pair in pairs for row in pair if row is not None])
    found = []
    for row, later in pairs:
        allowed = may_read(user, row.instance_type)
        since = list(_lines(later, row, names, allowed)) if later is not None else []
        found.append(Version(row, _label(row, names), list(_lines(row, None, names, allowed)), since))
    return found


def whole(row: models.Model, user) -> list[Line]:
    """The record as this history row has it: every field that says something, as `new`."""
    model = row.instance_type
    [version] = compare([(row, None)], user)
    return version.lines + _group_lines(_many_to_many(model, [row]).get(row), None, model)


def may_read(user, model: type[models.Model]) -> bool:
    return any(user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}") for verb in ("view", "change"))


def rows_before(model: type[models.Model], rows: list) -> dict[int, models.Model]:
    """`history_id` of a row -> the row before it of the same record. Two queries."""
    history = model.history.model
    key = model._meta.pk.attname
    earlier = history.objects.filter(**{key: OuterRef(key)}, history_id__lt=OuterRef("history_id"))
    pairs = dict(
        history.objects.filter(history_id__in=[row.history_id for row in rows])
        .annotate(before=Subquery(earlier.order_by("-history_id").values("history_id")[:1]))
        .values_list("history_id", "before")
    )
    found = history.objects.in_bulk({each for each in pairs.values() if each})
    return {after: found[each] for after, each in pairs.items() if each in found}


def readable(value, field: models.Field, names: dict | None = None) -> str:
    """A value as the reader's language writes it. `names`: what foreign keys point at, as `_names` found them."""
    if value is None or value == "":
        return ""
    if field.is_relation:
        return (names or {}).get((field.related_model, value), f"#{value}")
    if field.flatchoices:
        return str(dict(field.flatchoices).get(value, value))
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, datetime.datetime):
        return values.moment(value)
    if isinstance(value, datetime.date):
        return values.date(value)
    if isinstance(value, Decimal):
        return values.money(value) if field.name.endswith("_czk") else values.number(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def _key(row) -> int:
    return getattr(row, row.instance_type._meta.pk.attname)


def _lines(row, then, names: dict, allowed: bool) -> Iterable[Line]:
    for field in told_fields(row.instance_type):
        now = getattr(row, field.attname)
        old = getattr(then, field.attname) if then else None
        if now == old or (then is None and now in (None, "", [], False)):
            continue
        label = capfirst(str(field.verbose_name))
        if is_encrypted(field) and not allowed:
            yield Line(field.name, label, "", "", is_secret=True)
        else:
            yield Line(field.name, label, readable(old, field, names), readable(now, field, names))


# --- What a row points at, and what it is called ---


def _names(rows: list) -> dict[tuple[type, int], str]:
    """(model, key) -> what it is called today, one query a model; the name of one that is gone stays a number."""
    wanted: dict[type, set] = {}
    for row in rows:
        for field in row.instance_type.history.model.tracked_fields:
            if field.is_relation and getattr(row, field.attname) is not None:
                wanted.setdefault(field.related_model, set()).add(getattr(row, field.attname))
    found = {}
    for model, keys in wanted.items():
        hidden = encrypted_names(model)
        for each in model._base_manager.filter(pk__in=keys).defer(*hidden):
            found[model, each.pk] = str(each)
    return found


def _label(row, names: dict) -> str:
    """`C-000012`, `H-000012 · 3. Lender selection`, `H-000012 · Document: Income proof`."""
    model = row.instance_type
    if model in (Client, Case):
        return row.reference
    if model is User:
        return row.username
    owner = names.get((Case, getattr(row, "case_id", None))) or names.get((Client, getattr(row, "client_id", None)))
    if model is CaseStep:
        return " · ".join(filter(None, [owner, names.get((row._meta.get_field("step").related_model, row.step_id))]))
    kind = capfirst(str(model._meta.verbose_name))
    own = next((readable(getattr(row, name), row._meta.get_field(name)) for name in _NAMING if hasattr(row, name)), "")
    return " · ".join(filter(None, [owner, f"{kind}: {own}" if own else kind]))


_NAMING = ("name", "name_cs", "kind", "role", "purpose", "method", "metric")


def _url(model: type[models.Model], key: int) -> str:
    try:
        return reverse(f"admin:crm_{model._meta.model_name}_change", args=[key])
    except NoReverseMatch:
        return ""


# --- The groups and permissions of a user ---


def _many_to_many(model: type[models.Model], rows: list) -> dict:
    """History row -> {field: names}. Two queries a field."""
    found: dict = {}
    mine = {row.history_id: row for row in rows if row.instance_type is model}
    for field in model.history.model._history_m2m_fields:
        copies = HistoricalRecords.m2m_models[field]
        other = field.m2m_reverse_field_name()
        pairs = list(copies.objects.filter(history_id__in=mine).values_list("history_id", f"{other}_id"))
        names = {each.pk: str(each) for each in field.related_model.objects.filter(pk__in={key for _row, key in pairs})}
        for row in mine.values():
            found.setdefault(row, {})[field] = set()
        for history_id, key in pairs:
            found[mine[history_id]][field].add(names.get(key, f"#{key}"))
    return found


def _group_lines(now: dict | None, then: dict | None, model) -> list[Line]:
    lines = []
    for field, names in (now or {}).items():
        old = (then or {}).get(field, set())
        if names != old:
            label = capfirst(str(field.verbose_name))
            lines.append(Line(field.name, label, ", ".join(sorted(old)), ", ".join(sorted(names))))
    return lines
