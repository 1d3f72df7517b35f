"""Keeps one queue cluster in a session of its own: one TERM reaches it, nothing outlives it.

django-q2 alone deadlocks when its whole group gets SIGTERM (a terminal, honcho, systemd), and leaves orphans that go
on working when its main process is killed. Measured with 1.11; test_worker.py shows it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time

from django.db import connections

LOOK_EVERY_S = 0.2
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def supervise() -> int:
    """Runs until the cluster ends; returns the exit code: 0 when it was asked to stop.

    The first TERM or INT lets running tasks finish, a second one kills them.
    """
    forbid_pool()
    cluster = multiprocessing.get_context("fork").Process(target=_run_cluster, args=(os.getpid(),), name="cluster")
    asked = []

    def pass_on(signum, frame):
        asked.append(signum)
        with contextlib.suppress(ProcessLookupError):
            if len(asked) == 1:
                os.kill(cluster.pid, signal.SIGTERM)
            else:
                os.killpg(cluster.pid, signal.SIGKILL)

    # Blocked around the fork: no signal falls between it and the handler, and the child starts without one.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    cluster.start()
    for number in STOP_SIGNALS:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    cluster.join()
    # After a hard death its children may still stand in its group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(cluster.pid, signal.SIGKILL)
    return 0 if asked else 1


def forbid_pool() -> None:
    """Closes every connection, for good: processes that share one read each other's answers."""
    connections.close_all()
    for connection in connections.all():
        if connection.vendor == "postgresql":
            connection.close_pool()
        connection.settings_dict.get("OPTIONS", {}).pop("pool", None)


def _run_cluster(supervisor: int) -> None:
    os.setsid()
    from django_q.cluster import Cluster

    os.register_at_fork(before=_remember_parent, after_in_child=_die_with_parent)
    cluster = Cluster()
    asked = []
    # The cluster's own handler stops from inside the signal, where a second one finds the lock taken for ever.
    signal.signal(signal.SIGTERM, lambda signum, frame: asked.append(signum))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    cluster.start()
    while cluster.sentinel.is_alive() and not asked and os.getppid() == supervisor:
        time.sleep(LOOK_EVERY_S)
    cluster.stop()
    sys.exit(0 if asked else 1)


def probe(*, within_s: float) -> bool:
    """Whether a task put into the queue has run in time. Leaves nothing behind."""
    from django_q.models import OrmQ, Task
    from django_q.tasks import async_task, result

    task = async_task("django.utils.timezone.now", task_name="probe", group="probe")
    ran = result(task, wait=int(within_s * 1000)) is not None
    Task.objects.filter(id=task).delete()
    if not ran:
        for row in OrmQ.objects.all():
            if row.task_id() == task:
                row.delete()
    return ran


_forking_pid = 0


def _remember_parent() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def _die_with_parent() -> None:
    """Linux only: elsewhere the group is swept by supervise(), unless that was killed too."""
    if not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != _forking_pid:  # it died before the line above
        os._exit(1)
