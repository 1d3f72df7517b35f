"""The stored files of a backup on their way back: each is written beside the others first, and put in its place when the
database is whole. What a restore that was killed left there is taken away by the next one."""

import os
import secrets
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import PurePosixPath

from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage

from crm.backups.archive import Archive
from crm.exceptions import FileNotPlaced

FOLDER = ".restoring-"
SECTION = "files/"


def in_the_way(archive: Archive, storage: Storage) -> str | None:
    """The first one that a restore would write over."""
    files = archive.manifest["files"]
    return next((told["name"] for told in files if storage.exists(told["name"]) and not has(storage, told)), None)


def has(storage: Storage, told: dict) -> bool:
    """With this very content."""
    if not storage.exists(told["name"]) or storage.size(told["name"]) != told["size"]:
        return False
    with storage.open(told["name"]) as content:
        return file_digest(content, "sha256").hexdigest() == told["sha256"]


class Staged:
    """The files of an archive that the storage has not, or has with another content. Others there stay as they are."""

    def __init__(self, archive: Archive, storage: Storage):
        self._archive, self._storage = archive, storage
        self._folder = f"{FOLDER}{secrets.token_hex(8)}"
        self._places: list[tuple[str, str]] = []
        self.count = len(archive.manifest["files"])

    def __enter__(self) -> "Staged":
        clean(self._storage)
        try:
            for number, told in enumerate(self._archive.manifest["files"]):
                if not has(self._storage, told):
                    self._stage(f"{self._folder}/{number}", told["name"])
        except BaseException:
            clean(self._storage)
            raise
        return self

    def __exit__(self, *error) -> None:
        clean(self._storage)

    def _stage(self, name: str, of: str) -> None:
        with self._archive.section(f"{SECTION}{of}") as content:
            self._places.append((self._storage.save(name, File(content)), of))

    def place(self) -> None:
        """Raises FileNotPlaced."""
        for staged, name in self._places:
            try:
                _move(self._storage, staged, name)
            except OSError as error:
                raise FileNotPlaced(name=name) from error
        os.sync()


def _move(storage: Storage, staged: str, name: str) -> None:
    """At once where the storage is a folder; elsewhere what stands there goes first."""
    if isinstance(storage, FileSystemStorage):
        target = storage.path(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(storage.path(staged), target)
        return
    storage.delete(name)
    with storage.open(staged) as content:
        if storage.save(name, content) != name:
            raise FileNotPlaced(name=name)
    storage.delete(staged)


def clean(storage: Storage) -> None:
    for folder in _folders(storage):
        for name in _files(storage, folder):
            storage.delete(name)
        storage.delete(folder)


def _folders(storage: Storage) -> list[str]:
    try:
        return [name for name in storage.listdir("")[0] if name.startswith(FOLDER)]
    except (FileNotFoundError, NotImplementedError):  # nothing was ever stored, or nobody can look
        return []


def _files(storage: Storage, folder: str) -> Iterator[str]:
    for name in storage.listdir(folder)[1]:
        yield str(PurePosixPath(folder, name))
