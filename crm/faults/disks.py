"""A disk that is full: under the folder of backups, under the place where one is restored to try, under the target of a
restore, its stored files and its safety backup. It is a small tmpfs, which only root may mount; elsewhere it is not run. How
much room there is, is drawn each time. Nothing that looks good is left, what was there stays, and with room it goes well."""

import contextlib
import copy
import dataclasses
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.db import connection

from crm.choices import BackupProof, RunState
from crm.faults import server
from crm.faults.backups import Office, Restored, counted, once, restored
from crm.faults.desk import Desk, Found
from crm.models import BackupRun, JobRun

# What tmpfs gives at least; no size at all would be all of the memory.
PAGE = 4096
ROOMY = 1 << 30
# So much of what a database takes on a server's disk is too little for it, which has had room of its own to let go.
ENOUGH = 0.6
# What is said of it.
FULL, CURE = "no room", "Free some space"


class Disk:
    def __init__(self, folder: Path, room: int = ROOMY):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mount(f"size={room}")

    def leave(self, room: int) -> None:
        now = os.statvfs(self.folder)
        used = (now.f_blocks - now.f_bfree) * now.f_frsize
        self._mount(f"remount,size={used + max(room, PAGE)}")

    def grow(self) -> None:
        self._mount(f"remount,size={ROOMY}")

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True, capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def can_mount() -> bool:
    if os.getuid():
        return False
    with (
        contextlib.suppress(OSError, subprocess.CalledProcessError),
        tempfile.TemporaryDirectory() as folder,
        Disk(Path(folder)),
    ):
        return True
    return False


def full_disk(desk: Desk, rounds: int) -> Found:
    drawn, seen = random.Random(desk.seed), Counter()
    cases = {"a backup": _backup, "a safety backup": _safety, "stored files": _files}
    if connection.vendor == "sqlite":  # of PostgreSQL these lie on the server's disk
        cases |= {"a copy of the database": _copy, "a trial restore": _trial, "the target": _target}
    with restored(desk) as both:
        for number in range(rounds):
            name = list(cases)[number % len(cases)]
            with Disk(desk.folder / f"disk{number}") as disk:
                cases[name](both, disk, drawn)
            seen[name] += 1
        return Found(rounds, said=counted(seen), wrong=once(both.office.wrong))


def _backup(both: Restored, disk: Disk, drawn: random.Random) -> None:
    shutil.copy(both.old.archive, disk.folder)
    office = both.office.elsewhere(backups=disk.folder)
    known = office.kept()
    disk.leave(int(drawn.uniform(0, 0.9) * both.old.archive.stat().st_size))
    refused(office, "backup")
    left_nothing(office, known)
    disk.grow()
    office.run("backup")
    if len(office.look_at(known)) != 1:
        office.wrong.append("no backup where there is room again")


def _safety(both: Restored, disk: Disk, drawn: random.Random) -> None:
    disk.leave(int(drawn.uniform(0, 0.9) * both.old.archive.stat().st_size))
    _restored_with_room(both, both.office.elsewhere(backups=disk.folder), disk)


def _files(both: Restored, disk: Disk, drawn: random.Random) -> None:
    """The other storage is empty."""
    (disk.folder / "files").mkdir()
    disk.leave(int(drawn.uniform(0, 0.9) * 340_000))
    _restored_with_room(both, both.office.elsewhere(data=disk.folder), disk)
    both.turn()  # so that the storage it has fits again
    both.office.run("restore", both.new.archive, "--yes")
    both.turn()


def _restored_with_room(both: Restored, office: Office, disk: Disk) -> None:
    with changes_nothing(both, office):
        refused(office, "restore", both.new.archive, "--yes")
        disk.grow()  # SQLite needs some to look


@contextlib.contextmanager
def changes_nothing(both: Restored, office: Office) -> Iterator[None]:
    """What is done inside; and afterwards a restore goes well."""
    files, known = files_of(office), office.kept()
    yield
    known |= office.look_at(known)  # a safety backup may have been made
    left_nothing(office, known)
    if both.state() is not both.old or files_of(office) != files:
        office.wrong.append("a restore without room has changed something")
    office.run("restore", both.new.archive, "--yes")
    if both.state() is not both.new:
        office.wrong.append("no restore where there is room again")
    both.turn()


def files_of(office: Office) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in office.files.rglob("*") if path.is_file()}


def _target(both: Restored, disk: Disk, drawn: random.Random) -> None:
    moved = _moved(both, disk)
    disk.leave(int(drawn.uniform(0, 0.9) * moved.database.file.stat().st_size))
    _restored_with_room(moved, moved.office, disk)


def _copy(both: Restored, disk: Disk, drawn: random.Random) -> None:
    """Of which a backup is made."""
    moved = _moved(both, disk)
    known = moved.office.kept()
    disk.leave(int(drawn.uniform(0, 0.9) * moved.database.file.stat().st_size))
    refused(moved.office, "backup")
    left_nothing(moved.office, known)
    disk.grow()
    if moved.state() is not moved.old:
        moved.office.wrong.append("a backup without room has changed something")
    moved.office.run("backup")
    if len(moved.office.look_at(known)) != 1:
        moved.office.wrong.append("no backup where there is room again")


