"""Puts a backup in the place of a database and of the stored files. Whatever goes wrong before the last moment leaves both as
they were: on PostgreSQL the work is one transaction, on SQLite a file beside the target that is renamed."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.utils.translation import gettext as _

from crm import checks, health
from crm.backups import apart, fetching, keeping, loading, making, placing, shelf, sqlite, stored, watch
from crm.backups.archive import Archive, open_archive
from crm.backups.checking import compare_files
from crm.encryption import field_key_fingerprints, fingerprint
from crm.exceptions import (
    BackupTooNew,
    CrmError,
    FileNotPlaced,
    FilesInTheWay,
    KeyMissing,
    OtherEngine,
    TargetHeld,
    TargetInUse,
    TargetNotEmpty,
    TargetNotOurs,
)

ENGINES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


@dataclass(frozen=True)
class Restored:
    """`unknown_seals` are keys, by fingerprint, that AUDIT_KEY does not hold; `ungranted` is what a role may not do any more: role,
    right, table; `changed` are counts of rows, before and after, where migrations or erasures have changed them; `added` are rows of
    the catalogue that it lacked, and then what `resuming` has put to rest; `saved_in` is the safety backup of what was replaced."""

    manifest: dict
    files: int
    migrated: list[str]
    erased: int
    restricted: int
    unknown_seals: list[str]
    changed: dict[str, list]
    added: int
    logged_out: int
    ended: int
    withheld: int
    ungranted: list[list[str]]
    saved_in: str


def restore(
    path: Path, *, to: str | None = None, replace: bool, progress: Callable[[str], object] = lambda step: None
) -> Restored:
    """`to` is another database than DATABASE_URL's; `replace` says that whatever is in it may go, after a safety backup.
    `progress` hears what is done next. Raises a CrmError, and then nothing has changed."""
    url = to or apart.address()
    connections.close_all()  # not to be in our own way
    with open_archive(path, settings.BACKUP_KEYS) as archive, stored.alone(default_storage):
        refuse_unknown(archive)
        with _working("look", url) as work:
            there = work.answer()
        _refuse(archive, there, replace=replace)
        progress(_("Verifying the backup."))
        archive.verify()
        compare_files(archive)
        try:
            _settle(url, there)
        except FileNotPlaced as error:  # what it restores goes now
            progress(str(error))
        beside = _ledger_beside(there, progress)
        if (beside or not there["tables"]) and (name := stored.in_the_way(archive, default_storage)):
            raise FilesInTheWay(name=name)
        if beside and archive.manifest["files"]:
            folder = getattr(default_storage, "location", settings.DATA_DIR)
            progress(
                _("The stored files of the backup go into %(folder)s, beside whatever lies there.") % {"folder": folder}
            )
        try:
            done = _put_back(path, archive, there, url, [*_ledgers(path, archive, progress), *beside], progress)
        except BaseException:
            # Only the database knows whether it was committed; where it cannot be asked, the next start asks.
            with contextlib.suppress(CrmError, OSError):
                _settle(url, there)
            raise
        _settle(url, there)
        return done


def _put_back(
    path: Path, archive: Archive, there: dict, url: str, ledgers: list[str], progress: Callable[[str], object]
) -> Restored:
    """The database; its files are staged then."""
    saved_in, saved = "", None
    with _place(there, url) as place:
        if there["tables"]:
            progress(_("Making a safety backup of what is there."))
            if trouble := watch.disk_trouble():
                progress(trouble)
            with _working("save", url) as work:
                saved_in = work.answer()["file"]
            if settings.BACKUPS_ON_THROWAWAY_DISK:
                keeping.copy_of(Path(saved_in))
            with open_archive(saved_in, settings.BACKUP_KEYS) as safety:
                saved = safety.manifest["tables"]
                ledgers.append(_ledger(safety))
            place.hold(saved)
        progress(_("Loading, comparing and migrating."))
        asked = {"file": str(path.absolute()), "ledgers": ledgers, "saved": saved}
        staged = stored.Staged(archive, default_storage, there["database"])
        with _working("restore", place.url, **asked) as work, staged as files:
            told = work.answer()
            work.go_on(files.hand_over())
            place.finish()
    del told["tables"], told["rows"]
    return Restored(archive.manifest, files.count, saved_in=saved_in, **told)


def _settle(url: str, there: dict) -> None:
    """What a restore into this database has left among the stored files goes to its places, or away. Raises FileNotPlaced."""
    if not stored.left(default_storage):
        return
    with _working("settle", url) as work:
        named = work.answer()["named"]
        placed = stored.settle(default_storage, named, database=there["database"])
        work.go_on(placed)
    for folder in placed:
        stored.remove(default_storage, folder)


@contextlib.contextmanager
def _working(work: str, url: str, **asked) -> Iterator[apart.Work]:
    """Ctrl-C is for this process, which ends that one; else both would tell of it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a new process inherits it
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(apart.working(work, url, **asked))
        finally:
            signal.signal(signal.SIGINT, before)
        yield found


# --- Before anything is touched ---


