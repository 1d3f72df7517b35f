import contextlib
import datetime
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crm import catalogue, notices, tasks, workflow
from crm.audit import undo
from crm.choices import MessageKind, NoticeKind
from crm.models import (
    AuditEntry,
    Case,
    Client,
    Consent,
    JobRun,
    MessageLog,
    Notice,
    NoticeChoice,
    NoticeRule,
    Step,
    User,
)
from crm.notices import mails
from crm.tests import factories
from crm.tests.test_notices import REASON, TODAY, complete, first_step, of_client, rule, subscribe

pytestmark = pytest.mark.django_db
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def rules(db):
    catalogue.load()


@pytest.fixture
def anna(db):
    return factories.make_user(first_name="Anna", email="anna@example.com", language="en")


@pytest.fixture
def bob(db):
    return factories.make_user(first_name="Bob", email="bob@example.com", language="en")


@pytest.fixture
def case(anna):
    made = factories.make_case(factories.make_client("Alice Nováková", email="alice@example.com"), adviser=anna)
    Notice.objects.all().delete()
    return made


def later(minutes=16):
    return timezone.now() + minutes * MINUTE


def mailed(minutes=16) -> dict[str, MessageLog]:
    """What this sweep wrote, by recipient."""
    before = set(MessageLog.objects.values_list("pk", flat=True))
    mails.send(later(minutes))
    return {each.recipient: each for each in MessageLog.objects.exclude(pk__in=before)}


# --- To those who work here ---


def test_several_within_a_quarter_of_an_hour_make_one_mail(case, anna, bob):
    complete(case, by=bob)
    workflow.reject(case, by=bob, on=TODAY, reason=REASON)
    assert mailed(14) == {}
    Notice.objects.filter(kind=NoticeKind.DECLINED).update(created_at=later(10))
    [message] = mailed(15.1).values()
    assert (message.recipient, message.user, message.kind) == ("anna@example.com", anna, MessageKind.NOTICES)
    assert "2 events" in message.subject
    for text in (message.body, message.html):
        assert "Step completed" in text and "1. Financing need" in text and "Case declined" in text and "Bob" in text
        assert f"https://testserver/admin/crm/case/{case.pk}/change/" in text
    assert REASON not in message.body and "Nov" not in message.subject + message.body + message.html
    assert not Notice.objects.to_mail().exists()
    assert mailed(60) == {}


def test_each_reads_his_mail_in_his_language(case, anna):
    anna.language = "cs"
    anna.save()
    complete(case)
    [message] = mailed().values()
    assert message.language == "cs" and "1. Co chce klient financovat" in message.body


def test_who_wants_the_inbox_alone_gets_no_mail(case, anna):
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.STEP_COMPLETED, channel="inbox")
    complete(case)
    assert mailed() == {}
    assert Notice.objects.of(anna).unread().count() == 1


@pytest.mark.parametrize("gone", ["is_active", "is_staff", "email"])
def test_who_is_gone_meanwhile_gets_no_mail_later_either(case, anna, gone):
    complete(case)
    setattr(anna, gone, "" if gone == "email" else False)
    anna.save()
    assert mailed() == {}
    assert not Notice.objects.to_mail().exists()


def test_who_lost_his_address_meanwhile_reads_it_in_his_inbox(case, anna):
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.STEP_COMPLETED, channel="mail")
    complete(case)
    assert not Notice.objects.of(anna).unread().exists()
    User.objects.filter(pk=anna.pk).update(email="")
    assert mailed() == {}
    assert Notice.objects.of(anna).unread().count() == 1


def test_nobody_hears_of_a_case_that_he_may_not_see_any_more(case, anna, bob, settings):
    settings.ADVISER_SCOPE = "own"
    Case.objects.update(stand_in=bob)
    subscribe(bob, NoticeKind.STEP_COMPLETED)
    complete(case)
    Case.objects.update(stand_in=None)
    assert set(mailed()) == {"anna@example.com"}


def test_who_lost_his_role_hears_nothing(case, anna):
    complete(case)
    anna.groups.clear()
    assert mailed() == {}


