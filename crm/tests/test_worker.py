import os
import signal
import sys

import pytest
from django.conf import settings
from django.db import connection

from crm import supervisor
from crm.tests.processes import Program, bare_environment, wait_until
from project.env import ROOT

pytestmark = pytest.mark.slow

MANAGE = [sys.executable, str(ROOT / "manage.py")]


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
    )
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

    def start_command(*arguments, **variables):
        program = Program([*MANAGE, *arguments], cwd=folder, env={**env, **variables})
        started.append(program)
        program.wait_for("running.")
        # Sentinel, pusher, monitor and two workers stand below the main process.
        assert wait_until(lambda: len(program.pids()) >= 6, within_s=20), program.output
        return program

    yield start_command
    for program in started:
        program.__exit__()


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(child) for child in listed.read().split()]


def start_long_task(desk, program):
    folder, env = desk
    run(folder, env, "shell", "-c", "from django_q.tasks import async_task; async_task('time.sleep', 300)")
    program.wait_for("processing")


def test_idle_worker_ends_on_one_term_to_its_whole_group(start):
    worker = start("worker")
    worker.signal_group(signal.SIGTERM)
    worker.wait_for_end()
    assert worker.process.returncode == 0


def test_plain_cluster_hangs_on_term_to_its_whole_group(start):
    """A race that it loses mostly, not always: the sentinel dies while the main process waits for it to wake up."""

    def hangs() -> bool:
        plain = start("qcluster")
        plain.signal_group(signal.SIGTERM)
        return not wait_until(lambda: plain.process.poll() is not None, within_s=6)

    assert any(hangs() for _ in range(8)), "django-q2 got better: see supervisor"


def test_killed_cluster_leaves_no_orphan_and_fails(start):
    worker = start("worker")
    [cluster] = children(worker.process.pid)
    os.kill(cluster, signal.SIGKILL)
    worker.wait_for_end()
    assert worker.process.returncode == 1


def test_plain_cluster_leaves_orphans_when_killed(start):
    plain = start("qcluster")
    plain.process.kill()
    plain.process.wait()
    assert not wait_until(lambda: not plain.pids(), within_s=4), "django-q2 got better: see supervisor"


def test_killed_supervisor_leaves_no_orphan(start):
    worker = start("worker")
    worker.process.kill()
    worker.wait_for_end()


def test_running_task_outlives_the_first_signal_and_not_the_second(start, desk):
    worker = start("worker")
    start_long_task(desk, worker)
    worker.process.terminate()
    assert not wait_until(lambda: worker.process.poll() is not None, within_s=4), worker.output
    worker.process.terminate()
    worker.wait_for_end()
    assert worker.process.returncode == 0
    folder, env = desk
    run(folder, env, "shell", "-c", "from django_q.models import OrmQ; OrmQ.objects.all().delete()")


def test_probe_is_true_only_where_a_worker_runs_tasks(start, desk):
    folder, env = desk
    start("worker")
    assert "The worker runs tasks." in run(folder, env, "worker", "--probe")


@pytest.mark.django_db(transaction=True)
def test_probe_without_a_worker_fails_and_leaves_nothing_behind():
    from django_q.models import OrmQ, Task

    assert supervisor.probe(within_s=0.3) is False
    assert (OrmQ.objects.count(), Task.objects.count()) == (0, 0)


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
