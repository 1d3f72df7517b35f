"""What a backup holds, that it is of one moment, and that what fails leaves nothing."""

import datetime
import errno
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import tomllib
import tracemalloc
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from crm import privacy
from crm.backups import making, offsite, shelf
from crm.backups.archive import open_archive
from crm.choices import ErasureScope
from crm.encryption import fingerprint
from crm.exceptions import (
    BackupKeyNotSet,
    BackupNotMade,
    BackupsAmongFiles,
    NoRoomForBackup,
    StoredFileChanged,
    StoredFileUnreadable,
)
from crm.models import BackupRun, Client, Erasure, Lender
from crm.tests import factories
from crm.tests.backups.test_databases import Elsewhere, engine, on_postgresql
from crm.tests.raw import IS_POSTGRES, Database

pytestmark = pytest.mark.django_db
# A snapshot is taken by a connection of its own: it sees what is committed.
committed = pytest.mark.django_db(transaction=True)
NOW = datetime.datetime(2026, 11, 21, 2, 0, tzinfo=datetime.UTC)
PATIENCE_S = 120


@pytest.fixture(autouse=True)
def folder(folders, settings):
    return settings.BACKUP_DIR


@pytest.fixture
def elsewhere(tmp_path):
    own = Database(tmp_path)
    yield Elsewhere(own)
    own.drop()


def make(**given) -> Path:
    return making.create(**{"kind": "nightly", "now": NOW} | given)


def read(path: Path, settings) -> tuple[dict, dict[str, bytes]]:
    with open_archive(path, settings.BACKUP_KEYS) as archive:
        archive.verify()
        return archive.manifest, {name: stream.read() for name, stream in archive.sections()}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- What it holds ---


@committed
def test_it_holds_the_database_the_ledger_and_every_file(folder, settings, elsewhere):
    factories.make_case(client=factories.make_client())
    stored = {"a.pdf": os.urandom(2_500_000), "documents/2026/žádost.pdf": b"", "documents/b": b"text" * 999}
    for name, content in stored.items():
        default_storage.save(name, ContentFile(content))

    path = make()

    manifest, sections = read(path, settings)
    assert list(sections) == ["database", "ledger", *(f"files/{name}" for name in sorted(stored))]
    assert {name: sections[f"files/{name}"] for name in stored} == stored
    assert manifest["files"] == [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(stored.items())
    ]
    elsewhere.load(sections["database"])
    assert elsewhere.tables() == manifest["tables"]
    assert manifest["tables"]["crm_client"]["rows"] == 1


def test_the_manifest_tells_what_it_is_and_which_keys_it_needs(settings):
    manifest, _sections = read(make(kind="before-migrate"), settings)

    told = {name: manifest[name] for name in ("format", "kind", "created_at", "engine", "version")}
    assert told == {
        "format": 1,
        "kind": "before-migrate",
        "created_at": "2026-11-21T02:00:00+00:00",
        "engine": connection.vendor,
        "version": settings.VERSION,
    }
    assert manifest["field_keys"] == [fingerprint(settings.FIELD_ENCRYPTION_KEY[0])]
    assert manifest["search_key"] == fingerprint(settings.SEARCH_KEY)
    assert ["crm", "0001_initial"] in manifest["migrations"]
    assert manifest["server_version"][0].isdigit()


def test_the_version_is_the_projects(settings):
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]

    assert project["version"] == settings.VERSION


def test_no_key_is_inside(settings):
    settings.AUDIT_KEYS = ["audit-key-of-this-test-0123456789"]
    manifest, sections = read(make(), settings)

    everything = json.dumps(manifest).encode() + b"".join(sections.values())
    keys = [settings.SECRET_KEY, settings.SEARCH_KEY, *settings.AUDIT_KEYS, *settings.BACKUP_KEYS]
    assert not [key for key in [*keys, *settings.FIELD_ENCRYPTION_KEY] if key.encode() in everything]


@committed
def test_it_is_one_file_with_nothing_beside_it_and_nothing_readable(folder):
    factories.make_lender(name="Banka Na Rohu")

    path = make()

    assert names(folder) == [path.name] == ["hypodesk-20261121T020000Z-nightly.hdbk"]
    assert b"Banka Na Rohu" not in path.read_bytes()


@committed
def test_making_one_writes_nothing_into_the_database():
    factories.make_client()
    before = engine.tables(connection.connection.cursor())

    make()

    connection.ensure_connection()
    assert engine.tables(connection.connection.cursor()) == before


