import datetime
import http.client
import threading
import time

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone
from django_q.models import OrmQ

from crm import health, jobs, schedules, tasks
from crm.choices import RunState, Source
from crm.exceptions import ReasonMissing
from crm.exports import waiting
from crm.models import Client, Heartbeat, JobRun, JobSchedule, MessageLog
from crm.tests import factories

pytestmark = pytest.mark.django_db
MINUTE = datetime.timedelta(minutes=1)
BODY = "Alice Nováková, 850101/1235"


def carry_out(run, work) -> JobRun:
    jobs.carry_out(run.pk, {run.name: work})
    run.refresh_from_db()
    return run


def fail(progress):
    raise ValueError(BODY)


def test_a_slot_is_put_into_the_queue_once_with_one_knock():
    first = jobs.enqueue("job", slot="2026-03-02")
    assert jobs.enqueue("job", slot="2026-03-02") is None
    assert jobs.enqueue("job", slot="2026-03-03") is not None
    assert jobs.enqueue("job") and jobs.enqueue("job")
    assert (first.state, OrmQ.objects.count()) == (RunState.QUEUED, 4)
    assert set(OrmQ.objects.values_list("key", flat=True)) == {"quick"}


def test_a_run_says_what_came_of_it_and_who_asked(manager):
    run = jobs.enqueue("job", queue="long", user=manager, case=5)

    def work(progress):
        progress.log("half of it")
        progress(1, 2)
        factories.make_client("Alice")
        return {"cases": progress.arguments["case"]}

    run = carry_out(run, work)
    assert (run.state, run.counts, run.done_count, run.total_count) == (RunState.DONE, {"cases": 5}, 1, 2)
    assert "half of it" in run.log and run.finished_at and run.attempts == 1
    row = Client.history.get()
    assert (row.source, row.operation_id, row.history_user_id) == (Source.JOB, run.operation_id, manager.pk)


