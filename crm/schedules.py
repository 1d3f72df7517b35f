"""What the worker runs by the clock, and the calendar of its slots. The office may change time, weekday and pause
(JobSchedule); everything else stands here."""

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Min
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django_q.models import Failure

from crm import jobs
from crm.choices import QueueName, RunState
from crm.exceptions import CrmError
from crm.models import JobRun, JobSchedule

logger = logging.getLogger(__name__)

DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
# Of a mail of the morning: until the evening; at night nobody is to be told of yesterday.
MORNING = 12 * HOUR
# No run is put off so long: what is due later was made by a clock that has been put back since.
AHEAD = 6 * MINUTE
# How far back missed slots are looked for and told.
LOOK_BACK = 15 * DAY


@dataclasses.dataclass(frozen=True)
class Slot:
    """`key` is the day or the week, which has it once whatever the clock does and to whatever time it is moved; of short
    rhythms the moment in UTC."""

    key: str
    at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Clock:
    """Daily at a wall clock's time, or on one weekday (1 is Monday). A time that a day skips is meant in winter's time,
    so it comes an hour later; of one that it has twice the first is meant."""

    at: datetime.time
    weekday: int | None = None
    zone: str = ""

    def slots(self, after: datetime.datetime, until: datetime.datetime) -> Iterator[Slot]:
        """Those with after < at <= until, oldest first."""
        zone = ZoneInfo(self.zone or settings.TIME_ZONE)
        day = after.astimezone(zone).date() - DAY
        while day <= until.astimezone(zone).date() + DAY:
            if self.weekday in (None, day.isoweekday()):
                local = datetime.datetime.combine(day, self.at)
                at = local.replace(tzinfo=zone).astimezone(datetime.UTC)
                if after < at <= until:
                    yield Slot(f"{local:%G-W%V}" if self.weekday else f"{local:%Y-%m-%d}", at)
            day += DAY

    def count(self, after: datetime.datetime, until: datetime.datetime) -> int:
        return sum(1 for _slot in self.slots(after, until))


