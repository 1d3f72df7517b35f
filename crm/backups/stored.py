"""The stored files of a backup on their way back: each is written beside the others first, into a folder of its own, and put in
its place when the database is committed. The database names that folder (`placing`): so what a killed restore left is either
finished by whoever comes next, or taken away."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage

from crm.backups import shelf
from crm.backups.archive import Archive
from crm.exceptions import FileNotPlaced, NoPlaceForFile, RestoreRuns

FOLDER = ".restoring-"
SECTION = "files/"
# Written last: what lies beside it, and where each belongs.
JOURNAL = "journal.json"
LOOK_EVERY_S = 0.1


def in_the_way(archive: Archive, storage: Storage) -> str | None:
    """The first one that a restore would write over."""
    files = archive.manifest["files"]
    return next((told["name"] for told in files if storage.exists(told["name"]) and not has(storage, told)), None)


def has(storage: Storage, told: dict) -> bool:
    """With this very content."""
    if not storage.exists(told["name"]) or storage.size(told["name"]) != told["size"]:
        return False
    with storage.open(told["name"]) as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == told["sha256"]


@contextlib.contextmanager
def alone(storage: Storage, *, patience_s: float = 0.0) -> Iterator[None]:
    """One restore at a time, or one that finishes what a killed one left, and no backup meanwhile. Raises RestoreRuns."""
    if isinstance(storage, FileSystemStorage):
        with contextlib.suppress(OSError):  # such as of a disk that is read only, where nothing is restored either
            shelf.make_folder(storage.location, settings.FILE_UPLOAD_DIRECTORY_PERMISSIONS)
    with _locked(storage, fcntl.LOCK_EX, patience_s):
        yield


@contextlib.contextmanager
def unmoved(storage: Storage, *, patience_s: float) -> Iterator[None]:
    """Whoever reads them reads those of one database: no restore begins meanwhile. Raises RestoreRuns."""
    with _locked(storage, fcntl.LOCK_SH, patience_s):
        yield


@contextlib.contextmanager
def _locked(storage: Storage, how: int, patience_s: float) -> Iterator[None]:
    """Who dies has let go. Of a storage that is no folder nobody can tell."""
    if not isinstance(storage, FileSystemStorage) or not os.path.isdir(storage.location):
        yield
        return
    descriptor = os.open(storage.location, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, how, until=time.monotonic() + patience_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int, *, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise RestoreRuns() from error
        time.sleep(LOOK_EVERY_S)


# --- Beside the others ---


class Staged:
    """The files of an archive that the storage has not, or has with another content. Others there stay as they are.
    `database` is whose they are to be."""

    def __init__(self, archive: Archive, storage: Storage, database: str):
        self._archive, self._storage = archive, storage
        self._folder = f"{_prefix(database)}{secrets.token_hex(8)}"
        self._journal: list[dict] = []
        self._is_handed_over = False
        self.count = len(archive.manifest["files"])

    def __enter__(self) -> "Staged":
        try:
            for told in self._archive.manifest["files"]:
                if not has(self._storage, told):
                    _refuse_no_place(self._storage, told["name"])
                    self._stage(told)
            if self._journal:
                self._save(JOURNAL, ContentFile(json.dumps(self._journal).encode()))
                os.sync()
        except BaseException:
            remove(self._storage, self._folder)
            raise
        return self

    def __exit__(self, *error) -> None:
        if not self._is_handed_over:
            remove(self._storage, self._folder)

    def _stage(self, told: dict) -> None:
        with self._archive.section(f"{SECTION}{told['name']}") as content:
            staged = self._save(str(len(self._journal)), File(content))
        self._journal.append({"staged": staged, "name": told["name"], "size": told["size"]})

    def _save(self, name: str, content: File) -> str:
        saved = self._storage.save(f"{self._folder}/{name}", content)
        if isinstance(self._storage, FileSystemStorage):
            for path in (self._folder, saved):
                shelf.give_to_owner_of_folder(self._storage.path(path))
        return saved

    def hand_over(self) -> str:
        """The folder's name, for the database to commit; empty where nothing is to be placed. From here on the database says
        what becomes of it."""
        self._is_handed_over = True
        return self._folder if self._journal else ""


def _refuse_no_place(storage: Storage, name: str) -> None:
    """After the commit it would be too late. Raises NoPlaceForFile."""
    if not isinstance(storage, FileSystemStorage):
        return
    target = Path(storage.path(name))
    folder = next(each for each in target.parents if os.path.lexists(each))
    if target.is_dir():
        raise NoPlaceForFile(path=target, why=os.strerror(errno.EISDIR))
    if not folder.is_dir():
        raise NoPlaceForFile(path=folder, why=os.strerror(errno.ENOTDIR))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NoPlaceForFile(path=folder, why=os.strerror(errno.EACCES))


def _prefix(database: str) -> str:
    return f"{FOLDER}{hashlib.sha256(database.encode()).hexdigest()[:8]}-"


# --- In their places ---


def left(storage: Storage) -> list[str]:
    """Folders of restores that run, or were killed."""
    try:
        return sorted(name for name in storage.listdir("")[0] if name.startswith(FOLDER))
    except (FileNotFoundError, NotImplementedError):  # nothing was ever stored, or nobody can look
        return []


def settle(storage: Storage, named: list[str], *, database: str | None) -> list[str]:
    """Places the files that the database names, and takes away whatever else is of this database: it was never committed. To
    be asked by who is `alone`. Returns the folders that were placed, to be removed when the database has forgotten them.
    Raises FileNotPlaced."""
    placed = []
    for folder in left(storage):
        if folder in named:
            place(storage, folder)
            placed.append(folder)
        elif database is not None and _is_of(folder, database):
            remove(storage, folder)
    return placed


def _is_of(folder: str, database: str) -> bool:
    """Earlier versions did not say whose."""
    return folder.startswith(_prefix(database)) or "-" not in folder.removeprefix(FOLDER)


def place(storage: Storage, folder: str) -> None:
    """What was moved before is no error. Raises FileNotPlaced, for the first of those that stay."""
    failed = []
    for told in _read(storage, folder):
        try:
            if storage.exists(told["staged"]):
                _move(storage, told)
        except (OSError, FileNotPlaced) as error:
            failed.append((told["name"], error))
    os.sync()
    for name, error in failed:
        raise FileNotPlaced(name=name) from error


def _read(storage: Storage, folder: str) -> list[dict]:
    name = f"{folder}/{JOURNAL}"
    try:
        with storage.open(name) as content:
            return json.loads(content.read())
    except (OSError, ValueError) as error:
        raise FileNotPlaced(name=name) from error


def _move(storage: Storage, told: dict) -> None:
    """At once where the storage is a folder; elsewhere what stands there goes first."""
    staged, name = told["staged"], told["name"]
    if storage.size(staged) != told["size"]:
        raise FileNotPlaced(name=name)
    if isinstance(storage, FileSystemStorage):
        target = storage.path(name)
        shelf.make_folder(os.path.dirname(target), settings.FILE_UPLOAD_DIRECTORY_PERMISSIONS)
        os.replace(storage.path(staged), target)
        return
    storage.delete(name)
    with storage.open(staged) as content:
        if storage.save(name, content) != name:
            raise FileNotPlaced(name=name)
    storage.delete(staged)


def remove(storage: Storage, folder: str) -> None:
    """With what lies in it."""
    with contextlib.suppress(FileNotFoundError):
        for name in storage.listdir(folder)[1]:
            storage.delete(str(PurePosixPath(folder, name)))
    storage.delete(folder)
