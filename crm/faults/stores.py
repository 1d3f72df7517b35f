"""The store of copies refuses, fails, says nothing, breaks off, stalls or gives back something else: at one request of the
night, or from that one on. What is here stays and is what counts, the list and the monitor's line say so, and when the store
is well again the same night ends well."""

import random
from collections import Counter

from crm.choices import BackupProof, RunState
from crm.faults.backups import SECRET, Nights, counted, nights, once
from crm.faults.desk import Desk, Found
from crm.models import BackupRun, JobRun

OF_ALL = ("403", "500", "silent", "cut")
# What is asked for and how the answer may go wrong.
ANSWERS = {"PUT": ("renamed",), "POST": (), "DELETE": (), "GET": ("half", "short", "slow", "changed", "renamed")}
LAST = 3


class Trouble:
    """With that request of its kind, or from it on."""

    def __init__(self, drawn: random.Random):
        self.method = drawn.choice(sorted(ANSWERS))
        self.kind = drawn.choice(OF_ALL + ANSWERS[self.method])
        self.at, self.is_lasting = drawn.randint(1, LAST), drawn.random() < 0.6
        self.asked = 0

    def __str__(self) -> str:
        return f"{self.kind} of {self.method} {self.at}{' and on' if self.is_lasting else ''}"

    def __call__(self, method: str, path: str) -> str:
        if method != self.method:
            return ""
        self.asked += 1
        return self.kind if self.asked == self.at or (self.is_lasting and self.asked > self.at) else ""


def broken_store(desk: Desk, rounds: int) -> Found:
    drawn, seen, lost, doubled = random.Random(desk.seed), Counter(), 0, 0
    with nights(desk) as those:
        those.whole()
        for _ in range(rounds):
            before = those.office.kept()
            trouble = those.door.fault = Trouble(drawn)
            those.office.run("night", those.begin())
            those.door.fault = lambda method, path: ""
            found = [f"{trouble}: {each}" for each in _meanwhile(those, before)]
            those.wrong += found
            seen[_told(those)] += 1
            those.go_on()
            those.office.run("prune_backups")  # as the next night does, of what the store did not let go
            more = those.look(before)
            doubled += max(more, 0)
            lost += max(-more, 0)
    return Found(rounds, lost, doubled, said=counted(seen), wrong=once(those.wrong))


def _told(those: Nights) -> str:
    run = JobRun.objects.get(slot=those.slot)
    is_copied = BackupRun.objects.filter(job=run, offsite_at__isnull=False).exists()
    if run.state == RunState.DONE:
        return "overcome"
    return "copied, and to be pruned later" if is_copied else "kept here, and copied later"


def _meanwhile(those: Nights, before: dict[str, str]) -> list[str]:
    """What is not true while the store is not well."""
    run, found = JobRun.objects.get(slot=those.slot), []
    new = those.office.look_at({name: digest for name, digest in before.items() if name in those.office.kept()})
    rows = list(BackupRun.objects.kept().filter(job=run, is_local=True, proof=BackupProof.RESTORED))
    if [row.file_name for row in rows] != list(new):
        found.append(f"the list has {rows}, the folder {list(new)}")
    is_copied = all(row.offsite_at for row in rows)
    copies = those.copies()
    found += [f"{row} has no copy" for row in _named() if row.offsite_key not in copies]
    found += [f"{row}: its copy is another file" for row in rows if row.offsite_at and "its copy is another file" in those.untrue(row)]  # fmt: skip
    if not is_copied and not (all(row.offsite_message for row in rows) and run.message):
        found.append("nothing says that there is no copy")
    if (run.state == RunState.DONE) != (not run.message) or (run.state == RunState.DONE and not is_copied):
        found.append(f"the night is {run.state} and says {run.message!r}")
    if SECRET in f"{run.message}{run.log}{[row.offsite_message for row in rows]}":
        found.append("what the store said is told on")
    those.office.run("check_backups", is_well=is_copied)
    return found


def _named() -> list[BackupRun]:
    return list(BackupRun.objects.kept().exclude(offsite_at=None))
