import dataclasses
import datetime
import threading
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.db import connection

from crm import jobs, schedules, tasks
from crm.choices import RunState
from crm.models import AuditCheck, AuditSeal, JobRun, JobSchedule
from crm.schedules import DAY, HOUR, MINUTE, Clock, Every, Schedule
from crm.tests.audit.sealed import KEY, make_past

pytestmark = pytest.mark.django_db
PRAGUE = ZoneInfo("Europe/Prague")
EIGHT = Clock(datetime.time(8))


def at(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=PRAGUE)


@pytest.fixture
def daily(monkeypatch):
    """The only schedule, since the 2nd of March at 07:00."""
    daily = Schedule("tidy_jobs", "Tidy", EIGHT, DAY)
    monkeypatch.setattr(schedules, "SCHEDULES", {daily.name: daily})
    JobSchedule.objects.create(name=daily.name, since=at(2026, 3, 2, 6))
    return daily


def runs() -> list[tuple[str, str]]:
    return list(JobRun.objects.order_by("slot").values_list("slot", "state"))


# --- The calendar ---


def test_two_years_have_each_day_once_at_the_wall_clocks_time_and_each_monday():
    begin, end = at(2025, 1, 1), at(2027, 1, 1)
    days = list(EIGHT.slots(begin, end))
    assert len({slot.key for slot in days}) == 730
    assert {slot.at.astimezone(PRAGUE).time() for slot in days} == {datetime.time(8)}
    mondays = list(Clock(datetime.time(9), weekday=1).slots(begin, end))
    assert len(mondays) == 104 and {slot.at.astimezone(PRAGUE).isoweekday() for slot in mondays} == {1}


@pytest.mark.parametrize(
    ("day", "hour"), [((2026, 3, 29), 3), ((2026, 10, 25), 2)], ids=["a time that the day skips", "one it has twice"]
)
def test_a_night_when_the_clock_changes_has_one_slot(day, hour):
    found = list(Clock(datetime.time(2, 30)).slots(at(*day), at(*day) + DAY))
    assert [slot.at.astimezone(PRAGUE).hour for slot in found] == [hour]
    assert len({slot.key for slot in found}) == 1


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25)], ids=["a short day", "a long one"]
)
def test_a_night_when_the_clock_changes_has_one_backup_and_each_hour_has_one(settings, monkeypatch, day, hours):
    """As a worker's beats ask: at the minute, and once again."""
    settings.BACKUP_EVERY = 1
    names = ("nightly_backup", "hourly_backup")
    when = dataclasses.replace(schedules.SCHEDULES["hourly_backup"], when=Every(60))
    monkeypatch.setattr(
        schedules, "SCHEDULES", {"hourly_backup": when, "nightly_backup": schedules.SCHEDULES["nightly_backup"]}
    )
    begin = at(*day).astimezone(datetime.UTC)
    for name in names:
        JobSchedule.objects.create(name=name, since=begin - datetime.timedelta(seconds=1))
    for minutes in range(0, hours * 60, 10):
        now = begin + datetime.timedelta(minutes=minutes)
        for _ in range(2):
            schedules.tick(now)
            JobRun.objects.update(state=RunState.DONE)
    slots = {name: list(JobRun.objects.filter(name=name).values_list("slot", flat=True)) for name in names}
    assert slots["nightly_backup"] == [f"{at(*day):%Y-%m-%d}"]
    assert len(slots["hourly_backup"]) == len(set(slots["hourly_backup"])) == hours
    [night] = JobRun.objects.filter(name="nightly_backup")
    assert night.due_at.astimezone(PRAGUE).hour == (3 if hours == 23 else 2)


def test_a_slot_belongs_to_the_stretch_that_ends_with_it():
    moment = at(2026, 3, 2, 8)
    assert [slot.key for slot in EIGHT.slots(moment - HOUR, moment)] == ["2026-03-02"]
    assert list(EIGHT.slots(moment, moment + HOUR)) == []


