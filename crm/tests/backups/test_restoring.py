"""A restore: what it refuses before it touches anything, what it leaves, and that whatever goes wrong leaves the target as it
was. Each runs in processes of its own, as the command's does, into a database of its own."""

import contextlib
import copy
import dataclasses
import datetime
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command

from crm import privacy, schedules
from crm.backups import apart, loading, offsite, postgresql, restoring, sqlite, stored
from crm.backups.archive import open_archive
from crm.choices import Language, MessageKind
from crm.encryption import fingerprint
from crm.exceptions import (
    BackupDamaged,
    BackupDiffers,
    BackupTooNew,
    FileNotPlaced,
    FilesInTheWay,
    KeyMissing,
    NotABackup,
    OffsiteFailed,
    OtherEngine,
    RestoreFailed,
    RestoreRuns,
    TargetDamaged,
    TargetHeld,
    TargetInUse,
    TargetNotEmpty,
    TargetNotOurs,
)
from crm.models import Erasure
from crm.tests.backups import archives
from crm.tests.backups.conftest import AUDIT_KEY, FILES
from crm.tests.processes import Program
from crm.tests.raw import IS_POSTGRES, Database

# What is written for good is in databases of their own; the suite's has to be there to make an archive of.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("audit_key")]
on_postgresql = pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL")
PATIENCE_S = 120
CHANGE = "UPDATE crm_lender SET name = 'written since' WHERE id = (SELECT min(id) FROM crm_lender)"
on_sqlite = pytest.mark.skipif(IS_POSTGRES, reason="SQLite")


@pytest.fixture(autouse=True)
def storage(tmp_path, monkeypatch):
    found = FileSystemStorage(tmp_path / "files")
    monkeypatch.setattr(restoring, "default_storage", found)
    return found


@pytest.fixture(autouse=True)
def backups(tmp_path, monkeypatch):
    """Where safety backups go."""
    folder = tmp_path / "backups"
    monkeypatch.setenv("BACKUP_DIR", str(folder))
    monkeypatch.setattr(settings, "BACKUP_DIR", folder)
    return folder


def restore(archive: Path, target: Database, *, replace: bool = False) -> restoring.Restored:
    """Into the office's own database."""
    with archives.default_is(target, target.role):
        return restoring.restore(archive, to=target.owner_url, replace=replace)


def work_of(rows: dict) -> dict:
    return {name: found for name, found in rows.items() if name not in archives.OPENING | loading.MACHINERY}


def stored_files(storage) -> dict[str, bytes]:
    root = Path(storage.location)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def fill(target: Database, archive: Path) -> None:
    """As a restore does, but for all that makes it safe."""
    with open_archive(archive, settings.BACKUP_KEYS) as found, found.section("database") as source:
        if IS_POSTGRES:
            with contextlib.closing(_session(target)) as server:
                postgresql.load(server.cursor(), source)
                server.commit()
        else:
            sqlite.load(target.file, source)


def execute(target: Database, statements: str) -> None:
    with contextlib.closing(_session(target)) as server:
        server.execute(statements)
        server.commit()


def _session(target: Database):
    return psycopg.connect(target.owner_url) if IS_POSTGRES else target.connect()


@contextlib.contextmanager
def filled(target: Database, archive: Path):
    """Something stands there, and stands there afterwards."""
    fill(target, archive)
    with kept_as_it_is(target):
        yield


@contextlib.contextmanager
def kept_as_it_is(target: Database):
    before = target.rows()
    yield
    assert target.rows() == before


# --- Refused before anything is touched ---


class Told:
    """An archive's head, for what is asked of nothing else."""

    name = "office.hdbk"

    def __init__(self, archive: Path, **manifest):
        with open_archive(archive, settings.BACKUP_KEYS) as found:
            self.manifest = copy.deepcopy(found.manifest) | manifest


def test_a_missing_field_key_is_refused_by_its_fingerprint(archive):
    with pytest.raises(KeyMissing, match="key 0badf00d, which FIELD_ENCRYPTION_KEY"):
        restoring.refuse_unknown(Told(archive, field_keys=["0badf00d"]))


def test_an_older_field_key_that_is_missing_is_refused_too(archive):
    present = Told(archive).manifest["field_keys"]
    with pytest.raises(KeyMissing, match="0badf00d"):
        restoring.refuse_unknown(Told(archive, field_keys=[*present, "0badf00d"]))


