"""A limit of a file's size (`ulimit -f`), as an operator or a unit sets one: the other way in which a disk has no room. It is
drawn each time. Nothing that looks good is left, what was there stays, and without the limit it goes well."""

import random
from collections import Counter
from pathlib import Path

from django.db import connection

from crm.faults.backups import FILES, Restored, counted, once, restored, tables_of
from crm.faults.desk import Desk, Found
from crm.faults.disks import changes_nothing, files_of, left_nothing, refused
from crm.tests.raw import Database

# Less would stop what the commands print.
LEAST = 16_384
CURE = "Raise that limit"


def file_size(desk: Desk, rounds: int) -> Found:
    drawn, seen = random.Random(desk.seed), Counter()
    cases = {"a backup": _backup, "a safety backup": _safety, "stored files": _files}
    if connection.vendor == "sqlite":  # of PostgreSQL these are the server's files
        cases |= {"a trial restore": _trial, "the target": _target}
    with restored(desk) as both:
        for number in range(rounds):
            name = list(cases)[number % len(cases)]
            cases[name](both, drawn)
            seen[name] += 1
        return Found(rounds, said=counted(seen), wrong=once(both.office.wrong))


def _limit(drawn: random.Random, needed: int) -> dict[str, str]:
    return {"FAULTS_FILE_SIZE": str(max(LEAST, int(drawn.uniform(0, 0.9) * needed)))}


def _backup(both: Restored, drawn: random.Random) -> None:
    office = both.office
    known = office.kept()
    refused(office, "backup", cure=CURE, **_limit(drawn, both.old.archive.stat().st_size))
    left_nothing(office, known)
    if both.state() is not both.old:
        office.wrong.append("a backup under a limit has changed something")
    office.run("backup")
    if len(office.look_at(known)) != 1:
        office.wrong.append("no backup without the limit")


def _safety(both: Restored, drawn: random.Random) -> None:
    """Of SQLite it may be the copy of the database that grows too large."""
    _restored_without(both, _limit(drawn, both.old.archive.stat().st_size))


def _files(both: Restored, drawn: random.Random) -> None:
    """Into an office that has neither a database nor files."""
    empty = both.office.elsewhere(data=both.office.folder / f"empty{drawn.getrandbits(32)}")
    empty.data.mkdir()
    database = Database(empty.data)
    empty.env["DATABASE_URL"] = database.url
    try:
        limit = _limit(drawn, FILES["documents/contract.pdf"] * 4 // 5)
        refused(empty, "restore", both.new.archive, cure=CURE, **limit)
        left_nothing(empty, empty.kept())
        is_made = connection.vendor == "postgresql" or database.file.exists()
        if files_of(empty) or (is_made and tables_of(database)):
            empty.wrong.append("a restore under a limit has left something")
        empty.run("restore", both.new.archive)
    finally:
        database.drop()


def _target(both: Restored, drawn: random.Random) -> None:
    _restored_without(both, _limit(drawn, both.database.file.stat().st_size))


def _restored_without(both: Restored, limit: dict[str, str]) -> None:
    with changes_nothing(both, both.office):
        refused(both.office, "restore", both.new.archive, "--yes", cure=CURE, **limit)


def _trial(both: Restored, drawn: random.Random) -> None:
    office = both.source
    known = office.kept()
    limit = _limit(drawn, Path(connection.settings_dict["NAME"]).stat().st_size)
    refused(office, "verify_backup", both.old.archive, "--restore", cure=CURE, **limit)
    left_nothing(office, known)
    office.run("verify_backup", both.old.archive, "--restore")
