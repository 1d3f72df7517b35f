"""The office's audit trail as somebody reads it: what each entry was about, and which rows one operation changed. `user` is
who reads, None the system. Rows of models that he may not view, or of others' cases, are neither told nor counted."""

import uuid
from collections.abc import Iterable

from django.apps import apps
from django.db import models
from django.db.models import Count, Value
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import roles, values
from crm.audit.changes import tracked_models
from crm.audit.events import detail_of
from crm.choices import OPERATION_KINDS, AuditKind
from crm.models import AuditEntry, Case, Client
from crm.models.base import sees_all_cases
from crm.models.history import CHANGED, CREATED, DELETED

# Model name -> history type -> rows.
Counts = dict[str, dict[str, int]]
SIGNS = {CREATED: "+", CHANGED: "", DELETED: "\u2212"}
FLAGS = {
    "is_active": gettext_lazy("may log in"),
    "is_staff": gettext_lazy("staff"),
    "is_superuser": gettext_lazy("superuser"),
}


def readable_models(user) -> list[type[models.Model]]:
    """Clients and cases first, in every list of what was changed."""
    models = dict.fromkeys([Client, Case, *tracked_models()])
    return [model for model in models if user is None or user.has_perm(f"crm.view_{model._meta.model_name}")]


def rows_of(model: type[models.Model], user):
    """The history rows of a model that somebody may read. Whose a deleted record was cannot be asked any more, so only
    who sees all cases reads of it."""
    rows = model.history.model.objects.order_by("history_id")
    if user is None or sees_all_cases(user):
        return rows
    return rows.filter(**{f"{model._meta.pk.attname}__in": model._default_manager.visible_to(user).values("pk")})


def counts_of(entries: Iterable[AuditEntry], user) -> dict[int, Counts]:
    """Entry's key -> what it changed. One query for all that did not keep their counts."""
    readable = readable_models(user)
    names = [model._meta.model_name for model in readable]
    sees_all = user is None or sees_all_cases(user)
    found, asked = {}, {}
    for entry in entries:
        if entry.kind not in OPERATION_KINDS:
            found[entry.pk] = {}
        elif sees_all and entry.counts and _are_counts(entry.counts):
            found[entry.pk] = dict(entry.counts)
        else:
            asked[entry.operation_id] = found[entry.pk] = {}
    if asked and readable:
        parts = [
            rows_of(model, user)
            .filter(operation_id__in=list(asked))
            .order_by()
            # Names that no model gives to a field of its own.
            .annotate(counted_model=Value(model._meta.model_name, models.CharField()))
            .values_list("counted_model", "operation_id", "history_type")
            .annotate(counted_rows=Count("history_id"))
            for model in readable
        ]
        for name, operation_id, kind, rows in parts[0].union(*parts[1:], all=True):
            asked[operation_id].setdefault(name, {})[kind] = rows
    return {key: {name: counts[name] for name in names if name in counts} for key, counts in found.items()}


def _are_counts(kept) -> bool:
    """Only a hint, which is not sealed: whoever can write to the database can write anything there."""
    return isinstance(kept, dict) and all(
        isinstance(kinds, dict) and all(type(rows) is int and rows > 0 for rows in kinds.values())
        for kinds in kept.values()
    )


def changed_rows(operation_id: uuid.UUID, counts: Counts, user, start: int, most: int) -> list[models.Model]:
    """History rows of an operation, model by model as `counts` names them, each in the order of writing. At most a query
    a model on the page."""
    found = []
    for model in readable_models(user):
        total = sum(counts.get(model._meta.model_name, {}).values())
        if start >= total:
            start -= total
            continue
        if len(found) < most:
            found += rows_of(model, user).filter(operation_id=operation_id)[start : start + most - len(found)]
            start = 0
    return found


# --- What an entry was about, in a line ---


def summary(entry: AuditEntry, counts: Counts) -> str:
    detail = detail_of(entry)
    if entry.kind in OPERATION_KINDS:
        return " · ".join(filter(None, [str(detail.get("file") or ""), counted(counts)]))
    return " · ".join(str(part) for part in _TOLD.get(entry.kind, _address)(detail) if part)


def counted(counts: Counts) -> str:
    """`3× case, +15× step of a case, −1× note`: changed, new, deleted."""
    found = []
    for name, kinds in counts.items():
        found += [
            f"{SIGNS.get(kind, '')}{values.number(kinds[kind])}× {label_of(name)}"
            for kind in (*SIGNS, *(kinds.keys() - SIGNS))
            if kinds.get(kind)
        ]
    return ", ".join(found)


def label_of(name: str, *, plural: bool = False) -> str:
    try:
        options = apps.get_model("crm", name)._meta
    except LookupError:
        return name
    return str(options.verbose_name_plural if plural else options.verbose_name)


def _address(detail):
    return [detail.get("address")]


def _attempt(detail):
    return [detail.get("account"), detail.get("address")]


def _export(detail):
    rows = detail.get("rows")
    return [
        label_of(str(detail.get("list") or ""), plural=True),
        _("%s rows") % values.number(rows) if isinstance(rows, int) else "",
        str(detail.get("format") or "").upper(),
        _("failed") if detail.get("state") == "failed" else "",
    ]


def _download(detail):
    return [detail.get("file"), detail.get("address")]


def _password(detail):
    how = {
        "first": _("the first one"),
        "own": _("by the person"),
        "other": _("by somebody else"),
        "unknown": _("by a link or a command"),
        "taken": _("taken away"),
    }
    return [detail.get("name"), how.get(detail.get("how"))]


def _permissions(detail):
    """`Bob: +Manager −Adviser`."""
    parts = []
    for name, now in (detail.get("flags") or {}).items():
        parts.append(f"{SIGNS[CREATED] if now else SIGNS[DELETED]}{FLAGS.get(name, name)}")
    for what in ("groups", "permissions"):
        for verb, sign in (("added", SIGNS[CREATED]), ("removed", SIGNS[DELETED])):
            parts += [f"{sign}{roles.LABELS.get(name, name)}" for name in (detail.get(what) or {}).get(verb, ())]
    group = {
        "created": _("role created"),
        "renamed": _("role renamed, before: %s") % detail.get("before"),
        "deleted": _("role deleted"),
    }
    more = len(parts) - MOST_NAMED
    if more > 0:
        parts = [*parts[:MOST_NAMED], f"… {SIGNS[CREATED]}{more}"]
    return [roles.LABELS.get(detail.get("name"), detail.get("name")), group.get(detail.get("group")), " ".join(parts)]


def _erasure(detail):
    """`C-000012 · restricted until 2036-03-02`."""
    until = detail.get("until")
    return [detail.get("reference"), _("restricted until %s") % until if until else ""]


def _refused(detail):
    return [detail.get("path"), detail.get("address")]


MOST_NAMED = 5
_TOLD = {
    AuditKind.LOGIN_FAILED: _attempt,
    AuditKind.LOCKOUT: _attempt,
    AuditKind.EXPORT: _export,
    AuditKind.DOWNLOAD: _download,
    AuditKind.PASSWORD: _password,
    AuditKind.PERMISSIONS: _permissions,
    AuditKind.REFUSED: _refused,
    AuditKind.ERASURE: _erasure,
}
