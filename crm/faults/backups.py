"""`kill -9` at a random moment of a backup, of a restore and of the nightly job, with all the processes that work for it: by
the clock, or before one of the steps on the disk. Afterwards every file that looks like a backup is one, the older ones are
byte for byte what they were, a database is the old one or the new one, and the same asked for once more ends well."""

import contextlib
import copy
import datetime
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from crm import jobs
from crm.backups import checking, loading, postgresql, scratch, sqlite, stored
from crm.backups.archive import open_archive
from crm.choices import BackupKind, BackupProof, RunState
from crm.exceptions import CrmError
from crm.faults.desk import Desk, Found
from crm.models import BackupRun, JobRun
from crm.tests import factories
from crm.tests.backups import archives, store
from crm.tests.processes import Program, wait_until
from crm.tests.raw import Database
from project.env import ROOT

CASES, FEW = 300, 5
FILES = {"documents/contract.pdf": 300_000, "documents/2026/proof of income.pdf": 40_000, "documents/note.txt": 0}
LARGE = {"documents/plans.tiff": 7_000_000}  # its backup is copied in two parts
# Of what a whole act takes, so that some kills come too late.
LATEST = 1.1
# Of a start that finishes a restore: so many it takes for that.
FIRST_STEPS = 12
# So many kills before one is let come to its end.
AGAIN = 5
# A killed client's session at the server ends when it is next read from or written to.
GONE_S, PATIENCE_S = 60, 300
SECRET = "secret-words"


@dataclass(frozen=True)
class Whole:
    """What an act takes when nobody is killed."""

    seconds: float
    steps: int

    def drawn(self, drawn: random.Random) -> dict:
        if drawn.random() < 0.5:
            return {"after_s": drawn.uniform(0, LATEST) * self.seconds}
        return {"step": drawn.randint(1, self.steps)}


