"""What a week brought, each figure defined here and nowhere else. `cases` is whatever its reader may see of them.

new: opened in the week. moved: a step was completed in it. approved: decided in it and approved, also when completed since.
declined, withdrawn: decided in it. overdue: active, and its next deadline was before the day of the report. volume: the sums
of what was approved; of two advisers of one name each has his own. days of a step: from the step completed before it, or the
opening, to its own completion."""

import collections
import dataclasses
import datetime
import statistics
from collections.abc import Iterable
from decimal import Decimal

from django.db.models import Count, QuerySet, Sum
from django.utils.translation import gettext as _

from crm.choices import CaseStatus
from crm.models import Case, CaseStep, Step, User

WEEK = datetime.timedelta(days=7)
NEW, MOVED, APPROVED, DECLINED, WITHDRAWN, OVERDUE = "new", "moved", "approved", "declined", "withdrawn", "overdue"


@dataclasses.dataclass(frozen=True)
class Row:
    """A case as a report names it: never by its client."""

    reference: str
    status: str
    adviser: str
    lender: str
    opened_on: datetime.date
    decided_on: datetime.date | None
    next_deadline: datetime.date | None
    loan_amount_czk: Decimal | None
    approved_amount_czk: Decimal | None


@dataclasses.dataclass(frozen=True)
class Volume:
    name: str
    count: int
    amount_czk: Decimal


@dataclasses.dataclass(frozen=True)
class StepDays:
    step: str
    count: int
    median: float


@dataclasses.dataclass(frozen=True)
class Week:
    """`first` is a Monday, `last` its Sunday, or the day of the report where that is not over; `cases` by what happened to
    them."""

    first: datetime.date
    last: datetime.date
    cases: dict[str, list[Row]]
    by_lender: list[Volume]
    by_adviser: list[Volume]
    days: list[StepDays]
    is_over: bool = True

    @property
    def is_empty(self) -> bool:
        return not any(self.cases.values())


def monday_of(day: datetime.date) -> datetime.date:
    return day - datetime.timedelta(days=day.weekday())


def week(first: datetime.date, cases: QuerySet[Case], *, on: datetime.date) -> Week:
    """Of the week that begins on the Monday `first`, as told on the day `on`. Twelve queries, whatever their number of rows."""
    sunday = first + WEEK - datetime.timedelta(days=1)
    last = min(sunday, on)
    decided = cases.filter(decided_on__range=(first, last))
    approved = decided.filter(status__in=[CaseStatus.APPROVED, CaseStatus.COMPLETED])
    completed = CaseStep.objects.filter(completed_on__range=(first, last), case__in=cases.order_by().values("pk"))
    found = {
        NEW: cases.filter(opened_on__range=(first, last)),
        MOVED: cases.filter(pk__in=completed.order_by().values("case")),
        APPROVED: approved,
        DECLINED: decided.filter(status=CaseStatus.DECLINED),
        WITHDRAWN: decided.filter(status=CaseStatus.WITHDRAWN),
        OVERDUE: cases.active().filter(next_deadline__lt=on),
    }
    listed = {what: list(rows.order_by("reference").values_list(*COLUMNS)) for what, rows in found.items()}
    volumes = _sums(approved, "adviser")
    advisers = _names({adviser for rows in listed.values() for adviser, *_rest in rows} | {each[0] for each in volumes})
    return Week(
        first,
        last,
        {what: [_row(advisers, *row) for row in rows] for what, rows in listed.items()},
        _volumes((lender or "", *rest) for lender, *rest in _sums(approved, "lender__name")),
        _volumes((advisers[adviser], *rest) for adviser, *rest in volumes),
        _days(completed),
        is_over=sunday < on,
    )


COLUMNS = (
    "adviser", "reference", "status", "lender__name", "opened_on", "decided_on", "next_deadline", "loan_amount_czk",
    "approved_amount_czk",
)  # fmt: skip


def _row(advisers: dict[int | None, str], adviser: int | None, reference: str, status: str, lender: str, *rest) -> Row:
    return Row(reference, str(CaseStatus(status).label), advisers[adviser], lender or "", *rest)


def _names(advisers: set[int | None]) -> dict[int | None, str]:
    """By which each of them is told from the others. One query."""
    people = User.objects.filter(pk__in=advisers - {None}).only("first_name", "last_name", "username")
    names = {user: user.get_display_name() for user in people}
    shared = collections.Counter(names.values())
    found = {user.pk: name if shared[name] == 1 else f"{name} ({user.username})" for user, name in names.items()}
    return {None: _("nobody"), **found}


def _sums(approved: QuerySet[Case], by: str) -> list[tuple]:
    return list(approved.order_by().values_list(by).annotate(count=Count("pk"), amount=Sum("approved_amount_czk")))


def _volumes(sums: Iterable[tuple[str, int, Decimal | None]]) -> list[Volume]:
    found = [Volume(name, count, amount or Decimal(0)) for name, count, amount in sums]
    return sorted(found, key=lambda each: (-each.amount_czk, each.name))


def _days(completed: QuerySet[CaseStep]) -> list[StepDays]:
    """Of each kind of step that was completed in the week, in the catalogue's order."""
    done = CaseStep.objects.filter(case__in=completed.order_by().values("case"), completed_on__isnull=False)
    rows = done.order_by("case", "completed_on", "step__number", "pk")
    wanted = set(completed.order_by().values_list("pk", flat=True))
    days: dict[int, list[int]] = {}
    before: tuple[int, datetime.date] | None = None
    for key, case, step, completed_on, opened_on in rows.values_list(
        "pk", "case", "step", "completed_on", "case__opened_on"
    ):
        began = before[1] if before and before[0] == case else opened_on
        if key in wanted:
            days.setdefault(step, []).append(max((completed_on - began).days, 0))
        before = (case, completed_on)
    return [
        StepDays(str(step), len(days[step.pk]), statistics.median(days[step.pk]))
        for step in Step.objects.filter(pk__in=days).order_by("number", "pk")
    ]


def total(volumes: Iterable[Volume]) -> Decimal:
    return sum((each.amount_czk for each in volumes), Decimal(0))
