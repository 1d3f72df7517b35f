"""Two workers, each with its clocks and its queues, before as many due slots: each slot is run once."""

import datetime
import time

from django.utils import timezone

from crm.choices import RunState
from crm.faults.desk import PATIENCE_S, SETTLED_S, Desk, Found
from crm.models import JobRun, JobSchedule
from crm.tests.processes import wait_until

SLOTS, FEW = 1_000, 30


def two_workers(desk: Desk, rounds: int) -> Found:
    count = SLOTS if desk.is_whole else FEW
    slots = {"FAULTS_SLOTS": str(count)}
    with desk.worker(**slots), desk.worker(**slots):
        found = [_round(desk, count) for _ in range(rounds)]
    lost, doubled, seconds = (sum(each) for each in zip(*found, strict=True))
    return Found(rounds, lost, doubled, said=f"{count:,} slots a round, {count * rounds / seconds:.0f} a second")


def _round(desk: Desk, count: int) -> tuple[int, int, float]:
    """Lost, doubled, seconds."""
    names = [f"slot {number}" for number in range(count)]
    rows, made = JobSchedule.objects.filter(name__in=names), JobRun.objects.filter(name__in=names)
    rows.update(since=timezone.now())
    made.delete()
    rows.update(since=timezone.now() - datetime.timedelta(days=1))  # in which each had one
    start = time.monotonic()
    wait_until(lambda: made.filter(state=RunState.DONE).count() >= count, within_s=PATIENCE_S)
    seconds = time.monotonic() - start
    time.sleep(SETTLED_S)  # who would do one once more does it now
    runs = dict(made.values_list("pk", "name"))
    found, different = desk.tally(runs), len(set(runs.values()))
    return count - different + found["lost"], len(runs) - different + found["doubled"], seconds
