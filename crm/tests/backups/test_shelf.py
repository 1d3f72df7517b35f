"""The folder of the backups: a file in it is whole or not there, whoever is killed and whatever fails."""

import contextlib
import datetime
import errno
import hashlib
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from crm.backups import archive, shelf
from crm.exceptions import BackupFolderUnusable, CrmError, FileMayNotGrow, NoRoomForBackup

AT = datetime.datetime(2026, 11, 21, 2, 0, tzinfo=datetime.UTC)
KEY = "7ba6Rr0VRp3cVvJw7Oa9eAq7oK1Nw1JQbYh4Qb1cZ0Q="


@pytest.fixture
def folder(tmp_path, settings):
    settings.BACKUP_DIR = tmp_path / "backups"
    return settings.BACKUP_DIR


def write(*, content: bytes = b"rows" * 1_000, at=AT, kind="nightly") -> shelf.NewFile:
    with shelf.new_file(at=at, kind=kind) as file:
        writer = archive.Writer(file, KEY)
        with writer.section("database") as out:
            out.write(content)
        writer.finish({})
    return file


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_all(folder) -> None:
    for each in shelf.kept():
        with archive.open_archive(each.path, [KEY]) as found:
            found.verify()


def test_the_name_says_moment_and_kind(folder):
    made = write(at=AT.astimezone(datetime.timezone(datetime.timedelta(hours=1))), kind="before-migrate")

    assert made.path == folder / "hypodesk-20261121T020000Z-before-migrate.hdbk"
    assert names(folder) == [made.path.name]


