import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crm import due, jobs, notifications, outbox, roles, tasks, workflow
from crm.models import Case, CaseStep, Client, Consent, JobRun, MessageLog, MessageText, Step
from crm.tests import factories

pytestmark = pytest.mark.django_db
# A Wednesday; the Monday after Easter was the 6th.
DAY = datetime.date(2026, 4, 15)
MONDAY = datetime.date(2026, 4, 13)
PRAGUE = ZoneInfo("Europe/Prague")


def days(number: int) -> datetime.date:
    return DAY + datetime.timedelta(days=number)


@pytest.fixture
def anna(db):
    return factories.make_user(first_name="Anna", email="anna@example.com", language="en")


def make_case(adviser=None, deadline=None, *, email="", **fields):
    """With one deadline, of its first step."""
    case = factories.make_case(factories.make_client("Alice Nováková", email=email), adviser=adviser, **fields)
    case.steps.update(deadline=None)
    if deadline:
        CaseStep.objects.filter(pk=case.steps.first().pk).update(deadline=deadline)
        workflow.resettle(Case.objects.filter(pk=case.pk))
    return case


def told(day=DAY, **kwargs) -> dict[str, str]:
    return {message.recipient: message.body for message in notifications.plan(day, **kwargs).messages}


@pytest.mark.parametrize(
    ("distance", "is_told"),
    [(4, False), (3, True), (2, False), (1, True), (0, True), (-1, False), (-6, False), (-7, True), (-14, True),
     (-21, True), (-28, True), (-35, False)],
)  # fmt: skip
def test_a_step_is_told_before_on_and_some_times_after_its_deadline(anna, distance, is_told):
    make_case(anna, days(distance))
    assert bool(told(since=days(-1))) is is_told


def test_one_mail_an_adviser_names_every_step_with_its_case_and_its_link(anna, settings):
    first, second = make_case(anna, days(-7)), make_case(anna, days(0))
    steps = list(second.steps.all())
    CaseStep.objects.filter(pk=steps[1].pk).update(deadline=days(3))
    [message] = notifications.plan(DAY).messages
    assert (message.recipient, message.user, message.language) == ("anna@example.com", anna, "en")
    assert message.subject.endswith("3 deadlines, 1 overdue")
    body = message.body
    assert body.index("Overdue") < body.index(first.reference) < body.index("Today") < body.index(second.reference)
    assert "In the next days" in body and "2. Financing proposal" in body
    assert f"https://testserver/admin/crm/case/{first.pk}/change/" in body
    assert "Alice" not in message.subject + body and "Nováková" not in body


def test_each_gets_his_own_and_what_he_stands_in_for_while_the_adviser_is_absent(anna):
    bob = factories.make_user(email="bob@example.com", language="en")
    case = make_case(anna, DAY, stand_in=bob)
    assert set(told()) == {"anna@example.com"}
    anna.absent_from, anna.absent_until = days(-1), days(0)
    anna.save()
    assert set(told()) == {"anna@example.com", "bob@example.com"}
    assert case.reference in told()["bob@example.com"]
    assert set(told(days(7))) == {"anna@example.com"}


def test_two_who_share_an_address_get_one_each_and_nobody_stands_in_for_himself(anna):
    bob = factories.make_user(email=anna.email, language="en")
    make_case(anna, DAY, stand_in=anna)
    make_case(bob, DAY)
    anna.absent_from = anna.absent_until = DAY
    anna.save()
    assert outbox.put(notifications.plan(DAY).messages) == 2
    assert {message.subject.split(": ")[1] for message in MessageLog.objects.all()} == {"1 deadline"}


def test_a_second_run_of_a_day_writes_nobody_a_second_mail(anna, manager):
    case = make_case(anna, DAY, email="alice@example.com")
    first, second = case.steps.all()[:2]
    CaseStep.objects.filter(pk=second.pk).update(deadline=DAY)
    Step.objects.update(tell_client=True)
    assert outbox.put(notifications.plan(DAY).messages) == 2
    workflow.complete_step(first, by=manager, on=DAY)
    make_case(anna, DAY)
    assert len(told()) == 2 and outbox.put(notifications.plan(DAY).messages) == 0


def test_of_active_cases_only_and_pending_steps_only(anna, manager):
    declined, done = make_case(anna, DAY), make_case(anna, DAY)
    workflow.reject(declined, by=manager, on=DAY, reason="no income")
    workflow.complete_step(done.steps.first(), by=manager, on=DAY)
    assert told() == {}


