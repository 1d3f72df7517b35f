"""The folder of the backups, BACKUP_DIR. A file in it is whole or not there: it is written under a name that begins with a
dot, and renamed when it is on the disk. What killed processes left goes with the next file."""

import contextlib
import datetime
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from django.conf import settings

from crm.backups import room
from crm.exceptions import BackupFolderUnusable, FileMayNotGrow, NoRoomForBackup

SUFFIX = ".hdbk"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"hypodesk-(\d{8}T\d{6}Z)-([a-z-]+?)(?:_(\d+))?" + re.escape(SUFFIX))


class Kept(NamedTuple):
    at: datetime.datetime
    number: int
    kind: str
    path: Path


def kept() -> list[Kept]:
    """The finished files, oldest first, by what their names say. Raises BackupFolderUnusable."""
    folder = Path(settings.BACKUP_DIR)
    with _told(folder), contextlib.suppress(FileNotFoundError):
        return sorted(filter(None, map(told_by, filter(Path.is_file, folder.iterdir()))))
    return []


def is_ours(path: Path) -> bool:
    """It lies where backups do."""
    return path.absolute().parent.resolve() == Path(settings.BACKUP_DIR).resolve()


def told_by(path: Path) -> Kept | None:
    """What the name says; None of a name that is no backup's."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    try:
        at = datetime.datetime.strptime(found[1], _TIME).replace(tzinfo=datetime.UTC)
    except ValueError:  # digits of no day
        return None
    return Kept(at, int(found[3] or 1), found[2], path)


class NewFile:
    """Takes the bytes of a backup. `path` is known when it has its name, `sha256` is of what was written so far."""

    def __init__(self, file: BinaryIO, part: Path):
        self._file, self._part, self._folder, self._digest = file, part, part.parent, hashlib.sha256()
        self.size = 0
        self.path: Path | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data) -> int:
        with _told(self._folder):
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def written(self) -> Path:
        """Under the name that it has meanwhile, to be read by who writes it."""
        with _told(self._folder):
            self._file.flush()
        return self._part


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_file(*, at: datetime.datetime, kind: str) -> contextlib.AbstractContextManager[NewFile]:
    """Of a backup of the moment `at`. Two of one second get two names."""
    stem = f"hypodesk-{at.astimezone(datetime.UTC).strftime(_TIME)}-{kind}"
    return _written(stem, lambda folder: _free_name(folder, stem))


def file_of(name: str) -> contextlib.AbstractContextManager[NewFile]:
    """Of a backup that has its name; takes the place of a file that has it too."""
    return _written(name.removesuffix(SUFFIX), lambda folder: folder / name)


@contextlib.contextmanager
def _written(stem: str, named: Callable[[Path], Path]) -> Iterator[NewFile]:
    """After an error inside nothing is left of it. Raises NoRoom and BackupFolderUnusable."""
    folder = Path(settings.BACKUP_DIR)
    part = folder / f".{stem}.{secrets.token_hex(4)}.part"
    with _told(folder):
        make_folder(folder, 0o700)
        with locked(folder):
            _remove_leftovers(folder)
            file = _locked_file(part)
    try:
        new = NewFile(file, part)
        yield new
        with _told(folder):
            file.flush()
            os.fsync(file.fileno())
            with locked(folder) as descriptor:
                new.path = named(folder)
                part.rename(new.path)
                os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):
            file.close()
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if lacking := room.lacking(error, folder):
            raise lacking if isinstance(lacking, FileMayNotGrow) else NoRoomForBackup(folder=folder) from error
        raise BackupFolderUnusable(folder=folder, why=error.strerror) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """One process at a time: nobody takes a file that was just made for a leftover, or a name that was just found free."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked_file(path: Path) -> BinaryIO:
    """Its lock says that its writer lives."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    give_to_owner_of_folder(path)
    return os.fdopen(descriptor, "wb")


def make_folder(path: Path | str, mode: int) -> None:
    """With those it lies in, each of whose folder it is made in."""
    missing = [each for each in (Path(path), *Path(path).parents) if not each.exists()]
    os.makedirs(path, mode, exist_ok=True)
    for each in reversed(missing):
        give_to_owner_of_folder(each)


def give_to_owner_of_folder(path: Path | str) -> None:
    """What root makes would be closed to the office's own user. Nobody else may give a file away."""
    with contextlib.suppress(OSError):
        folder = os.stat(os.path.dirname(path))
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _remove_leftovers(folder: Path) -> None:
    for part in folder.glob(".hypodesk-*.part"):
        with contextlib.suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _free_name(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}{SUFFIX}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}{SUFFIX}"
    return path
