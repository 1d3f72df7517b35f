"""The worker as a program: it ends when it is asked to, leaves no orphan, and is noticed when it hangs. Who is killed at what
moment is in crm.faults; here is also what django-q2 does without our supervisor."""

import contextlib
import os
import signal
import sys

import pytest
from django.conf import settings
from django.db import connection, transaction

from crm import schedules, supervisor
from crm.faults.desk import Desk, children, main_of
from crm.models import Heartbeat, JobRun, JobSchedule
from crm.tests.processes import Program, bare_environment, wait_until
from project.env import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MANAGE = [sys.executable, str(ROOT / "manage.py")]
# Chunks of a tenth of a second: longer than any test.
ENDLESS = 100_000
# The promise is 8 s; a busy machine gets more, but less than a lock of SQLite is waited for.
STOPS_S = 15


@pytest.fixture
def desk(tmp_path, transactional_db):
    return Desk(tmp_path)


@pytest.fixture
def start(desk):
    with contextlib.ExitStack() as started:
        yield lambda *command, **options: started.enter_context(desk.worker(*command, **options))


@pytest.fixture
def plain(start):
    """django-q2's own command."""
    return lambda: start(*MANAGE, "qcluster", processes=6)


def run(desk, *arguments) -> tuple[int, str]:
    with Program([*MANAGE, *arguments], cwd=desk.folder, env=desk.environment()) as program:
        program.wait_for_end(within_s=120)
        return program.process.returncode, program.output