def test_the_old_adviser_still_hears_that_his_case_was_handed_over(case, anna, bob, manager, settings):
    settings.ADVISER_SCOPE = "own"
    workflow.hand_over(case, by=manager, to=bob)
    found = mailed()
    assert "Your case was handed over" in found["anna@example.com"].body
    assert "/admin/" not in found["anna@example.com"].body
    assert "Case handed over to you" in found["bob@example.com"].body


def test_what_was_deleted_meanwhile_is_not_told(case, manager):
    complete(case)
    Case.objects.all().delete()
    assert mailed() == {}


def test_one_whose_mail_fails_keeps_nobody_else_waiting(case, anna, bob, monkeypatch):
    subscribe(bob, NoticeKind.STEP_COMPLETED)
    complete(case)
    real = mails.seen

    def broken(user, notices):
        if user == anna:
            raise ZeroDivisionError
        return real(user, notices)

    monkeypatch.setattr(mails, "seen", broken)
    with pytest.raises(mails.NoticesNotMailed):
        mails.send(later())
    assert [each.recipient for each in MessageLog.objects.all()] == ["bob@example.com"]
    monkeypatch.undo()
    assert set(mailed()) == {"anna@example.com"}


def test_who_is_killed_between_taking_and_writing_told_nothing_and_tells_it_once(case, monkeypatch):
    complete(case)

    def killed(messages):
        list(messages)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(mails.outbox, "put", killed)
        with pytest.raises(SystemExit):
            mails.send(later())
    assert set(mailed()) == {"anna@example.com"}
    assert mailed() == {}