def _moved(both: Restored, disk: Disk) -> Restored:
    """Another office like it, whose database lies on that disk."""
    moved = copy.copy(both)
    moved.states = list(both.states)
    moved.database = copy.copy(both.database)
    moved.database.file = disk.folder / "own.sqlite3"
    own = both.office.folder / disk.folder.name
    moved.office = both.office.elsewhere(backups=own / "backups", data=own / "data")
    moved.office.data.mkdir(parents=True)
    moved.office.env["DATABASE_URL"] = moved.database.url
    moved.office.run("restore", moved.old.archive)
    moved.office.backups.mkdir()
    return moved


def _trial(both: Restored, disk: Disk, drawn: random.Random) -> None:
    """In the night."""
    office = both.source.elsewhere(data=disk.folder)
    known = office.kept()
    BackupRun.objects.filter(proof=BackupProof.RESTORED).update(proof=BackupProof.DIGESTS)  # of the round before
    disk.leave(int(drawn.uniform(0, 0.9) * Path(connection.settings_dict["NAME"]).stat().st_size))
    slot = f"night {time.time_ns()}"
    office.run("night", slot)
    run = JobRun.objects.get(slot=slot)
    made = BackupRun.objects.kept().filter(job=run)
    if len(office.look_at(known)) != 1 or [row.proof for row in made] != [""] or not made[0].verify_message:
        office.wrong.append("what could not be tried is not told as such")
    if run.state == RunState.DONE or not run.message:
        office.wrong.append(f"the night is {run.state}, without a trial")
    left_nothing(office, office.kept())
    office.run("check_backups", is_well=False)
    disk.grow()
    JobRun.objects.filter(pk=run.pk).update(state=RunState.QUEUED, due_at=run.created_at)  # somebody tries it again
    office.run("again", run.pk)
    if [row.proof for row in made.all()] != [BackupProof.RESTORED]:
        office.wrong.append("not restored to try where there is room again")


# --- The server's own disk ---


@dataclass(frozen=True)
class Own:
    """A database of a server that is there for it."""

    url: str


def full_server(desk: Desk, rounds: int) -> Found:
    """Under a restore: of the office's database alone, or of all that the server has, its log included. Then the server itself
    may fall, and says no more than that."""
    drawn, seen, wrong = random.Random(desk.seed), Counter(), []
    for number, (name, way) in enumerate({"its database": _database_alone, "all of the server": _all_of_it}.items()):
        folder = desk.folder / str(number)
        folder.mkdir()
        with way() as (own, disk, url):
            both = Restored(dataclasses.replace(desk, folder=folder), Own(url))
            for _ in range(number, rounds, 2):
                _server_without_room(both, own, disk, drawn)
                seen[name] += 1
            wrong += both.office.wrong
    return Found(rounds, said=counted(seen), wrong=once(wrong))


@contextlib.contextmanager
def _database_alone() -> Iterator[tuple[server.Server, Disk, str]]:
    with (
        server.own_folder() as folder,
        server.own_folder() as place,
        Disk(place) as disk,
        server.started(folder) as own,
    ):
        own.take(place)
        own.ask(f"CREATE TABLESPACE small LOCATION '{place}'", "CREATE DATABASE office TABLESPACE small")
        yield own, disk, own.address_of("office", "postgres")


@contextlib.contextmanager
def _all_of_it() -> Iterator[tuple[server.Server, Disk, str]]:
    with server.own_folder() as folder, Disk(folder) as disk, server.started(folder) as own:
        own.ask("CREATE DATABASE office")
        yield own, disk, own.address_of("office", "postgres")


def _server_without_room(both: Restored, own: server.Server, disk: Disk, drawn: random.Random) -> None:
    office = both.office
    own.ask("CHECKPOINT")
    disk.leave(int(drawn.uniform(0, ENOUGH) * _size(both.database.url)))
    with changes_nothing(both, office):
        said = office.run("restore", both.new.archive, "--yes", is_well=False)
        if "Traceback" in said or not (is_named(said) or "closed the connection" in said):
            office.wrong.append(f"a restore where the server has no room says: {said[-400:]}")
        disk.grow()
        own.stand_up()


def _size(url: str) -> int:
    """Of what a restore writes anew."""
    with psycopg.connect(url) as own:
        [(size,)] = own.execute(
            "SELECT pg_database_size(current_database()) - pg_database_size('template1')"
        ).fetchall()
    return size


# --- What is said ---


def refused(office: Office, *command, cure: str = CURE, **variables: str) -> None:
    """In one line that names a full disk and its cure, whatever the folders are called."""
    said = office.run(*command, is_well=False, **variables)
    if "Traceback" in said or not is_named(said, cure):
        office.wrong.append(f"{command[0]} without room says: {said[-400:]}")


def is_named(said: str, cure: str = CURE) -> bool:
    words = re.sub(r"\S*/\S*", "", said.strip().rpartition("\n")[2])
    return FULL in words and cure in words


def left_nothing(office: Office, known: dict[str, str]) -> None:
    office.left_behind(list(office.look_at(known)), office.left(), office.left_on_the_server())