def test_nobody_else_reads_the_file_or_the_folder_that_was_made(folder):
    made = write()

    assert (folder.stat().st_mode & 0o777, made.path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_folder_that_root_makes_belongs_to_whom_the_one_around_it_belongs(folder, settings):
    owner = os.getuid() or 65534
    os.chown(folder.parent, owner, -1)
    settings.BACKUP_DIR = folder / "deep"
    made = write()

    assert {path.stat().st_uid for path in (folder, folder / "deep", made.path)} == {owner}


def test_size_and_digest_are_those_of_the_file(folder):
    made = write()

    content = made.path.read_bytes()
    assert (made.size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_two_at_once_in_one_second_get_two_names(folder):
    with shelf.new_file(at=AT, kind="nightly") as first:
        first.write(b"first")
        with shelf.new_file(at=AT, kind="nightly") as second:
            second.write(b"second")

    assert [(each.path, each.path.read_bytes()) for each in shelf.kept()] == [
        (second.path, b"second"),
        (first.path, b"first"),
    ]


def test_of_many_at_once_none_takes_the_name_of_another(folder):
    barrier = threading.Barrier(12)

    def one():
        barrier.wait()
        write()

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(names(folder)) == len(shelf.kept()) == 12
    check_all(folder)


def test_kept_ones_are_told_oldest_first_with_moment_and_kind(folder):
    for day, kind in ((3, "weekly"), (1, "nightly"), (2, "before-migrate"), (2, "before-migrate")):
        write(at=AT + datetime.timedelta(days=day), kind=kind)
    (folder / "README.md").write_text("no backup")
    (folder / "hypodesk-20269999T000000Z-nightly.hdbk").write_text("of no day")
    (folder / "hypodesk-20260301T000000Z-nightly.hdbk").mkdir()
    (folder / "hypodesk-20260302T000000Z-nightly.hdbk").symlink_to("gone.hdbk")

    assert [(each.at - AT).days for each in shelf.kept()] == [1, 2, 2, 3]
    assert [each.kind for each in shelf.kept()] == ["nightly", "before-migrate", "before-migrate", "weekly"]


def test_without_a_folder_there_are_none(folder):
    assert shelf.kept() == []


# --- What fails ---


@pytest.mark.parametrize("error", [CrmError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "elsewhere")])
def test_what_fails_inside_leaves_nothing_and_is_raised(folder, error):
    older = write()

    with pytest.raises(type(error)), shelf.new_file(at=AT, kind="nightly") as file:
        file.write(b"begun")
        raise error

    assert names(folder) == [older.path.name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("fails", ["write", "flush", "fsync"])
def test_a_full_disk_is_told_with_its_cure_and_leaves_nothing(folder, monkeypatch, fails, number):
    """Also one that says so at the end only, of bytes that waited in memory."""
    older = write()

    def full(*args):
        raise OSError(number, "full")

    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        real = shelf._locked_file

        class Full:
            def __init__(self, path):
                self.file = real(path)
                self.fileno, self.write = self.file.fileno, self.file.write
                setattr(self, fails, full)

            close = full

        monkeypatch.setattr(shelf, "_locked_file", Full)
    with pytest.raises(NoRoomForBackup, match=f"{folder}.*BACKUP_DIR"):
        write()

    assert names(folder) == [older.path.name]
    check_all(folder)


def in_child(work) -> int:
    """Forked, so that no test waits for another interpreter; it touches no database. Returns how it ended."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(9)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("most", [0, 30, 4_000, 1_500_000])
def test_a_file_that_may_not_grow_is_a_full_disk(folder, most):
    older = write()

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with contextlib.suppress(FileMayNotGrow):
            write(content=os.urandom(3_000_000))
            os._exit(8)

    assert in_child(work) == 0
    assert names(folder) == [older.path.name]
    check_all(folder)


def test_a_folder_that_cannot_be_one_is_told_with_its_cure(folder, settings):
    settings.BACKUP_DIR = write().path / "below"

    for act in (write, shelf.kept):
        with pytest.raises(BackupFolderUnusable, match="BACKUP_DIR"):
            act()


@pytest.mark.parametrize("closed", ["backups", "."])
def test_a_folder_of_another_user_is_told_and_is_not_empty(folder, settings, closed):
    """What cannot be seen in it is not gone."""
    write()

    def work():
        os.chdir(folder.parent)
        settings.BACKUP_DIR = "backups"
        Path().chmod(0o755)
        Path(closed).chmod(0)
        if not os.getuid():
            os.setuid(65534)
        with contextlib.suppress(BackupFolderUnusable):
            shelf.kept()
            os._exit(8)

    try:
        assert in_child(work) == 0
    finally:
        for path in (folder.parent, folder):
            path.chmod(0o700)


def test_a_name_tells_what_it_is_of(folder):
    made = write(kind="before-migrate")

    told = shelf.told_by(made.path)

    assert (told.at, told.kind, told.number) == (AT, "before-migrate", 1)
    assert shelf.told_by(made.path.with_suffix(".part")) is None
    assert shelf.told_by(Path("hypodesk-20260231T020000Z-nightly.hdbk")) is None


# --- Who is killed ---

CALLS = ("open", "mkdir", "fsync", "rename", "close")


def killed_at(step: int) -> bool:
    """Writes a backup in a process that is killed before, or right after, its step-th call to the disk; False where it
    had no such step."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        left = step

        def counted(call):
            def counting(*args, **kwargs):
                reach()
                done = call(*args, **kwargs)
                reach()
                return done

            return counting

        def reach():
            nonlocal left
            left -= 1
            if not left:
                os.write(writer, b"!")
                while True:
                    signal.pause()

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        shelf.fcntl.flock = counted(shelf.fcntl.flock)
        shelf.NewFile.write = counted(shelf.NewFile.write)
        try:
            write(content=os.urandom(2_500_000))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        is_reached = told.read(1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return is_reached


def test_killed_anywhere_it_leaves_a_whole_file_or_none(folder):
    older = write()
    step = 1
    while killed_at(step):
        check_all(folder)
        step += 1

    assert step > 30
    # The last one, and those that were killed when the file had its name already.
    assert 2 < len(shelf.kept()) < step / 2
    write()
    assert not [name for name in names(folder) if name.startswith(".")]
    assert older.path.exists()


def test_what_still_writes_is_no_leftover(folder):
    with shelf.new_file(at=AT, kind="nightly") as slow:
        slow.write(b"begun")
        write(kind="by-hand")
        slow.write(b" and ended")

    assert slow.path.read_bytes() == b"begun and ended"
