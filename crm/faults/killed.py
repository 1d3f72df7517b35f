"""`kill -9` of a process of the worker: while it works, while it waits, and of the one above them. How long until the next
task has run, and what became of the one that was running."""

import os
import signal
import time
from collections.abc import Callable

from django.utils import timezone

from crm.choices import RunState
from crm.faults.desk import Desk, Found, children, main_of, sentinel, waits
from crm.models import JobRun
from crm.tests.processes import Program


def busy_worker(desk: Desk, rounds: int) -> Found:
    return _rounds(desk, rounds, "busy", lambda worker, number, busy: busy)


def idle_worker(desk: Desk, rounds: int) -> Found:
    """In turn the one that waits for a task, with the lock of the queue in its hand, and the one that waits for that lock."""

    def victim(worker: Program, number: int, busy: int) -> int:
        waits_in = ("pipe_read", "futex")[number % 2]
        idle = children(sentinel(main_of(worker)))
        return next((pid for pid in idle if waits_in in waits(pid)), idle[0])

    return _rounds(desk, rounds, "idle", victim)


def main_process(desk: Desk, rounds: int) -> Found:
    return _rounds(desk, rounds, "main", lambda worker, number, busy: main_of(worker))


def _rounds(desk: Desk, rounds: int, name: str, victim: Callable[[Program, int, int], int]) -> Found:
    runs, waited, killed_at = [], [], {}
    with desk.worker() as worker:
        for number in range(rounds):
            hit = busy = 0
            if name != "idle":
                hit = desk.enqueue(f"{name} {number}", chunks=desk.chunks)
                busy = desk.begun(hit)
                time.sleep(number % 7 / 10)
            os.kill(victim(worker, number, busy), signal.SIGKILL)
            killed_at[hit] = timezone.now()
            following = desk.enqueue(f"after {name} {number}")
            waited.append(desk.seconds_until_done(following))
            runs += [following, hit] if hit else [following]
            if name == "main":  # else the next kill would hit it again, and a third one is its end
                desk.seconds_until_done(hit)
            desk.settle(worker)
        desk.seconds_until_done(*runs)
    ended = JobRun.objects.filter(pk__in=killed_at, state=RunState.DONE).values_list("pk", "finished_at")
    again = [(at - killed_at[run]).total_seconds() for run, at in ended]
    said = f"what was running has ended {max(again):.0f} s after the kill at most" if again else ""
    return Found(rounds, **desk.tally(runs), slowest_s=max(waited), said=said, goal_s=desk.goal_s)