def test_the_ledger_has_whoever_was_erased(settings):
    Erasure.objects.create(scope=ErasureScope.CLIENT, object_id=7, made_at=NOW, asked_at=NOW, erased_at=NOW)

    _manifest, sections = read(make(), settings)

    assert [line.object_id for line in privacy.read(sections["ledger"])] == [7]


def test_an_older_versions_database_has_an_empty_ledger(settings, monkeypatch):
    """Before the migration that makes its table, a release backs up as well."""
    tables = engine.Snapshot.tables
    monkeypatch.setattr(engine.Snapshot, "tables", lambda own: {"crm_client": tables(own)["crm_client"]})
    monkeypatch.delattr(privacy, "ledger")

    _manifest, sections = read(make(), settings)

    assert privacy.read(sections["ledger"]) == []


def test_what_a_restore_has_staged_is_no_file_of_the_office(settings):
    default_storage.save(".restoring-0123456789abcdef/0", ContentFile(b"half"))
    default_storage.save("documents/.restoring-note", ContentFile(b"ours"))

    assert [each["name"] for each in read(make(), settings)[0]["files"]] == ["documents/.restoring-note"]


# --- Of one moment ---


class Office:
    """Somebody who writes all the time: in each transaction two lenders and a client."""

    def __init__(self):
        self._committed, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        self.wait_for_a_commit()
        return self

    def __exit__(self, *error):
        self._is_over.set()
        self._thread.join()

    def wait_for_a_commit(self) -> None:
        self._committed.clear()
        assert self._committed.wait(PATIENCE_S)

    def _work(self) -> None:
        try:
            number = 0
            while not self._is_over.is_set():
                number += 1
                with transaction.atomic():
                    factories.make_lender(name=f"Banka {number}")
                    factories.make_client()
                    factories.make_lender(name=f"Spořitelna {number}")
                self._committed.set()
        finally:
            connection.close()


@committed
def test_a_backup_made_while_somebody_writes_is_of_one_moment(settings, elsewhere, monkeypatch):
    tables = engine.Snapshot.tables

    def slowly(snapshot):
        office.wait_for_a_commit()
        found = tables(snapshot)
        office.wait_for_a_commit()
        return found

    monkeypatch.setattr(engine.Snapshot, "tables", slowly)
    with Office() as office:
        path = make(progress=lambda done, total: office.wait_for_a_commit())

    manifest, sections = read(path, settings)
    elsewhere.load(sections["database"])
    counted = {name: told["rows"] for name, told in manifest["tables"].items()}
    assert elsewhere.tables() == manifest["tables"]
    assert counted["crm_lender"] == 2 * counted["crm_client"] == counted["crm_historicallender"] > 0
    assert Client.objects.count() >= counted["crm_client"] + 3
    assert Lender.objects.count() == 2 * Client.objects.count()


# --- Files that do not stand still ---


@pytest.fixture
def meanwhile(monkeypatch):
    """Something happens between the look at a file and the reading of it, at the first so many looks."""

    def does(what, times: int):
        state, left = making._state, [times]

        def seen(name):
            found = state(name)
            if left[0]:
                left[0] -= 1
                what(name)
            return found

        monkeypatch.setattr(making, "_state", seen)

    return does


def append(name):
    with open(default_storage.path(name), "ab") as file:
        file.write(b"more")


def test_a_file_that_grew_while_it_was_read_is_read_again(folder, settings, meanwhile):
    default_storage.save("a.pdf", ContentFile(b"first"))
    meanwhile(append, times=1)

    _manifest, sections = read(make(), settings)

    assert sections["files/a.pdf"] == b"firstmore"
    assert len(names(folder)) == 1


def test_a_file_that_vanished_is_not_in_a_backup_of_a_later_moment(folder, settings, meanwhile):
    default_storage.save("a.pdf", ContentFile(b"first"))
    default_storage.save("b.pdf", ContentFile(b"second"))
    meanwhile(lambda name: default_storage.delete(name), times=1)

    manifest, _sections = read(make(), settings)

    assert [each["name"] for each in manifest["files"]] == ["b.pdf"]
    assert len(names(folder)) == 1


