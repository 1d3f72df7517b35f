"""Which backups go: both sides of each age, what never goes, and 400 days against a model that knows the rules only."""

import datetime
import random
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from crm.backups.retention import Candidate, to_remove

RULES = SimpleNamespace(BACKUP_NIGHTLY_DAYS=30, BACKUP_WEEKLY_WEEKS=13, BACKUP_KEEP_LEAST=7)
NOW = datetime.datetime(2026, 11, 21, 3, 0, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
PRAGUE = ZoneInfo("Europe/Prague")


def nightly(*days: float, is_good=True) -> list[Candidate]:
    return [Candidate(f"n{each}", "nightly", NOW - each * DAY, is_good) for each in days]


def gone(*backups: Candidate, now=NOW, rules=RULES) -> set:
    return to_remove(backups, now, settings=rules)


@pytest.mark.parametrize(
    ("kind", "age"),
    [
        ("hourly", 48 * HOUR),
        ("nightly", 30 * DAY),
        ("weekly", 91 * DAY),
        ("before-migrate", 30 * DAY),
        ("by-hand", 30 * DAY),
        ("safety", 30 * DAY),
    ],
)
def test_each_kind_goes_when_it_is_too_old_and_not_before(kind, age):
    just, over = Candidate("just", kind, NOW - age, True), Candidate("over", kind, NOW - age - HOUR, True)

    assert gone(*nightly(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, *range(1, 7)), just, over) == {"over"}


def test_the_office_says_how_long_and_how_many():
    rules = SimpleNamespace(BACKUP_NIGHTLY_DAYS=2, BACKUP_WEEKLY_WEEKS=1, BACKUP_KEEP_LEAST=2)
    weekly = Candidate("w8", "weekly", NOW - 8 * DAY, True)

    assert gone(*nightly(0, 1, 2, 3, 4), weekly, rules=rules) == {"n3", "n4", "w8"}


def test_the_first_night_of_a_week_stays_as_long_as_a_night_does():
    rules = SimpleNamespace(BACKUP_NIGHTLY_DAYS=120, BACKUP_WEEKLY_WEEKS=13, BACKUP_KEEP_LEAST=7)
    weekly = [Candidate(f"w{each}", "weekly", NOW - each * DAY, True) for each in (92, 120, 121)]

    assert gone(*nightly(*range(7), 30, 60, 90), *weekly, rules=rules) == {"w121"}


def test_the_newest_seven_good_ones_stay_however_old():
    old = nightly(*range(31, 51))
    bad = Candidate("bad", "nightly", NOW - 32.5 * DAY, False)

    assert gone(*nightly(0), bad, *old) == {"bad", *(each.name for each in old[6:])}


def test_a_night_whose_clock_is_a_year_ahead_takes_nothing_away():
    weekly = [Candidate(f"w{each}", "weekly", NOW - 7 * each * DAY, True) for each in range(5, 13)]
    ahead = Candidate("ahead", "nightly", NOW + 365 * DAY, True)

    assert gone(*nightly(*range(30)), *weekly, ahead, now=ahead.at) == set()


def test_a_day_of_hours_whose_clock_is_a_year_ahead_takes_nothing_away():
    hourly = [Candidate(f"h{each}", "hourly", NOW - each * HOUR, True) for each in range(1, 48)]
    ahead = [Candidate(f"a{each}", "hourly", NOW + 365 * DAY + each * HOUR, True) for each in range(20)]

    assert gone(*nightly(*range(30)), *hourly, *ahead, now=ahead[-1].at) == set()


@pytest.mark.parametrize(("made_anew", "count"), [(6, 0), (7, 20)])
def test_after_a_long_silence_nothing_goes_until_seven_days_have_one_anew(made_anew, count):
    days = range(made_anew)

    assert len(gone(*nightly(*days, *(each + 0.1 for each in days)), *nightly(*range(100, 120)))) == count


def test_nothing_goes_while_the_newest_is_not_good():
    assert gone(*nightly(0, is_good=False), *nightly(*range(1, 90))) == set()


def test_the_last_one_that_was_restored_stays_with_the_seven():
    old = Candidate("restored", "nightly", NOW - 200 * DAY, True, is_restored=True)

    assert gone(*nightly(*range(10)), old) == set()


def test_one_that_was_restored_before_the_last_such_goes():
    old = Candidate("restored", "nightly", NOW - 200 * DAY, True, is_restored=True)
    newer = Candidate("newer", "nightly", NOW - DAY / 2, True, is_restored=True)

    assert gone(*nightly(*range(10)), old, newer) == {"restored"}


def test_where_no_backup_is_made_any_more_none_goes():
    last = nightly(*range(29))

    assert gone(*last, now=NOW + 500 * DAY) == set()


def test_of_the_time_to_come_nothing_goes_and_it_is_not_the_newest():
    ahead = [Candidate(f"a{each}", "hourly", NOW + each * DAY, is_good=False) for each in range(1, 400)]

    assert gone(*ahead, *nightly(*range(31), 31)) == {"n31"}


def test_a_kind_that_is_not_known_stays():
    assert gone(*nightly(*range(10)), Candidate("other", "yearly", NOW - 900 * DAY, True)) == set()


def test_of_none_none_goes():
    assert gone() == set()


# --- 400 days against a model ---


def may_go(one: Candidate, all_of_them: list[Candidate], now, rules) -> bool:
    """The rules of the office, one after another, for one backup; slow on purpose."""

    def seconds(moment):
        return moment.timestamp()

    if seconds(one.at) > seconds(now):
        return False
    known = [each for each in all_of_them if seconds(each.at) <= seconds(now)]
    last = known[0]
    for each in known:
        if seconds(each.at) > seconds(last.at):
            last = each
    if not last.is_good:
        return False
    newest_of_day: dict[int, float] = {}
    for each in known:
        day = int(seconds(each.at) // 86_400)
        newest_of_day[day] = max(seconds(each.at), newest_of_day.get(day, 0))
    moments = sorted(newest_of_day.values(), reverse=True)
    in_a_row = 1
    while in_a_row < len(moments) and moments[in_a_row - 1] - moments[in_a_row] <= 31 * 86_400:
        in_a_row += 1
    if in_a_row < min(rules.BACKUP_KEEP_LEAST, len(moments)):
        return False
    nights = rules.BACKUP_NIGHTLY_DAYS
    days = {"hourly": 2, "nightly": nights, "weekly": max(nights, rules.BACKUP_WEEKLY_WEEKS * 7)}.get(one.kind, 30)
    if seconds(last.at) - seconds(one.at) <= days * 86_400:
        return False
    if not one.is_good:
        return True
    newer = [each for each in known if each.is_good and seconds(each.at) > seconds(one.at)]
    if len(newer) < rules.BACKUP_KEEP_LEAST:
        return False
    return not (one.is_restored and not any(each.is_restored for each in newer))


@pytest.mark.parametrize("seed", range(5))
def test_400_days_go_as_the_model_says(seed):
    """Nights of both changes of the clock, failures, weeks without any, restored ones or none for long, clocks that jump."""
    draw = random.Random(seed)
    rules = SimpleNamespace(
        BACKUP_NIGHTLY_DAYS=draw.choice([30, 95, 3]),
        BACKUP_WEEKLY_WEEKS=13,
        BACKUP_KEEP_LEAST=draw.choice([7, 7, 2, 12]),
    )
    first = datetime.datetime(2026, 3, 1, 2, 30, tzinfo=PRAGUE)
    shelf: list[Candidate] = []
    silent_until = removed = 0
    for day in range(400):
        local = (first + datetime.timedelta(days=day)).astimezone(datetime.UTC)
        wrong = (
            datetime.timedelta(days=draw.choice([-40, -2, 0.1, 3, 60]))
            if draw.random() < 0.02
            else datetime.timedelta()
        )
        local += wrong + datetime.timedelta(microseconds=day)
        if draw.random() < 0.02:
            silent_until = day + draw.randrange(1, 40)
        made = ["hourly"] * draw.randrange(5) + [draw.choice(["before-migrate", "by-hand", "safety"])] * (
            draw.random() < 0.1
        )
        made += ["weekly"] * (local.weekday() == 6) + ["nightly"]
        if day < silent_until:
            made = []
        for number, kind in enumerate(made):
            is_good = draw.random() < 0.93
            is_restored = is_good and day % 100 < 60 and draw.random() < 0.8
            at = local + (number - len(made)) * datetime.timedelta(minutes=41)
            shelf.append(Candidate((day, number), kind, at, is_good, is_restored))
        draw.shuffle(shelf)
        now = local + datetime.timedelta(minutes=draw.randrange(30))

        going = to_remove(shelf, now, settings=rules)

        assert going == {each.name for each in shelf if may_go(each, shelf, now, rules)}, day
        shelf = [each for each in shelf if each.name not in going]
        removed += len(going)
    assert removed > 500
