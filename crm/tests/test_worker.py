import os
import signal
import sys
import time

import pytest
from django.conf import settings
from django.db import connection

from crm import supervisor
from crm.tests.processes import Program, bare_environment, wait_until
from project.env import ROOT

pytestmark = pytest.mark.slow

MANAGE = [sys.executable, str(ROOT / "manage.py")]
WITH_JOBS = [sys.executable, "-m", "crm.tests.worker_with_jobs"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder and an environment with a migrated database of their own."""
    folder = tmp_path_factory.mktemp("desk")
    env = bare_environment(
        folder,
        ENV_FILE="",
        DEBUG="1",
        DATA_DIR=str(folder),
        SECRET_KEY=settings.SECRET_KEY,
        SEARCH_KEY=settings.SEARCH_KEY,
        FIELD_ENCRYPTION_KEY=settings.FIELD_ENCRYPTION_KEY[0],
        DJANGO_SETTINGS_MODULE="project.settings",
    )
    env["PYTHONPATH"] = f"{env['PYTHONPATH']}{os.pathsep}{ROOT}"
    run(folder, env, "migrate")
    return folder, env


def run(folder, env, *arguments) -> str:
    with Program([*MANAGE, *arguments], cwd=folder, env=env) as program:
        program.wait_for_end(within_s=120)
        assert program.process.returncode == 0, program.output
        return program.output


@pytest.fixture
def start(desk):
    folder, env = desk
    started = []

    def start_command(*arguments, said: str = "The worker runs", least: int = 12, **variables):
        program = Program([*(arguments or WITH_JOBS)], cwd=folder, env={**env, **variables})
        started.append(program)
        program.wait_for(said)
        # Of each queue: a main process, sentinel, pusher, monitor and two workers.
        assert wait_until(lambda: len(program.pids()) >= least, within_s=20), program.output
        return program

    yield start_command
    for program in started:
        program.__exit__()
    run(
        folder,
        env,
        "shell",
        "-c",
        "from crm.models import *; from django_q.models import OrmQ; OrmQ.objects.all().delete(); JobRun.objects.all().delete(); Heartbeat.objects.all().delete()",
    )


@pytest.fixture
def plain(start):
    """django-q2's own command."""
    return lambda: start(*MANAGE, "qcluster", said="", least=6)


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(child) for child in listed.read().split()]


def ask(desk, code: str) -> str:
    """What a process of its own sees in the database."""
    folder, env = desk
    return run(folder, env, "shell", "-v", "0", "-c", f"from crm import jobs\nfrom crm.models import *\n{code}").strip()


def states(desk) -> str:
    return ask(desk, "print(*JobRun.objects.filter(name='endless').order_by('pk').values_list('state', flat=True))")


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


def test_a_killed_queue_is_started_again_and_leaves_no_orphan(start, desk):
    worker = start()
    before = set(worker.pids())
    cluster = children(worker.process.pid)[0]
    os.kill(cluster, signal.SIGKILL)
    worker.wait_for("again: its main process has ended")
    assert wait_until(lambda: len(worker.pids()) == len(before), within_s=30), worker.output
    assert len(before - set(worker.pids())) == 6
    ask(desk, "jobs.enqueue('tidy_jobs', slot='1')")
    assert wait_until(lambda: "done" in ask(desk, "print(JobRun.objects.get(slot='1').state)"), within_s=60)


def test_killed_processes_of_an_idle_queue_are_noticed(start, desk):
    """All of its workers at once: django-q2 forks new ones, which wait for a lock that a dead one holds."""
    worker = start(SILENCE_S="4")
    for cluster in children(worker.process.pid):
        [sentinel] = [pid for pid in children(cluster) if children(pid)]
        for pid in children(sentinel):
            os.kill(pid, signal.SIGKILL)
    ask(desk, "jobs.enqueue('tidy_jobs', slot='1')")
    assert wait_until(lambda: "done" in ask(desk, "print(JobRun.objects.get(slot='1').state)"), within_s=90), (
        worker.output
    )


def test_a_running_job_goes_back_into_the_queue_when_the_worker_stops(start, desk):
    worker = start()
    ask(desk, "jobs.enqueue('endless', slot='1', queue='long')")
    assert wait_until(lambda: "running" in states(desk), within_s=60), worker.output
    worker.process.terminate()
    worker.wait_for_end()
    assert worker.process.returncode == 0
    assert states(desk) == "queued"
    start()
    assert wait_until(lambda: "running" in states(desk), within_s=60)


def test_a_job_that_hears_nothing_is_killed_with_the_worker_in_time(start, desk):
    worker = start()
    ask(desk, "jobs.enqueue('endless', slot='1', queue='long', deaf=True)")
    assert wait_until(lambda: "running" in states(desk), within_s=60), worker.output
    began = time.monotonic()
    worker.process.terminate()
    worker.wait_for_end()
    assert time.monotonic() - began < 10
    assert states(desk) == "queued"


def test_two_long_jobs_do_not_delay_a_quick_one(start, desk):
    start()
    ask(desk, "[jobs.enqueue('endless', slot=str(n), queue='long') for n in range(3)]")
    assert wait_until(lambda: states(desk).split() == ["running", "running", "queued"], within_s=60)
    ask(desk, "jobs.enqueue('tidy_jobs', slot='quick')")
    assert wait_until(lambda: "done" in ask(desk, "print(JobRun.objects.get(slot='quick').state)"), within_s=30)


def test_check_worker_is_content_only_where_a_worker_runs_tasks(start, desk):
    folder, env = desk
    with Program([*MANAGE, "check_worker"], cwd=folder, env=env) as program:
        program.wait_for_end(within_s=60)
        assert program.process.returncode == 1 and "manage.py worker" in program.output
    start()
    assert wait_until(
        lambda: "done" in ask(desk, "print('done' if Heartbeat.objects.count() == 2 else '')"), within_s=60
    )
    assert "The worker runs tasks." in run(folder, env, "check_worker")


@pytest.mark.django_db(transaction=True)
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
import os, sys, psycopg_pool
pool = psycopg_pool.ConnectionPool({os.environ["DATABASE_URL"]!r}, min_size=1, max_size=1, open=True)
pool.wait()
children = []
for number in (1, 2):
    children.append(os.fork())
    if not children[-1]:
        try:
            with pool.connection() as connection:
                for _ in range(300):
                    answer = connection.execute("SELECT %s::int", (number,), prepare=False).fetchone()[0]
                    assert answer == number, "mixed up"
            os._exit(0)
        except BaseException:
            os._exit(1)
sys.stdout.write("right" if all(os.waitpid(child, 0)[1] == 0 for child in children) else "wrong")
os._exit(0)
"""
    with Program([sys.executable, "-c", program], cwd=tmp_path, env=bare_environment(tmp_path)) as plain:
        wait_until(lambda: plain.process.poll() is not None, within_s=10)
        assert plain.output != "right"  # wrong, or waiting for ever for an answer that the other one took