def test_a_file_that_vanished_after_the_snapshot_is_noticed(settings, monkeypatch):
    """The snapshot may speak of it, so a list that was made later would not do."""
    default_storage.save("a.pdf", ContentFile(b"first"))
    snapshots = []

    class Snapshot(engine.Snapshot):
        def dump(self, out):
            snapshots.append(self)
            default_storage.delete("a.pdf")
            super().dump(out)

    monkeypatch.setattr(engine, "Snapshot", Snapshot)

    assert read(make(), settings)[0]["files"] == []
    assert len(snapshots) == 2


def test_a_file_that_never_stands_still_ends_in_a_clear_error(folder, meanwhile):
    default_storage.save("a.pdf", ContentFile(b"first"))
    meanwhile(append, times=99)

    with pytest.raises(StoredFileChanged, match="three times"):
        make()

    assert names(folder) == []


def test_a_file_that_cannot_be_read_ends_in_a_clear_error(folder, monkeypatch):
    default_storage.save("a.pdf", ContentFile(b"first"))

    def refused(name):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(making, "_state", refused)
    with pytest.raises(StoredFileUnreadable, match="Input/output error"):
        make()

    assert names(folder) == []


# --- What fails, and what it costs ---


@pytest.mark.parametrize("kind", ["nowhere", "circle", "pipe", "folder in a circle"])
def test_what_is_no_file_is_told_by_its_name_and_not_waited_for(folder, kind):
    files = Path(default_storage.location)
    files.mkdir(exist_ok=True)
    match kind:
        case "nowhere":
            (files / "x").symlink_to("gone")
        case "circle":
            (files / "x").symlink_to("x")
        case "pipe":
            os.mkfifo(files / "x")
        case "folder in a circle":
            (files / "x").mkdir()
            (files / "x" / "again").symlink_to("..")
    with pytest.raises(StoredFileUnreadable, match="x"):
        make()
    assert list(Path(folder).glob("*")) == []


@pytest.mark.parametrize("where", ["", "backups"])
def test_backups_do_not_lie_among_the_files_that_they_hold(settings, where):
    settings.BACKUP_DIR = str(Path(default_storage.location) / where)
    with pytest.raises(BackupsAmongFiles, match="outside"):
        make()


def test_without_a_key_nothing_is_made(folder, settings):
    settings.BACKUP_KEYS = []

    with pytest.raises(BackupKeyNotSet, match="BACKUP_KEY"):
        make()

    assert not folder.exists()


@on_postgresql
@pytest.mark.parametrize("version", [None, 9])
def test_a_missing_or_older_pg_dump_is_told_with_its_cure(folder, monkeypatch, version):
    monkeypatch.setattr(engine, "_tool_version", lambda: version)

    with pytest.raises(BackupNotMade, match="postgresql-client"):
        make()

    assert not folder.exists()


@on_postgresql
@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 127", "no program"])
def test_a_pg_dump_that_does_not_start_is_not_called_missing(tmp_path, monkeypatch, content):
    tool = tmp_path / "bin" / "pg_dump"
    tool.parent.mkdir()
    tool.write_text(content)
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", str(tool.parent))

    with pytest.raises(BackupNotMade, match="does not start.*pg_dump --version"):
        make()


class Limited(io.FileIO):
    """A disk with room for so many bytes."""

    room = 100_000

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_leaves_nothing_and_the_older_ones(folder, monkeypatch):
    older = make()
    default_storage.save("a.pdf", ContentFile(os.urandom(3_000_000)))
    monkeypatch.setattr(shelf, "_locked_file", lambda path: Limited(path, "wb"))

    with pytest.raises(NoRoomForBackup):
        make()
    with pytest.raises(CommandError, match=f"{folder}.*BACKUP_DIR"):
        call_command("backup")

    assert names(folder) == [older.name]


class Stop(BaseException):
    """As a worker that has to end says it."""


def test_who_stops_it_leaves_nothing(folder):
    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        make(progress=stop)

    assert names(folder) == []


def test_progress_grows_to_its_total():
    default_storage.save("a.pdf", ContentFile(bytes(3_000_000)))
    heard = []

    make(progress=lambda *told: heard.append(told))

    assert heard == sorted(heard)
    assert all(0 < done <= total for done, total in heard)
    assert heard[-1][0] == heard[-1][1]


def test_memory_does_not_grow_with_the_files():
    default_storage.save("a.bin", ContentFile(b""))
    with default_storage.open("a.bin", "wb") as file:
        for _ in range(40):
            file.write(os.urandom(1 << 20))
    tracemalloc.start()
    try:
        make()
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 * 1024 * 1024


