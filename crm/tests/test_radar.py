import datetime

import pytest

from crm import outbox, radar, roles, workflow
from crm.models import CaseParty, Client, MessageLog, Property
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


def test_documents_of_all_parties_to_an_active_case_are_told(anna, manager):
    case, declined = factories.make_case(adviser=anna), factories.make_case(adviser=anna)
    bob = factories.make_client("Bob Novák", id_document_valid_until="2026-05-15")
    for each in (case, declined):
        CaseParty.objects.create(case=each, client=bob)
    workflow.reject(declined, by=manager, on=DAY, reason="no income")
    [body] = told(since=DAY - ONE).values()
    assert "Identity document of another party" in body and body.count(case.reference) == 1
    assert declined.reference not in body and "Bob" not in body
    assert [each.what for each in radar.of_case(case)] == [What.PARTY_DOCUMENT]


@pytest.mark.parametrize(
    ("until", "is_told"), [("2026-09-01", True), ("2026-09-06", False), ("2026-05-02", True), ("2026-04-20", True),
                           ("2026-04-01", False)],
)  # fmt: skip
def test_what_was_written_down_too_late_for_its_day_is_told_on_the_first_working_day_of_a_month(anna, until, is_told):
    factories.make_case(adviser=anna, fixation_until=until)
    may = datetime.date(2026, 5, 4)  # the 1st is a holiday, and a Friday
    assert bool(told(may, since=may - 4 * ONE)) is is_told
    assert not told(may + ONE, since=may)


def test_managers_are_told_of_nobodys_cases_in_groups_of_their_own(anna):
    boss = factories.make_user(roles.MANAGER, email="boss@example.com", language="en")
    own = factories.make_case(adviser=boss, fixation_until="2027-04-15")
    left = factories.make_case(adviser=anna, fixation_until="2027-04-15")
    nobody = factories.make_case(adviser=None, fixation_until="2026-08-15")
    assert set(told(since=DAY - ONE)) == {"anna@example.com", "boss@example.com"}
    anna.is_active = False
    anna.save()
    [body] = told(since=DAY - ONE).values()
    mine, nobodys = body.split("End of fixation, of nobody's cases: the adviser has left")
    assert own.reference in mine and left.reference not in mine
    assert left.reference in nobodys and nobody.reference in nobodys


def test_a_quiet_day_is_made_up_for_and_a_day_is_written_once(anna):
    factories.make_case(adviser=anna, fixation_until="2026-08-12")  # four months before it is a Sunday
    sunday, monday = datetime.date(2026, 4, 12), datetime.date(2026, 4, 13)
    assert told(sunday) == {}
    assert len(told(monday)) == 1
    assert [outbox.put(radar.plan(monday).messages) for _ in range(2)] == [1, 0]
    factories.make_case(adviser=anna, fixation_until="2026-08-13")
    assert [outbox.put(radar.plan(monday).messages) for _ in range(2)] == [0, 0]
    assert MessageLog.objects.count() == 1
