"""A wrong BACKUP_KEY, a wrong password of the database, a store that does not know its keys: each command says in one line what
is wrong and tells no secret; nothing is made, and what was there stays."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from crm.encryption import fingerprint
from crm.faults import server
from crm.faults.backups import SECRET, Restored, counted, once, restored, variables
from crm.faults.desk import Desk, Found
from crm.faults.disks import Own, files_of, left_nothing
from crm.tests.backups import store

WRONG_KEY = "ab" * 32
RIGHT, WRONG = "a-word of/faults@only", "another-word of/faults@only"


def wrong_password(desk: Desk, rounds: int) -> Found:
    seen = Counter()
    with _office(desk) as both, store.serving() as door:
        assert store.call(door, "PUT", f"/{store.BUCKET}") == 200
        door.fault = lambda method, path: "403"
        for _ in range(rounds):
            for what in (_key, _store, *((_password,) if connection.vendor == "postgresql" else ())):
                files, known = files_of(both.office), both.office.kept()
                seen[f"of {what.__name__[1:]}"] += what(both, door)
                left_nothing(both.office, known)
                if both.state() is not both.old or files_of(both.office) != files:
                    both.office.wrong.append(f"with a wrong {what.__name__[1:]} something has changed")
        return Found(rounds, said=counted(seen), wrong=once(both.office.wrong))


@contextlib.contextmanager
def _office(desk: Desk) -> Iterator[Restored]:
    if connection.vendor == "sqlite":
        with restored(desk) as both:
            yield both
        return
    with server.own_folder() as folder, server.started(folder) as own:
        own.ask(f"CREATE ROLE office LOGIN PASSWORD '{RIGHT}'", "CREATE DATABASE office OWNER office")
        own.want_passwords()
        yield Restored(desk, Own(own.address_of("office", f"office:{quote(RIGHT, safe='')}")))


def _key(both: Restored, door: store.Door) -> int:
    words = (fingerprint(settings.BACKUP_KEYS[0]), "BACKUP_KEY")
    commands = [
        ("verify_backup", both.old.archive),
        ("verify_backup", both.old.archive, "--restore"),
        ("restore", both.new.archive, "--yes"),
    ]
    return _refused(both, commands, words, FAULTS_BACKUP_KEY=WRONG_KEY)


def _store(both: Restored, door: store.Door) -> int:
    commands = [("restore", "--list"), ("restore", "--latest", "--yes")]
    return _refused(both, commands, ("403", "S3_ACCESS_KEY_ID"), **variables(door))


def _password(both: Restored, door: store.Door) -> int:
    right = both.database.url
    wrong = right.replace(quote(RIGHT, safe=""), quote(WRONG, safe=""))
    words = ("password authentication failed",)
    commands = [("backup",), ("check_backups",), ("restore", both.new.archive, "--yes")]
    count = _refused(both, commands, words, DATABASE_URL=wrong)
    count += _refused(both, [("restore", both.new.archive, "--yes", "--to", wrong)], words)
    done = both.office.manage("verify_backup", both.old.archive, "--restore", DATABASE_URL=wrong)
    if "verified" in done.stdout or not all(word in done.stderr for word in words):
        both.office.wrong.append(f"a trial that reaches no database says: {done.stdout}{done.stderr[-400:]}")
    return count + 1


def _refused(both: Restored, commands: list[tuple], words: tuple[str, ...], **changed: str) -> int:
    for command in commands:
        done = both.office.manage(*command, **changed)
        said = done.stderr.strip()
        if not done.returncode or "\n" in said or not all(word in said for word in words):
            both.office.wrong.append(f"{command[0]} ended with {done.returncode}: {done.stdout}{said[-400:]}")
        if any(secret in done.stdout + said for secret in (SECRET, RIGHT, WRONG, quote(WRONG, safe=""), WRONG_KEY)):
            both.office.wrong.append(f"{command[0]} tells a secret")
    return len(commands)
