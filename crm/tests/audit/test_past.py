import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crm import models, workflow
from crm.audit import past, undo
from crm.audit.past import InTheFuture, NotAMoment, moment, versions
from crm.tests import factories

pytestmark = pytest.mark.django_db
PRAGUE = ZoneInfo("Europe/Prague")
NOW = datetime.datetime(2026, 3, 2, 12, tzinfo=PRAGUE)


def day(number: int, hour: int = 12) -> datetime.datetime:
    return datetime.datetime(2026, 3, number, hour, tzinfo=PRAGUE)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01T08:00", day(1, 8)),
        ("2026-03-01 08:00:30", day(1, 8).replace(second=30)),
        ("2026-03-01", day(1).replace(hour=23, minute=59, second=59, microsecond=999999)),
        ("2026-03-01T08:00+00:00", day(1, 9)),
        (" 2026-03-02 ", NOW),
        ("2025-03-30T02:30", datetime.datetime(2025, 3, 30, 1, 30, tzinfo=datetime.UTC)),
        ("2025-10-26T02:30", datetime.datetime(2025, 10, 26, 0, 30, tzinfo=datetime.UTC)),
    ],
)
def test_a_moment_is_read_in_the_offices_time(text, at):
    assert moment(text, NOW) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "2026-02-31",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "2026-03-01T25:00",
        "1" * 5000,
        "2026-03-01T08:00+99:99",
    ],
)
def test_nonsense_is_no_moment(text):
    with pytest.raises(NotAMoment):
        moment(text, NOW)


def test_the_future_is_refused():
    with pytest.raises(InTheFuture):
        moment("2026-03-02T12:01", NOW)


@pytest.fixture
def case(db):
    """Opened on the 1st, another amount on the 3rd and the 5th."""
    with time_machine.travel(day(1), tick=False):
        case = factories.make_case(factories.make_client("Alice Nováková"), loan_amount_czk=100)
    for number, amount in ((3, 300), (5, 500)):
        with time_machine.travel(day(number), tick=False):
            case.loan_amount_czk = amount
            case.save()
    return case


@pytest.mark.parametrize(("number", "amount"), [(1, 100), (2, 100), (3, 300), (4, 300), (5, 500), (9, 500)])
def test_the_version_of_a_moment_is_the_newest_until_then(case, number, amount):
    assert past.version(models.Case, case.pk, day(number)).loan_amount_czk == amount


def test_nothing_stood_before_the_beginning_nor_after_the_end(case):
    key = case.pk
    assert past.version(models.Case, key, day(1, 11)) is None
    with time_machine.travel(day(7), tick=False):
        case.delete()
    assert past.version(models.Case, key, day(8)) is None
    assert past.version(models.Case, key, day(6)).loan_amount_czk == 500
    assert past.first_seen(models.Case, key) == day(1)


def test_a_child_belongs_where_it_was_then(case):
    with time_machine.travel(day(1), tick=False):
        other, home = factories.make_case(case.client), models.Property.objects.create(case=case)
    with time_machine.travel(day(4), tick=False):
        home.case = other
        home.save()

    def homes(owner, number):
        return [row.id for row in versions(models.Property, day(number), case_id=owner.pk)]

    assert (homes(case, 3), homes(other, 3)) == ([home.pk], [])
    assert (homes(case, 5), homes(other, 5)) == ([], [home.pk])


def test_the_list_of_cases_has_what_stood_then_with_what_was_deleted_since(case, manager):
    with time_machine.travel(day(4), tick=False):
        gone = factories.make_case(factories.make_client("Bob"), loan_amount_czk=5)
    with time_machine.travel(day(6), tick=False):
        later = factories.make_case(factories.make_client("Charlie"))
        reference = gone.reference
        gone.delete()

    def listed(number, user=manager):
        return [(row.reference, row.loan_amount_czk) for row in past.cases(user, day(number)).rows]

    assert listed(3) == [(case.reference, 300)]
    assert listed(5) == [(reference, 5), (case.reference, 500)]
    assert [name for name, _amount in listed(7)] == [later.reference, case.reference]


def test_the_list_is_narrowed_by_what_held_then(case, manager, adviser):
    with time_machine.travel(day(2), tick=False):
        gone = factories.make_case(factories.make_client("Bob"), adviser=adviser)
    with time_machine.travel(day(4), tick=False):
        workflow.withdraw(case, by=manager, on=day(4).date(), reason="moved")
        reference = gone.reference
        gone.delete()

    def listed(number, **where):
        return [row.reference for row in past.cases(manager, day(number), where=where).rows]

    assert listed(3, status=["open"]) == [reference, case.reference]
    assert listed(3, status=["withdrawn"]) == []
    assert listed(5, status=["withdrawn"]) == [case.reference]
    assert listed(3, adviser_id=[str(adviser.pk)]) == [reference]
    assert listed(3, adviser_id=[str(adviser.pk)], status=["withdrawn"]) == []


def test_the_list_believes_the_history_not_the_stamp_of_the_record(case, manager):
    models.Case.objects.filter(pk=case.pk).update(created_at=day(20))
    assert past.cases(manager, day(2)).rows


def test_a_case_that_was_deleted_then_and_came_back_since_is_not_among_them(case, manager):
    with time_machine.travel(day(6), tick=False):
        key = case.pk
        case.delete()
    with time_machine.travel(day(8), tick=False):
        undo.restore(models.Case, key, manager)
    assert [len(past.cases(manager, day(number)).rows) for number in (5, 7, 9)] == [1, 0, 1]


def test_cases_that_came_and_went_later_do_not_hide_those_that_stood_then(monkeypatch, manager):
    monkeypatch.setattr(past, "PER_PAGE", 2)
    with time_machine.travel(day(1), tick=False):
        stood = factories.make_case(factories.make_client("Alice"))
    with time_machine.travel(day(4), tick=False):
        for _number in range(4):
            factories.make_case(stood.client).delete()
        reference = stood.reference
        stood.delete()
    assert [row.reference for row in past.cases(manager, day(3)).rows] == [reference]


def test_who_sees_his_own_cases_only_sees_their_past_only(settings, case, adviser):
    settings.ADVISER_SCOPE = "own"
    with time_machine.travel(day(4), tick=False):
        mine = factories.make_case(factories.make_client("Bob"), adviser=adviser)
        foreign = factories.make_case(factories.make_client("Charlie"))
    with time_machine.travel(day(6), tick=False):
        foreign.delete()
    assert [row.reference for row in past.cases(adviser, day(5)).rows] == [mine.reference]


def test_the_list_goes_on_page_by_page_at_the_same_cost(manager, monkeypatch):
    monkeypatch.setattr(past, "PER_PAGE", 5)
    manager.has_perm("crm.view_all_cases")
    client, made, counts = factories.make_client(), [], []
    for _ in range(2):
        made += [factories.make_case(client).reference for _ in range(6)]
        at = timezone.now()
        with CaptureQueriesContext(connection) as queries:
            past.cases(manager, at)
        counts.append(len(queries))
    assert counts[0] == counts[1]
    seen, before = [], ""
    while True:
        page = past.cases(manager, at, before=before)
        seen += [row.reference for row in page.rows]
        before = page.next_before
        if not before:
            break
    assert seen == sorted(made, reverse=True)
