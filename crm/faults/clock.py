"""The wall clock: two years with both changes of it each, and a worker that was away for four days. The clock is injected;
nothing else is."""

import datetime

import time_machine
from django.conf import settings
from django.utils import timezone
from django_q.models import OrmQ

from crm import jobs, schedules, tasks
from crm.choices import RunState
from crm.faults.desk import Desk, Found
from crm.models import JobRun, JobSchedule

DAY, HOUR = datetime.timedelta(days=1), datetime.timedelta(hours=1)
YEARS = 730 * DAY
# Sundays.
CHANGES = (datetime.date(2026, 3, 29), datetime.date(2026, 10, 25), datetime.date(2027, 3, 28))
# A beat's moments around the hours that count, and some between: whoever looks asks them all.
LOOKS = ((0, 0), (2, 30), (7, 59), (8, 0), (8, 1), (8, 59), (9, 0), (9, 1), (12, 0), (23, 59))
DAYS_DOWN = 4


def two_years(desk: Desk, rounds: int) -> Found:
    """The reminders of every day and the report of every Monday; in a suite the days around one change of the clock."""
    lost = doubled = 0
    told = []
    for number in range(rounds):
        begin = datetime.date(2025 + 2 * number, 1, 1)
        until = begin + YEARS
        if not desk.is_whole:
            begin = CHANGES[number % len(CHANGES)] - DAY
            until = begin + 3 * DAY
        days = [begin + n * DAY for n in range((until - begin).days)]
        mondays = [day for day in days if day.isoweekday() == 1]
        ran = _live(days)
        for name, expected, hour in (("send_deadlines", days, 8), ("send_weekly_report", mondays, 9)):
            found = [each for each in ran if each[0] == name]
            on_time = [at.date() for _name, at in found if (at.hour, at.minute) == (hour, 0)]
            lost += len(set(expected) - set(on_time))
            doubled += len(found) - len(set(on_time))
            told.append(f"{len(found)} at {hour:02}:00")
    return Found(rounds, lost, doubled, said=", ".join(dict.fromkeys(told)))


def _live(days: list[datetime.date]) -> list[tuple[str, datetime.datetime]]:
    """What ran, and when by the clock on the wall."""
    ran = []
    works = {
        name: lambda progress: ran.append((progress.run.name, timezone.localtime())) for name in schedules.SCHEDULES
    }
    _forget(since=_local(days[0], 0, 0))
    for day in days:
        for hour, minute in LOOKS:
            with time_machine.travel(_local(day, hour, minute), tick=False):
                _beat(works)
    return ran


def days_down(desk: Desk, rounds: int) -> Found:
    """All jobs as they are; the worker comes back in the morning, in every round another time of the year."""
    lost = doubled = missed = 0
    for number in range(rounds):
        day = datetime.date(2026, 1, 5) + number * 17 * DAY
        _forget(since=_local(day, 0, 0))
        with time_machine.travel(_local(day, 10, number % 60)):
            _beat(tasks.JOBS)
        back = _local(day + (DAYS_DOWN + 1) * DAY, 10, number % 60)
        with time_machine.travel(back):
            _beat(tasks.JOBS)
            _beat(tasks.JOBS)
        for schedule in schedules.wanted():
            if isinstance(schedule.when, schedules.Clock) and not schedule.when.weekday:
                runs = JobRun.objects.filter(name=schedule.name, due_at__gt=_local(day + DAY, 0, 0))
                ended = runs.filter(state=RunState.DONE).count()
                lost += ended == 0
                doubled += max(ended - 1, 0)
                missed += runs.filter(state=RunState.MISSED).count()
                lost += runs.filter(state=RunState.MISSED).count() != DAYS_DOWN
    return Found(rounds, lost, doubled, said=f"{missed} slots written down as missed")


def _beat(works) -> None:
    """What a worker does at a beat, and the runs that wait then."""
    schedules.tick(timezone.now())
    for run in JobRun.objects.waiting().order_by("due_at"):
        jobs.carry_out(run.pk, works)
    OrmQ.objects.all().delete()  # nobody knocks for them any more, least of all in a year to come


def _forget(since: datetime.datetime) -> None:
    schedules.sync()
    JobRun.objects.all().delete()
    JobSchedule.objects.update(since=since)


def _local(day: datetime.date, hour: int, minute: int) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(hour, minute), schedules.ZoneInfo(settings.TIME_ZONE))