def test_a_knock_too_many_does_nothing():
    run, done = jobs.enqueue("job"), []
    for _ in range(3):
        carry_out(run, lambda progress: done.append(1))
    assert len(done) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_runs_it():
    run, done, barrier = jobs.enqueue("job"), [], threading.Barrier(2)

    def knock():
        barrier.wait()
        jobs.carry_out(run.pk, {"job": lambda progress: done.append(1)})
        connection.close()

    threads = [threading.Thread(target=knock) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_what_always_raises_is_tried_three_times_and_keeps_nothing_personal():
    run, start = jobs.enqueue("job"), timezone.now()
    for minutes, state, attempts in ((0, "queued", 1), (0.5, "queued", 1), (1.1, "queued", 2), (7, "failed", 3), (60, "failed", 3)):  # fmt: skip
        with time_machine.travel(start + minutes * MINUTE, tick=True):
            jobs.sweep(timezone.now())
            run = carry_out(run, fail)
        assert (run.state, run.attempts) == (state, attempts)
    assert run.message.startswith("ValueError (test_jobs.py:")
    assert "Alice" not in f"{run.message} {run.log}" and "1235" not in f"{run.message} {run.log}"


def test_a_rule_that_says_no_is_not_asked_again():
    def refuse(progress):
        raise ReasonMissing()

    run = carry_out(jobs.enqueue("job"), refuse)
    assert (run.state, run.attempts, run.message) == (RunState.FAILED, 1, str(ReasonMissing()))


def test_a_waiting_run_is_cancelled_at_once_and_a_running_one_at_its_next_chunk(manager):
    waiting = jobs.enqueue("job")
    jobs.cancel(waiting, by=manager)
    done = []
    assert carry_out(waiting, lambda progress: done.append(1)).state == RunState.FAILED and not done
    with pytest.raises(jobs.NotRunnable):
        jobs.cancel(waiting, by=manager)

    def long(progress):
        for number in range(3):
            progress(number, 3)
            if number == 1:
                jobs.cancel(running, by=manager)
                progress.is_cancelled = JobRun.objects.get(pk=running.pk).is_cancelled  # what the beat brings
            done.append(number)

    running = jobs.enqueue("job")
    running = carry_out(running, long)
    assert (running.state, done) == (RunState.FAILED, [0, 1])
    assert "cancel" in running.message.lower() or "zrušeno" in running.message.lower()


@pytest.mark.django_db(transaction=True)
def test_the_beat_writes_progress_and_brings_the_cancelling(monkeypatch, manager):
    monkeypatch.setattr(jobs, "BEAT_EVERY_S", 0.05)
    run, seen = jobs.enqueue("job"), threading.Event()

    def work(progress):
        progress(3, 10)
        for _ in range(1200):
            if JobRun.objects.get(pk=run.pk).done_count == 3:
                break
            seen.wait(0.05)
        progress(4, 10)
        jobs.cancel(run, by=manager)
        for _ in range(1200):
            progress(4, 10)
            seen.wait(0.05)

    assert (carry_out(run, work).state, run.done_count) == (RunState.FAILED, 4)


def test_an_interrupted_run_goes_back_and_loses_no_attempt(monkeypatch):
    stopping = threading.Event()
    monkeypatch.setattr(jobs, "stopping", stopping)
    run = jobs.enqueue("job")
    OrmQ.objects.all().delete()

    def work(progress):
        stopping.set()
        progress(1)

    run = carry_out(run, work)
    assert (run.state, run.attempts, OrmQ.objects.count()) == (RunState.QUEUED, 0, 1)
    stopping.clear()
    assert carry_out(run, lambda progress: None).state == RunState.DONE


def test_what_a_killed_worker_was_running_is_brought_back_three_times_at_most():
    run = jobs.enqueue("job")
    for attempts in (1, 2, 3):
        JobRun.objects.filter(pk=run.pk).update(state="running", attempts=attempts, beat_at=timezone.now())
        jobs.sweep(timezone.now() + jobs.SILENT - MINUTE / 60)
        assert JobRun.objects.get().state == "running"
        jobs.sweep(timezone.now() + jobs.SILENT + MINUTE / 60)
        assert JobRun.objects.get().state == ("queued" if attempts < 3 else "failed")


def test_a_wanted_stop_loses_no_attempt():
    for claim, is_wanted, attempts in (("a", True, 2), ("b", False, 3)):
        run = JobRun.objects.create(name="job", slot=claim, state="running", attempts=3, worker="me:quick")
        jobs.give_back_all("me:quick", timezone.now(), is_wanted=is_wanted)
        run.refresh_from_db()
        assert (run.state, run.attempts) == ("queued" if is_wanted else "failed", attempts)


def test_who_was_taken_for_dead_does_not_write_over_the_next(monkeypatch):
    run, ended = jobs.enqueue("job"), []

    def slow(progress):
        JobRun.objects.filter(pk=run.pk).update(beat_at=timezone.now() - 5 * MINUTE)
        jobs.sweep(timezone.now())
        carry_out(JobRun.objects.get(pk=run.pk), lambda progress: {"by": "the second"})
        progress.is_taken_over = True  # what the beat brings
        progress(1)
        ended.append(1)

    run = carry_out(run, slow)
    assert (run.state, run.counts, ended) == (RunState.DONE, {"by": "the second"}, [])


def test_a_lost_knock_is_made_again_where_nobody_waits_to_be_heard():
    run = jobs.enqueue("job")
    later = timezone.now() + 2 * MINUTE
    jobs.sweep(later)
    assert OrmQ.objects.count() == 1  # it stands in the queue: a worker is awaited, not a knock
    OrmQ.objects.update(lock=later + 60 * MINUTE)  # taken out by a worker that was killed
    jobs.sweep(timezone.now() + MINUTE / 6)
    assert OrmQ.objects.count() == 1
    jobs.sweep(later)
    jobs.sweep(later)
    assert OrmQ.objects.count() == 2
    assert carry_out(run, lambda progress: None).state == RunState.DONE


def test_a_failed_run_is_tried_again_by_hand(manager):
    def refuse(progress):
        raise ReasonMissing()

    run = carry_out(jobs.enqueue("job"), refuse)
    jobs.retry(run, by=manager)
    run = carry_out(run, lambda progress: None)
    assert (run.state, run.user) == (RunState.DONE, manager)
    with pytest.raises(jobs.NotRunnable):
        jobs.retry(run, by=manager)


def test_pings_tell_of_begin_end_and_failure_and_may_fail_themselves(monkeypatch):
    asked = []
    JobSchedule.objects.create(name="job", ping_url="http://127.0.0.1:9/abc/")

    def urlopen(address, timeout):
        asked.append(address)
        raise OSError

    monkeypatch.setattr(jobs.urllib.request, "urlopen", urlopen)
    assert carry_out(jobs.enqueue("job"), lambda progress: None).state == RunState.DONE
    assert asked == ["http://127.0.0.1:9/abc/start", "http://127.0.0.1:9/abc"]
    asked.clear()
    carry_out(jobs.enqueue("job"), fail)
    assert asked == ["http://127.0.0.1:9/abc/start"]  # it will be tried again


def test_a_ping_tells_of_a_failure_that_no_worker_lives_to_tell(monkeypatch, manager):
    said = []
    monkeypatch.setattr(jobs, "_call", lambda address, what: said.append(what))
    JobSchedule.objects.create(name="job", ping_url="http://127.0.0.1:9/abc")
    jobs.cancel(jobs.enqueue("job"), by=manager)
    assert said == ["/fail"]
    running = jobs.enqueue("job")
    for attempts, is_cancelled, count in ((2, False, 1), (3, False, 2), (1, True, 3)):
        JobRun.objects.filter(pk=running.pk).update(
            state="running", attempts=attempts, is_cancelled=is_cancelled, beat_at=timezone.now() - 5 * MINUTE
        )
        jobs.sweep(timezone.now())
        assert said == ["/fail"] * count


def test_tidying_up_is_cancelled_between_its_parts(monkeypatch, manager):
    run = jobs.enqueue("tidy_jobs")

    def tidy(now):
        jobs.cancel(run, by=manager)
        progress.is_cancelled = True  # what the beat brings
        return 0

    monkeypatch.setattr(waiting, "tidy", tidy)
    progress = jobs.Progress(run)
    with pytest.raises(jobs.Cancelled):
        tasks.tidy_jobs(progress)


def test_whatever_answers_the_ping_the_job_runs(monkeypatch):
    JobSchedule.objects.create(name="job", ping_url="http://127.0.0.1:9/abc")

    def urlopen(address, timeout):
        raise http.client.BadStatusLine("SSH-2.0")

    monkeypatch.setattr(jobs.urllib.request, "urlopen", urlopen)
    assert carry_out(jobs.enqueue("job"), lambda progress: None).state == RunState.DONE


def test_who_answers_the_ping_for_ever_does_not_hold_the_job(monkeypatch):
    JobSchedule.objects.create(name="job", ping_url="http://127.0.0.1:9/abc")
    ended = threading.Event()
    monkeypatch.setattr(jobs, "PING_TIMEOUT_S", 0.1)
    monkeypatch.setattr(jobs.urllib.request, "urlopen", lambda address, timeout: ended.wait(60))
    began = time.monotonic()
    assert carry_out(jobs.enqueue("job"), lambda progress: None).state == RunState.DONE
    ended.set()
    assert time.monotonic() - began < 50


def test_a_cancelled_run_that_errs_is_not_tried_again(manager):
    run = jobs.enqueue("job")

    def work(progress):
        jobs.cancel(run, by=manager)
        raise OSError

    assert carry_out(run, work).state == RunState.FAILED


def test_a_retried_run_is_due_now(manager):
    run = jobs.enqueue("job", due_at=timezone.now() + 60 * MINUTE)
    jobs.cancel(run, by=manager)
    jobs.retry(run, by=manager)
    assert carry_out(run, lambda progress: None).state == RunState.DONE
    assert health.waiting(timezone.now()) == ""


# --- Health ---


def test_no_worker_is_told_until_one_beats(settings):
    now = timezone.now()
    assert "manage.py worker" in health.worker_trouble(now)
    tasks.beat()
    assert health.worker_trouble(timezone.now()) == ""
    assert health.worker_trouble(now + 2 * MINUTE)
    assert health.worker_trouble(now - 2 * MINUTE)  # a beat of the future says nothing of now


def test_the_last_sign_of_life_is_one_query(django_assert_num_queries):
    tasks.beat()
    soon = timezone.now() + MINUTE
    JobRun.objects.create(name="a", slot="1", state="running", progressed_at=soon)
    JobRun.objects.create(name="a", slot="2", state="done", progressed_at=soon + MINUTE)
    with django_assert_num_queries(1):
        assert health.last_sign() == soon


def test_two_long_jobs_are_not_a_dead_queue():
    now = timezone.now()
    Heartbeat.objects.beat("a", now - 5 * MINUTE)
    JobRun.objects.create(name="job", slot="1", state="running", progressed_at=now - MINUTE)
    assert health.worker_trouble(now) == ""
    assert health.worker_trouble(now + MINUTE)


def test_what_is_due_and_waits_is_told():
    now = timezone.now()
    Heartbeat.objects.beat("a", now)
    jobs.enqueue("job", due_at=now - 6 * MINUTE)
    assert "job" in health.worker_trouble(now)
    JobRun.objects.update(due_at=now - 4 * MINUTE)
    assert health.worker_trouble(now) == ""


@pytest.mark.parametrize(("name", "title"), [("send_mail", "Send mail"), ("make_export", "Export"), ("own", "own")])
def test_what_waits_is_told_by_its_title(name, title):
    now = timezone.now()
    Heartbeat.objects.beat("a", now)
    jobs.enqueue(name, due_at=now - 6 * MINUTE)
    assert f"The job {title} has waited" in health.worker_trouble(now)


def test_without_a_server_it_is_told_how_many_messages_were_too_late(settings):
    settings.EMAIL_IS_SET = False
    made = {"kind": "deadlines", "recipient": "anna@example.com", "subject": "1"}
    MessageLog.objects.create(claim_key="1", state="expired", next_try_at=None, **made)
    assert health.mail_trouble().startswith("0 messages wait, and 1 of the last seven days")
    MessageLog.objects.create(claim_key="2", **made)
    assert health.mail_trouble().startswith("1 messages wait, and 1 of the last seven days")
    with time_machine.travel(timezone.now() + 8 * 24 * 60 * MINUTE):
        assert health.mail_trouble().startswith("1 messages wait: no mail server")
    settings.EMAIL_IS_SET = True
    assert health.mail_trouble() == ""


def test_a_job_that_lives_and_gets_nowhere_is_told_by_its_title(django_assert_max_num_queries):
    now = timezone.now()
    Heartbeat.objects.beat("a", now)
    for queue, minutes in (("quick", 10), ("long", 30)):
        run = JobRun.objects.create(
            name="seal_audit", slot=queue, queue=queue, state="running", beat_at=now,
            progressed_at=now - (minutes - 1) * MINUTE,
        )  # fmt: skip
        assert health.worker_trouble(now) == ""
        JobRun.objects.filter(pk=run.pk).update(progressed_at=now - (minutes + 1) * MINUTE)
        with django_assert_max_num_queries(3):
            assert "Seal the history" in health.worker_trouble(now)
        JobRun.objects.filter(pk=run.pk).update(state="done")


def test_what_has_ended_is_said_when_the_database_is_back_and_not_done_again(monkeypatch):
    monkeypatch.setattr(jobs, "AGAIN_EVERY_S", 0)
    run, done, end = jobs.enqueue("job"), [], jobs._end
    away = [OperationalError, OperationalError]

    def end_later(*args, **values):
        if away:
            raise away.pop()
        return end(*args, **values)

    monkeypatch.setattr(jobs, "_end", end_later)
    monkeypatch.setattr(jobs.connection, "close", lambda: None)
    assert carry_out(run, lambda progress: done.append(1)).state == RunState.DONE and done == [1]


# A backup asks for more than a test's own transaction has: crm/tests/backups/test_night.py.
@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES.keys() - {"nightly_backup", "hourly_backup"}))
def test_each_schedule_is_a_command_too(settings, name, capsys):
    settings.AUDIT_KEYS = ["only-for-tests-0123456789-abcdefghijklmnopqrstuvwxyz"]
    call_command("run_job", name)
    run = JobRun.objects.get(name=name)
    assert (run.state, run.attempts, OrmQ.objects.count()) == (RunState.DONE, 1, 0)
    assert capsys.readouterr().out.strip()


def test_a_command_whose_job_fails_says_so_and_nothing_personal(monkeypatch):
    monkeypatch.setitem(tasks.JOBS, "tidy_jobs", fail)
    with pytest.raises(CommandError, match=r"Queued: ValueError \(test_jobs.py:\d+\)"):
        call_command("run_job", "tidy_jobs")
