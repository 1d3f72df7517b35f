"""Stored files of a restore that was killed between its commit and the last of their moves: whoever comes next places them."""

import contextlib
import functools
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from crm.backups import keeping, placing, postgresql, sqlite, stored
from crm.backups.archive import Writer, open_archive
from crm.choices import BackupKind, RunState
from crm.exceptions import FileNotPlaced, RestoreRuns
from crm.management.commands import release
from crm.models import BackupRun, StagedFiles
from crm.tests.backups import archives
from crm.tests.processes import Program, wait_until
from crm.tests.raw import IS_POSTGRES, ROOT, Database, environment, run

pytestmark = pytest.mark.django_db(transaction=True)
FILES = {"documents/a.pdf": b"as the backup has it", "documents/new.pdf": b"new"}
BEFORE = {"documents/a.pdf": b"as it was before the restore"}
PATIENCE_S = 120
MANAGE = str(ROOT / "manage.py")


@pytest.fixture(autouse=True)
def folder(folders, settings):
    """Of the stored files."""
    for name, content in BEFORE.items():
        default_storage.save(name, ContentFile(content))
    return settings.MEDIA_ROOT


@pytest.fixture
def archive(tmp_path, settings):
    path = tmp_path / "a.hdbk"
    with path.open("wb") as target:
        archives._finish(Writer(target, settings.BACKUP_KEYS[0]), FILES, b"", {})
    with open_archive(path, settings.BACKUP_KEYS) as found:
        yield found


def left_by_a_kill(archive, *, is_committed: bool = True, database: str = "") -> str:
    with stored.Staged(archive, default_storage, database or placing.database()) as files:
        name = files.hand_over()
    if is_committed:
        placing.name(name)
    return name


