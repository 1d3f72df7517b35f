"""What of a SQLite database goes into a backup, and how it comes back: the file as one moment had it.

The live file is only ever opened by SQLite: closing any other descriptor of it would drop the locks of this process."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.db import connection
from django.utils.translation import gettext as _

from crm.backups import room, shelf
from crm.exceptions import DumpFailed, LoadFailed, TargetInUse, TargetNotEmpty

BLOCK = 1 << 20
ROWS = 1_000
PATIENCE_S = 20
LEFT = ".restoring-"
# What a disk says that knows no hard links, such as exFAT or a share.
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
# In a file's head, whether it is read with a write-ahead log beside it.
_LOG_AT, _WITH_LOG, _WITHOUT_LOG = 18, b"\x02\x02", b"\x01\x01"


def check_tools() -> str:
    """SQLite needs none."""
    return ""


# --- Out ---


@contextlib.contextmanager
def snapshot() -> Iterator["Snapshot"]:
    """A copy of the default database, which lies beside it without a name, so that a kill leaves nothing. Blocks no writer."""
    name = connection.settings_dict["NAME"]
    with contextlib.ExitStack() as stack:
        file, target, reader = _nameless(Path(name))
        stack.enter_context(file)
        stack.callback(reader.close)
        try:
            # Without a journal, which would have a name.
            target.execute("PRAGMA journal_mode=OFF")
            with contextlib.closing(opened(name)) as live:
                live.backup(target)
        except sqlite3.Error as error:
            raise room.lacking(error) or DumpFailed(why=error) from error
        finally:
            target.close()
        if os.pread(file.fileno(), 2, _LOG_AT) == _WITH_LOG:
            os.pwrite(file.fileno(), _WITHOUT_LOG, _LOG_AT)
        yield Snapshot(file, reader)


def _nameless(live: Path) -> tuple[BinaryIO, sqlite3.Connection, sqlite3.Connection]:
    """An empty file beside that one, for SQLite to write and to read. It has a name only while the folder is locked, so
    whatever has one then was left by a killed process."""
    path = live.with_name(f"{live.name}.{uuid.uuid4().hex}.copy")
    with shelf.locked(live.parent):
        for left in live.parent.glob(f"{glob.escape(live.name)}.*.copy"):
            left.unlink(missing_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b", buffering=0)
        try:
            return file, opened(path), opened(path)
        finally:
            path.unlink()


def opened(path: Path | str) -> sqlite3.Connection:
    """A file that is there. Its texts come with whatever bytes they have, also such as are no UTF-8."""
    address = f"{Path(path).absolute().as_uri()}?mode=rw"
    found = sqlite3.connect(address, uri=True, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
    found.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return found


class Snapshot:
    def __init__(self, file: BinaryIO, reader: sqlite3.Connection):
        self._file, self._reader = file, reader

    def tables(self) -> dict[str, dict]:
        return tables(self._reader)

    def migrations(self) -> list[list[str]]:
        return migrations(self._reader)

    def server_version(self) -> str:
        return sqlite3.sqlite_version

    def dump(self, out: BinaryIO) -> None:
        at = 0
        while block := os.pread(self._file.fileno(), BLOCK, at):
            out.write(block)
            at += len(block)


# --- What is there ---


def tables(cursor) -> dict[str, dict]:
    """Of each table the number of its rows and a digest of their values, in the order that the file has them in. The
    counters of keys are a table too."""
    return {name: _digest(cursor, name) for name in names(cursor)}


def names(cursor) -> list[str]:
    rows = cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return [name for (name,) in rows]


def _digest(cursor, table: str) -> dict:
    quoted = table.replace('"', '""')
    digest, count = hashlib.sha256(), 0
    rows = cursor.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608
    digest.update(repr([column[0] for column in rows.description]).encode())
    while some := rows.fetchmany(ROWS):
        digest.update(repr(some).encode())
        count += len(some)
    return {"rows": count, "digest": digest.hexdigest()[:32]}


def migrations(cursor) -> list[list[str]]:
    return [list(row) for row in cursor.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall()]


# --- In ---


def load(target: Path | str, source: BinaryIO) -> None:
    """Makes the file, which nobody may have open yet; to be renamed by the caller. Raises FileExistsError, OSError."""
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := source.read(BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def check(reader: sqlite3.Connection) -> None:
    """The file's own structure. Raises LoadFailed."""
    try:
        [(said,), *_others] = reader.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        said = type(error).__name__
    if said != "ok":
        raise LoadFailed(why=said)


# --- In another's place ---


@contextlib.contextmanager
def alone(path: Path | str) -> Iterator["Alone"]:
    """Of a file that is there and that no other process has open. Raises TargetInUse where one has: every process of ours keeps
    the write-ahead log, and a file that is open somewhere cannot be taken out of that."""
    own = opened(path)
    try:
        own.execute("PRAGMA busy_timeout = 0")
        found = Alone(own, Path(path))
        found.be_alone()
        with room.told(found.path.parent):
            own.execute("PRAGMA journal_mode=WAL")
        yield found
    finally:
        own.close()


class Alone:
    def __init__(self, own: sqlite3.Connection, path: Path):
        self._own, self.path, self._version = own, path, None

    def be_alone(self) -> None:
        try:
            self._own.execute("PRAGMA journal_mode=DELETE").fetchall()
            self._own.execute("BEGIN EXCLUSIVE")
            self._own.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            lacking = room.lacking(error, self.path.parent)
            raise lacking or TargetInUse(why=_("another process has it open")) from error

    def remember(self) -> None:
        """From here on nobody may write."""
        with room.told(self.path.parent):
            self._version = self._own.execute("PRAGMA data_version").fetchone()

    def tables(self) -> dict[str, dict]:
        return tables(self._own)

    def replace_by(self, new: Path) -> None:
        """At once, and for good when it returns. Raises TargetInUse, and then nothing has changed."""
        # Asked before the log is given up, which is when this connection forgets what it has seen.
        if self._own.execute("PRAGMA data_version").fetchone() != self._version:
            raise TargetInUse(why=_("it was written to since its safety backup"))
        self.be_alone()
        self._own.execute("BEGIN EXCLUSIVE")
        put(new, self.path, over=True)


def leftovers(target: Path) -> list[Path]:
    """Of restores into this file that live, or were killed."""
    return list(target.parent.glob(f"{glob.escape(target.name)}{LEFT}*"))


def put(new: Path, target: Path, *, over: bool = False) -> None:
    """`new` is a database that nobody has open. Raises TargetNotEmpty where something has come to stand in the target's place
    and it is not to go `over` that."""
    with room.told(target.parent):
        with contextlib.closing(opened(new)) as own:
            own.execute("PRAGMA journal_mode=DELETE").fetchall()
        if over:
            shutil.copymode(target, new)
            with contextlib.suppress(PermissionError):  # not root: then whoever restores is whose it is
                os.chown(new, target.stat().st_uid, target.stat().st_gid)
        sync(new)
        if over:
            new.replace(target)
        else:
            _link(new, target)
    sync(target.parent)


def _link(new: Path, target: Path) -> None:
    try:
        os.link(new, target)
    except FileExistsError as error:
        raise TargetNotEmpty() from error
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(target):
            raise TargetNotEmpty() from error
        new.rename(target)
    else:
        new.unlink()


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