def test_managers_are_told_of_nobodys_cases(anna):
    boss = factories.make_user(roles.MANAGER, email="boss@example.com", language="en")
    bob = factories.make_user(email="bob@example.com")
    left, stood_in, own = make_case(anna, DAY), make_case(anna, DAY, stand_in=bob), make_case(boss, DAY)
    nobody = make_case(None, days(-7))
    assert set(told()) == {"anna@example.com", "boss@example.com"}
    anna.is_active = False
    anna.save()
    found = told()
    assert set(found) == {"bob@example.com", "boss@example.com"}
    mine, nobodys = found["boss@example.com"].split("Of nobody's cases")
    assert own.reference in mine and left.reference not in mine
    assert left.reference in nobodys and nobody.reference in nobodys
    assert stood_in.reference in found["bob@example.com"] and stood_in.reference not in found["boss@example.com"]


def test_a_case_is_nobodys_where_its_adviser_may_not_look_at_cases_any_more(anna, manager):
    case = make_case(anna, DAY)
    anna.groups.clear()
    assert set(told()) == {manager.email} and case.reference in told()[manager.email]


def test_without_a_manager_an_administrator_is_told_of_nobodys_cases(administrator):
    case = make_case(None, DAY)
    assert case.reference in told()[administrator.email]


def test_who_left_or_has_no_address_is_told_nothing(anna):
    make_case(anna, DAY)
    make_case(factories.make_user(email=""), DAY)
    make_case(None, DAY)
    anna.is_active = False
    anna.save()
    assert told() == {}


def test_what_falls_on_a_quiet_day_is_told_on_the_next_working_day(anna):
    make_case(anna, MONDAY + datetime.timedelta(days=2))  # three days before it is Sunday
    saturday = MONDAY - datetime.timedelta(days=1)
    assert told(saturday) == {}
    assert told(MONDAY) and not told(MONDAY + datetime.timedelta(days=8))
    easter_monday = datetime.date(2026, 4, 6)
    make_case(anna, easter_monday)
    assert told(easter_monday) == {}
    assert told(easter_monday + datetime.timedelta(days=1))


def test_a_weekend_does_not_swallow_what_it_keeps_quiet(anna):
    case = make_case(anna, MONDAY - datetime.timedelta(days=1))  # due on Sunday
    for number in range(-3, 1):  # from Friday to Monday, as the worker does it
        run = jobs.enqueue("send_deadlines", slot=str(number))
        day = MONDAY + datetime.timedelta(days=number)
        jobs.carry_out(run.pk, {"send_deadlines": lambda progress, day=day: notifications.send(day)})
    assert [case.reference in message.body for message in MessageLog.objects.order_by("pk")] == [True]
    assert JobRun.objects.order_by("pk").last().shown == {"messages": 1, "told_until": MONDAY.isoformat()}


def test_after_days_without_a_worker_one_mail_tells_what_was_missed(anna):
    run = jobs.enqueue("send_deadlines")
    jobs.carry_out(run.pk, {"send_deadlines": lambda progress: notifications.send(MONDAY)})
    tuesday = make_case(anna, days(-1))  # due on a day that nobody was told of
    thursday = days(1)
    assert due.last_told(thursday) == MONDAY
    [body] = told(thursday).values()
    assert tuesday.reference in body and "did not go out" in body
    assert "did not go out" not in "".join(told(DAY, since=days(-1)).values())


def test_what_was_last_told_long_ago_or_never_is_counted_once_a_week(anna):
    case, young = make_case(anna, days(-33)), make_case(anna, days(-32))  # 28 days after which was Saturday
    CaseStep.objects.filter(pk=case.steps.all()[1].pk).update(deadline=days(-300))
    Step.objects.update(tell_client=True)
    [message] = notifications.plan(MONDAY).messages
    assert message.subject.endswith("3 deadlines, 3 overdue")
    assert young.reference in message.body and case.reference not in message.body
    assert "And 2 steps overdue for longer" in message.body
    assert f"https://testserver/admin/crm/casestep/?quick=overdue&adviser={anna.pk}" in message.body
    assert told() == {} and not told(MONDAY - datetime.timedelta(days=1))
    easter_tuesday = datetime.date(2026, 4, 7)
    assert told(easter_tuesday, since=datetime.date(2026, 4, 2)) and not told(days(-7))
    assert told(since=days(-9))  # the worker was down on Monday


