"""Keeps the queue's clusters (quick and long) alive: each in a session of its own, asked every few seconds whether it
really runs tasks, restarted when it does not, and stopped without a trace.

django-q2 alone deadlocks when its whole group gets SIGTERM (a terminal, honcho, systemd), leaves orphans that go on
working when its main process is killed, and looks idle for ever once an idle worker process was killed. Measured with
1.11; test_worker.py shows it.
"""

import contextlib
import ctypes
import datetime
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connections
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from crm import jobs, schedules
from crm.backups import placing
from crm.choices import QueueName
from crm.models import Heartbeat, JobRun

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
BEAT_EVERY_S = 15
# Without a beat or progress of a job for so long, a queue is taken for dead.
SILENCE_S = 60
# Where the workers of others took the beats; so many in a row they do not take by chance.
SILENCE_AMONG_OTHERS_S = 300
STOP_WITHIN_S = 6
# After a second signal, which kills: for the database to hear of it.
TOLD_WITHIN_S = 1
RESTART_AFTER_S = 10
PR_SET_PDEATHSIG = 1
# What the clock of a django-q2 process says while it waits for a task.
IDLE = -1
# Older signs of life are of no worker that is still there.
FORGET_AFTER = datetime.timedelta(days=1)
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
FORK = multiprocessing.get_context("fork")
BEAT = "crm.tasks.beat"


def supervise() -> int:
    """Runs until it is asked to stop by TERM or INT, then ends within STOP_WITHIN_S and a moment: running jobs stop at
    their next chunk, or are killed, and go back into the queue. A second signal kills at once. Returns the exit code."""
    return Supervisor().run()


class Supervisor:
    def __init__(self):
        # Host and number are the same in two containers that have the same name.
        self.name = f"{socket.gethostname()[:50]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.clusters = [Cluster(self.name, queue) for queue in QueueName.values]
        self.signals = 0
        self.asked_at = 0.0

    def run(self) -> int:
        forbid_pool()
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        asked, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno())
        threading.Thread(target=self._end_in_time, args=(asked,), name="end", daemon=True).start()
        _asking_database(placing.finish_at_start)
        has_calendar = _asking_database(schedules.sync)
        if self.signals:
            return 0
        for cluster in self.clusters:
            cluster.start()
        logger.info("The worker runs: %s", ", ".join(cluster.queue for cluster in self.clusters))
        while not self.signals:
            time.sleep(LOOK_EVERY_S)
            is_time = time.monotonic() - self.asked_at >= BEAT_EVERY_S
            if is_time:
                self.asked_at = time.monotonic()
                has_calendar = has_calendar or _asking_database(schedules.sync)
            for cluster in self.clusters:
                if not self.signals and (why := cluster.trouble(ask=is_time)):
                    self._restart(cluster, why)
        self._stop()
        return 0

    def _on_signal(self, signum, frame):
        self.signals += 1
        if self.signals > 1:
            for cluster in self.clusters:
                cluster.kill()

    def _restart(self, cluster: "Cluster", why: str) -> None:
        logger.error("the worker starts its queue %s again: %s", cluster.queue, why)
        cluster.kill()
        _asking_database(cluster.leave)
        cluster.start()

    def _stop(self) -> None:
        until = time.monotonic() + STOP_WITHIN_S
        for cluster in self.clusters:
            cluster.ask_to_stop()
        for cluster in self.clusters:
            cluster.process.join(timeout=max(0, until - time.monotonic()))
            cluster.kill()
        for cluster in self.clusters:
            _asking_database(lambda cluster=cluster: cluster.leave(is_wanted=True))

    def _end_in_time(self, asked: socket.socket) -> None:
        """A thread: Python's own handler waits until a call into a slow or silent database returns. What the database was
        not told, the sweep finds out."""
        asked.recv(1)
        for cluster in self.clusters:
            cluster.ask_to_stop()
        asked.settimeout(STOP_WITHIN_S + 1)
        with contextlib.suppress(TimeoutError):
            asked.recv(1)
            time.sleep(TOLD_WITHIN_S)
        for cluster in self.clusters:
            cluster.kill_group()
        os._exit(0)


class Flag:
    """An event of several processes without a lock, which whoever is killed with it in his hand would keep for ever."""

    def __init__(self):
        self._is_set = FORK.RawValue(ctypes.c_bool, False)

    def set(self) -> None:
        self._is_set.value = True

    def is_set(self) -> bool:
        return self._is_set.value

    def wait(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY_S))
        return self.is_set()