def there(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(folder) -> bool:
    return there(folder) == FILES and not stored.left(default_storage)


@pytest.mark.parametrize(
    "come", [placing.finish, placing.finish_at_start, lambda: call_command("release", verbosity=0)]
)
def test_whoever_comes_next_places_what_was_committed(archive, folder, come):
    left_by_a_kill(archive)
    come()
    assert finished(folder)
    assert not StagedFiles.objects.exists()


def test_what_was_never_committed_goes_and_what_another_database_may_have_committed_stays(archive, folder):
    left_by_a_kill(archive, is_committed=False)
    others = left_by_a_kill(archive, is_committed=False, database="another.sqlite3")
    placing.finish_at_start()
    assert stored.left(default_storage) == [others]
    assert (folder / "documents/a.pdf").read_bytes() == BEFORE["documents/a.pdf"]


def test_a_backup_in_between_places_them_first(archive, settings):
    left_by_a_kill(archive)
    made = keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
    with open_archive(made.path, settings.BACKUP_KEYS) as found:
        assert {each["name"] for each in found.manifest["files"]} == FILES.keys()
        for name, content in FILES.items():
            with found.section(f"files/{name}") as stream:
                assert stream.read() == content


def test_a_file_that_cannot_be_placed_stops_a_backup_and_no_start(archive, folder, caplog):
    name = left_by_a_kill(archive)
    (folder / "documents/new.pdf").mkdir()
    with pytest.raises(FileNotPlaced, match="new.pdf"):
        keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
    assert "new.pdf" in BackupRun.objects.get(state=RunState.FAILED).message
    placing.finish_at_start()
    assert "new.pdf" in caplog.text
    assert placing.named() == [name]
    (folder / "documents/new.pdf").rmdir()
    placing.finish()
    assert finished(folder)


@pytest.mark.parametrize("why", ["a file is in the way", "a restore runs"])
def test_a_release_takes_no_half_restored_office_for_its_backup(archive, folder, capsys, monkeypatch, settings, why):
    monkeypatch.setattr(release, "_is_to_migrate", lambda: True)
    monkeypatch.setattr(placing, "PATIENCE_S", 0)
    left_by_a_kill(archive)
    (folder / "documents/new.pdf").mkdir()
    with stored.alone(default_storage) if why == "a restore runs" else contextlib.nullcontext():
        call_command("release", verbosity=0)
    said = capsys.readouterr().out
    assert "WITHOUT A BACKUP" in said and ("new.pdf" in said or "A restore or a backup is at work" in said)
    assert not list(Path(settings.BACKUP_DIR).glob("*"))


def test_while_a_backup_reads_the_files_no_restore_moves_them_and_the_other_way_round(folder, monkeypatch):
    monkeypatch.setattr(placing, "PATIENCE_S", 0)
    make = functools.partial(keeping.make, kind=BackupKind.BY_HAND, now=timezone.now())
    seen = []

    def meanwhile(done, total):
        with pytest.raises(RestoreRuns), stored.alone(default_storage):
            pass
        if not seen:
            seen.append(make())

    make(progress=meanwhile)
    assert seen
    with stored.alone(default_storage), pytest.raises(RestoreRuns):
        make()


def test_a_restore_that_runs_is_left_alone(archive, folder, caplog, monkeypatch):
    monkeypatch.setattr(placing, "PATIENCE_S", 0)
    name = left_by_a_kill(archive, is_committed=False)
    with stored.alone(default_storage):
        with pytest.raises(RestoreRuns):
            placing.finish()
        placing.finish_at_start()
    assert "A restore or a backup is at work" in caplog.text
    assert stored.left(default_storage) == [name]


def test_files_that_lie_elsewhere_are_told_of_and_waited_for(archive, folder, caplog):
    name = left_by_a_kill(archive)
    aside = folder.with_name("aside")
    (folder / name).rename(aside)
    placing.finish_at_start()
    assert name in caplog.text
    keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
    aside.rename(folder / name)
    placing.finish_at_start()
    assert finished(folder)
    assert not StagedFiles.objects.exists()


def test_a_newer_restore_names_its_own_alone(archive):
    left_by_a_kill(archive)
    newer = left_by_a_kill(archive)
    assert placing.named() == [newer]
    placing.name("")
    assert placing.named() == []


@pytest.mark.skipif(IS_POSTGRES, reason="SQLite")
def test_the_new_database_of_a_restore_that_was_killed_goes_with_the_next_start(folder, monkeypatch):
    name = Path(connection.settings_dict["NAME"])
    left = [name.with_name(f"{name.name}{sqlite.LEFT}4711{suffix}") for suffix in ("", "-wal")]
    for path in left:
        path.touch()
    try:
        monkeypatch.setattr(placing, "PATIENCE_S", 0)
        with stored.alone(default_storage), pytest.raises(RestoreRuns):  # it lives
            placing.finish()
        assert [path.exists() for path in left] == [True, True]
        placing.finish()
        assert [path.exists() for path in left] == [False, False]
        assert name.exists()
    finally:
        for path in left:
            path.unlink(missing_ok=True)


@pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL")
def test_a_commit_that_is_on_its_way_is_waited_for(archive, folder):
    """Its process is gone, its files are nobody's yet; the server has not ended it."""
    name = left_by_a_kill(archive, is_committed=False)
    with contextlib.closing(postgresql.connected()) as dying, dying.cursor() as cursor:
        cursor.execute("BEGIN")
        postgresql.be_the_only_restore(cursor)
        cursor.execute("INSERT INTO crm_stagedfiles VALUES (%s)", [name])
        timer = threading.Timer(1, lambda: cursor.execute("COMMIT"))
        timer.start()
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            placing.finish()
        timer.join()
    assert finished(folder)


# --- The starts ---


@pytest.fixture
def office(tmp_path, archive):
    """Whole processes, with a database and folders of their own; its restore was killed."""
    own = Database(tmp_path)
    env = environment(
        DATABASE_URL=own.url,
        DATA_DIR=str(tmp_path),
        BACKUP_DIR=str(tmp_path / "backups"),
        BACKUP_KEY="".join(map("{:02x}".format, range(32, 64))),
    )
    try:
        done = run("manage.py", "release", "--verbosity", "0", env=env, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        with archives.default_is(own):
            name = left_by_a_kill(archive, is_committed=False)
        with contextlib.closing(own.connect()) as server:
            server.execute(f"INSERT INTO crm_stagedfiles VALUES ('{name}')")
            server.commit()
        yield env
    finally:
        own.drop()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-c", "import project.asgi"], [MANAGE, "worker"], [MANAGE, "backup"]])
def test_web_worker_and_backup_finish_it_as_they_start(office, folder, command):
    with Program([sys.executable, *command], cwd=folder.parent, env=office) as program:
        assert wait_until(lambda: finished(folder) or program.process.poll() is not None, within_s=PATIENCE_S)
        assert wait_until(lambda: finished(folder), within_s=1), program.output