# --- manage.py backup ---


def test_the_command_says_in_one_line_what_it_made(folder):
    default_storage.save("a.pdf", ContentFile(b"first"))
    out = io.StringIO()

    call_command("backup", stdout=out)

    (name,) = names(folder)
    assert re.fullmatch(rf"{folder}/{name}: \S+ KB, [1-9]\d* rows, 1 files, \d+ s\n", out.getvalue())
    assert shelf.kept()[0].kind == "by-hand"


def test_the_command_fails_in_one_line_with_the_cure(settings):
    settings.BACKUP_KEYS = []

    with pytest.raises(CommandError, match="BACKUP_KEY is not set.*keep a copy") as raised:
        call_command("backup")

    assert raised.value.returncode == 1
    assert "\n" not in str(raised.value)


def test_the_command_copies_what_it_made_to_the_store(folder, store):
    call_command("backup", stdout=io.StringIO())

    run = BackupRun.objects.get()
    assert [copy.name for copy in offsite.listed()] == names(folder) == [run.file_name]
    assert run.offsite_at


def test_a_store_that_fails_is_told_after_the_file_and_its_exit_code_is_1(folder, store):
    store.fault = lambda method, path: "403"
    out = io.StringIO()

    with pytest.raises(CommandError, match="this machine only.*403") as raised:
        call_command("backup", stdout=out)

    (name,) = names(folder)
    run = BackupRun.objects.get()
    assert raised.value.returncode == 1
    assert name in out.getvalue()
    assert (run.offsite_at, "403" in run.offsite_message) == (None, True)


@pytest.mark.parametrize("is_thrown_away", [True, False])
def test_the_command_warns_of_a_disk_that_is_thrown_away(settings, is_thrown_away):
    settings.BACKUPS_ON_THROWAWAY_DISK = is_thrown_away
    err = io.StringIO()

    call_command("backup", stdout=io.StringIO(), stderr=err)

    assert ("throws away" in err.getvalue()) == is_thrown_away
    assert bool(err.getvalue()) == is_thrown_away


# --- Who is killed ---

KILLED = """
import os, signal, sys
import django

django.setup()
from django.conf import settings
from django.utils import timezone

settings.BACKUP_DIR, settings.MEDIA_ROOT = sys.argv[1:3]
settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
from crm.backups import making, offsite, shelf


def make(step, told):
    reached = 0

    def counted(call):
        def counting(*args, **kwargs):
            reach()
            return call(*args, **kwargs)

        return counting

    def reach(*_):
        nonlocal reached
        reached += 1
        if reached == step:
            os.write(told, b"reached")
            while True:
                signal.pause()

    for name in ("fsync", "rename", "close"):
        setattr(os, name, counted(getattr(os, name)))
    shelf.NewFile.write = counted(shelf.NewFile.write)
    making._names = counted(making._names)
    making.create(kind="nightly", now=timezone.now(), progress=reach)
    os.write(told, str(reached).encode())


for line in sys.stdin:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            make(int(line), writer)
        finally:
            os._exit(0)
    os.close(writer)
    print(os.read(reader, 20).decode(), flush=True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
"""


@committed
def test_killed_at_thirty_drawn_points_it_leaves_whole_files_only(folder, settings):
    factories.make_case(client=factories.make_client())
    for name in "abc":
        default_storage.save(name, ContentFile(os.urandom(1_500_000)))
    older = make()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(settings.MEDIA_ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "crm.tests.settings", "DATABASE_URL": address()},
    )

    def made(step: int) -> str:
        print(step, file=child.stdin, flush=True)
        return child.stdout.readline().strip()

    with child:
        steps = int(made(0))
        told = [made(random.Random(30 + number).randint(1, steps)) for number in range(30)]
        child.stdin.close()

    assert told == ["reached"] * 30
    assert older in [each.path for each in shelf.kept()]
    for each in shelf.kept():
        read(each.path, settings)
    make()
    assert not [name for name in names(folder) if name.startswith(".")]


def address() -> str:
    """Of the suite's own database."""
    known = connection.settings_dict
    if not IS_POSTGRES:
        return f"sqlite:///{known['NAME']}"
    password = f":{known['PASSWORD']}" if known["PASSWORD"] else ""
    return f"postgres://{known['USER']}{password}@{known['HOST']}:{known['PORT'] or 5432}/{known['NAME']}"