class Cluster:
    """The processes of one queue, and what was last heard of them."""

    def __init__(self, supervisor: str, queue: str):
        self.queue, self.name = queue, f"{supervisor}:{queue}"
        self.stopping = Flag()
        self.process: multiprocessing.Process | None = None
        self.heard_at = 0.0
        self.patience_s = SILENCE_S

    def start(self) -> None:
        self.stopping = Flag()
        process = FORK.Process(target=self._run, args=(os.getpid(),), name=self.name)
        # The child starts without a signal until it has its own handlers, and none here finds it half there.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process.start()
            self.process = process
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self.heard_at = time.monotonic()

    def trouble(self, *, ask: bool) -> str:
        """Why it must be started again, if it must."""
        if not self.process.is_alive():
            return "its main process has ended"
        if ask and not _asking_database(self._ask):
            self.heard_at = time.monotonic()  # nothing can be known while the database is away
        if time.monotonic() - self.heard_at > self.patience_s:
            return f"nothing has run for {self.patience_s} seconds"
        return ""

    def _ask(self) -> None:
        now = timezone.now()
        beats, silence = Heartbeat.objects.all(), now - datetime.timedelta(seconds=SILENCE_S)
        runs = JobRun.objects.filter(worker=self.name, progressed_at__gt=silence)
        signs = [
            *beats.filter(pk=self.name).values_list("at", flat=True),
            *runs.values_list("progressed_at", flat=True),
        ]
        if signs:
            self.heard_at = max(self.heard_at, time.monotonic() - (now - max(signs)).total_seconds())
        others = beats.filter(worker__endswith=f":{self.queue}", at__gt=silence).exclude(pk=self.name)
        self.patience_s = SILENCE_AMONG_OTHERS_S if others.exists() else SILENCE_S
        if not OrmQ.objects.filter(key=self.queue, lock__lte=silence).exists():
            async_task(BEAT, cluster=self.queue, task_name="beat")
        beats.filter(at__lt=now - FORGET_AFTER).delete()

    def ask_to_stop(self) -> None:
        self.stopping.set()
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.process:
            self.kill_group()
            self.process.join()

    def kill_group(self) -> None:
        """Also what a main process that died by itself left in it."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def leave(self, *, is_wanted: bool = False) -> None:
        """What it was running, and what it had taken out of the queue to run, goes back; nobody counts on it any more. Of
        what others have taken out the second knock is one too many, which does nothing."""
        now = timezone.now()
        jobs.give_back_all(self.name, now, is_wanted=is_wanted)
        OrmQ.objects.filter(key=self.queue, lock__gt=now).update(lock=now)
        Heartbeat.objects.filter(pk=self.name).delete()

    def _run(self, supervisor: int) -> None:
        """In its own process."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        from django_q import cluster as queue

        queue.Sentinel = _guard(queue.Sentinel)
        Conf.CLUSTER_NAME, jobs.worker_name, jobs.stopping = self.queue, self.name, self.stopping
        os.register_at_fork(before=_remember_parent, after_in_child=_die_with_parent)
        cluster = queue.Cluster()
        asked = []
        # The cluster's own handler stops from inside the signal, where a second one finds the lock taken for ever.
        signal.signal(signal.SIGTERM, lambda signum, frame: asked.append(signum))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        cluster.start()
        while cluster.sentinel.is_alive() and not asked and os.getppid() == supervisor:
            time.sleep(LOOK_EVERY_S)
        threading.Thread(target=_end_own_group, name="end", daemon=True).start()
        self.stopping.set()
        cluster.stop()
        sys.exit(0 if asked else 1)


def _end_own_group() -> None:
    """A thread: who is waited for may hear nothing, and the supervisor may be gone that would kill it."""
    time.sleep(STOP_WITHIN_S)
    os.killpg(0, signal.SIGKILL)


def _guard(sentinel: type) -> type:
    """django-q2 puts a new process in the place of one that was killed; but who was killed while it waited for a task or a
    result held the lock of that queue, for which everybody would wait for ever. Then the whole queue starts again."""

    class Guard(sentinel):
        def reincarnate(self, process):
            is_waiting = process in (self.monitor, self.pusher) or int(process.timer.value) == IDLE
            if is_waiting and (process.exitcode or 0) < 0:
                logger.error("a waiting process of the queue was killed: signal %s", -process.exitcode)
                os._exit(1)
            super().reincarnate(process)

    return Guard


def run_beside_web() -> None:
    """For a host with one process: a worker of its own under the web process, started again when it ends, gone with it.
    Several web processes have one each, which does no harm."""

    def keep():
        while True:
            started = time.monotonic()
            # The child dies with the thread that made it, so this one stays.
            subprocess.Popen(
                [sys.executable, "manage.py", "worker"], cwd=settings.BASE_DIR, preexec_fn=_term_with_parent
            ).wait()
            time.sleep(max(0, RESTART_AFTER_S - (time.monotonic() - started)))

    threading.Thread(target=keep, name="worker", daemon=True).start()


def _term_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _asking_database(ask) -> bool:
    """False where it could not be asked. No connection is left open: the next fork would share it."""
    try:
        ask()
    except DatabaseFailure as error:
        logger.warning("the worker's supervisor cannot ask the database: %s", type(error).__name__)
        return False
    finally:
        connections.close_all()
    return True


def forbid_pool() -> None:
    """Closes every connection, for good: processes that share one read each other's answers."""
    connections.close_all()
    for connection in connections.all():
        if connection.vendor == "postgresql":
            connection.close_pool()
        connection.settings_dict.get("OPTIONS", {}).pop("pool", None)


_forking_pid = 0


def _remember_parent() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def _die_with_parent() -> None:
    """Linux only: elsewhere the group is swept by the supervisor, unless that was killed too."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _forking_pid:  # it died before the line above
        os._exit(1)