def refuse_unknown(archive: Archive) -> None:
    """What this version or these keys could not work with. Raises BackupTooNew, KeyMissing."""
    manifest = archive.manifest
    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    last = {app: max(name for other, name in known if other == app) for app, _name in known}
    if any((app, name) not in known and name > last.get(app, name) for app, name in manifest["migrations"]):
        raise BackupTooNew(file=archive.name)
    for name, needed, ours in (
        ("FIELD_ENCRYPTION_KEY", manifest["field_keys"], field_key_fingerprints()),
        ("SEARCH_KEY", [manifest["search_key"]], [fingerprint(settings.SEARCH_KEY)]),
    ):
        if missing := [key for key in needed if key not in ours]:
            raise KeyMissing(file=archive.name, fingerprint=", ".join(missing), name=name)


def _refuse(archive: Archive, there: dict, *, replace: bool) -> None:
    made = archive.manifest["engine"]
    if made != there["engine"]:
        raise OtherEngine(file=archive.name, made=ENGINES.get(made, made), target=ENGINES[there["engine"]])
    if there["tables"] and not there["is_office"]:
        raise TargetNotOurs()
    if there["tables"] and replace and there["hangers_on"]:
        raise TargetHeld(names=", ".join(there["hangers_on"]))
    if not there["tables"] or replace:
        return
    if there["others"]:
        raise TargetInUse(why=_("sessions of others: %(count)s") % {"count": there["others"]})
    if there["silent_s"] is not None and there["silent_s"] < health.ALIVE_WITHIN.total_seconds():
        raise TargetInUse(why=_("a worker runs"))
    raise TargetNotEmpty()


# --- The erasures since ---


def _ledgers(path: Path, archive: Archive, progress: Callable[[str], object]) -> list[str]:
    """Of all backups of this office that lie beside this one or where backups lie. By their clocks nobody knows the newest:
    one may have been wrong. Which cannot be read is said."""
    found = []
    for folder in {path.parent.resolve(), Path(settings.BACKUP_DIR).resolve()}:
        for file in folder.glob(f"*{shelf.SUFFIX}"):
            try:
                with open_archive(file, settings.BACKUP_KEYS) as other:
                    if other.manifest["search_key"] == archive.manifest["search_key"]:
                        found.append(_ledger(other))
            except (CrmError, OSError, KeyError) as error:
                progress(fetching.LESS_KNOWN % {"name": file.name, "why": error})
    return found


def _ledger_beside(there: dict, progress: Callable[[str], object]) -> list[str]:
    """Of the office that DATABASE_URL names, where the target is another database: whoever was erased in there is in no backup
    yet. Empty where there is no such office."""
    if there["database"] == placing.database():
        return []
    try:
        if known := checks.tables():
            return [making.ledger(known).decode()]
        progress(
            _(
                "DATABASE_URL names no office, so who was erased since the last backup that is here is not known, and not erased again."
            )
        )
        return []
    except (DatabaseError, ImproperlyConfigured) as error:
        text = _(
            "Who was erased since the last backup the office's own database (DATABASE_URL) could not be asked: %(why)s"
        )
        progress(text % {"why": apart.why(error)})
        return []
    finally:
        connections.close_all()


def _ledger(archive: Archive) -> str:
    with archive.section("ledger") as lines:
        return lines.read().decode()


# --- Where it goes ---


@dataclass(frozen=True)
class InTransaction:
    """PostgreSQL: the one that loads does all of it in the target itself."""

    url: str

    def hold(self, saved: dict) -> None:
        pass

    def finish(self) -> None:
        pass


@dataclass(frozen=True)
class Beside:
    """SQLite: a new file, which gets the target's name at the end. `old` is None where the target is not there yet."""

    url: str
    new: Path
    target: Path
    old: sqlite.Alone | None

    def hold(self, saved: dict) -> None:
        """Raises TargetInUse where somebody has written since the safety backup began; whoever writes from now on is found by
        `finish`."""
        self.old.remember()
        if loading.unsaved(saved, self.old.tables()):
            raise TargetInUse(why=loading.written_since())

    def finish(self) -> None:
        if self.old:
            self.old.replace_by(self.new)
        else:
            _refuse_logs_of_nobody(self.target)
            sqlite.put(self.new, self.target)


@contextlib.contextmanager
def _place(there: dict, url: str) -> Iterator[InTransaction | Beside]:
    """Raises TargetInUse, TargetNotEmpty."""
    if there["engine"] != "sqlite":
        yield InTransaction(url)
        return
    target = Path(there["name"]).resolve()  # a link to it stays one
    _refuse_logs_of_nobody(target)
    _take_leftovers_away(target)
    new = target.with_name(f"{target.name}{sqlite.LEFT}{os.getpid()}")
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, new)
        old = stack.enter_context(sqlite.alone(target)) if target.exists() else None
        if old and not there["tables"]:
            old.remember()
            if old.tables():
                raise TargetNotEmpty()
        yield Beside(f"sqlite:////{str(new.absolute()).lstrip('/')}", new, target, old)


def _refuse_logs_of_nobody(target: Path) -> None:
    """SQLite would take them for the new file's."""
    logs = [Path(f"{target}{suffix}").name for suffix in ("-wal", "-journal") if Path(f"{target}{suffix}").exists()]
    if logs and not target.exists():
        raise TargetInUse(why=_("%(names)s without its database lies there") % {"names": ", ".join(logs)})


def _take_leftovers_away(target: Path) -> None:
    """Of restores that were killed."""
    for left in sqlite.leftovers(target):
        number = left.name.removeprefix(f"{target.name}{sqlite.LEFT}").partition("-")[0]
        if not (number.isdigit() and _is_alive(int(number))):
            left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _remove(new: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
