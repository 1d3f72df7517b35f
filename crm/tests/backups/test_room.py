"""Who has no room says so in a line with its cure: the system, SQLite and PostgreSQL, and a file that may not grow."""

import contextlib
import errno
import os
import resource
import sqlite3

import psycopg
import pytest

from crm.backups import room
from crm.exceptions import FileMayNotGrow, NoRoom, NoRoomForBackup
from crm.tests.backups.test_shelf import in_child


def full_database(path):
    own = sqlite3.connect(path)
    own.execute("PRAGMA max_page_count = 2")
    with contextlib.closing(own), pytest.raises(sqlite3.OperationalError) as raised:
        own.execute("CREATE TABLE many (text)")
        own.execute("INSERT INTO many VALUES (hex(zeroblob(100000)))")
    return raised.value


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_systems_error_is_told_with_its_place_and_cure(number, tmp_path):
    with pytest.raises(NoRoom, match=f"no room in {tmp_path}.*Free some space"), room.told(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_full_sqlite_file_is_told(tmp_path):
    assert isinstance(room.lacking(full_database(tmp_path / "own.sqlite3"), tmp_path), NoRoom)


def test_a_full_disk_of_the_server_is_told():
    assert isinstance(room.lacking(psycopg.errors.DiskFull("could not extend file"), "there"), NoRoom)


def test_the_cause_of_an_error_counts():
    error = RuntimeError()
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert isinstance(room.lacking(error, "there"), NoRoom)


@pytest.mark.parametrize("kind", [NoRoom, NoRoomForBackup, FileMayNotGrow])
def test_who_has_named_a_place_keeps_it(kind):
    error = kind()
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert room.lacking(error, "there") is error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "no"), OSError(errno.EFBIG, "too large"), sqlite3.DatabaseError("malformed"), ValueError()],
)
def test_what_is_something_else_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, room.told("there"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_file_that_may_not_grow_names_the_limit(tmp_path, kind):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            with room.told(tmp_path):
                if kind == "file":
                    (tmp_path / "file").write_bytes(bytes(30_000))
                else:
                    with contextlib.closing(sqlite3.connect(tmp_path / "own.sqlite3")) as own:
                        own.execute("CREATE TABLE many (text)")
                        own.execute("INSERT INTO many VALUES (hex(zeroblob(100000)))")
                        own.commit()
        except FileMayNotGrow as error:
            if "20000 bytes" in str(error) and "ulimit -f" in str(error):
                os._exit(7)

    assert in_child(work) == 7
