"""The start page, "my day": what is overdue, due today and in the next days, and where the cases stand.

Everything is counted by the database over `visible_to(user)`: the number of queries is the same for ten cases and for a
hundred thousand, and names are decrypted for the shown rows only.
"""

import dataclasses
import datetime
import json

from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm.admin import badges
from crm.admin.navigation import list_url
from crm.admin.site import backups
from crm.backups import watch
from crm.choices import CaseStatus
from crm.models import Case, CaseStep, Step

ROWS_SHOWN = 10
# Not of a column: then the index of status and step is enough, and the wide rows of the cases are left alone.
COUNT_ROWS = Count("*")
MINE, ALL = "mine", "all"

# The columns a row shows, and no other: of the encrypted ones the client's name.
COLUMNS = (
    "deadline",
    "step__number",
    "step__name_cs",
    "step__name_en",
    "case__reference",
    "case__current_step__number",
    "case__client__reference",
    "case__client__full_name",
    "case__adviser__first_name",
    "case__adviser__last_name",
    "case__adviser__username",
)
# Unfold's own chart options show no numbers on the axis. The grey is readable on both grounds.
CHART_OPTIONS = {
    "animation": False,
    "responsive": True,
    "maintainAspectRatio": False,
    "maxBarThickness": 28,
    "plugins": {"legend": {"display": False}},
    "scales": {
        "x": {"grid": {"display": False}, "ticks": {"color": "#7b8494", "autoSkip": False}},
        "y": {"beginAtZero": True, "grid": {"tickWidth": 0}, "ticks": {"color": "#7b8494", "precision": 0}},
    },
}


@dataclasses.dataclass
class Bucket:
    """One card of due steps."""

    key: str
    title: str
    badge: str
    empty: str
    count: int
    rows: list
    url: str

    @property
    def more(self) -> int:
        return self.count - len(self.rows)


def my_day(request, context):
    user = request.user
    context["may_see_cases"] = user.has_perms(["crm.view_case", "crm.view_casestep"])
    if not context["may_see_cases"]:
        return context
    today = timezone.localdate()
    has_own = Case.objects.visible_to(user).active().belonging_to(user).exists()
    whose = request.GET.get("whose")
    if whose not in (MINE, ALL) or not has_own:
        whose = MINE if has_own else ALL
    # Added to the addresses of lists, so that they show what was counted here.
    adviser = f"&adviser={user.pk}" if whose == MINE else ""
    cases, steps = Case.objects.visible_to(user), CaseStep.objects.visible_to(user)
    if whose == MINE:
        cases, steps = cases.belonging_to(user), steps.belonging_to(user)
    buckets = _buckets(steps, today, adviser)
    by_step, by_status = _by_step(cases, adviser), _by_status(cases, adviser)
    context |= {
        "today": today,
        "has_own": has_own,
        "whose": whose,
        "may_tick": user.has_perm("crm.change_casestep"),
        "shows_names": user.has_perm("crm.view_client"),
        "buckets": buckets,
        "by_step": by_step,
        "by_status": by_status,
        "active_count": sum(line["count"] for line in by_step),
        "chart": json.dumps(_chart(by_step)),
        "chart_options": json.dumps(CHART_OPTIONS),
        "backups": _backups(request),
    }
    return context


def _backups(request) -> str:
    """Where all is well; what is not stands above every page."""
    if not request.user.has_perm("crm.view_backuprun"):
        return ""
    found = backups(request)
    return found.text if found.code == watch.FINE else ""


def _buckets(steps, today: datetime.date, adviser: str) -> list[Bucket]:
    until = today + datetime.timedelta(days=badges.SOON_DAYS)
    # The case's date follows from the steps' dates; PostgreSQL's plan is several times faster for knowing it.
    due = steps.pending().of_active_cases().filter(case__next_deadline__lte=until)
    parts = {
        "overdue": Q(deadline__lt=today),
        "today": Q(deadline=today),
        "soon": Q(deadline__gt=today, deadline__lte=until),
    }
    counts = due.filter(deadline__lte=until).aggregate(
        **{key: Count("pk", filter=condition) for key, condition in parts.items()}
    )
    texts = {
        "overdue": (_("Overdue"), _("Nothing is overdue.")),
        "today": (_("Due today"), _("Nothing is due today.")),
        "soon": (
            ngettext("Due in the next %(days)s day", "Due in the next %(days)s days", badges.SOON_DAYS)
            % {"days": badges.SOON_DAYS},
            _("Nothing is due in the next days."),
        ),
    }
    # The order of the index of pending steps. What is overdue goes by the case first: the oldest pending steps are those
    # of declined and withdrawn cases, and the index would be walked over all of them.
    order = {"overdue": ("case__next_deadline", "deadline", "pk")}
    found = []
    for key, condition in parts.items():
        rows = (
            due.filter(condition)
            .select_related("step", "case__client", "case__adviser", "case__current_step")
            .only(*COLUMNS)
            .order_by(*order.get(key, ("deadline", "case_id", "pk")))[:ROWS_SHOWN]
        )
        title, empty = texts[key]
        found.append(
            Bucket(
                key=key,
                title=title,
                badge=key,
                empty=empty,
                count=counts[key],
                rows=[_row(step, today) for step in rows],
                url=list_url(CaseStep, f"quick={key}{adviser}"),
            )
        )
    return found


def _row(step: CaseStep, today: datetime.date) -> dict:
    case = step.case
    current = case.current_step
    return {
        "client": case.client,
        "case": case,
        "case_url": reverse("admin:crm_case_change", args=[case.pk]),
        "adviser": case.adviser,
        "step": step.step,
        "deadline": badges.deadline(step.deadline, today),
        # Steps are done in order: one whose turn has not come is done from the case's page, with a reason.
        "waits_for": current.number if current and current.pk != step.step_id else None,
        "tick_url": _tick_url(step),
    }


def _tick_url(step: CaseStep) -> str:
    return reverse("admin:crm_casestep_complete", args=[step.pk])


def _by_step(cases, adviser: str) -> list[dict]:
    """Active cases by the step that they stand at; steps without a case too, or a gap would look like an error."""
    counts = dict(cases.active().order_by().values_list("current_step").annotate(count=COUNT_ROWS))
    return [
        {
            "number": step.number,
            "name": step.name,
            "count": counts.get(step.pk, 0),
            "url": list_url(Case, f"current_step__id__exact={step.pk}{adviser}"),
        }
        for step in Step.objects.all()
        if step.is_active or step.pk in counts
    ]


def _by_status(cases, adviser: str) -> list[dict]:
    counts = dict(cases.order_by().values_list("status").annotate(count=COUNT_ROWS))
    return [
        {
            "badge": badges.choice(status, status.label),
            "count": counts.get(status, 0),
            "url": list_url(Case, f"status__exact={status.value}{adviser}"),
        }
        for status in CaseStatus
    ]


def _chart(by_step: list[dict]) -> dict:
    return {
        "labels": [line["number"] for line in by_step],
        "datasets": [
            {
                "label": _("Active cases"),
                "data": [line["count"] for line in by_step],
                "backgroundColor": "var(--color-primary-600)",
                "borderRadius": 3,
            }
        ],
    }
