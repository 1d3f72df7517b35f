"""Undoing an operation. Of a small one the page shows what would happen, and its POST does it; a large one is put back by a
job, and the page says how far that is and what it has left."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from crm import values
from crm.admin.base import require
from crm.admin.undo import allow, planned_page, render_page
from crm.audit import plans, trail, undo, undo_runs
from crm.choices import OPERATION_KINDS, RunState
from crm.exceptions import CrmError
from crm.models import AuditEntry, UndoRun
from crm.models.history import CHANGED, CREATED, DELETED


def undo_page(request, operation_id, site):
    entry = _entry(request, operation_id)
    if not undo_runs.is_large(entry):
        return _planned(request, site, operation_id)
    run = undo_runs.newest(operation_id, request.user)
    state = undo_runs.state_of(run) if run else ""
    is_undone = undo.undone_by(operation_id) is not None
    # Where that undo was undone itself, what it did is to be put back anew.
    is_over = state == RunState.DONE and (is_undone or not run.put_back_count)
    if request.method == "POST" and "order" in request.POST:
        return _order(request, site, entry, is_undone)
    if is_over and run.left:
        return _left(request, site, run)
    if request.method == "POST":  # what it was sent from is over
        return HttpResponseRedirect(_url("undo", operation_id))
    told = _told(request, run, state) if run and (is_over or state != RunState.DONE) else None
    return _large(request, site, entry, told=told, is_undone=is_undone)


@require_GET
def progress(request, operation_id, site):
    """The part of the page that asks again until there is nothing to wait for."""
    _entry(request, operation_id)
    run = undo_runs.newest(operation_id, request.user)
    if run is None:
        raise Http404
    told = _told(request, run, undo_runs.state_of(run))
    headers = {} if told["is_in_work"] else {"HX-Refresh": "true"}
    return TemplateResponse(request, "admin/crm/undo_state.html", {"run": told}, headers=headers)


@require_POST
def cancel(request, operation_id, site):
    _entry(request, operation_id)
    run = undo_runs.newest(operation_id, request.user)
    if run is None:
        raise Http404
    require(_may_cancel(request.user, run))
    try:
        undo_runs.cancel(run, by=request.user)
    except CrmError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The undo will end in a moment; nothing is put back."))
    return HttpResponseRedirect(_url("undo", operation_id))


def _entry(request, operation_id) -> AuditEntry:
    allow(request)
    entries = AuditEntry.objects.visible_to(request.user).filter(operation_id=operation_id, kind__in=OPERATION_KINDS)
    entry = entries.first()
    if entry is None:
        raise Http404
    return entry


def _planned(request, site, operation_id, *, only=None, more: dict | None = None):
    """`only` some of its records."""
    forced = {found for each in request.POST.getlist("force") if (found := _forced(each))}
    return planned_page(
        request,
        site,
        lambda: plans.plan(operation_id, request.user, only=only),
        lambda reason: undo.undo(operation_id, request.user, forced=forced, only=only, reason=reason),
        title=_("Undo an operation"),
        back=reverse("admin:crm_operation", args=[operation_id]),
        empty=str(undo.AlreadyUndone()) if undo.undone_by(operation_id) else "",
        more=more,
    )


def _forced(text: str) -> tuple[str, int, int] | None:
    """`client:5:901`: a record, and the newest version of it that the page has shown."""
    name, *numbers = text.split(":")
    if len(numbers) != 2 or not all(each.isascii() and each.isdecimal() and len(each) < 19 for each in numbers):
        return None
    return name, int(numbers[0]), int(numbers[1])


# --- A large one ---


def _order(request, site, entry: AuditEntry, is_undone: bool):
    reason = request.POST.get("reason", "")[:2000]
    try:
        undo_runs.order(entry.operation_id, request.user, reason=reason)
    except CrmError as error:
        return _large(request, site, entry, is_undone=is_undone, reason=reason, problem=str(error))
    return HttpResponseRedirect(_url("undo", entry.operation_id))


def _large(request, site, entry: AuditEntry, *, told=None, is_undone=False, reason="", problem=""):
    counts = trail.counts_of([entry], request.user)[entry.pk]
    context = {
        "title": _("Undo an operation"),
        "back": reverse("admin:crm_operation", args=[entry.operation_id]),
        "run": told,
        "is_undone": is_undone,
        "did": [(capfirst(trail.label_of(name, plural=True)), _did(kinds)) for name, kinds in counts.items()],
        "reason": reason,
        "problem": problem,
    }
    return render_page(request, site, "admin/crm/undo_large.html", context)


def _did(kinds: dict[str, int]) -> str:
    words = {CREATED: _("%(count)s created"), CHANGED: _("%(count)s changed"), DELETED: _("%(count)s deleted")}
    return ", ".join(words[kind] % {"count": values.number(kinds[kind])} for kind in words if kinds.get(kind))


def _left(request, site, run: UndoRun):
    """What the job has left, planned a page at a time: it may be another today."""
    page = Paginator(run.left, 1).get_page(request.GET.get("p"))
    more = {"run": _told(request, run, RunState.DONE), "page": page if page.has_other_pages() else None}
    return _planned(request, site, run.undoes, only=page.object_list[0], more=more)


def _told(request, run: UndoRun, state: str) -> dict:
    job = run.job
    total = job.total_count if job else 0
    is_in_work = state in undo_runs.IN_WORK
    return {
        "state": state,
        "by": run.user_name,
        "is_in_work": is_in_work,
        "is_waiting": state == RunState.QUEUED,
        "share": min(100, 100 * job.done_count // total) if total else None,
        "said": undo_runs.said(run) if state == RunState.FAILED else "",
        "put_back": values.number(run.put_back_count),
        "touched": values.number(run.touched_count) if run.touched_count else "",
        "blocked": values.number(run.blocked_count) if run.blocked_count else "",
        "at": values.moment(run.finished_at) if run.finished_at else "",
        "operation_url": reverse("admin:crm_operation", args=[run.operation_id]) if run.put_back_count else "",
        "progress_url": _url("progress", run.undoes),
        "cancel_url": _url("cancel", run.undoes) if is_in_work and _may_cancel(request.user, run) else "",
    }


def _may_cancel(user, run: UndoRun) -> bool:
    return run.user_id == user.pk or user.has_perm("crm.run_job")


def _url(page: str, operation_id) -> str:
    name = {"undo": "crm_operation_undo", "progress": "crm_undo_progress", "cancel": "crm_undo_cancel"}[page]
    return reverse(f"admin:{name}", args=[operation_id])
