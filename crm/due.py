"""Which deadlines are told of on a day, and what was told before. Reads only.

A step is told some days before its deadline, the day before, on the day, and then every few days a few times (REMIND_...).
What comes too late for that, by a deadline, a reopening or an import, is told on the next morning. What is overdue for longer
is counted on the first working day of each week. Weekends and holidays are quiet: what falls on one is told on the next
working day, and after an outage, of ours or of the mail server, one mail tells all that was missed."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import NamedTuple

from django.conf import settings
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from crm.choices import ACTIVE_STATUSES, MessageKind, MessageState, RunState, StepState
from crm.deadlines import is_working_day
from crm.models import Case, CaseStep, JobRun, MessageLog
from crm.models.history import DELETED
from crm.models.messages import TO_SEND

DAY = datetime.timedelta(days=1)
JOB = "send_deadlines"
# However long the outage: older moments are told by what is overdue now.
LOOK_BACK = 31 * DAY
MOST_RUNS = 500
OF_DUE = ("pk", "step_id", "deadline", "case_id", "case__reference", "case__client_id", "case__adviser_id", "case__stand_in_id")  # fmt: skip


class Due(NamedTuple):
    """A step that is to be told of on the day. A tuple: there may be ten thousand in a morning."""

    step_id: int
    kind_id: int
    deadline: datetime.date
    case_id: int
    reference: str
    client_id: int
    adviser_id: int | None
    stand_in_id: int | None


class Older(NamedTuple):
    """How many steps that are overdue for longer than reminders go on."""

    adviser_id: int | None
    stand_in_id: int | None
    steps: int


class Seen(NamedTuple):
    """The newest versions of steps and of cases, as keys of their histories, when a run began."""

    steps: int
    cases: int


class Last(NamedTuple):
    """Up to which day the run before told, and what it had seen; None where it did not write that down yet."""

    until: datetime.date
    seen: Seen | None = None


def moments(after: datetime.date, day: datetime.date) -> set[datetime.date]:
    """The deadlines that are told of on the days after < d <= day."""
    distances = [settings.REMIND_DAYS_BEFORE, 1, 0]
    distances += [-settings.REMIND_EVERY_DAYS * number for number in range(1, settings.REMIND_TIMES + 1)]
    days = [after + number * DAY for number in range(1, (day - after).days + 1)]
    return {each + distance * DAY for each in days for distance in distances}


def due(after: datetime.date, day: datetime.date) -> list[Due]:
    """One query over the index of pending steps; nothing encrypted is read."""
    return as_due(CaseStep.objects.pending().of_active_cases().filter(deadline__in=moments(after, day)))


def entered(last: Last) -> list[Due]:
    """What came after all its moments that the last run or one before could tell: pending now with a deadline up to then, and
    at that run done, of another deadline, of a case that was over, or not there. One query over the index of pending
    steps and what was written since."""
    if last.seen is None:
        return []
    steps, cases = CaseStep.history, Case.history
    changed = Q(pk__in=steps.filter(history_id__gt=last.seen.steps).values("id"))
    changed |= Q(case__in=cases.filter(history_id__gt=last.seen.cases).values("id"))
    then = steps.filter(id=OuterRef("pk"), history_id__lte=last.seen.steps).order_by("-history_id")
    case_then = cases.filter(id=OuterRef("case"), history_id__lte=last.seen.cases).order_by("-history_id")
    found = CaseStep.objects.pending().of_active_cases().filter(deadline__range=(oldest_told(last.until), last.until))
    found = found.filter(changed).annotate(
        was=Subquery(then.values("history_type")[:1]),
        was_state=Subquery(then.values("state")[:1]),
        was_deadline=Subquery(then.values("deadline")[:1]),
        was_status=Subquery(case_then.values("status")[:1]),
    )
    rows = found.order_by().values_list(*OF_DUE, "was", "was_state", "was_deadline", "was_status")
    return [Due._make(row) for *row, was, state, deadline, status in rows if not (
        was != DELETED and state == StepState.PENDING and deadline == row[2] and status in ACTIVE_STATUSES
    )]  # fmt: skip


def oldest_told(day: datetime.date) -> datetime.date:
    """The oldest deadline of which there are reminders after the day; what is older is counted."""
    return day + DAY - settings.REMIND_TIMES * settings.REMIND_EVERY_DAYS * DAY


def older(since: datetime.date, day: datetime.date) -> list[Older]:
    """Once a week: who tells of it on `day` told last on `since`. One query, from the few active cases whose stored next
    deadline says so: pending steps of what was declined or withdrawn are many times as many."""
    if not since < next_working_day(day - day.weekday() * DAY) <= day:
        return []
    before = oldest_told(since)
    steps = CaseStep.objects.overdue(before).filter(case__next_deadline__lt=before).order_by()
    return list(
        map(Older._make, steps.values_list("case__adviser_id", "case__stand_in_id").annotate(steps=Count("pk")))
    )


def next_working_day(day: datetime.date) -> datetime.date:
    """The day itself, if it is one."""
    while not is_working_day(day):
        day += DAY
    return day


def as_due(steps: QuerySet[CaseStep]) -> list[Due]:
    return list(map(Due._make, steps.order_by("deadline", "case_id", "step_id").values_list(*OF_DUE)))


def seen() -> Seen:
    return Seen(*(model.history.aggregate(newest=Max("history_id"))["newest"] or 0 for model in (CaseStep, Case)))


def last_told(day: datetime.date, job: str = JOB) -> datetime.date:
    return last_run(day, job).until


def last_run(day: datetime.date, job: str = JOB) -> Last:
    """The day up to which this job told before this one: as its runs say, at the latest the working day before; and what the
    first of the runs that told so far had seen. A run for a past day takes nothing back."""
    before = day - DAY
    while not is_working_day(before):
        before -= DAY
    runs = JobRun.objects.filter(name=job, state=RunState.DONE).order_by("-due_at", "-pk")
    counts = list(runs.values_list("counts", flat=True)[:MOST_RUNS])
    told = [datetime.date.fromisoformat(each["told_until"]) for each in counts]
    last = max((each for each in told if each < day), default=before)
    of_last = [each["_seen"] for until, each in zip(told, counts, strict=True) if until == last and "_seen" in each]
    return Last(max(min(last, before), day - LOOK_BACK), Seen(*of_last[-1]) if of_last else None)


@dataclasses.dataclass(frozen=True)
class Lost:
    """Mornings whose mail did not reach somebody, because the server was away until it was too late: who, and what was to be
    told; and the messages that would be too late today."""

    days: dict[datetime.date, tuple[set[int], list[Due]]]
    waiting: list[int]

    @classmethod
    def until(cls, day: datetime.date) -> "Lost":
        """Of a message that left after a mail was too late it is known that it told of that one too. One query where nothing
        was lost."""
        ends = timezone.make_aware(datetime.datetime.combine(day + DAY, datetime.time()))
        sent = MessageLog.objects.filter(
            kind=MessageKind.DEADLINES, created_at__gte=ends - LOOK_BACK, created_at__lt=ends - DAY
        )
        waits = Q(state__in=TO_SEND, next_try_at__isnull=False, expires_at__lt=ends)
        is_lost = waits | Q(state=MessageState.EXPIRED)
        rows = list(
            sent.filter(is_lost, user__isnull=False).values_list("pk", "user", "created_at", "expires_at", "state")
        )
        good = sent.exclude(is_lost).filter(user__in={row[1] for row in rows}).order_by().values_list("user")
        newest = dict(good.annotate(Max("created_at"))) if rows else {}
        days: dict[datetime.date, set[int]] = {}
        waiting = []
        for key, user, created_at, expires_at, state in rows:
            if user not in newest or timezone.localdate(newest[user]) < timezone.localdate(expires_at):
                days.setdefault(timezone.localdate(created_at), set()).add(user)
            if state != MessageState.EXPIRED:
                waiting.append(key)
        return cls({each: (users, _told_on(each)) for each, users in days.items()}, waiting)

    def rows(self) -> Iterator[Due]:
        for _users, rows in self.days.values():
            yield from rows

    def days_of(self) -> dict[int, list[datetime.date]]:
        found: dict[int, list[datetime.date]] = {}
        for day, (users, _rows) in self.days.items():
            for user in users:
                found.setdefault(user, []).append(day)
        return found


def _told_on(day: datetime.date) -> list[Due]:
    """What was to be told on a past day, of what is pending still."""
    last = last_run(day)
    return [*due(last.until, day), *entered(last)]
