"""A backup: the database as one moment has it, the ledger of erasures and every stored file, in one archive. It is encrypted
before it leaves memory, and is there whole or not at all."""

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import psycopg
from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.utils.translation import gettext as _

from crm import privacy
from crm.audit import sealing
from crm.backups import postgresql, room, shelf, sqlite, stored
from crm.backups.archive import SectionWriter, Writer
from crm.encryption import field_key_fingerprints, fingerprint
from crm.exceptions import (
    BackupKeyNotSet,
    BackupNotMade,
    BackupsAmongFiles,
    DumpFailed,
    StoredFileChanged,
    StoredFileUnreadable,
)

ENGINES = {"postgresql": postgresql, "sqlite": sqlite}
FORMAT = 1
TRIES = 3
BLOCK = 1 << 20

Progress = Callable[[int, int], object]


def create(*, kind: str, now: datetime.datetime, progress: Progress | None = None) -> Path:
    """Writes nothing into the database, so files that a killed restore has not placed are to be placed before (`placing`).
    `progress` hears bytes of about how many; what it raises leaves nothing. Raises BackupNotMade, DumpFailed, NoRoom,
    BackupFolderUnusable."""
    if not settings.BACKUP_KEYS:
        raise BackupKeyNotSet()
    engine = ENGINES[connection.vendor]
    if trouble := engine.check_tools():
        raise BackupNotMade(trouble)
    if _is_folder() and Path(settings.BACKUP_DIR).resolve().is_relative_to(Path(default_storage.location).resolve()):
        raise BackupsAmongFiles(folder=settings.BACKUP_DIR)
    for _again in range(TRIES - 1):
        with contextlib.suppress(StoredFileChanged):
            return _make(engine, kind, now, Heard(progress))
    return _make(engine, kind, now, Heard(progress))


def _make(engine, kind: str, now: datetime.datetime, heard: "Heard") -> Path:
    # Both before the snapshot: of what it knows no seal is missing later, and no file either.
    audit_head, listed = sealing.head_line(), set(_names())
    with shelf.new_file(at=now, kind=kind) as file:
        writer = Writer(file, settings.BACKUP_KEYS[0])
        manifest = {
            "format": FORMAT,
            "version": settings.VERSION,
            "kind": kind,
            "created_at": now.astimezone(datetime.UTC).isoformat(),
            "engine": connection.vendor,
            "field_keys": field_key_fingerprints(),
            "search_key": fingerprint(settings.SEARCH_KEY),
            "audit_head": audit_head,
        }
        with _failing_clearly(), engine.snapshot() as snapshot:
            manifest |= {
                "server_version": snapshot.server_version(),
                "migrations": snapshot.migrations(),
                "tables": snapshot.tables(),
            }
            with writer.section("database") as out:
                snapshot.dump(heard.writing(out))
            with writer.section("ledger") as out:
                out.write(ledger(manifest["tables"]))
        names = sorted(listed.union(_names()))
        manifest["files"] = [_add(writer, name, heard) for name in names]
        writer.finish(manifest)
    heard.end()
    return file.path


@contextlib.contextmanager
def _failing_clearly() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise room.lacking(error) or DumpFailed(why=postgresql.told(error)) from error
    except sqlite3.Error as error:
        raise room.lacking(error) or DumpFailed(why=error.sqlite_errorname) from error


def ledger(tables: Container[str]) -> bytes:
    """Of the default database, which has these. To be read after a snapshot began: it holds whoever was erased in there. An older
    version's database has none yet."""
    return privacy.write(privacy.ledger() if "crm_erasure" in tables else [])


# --- Files ---


def _names(folder: str = "") -> Iterator[str]:
    try:
        folders, files = default_storage.listdir(folder)
    except FileNotFoundError:  # nothing was ever stored
        return
    except OSError as error:
        raise StoredFileUnreadable(name=error.filename or folder, why=error.strerror) from error
    for name in files:
        yield f"{folder}{name}"
    for name in folders:
        if folder or not name.startswith(stored.FOLDER):
            yield from _names(f"{folder}{name}/")


def _is_folder() -> bool:
    return isinstance(default_storage, FileSystemStorage)


def _refuse_what_is_no_file(name: str) -> None:
    """A link that leads nowhere has not vanished meanwhile, and a pipe would be waited for. Raises StoredFileUnreadable."""
    path = default_storage.path(name) if _is_folder() else None
    if path is None or os.path.isfile(path) or not os.path.lexists(path):
        return
    why = _("it is no file") if os.path.exists(path) else _("it is a link that leads nowhere")
    raise StoredFileUnreadable(name=name, why=why)


def _add(writer: Writer, name: str, heard: "Heard") -> dict:
    """Raises StoredFileChanged, StoredFileUnreadable."""
    _refuse_what_is_no_file(name)
    with writer.section(f"{stored.SECTION}{name}") as out:
        try:
            before = _state(name)
            with default_storage.open(name) as content:
                for block in content.chunks(BLOCK):
                    heard.writing(out).write(block)
            after = _state(name)
        except FileNotFoundError as error:
            raise StoredFileChanged() from error
        except OSError as error:
            raise StoredFileUnreadable(name=name, why=error.strerror) from error
        if before != after or out.size != before[0]:
            raise StoredFileChanged()
    return {"name": name, "size": out.size, "sha256": out.digest.hexdigest()}


def _state(name: str) -> tuple:
    return default_storage.size(name), default_storage.get_modified_time(name)


class Heard:
    """Counts what was written, for who asked to hear it. How much it will be is known in the end only: a guess is made of
    what the database takes on its disk."""

    def __init__(self, progress: Progress | None):
        self._progress = progress
        self._done = 0
        self._total = _database_size() if progress else 0

    def writing(self, out: SectionWriter) -> "Heard":
        self._out = out
        return self

    def write(self, data) -> int:
        self._out.write(data)
        self._done += len(data)
        if self._progress:
            self._total = max(self._total, self._done)
            self._progress(self._done, self._total)
        return len(data)

    def end(self) -> None:
        if self._progress:
            self._progress(self._total, self._total)


def _database_size() -> int:
    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"]).stat().st_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return cursor.fetchone()[0]
