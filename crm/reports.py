"""What a week brought, each figure defined here and nowhere else. `cases` is whatever its reader may see of them.

new: opened in the week. moved: a step was completed in it. approved: decided in it and approved, also when completed since.
declined, withdrawn: decided in it. overdue: active, and its next deadline was before the day of the report. volume: the sums
of what was approved. days of a step: from the step completed before it, or the opening, to its own completion."""

import dataclasses
import datetime
import statistics
from collections.abc import Iterable
from decimal import Decimal

from django.db.models import Count, QuerySet, Sum

from crm.choices import CaseStatus
from crm.models import Case, CaseStep, Step

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
    return Week(
        first,
        last,
        {what: _rows(rows) for what, rows in found.items()},
        _volumes(approved, "lender__name"),
        _volumes(approved, "adviser__last_name", "adviser__first_name"),
        _days(completed),
        is_over=sunday < on,
    )


def _rows(cases: QuerySet[Case]) -> list[Row]:
    names = (
        "reference", "status", "adviser__first_name", "adviser__last_name", "lender__name", "opened_on", "decided_on",
        "next_deadline", "loan_amount_czk", "approved_amount_czk",
    )  # fmt: skip
    labels = dict(CaseStatus.choices)
    return [
        Row(reference, str(labels[status]), f"{first or ''} {last or ''}".strip(), lender or "", *rest)
        for reference, status, first, last, lender, *rest in cases.order_by("reference").values_list(*names)
    ]


def _volumes(approved: QuerySet[Case], *names: str) -> list[Volume]:
    rows = approved.order_by().values_list(*names).annotate(count=Count("pk"), amount=Sum("approved_amount_czk"))
    found = [
        Volume(" ".join(filter(None, reversed(labels))), count, amount or Decimal(0)) for *labels, count, amount in rows
    ]
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