class Office:
    """Of the database that Django has here, or of another; with folders of its own."""

    def __init__(self, desk: Desk, name: str, url: str = ""):
        self.desk, self.folder = desk, desk.folder / name
        self.backups, self.data = self.folder / "backups", self.folder / "data"
        self.files = self.data / "files"
        self.data.mkdir(parents=True)
        self.application = f"victim-{os.getpid()}-{time.monotonic_ns()}"
        self.env = desk.environment(
            DATA_DIR=str(self.data),
            BACKUP_DIR=str(self.backups),
            BACKUP_KEY=settings.BACKUP_KEYS[0],
            FAULTS_SETTINGS=os.environ["DJANGO_SETTINGS_MODULE"],
            PGAPPNAME=self.application,
            LANGUAGE_CODE="en",
            NO_PROXY="127.0.0.1",
        ) | {"DJANGO_SETTINGS_MODULE": "crm.faults.with_files"}
        if url:
            self.env["DATABASE_URL"] = url
        self.wrong: list[str] = []

    def grow(self, *, seed: int) -> None:
        for _ in range(CASES if self.desk.is_whole else FEW):
            factories.make_case()
        drawn = random.Random(seed)
        for name, size in (FILES | (LARGE if self.desk.is_whole else {})).items():
            self.store(name, drawn.randbytes(size))

    def store(self, name: str, content: bytes) -> None:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def elsewhere(self, *, backups: Path | None = None, data: Path | None = None) -> "Office":
        """The same one with another folder."""
        other = copy.copy(self)
        other.backups, other.data = backups or self.backups, data or self.data
        other.files = other.data / "files"
        other.env = self.env | {"BACKUP_DIR": str(other.backups), "DATA_DIR": str(other.data)}
        return other

    # --- What is done ---

    def run(self, *command: str, is_well: bool = True, **variables: str) -> str:
        """To its end; returns what it said."""
        output, code, _seconds = self._act(command, variables)
        if is_well != (code == 0):
            self.wrong.append(f"{command[0]} ended with {code}: {output[-400:]}")
        return output

    def manage(self, *command, **variables: str) -> subprocess.CompletedProcess:
        """As an operator does."""
        arguments = [sys.executable, ROOT / "manage.py", *map(str, command)]
        return subprocess.run(
            arguments, cwd=self.folder, env=self.env | variables, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )  # fmt: skip

    def made(self) -> Path:
        """A backup."""
        known = self.kept()
        self.run("backup")
        [name] = self.kept().keys() - known.keys()
        return self.backups / name

    def whole(self, *command: str) -> Whole:
        output, code, seconds = self._act(command, {})
        assert code == 0, output
        return Whole(seconds, int(output.rpartition("steps ")[2]))

    def kill(self, *command: str, after_s: float | None = None, step: int = 0) -> bool:
        """At that moment. Whether it was alive then."""
        _output, code, _seconds = self._act(command, {"FAULTS_STEP": str(step)}, after_s)
        if code not in (0, -signal.SIGKILL):
            self.wrong.append(f"{command[0]} ended with {code}: {_output[-400:]}")
        return code != 0

    def _act(self, command, variables: dict, after_s: float | None = None) -> tuple[str, int, float]:
        key = time.monotonic_ns()
        arguments = [sys.executable, "-m", "crm.faults.victim", str(key), *map(str, command)]
        with Program(arguments, cwd=self.folder, env=self.env | variables) as victim:
            begun = lambda: self.desk.noted("begin", key) or victim.process.poll() is not None  # noqa: E731
            assert wait_until(begun, within_s=PATIENCE_S), victim.output
            start = time.monotonic()
            if after_s is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    victim.process.wait(after_s)
                with contextlib.suppress(ProcessLookupError):
                    victim.signal_group(signal.SIGKILL)
            victim.process.wait(PATIENCE_S)
            seconds = time.monotonic() - start
            assert wait_until(lambda: not victim.pids(), within_s=GONE_S), victim.pids()
        return victim.output, victim.process.returncode, seconds

    # --- What is found ---

    def kept(self) -> dict[str, str]:
        """Each finished file with its digest."""
        return {path.name: _digest(path) for path in sorted(self.backups.glob("*.hdbk"))}

    def look_at(self, known: dict[str, str]) -> dict[str, str]:
        """The finished files that are not among the known ones, each read to its last byte."""
        found = self.kept()
        self.wrong += [f"{name} is not what it was" for name in known if found.get(name) != known[name]]
        new = {name: digest for name, digest in found.items() if name not in known}
        for name in new:
            try:
                checking.verify(self.backups / name, restore=False)
            except CrmError as error:
                self.wrong.append(f"{name} looks like a backup and is none: {error}")
        return new

    def left_behind(self, *found: list[str]) -> None:
        self.wrong += [f"left behind: {name}" for names in found for name in names]

    def left(self) -> list[str]:
        """What should have gone: unfinished files, scratch places."""
        names = [path.name for path in (*self.backups.iterdir(), *self.data.iterdir()) if path.name.startswith(".")]
        names += self.left_of_files()
        if connection.vendor == "sqlite":
            file = Path(self.env["DATABASE_URL"].removeprefix("sqlite:///"))
            known = {file.name, f"{file.name}-wal", f"{file.name}-shm", f"{file.name}-journal"}
            return names + [path.name for path in file.parent.glob(f"{file.name}*") if path.name not in known]
        return names

    def left_of_files(self) -> list[str]:
        return [path.name for path in self.files.glob(f"{stored.FOLDER}*")] if self.files.is_dir() else []

    def left_on_the_server(self) -> list[str]:
        """Sessions of the killed, when they had time to hear of it; scratch databases of this office."""
        if connection.vendor == "sqlite":
            return []
        if not wait_until(lambda: not self._sessions(), within_s=GONE_S):
            return [f"session: {each}" for each in self._sessions()]
        office = hashlib.md5(self.env["DATABASE_URL"].rpartition("/")[2].encode(), usedforsecurity=False).hexdigest()[
            :8
        ]
        return _asked(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) UNION ALL "
            "SELECT 'slot ' || slot_name FROM pg_replication_slots UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts",
            f"{scratch.NAME}{office}_",
        )

    def _sessions(self) -> list[str]:
        return _asked(
            "SELECT state || ' ' || query FROM pg_stat_activity WHERE application_name = %s", self.application
        )


