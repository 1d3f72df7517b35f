import datetime

import pytest

from crm import outbox, radar, workflow
from crm.models import Client, MessageLog, Property
from crm.notifications import DAY as ONE
from crm.radar import What
from crm.tests import factories

pytestmark = pytest.mark.django_db
# A Wednesday.
DAY = datetime.date(2026, 4, 15)


@pytest.fixture
def anna(db):
    return factories.make_user(email="anna@example.com", language="en")


def told(day=DAY, since=None) -> dict[str, str]:
    return {message.recipient: message.body for message in radar.plan(day, since=since).messages}


@pytest.mark.parametrize(
    ("until", "is_told"),
    [("2027-04-15", True), ("2026-10-15", True), ("2026-08-15", True), ("2027-04-16", False), ("2026-09-15", False),
     ("2026-04-15", False)],
)  # fmt: skip
def test_the_end_of_a_fixation_is_told_a_year_half_a_year_and_four_months_before(anna, until, is_told):
    case = factories.make_case(adviser=anna, fixation_until=until)
    assert (case.reference in "".join(told(since=DAY - ONE).values())) is is_told


def test_the_last_days_of_long_months_are_told_once():
    days = [datetime.date(2026, 2, 1) + number * ONE for number in range(40)]
    told_on = [each for day in days for each in radar.told_of(What.FIXATION, day - ONE, day)]
    assert len(told_on) == len(set(told_on))
    assert datetime.date(2026, 8, 31) in radar.told_of(
        What.FIXATION, datetime.date(2026, 2, 27), datetime.date(2026, 2, 28)
    )


def test_documents_and_valuations_of_active_cases_are_told_and_a_fixation_outlives_its_case(anna, manager):
    open_case, declined = factories.make_case(adviser=anna), factories.make_case(adviser=anna)
    for case in (open_case, declined):
        Client.objects.filter(pk=case.client_id).update(id_document_valid_until="2026-05-15")
        Property.objects.create(case=case, valid_until="2026-06-15")
    workflow.reject(declined, by=manager, on=DAY, reason="no income")
    done = factories.make_case(adviser=anna, fixation_until="2026-08-15")
    for step in done.steps.all():
        workflow.mark_not_applicable(step, by=manager)
    [body] = told(since=DAY - ONE).values()
    assert body.count(open_case.reference) == 2 and declined.reference not in body and done.reference in body
    assert body.index("End of fixation") < body.index("Identity document") < body.index("Valuation")


def test_a_quiet_day_is_made_up_for_and_a_day_is_written_once(anna):
    factories.make_case(adviser=anna, fixation_until="2026-08-12")  # four months before it is a Sunday
    sunday, monday = datetime.date(2026, 4, 12), datetime.date(2026, 4, 13)
    assert told(sunday) == {}
    assert len(told(monday)) == 1
    assert [outbox.put(radar.plan(monday).messages) for _ in range(2)] == [1, 0]
    assert MessageLog.objects.count() == 1