def test_of_a_short_rhythm_only_the_newest_slot_counts():
    found = list(Every(15).slots(at(2026, 3, 2, 8), at(2026, 3, 2, 9, 20)))
    assert [slot.at for slot in found] == [at(2026, 3, 2, 9, 15)]
    assert Every(15).count(at(2026, 3, 2, 8), at(2026, 3, 2, 9, 20)) == 5


# --- The tick ---


def test_a_due_slot_is_put_into_the_queue_once(daily):
    assert schedules.tick(at(2026, 3, 2, 7, 59)) == []
    [run] = schedules.tick(at(2026, 3, 2, 8))
    assert (run.slot, run.due_at, run.state) == ("2026-03-02", at(2026, 3, 2, 8), RunState.QUEUED)
    assert schedules.tick(at(2026, 3, 2, 8, 1)) == []


def test_of_the_days_of_an_outage_the_last_is_run_and_the_others_are_told_as_missed(daily):
    schedules.tick(at(2026, 3, 2, 8))
    [run] = schedules.tick(at(2026, 3, 6, 10))
    assert run.slot == "2026-03-06"
    assert runs() == [
        ("2026-03-02", "missed"),
        ("2026-03-03", "missed"),
        ("2026-03-04", "missed"),
        ("2026-03-05", "missed"),
        ("2026-03-06", "queued"),
    ]


def test_what_comes_later_than_its_grace_is_missed(daily, monkeypatch):
    monkeypatch.setitem(schedules.SCHEDULES, daily.name, Schedule(daily.name, "Tidy", EIGHT, HOUR))
    assert schedules.tick(at(2026, 3, 2, 9, 1)) == []
    assert runs() == [("2026-03-02", "missed")]


def test_what_waited_longer_than_its_grace_is_missed_when_it_is_knocked_for_before_the_tick(daily, monkeypatch):
    monkeypatch.setitem(schedules.SCHEDULES, daily.name, Schedule(daily.name, "Tidy", EIGHT, HOUR))
    [run] = schedules.tick(at(2026, 3, 2, 8))
    with time_machine.travel(at(2026, 3, 2, 8, 59), tick=False):
        schedules.miss_late(at(2026, 3, 2, 8, 59), pk=run.pk)
        assert runs() == [("2026-03-02", "queued")]
    with time_machine.travel(at(2026, 3, 2, 9, 1), tick=False):
        tasks.run_job(run.pk)
    assert runs() == [("2026-03-02", "missed")]


def test_what_waited_until_its_next_slot_is_missed_however_long_its_grace(daily, monkeypatch):
    monkeypatch.setitem(schedules.SCHEDULES, daily.name, Schedule(daily.name, "Tidy", EIGHT, 2 * DAY))
    [run] = schedules.tick(at(2026, 3, 2, 8))
    schedules.miss_late(at(2026, 3, 3, 7, 59), pk=run.pk)
    assert runs() == [("2026-03-02", "queued")]
    schedules.miss_late(at(2026, 3, 3, 8), pk=run.pk)
    assert runs() == [("2026-03-02", "missed")]


def test_a_later_time_does_not_make_the_day_that_waits_a_missed_one(daily):
    schedules.tick(at(2026, 3, 2, 8))
    JobSchedule.objects.update(at=datetime.time(10))
    schedules.tick(at(2026, 3, 2, 9))
    assert runs() == [("2026-03-02", "queued")]


def test_a_missed_day_that_somebody_asks_for_again_is_not_missed_again(daily, manager):
    schedules.tick(at(2026, 3, 3, 10))
    schedules.retry(JobRun.objects.get(slot="2026-03-02"), by=manager)
    schedules.tick(at(2026, 3, 3, 10, 1))
    assert runs() == [("2026-03-02", "queued"), ("2026-03-03", "queued")]


def test_what_belongs_to_its_day_is_not_tried_again_on_another(manager):
    run = JobRun.objects.create(name="send_deadlines", slot="2026-03-02", state="failed", due_at=at(2026, 3, 2, 8))
    with time_machine.travel(at(2026, 3, 3, 0, 1), tick=False), pytest.raises(schedules.DayIsOver):
        schedules.retry(run, by=manager)
    with time_machine.travel(at(2026, 3, 2, 23, 59), tick=False):
        schedules.retry(run, by=manager)
    assert runs() == [("2026-03-02", "queued")]