def test_the_second_of_two_jobs_finds_nothing_left_to_tell(case, anna):
    """It had chosen whom to write to before the first one wrote."""
    complete(case)
    assert set(mailed()) == {"anna@example.com"}
    assert list(mails._to_user(anna.pk, later())) == []
    workflow.reopen_step(first_step(case), by=None)
    assert list(mails._to_user(anna.pk, later(1))) == []
    assert Notice.objects.to_mail().count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_jobs_at_once_write_it_once(case, anna):
    start = threading.Barrier(2)

    def sweep():
        start.wait()
        with contextlib.suppress(mails.NoticesNotMailed):  # SQLite makes the second one wait, and not for ever
            mails.send(later())
        connection.close()

    for number in range(1, 6):
        complete(case)
        workflow.reopen_step(first_step(case), by=None)
        both = [threading.Thread(target=sweep) for _each in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert MessageLog.objects.count() == number
        assert not Notice.objects.to_mail().exists()


@pytest.mark.parametrize("number", [1, 20])
def test_the_queries_of_a_mail_do_not_follow_its_lines(case, anna, number):
    for _each in range(number):
        notices.tell(NoticeKind.STEP_COMPLETED, case=case, step=first_step(case).step)
    with CaptureQueriesContext(connection) as queries:
        mails.send(later())
    assert MessageLog.objects.count() == 1
    assert len(queries) <= 16
    assert not [each for each in queries if "full_name" in each["sql"]]


# --- To the client ---


@pytest.fixture
def told(case, anna):
    """A case of which the client alone is told."""
    NoticeRule.objects.update(to_adviser=False, to_managers=False, to_administrators=False, to_client=True)
    Step.objects.update(tell_client=True)
    return case


def test_the_client_gets_one_mail_a_case(told):
    other = factories.make_case(told.client)
    complete(told)
    workflow.complete_step(told.steps.order_by("step__number")[1], by=None, on=TODAY)
    complete(other)
    mails.send(later())
    messages = {each.case_id: each for each in MessageLog.objects.all()}
    assert set(messages) == {told.pk, other.pk}
    message = messages[told.pk]
    assert (message.recipient, message.kind, message.language) == ("alice@example.com", "client_notices", "en")
    assert "Financing need: completed" in message.body and "Financing proposal: completed" in message.body
    assert told.reference in message.subject and "Alice" not in message.subject + message.body
    assert "/admin/" not in message.body + message.html


def test_the_client_does_not_hear_of_what_was_taken_back(told):
    complete(told)
    workflow.reopen_step(first_step(told), by=None)
    assert mailed() == {}
    complete(told)
    complete_again = mailed()["alice@example.com"].body
    assert complete_again.count("completed") == 1
    workflow.reopen_step(first_step(told), by=None)
    assert "Financing need: we are working on it again" in mailed()["alice@example.com"].body


def test_the_client_does_not_hear_of_what_was_undone(told, manager):
    complete(told, by=manager)
    undo.undo(AuditEntry.objects.order_by("-pk").first().operation_id, manager)
    assert mailed() == {}


def test_of_a_decision_the_client_hears_what_still_holds(told, manager):
    of_client(told, "schvalovani")
    rule(NoticeKind.STEP_REOPENED)
    workflow.approve(told, by=manager, on=TODAY, lender=factories.make_lender(), amount_czk=1)
    workflow.withdraw(told, by=manager, on=TODAY, reason=REASON)
    body = mailed()["alice@example.com"].body
    assert "withdrawn" in body and "approved" not in body
    workflow.reopen_case(told, by=manager, reason=REASON)
    workflow.reject(told, by=manager, on=TODAY, reason=REASON)
    body = mailed()["alice@example.com"].body
    assert "declined" in body and "again" not in body
    workflow.reopen_case(told, by=manager, reason=REASON)
    assert "again" in mailed()["alice@example.com"].body
    workflow.reject(told, by=manager, on=TODAY, reason=REASON)
    workflow.reopen_case(told, by=manager, reason=REASON)
    assert mailed() == {}


def test_an_approval_is_told_once_and_not_as_a_step_too(told):
    of_client(told, "schvalovani")
    workflow.approve(told, by=None, on=TODAY, lender=factories.make_lender(), amount_czk=1)
    body = mailed()["alice@example.com"].body
    assert "approved" in body and "Underwriting" not in body


@pytest.mark.parametrize("why", ["address", "consent", "restricted", "another"])
def test_who_may_not_be_written_to_any_more_hears_nothing(told, why):
    complete(told)
    match why:
        case "address":
            told.client.email = ""
            told.client.save()
        case "consent":
            Consent.objects.create(
                client=told.client, purpose="messages", text_version="1", given_on=TODAY, withdrawn_on=TODAY
            )
        case "restricted":
            Client.objects.update(restricted_at=timezone.now())
        case "another":
            Case.objects.update(client=factories.make_client("Bob", email="bob@example.com"))
    assert mailed() == {}
    assert not Notice.objects.to_mail().exists()


# --- The job ---


def test_the_job_and_the_command_do_it(case):
    complete(case)
    Notice.objects.update(created_at=timezone.now() - 16 * MINUTE)
    run = JobRun.objects.create(name="send_notices", slot="by hand", queue="quick", due_at=timezone.now())
    tasks.run_job(run.pk)
    run.refresh_from_db()
    assert (run.state, run.counts) == ("done", {"messages": 1})
    call_command("send_notices")
    assert MessageLog.objects.count() == 1


def test_the_command_says_that_something_failed(case, monkeypatch):
    complete(case)
    Notice.objects.update(created_at=timezone.now() - 16 * MINUTE)
    monkeypatch.setattr(mails, "seen", lambda *args: 1 / 0)
    with pytest.raises(CommandError, match="1 recipients"):
        call_command("send_notices")


@pytest.mark.parametrize(
    ("days", "fields", "stays"),
    [
        (89, {"read": True}, True),
        (91, {"read": True}, False),
        (91, {"read": False}, True),
        (401, {"read": False}, False),
        (91, {"in_inbox": False, "mailed": True}, False),
        (91, {"in_inbox": False, "mailed": False}, True),
    ],
)
def test_old_notices_go(case, anna, days, fields, stays):
    now = timezone.now()
    Notice.objects.create(
        user=anna, kind=NoticeKind.NEW_CASE, case=case, created_at=now - datetime.timedelta(days=days),
        read_at=now if fields.get("read") else None, in_inbox=fields.get("in_inbox", True),
        wants_mail="mailed" in fields, mailed_at=now if fields.get("mailed") else None,
    )  # fmt: skip
    assert mails.tidy(now) == int(not stays)
    assert Notice.objects.exists() is stays
