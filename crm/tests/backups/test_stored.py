"""Stored files on their way back into a folder and into a storage that has no paths."""

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from crm.backups import stored
from crm.backups.archive import Writer, open_archive
from crm.exceptions import BackupDamaged
from crm.tests.backups import archives

FILES = {"a/same.pdf": b"same", "a/other.pdf": b"as it was" * 1000, "new/deep/new.pdf": b"\x00new"}
THERE = {"a/same.pdf": b"same", "a/other.pdf": b"as it is", "kept.pdf": b"kept"}


@pytest.fixture(params=["folder", "without paths"])
def storage(request, tmp_path):
    found = FileSystemStorage(tmp_path / "files") if request.param == "folder" else InMemoryStorage()
    for name, content in THERE.items():
        found.save(name, ContentFile(content))
    return found


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a.hdbk"
    with path.open("wb") as target:
        archives._finish(Writer(target, settings.BACKUP_KEYS[0]), FILES, b"", {})
    with open_archive(path, settings.BACKUP_KEYS) as found:
        yield found


def contents(storage, folder="") -> dict[str, bytes]:
    folders, files = storage.listdir(folder)
    names = [f"{folder}/{name}".lstrip("/") for name in files]
    found = {name: storage.open(name).read() for name in names}
    for each in folders:
        found |= contents(storage, f"{folder}/{each}".lstrip("/"))
    return found


def test_files_are_where_they_were_and_others_stay(storage, archive):
    with stored.Staged(archive, storage) as files:
        assert {name: content for name, content in contents(storage).items() if name in THERE} == THERE
        files.place()
    assert contents(storage) == THERE | FILES


def test_what_is_not_placed_leaves_everything_as_it_was(storage, archive):
    with stored.Staged(archive, storage):
        pass
    assert contents(storage) == THERE
    assert storage.listdir("")[0] == ["a"]


def test_an_error_while_staging_leaves_everything_as_it_was(storage, archive):
    archive._sections["files/new/deep/new.pdf"]["sha256"] = "0" * 64
    with pytest.raises(BackupDamaged), stored.Staged(archive, storage):
        pass
    assert contents(storage) == THERE


def test_what_a_killed_restore_left_is_taken_away(storage, archive):
    storage.save(f"{stored.FOLDER}dead/0", ContentFile(b"left"))
    with stored.Staged(archive, storage):
        assert not storage.exists(f"{stored.FOLDER}dead/0")


def test_nothing_stored_yet_is_no_error(tmp_path, archive):
    storage = FileSystemStorage(tmp_path / "none")
    with stored.Staged(archive, storage) as files:
        files.place()
    assert contents(storage) == FILES