def states() -> list[str]:
    return list(JobRun.objects.filter(name="work").order_by("pk").values_list("state", flat=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_worker_ends_on_one_signal_to_its_whole_group(start, number):
    worker = start(*MANAGE, "worker")
    worker.signal_group(number)
    worker.wait_for_end()
    assert worker.process.returncode == 0


def test_plain_cluster_hangs_on_term_to_its_whole_group(plain):
    """A race that it loses mostly, not always: the sentinel dies while the main process waits for it to wake up."""

    def hangs() -> bool:
        cluster = plain()
        cluster.signal_group(signal.SIGTERM)
        return not wait_until(lambda: cluster.process.poll() is not None, within_s=6)

    assert any(hangs() for _ in range(8)), "django-q2 got better: see supervisor"


def test_plain_cluster_leaves_orphans_when_killed(plain):
    cluster = plain()
    cluster.process.kill()
    cluster.process.wait()
    assert not wait_until(lambda: not cluster.pids(), within_s=4), "django-q2 got better: see supervisor"


def test_killed_supervisor_leaves_no_orphan(start):
    worker = start()
    worker.process.kill()
    worker.wait_for_end()


@pytest.mark.parametrize("deaf", [False, True])
def test_killed_supervisor_takes_a_running_job_with_it(start, desk, deaf):
    worker = start()
    desk.begun(desk.enqueue("endless", queue="long", chunks=ENDLESS, deaf=deaf))
    worker.process.kill()
    worker.wait_for_end(within_s=STOPS_S)
    assert states() == [("running" if deaf else "queued")]


def test_a_queue_that_hangs_is_started_again(start, desk):
    worker = start(FAULTS_SILENCE_S="6")
    before = main_of(worker)
    os.killpg(before, signal.SIGSTOP)
    later = desk.enqueue("later")
    worker.wait_for("again: nothing has run for")
    assert desk.seconds_until_done(later) < 120
    desk.settle(worker)
    assert before not in children(worker.process.pid)


def test_a_running_job_goes_back_into_the_queue_when_the_worker_stops(start, desk):
    worker = start()
    job = desk.enqueue("endless", queue="long", chunks=ENDLESS)
    desk.begun(job)
    worker.process.terminate()
    worker.wait_for_end()
    assert worker.process.returncode == 0
    assert states() == ["queued"]
    start()
    assert wait_until(lambda: len(desk.noted("begin", job)) == 2, within_s=60)


def test_a_job_that_hears_nothing_is_killed_with_the_worker_in_time(start, desk):
    worker = start()
    desk.begun(desk.enqueue("deaf", queue="long", chunks=ENDLESS, deaf=True))
    worker.process.terminate()
    worker.wait_for_end(within_s=STOPS_S)
    assert states() == ["queued"]


def test_a_locked_database_does_not_hold_the_stop(start, desk):
    worker = start()
    desk.begun(desk.enqueue("endless", queue="long", chunks=ENDLESS))
    with transaction.atomic():
        JobRun.objects.select_for_update().update(message="held")
        worker.process.terminate()
        worker.wait_for_end(within_s=STOPS_S)


def test_a_locked_database_does_not_hold_the_stop_of_a_worker_that_starts(desk):
    with transaction.atomic():
        hold("crm_jobschedule")
        with Program([*MANAGE, "worker"], cwd=desk.folder, env=desk.environment()) as worker:
            wait_until(lambda: threads(worker) > 1 and is_waited_for("crm_jobschedule"), within_s=60)
            worker.process.terminate()
            worker.wait_for_end(within_s=STOPS_S)


def test_a_worker_that_started_without_its_tables_has_its_calendar_when_they_are_there(desk, start):
    JobSchedule.objects.all().delete()
    rename("crm_jobschedule", "crm_jobschedule_away")
    try:
        worker = start()
        worker.wait_for("cannot ask the database")
    finally:
        rename("crm_jobschedule_away", "crm_jobschedule")
    assert wait_until(lambda: JobSchedule.objects.count() == len(schedules.wanted()), within_s=60), worker.output


def rename(table: str, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's lock lets a supervisor read; .ci/run has both")
def test_a_locked_database_does_not_hold_the_stop_of_a_worker_that_starts_a_queue_again(start):
    worker = start(*MANAGE, "worker")
    with transaction.atomic():
        hold("crm_jobrun")
        os.killpg(main_of(worker), signal.SIGKILL)
        worker.wait_for("again: its main process has ended")
        worker.process.terminate()
        worker.wait_for_end(within_s=STOPS_S)


def hold(table: str) -> None:
    """Until the end of the transaction: on SQLite the whole database, for writers."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")


def is_waited_for(table: str) -> bool:
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass", [table])
        return cursor.fetchone()[0] > 0


def threads(program: Program) -> int:
    return len(os.listdir(f"/proc/{program.process.pid}/task"))


def test_workers_of_one_host_and_number_have_names_of_their_own():
    """Two containers under one name: what one leaves when it stops would be the other's."""
    names = {cluster.name for _ in range(2) for cluster in supervisor.Supervisor().clusters}
    assert len(names) == 4
    assert max(map(len, names)) <= JobRun._meta.get_field("worker").max_length


def test_a_flag_is_seen_in_a_forked_process():
    flag = supervisor.Flag()
    assert not flag.wait(0.01)
    child = supervisor.FORK.Process(target=flag.set)
    child.start()
    child.join()
    assert flag.is_set() and flag.wait(60)


def test_two_long_jobs_do_not_delay_a_quick_one(start, desk):
    start()
    for number in range(3):
        desk.enqueue(f"long {number}", queue="long", chunks=ENDLESS)
    assert wait_until(lambda: sorted(states()) == ["queued", "running", "running"], within_s=60)
    assert desk.seconds_until_done(desk.enqueue("quick")) < 120


def test_check_worker_is_content_only_where_a_worker_runs_tasks(start, desk):
    code, said = run(desk, "check_worker")
    assert code == 1 and "manage.py worker" in said
    start()
    assert wait_until(lambda: Heartbeat.objects.count() == 2, within_s=60)
    assert run(desk, "check_worker") == (0, "The worker runs tasks.\n")


def test_worker_does_not_pool_even_where_the_environment_says_so():
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["pool"] = {"min_size": 1, "max_size": 1}
    try:
        if connection.vendor == "postgresql":
            connection.ensure_connection()
            assert connection.pool
        supervisor.forbid_pool()
        assert "pool" not in options
        assert connection.settings_dict is settings.DATABASES["default"], "the cluster's processes read the other one"
    finally:
        options.pop("pool", None)


@pytest.mark.skipif(
    not settings.DATABASES["default"]["ENGINE"].endswith("postgresql"), reason="SQLite has no pool; .ci/run has both"
)
def test_plain_pool_mixes_up_the_answers_of_forked_processes(tmp_path):
    """Two forks ask one pool for their own number; both getting only their own would mean psycopg got better."""
    program = f"""
import os, sys, time, psycopg_pool
pool = psycopg_pool.ConnectionPool({os.environ["DATABASE_URL"]!r}, min_size=1, max_size=1, open=True)
pool.wait()
children, (waiting, starting) = [], os.pipe()
for number in (1, 2):
    children.append(os.fork())
    if not children[-1]:
        os.close(starting)
        os.read(waiting, 1)  # until both are there: who is alone at it gets only his own answers
        until = time.monotonic() + 3
        try:
            with pool.connection() as connection:
                while time.monotonic() < until:
                    answer = connection.execute("SELECT %s::int", (number,), prepare=False).fetchone()[0]
                    assert answer == number, "mixed up"
            os._exit(0)
        except BaseException:
            os._exit(1)
os.close(starting)
sys.stdout.write("right" if all(os.waitpid(child, 0)[1] == 0 for child in children) else "wrong")
os._exit(0)
"""
    with Program([sys.executable, "-c", program], cwd=tmp_path, env=bare_environment(tmp_path)) as plain:
        wait_until(lambda: plain.process.poll() is not None, within_s=10)
        assert plain.output != "right"  # wrong, or waiting for ever for an answer that the other one took
