"""The Jobs page: whether a worker is alive, what the calendar expected and what was done, and every run with what can be
done about it. A schedule's time and pause are edited here; the queue's own rows nowhere."""

import datetime

from django.contrib import admin, messages
from django.db.models import Count, Min
from django.http import Http404, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from crm import health, jobs, schedules, values
from crm.admin import badges
from crm.admin.base import CrmAdmin, back_to, require
from crm.admin.runs import RunAdmin
from crm.admin.site import last_sign
from crm.admin.ui import ChoicesDropdownFilter, display
from crm.choices import QueueName, RunState, Weekday
from crm.exceptions import CrmError
from crm.models import JobRun, JobSchedule
from crm.models.operations import current_user

RUN = "crm.run_job"
PAGE = "admin:crm_jobrun_changelist"
CANCELLABLE = (RunState.QUEUED, RunState.RUNNING)
RETRIABLE = (RunState.FAILED, RunState.MISSED)


@admin.register(JobRun)
class JobRunAdmin(RunAdmin):
    list_display = ("title", "planned", "state_badge", "so_far", "took", "attempts", "message", "buttons")
    list_filter = (("state", ChoicesDropdownFilter), ("queue", ChoicesDropdownFilter), "due_at")
    list_defer = ("log", "arguments", "counts")
    list_before_template = "admin/crm/jobs_above.html"
    list_after_template = "admin/crm/post_form.html"
    ordering = ("-due_at", "-pk")
    search_fields = ("name", "slot")
    fields = (
        "title", "planned", "queue", "state_badge", "so_far", "started_at", "finished_at", "took", "attempts", "by",
        "result", "message", "log", "worker", "operation_id",
    )  # fmt: skip

    def get_urls(self):
        def url(name, view):
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"crm_jobrun_{name}")

        return [
            url("cancel", self.cancel_view),
            url("retry", self.retry_view),
            path("run-now/<str:name>/", self.admin_site.admin_view(self.run_now_view), name="crm_jobrun_run_now"),
            *super().get_urls(),
        ]

    def changelist_view(self, request, extra_context=None):
        return super().changelist_view(request, {"jobs": overview(request), **(extra_context or {})})

    # --- What can be done, all by POST ---

    @method_decorator(require_POST)
    def cancel_view(self, request, pk):
        return self._act(request, pk, jobs.cancel, gettext("%(job)s will end at its next chunk."))

    @method_decorator(require_POST)
    def retry_view(self, request, pk):
        return self._act(request, pk, schedules.retry, gettext("%(job)s is in the queue again."))

    @method_decorator(require_POST)
    def run_now_view(self, request, name):
        require(request.user.has_perm(RUN))
        if name not in {each.name for each in schedules.wanted()}:
            raise Http404
        schedules.run_now(name, by=request.user)
        messages.success(request, gettext("%(job)s is in the queue.") % {"job": schedules.title_of(name)})
        return HttpResponseRedirect(reverse(PAGE))

    def _act(self, request, pk, act, text):
        require(request.user.has_perm(RUN))
        run = self.visible_or_404(request, str(pk))
        try:
            act(run, by=request.user)
        except CrmError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, text % {"job": schedules.title_of(run.name)})
        return HttpResponseRedirect(back_to(request, reverse(PAGE)))

    # --- Columns ---

    @display(description=_("job"), ordering="name")
    def title(self, run):
        return schedules.title_of(run.name)

    @display(description=_("planned"), ordering="due_at")
    def planned(self, run):
        at = values.moment(run.due_at)
        return gettext("%(at)s, by hand") % {"at": at} if run.slot.startswith(jobs.BY_HAND) else at

    @display(description=_("progress"))
    def so_far(self, run):
        if not run.total_count:
            return values.number(run.done_count) if run.done_count else "–"
        return f"{values.number(run.done_count)} / {values.number(run.total_count)}"

    @display(description=_("took"))
    def took(self, run):
        if not run.started_at or run.state == RunState.QUEUED:
            return "–"
        seconds = ((run.finished_at or timezone.now()) - run.started_at).total_seconds()
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"

    @display(description=_("result"))
    def result(self, run):
        return ", ".join(f"{COUNTS.get(name, name)}: {_counted(count)}" for name, count in run.shown.items()) or "–"

    @display(description=_("actions"))
    def buttons(self, run):
        user = current_user()
        if user is None or not user.has_perm(RUN):
            return ""
        context = {"run": run, "may_cancel": run.state in CANCELLABLE, "may_retry": run.state in RETRIABLE}
        return render_to_string("admin/crm/job_buttons.html", context)