def test_another_search_key_is_refused(archive):
    with pytest.raises(KeyMissing, match="key 0badf00d, which SEARCH_KEY"):
        restoring.refuse_unknown(Told(archive, search_key="0badf00d"))


def test_a_newer_versions_backup_is_refused(archive):
    with pytest.raises(BackupTooNew):
        restoring.refuse_unknown(Told(archive, migrations=[["crm", "0001_initial"], ["crm", "9999_to_come"]]))


def test_migrations_that_a_later_version_has_put_together_are_known(archive):
    restoring.refuse_unknown(
        Told(archive, migrations=[["crm", "0001_before_they_were_squashed"], ["gone", "0001_initial"]])
    )


def test_another_engines_backup_is_refused_in_one_line(archive, target, tmp_path):
    other = "sqlite" if IS_POSTGRES else "postgresql"
    foreign = archives.changed(archive, tmp_path / "foreign.hdbk", files=FILES, engine=other)
    with pytest.raises(OtherEngine) as refused:
        restore(foreign, target)
    assert "\n" not in str(refused.value)
    assert {"PostgreSQL", "SQLite"} <= set(str(refused.value).replace(".", "").split())
    assert not target.file.exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://office:word-of-nobody@127.0.0.1/office", "only postgres:// and sqlite://"),
        ("postgres://office:word-of-nobody@127.0.0.1:1/office", "port 1 failed"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_in_one_line(archive, capfd, url, words):
    with pytest.raises(RestoreFailed, match=words) as refused:
        restoring.restore(archive, to=url, replace=False)
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("at", [100, 5000, -20])
def test_a_damaged_backup_is_refused_before_the_target_is_touched(archive, target, storage, tmp_path, at):
    bytes_ = bytearray(archive.read_bytes())
    bytes_[at] ^= 4
    bent = tmp_path / "bent.hdbk"
    bent.write_bytes(bytes_)
    with pytest.raises(BackupDamaged):
        restore(bent, target)
    assert not target.file.exists()
    assert not stored_files(storage)


# --- Into an empty one, and over a full one ---


@pytest.mark.parametrize("to", ["", " "])
def test_an_address_that_is_empty_is_not_the_living_office(archive, to):
    with pytest.raises(CommandError, match="--to names no database"):
        call_command("restore", str(archive), "--to", to, "--yes")


def test_an_empty_target_becomes_the_office_with_its_files_and_can_go_on(archive, target, storage):
    done = restore(archive, target)

    assert (done.files, done.migrated, done.changed, done.saved_in) == (2, [], {}, "")
    assert stored_files(storage) == FILES
    assert target.rows()["crm_stagedfiles"] == []
    with contextlib.closing(_session(target)) as server:
        assert server.execute("SELECT count(*) FROM crm_client").fetchone() == (1,)
        [(last,)] = server.execute("SELECT max(id) FROM crm_lender").fetchall()
        server.execute(
            "INSERT INTO crm_lender (name, aliases, business_id, bank_code, contact, is_active) "
            "VALUES ('new', '[]', '', '', '', true)"
        )
        assert server.execute("SELECT max(id) FROM crm_lender").fetchone() == (last + 1,)


def test_it_is_an_office_to_start_web_and_worker_on(archive, target):
    """As after `manage.py release`, which finds nothing more to do."""
    done = restore(archive, target)
    with contextlib.closing(_session(target)) as server:
        names = {name for (name,) in server.execute("SELECT name FROM crm_jobschedule").fetchall()}
        [(texts,)] = server.execute("SELECT count(*) FROM crm_messagetext").fetchall()
    assert {each.name for each in schedules.wanted()} <= names
    assert texts == len(MessageKind) * len(Language)
    before = target.rows()
    _manage("release", "-v0", url=target.owner_url)
    assert target.rows() == before
    assert (done.added, done.logged_out, done.ended, done.withheld) == (0, 0, 0, 0)


def test_an_office_that_cannot_be_opened_leaves_everything_as_it_was(archive, target, tmp_path):
    (tmp_path / "bent").mkdir()
    bent = Database(tmp_path / "bent")
    try:
        bent.owner_url = bent.url
        fill(bent, archive)
        with contextlib.closing(bent.connect()) as server:
            server.execute(
                "ALTER TABLE crm_messagetext ADD CHECK (kind <> 'radar')"
                if IS_POSTGRES
                else "CREATE TRIGGER no_radar BEFORE INSERT ON crm_messagetext WHEN NEW.kind = 'radar' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
            server.commit()
        with archives.default_is(bent):
            cannot = archives.write(tmp_path / "cannot.hdbk", files=FILES)
    finally:
        bent.drop()
    with filled(target, archive), pytest.raises(RestoreFailed):
        restore(cannot, target, replace=True)
    assert not (tmp_path / "files" / "documents").exists()


def test_a_full_target_is_refused_and_left(archive, target):
    with filled(target, archive), pytest.raises(TargetNotEmpty):
        restore(archive, target)


@pytest.mark.parametrize("step", ["Verifying", "Loading"])
@pytest.mark.parametrize("replace", [False, True])
def test_an_office_that_comes_into_being_meanwhile_is_left(archive, target, storage, step, replace):
    def somebody_starts_one(said: str) -> None:
        if said.startswith(step):
            fill(target, archive)
            with contextlib.closing(_session(target)) as server:
                server.execute(CHANGE)
                server.commit()

    with pytest.raises(TargetNotEmpty):
        restoring.restore(archive, to=target.owner_url, replace=replace, progress=somebody_starts_one)
    with contextlib.closing(_session(target)) as server:
        assert server.execute("SELECT 1 FROM crm_lender WHERE name = 'written since'").fetchall()
    assert stored_files(storage) == {}


@on_sqlite
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_hard_links_takes_an_office_where_none_has_come_to_be(archive, target, monkeypatch, number):
    def comes_meanwhile(*args):
        target.file.write_bytes(b"somebody's")
        cannot(*args)

    def cannot(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", comes_meanwhile)
    with pytest.raises(TargetNotEmpty):
        restore(archive, target)
    assert target.file.read_bytes() == b"somebody's"
    target.file.unlink()
    monkeypatch.setattr(os, "link", cannot)
    restore(archive, target)
    assert target.rows()
    assert not list(target.file.parent.glob("*.restoring-*"))


@on_sqlite
def test_the_log_of_an_office_that_came_and_went_meanwhile_is_not_given_to_the_new_one(archive, target):
    log = Path(f"{target.file}-wal")

    def somebody_dies(said: str) -> None:
        if said.startswith("Loading"):
            log.write_bytes(b"what was written last")

    with pytest.raises(TargetInUse, match="own.sqlite3-wal"):
        restoring.restore(archive, to=target.owner_url, replace=False, progress=somebody_dies)
    assert not target.file.exists()


@pytest.mark.parametrize("replace", [False, True])
def test_files_that_no_safety_backup_would_hold_are_never_written_over(archive, target, storage, replace):
    storage.save("documents/a.pdf", ContentFile(b"newer"))
    with pytest.raises(FilesInTheWay, match="documents/a.pdf"):
        restore(archive, target, replace=replace)
    assert stored_files(storage) == {"documents/a.pdf": b"newer"}
    assert target.rows() == {}
    storage.delete("documents/a.pdf")
    storage.save("documents/a.pdf", ContentFile(FILES["documents/a.pdf"]))
    restore(archive, target, replace=replace)


@pytest.mark.django_db(transaction=True)
def test_beside_a_living_office_its_files_are_not_written_over_with_yes_either(archive, target, storage):
    fill(target, archive)
    storage.save("documents/a.pdf", ContentFile(b"newer"))
    with kept_as_it_is(target), pytest.raises(FilesInTheWay, match="documents/a.pdf"):
        restoring.restore(archive, to=target.owner_url, replace=True)
    assert stored_files(storage) == {"documents/a.pdf": b"newer"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("files", [{}, FILES])
def test_where_files_go_is_said_beside_an_office(archive, target, storage, tmp_path, files):
    said = []
    few = archives.changed(archive, tmp_path / "few.hdbk", files=files)
    restoring.restore(few, to=target.owner_url, replace=False, progress=said.append)
    assert any(f"go into {storage.location}," in step for step in said) == bool(files)


def test_with_yes_a_full_target_is_replaced_after_a_safety_backup_of_it(archive, target, backups, storage):
    fill(target, archive)
    expected = target.rows()
    with contextlib.closing(_session(target)) as server:
        server.execute(CHANGE)
        server.execute("CREATE TABLE not_ours (id integer)")
        server.commit()
    storage.delete("documents/a.pdf")
    storage.save("documents/a.pdf", ContentFile(b"another"))
    storage.save("documents/newer.pdf", ContentFile(b"newer"))

    done = restore(archive, target, replace=True)

    assert work_of(target.rows()) == work_of(expected)
    assert stored_files(storage) == FILES | {"documents/newer.pdf": b"newer"}
    [safety] = backups.glob("*.hdbk")
    assert Path(done.saved_in) == safety
    with open_archive(safety, settings.BACKUP_KEYS) as kept:
        kept.verify()
        assert "not_ours" in kept.manifest["tables"]
        assert "written since" in _text(kept)


@on_postgresql
def test_what_of_other_schemas_would_go_along_is_refused_by_name(archive, target):
    fill(target, archive)
    execute(
        target,
        "CREATE SCHEMA reporting; CREATE VIEW reporting.cases AS SELECT id FROM crm_case;"
        "CREATE MATERIALIZED VIEW reporting.by_day AS SELECT created_at FROM crm_case;"
        "CREATE TABLE reporting.notes (id int CONSTRAINT of_case REFERENCES crm_case DEFERRABLE);"
        "CREATE TABLE reporting.own (id int PRIMARY KEY, other int REFERENCES reporting.own);"
        "CREATE TABLE notes (id int REFERENCES reporting.own); CREATE VIEW mine AS SELECT id FROM reporting.own;"
        "CREATE PUBLICATION told FOR TABLE crm_case",
    )
    before = target.rows()
    names = ": of_case on reporting.notes, public.crm_case in publication told, reporting.by_day, reporting.cases[.]"
    with pytest.raises(TargetHeld, match=names):
        restore(archive, target, replace=True)
    assert target.rows() == before
    execute(target, "DROP VIEW reporting.cases; DROP MATERIALIZED VIEW reporting.by_day; DROP TABLE reporting.notes")
    execute(target, "DROP PUBLICATION told")
    restore(archive, target, replace=True)


@on_postgresql
def test_a_temporary_table_of_somebody_is_nothing_that_would_go_along(archive, target):
    fill(target, archive)
    execute(target, "CREATE SEQUENCE numbers")
    with psycopg.connect(target.owner_url, autocommit=True) as other:
        other.execute("CREATE TEMPORARY TABLE q (a int DEFAULT nextval('public.numbers'))")
        restore(archive, target, replace=True)


@on_postgresql
def test_rights_that_a_role_loses_are_told(archive, target):
    fill(target, archive)
    execute(
        target,
        "GRANT SELECT ON crm_case, crm_client TO pg_monitor; GRANT UPDATE (name) ON crm_lender TO PUBLIC;"
        "GRANT USAGE ON SCHEMA public TO pg_monitor; ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO pg_monitor",
    )
    done = restore(archive, target, replace=True)
    assert done.ungranted == [
        ["PUBLIC", "UPDATE", "crm_lender"], ["pg_monitor", "SELECT", "crm_case"], ["pg_monitor", "SELECT", "crm_client"],
    ]  # fmt: skip


def _text(archive) -> str:
    with archive.section("database") as content:
        return content.read().decode(errors="replace")


def test_on_a_disk_that_is_thrown_away_what_is_replaced_is_copied_off_site_first(archive, target, store, settings):
    fill(target, archive)
    execute(target, CHANGE)
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    store.fault = lambda method, path: "403" if method == "PUT" else ""
    with kept_as_it_is(target), pytest.raises(OffsiteFailed):
        restore(archive, target, replace=True)
    store.fault = lambda method, path: ""
    done = restore(archive, target, replace=True)
    assert [copy.name for copy in offsite.listed()] == [Path(done.saved_in).name]


def test_that_the_safety_backup_goes_with_its_disk_is_said_before_anything_is_replaced(archive, target, settings):
    said = []
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    fill(target, archive)
    restoring.restore(archive, to=target.owner_url, replace=True, progress=said.append)
    steps = [next(at for at, step in enumerate(said) if words in step) for words in ("throws away", "Loading")]
    assert steps == sorted(steps)


@pytest.mark.parametrize("replace", [False, True])
def test_another_programs_database_is_refused(archive, target, replace):
    with contextlib.closing(target.connect()) as server:
        server.execute("CREATE TABLE theirs (id integer)")
        server.commit()
    with kept_as_it_is(target), pytest.raises(TargetNotOurs):
        restore(archive, target, replace=replace)


def test_what_is_put_back_only_its_owner_reads(archive, target, storage):
    restore(archive, target)
    path = Path(storage.path("documents/a.pdf"))
    modes = [each.stat().st_mode & 0o777 for each in (path, path.parent, Path(storage.location))]
    assert modes == [0o600, 0o700, 0o700]


@on_postgresql
def test_a_running_target_is_refused(archive, target):
    with filled(target, archive), contextlib.closing(_session(target)), pytest.raises(TargetInUse):
        restore(archive, target)


@on_postgresql
def test_a_target_whose_worker_beat_a_moment_ago_is_refused(archive, target):
    fill(target, archive)
    with contextlib.closing(_session(target)) as server:
        server.execute("INSERT INTO crm_heartbeat (worker, at, since) VALUES ('long', now(), now())")
        server.commit()
    with pytest.raises(TargetInUse):
        restore(archive, target)


@on_sqlite
def test_a_target_that_a_process_has_open_is_refused_with_yes_too(archive, target):
    with filled(target, archive), contextlib.closing(sqlite3.connect(target.file)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT count(*) FROM crm_client").fetchall()
        with pytest.raises(TargetInUse):
            restore(archive, target, replace=True)


@on_sqlite
def test_a_link_to_the_database_stays_one_and_its_owner_too(archive, target, tmp_path):
    fill(target, archive)
    there = tmp_path / "disk.sqlite3"
    target.file.replace(there)
    target.file.symlink_to(there)
    owner = 65534 if os.getuid() == 0 else os.getuid()
    os.chown(there, owner, -1)
    before = there.stat().st_ino
    restore(archive, target, replace=True)
    assert target.file.is_symlink()
    assert (there.stat().st_uid, there.stat().st_ino == before) == (owner, False)


@on_sqlite
@pytest.mark.parametrize("replace", [False, True])
def test_a_damaged_file_is_to_be_moved_aside(archive, target, capfd, replace):
    target.file.write_bytes(b"no database" * 1000)
    with pytest.raises(TargetDamaged):
        restore(archive, target, replace=replace)
    assert target.file.read_bytes() == b"no database" * 1000
    assert capfd.readouterr().err == ""


@on_sqlite
def test_a_file_that_is_written_after_its_safety_backup_is_not_replaced(archive, target):
    fill(target, archive)
    new = target.file.with_name("new.sqlite3")
    new.touch()
    with sqlite.alone(target.file) as old:
        old.remember()
        with contextlib.closing(sqlite3.connect(target.file)) as other:
            other.execute(CHANGE)
            other.commit()
        with pytest.raises(TargetInUse):
            old.replace_by(new)
    with contextlib.closing(_session(target)) as server:
        assert server.execute("SELECT 1 FROM crm_lender WHERE name = 'written since'").fetchall() == [(1,)]


@on_sqlite
def test_the_log_of_a_file_that_is_gone_is_never_given_to_the_new_one(archive, target):
    log = Path(f"{target.file}-wal")
    log.write_bytes(b"what was written last")
    with pytest.raises(TargetInUse, match="own.sqlite3-wal"):
        restore(archive, target)
    assert log.read_bytes() == b"what was written last"
    assert not target.file.exists()


def test_a_new_table_without_a_row_is_no_change(monkeypatch):
    counts = {"crm_client": 2, "crm_new": 0, "crm_filled": 3}
    monkeypatch.setattr(loading, "_tables", lambda: {name: {"rows": rows} for name, rows in counts.items()})
    before = {"crm_client": {"rows": 2}, "crm_gone": {"rows": 1}}
    told = {"migrated": ["crm.0002"], "erased": 0, "restricted": 0}
    assert loading._changed(before, told) == {"crm_filled": [0, 3], "crm_gone": [1, 0]}


def test_what_the_machinery_writes_is_no_change_since_the_safety_backup():
    saved = {"crm_client": {"rows": 1}, "django_q_ormq": {"rows": 1}, "crm_heartbeat": {"rows": 1}}
    assert not loading.unsaved(saved, saved | {"django_q_ormq": {"rows": 2}, "crm_backuprun": {"rows": 1}})
    assert loading.unsaved(saved, saved | {"crm_client": {"rows": 2}}) == ["crm_client"]
    assert loading.unsaved(saved, {}) == ["crm_client"]


# --- Whatever goes wrong ---


def test_a_backup_that_is_not_what_it_says_leaves_everything_as_it_was(archive, target, storage, tmp_path):
    with open_archive(archive, settings.BACKUP_KEYS) as found:
        tables = copy.deepcopy(found.manifest["tables"])
    tables["crm_client"]["digest"] = "0" * 32
    wrong = archives.changed(archive, tmp_path / "wrong.hdbk", files=FILES, tables=tables)
    storage.save("documents/a.pdf", ContentFile(b"of before"))
    with filled(target, archive), pytest.raises(BackupDiffers, match="crm_client"):
        restore(wrong, target, replace=True)
    assert stored_files(storage) == {"documents/a.pdf": b"of before"}
    assert [each.name for each in tmp_path.glob("own.sqlite3*")] == ([] if IS_POSTGRES else ["own.sqlite3"])


def test_a_process_that_is_gone_at_the_last_moment_leaves_everything_as_it_was(archive, target, tmp_path):
    with filled(target, archive):
        with open_archive(archive, settings.BACKUP_KEYS) as found:
            saved = found.manifest["tables"]
        url = target.owner_url if IS_POSTGRES else f"sqlite:///{tmp_path / 'beside.sqlite3'}"
        with apart.working("restore", url, file=str(archive), ledgers=[], saved=saved) as work:
            assert work.answer()["rows"]
        # It was killed after all but the last word.


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_a_killed_restore_leaves_the_old_or_the_new(archive, target, tmp_path, storage, wait_s):
    fill(target, archive)
    execute(target, CHANGE)
    before = target.rows()
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "restore", str(archive), "--to", target.owner_url]
    with Program([*command, "--yes"], cwd=tmp_path, env=dict(os.environ)) as program:
        program.wait_for("Loading")
        time.sleep(wait_s)
        program.process.kill()
        program.wait_for_end(within_s=PATIENCE_S)
    changed = {name for name, rows in work_of(target.rows()).items() if rows != before.get(name)}
    assert changed in (set(), {"crm_lender"})
    restore(archive, target, replace=True)
    assert stored_files(storage) == FILES
    assert not list(tmp_path.glob("own.sqlite3?*"))


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_one_that_is_stopped_by_hand_says_so_in_a_line(archive, target, tmp_path, wait_s):
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "restore", str(archive), "--to", target.owner_url]
    with filled(target, archive), Program([*command, "--yes"], cwd=tmp_path, env=dict(os.environ)) as program:
        program.wait_for("Loading")
        time.sleep(wait_s)
        program.signal_group(signal.SIGINT)
        program.wait_for_end(within_s=PATIENCE_S)
        assert program.output.splitlines()[-1].startswith("CommandError: Stopped: everything is as it was."), (
            program.output
        )
        assert "Traceback" not in program.output
        assert program.process.returncode == 130


def test_of_two_restores_into_one_folder_of_files_the_second_is_refused(archive, target, storage):
    with stored.alone(storage), pytest.raises(RestoreRuns) as refused:
        restore(archive, target)
    assert "\n" not in str(refused.value)
    assert target.rows() == {}
    restore(archive, target)


@on_postgresql
def test_whoever_asks_whose_staged_files_are_waits_for_a_restore_that_could_still_commit(archive, target):
    url = target.owner_url
    with (
        apart.working("restore", url, file=str(archive), ledgers=[], saved=None) as work,
        contextlib.closing(_session(target)) as server,
    ):
        work.answer()
        server.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            postgresql.wait_for_restores(server)


@on_sqlite
def test_staged_files_of_a_restore_that_fails_at_its_last_moment_go_at_once(archive, target, storage):
    fill(target, archive)

    def somebody_writes(step: str) -> None:
        if step.startswith("Loading"):
            with contextlib.closing(sqlite3.connect(target.file)) as other:
                other.execute(CHANGE)
                other.commit()

    with pytest.raises(TargetInUse):
        restoring.restore(archive, to=target.owner_url, replace=True, progress=somebody_writes)
    assert stored_files(storage) == {}
    assert not stored.left(storage)


def in_the_way_of_a_move(storage, monkeypatch) -> Path:
    """Somebody puts a folder there when all is staged."""
    folder, hand_over = Path(storage.path("documents/b.txt")), stored.Staged.hand_over

    def once(files):
        monkeypatch.setattr(stored.Staged, "hand_over", hand_over)
        folder.mkdir(parents=True)
        return hand_over(files)

    monkeypatch.setattr(stored.Staged, "hand_over", once)
    return folder


def test_a_file_that_cannot_be_placed_is_by_the_next_start(archive, target, storage, tmp_path, monkeypatch):
    in_the_way = in_the_way_of_a_move(storage, monkeypatch)
    fill(target, archive)
    with pytest.raises(FileNotPlaced, match=r"documents/b\.txt"):
        restore(archive, target, replace=True)
    with contextlib.closing(_session(target)) as server:
        [(folder,)] = server.execute("SELECT folder FROM crm_stagedfiles").fetchall()
    assert stored.left(storage) == [folder]
    in_the_way.rmdir()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FAULTS_SETTINGS", os.environ["DJANGO_SETTINGS_MODULE"])
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "crm.faults.with_files")
    _manage("release", "-v0", url=target.owner_url)
    assert stored_files(storage) == FILES
    assert not stored.left(storage)
    with contextlib.closing(_session(target)) as server:
        assert server.execute("SELECT * FROM crm_stagedfiles").fetchall() == []


def test_what_a_restore_could_not_place_keeps_no_other_one_back(archive, target, storage, monkeypatch):
    in_the_way = in_the_way_of_a_move(storage, monkeypatch)
    fill(target, archive)
    with pytest.raises(FileNotPlaced):
        restore(archive, target, replace=True)
    [folder] = stored.left(storage)
    (Path(storage.location) / folder / stored.JOURNAL).write_bytes(b"[{")
    in_the_way.rmdir()
    restore(archive, target, replace=True)
    assert stored_files(storage) == FILES
    assert not stored.left(storage)


# --- Erasures since ---


ERASED = (
    "INSERT INTO crm_erasure (scope, object_id, made_at, asked_at, erased_at) "
    "SELECT 'client', id, created_at, created_at, created_at FROM crm_client"
)


def test_who_was_erased_since_the_backup_is_erased_again(archive, target):
    fill(target, archive)
    execute(target, ERASED)

    done = restore(archive, target, replace=True)

    assert done.erased == 1
    assert erased_in(target)


def test_the_later_backups_of_the_office_tell_an_older_one_who_was_erased_since(archive, target, backups):
    line = _known_here_no_more(archive, target)
    _later(archive, backups / "later.hdbk", 1, line)
    (backups / "damaged.hdbk").write_bytes(b"HYPODESK BACKUP")

    done = restore(archive, target, replace=True)

    assert done.erased == 1
    assert erased_in(target)


def test_one_of_the_time_to_come_hides_no_erasure_from_an_older_one(archive, target, backups):
    """A clock was wrong when it was made."""
    line = _known_here_no_more(archive, target)
    _later(archive, backups / "later.hdbk", 1, line)
    _later(archive, backups / "of-the-time-to-come.hdbk", 3650)

    assert restore(archive, target, replace=True).erased == 1
    assert erased_in(target)


def test_who_was_erased_is_erased_again_from_one_of_the_time_to_come_too(archive, target, backups, tmp_path):
    line = _known_here_no_more(archive, target)
    _later(archive, backups / "later.hdbk", 1, line)

    assert restore(_later(archive, tmp_path / "to-come.hdbk", 3650), target, replace=True).erased == 1
    assert erased_in(target)


@pytest.mark.parametrize("key", ["", "another key of the seals, 0123456789"])
def test_seals_whose_key_is_not_here_are_told_and_refused_where_somebody_is_to_be_erased(
    archive, target, backups, monkeypatch, key
):
    monkeypatch.setenv("AUDIT_KEY", key)
    assert restore(archive, target).unknown_seals == [fingerprint(AUDIT_KEY)]
    execute(target, ERASED)
    with kept_as_it_is(target), pytest.raises(KeyMissing, match=f"{fingerprint(AUDIT_KEY)}, which AUDIT_KEY"):
        restore(archive, target, replace=True)
    monkeypatch.setenv("AUDIT_KEY", ",".join(filter(None, [key, AUDIT_KEY])))
    done = restore(archive, target, replace=True)
    assert (done.erased, done.unknown_seals) == (1, [])


@pytest.mark.django_db(transaction=True)
def test_who_was_erased_in_the_office_beside_is_erased_in_another_database_too(archive, target):
    line = _known_here_no_more(archive, target)
    Erasure.objects.create(**dataclasses.asdict(line))

    assert restoring.restore(archive, to=target.owner_url, replace=True).erased == 1
    assert erased_in(target)


@pytest.mark.django_db(transaction=True)
def test_an_office_beside_that_is_gone_keeps_no_backup_from_another_database(archive, target, tmp_path):
    """On PostgreSQL the address still leads somewhere; a SQLite file that is not there is none."""
    gone, said = SimpleNamespace(name="hypodesk_gone", file=tmp_path / "gone.sqlite3"), []
    with archives.default_is(gone):
        restoring.restore(archive, to=target.owner_url, replace=False, progress=said.append)
    words = '"hypodesk_gone" does not exist' if IS_POSTGRES else "DATABASE_URL names no office"
    assert any(words in step for step in said)
    assert not gone.file.exists()


def test_an_office_beside_under_other_keys_keeps_no_backup_from_another_database(archive, target, monkeypatch):
    def refuse():
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY is not the key of this database.")

    said = []
    monkeypatch.setattr(restoring.checks, "tables", refuse)
    restoring.restore(archive, to=target.owner_url, replace=False, progress=said.append)
    assert any("is not the key of this database" in step for step in said)


def test_a_backup_that_cannot_be_asked_who_was_erased_since_is_named(archive, target, backups):
    said = []
    backups.mkdir()
    (backups / "damaged.hdbk").write_bytes(b"HYPODESK BACKUP")
    restoring.restore(archive, to=target.owner_url, replace=False, progress=said.append)
    assert [step for step in said if "damaged.hdbk" in step and "erased again" in step]


def test_a_pipe_among_the_backups_is_not_waited_for(archive, target, backups):
    backups.mkdir()
    os.mkfifo(backups / "pipe.hdbk")
    restore(archive, target)
    with pytest.raises(NotABackup):
        restore(backups / "pipe.hdbk", target)


# --- What the office knows of its backups afterwards ---


def test_the_backup_that_an_office_was_put_back_from_is_proven(archive, target, backups):
    own = backups / "hypodesk-20260302T020000Z-weekly.hdbk"
    backups.mkdir()
    own.write_bytes(archive.read_bytes())
    restore(own, target)
    with contextlib.closing(_session(target)) as server:
        found = server.execute("SELECT file_name, kind, proof, verified_at IS NULL FROM crm_backuprun").fetchall()
    assert found == [(own.name, "weekly", "restored", False)]


def test_one_that_lies_elsewhere_is_not_said_to_be_among_them(archive, target):
    restore(archive, target)
    assert target.rows()["crm_backuprun"] == []


def _known_here_no_more(archive: Path, target: Database) -> privacy.Line:
    """The client is gone from the database that is replaced, and its ledger says nothing: the line of his erasure."""
    fill(target, archive)
    with contextlib.closing(_session(target)) as server:
        [(key, made_at)] = server.execute("SELECT id, created_at FROM crm_client").fetchall()
        for name in ("crm_casestep", "crm_case", "crm_searchtoken", "crm_client"):
            server.execute(f"DELETE FROM {name}")
        server.commit()
    if isinstance(made_at, str):
        made_at = datetime.datetime.fromisoformat(made_at).replace(tzinfo=datetime.UTC)
    return privacy.Line(asked_at=made_at, scope="client", object_id=key, made_at=made_at, erased_at=made_at)


def _later(archive: Path, path: Path, days: int, *lines: privacy.Line) -> Path:
    path.parent.mkdir(exist_ok=True)
    made_at = (archives.MADE_AT + datetime.timedelta(days=days)).isoformat()
    return archives.changed(archive, path, created_at=made_at, ledger=privacy.write(lines))


def erased_in(target: Database) -> bool:
    with contextlib.closing(_session(target)) as server:
        [(erased_at,)] = server.execute("SELECT anonymised_at FROM crm_client").fetchall()
    return erased_at is not None


# --- Older versions ---


@pytest.mark.slow
def test_an_older_versions_backup_is_migrated_forward(target, tmp_path):
    older = Database(tmp_path / "older") if IS_POSTGRES else Database(_made(tmp_path / "older"))
    try:
        _manage("migrate", "crm", "0001_squashed_0018_exports_of_all_cases", "-v0", url=older.url)
        with contextlib.closing(older.connect()) as server:
            server.execute(
                "INSERT INTO crm_lender (name, aliases, business_id, bank_code, contact, is_active) "
                "VALUES ('of before', '[]', '', '', '', true)"
            )
            server.commit()
        with archives.default_is(older):
            archive = archives.write(tmp_path / "older.hdbk")
    finally:
        older.drop()

    done = restore(archive, target)

    assert "crm.0019_export_of_every_list" in done.migrated
    assert {rows[0] for name, rows in done.changed.items() if name == "crm_lender"} == set()
    with contextlib.closing(_session(target)) as server:
        assert server.execute("SELECT name FROM crm_lender WHERE id = 1").fetchall() == [("of before",)]
        [(lenders,)] = server.execute("SELECT count(*) - 1 FROM crm_lender").fetchall()
    assert 0 < lenders < done.added
    _manage("migrate", "--check", url=target.owner_url)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _manage(*arguments: str, url: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": url},
        check=True,
    )