@dataclasses.dataclass(frozen=True)
class Every:
    """Short rhythms: of several slots that were not done only the newest counts."""

    minutes: int

    def slots(self, after: datetime.datetime, until: datetime.datetime) -> Iterator[Slot]:
        step = self.minutes * 60
        number = max(int(until.timestamp()) // step, 0)
        at = datetime.datetime.fromtimestamp(number * step, datetime.UTC)
        if after < at <= until:
            yield Slot(f"{at:%Y-%m-%dT%H:%MZ}", at)

    def count(self, after: datetime.datetime, until: datetime.datetime) -> int:
        step = self.minutes * 60
        return max(int(until.timestamp()) // step - int(after.timestamp()) // step, 0)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """`name` is a function of crm.tasks. A slot that is found, or still waits, later than `grace` is missed. What `is_of_its_day`
    says nothing useful on another: the next slot tells what this one did not."""

    name: str
    title: str | Promise
    when: Clock | Every
    grace: datetime.timedelta
    queue: str = QueueName.QUICK
    is_wanted: Callable[[], bool] = lambda: True
    is_of_its_day: bool = False

    def as_set(self, row: JobSchedule | None) -> Clock | Every:
        """With what the office has changed."""
        if row is None or isinstance(self.when, Every):
            return self.when
        weekday = self.when.weekday and (row.weekday or self.when.weekday)
        return dataclasses.replace(self.when, at=row.at or self.when.at, weekday=weekday)


def _has_audit_key() -> bool:
    return bool(settings.AUDIT_KEYS)


def _has_backup_key() -> bool:
    return bool(settings.BACKUP_KEYS)


def _wants_more_backups() -> bool:
    return bool(settings.BACKUP_KEYS and settings.BACKUP_EVERY)


SCHEDULES = {
    each.name: each
    for each in (
        Schedule("send_mail", _("Send mail"), Every(1), 5 * MINUTE),
        Schedule("send_notices", _("Mail the notices"), Every(1), 5 * MINUTE),
        Schedule("send_deadlines", _("Remind of deadlines"), Clock(datetime.time(8)), MORNING, is_of_its_day=True),
        Schedule("send_radar", _("Tell what runs out"), Clock(datetime.time(8)), MORNING, is_of_its_day=True),
        Schedule("send_weekly_report", _("Weekly report"), Clock(datetime.time(9), weekday=1), 6 * DAY, QueueName.LONG),
        Schedule("seal_audit", _("Seal the history"), Every(60), HOUR, QueueName.LONG, _has_audit_key),
        Schedule("verify_audit", _("Verify the seals"), Clock(datetime.time(5)), DAY, QueueName.LONG, _has_audit_key),
        Schedule("erase_due", _("Erase whose time is over"), Clock(datetime.time(3)), DAY, QueueName.LONG),
        Schedule("send_exports", _("Regular exports"), Every(5), 15 * MINUTE),
        Schedule("tidy_jobs", _("Tidy up after jobs"), Clock(datetime.time(4, 30)), DAY),
        # A night that was slept through is made up for by day; another night's is never.
        Schedule("nightly_backup", _("Nightly backup"), Clock(datetime.time(2)), DAY, QueueName.LONG, _has_backup_key),
        Schedule(
            "hourly_backup",
            _("Backup of the day"),
            Every(60 * (settings.BACKUP_EVERY or 24)),
            HOUR,
            QueueName.LONG,
            _wants_more_backups,
        ),
        Schedule("watch_backups", _("Look after the backups"), Every(60), HOUR, QueueName.LONG),
    )
}


# Of jobs that no calendar asks for.
TITLES = {
    "make_backup": _("Backup by hand"),
    "make_export": _("Export"),
    "check_import": _("Check of an import"),
    "write_import": _("Import"),
    "undo_operation": _("Undo an operation"),
}


def title_of(name: str) -> str:
    schedule = SCHEDULES.get(name)
    return str(schedule.title if schedule else TITLES.get(name, name))


def wanted() -> list[Schedule]:
    """What this configuration can run."""
    return [each for each in SCHEDULES.values() if each.is_wanted()]


def sync() -> None:
    """A row for each schedule that has none yet. What the office has set stays. Twice changes nothing."""
    known = set(JobSchedule.objects.values_list("name", flat=True))
    for each in wanted():
        if each.name not in known:
            JobSchedule.objects.get_or_create(name=each.name)


def tick(now: datetime.datetime) -> list[JobRun]:
    """Puts every slot that is due into the queue, once, however many ask; what came too late is written down as missed.
    Of several slots of one job only the newest is run. One bad schedule stops no other."""
    miss_late(now)
    rows = {row.name: row for row in JobSchedule.objects.filter(is_paused=False)}
    made = []
    for schedule in wanted():
        if row := rows.get(schedule.name):
            try:
                made += _tick(schedule, row, now)
            except Exception as error:
                logger.error("the schedule %s could not be looked at: %s", schedule.name, jobs.told(error))
    return made


def _tick(schedule: Schedule, row: JobSchedule, now: datetime.datetime) -> list[JobRun]:
    due = list(schedule.as_set(row).slots(max(row.since, now - LOOK_BACK), now))
    if isinstance(schedule.when, Every):
        made = JobRun.objects.filter(name=schedule.name)
        if made.filter(state__in=[RunState.QUEUED, RunState.RUNNING], due_at__lte=now + AHEAD).exists():
            return []  # it does this one's work too
        if made.filter(due_at__gt=now + AHEAD).exists():
            due = [dataclasses.replace(slot, key=f"{slot.key} again") for slot in due]
    known = JobRun.objects.filter(name=schedule.name, slot__in=[slot.key for slot in due])
    done = set(known.values_list("slot", flat=True))
    open_slots = [slot for slot in due if slot.key not in done]
    if not open_slots:
        return []
    newest = due[-1]
    runs = newest in open_slots and now - newest.at <= schedule.grace
    missed = [slot for slot in open_slots if not (runs and slot == newest)]
    with transaction.atomic():
        JobRun.objects.bulk_create(
            [
                JobRun(name=schedule.name, slot=slot.key, queue=schedule.queue, due_at=slot.at, state=RunState.MISSED)
                for slot in missed
            ],
            ignore_conflicts=True,
        )
        run = jobs.enqueue(schedule.name, slot=newest.key, queue=schedule.queue, due_at=newest.at) if runs else None
    return [run] if run else []


def miss_late(now: datetime.datetime, **which) -> None:
    """What was planned by day or week and waits longer than its grace, or until its next slot, would do that one's work. It
    is asked before such a run begins too: after an outage its old knock may come before the first tick. A run that
    somebody asked for waits as long as it takes."""
    clocks = [each.name for each in SCHEDULES.values() if isinstance(each.when, Clock)]
    waiting = JobRun.objects.waiting().filter(name__in=clocks, user_name="", **which)
    late = [run for run in waiting.exclude(slot__startswith=jobs.BY_HAND).defer("log") if _is_late(run, now)]
    JobRun.objects.waiting().filter(pk__in=[run.pk for run in late]).update(state=RunState.MISSED, finished_at=now)


def _is_late(run: JobRun, now: datetime.datetime) -> bool:
    schedule = SCHEDULES[run.name]
    if now - run.due_at > schedule.grace:
        return True
    when = schedule.as_set(JobSchedule.objects.filter(name=run.name).first())
    try:
        return any(slot.key > run.slot for slot in when.slots(run.due_at, now))
    except Exception as error:
        logger.error("the schedule %s could not be looked at: %s", schedule.name, jobs.told(error))
        return False


def day_of(slot: str) -> datetime.date | None:
    """The day of a slot, the Monday of a week's; None of others."""
    for text, written in ((slot, "%Y-%m-%d"), (f"{slot}-1", "%G-W%V-%u")):
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(text, written).date()
    return None


class DayIsOver(CrmError):
    message = _("That day is over: what was not told on it is told by the next run, or by Run now.")


def retry(run: JobRun, *, by) -> None:
    """Raises jobs.NotRunnable, DayIsOver."""
    schedule, day = SCHEDULES.get(run.name), day_of(run.slot)
    if schedule and schedule.is_of_its_day and day and day < timezone.localdate():
        raise DayIsOver()
    jobs.retry(run, by=by)


def run_now(name: str, *, by, is_knocked: bool = True) -> JobRun:
    return jobs.enqueue(name, queue=SCHEDULES[name].queue, user=by, is_knocked=is_knocked)


# --- What ought to have been, and what was ---


@dataclasses.dataclass(frozen=True)
class Told:
    """Of the last REPORTED: `expected` slots by the calendar; what neither ran nor waits was missed. `next_at` is None of
    what is paused."""

    schedule: Schedule
    row: JobSchedule
    when: Clock | Every
    next_at: datetime.datetime | None
    last: JobRun | None
    expected: int
    done: int
    failed: int
    missed: int


REPORTED = 7 * DAY


def report(now: datetime.datetime) -> list[Told]:
    """One line a schedule, in three queries. The slots of the last minute have had no time yet."""
    until = now - MINUTE
    rows = {row.name: row for row in JobSchedule.objects.all()}
    planned = JobRun.objects.exclude(slot__startswith=jobs.BY_HAND).filter(due_at__gt=now - REPORTED, due_at__lte=until)
    counts: dict[str, dict[str, int]] = {}
    open_since: dict[str, datetime.datetime] = {}
    grouped = planned.order_by().values_list("name", "state").annotate(count=Count("*"), first=Min("due_at"))
    for name, state, count, first in grouped:
        counts.setdefault(name, {})[state] = count
        if state in (RunState.QUEUED, RunState.RUNNING):
            open_since[name] = min(first, open_since.get(name, first))
    begun = JobRun.objects.exclude(started_at=None).order_by().values("name").annotate(last=Max("pk"))
    last = {run.name: run for run in JobRun.objects.filter(pk__in=begun.values("last")).defer("log")}
    found = []
    for schedule in wanted():
        if row := rows.get(schedule.name):
            is_short = isinstance(schedule.when, Every)  # a run in progress does the later slots' work too
            ended = open_since.get(schedule.name, until) if is_short else until
            found.append(_told(schedule, row, last.get(schedule.name), counts.get(schedule.name, {}), ended, now))
    return found


def _told(schedule: Schedule, row: JobSchedule, last, counts: dict[str, int], until, now) -> Told:
    when = schedule.as_set(row)
    upcoming = None if row.is_paused else next(when.slots(now, now + 8 * DAY), None)
    if isinstance(when, Every) and not row.is_paused:
        upcoming = next(when.slots(now, now + when.minutes * MINUTE), None)
    expected = when.count(max(row.since, now - REPORTED), until)
    ran = sum(count for state, count in counts.items() if state != RunState.MISSED)
    missed = 0 if row.is_paused else max(expected - ran, 0)
    return Told(
        schedule, row, when, upcoming and upcoming.at, last, expected,
        counts.get(RunState.DONE, 0), counts.get(RunState.FAILED, 0), max(missed, counts.get(RunState.MISSED, 0)),
    )  # fmt: skip


# Runs of short rhythms say little and are many.
KEPT_SHORT, KEPT = REPORTED + DAY, 400 * DAY
# The columns of other records that name a run, and stay without it.
_NAMING = [each.field for each in JobRun._meta.get_fields(include_hidden=True) if each.one_to_many]


def tidy(now: datetime.datetime) -> int:
    """Deletes ended runs that nobody will ask for any more; returns how many."""
    short = [each.name for each in SCHEDULES.values() if isinstance(each.when, Every)]
    ended = JobRun.objects.filter(state__in=[RunState.DONE, RunState.MISSED])
    gone = ended.filter(name__in=short, due_at__lt=now - KEPT_SHORT)._raw_delete(ended.db)
    Failure.objects.filter(stopped__lt=now - KEPT_SHORT)._raw_delete(ended.db)
    old = JobRun.objects.exclude(state__in=[RunState.QUEUED, RunState.RUNNING]).filter(due_at__lt=now - KEPT)
    for field in _NAMING:
        field.model.objects.filter(**{f"{field.name}__in": old}).update(**{field.name: None})
    return gone + old._raw_delete(ended.db)
