"""Putting back: a record to one of its versions, one field of it, a deleted record; an operation in crm.admin.undo_operation.
Each page shows first what would happen; only its POST does it. What may be put back is decided in crm.audit.plans."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef
from django.forms import Media
from django.http import Http404, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from crm import search, values
from crm.admin.base import STYLES, require
from crm.admin.privacy import erase_url
from crm.audit import past, plans, undo
from crm.audit.changes import compare, may_read, tracked_models
from crm.exceptions import CrmError
from crm.models import AuditEntry, Case, Client, User
from crm.models.history import DELETED
from crm.models.operations import current_operation

PER_PAGE = 50
SHOWN = 50
BIN = [Client, Case, *(model for model in tracked_models() if model not in (Client, Case, User))]


def revert_page(request, model, history_id, site):
    """`?field=` one field only."""
    allow(request)
    row = _model(model).history.model.objects.filter(history_id=history_id).first()
    if row is None or not _sees(request.user, row):
        raise Http404
    field = request.GET.get("field")
    fields = [field] if field else None
    seen = request.POST.get("seen", "")
    seen = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 19 else 0
    return planned_page(
        request,
        site,
        lambda: plans.plan_revert(row, request.user, fields=fields),
        lambda reason: undo.revert(row, request.user, fields=fields, seen=seen, reason=reason),
        seen=lambda: plans.newest_row(row.instance_type, row.id).history_id,
        title=_("Put a version back"),
        back=reverse(f"admin:crm_{model}_simple_history", args=[row.id, history_id]),
    )


def restore_page(request, model, key, site):
    allow(request)
    require(request.user.has_perm("crm.view_all_cases"))
    model = _model(model)
    require(may_read(request.user, model))
    return planned_page(
        request,
        site,
        lambda: plans.plan_restore(model, key, request.user),
        lambda reason: undo.restore(model, key, request.user, reason=reason),
        title=_("Restore a deleted record"),
        back=reverse("admin:crm_recycle_bin"),
    )


def recycle_bin(request, site):
    """What was deleted and whose parent still stands (else it comes back with it), newest first, a kind at a time."""
    allow(request)
    require(request.user.has_perm("crm.view_all_cases"))
    readable = [each for each in BIN if may_read(request.user, each)]
    require(bool(readable))
    usual = Case if Case in readable else readable[0]
    model = _model(request.GET.get("kind") or usual._meta.model_name)
    require(model in readable)
    text = search.clean(request.GET.get("q") or "")
    rows = _deleted(model, text)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("p"))
    shown = [
        {
            "label": each.label,
            "when": values.moment(each.row.history_date),
            "who": each.row.history_user_name,
            "reason": each.row.history_change_reason,
            "url": reverse("admin:crm_restore", args=[model._meta.model_name, each.row.id]),
            "erase_url": erase_url(request.user, each.row),
        }
        for each in compare([(row, None) for row in page.object_list], request.user)
    ]
    kinds = [
        {"name": each._meta.model_name, "label": capfirst(str(each._meta.verbose_name_plural)), "active": each is model}
        for each in readable
    ]
    context = {
        "title": _("Recycle bin"),
        "rows": shown,
        "page": page,
        "kinds": kinds,
        "q": text,
        "kind": model._meta.model_name,
    }
    return render_page(request, site, "admin/crm/recycle_bin.html", context)


def _deleted(model, text: str):
    history = model.history.model.objects
    later = history.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"))
    rows = history.filter(~Exists(later), history_type=DELETED)
    if text:
        if model not in (Client, Case):
            return rows.filter(case__reference__istartswith=text) if _has(model, "case") else rows.none()
        rows = rows.filter(reference__istartswith=text)
    for name, owner in (("case", Case), ("client", Client)):
        if model is not Case and _has(model, name):
            return rows.filter(Exists(owner.objects.filter(pk=OuterRef(f"{name}_id")))).order_by("-history_id")
    return rows.order_by("-history_id")


def _has(model, name: str) -> bool:
    return any(field.name == name for field in model._meta.concrete_fields)


def allow(request) -> None:
    require(request.user.has_perm(plans.PERMISSION))


def _model(name: str):
    found = next((model for model in BIN if model._meta.model_name == name), None)
    if found is None:
        raise Http404
    return found


def _sees(user, row) -> bool:
    model = row.instance_type
    return user.has_perm("crm.view_all_cases") or model.objects.visible_to(user).filter(pk=row.id).exists()


def planned_page(
    request, site, make, act, *, title: str, back: str, empty: str = "", seen=lambda: None, more: dict | None = None
):
    """`make` plans, `act` does it. `empty` says why nothing is left, `seen` which version the page shows."""
    reason, problem = request.POST.get("reason", "")[:2000], ""
    if request.method == "POST":
        try:
            done = act(reason)
        except CrmError as error:
            problem = str(error)
        else:
            messages.success(request, _("%(count)s records were put back.") % {"count": done.count})
            if left := sum(len(part.touched) for part in done.parts.values()):
                text = _("%(count)s records were left as they are: somebody changed them since.")
                messages.info(request, text % {"count": left})
            return HttpResponseRedirect(reverse("admin:crm_operation", args=[current_operation().id]))
    plan = make()
    context = {
        "title": title,
        "back": back,
        "problem": problem or (empty if plan.is_empty else ""),
        "reason": reason,
        "plan": plan,
        "seen": seen(),
        "parts": [_told(part, request.user) for part in plan.parts.values()],
        "has_touched": any(part.touched for part in plan.parts.values()),
        "forced": set(request.POST.getlist("force")),
        **(more or {}),
    }
    return render_page(request, site, "admin/crm/undo.html", context)


def _told(part, user) -> dict:
    """The first records of each kind of fate. A number of queries that follows the kinds."""
    model, history = part.model, part.model.history.model.objects
    first = {kind: list(keys)[:SHOWN] for kind, keys in (
        ("deletes", part.deletes), ("reverts", part.reverts), ("restores", part.restores),
        ("touched", part.touched), ("blocked", part.blocked),
    )}  # fmt: skip
    newest = past.newest(model, {key for keys in first.values() for key in keys})
    targets = history.in_bulk([part.reverts[key][0] for key in first["reverts"]])
    pairs = [(newest[key], targets.get(part.reverts[key][0]) if key in part.reverts else None) for key in newest]
    told = {each.row.id: each for each in compare(pairs, user)}
    fields = {key: part.reverts[key][1] for key in first["reverts"]}
    return {
        "name": part.name,
        "title": capfirst(str(model._meta.verbose_name_plural)),
        "counts": {"deletes": len(part.deletes), "reverts": len(part.reverts), "restores": len(part.restores)},
        "deletes": [told[key].label for key in first["deletes"] if key in told],
        "restores": [told[key].label for key in first["restores"] if key in told],
        "reverts": [
            {"label": told[key].label, "lines": [line for line in told[key].since if line.name in fields[key]]}
            for key in first["reverts"]
            if key in told
        ],
        "touched": [
            {
                "value": f"{part.name}:{key}:{part.touched[key]}",
                "label": told[key].label,
                "who": newest[key].history_user_name,
                "when": values.moment(newest[key].history_date),
            }
            for key in first["touched"]
            if key in told
        ],
        "blocked": [{"label": told[key].label, "why": part.blocked[key]} for key in first["blocked"] if key in told],
        "blocked_count": len(part.blocked),
        "touched_count": len(part.touched),
    }


def render_page(request, site, template: str, context: dict):
    request.current_app = site.name
    context |= {**site.each_context(request), "opts": AuditEntry._meta, "media": Media(css=STYLES)}
    return render(request, template, context)
