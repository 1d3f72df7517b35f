"""The first minutes of an office that was put back: nobody is logged in, nothing is sent twice, and no old day is made up for."""

import datetime

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_q.models import OrmQ

from crm import jobs, outbox, schedules
from crm.backups import resuming
from crm.choices import ImportState, MessageState, NoticeKind, RunState
from crm.exports import regular
from crm.imports import runs
from crm.models import (
    ExportPreset,
    ExportRun,
    ExportSchedule,
    Heartbeat,
    ImportRun,
    JobRun,
    JobSchedule,
    MessageLog,
    Notice,
)
from crm.notices import mails
from crm.tests import factories

pytestmark = pytest.mark.django_db
MINUTE, DAY = datetime.timedelta(minutes=1), datetime.timedelta(days=1)
# A Wednesday, 10:00 in Prague; the backup is older than the Monday and its report.
NOW = datetime.datetime(2026, 3, 4, 9, 0, tzinfo=datetime.UTC)
BACKED_UP = NOW - 6 * DAY


@pytest.fixture(autouse=True)
def _calendar():
    schedules.sync()
    JobSchedule.objects.update(since=BACKED_UP - 30 * DAY)


def made() -> set[tuple[str, str]]:
    return set(JobRun.objects.values_list("name", "state"))


def test_who_was_logged_in_then_is_not_now(client, manager):
    client.force_login(manager)
    SessionStore().create()
    assert client.get("/admin/").status_code == 200
    assert resuming.resume(NOW)["logged_out"] == 2
    assert not Session.objects.exists()
    assert client.get("/admin/").status_code == 302


def test_no_slot_since_the_backup_is_run_or_told_as_missed():
    resuming.resume(NOW)
    schedules.tick(NOW + MINUTE)
    assert made() == {("send_mail", "queued"), ("send_notices", "queued")}


def test_without_that_old_days_would_be_made_up_for():
    schedules.tick(NOW + MINUTE)
    assert {("send_deadlines", "missed"), ("send_deadlines", "queued"), ("send_weekly_report", "queued")} <= made()


def test_the_next_morning_is_run_once():
    resuming.resume(NOW)
    morning = datetime.datetime(2026, 3, 5, 7, 1, tzinfo=datetime.UTC)
    schedules.tick(morning)
    schedules.tick(morning)
    assert JobRun.objects.get(name="send_deadlines").slot == "2026-03-05"
    assert not JobRun.objects.filter(state=RunState.MISSED).exists()


@pytest.mark.parametrize(("hour", "of_today"), [(5, ["2026-03-04"]), (10, [])])
def test_no_regular_export_since_the_backup_is_made_and_the_next_one_once(manager, hour, of_today):
    preset = ExportPreset.objects.create(user=manager, name="Weekly list", model="client", columns=["full_name"])
    for day in (1, 3):
        ExportSchedule.objects.create(user=manager, preset=preset, day=day, since=datetime.date(2026, 2, 1))
    today = timezone.localtime(NOW)
    resuming.resume(today.replace(hour=hour))
    regular.send(today)
    regular.send(today + 7 * DAY - MINUTE)
    slots = ExportRun.objects.order_by("slot").values_list("slot", flat=True)
    assert list(slots) == [*of_today, "2026-03-09", "2026-03-11"]


def test_what_had_not_ended_ends_and_is_not_begun_again(manager):
    running = JobRun.objects.create(
        name="send_deadlines",
        slot="2026-02-26",
        due_at=BACKED_UP,
        state=RunState.RUNNING,
        beat_at=BACKED_UP,
        attempts=1,
    )
    waiting = jobs.enqueue("write_import", user=manager, run=1)
    done = JobRun.objects.create(name="seal_audit", slot="x", due_at=BACKED_UP, state=RunState.DONE)
    Heartbeat.objects.beat("of the lost machine", BACKED_UP)
    assert OrmQ.objects.exists()
    assert resuming.resume(NOW)["ended"] == 2
    jobs.sweep(NOW + MINUTE)
    assert not OrmQ.objects.exists() and not Heartbeat.objects.exists()
    for run, state in ((running, "failed"), (waiting, "failed"), (done, "done")):
        run.refresh_from_db()
        assert run.state == state
    assert waiting.message
    jobs.retry(waiting, by=manager)


def test_an_import_in_work_says_that_it_failed(manager):
    job = jobs.enqueue("write_import", user=manager, run=1)
    run = ImportRun.objects.create(user=manager, state=ImportState.RUNNING, sha256="", file_name="a.csv", job=job)
    resuming.resume(NOW)
    assert runs.state_of(ImportRun.objects.get(pk=run.pk)) == ImportState.FAILED


def write(about: str, **values) -> MessageLog:
    user = factories.make_user(email=f"{about}@example.com")
    texts = {"subject": "H-000001", "body": "Dobrý den.", "language": "cs"}
    found = outbox.message("deadlines", to=user.email, about=[about], user=user, **texts)
    outbox.put([found])
    MessageLog.objects.filter(claim_key=found.claim_key).update(**values)
    return MessageLog.objects.get(claim_key=found.claim_key)


def test_no_message_that_waited_leaves_by_itself_and_somebody_may_send_it():
    now = timezone.now()
    waits, failed = write("waits"), write("failed", state=MessageState.FAILED, attempts=3)
    sent = write("sent", state=MessageState.SENT, next_try_at=None, sent_at=now)
    assert resuming.resume(now)["withheld"] == 2
    assert outbox.send_due(now + DAY) == {}
    for message, state in ((waits, "withheld"), (failed, "withheld"), (sent, "sent")):
        message.refresh_from_db()
        assert message.state == state
    assert outbox.resend(waits) and not outbox.resend(sent)


def test_news_that_waited_for_a_mail_stand_in_inboxes_and_clients_get_none(manager):
    case = factories.make_case()
    news = {"kind": NoticeKind.NEW_CASE, "case": case, "wants_mail": True, "in_inbox": False, "created_at": BACKED_UP}
    his = Notice.objects.create(user=manager, **news)
    Notice.objects.create(user=None, **news)
    Notice.objects.create(user=manager, **news | {"wants_mail": False})
    resuming.resume(NOW)
    assert mails.send(NOW) == {"messages": 0}
    assert list(Notice.objects.filter(in_inbox=True)) == [his]
