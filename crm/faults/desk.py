"""Workers seen from outside: their processes, what their jobs noted, and a stopwatch. The database is the one that Django
has in this process: a test's, or the one that `python -m crm.faults` made."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from django.db import connection

from crm import jobs
from crm.choices import RunState
from crm.faults import SEED
from crm.models import JobRun
from crm.tests.processes import Program, bare_environment, wait_until
from project.env import ROOT

# With the patience of the product; with a suite's, so that whoever is only found by silence is found too late.
GOAL_S, SHORT_GOAL_S = 60, 20
# Longer than any patience of the product, so that what is late is measured and not only missed.
PATIENCE_S = 300
# A worker is there after a moment, also on a busy machine, and a moment later it waits.
SETTLES_S, SETTLED_S = 60, 0.5
# The supervisor; of each queue a main process, sentinel, pusher, monitor and two workers.
PROCESSES = 13
COMMAND = (sys.executable, "-m", "crm.faults.worker")


@dataclass(frozen=True)
class Found:
    """What became of a fault's rounds. `wrong` is what was promised beside and not kept."""

    rounds: int
    lost: int = 0
    doubled: int = 0
    slowest_s: float | None = None
    said: str = ""
    wrong: tuple[str, ...] = ()
    goal_s: float = GOAL_S

    @property
    def is_met(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or (self.slowest_s or 0) > self.goal_s)


@dataclass(frozen=True)
class Desk:
    """`is_whole`: the counts and the patience of the product, else those of a suite. Whatever is left to chance is drawn from
    `seed`."""

    folder: Path
    is_whole: bool = False
    seed: int = SEED

    @property
    def journal(self) -> Path:
        return self.folder / "journal.txt"

    @property
    def chunks(self) -> int:
        """Of a job that is killed in the middle: tenths of a second."""
        return 20 if self.is_whole else 10

    @property
    def goal_s(self) -> float:
        return GOAL_S if self.is_whole else SHORT_GOAL_S

    def environment(self, **variables: str) -> dict[str, str]:
        env = bare_environment(
            self.folder,
            DJANGO_SETTINGS_MODULE=os.environ["DJANGO_SETTINGS_MODULE"],
            DATABASE_URL=address(),
            FAULTS_JOURNAL=str(self.journal),
            FAULTS_PATIENCE="real" if self.is_whole else "short",
            **variables,
        )
        return env | {"PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{ROOT}"}

    @contextlib.contextmanager
    def worker(self, *command: str, processes: int = PROCESSES, **variables: str) -> Iterator[Program]:
        with Program([*(command or COMMAND)], cwd=self.folder, env=self.environment(**variables)) as worker:
            self.settle(worker, processes)
            yield worker

    def settle(self, worker: Program, processes: int = PROCESSES) -> None:
        """Until it is all there and nothing beside, and waits for work."""
        assert wait_until(lambda: len(worker.pids()) == processes, within_s=SETTLES_S), worker.output
        time.sleep(SETTLED_S)

    def enqueue(self, slot: str, **arguments) -> int:
        return jobs.enqueue("work", slot=slot, **arguments).pk

    def begun(self, run: int) -> int:
        """Waits until the job is at work; returns its process."""
        assert wait_until(lambda: self.noted("begin", run), within_s=PATIENCE_S), f"{run} never began"
        return self.noted("begin", run)[-1]

    def seconds_until_done(self, *runs: int) -> float:
        """At most PATIENCE_S: what is still missing then is lost."""
        start = time.monotonic()
        wait_until(lambda: len(done(runs)) == len(runs), within_s=PATIENCE_S)
        return time.monotonic() - start

    def noted(self, what: str, run: int) -> list[int]:
        return [int(pid) for said, of, pid in self._lines() if (said, int(of)) == (what, run)]

    def tally(self, runs: Collection[int]) -> dict[str, int]:
        """Lost is what did not end, or is not known to have ended; doubled what ended more than once."""
        ends, known = Counter(int(of) for said, of, _pid in self._lines() if said == "end"), done(runs)
        return {
            "lost": sum(not ends[run] or run not in known for run in runs),
            "doubled": sum(ends[run] > 1 for run in runs),
        }

    def _lines(self) -> list[list[str]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [line.split() for line in text.splitlines()]


def done(runs: Collection[int]) -> set[int]:
    return set(JobRun.objects.filter(pk__in=runs, state=RunState.DONE).values_list("pk", flat=True))


def children(pid: int) -> list[int]:
    """In the order in which they were started."""
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def waits(pid: int) -> str:
    """In which function of the kernel; empty where the machine does not tell."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text()
    return ""


def main_of(worker: Program) -> int:
    """Of the quick queue."""
    return min(children(worker.process.pid))


def sentinel(main: int) -> int:
    return next(pid for pid in children(main) if children(pid))


def address() -> str:
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:////{str(at['NAME']).lstrip('/')}"
    login = f"{quote(at['USER'])}:{quote(at['PASSWORD'])}" if at["PASSWORD"] else quote(at["USER"])
    return f"postgres://{login}@{at['HOST']}:{at['PORT']}/{at['NAME']}"