def test_of_what_is_overdue_for_longer_each_has_his_own_and_managers_nobodys(anna, manager):
    bob = factories.make_user(email="bob@example.com", language="en")
    make_case(anna, days(-33), stand_in=bob)
    make_case(None, days(-33))
    manager.language = "en"
    manager.save()
    found = told(MONDAY)
    assert set(found) == {"anna@example.com", manager.email}
    assert all("And 1 step overdue for longer" in body for body in found.values())
    assert "adviser=" in found["anna@example.com"] and "adviser=" not in found[manager.email]
    anna.absent_from = MONDAY
    anna.save()
    assert "bob@example.com" in told(MONDAY)
    counts = notifications.send(MONDAY)
    assert counts["messages"] == 3


def test_a_past_day_told_again_by_hand_takes_nothing_back(anna):
    for day in (days(1), days(-6)):
        call_command("send_deadline_notifications", "--on", day.isoformat())
    assert due.last_told(days(2)) == days(1)


# --- What came too late, and what was lost on its way ---


def morning(day: datetime.date, recipient="anna@example.com") -> str:
    """What the job of the day wrote."""
    with time_machine.travel(datetime.datetime.combine(day, datetime.time(8), PRAGUE), tick=False):
        run = jobs.enqueue("send_deadlines", slot=day.isoformat())
        tasks.run_job(run.pk)
        run.refresh_from_db()
        assert run.state == "done", run.message
        found = MessageLog.objects.filter(kind="deadlines", created_at=timezone.now())
        return "".join(each.body for each in found if each.recipient == recipient)


def test_what_is_due_only_since_its_morning_is_told_on_the_next_one_and_once(anna, manager):
    again, over, noted = make_case(anna, days(-4)), make_case(anna, days(-4)), make_case(anna, days(-4))
    workflow.complete_step(again.steps.first(), by=manager, on=days(-6))
    workflow.withdraw(over, by=manager, on=days(-6), reason="moved")
    assert morning(DAY) == ""
    workflow.reopen_step(again.steps.first(), by=manager, reason="wrong")
    workflow.reopen_case(over, by=manager, reason="came back")
    CaseStep.objects.filter(case=noted, deadline__isnull=False).update(note="called")
    moved = make_case(anna, days(5))
    CaseStep.objects.filter(case=moved, deadline__isnull=False).update(deadline=DAY)
    long_ago = make_case(anna, days(-40))  # is counted on Monday
    every = {each.reference for each in (again, over, noted, moved, long_ago)}
    body = morning(days(1))
    assert {each for each in every if each in body} == {again.reference, over.reference, moved.reference}
    assert morning(days(2)) == ""


def test_what_was_done_and_reopened_between_two_mornings_is_no_news(anna, manager):
    case = make_case(anna, DAY)
    assert case.reference in morning(DAY)
    workflow.complete_step(case.steps.first(), by=manager, on=DAY)
    workflow.reopen_step(case.steps.first(), by=manager, reason="wrong")
    assert morning(days(1)) == ""


def test_what_a_mail_said_that_was_too_late_is_said_by_the_next_one(anna):
    bob = factories.make_user(email="bob@example.com", language="en")
    friday, monday = days(2), days(5)
    case, his = make_case(anna, friday), make_case(bob, friday)
    assert case.reference in morning(friday)
    MessageLog.objects.filter(user=bob).update(state="sent", next_try_at=None)
    make_case(bob, monday)
    told = notifications.plan(monday)
    assert told.notices() == {bob: 1}  # the inbox had it on Friday
    body = morning(monday)
    assert case.reference in body and "Overdue" in body and "did not go out" in body
    assert not any(his.reference in each.body for each in MessageLog.objects.filter(user=bob, state="waiting"))
    first, second = MessageLog.objects.filter(user=anna).order_by("pk")
    assert (first.state, first.next_try_at, second.state) == ("expired", None, "waiting")
    assert morning(days(6)) == ""  # the one of Monday is on its way still
    second.state, second.next_try_at = "sent", None
    second.save()
    assert morning(days(7)) == ""


def test_what_was_lost_twice_is_said_until_it_arrives(anna):
    case = make_case(anna, DAY)
    morning(DAY)
    MessageLog.objects.update(state="expired", next_try_at=None)
    assert case.reference in morning(days(5))
    MessageLog.objects.update(state="expired", next_try_at=None)
    assert case.reference in morning(days(8))
    MessageLog.objects.filter(state="waiting").update(state="sent", next_try_at=None)
    assert morning(days(9)) == ""