@pytest.mark.parametrize(
    ("slot", "day"),
    [("2026-W01", datetime.date(2025, 12, 29)), ("2026-03-02", datetime.date(2026, 3, 2)), ("2026-03-02T08:00Z", None),
     (f"{jobs.BY_HAND} 2026-03-02", None)],
)  # fmt: skip
def test_a_slot_knows_its_day(slot, day):
    assert schedules.day_of(slot) == day


def test_a_pause_leaves_nothing_to_catch_up(daily):
    row = JobSchedule.objects.get()
    row.is_paused = True
    row.save()
    assert schedules.tick(at(2026, 3, 4, 9)) == []
    with time_machine.travel(at(2026, 3, 4, 9), tick=False):
        row.is_paused = False
        row.save()
    assert schedules.tick(at(2026, 3, 4, 10)) == []
    assert [run.slot for run in schedules.tick(at(2026, 3, 5, 8))] == ["2026-03-05"]
    assert len(runs()) == 1


def test_an_earlier_time_does_not_run_the_day_again(daily):
    schedules.tick(at(2026, 3, 2, 8))
    with time_machine.travel(at(2026, 3, 2, 12), tick=False):
        row = JobSchedule.objects.get()
        row.at = datetime.time(7)
        row.save()
    assert schedules.tick(at(2026, 3, 2, 13)) == []
    assert [run.slot for run in schedules.tick(at(2026, 3, 3, 7))] == ["2026-03-03"]


def test_a_time_that_is_moved_neither_loses_the_day_nor_runs_it_twice(daily):
    row = JobSchedule.objects.get()
    with time_machine.travel(at(2026, 3, 2, 7, 30), tick=False):
        row.at = datetime.time(7)  # has passed today
        row.save()
    assert [run.slot for run in schedules.tick(at(2026, 3, 2, 7, 31))] == ["2026-03-02"]
    with time_machine.travel(at(2026, 3, 2, 7, 40), tick=False):
        row.at = datetime.time(9)
        row.save()
    assert schedules.tick(at(2026, 3, 2, 9)) == []


def test_a_short_rhythm_waits_for_its_run_that_waits(monkeypatch):
    often = Schedule("often", "Often", Every(1), HOUR)
    monkeypatch.setattr(schedules, "SCHEDULES", {"often": often})
    JobSchedule.objects.create(name="often", since=at(2026, 3, 2, 7))
    for minute in range(5):
        schedules.tick(at(2026, 3, 2, 8, minute))
    assert len(runs()) == 1


def test_a_short_rhythm_waits_for_its_run_that_runs(monkeypatch):
    """A slow mail server would otherwise hold both workers of the quick queue."""
    often = Schedule("often", "Often", Every(1), HOUR)
    monkeypatch.setattr(schedules, "SCHEDULES", {"often": often})
    JobSchedule.objects.create(name="often", since=at(2026, 3, 2, 6))
    schedules.tick(at(2026, 3, 2, 8))
    JobRun.objects.update(state=RunState.RUNNING)
    assert schedules.tick(at(2026, 3, 2, 8, 1)) == []
    JobRun.objects.update(state=RunState.DONE)
    assert len(schedules.tick(at(2026, 3, 2, 8, 1))) == 1


@pytest.mark.parametrize("left", [RunState.DONE, RunState.QUEUED])
def test_a_clock_that_is_put_back_stops_no_short_rhythm(monkeypatch, left):
    often = Schedule("often", "Often", Every(1), HOUR)
    monkeypatch.setattr(schedules, "SCHEDULES", {"often": often})
    JobSchedule.objects.create(name="often", since=at(2026, 3, 2, 6))
    for minute in range(60):
        schedules.tick(at(2026, 3, 2, 8, minute))
        JobRun.objects.update(state=RunState.DONE)
    JobRun.objects.filter(due_at=at(2026, 3, 2, 8, 59)).update(state=left)
    made = []
    for minute in range(90):
        now = at(2026, 3, 2, 8) + minute * schedules.MINUTE
        made += schedules.tick(now)
        JobRun.objects.filter(due_at__lte=now).update(state=RunState.DONE)
    assert len(made) >= 80 and len({run.slot for run in made}) == len(made)


