"""Stored files on their way back into a folder and into a storage that has no paths."""

import contextlib
import json
import os
import re
import tempfile
import threading
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from crm.backups import stored
from crm.backups.archive import Writer, open_archive
from crm.exceptions import BackupDamaged, FileNotPlaced, NoPlaceForFile, RestoreRuns
from crm.tests.backups import archives

FILES = {"a/same.pdf": b"same", "a/other.pdf": b"as it was" * 1000, "new/deep/new.pdf": b"\x00new"}
OWN = "office.sqlite3"
NOBODY = 65534
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


@pytest.fixture
def as_nobody(archive):
    """A folder of one who is not root, as whom the test goes on: root may write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        if os.getuid():
            yield Path(folder)
            return
        os.chown(folder, NOBODY, -1)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(folder)
        finally:
            os.setresuid(0, 0, 0)


def contents(storage, folder="") -> dict[str, bytes]:
    folders, files = storage.listdir(folder)
    names = [f"{folder}/{name}".lstrip("/") for name in files]
    found = {name: storage.open(name).read() for name in names}
    for each in folders:
        found |= contents(storage, f"{folder}/{each}".lstrip("/"))
    return found


def placed(storage, archive) -> None:
    """As a restore does."""
    with stored.Staged(archive, storage, OWN) as files:
        folder = files.hand_over()
    for each in stored.settle(storage, [folder], database=OWN):
        stored.remove(storage, each)


def staged(storage, archive, database: str = OWN) -> str:
    """What a restore has left that was killed after its commit."""
    with stored.Staged(archive, storage, database) as files:
        return files.hand_over()


def test_files_are_where_they_were_and_others_stay(storage, archive):
    with stored.Staged(archive, storage, OWN):
        assert {name: content for name, content in contents(storage).items() if name in THERE} == THERE
    placed(storage, archive)
    assert contents(storage) == THERE | FILES
    assert not stored.left(storage)


def test_what_root_restores_belongs_to_whom_the_folder_belongs(tmp_path, archive):
    owner = os.getuid() or NOBODY
    os.chown(tmp_path, owner, -1)
    storage = FileSystemStorage(tmp_path / "files")
    with stored.alone(storage):
        folder = staged(storage, archive)
        assert {path.stat().st_uid for path in (tmp_path / "files").rglob("*")} == {owner}
        stored.place(storage, folder)
    made = [tmp_path / "files", *(tmp_path / "files").rglob("*")]
    assert {path.stat().st_uid for path in made} == {owner}
    assert {name: content for name, content in contents(storage).items() if name in FILES} == FILES


def test_where_all_files_are_there_nothing_is_staged(storage, archive):
    placed(storage, archive)
    assert staged(storage, archive) == ""
    assert not stored.left(storage)


def test_what_is_not_placed_leaves_everything_as_it_was(storage, archive):
    with stored.Staged(archive, storage, OWN):
        pass
    assert contents(storage) == THERE
    assert storage.listdir("")[0] == ["a"]


def test_an_error_while_staging_leaves_everything_as_it_was(storage, archive):
    archive._sections["files/new/deep/new.pdf"]["sha256"] = "0" * 64
    with pytest.raises(BackupDamaged), stored.Staged(archive, storage, OWN):
        pass
    assert contents(storage) == THERE


def refuses(storage, archive, path) -> bool:
    before = set(Path(storage.location).rglob("*"))
    with pytest.raises(NoPlaceForFile, match=re.escape(f"{path} (")), stored.Staged(archive, storage, OWN):
        pass
    return set(Path(storage.location).rglob("*")) == before


def test_a_file_that_has_no_place_is_refused_before_anything_is_changed(tmp_path, archive):
    storage = FileSystemStorage(tmp_path / "files")
    (tmp_path / "files/a/same.pdf").mkdir(parents=True)
    assert refuses(storage, archive, tmp_path / "files/a/same.pdf")
    (tmp_path / "files/a/same.pdf").rmdir()
    (tmp_path / "files/new").write_bytes(b"no folder")
    assert refuses(storage, archive, tmp_path / "files/new")
    (tmp_path / "files/new").unlink()
    (tmp_path / "files/new").symlink_to("gone")
    assert refuses(storage, archive, tmp_path / "files/new")


def test_a_folder_of_another_user_is_refused_before_anything_is_changed(tmp_path, archive, as_nobody):
    folder = as_nobody / "files"
    (folder / "a").mkdir(parents=True)
    (folder / "a").chmod(0o500)
    assert refuses(FileSystemStorage(folder), archive, folder / "a")


def test_what_lies_in_a_folder_of_another_user_with_its_content_needs_no_place(tmp_path, archive, as_nobody):
    storage = FileSystemStorage(as_nobody / "files")
    for name in ("a/same.pdf", "a/other.pdf"):
        storage.save(name, ContentFile(FILES[name]))
    (as_nobody / "files" / "a").chmod(0o500)
    placed(storage, archive)
    assert contents(storage) == FILES


def test_what_was_never_committed_is_taken_away_and_what_is_anothers_stays(storage, archive):
    storage.save(f"{stored.FOLDER}0123456789abcdef/0", ContentFile(b"of an earlier version"))
    staged(storage, archive)
    others = staged(storage, archive, "another database")
    assert stored.settle(storage, [], database=OWN) == []
    assert stored.left(storage) == [others]
    assert {name: content for name, content in contents(storage).items() if name in THERE} == THERE


def test_moves_that_were_begun_are_finished_and_twice_is_no_error(storage, archive):
    folder = staged(storage, archive)
    first = json.loads(storage.open(f"{folder}/{stored.JOURNAL}").read())[0]
    stored._move(storage, first)
    storage.delete(first["name"])  # by somebody, since
    stored.place(storage, folder)
    stored.place(storage, folder)
    stored.remove(storage, folder)
    assert contents(storage) == {name: content for name, content in (THERE | FILES).items() if name != first["name"]}


def test_a_staged_file_that_is_cut_off_is_not_placed_and_the_others_are(storage, archive):
    folder = staged(storage, archive)
    [cut] = [told for told in json.loads(storage.open(f"{folder}/{stored.JOURNAL}").read()) if told["name"] in THERE]
    storage.delete(cut["staged"])
    storage.save(cut["staged"], ContentFile(b"cut"))
    with pytest.raises(FileNotPlaced, match="a/other.pdf"):
        stored.place(storage, folder)
    assert storage.open("a/other.pdf").read() == THERE["a/other.pdf"]
    assert storage.open("new/deep/new.pdf").read() == FILES["new/deep/new.pdf"]


@pytest.mark.parametrize("journal", [None, b"", b"[{"])
def test_a_journal_that_cannot_be_read_is_named(storage, archive, journal):
    folder = staged(storage, archive)
    storage.delete(f"{folder}/{stored.JOURNAL}")
    if journal is not None:
        storage.save(f"{folder}/{stored.JOURNAL}", ContentFile(journal))
    with pytest.raises(FileNotPlaced, match=stored.JOURNAL):
        stored.place(storage, folder)


def test_one_at_a_time_restores_into_a_folder(tmp_path):
    storage = FileSystemStorage(tmp_path / "new" / "files")
    with stored.alone(storage):
        with pytest.raises(RestoreRuns), stored.alone(storage, patience_s=0.2):
            pass
        with stored.alone(FileSystemStorage(tmp_path / "others")), stored.alone(InMemoryStorage()):
            pass
    with stored.alone(storage):
        pass


def test_who_waits_begins_when_the_other_has_ended(tmp_path):
    storage = FileSystemStorage(tmp_path)
    other = contextlib.ExitStack()
    other.enter_context(stored.alone(storage))
    threading.Timer(0.3, other.close).start()
    with stored.alone(storage, patience_s=30):
        pass


def test_nothing_stored_yet_is_no_error(tmp_path, archive):
    storage = FileSystemStorage(tmp_path / "none")
    placed(storage, archive)
    assert contents(storage) == FILES