def test_a_client_gets_his_own_plain_one_where_the_step_says_so(anna, settings):
    settings.LANGUAGE_CODE = "en"
    case = make_case(None, DAY, email="alice@example.com")
    assert told() == {}
    Step.objects.filter(pk=case.steps.first().step_id).update(tell_client=True)
    [message] = notifications.plan(DAY).messages
    assert (message.recipient, message.case_id) == ("alice@example.com", case.pk)
    assert case.reference in message.subject and "Financing need" in message.body
    assert "admin" not in message.body and "Nováková" not in message.body
    consent = Consent.objects.create(
        client=case.client, purpose="messages", text_version="1", given_on=DAY, withdrawn_on=DAY
    )
    assert told() == {}
    Consent.objects.create(client=case.client, purpose="messages", text_version="1", given_on=DAY)
    assert told() and consent
    Client.objects.filter(pk=case.client_id).update(email="")
    assert told() == {}


def test_a_client_is_told_what_is_late_and_what_comes_next_in_words_of_their_own(anna, settings):
    settings.LANGUAGE_CODE = "en"
    case = make_case(None, days(-28), email="alice@example.com")
    Step.objects.update(tell_client=True)
    [body] = told(since=days(-1)).values()
    assert "come next" not in body and "day has passed" in body and "Financing need" in body
    CaseStep.objects.filter(pk=case.steps.all()[1].pk).update(deadline=DAY)
    [body] = told(since=days(-1)).values()
    assert body.index("day has passed") < body.index("Financing need") < body.index("come next")
    assert body.index("come next") < body.index("Financing proposal")
    CaseStep.objects.filter(pk=case.steps.first().pk).update(deadline=None)
    [body] = told(since=days(-1)).values()
    assert "come next" in body and "day has passed" not in body


def test_a_day_is_written_once_and_the_dry_run_writes_nothing(anna, capsys):
    make_case(anna, DAY)
    call_command("send_deadline_notifications", "--on", DAY.isoformat(), "--dry-run")
    assert "1 messages for 2026-04-15" in capsys.readouterr().out and not MessageLog.objects.exists()
    call_command("send_deadline_notifications", "--on", DAY.isoformat())
    call_command("send_deadline_notifications", "--on", DAY.isoformat())
    assert "0 messages" in capsys.readouterr().out.splitlines()[-1]
    assert due.last_told(days(1)) == DAY
    assert MessageLog.objects.count() == MessageLog.objects.filter(state="waiting").count() == 1


def test_a_day_to_come_is_only_looked_at(anna, capsys):
    make_case(anna, DAY)
    with time_machine.travel(datetime.datetime.combine(days(-1), datetime.time(12)), tick=False):
        with pytest.raises(CommandError, match="--dry-run"):
            call_command("send_deadline_notifications", "--on", DAY.isoformat())
        call_command("send_deadline_notifications", "--on", DAY.isoformat(), "--dry-run")
    assert "1 messages" in capsys.readouterr().out
    assert not JobRun.objects.exists() and not MessageLog.objects.exists()


def test_a_morning_is_cancelled_whole(anna):
    make_case(anna, DAY)
    make_case(factories.make_user(email="bob@example.com"), DAY)

    def cancel_at_the_second(done, total=0):
        if done == 2:
            raise jobs.Cancelled()

    with pytest.raises(jobs.Cancelled):
        notifications.send(DAY, cancel_at_the_second)
    assert not MessageLog.objects.exists()
    assert notifications.send(DAY)["messages"] == 2


def test_twenty_cases_cost_as_many_queries_as_ten(anna):
    counts = []
    for _ in range(2):
        for _ in range(10):
            make_case(anna, DAY)
        with CaptureQueriesContext(connection) as queries:
            notifications.plan(DAY)
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's indexes cover nothing; .ci/run has both")
def test_who_is_due_is_read_from_two_indexes_and_no_table(anna):
    with CaptureQueriesContext(connection) as queries:
        due.due(MONDAY - due.DAY, MONDAY)
    with connection.cursor() as cursor:
        for way in ("seqscan", "bitmapscan", "nestloop"):  # what few rows are better served by
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute(f"EXPLAIN {queries[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    for index in ("case_step_pending_deadline", "case_active"):
        assert f"Index Only Scan using {index}" in plan, plan


def test_mails_go_out_in_the_offices_words_as_text_and_as_html(anna):
    MessageText.objects.create(kind="deadlines", language="en", subject="To do: {{ count }}")
    case = make_case(anna, DAY)
    [message] = notifications.plan(DAY).messages
    assert message.subject == "To do: 1"
    assert f'<a href="https://testserver/admin/crm/case/{case.pk}/change/">' in message.html