def test_a_bad_schedule_stops_no_other(daily, monkeypatch):
    class Broken(Clock):
        def slots(self, after, until):
            raise ValueError

    monkeypatch.setitem(schedules.SCHEDULES, "broken", Schedule("broken", "x", Broken(datetime.time(8)), DAY))
    monkeypatch.setattr(schedules, "SCHEDULES", dict(reversed(schedules.SCHEDULES.items())))
    JobSchedule.objects.create(name="broken", since=at(2026, 3, 2, 7))
    assert [run.name for run in schedules.tick(at(2026, 3, 2, 8))] == [daily.name]


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_that_tick_at_once_one_gets_each_slot(daily):
    barrier = threading.Barrier(2)

    def tick():
        barrier.wait()
        schedules.tick(at(2026, 3, 2, 8))
        connection.close()

    threads = [threading.Thread(target=tick) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs()) == 1


# --- The table ---


def names() -> list[str]:
    return sorted(JobSchedule.objects.values_list("name", flat=True))


def test_a_release_makes_what_is_missing_and_leaves_what_the_office_set(settings):
    settings.AUDIT_KEYS, settings.BACKUP_EVERY = [KEY], 1
    schedules.sync()
    JobSchedule.objects.filter(name="verify_audit").update(at=datetime.time(6))
    schedules.sync()
    assert names() == sorted(schedules.SCHEDULES)
    assert JobSchedule.objects.get(name="verify_audit").at == datetime.time(6)
    assert schedules.SCHEDULES["verify_audit"].as_set(JobSchedule.objects.get(name="verify_audit")).at.hour == 6


def test_without_a_key_nothing_is_sealed(settings):
    settings.AUDIT_KEYS = []
    schedules.sync()
    assert not {"seal_audit", "verify_audit"} & set(names())


def test_every_schedule_is_a_job():
    assert set(schedules.SCHEDULES) <= set(tasks.JOBS)


def test_the_report_counts_what_the_calendar_expected(daily):
    schedules.tick(at(2026, 3, 2, 8))
    jobs.carry_out(JobRun.objects.get().pk, {daily.name: lambda progress: None})
    schedules.tick(at(2026, 3, 4, 9))
    [told] = schedules.report(at(2026, 3, 6, 9))
    assert (told.expected, told.done, told.failed, told.missed) == (5, 1, 0, 3)
    assert told.next_at == at(2026, 3, 7, 8)


def test_the_report_misses_nothing_of_a_worker_that_is_well(monkeypatch):
    often = Schedule("often", "Often", Every(1), 5 * MINUTE)
    monkeypatch.setattr(schedules, "SCHEDULES", {often.name: often})
    eight = at(2026, 3, 2, 8)
    JobSchedule.objects.create(name=often.name, since=eight)
    run = JobRun.objects.create(name="often", slot="1", due_at=eight + MINUTE, state=RunState.DONE)
    few = datetime.timedelta(seconds=4)
    [told] = schedules.report(eight + 2 * MINUTE + few)
    assert (told.expected, told.done, told.missed) == (1, 1, 0)
    [told] = schedules.report(eight + 5 * MINUTE + few)
    assert told.missed == 3
    JobRun.objects.filter(pk=run.pk).update(state=RunState.RUNNING)
    [told] = schedules.report(eight + 5 * MINUTE + few)
    assert told.missed == 0