def _asked(query: str, value: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        return [name for (name,) in cursor.fetchall()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _written_meanwhile(wrong: list[str]) -> Iterator[None]:
    """Somebody works on in the office."""
    ended = threading.Event()

    def write():
        try:
            while not ended.wait(0.05):
                factories.make_case()
        except Exception as error:
            wrong.append(f"who worked meanwhile met {jobs.told(error)}")
        finally:
            connection.close()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# --- A backup ---


def killed_backup(desk: Desk, rounds: int) -> Found:
    office = Office(desk, "office")
    office.grow(seed=desk.seed)
    drawn, seen, lost = random.Random(desk.seed), Counter(), 0
    with _written_meanwhile(office.wrong):
        office.run("backup")
        whole = office.whole("backup")
        for number in range(1, rounds + 1):
            known = office.kept()
            was_alive = office.kill("backup", **whole.drawn(drawn))
            new = office.look_at(known)
            seen["killed too late" if not was_alive else "left a whole file" if new else "left none"] += 1
            office.left_behind(office.left_on_the_server())
            for name in new:  # restored too: of what a killed process has left, digests are not enough
                office.run("verify_backup", office.backups / name, "--restore")
            if number % AGAIN == 0 or number == rounds:
                office.run("backup")
                lost += len(office.look_at(known | new)) != 1
                office.left_behind(office.left())
            for name in sorted(office.kept())[2:-1]:  # a hundred would be a disk's worth; the first two stay to the end
                (office.backups / name).unlink()
    return Found(rounds, lost, said=counted(seen), wrong=once(office.wrong))


def counted(seen: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in seen.items())


def once(wrong: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(wrong))


# --- A restore ---


@dataclass(frozen=True)
class State:
    """What a database and the stored files are after a restore of `archive`."""

    archive: Path
    tables: dict
    files: dict[str, str]


class Restored:
    """A database with its stored files, into which two backups are restored in turn; what they hold differs. `old` is what
    stands there, `new` the other one."""

    def __init__(self, desk: Desk, target: Database):
        source = Office(desk, "office")
        source.grow(seed=desk.seed)
        first = source.made()
        source.store("documents/contract.pdf", random.Random(desk.seed + 1).randbytes(250_000))
        source.store("documents/annex.pdf", random.Random(desk.seed + 2).randbytes(9_000))
        factories.make_case()
        second = source.made()
        self.source, self.database = source, target
        self.office = Office(desk, "restored", target.url)
        self.office.wrong = source.wrong
        self.states: list[State] = []
        for archive in (first, second):
            self.whole = self.office.whole("restore", archive, "--yes")
            self.states.append(State(archive, self.tables(), _listed(archive)))

    @property
    def old(self) -> State:
        return self.states[1]

    @property
    def new(self) -> State:
        return self.states[0]

    def turn(self) -> None:
        self.states.reverse()

    def tables(self) -> dict:
        return tables_of(self.database)

    def state(self) -> State | None:
        """None where it is neither."""
        found = self.tables()
        return next(
            (each for each in self.states if set(loading.unsaved(each.tables, found)) <= archives.OPENING), None
        )

    def has_files_of(self, state: State) -> bool:
        there = {name: self.office.files / name for name in state.files}
        return all(path.is_file() and _digest(path) == state.files[name] for name, path in there.items())


def tables_of(database: Database) -> dict:
    if connection.vendor == "sqlite":
        with contextlib.closing(sqlite.opened(database.file)) as reader:
            return sqlite.tables(reader)
    with psycopg.connect(database.url) as server, server.cursor() as cursor:
        return postgresql.tables(cursor)


def _listed(archive: Path) -> dict[str, str]:
    with open_archive(archive, settings.BACKUP_KEYS) as found:
        return {each["name"]: each["sha256"] for each in found.manifest["files"]}


@contextlib.contextmanager
def restored(desk: Desk) -> Iterator[Restored]:
    (desk.folder / "target").mkdir()
    target = Database(desk.folder / "target")
    try:
        yield Restored(desk, target)
    finally:
        target.drop()


def killed_restore(desk: Desk, rounds: int) -> Found:
    """Of the one backup over what there is of the other. The next start ends what the kill has left."""
    drawn, seen, lost, differing = random.Random(desk.seed), Counter(), 0, 0
    with restored(desk) as both:
        office, known = both.office, both.office.kept()
        for number in range(1, rounds + 1):
            was_alive = office.kill("restore", both.new.archive, "--yes", **both.whole.drawn(drawn))
            office.left_behind(office.left_on_the_server())
            state = both.state()
            lost += state is None
            seen[_became(both, state) if was_alive else "killed too late"] += 1
            if state is both.old and not both.has_files_of(state):
                office.wrong.append("the old database, and not its files")
            office.look_at(known)
            if state is both.new and not both.has_files_of(state):
                seen["of whom the next start was killed too"] += office.kill(
                    "release", step=drawn.randint(1, FIRST_STEPS)
                )
            office.run("release")
            if both.state() is not state:
                office.wrong.append("the next start has changed the database")
            is_whole = state is not None and both.has_files_of(state)
            differing += not is_whole
            office.left_behind(office.left_of_files())
            if number % AGAIN == 0 or number == rounds or not is_whole:
                office.run("restore", both.new.archive, "--yes")
                office.look_at(known)
                office.left_behind(office.left())
                if both.state() is not both.new or not both.has_files_of(both.new):
                    office.wrong.append("the same command once more did not restore it")
            for name in office.kept().keys() - known.keys():
                (office.backups / name).unlink()
            if both.state() is both.new:
                both.turn()
    said = f"{counted(seen)}; after the next start the files of {differing} differ"
    return Found(rounds, lost + differing, said=said, wrong=once(office.wrong))


def _became(both: Restored, state: State | None) -> str:
    if state is None:
        return "left neither"
    if state is both.old:
        return "left the old one"
    return "left the new one" if both.has_files_of(state) else "left the new one before all files were in their place"


# --- A night ---


def variables(door: store.Door) -> dict[str, str]:
    """Of an office that copies there."""
    return {
        "S3_ENDPOINT_URL": door.url,
        "S3_BUCKET": store.BUCKET,
        "S3_ACCESS_KEY_ID": "id-of-the-office",
        "S3_SECRET_ACCESS_KEY": f"{SECRET} of the office",
    }


class Nights:
    """The nightly job, with a store to copy to. Of each night one file stays, so pruning has work too."""

    def __init__(self, desk: Desk, door: store.Door):
        self.door = door
        self.office = Office(desk, "office")
        self.office.env |= {
            **variables(door),
            "BACKUP_KEEP_LEAST": "1",
            "BACKUP_NIGHTLY_DAYS": "1",
            "BACKUP_WEEKLY_WEEKS": "1",
        }
        self.wrong = self.office.wrong
        self.office.grow(seed=desk.seed)
        assert store.call(door, "PUT", f"/{store.BUCKET}") == 200
        self.slot = ""

    def begin(self) -> str:
        """All that was made so far is a fortnight older now."""
        for run in BackupRun.objects.exclude(file_name=""):
            BackupRun.objects.filter(pk=run.pk).update(created_at=run.created_at - datetime.timedelta(days=14))
        self.slot = f"night {time.time_ns()}"
        return self.slot

    def whole(self) -> Whole:
        return self.office.whole("night", self.begin())

    def go_on(self) -> None:
        """As the sweep lets another worker do it."""
        run = JobRun.objects.filter(slot=self.slot).first()
        if run is None:  # it was not even begun
            self.office.run("night", self.slot)
            return
        long_ago = timezone.now() - 2 * jobs.SILENT
        JobRun.objects.running().filter(pk=run.pk).update(beat_at=long_ago)
        jobs.sweep(timezone.now())
        OrmQ.objects.all().delete()
        JobRun.objects.waiting().filter(pk=run.pk).update(due_at=long_ago)
        self.office.run("again", run.pk)

    def look(self, before: dict[str, str]) -> int:
        """After a night that ended well: how many files it has made too many, or too few as a negative number."""
        run = JobRun.objects.get(slot=self.slot)
        if run.state != RunState.DONE:
            self.wrong.append(f"the night ended as {run.state}: {run.message}")
        found = self.office.kept()
        new = {name: digest for name, digest in found.items() if name not in before}
        kinds = (BackupKind.NIGHTLY, BackupKind.WEEKLY)
        rows = BackupRun.objects.kept().filter(job=run, kind__in=kinds)
        self.wrong += [f"{row}: {what}" for row in rows for what in self.untrue(row)]
        kept = set(BackupRun.objects.kept().filter(is_local=True).values_list("file_name", flat=True))
        if kept != found.keys():
            self.wrong.append(f"the list has {sorted(kept)}, the folder {sorted(found)}")
        copies = {name.rpartition("/")[2] for name in self.copies()}
        if copies != found.keys():
            self.wrong.append(f"off-site lie {sorted(copies)}, here {sorted(found)}")
        self.office.left_behind(self.office.left(), self.office.left_on_the_server())
        if len(rows) != len(new):
            self.wrong.append(f"{len(rows)} rows of {len(new)} files of a night")
        return len(new) - 1

    def untrue(self, row: BackupRun) -> list[str]:
        path = self.office.backups / row.file_name
        found = [] if path.is_file() and _digest(path) == row.sha256 else ["is not the file that it tells of"]
        found += [] if row.proof == BackupProof.RESTORED else [f"was not restored to try: {row.verify_message}"]
        if row.offsite_at is None:
            found.append(f"is not off-site: {row.offsite_message}")
        elif hashlib.sha256(self.copies()[row.offsite_key]).hexdigest() != row.sha256:
            found.append("its copy is another file")
        return found

    def copies(self) -> dict[str, bytes]:
        """What lies in the store, past all that may be wrong with the way there."""
        return store.lying(self.door)


@contextlib.contextmanager
def nights(desk: Desk) -> Iterator[Nights]:
    with store.serving() as door:
        yield Nights(desk, door)


def killed_night(desk: Desk, rounds: int) -> Found:
    """Backup, verification by restoring, copy, pruning; killed once or twice a night, then run to its end."""
    drawn, seen, lost, doubled = random.Random(desk.seed), Counter(), 0, 0
    with nights(desk) as those:
        office = those.office
        those.whole()  # the first one has nothing to prune
        whole = those.whole()
        for _ in range(rounds):
            before = office.kept()
            was_alive = office.kill("night", those.begin(), **whole.drawn(drawn))
            made = office.look_at({name: digest for name, digest in before.items() if name in office.kept()})
            seen["killed too late" if not was_alive else "left a file" if made else "left none"] += 1
            run = JobRun.objects.filter(slot=those.slot).first()
            if run and drawn.random() < 0.3:
                _let_go(run)
                office.kill("again", run.pk, **whole.drawn(drawn))
                seen["killed twice"] += 1
            those.go_on()
            more = those.look(before)
            doubled += max(more, 0)
            lost += max(-more, 0)
    return Found(rounds, lost, doubled, said=counted(seen), wrong=once(those.wrong))


def _let_go(run: JobRun) -> None:
    JobRun.objects.running().filter(pk=run.pk).update(state=RunState.QUEUED)