# What the jobs of crm.tasks return.
COUNTS = {
    "sent": _("sent"),
    "waiting": _("waiting"),
    "failed": _("failed"),
    "refused": _("refused"),
    "expired": _("too late"),
    "withheld": _("withheld"),
    "messages": _("messages"),
    "told_until": _("told until"),
    "week": _("week"),
    "rows": _("rows"),
    "seals": _("seals"),
    "runs": _("runs deleted"),
    "notices": _("notices deleted"),
    "ordered": _("ordered"),
    "told": _("told"),
    "megabytes": _("MB"),
    "copied": _("copied off-site"),
    "pruned": _("removed"),
    "put_back": _("put back"),
    "left": _("left"),
    "export_pieces": _("pieces of exports deleted"),
}


def _counted(value: int | str) -> str:
    """A number, a day, or as it stands."""
    if isinstance(value, int):
        return values.number(value)
    try:
        return values.date(datetime.datetime.strptime(value, "%Y-%m-%d").date())
    except ValueError:
        return value


def overview(request) -> dict:
    now = timezone.now()
    seen = last_sign(request)
    due = JobRun.objects.waiting().filter(due_at__lte=now).order_by()
    waiting = {
        queue: (count, oldest) for queue, count, oldest in due.values_list("queue").annotate(Count("pk"), Min("due_at"))
    }
    return {
        "seen": values.moment(seen) if seen else "",
        "queues": [_depth(label, *waiting.get(key, (0, None)), now) for key, label in QueueName.choices],
        "may_run": request.user.has_perm(RUN),
        "may_edit": request.user.has_perm("crm.change_jobschedule"),
        "schedules": [_line(each) for each in schedules.report(now)],
    }


def _depth(label, count: int, oldest, now) -> dict:
    is_late = oldest is not None and now - oldest > health.WAITS_AT_MOST
    return {"label": label, "count": count, "since": values.moment(oldest) if is_late else ""}


def _line(told: schedules.Told) -> dict:
    return {
        "told": told,
        "title": told.schedule.title,
        "when": when_text(told.when),
        "next": gettext("paused") if told.row.is_paused else values.moment(told.next_at) if told.next_at else "–",
        "last": values.moment(told.last.finished_at or told.last.started_at) if told.last else "–",
        "state": badges.choice(told.last.state, told.last.get_state_display()) if told.last else "",
        "run_now": reverse("admin:crm_jobrun_run_now", args=[told.schedule.name]),
        "edit": reverse("admin:crm_jobschedule_change", args=[told.row.pk]),
    }


def when_text(when: schedules.Clock | schedules.Every) -> str:
    if isinstance(when, schedules.Every):
        every = {1: gettext("every minute"), 60: gettext("every hour")}
        if when.minutes > 60 and when.minutes % 60 == 0:
            return gettext("every %(count)s h") % {"count": when.minutes // 60}
        return every.get(when.minutes) or gettext("every %(count)s min") % {"count": when.minutes}
    if when.weekday:
        return f"{Weekday(when.weekday).label} {when.at:%H:%M}"
    return gettext("daily %(time)s") % {"time": f"{when.at:%H:%M}"}


@admin.register(JobSchedule)
class JobScheduleAdmin(CrmAdmin):
    """Made and named by the code; the office says when."""

    list_display = ("title", "at", "weekday", "is_paused", "ping_url")
    fields = ("title", "at", "weekday", "is_paused", "ping_url")
    readonly_fields = ("title",)
    search_fields = ("name",)

    def has_add_permission(self, request):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def get_readonly_fields(self, request, obj=None):
        schedule = schedules.SCHEDULES.get(obj.name) if obj else None
        when = schedule.when if schedule else None
        fixed = ("at", "weekday") if not isinstance(when, schedules.Clock) else () if when.weekday else ("weekday",)
        return (*super().get_readonly_fields(request, obj), *fixed)

    @display(description=_("job"), ordering="name")
    def title(self, row):
        return schedules.title_of(row.name)