def test_old_runs_of_short_rhythms_go_first(monkeypatch):
    now = at(2026, 3, 10, 8)
    monkeypatch.setitem(schedules.SCHEDULES, "often", Schedule("often", "x", Every(1), HOUR))
    for name, days, state in (
        ("often", 9, "done"), ("often", 7, "done"), ("often", 9, "failed"), ("tidy_jobs", 9, "done"),
        ("tidy_jobs", 500, "failed"), ("tidy_jobs", 500, "queued"),
    ):  # fmt: skip
        JobRun.objects.create(name=name, slot=f"{days} {state}", due_at=now - days * DAY, state=state)
    assert schedules.tidy(now) == 2
    assert {(run.name, run.slot) for run in JobRun.objects.all()} == {
        ("often", "7 done"), ("often", "9 failed"), ("tidy_jobs", "9 done"), ("tidy_jobs", "500 queued"),
    }  # fmt: skip


NAMING = [each.field for each in JobRun._meta.get_fields(include_hidden=True) if each.one_to_many]


@pytest.mark.parametrize("field", NAMING, ids=str)
def test_an_old_run_goes_though_a_record_names_it(db, field):
    now = at(2026, 3, 10, 8)
    run = JobRun.objects.create(name="write_import", slot="1", due_at=now - 401 * DAY, state=RunState.DONE)
    record = field.model.objects.create(**{field.name: run})
    assert schedules.tidy(now) == 1
    connection.check_constraints()
    assert getattr(field.model.objects.get(pk=record.pk), field.attname) is None


# --- The jobs ---


def test_the_jobs_do_it(settings):
    settings.AUDIT_KEYS = [KEY]
    make_past()
    for name in ("seal_audit", "verify_audit", "tidy_jobs"):
        tasks.run_job(jobs.enqueue(name).pk)
    assert [run.state for run in JobRun.objects.all()] == [RunState.DONE] * 3
    assert JobRun.objects.get(name="seal_audit").counts["seals"] == 1
    assert (AuditSeal.objects.count(), AuditCheck.objects.get().is_whole) == (1, True)


# --- The night of the backups ---


@pytest.mark.parametrize(
    "day",
    [(2026, 3, 28), (2026, 10, 24), (2026, 11, 20)],
    ids=["02:00 is skipped", "02:00 comes twice", "another night"],
)
def test_each_night_has_one_backup(monkeypatch, settings, day):
    """Asked every quarter of an hour, for three days."""
    nightly = schedules.SCHEDULES["nightly_backup"]
    monkeypatch.setattr(schedules, "SCHEDULES", {nightly.name: nightly})
    begin = at(*day, 12)
    JobSchedule.objects.create(name=nightly.name, since=begin)
    for minute in range(0, 3 * 24 * 60, 15):
        now = begin.astimezone(datetime.UTC) + minute * MINUTE
        for run in schedules.tick(now):
            JobRun.objects.filter(pk=run.pk).update(state=RunState.DONE, finished_at=now)
    days = [(begin.date() + number * DAY).isoformat() for number in (1, 2, 3)]
    assert runs() == [(day, "done") for day in days]
    hours = [run.due_at.astimezone(PRAGUE).hour for run in JobRun.objects.order_by("slot")]
    assert hours == [3 if day == "2026-03-29" else 2 for day in days]


def test_a_night_that_was_slept_through_is_made_up_for_by_day_and_never_twice(monkeypatch):
    nightly = schedules.SCHEDULES["nightly_backup"]
    monkeypatch.setattr(schedules, "SCHEDULES", {nightly.name: nightly})
    JobSchedule.objects.create(name=nightly.name, since=at(2026, 3, 2, 12))
    [run] = schedules.tick(at(2026, 3, 5, 11))
    assert run.slot == "2026-03-05"
    assert schedules.tick(at(2026, 3, 5, 12)) == []
    assert runs() == [("2026-03-03", "missed"), ("2026-03-04", "missed"), ("2026-03-05", "queued")]


def test_without_a_key_no_backup_is_planned(settings):
    names = {"nightly_backup", "hourly_backup"}
    settings.BACKUP_EVERY = 6
    assert names <= {each.name for each in schedules.wanted()}
    settings.BACKUP_EVERY = 0
    assert {each.name for each in schedules.wanted()} & names == {"nightly_backup"}
    settings.BACKUP_KEYS = []
    assert not {each.name for each in schedules.wanted()} & names
