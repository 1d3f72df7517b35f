"""The backup that a release makes before it migrates, and what it says where it cannot."""

import pytest
from django.core.management import call_command
from django.db.migrations.executor import MigrationExecutor

from crm.backups import offsite, watch
from crm.choices import BackupKind
from crm.exceptions import DumpFailed
from crm.management.commands import release
from crm.models import BackupRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folder(tmp_path, settings):
    settings.BACKUP_DIR = tmp_path
    return tmp_path


@pytest.fixture
def waiting(monkeypatch):
    """Migrations do, so it is believed, in a database that holds something."""
    monkeypatch.setattr(release, "_is_to_migrate", lambda: True)


def run(capsys) -> tuple[str, str]:
    call_command("release", verbosity=0)
    said = capsys.readouterr()
    return said.out, said.err


def test_migrations_that_wait_are_preceded_by_a_backup(capsys, folder, waiting):
    out, err = run(capsys)
    found = BackupRun.objects.get()
    assert (found.kind, found.file_name) == (BackupKind.BEFORE_MIGRATE, next(folder.iterdir()).name)
    assert found.file_name in out
    assert "WARNING" not in out + err


def test_its_copy_is_off_site_before_anything_is_migrated(capsys, waiting, store):
    run(capsys)
    found = BackupRun.objects.get()
    assert [copy.name for copy in offsite.listed()] == [found.file_name]
    assert found.offsite_at


def test_a_store_that_refuses_is_told_and_the_file_is_there(capsys, folder, waiting, store):
    store.fault = lambda method, path: "403"
    out, err = run(capsys)
    assert "this machine only" in out and "403" in err
    assert BackupRun.objects.get().offsite_at is None
    assert len(list(folder.iterdir())) == 1


def test_one_that_goes_with_its_disk_and_has_no_copy_is_none(capsys, waiting, store, settings):
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    store.fault = lambda method, path: "403"
    out, err = run(capsys)
    for said in (out, err):
        assert "WITHOUT A BACKUP" in said and "403" in said
    assert "Backed up" not in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"BACKUP_KEYS": []}, "BACKUP_KEY is not set"),
        ({"BACKUPS_ON_THROWAWAY_DISK": True}, "throws away"),
    ],
)
def test_a_release_that_cannot_make_one_migrates_and_warns_twice(capsys, folder, waiting, settings, changes, words):
    for name, value in changes.items():
        setattr(settings, name, value)
    out, err = run(capsys)
    for said in (out, err):
        assert "WITHOUT A BACKUP" in said and words in said
    assert list(folder.iterdir()) == []


def test_missing_tools_and_a_failure_are_told_too(capsys, waiting, monkeypatch):
    monkeypatch.setattr(watch, "tools_trouble", lambda: "pg_dump is missing.")
    assert "WITHOUT A BACKUP before. pg_dump is missing." in run(capsys)[1]
    monkeypatch.undo()
    monkeypatch.setattr(release, "_is_to_migrate", lambda: True)

    def fail(**given):
        raise DumpFailed(why="no room")

    monkeypatch.setattr(release.making, "create", fail)
    assert "no room" in run(capsys)[1]


def test_where_nothing_waits_or_nobody_is_there_yet_none_is_made(capsys, folder, monkeypatch, administrator):
    assert not release._is_to_migrate()
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *given: ["one"])
    assert release._is_to_migrate()
    administrator.delete()
    assert not release._is_to_migrate()
    monkeypatch.undo()
    run(capsys)
    assert list(folder.glob("*.hdbk")) == []
