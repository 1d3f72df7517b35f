"""Verification: by digests, and by a restore into a scratch place, of which nothing stays."""

import contextlib
import copy
import io
import re
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from crm.backups import apart, checking, postgresql, scratch
from crm.backups.archive import open_archive
from crm.choices import BackupProof
from crm.exceptions import AuditNotWhole, BackupDamaged, BackupDiffers
from crm.tests.backups import archives
from crm.tests.backups.conftest import FILES
from crm.tests.raw import IS_POSTGRES
from project import env

# What is written for good is in databases of their own; the suite's has to be there to make an archive of.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("audit_key")]
on_postgresql = pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL")
on_sqlite = pytest.mark.skipif(IS_POSTGRES, reason="SQLite")


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    return tmp_path


def left() -> list[str]:
    """Of scratch places."""
    if not IS_POSTGRES:
        return [path.name for path in Path(settings.DATA_DIR).glob(f"{scratch.FOLDER}*")]
    with contextlib.closing(postgresql.connected()) as server:
        return [
            name
            for (name,) in server.execute(
                "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %(name)s) UNION ALL SELECT datname FROM pg_database "
                "WHERE starts_with(datname, %(name)s || left(md5(current_database()), 8))",
                {"name": scratch.NAME},
            ).fetchall()
        ]


def test_digests_are_compared_without_a_database(archive):
    found = checking.verify(archive, restore=False)
    assert (found.proof, found.warnings) == (BackupProof.DIGESTS, [])
    assert found.rows == sum(table["rows"] for table in found.manifest["tables"].values()) > 0


def test_a_restored_backup_is_compared_decrypted_and_its_seal_verified(archive):
    found = checking.verify(archive, restore=True)
    assert (found.proof, found.warnings, found.seals) == (BackupProof.RESTORED, [], 1)
    assert found.values > 1
    assert not left()


def test_a_damaged_backup_is_bad(archive, tmp_path):
    bent = tmp_path / "bent.hdbk"
    bent.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(BackupDamaged):
        checking.verify(bent, restore=True)


@pytest.mark.parametrize("part", ["rows", "digest"])
def test_what_comes_out_is_compared_with_the_manifest(archive, tmp_path, part):
    with open_archive(archive, settings.BACKUP_KEYS) as found:
        tables = copy.deepcopy(found.manifest["tables"])
    tables["crm_case"][part] = 7 if part == "rows" else "0" * 32
    wrong = archives.changed(archive, tmp_path / "wrong.hdbk", tables=tables)
    with pytest.raises(BackupDiffers, match="crm_case"):
        checking.verify(wrong, restore=True)
    assert not left()


def test_migrations_are_compared(archive, tmp_path):
    wrong = archives.changed(archive, tmp_path / "wrong.hdbk", migrations=[["crm", "0001_initial"]])
    with pytest.raises(BackupDiffers, match="django_migrations"):
        checking.verify(wrong, restore=True)


@pytest.mark.parametrize("wrong", ["one more", "one less", "another size"])
def test_the_list_of_files_is_compared(archive, tmp_path, wrong):
    with open_archive(archive, settings.BACKUP_KEYS) as found:
        first, *others = found.manifest["files"]
    told = {
        "one more": [first, *others, {"name": "gone.pdf", "size": 1, "sha256": "0"}],
        "one less": others,
        "another size": [first | {"size": 1}, *others],
    }[wrong]
    with pytest.raises(BackupDiffers):
        checking.verify(archives.changed(archive, tmp_path / "wrong.hdbk", files=FILES, told_files=told), restore=False)


def test_a_seal_that_is_cut_off_is_bad(archive, tmp_path):
    head = f"2 {'0' * 64} 2026-03-02T02:00:00Z"
    wrong = archives.changed(archive, tmp_path / "wrong.hdbk", audit_head=head)
    with pytest.raises(AuditNotWhole):
        checking.verify(wrong, restore=True)


def test_without_the_key_of_the_seal_it_is_never_verified(archive, monkeypatch):
    monkeypatch.delenv("AUDIT_KEY")
    found = checking.verify(archive, restore=True)
    assert found.proof == BackupProof.DIGESTS
    assert "AUDIT_KEY" in found.warnings[0]


# --- The scratch place ---


@on_sqlite
def test_what_a_killed_verification_left_is_taken_away_and_a_living_ones_stays(archive, data_dir):
    dead = data_dir / f"{scratch.FOLDER}dead"
    dead.mkdir()
    (dead / "scratch.sqlite3").touch()
    with scratch.place("sqlite") as living:
        assert not dead.exists()
        checking.verify(archive, restore=True)
        assert [f"{each}" for each in left()] == [Path(living.url.removeprefix("sqlite:///")).parent.name]
    assert not left()


@on_postgresql
def test_what_a_killed_verification_left_is_dropped_and_a_living_ones_stays(archive):
    with contextlib.closing(postgresql.connected()) as server:
        [(office,)] = server.execute("SELECT left(md5(current_database()), 8)").fetchall()
        dead = f"{scratch.NAME}{office}_dead"
        server.execute(f"CREATE DATABASE {dead}")
    with scratch.place("postgresql") as living:
        assert living.schema == ""
        checking.verify(archive, restore=True)
        assert [f"/{name}" in living.url for name in left()] == [True]
    assert not left()


@on_postgresql
@pytest.mark.parametrize("may_make_schemas", [True, False])
def test_a_role_without_the_right_to_make_databases_gets_a_schema_or_digests_only(archive, target, may_make_schemas):
    role = target.role
    if not may_make_schemas:
        role.owns_nothing()
    with archives.default_is(target, role):
        found = checking.verify(archive, restore=True)
        assert not left()
    if may_make_schemas:
        assert (found.proof, found.warnings) == (BackupProof.RESTORED, [])
    else:
        assert found.proof == BackupProof.DIGESTS
        assert "VERIFY_DATABASE_URL" in found.warnings[0]


@on_postgresql
def test_a_role_whose_statements_and_sessions_may_not_last_has_its_trial_all_the_same(archive, monkeypatch):
    connected = postgresql.connected

    def limited():
        own = connected()
        own.execute("SET statement_timeout = 20")
        own.execute("SET idle_session_timeout = 300")
        return own

    with monkeypatch.context() as patch:
        patch.setattr(postgresql, "connected", limited)
        found = checking.verify(archive, restore=True)
    assert (found.proof, found.warnings) == (BackupProof.RESTORED, [])
    assert not left()


@on_postgresql
def test_another_database_may_be_named_for_it_and_keeps_what_it_has(archive, target, monkeypatch):
    with contextlib.closing(target.connect()) as server:
        server.execute("CREATE TABLE crm_client (id integer)")
        server.commit()
    monkeypatch.setattr(settings, "VERIFY_DATABASE_URL", target.owner_url)
    assert checking.verify(archive, restore=True).proof == BackupProof.RESTORED
    assert list(target.rows()) == ["crm_client"]


@on_postgresql
def test_another_database_that_cannot_be_reached_leaves_the_digests_and_is_told_by_its_variable(
    archive, target, monkeypatch
):
    monkeypatch.setattr(settings, "VERIFY_DATABASE_URL", f"{target.owner_url}_gone")
    found = checking.verify(archive, restore=True)
    assert found.proof == BackupProof.DIGESTS
    assert re.search(r"VERIFY_DATABASE_URL .*_gone.* does not exist", found.warnings[0])


@on_postgresql
def test_another_database_in_which_nothing_may_be_made_leaves_the_digests_too(archive, target, monkeypatch):
    target.role.owns_nothing()
    monkeypatch.setattr(settings, "VERIFY_DATABASE_URL", target.owner_url)
    found = checking.verify(archive, restore=True)
    assert found.proof == BackupProof.DIGESTS
    assert "VERIFY_DATABASE_URL is of no use" in found.warnings[0]


def test_a_backup_of_an_engine_that_is_not_here_is_not_verified(archive, tmp_path, monkeypatch):
    if IS_POSTGRES:
        pytest.skip("SQLite is everywhere")
    foreign = archives.changed(archive, tmp_path / "foreign.hdbk", engine="postgresql")
    found = checking.verify(foreign, restore=True)
    assert found.proof == BackupProof.DIGESTS
    assert found.warnings


# --- The command ---


def said(*arguments) -> tuple[str, str]:
    out, errors = io.StringIO(), io.StringIO()
    call_command("verify_backup", *map(str, arguments), stdout=out, stderr=errors, no_color=True)
    return out.getvalue(), errors.getvalue()


def test_the_command_says_verified_of_what_was_restored_only(archive, monkeypatch):
    assert said(archive)[0].startswith("digests only: ")
    monkeypatch.setattr(scratch, "place", lambda engine: contextlib.nullcontext())
    out, errors = said(archive, "--restore")
    assert out.startswith("digests only: ")
    assert "VERIFY_DATABASE_URL" in errors
    assert "verified" not in out


def test_the_command_says_what_is_wrong(tmp_path):
    (tmp_path / "empty.hdbk").touch()
    with pytest.raises(CommandError, match=r"empty\.hdbk is empty"):
        said(tmp_path / "empty.hdbk")
    with pytest.raises(CommandError):
        said(tmp_path / "none.hdbk")


# --- Addresses ---


ROLE = "postgres://role@"


def read_back(monkeypatch, url: str) -> tuple[dict, dict]:
    """What an address says, and what ours of the same database does."""
    monkeypatch.setenv("DATABASE_URL", url)
    known = env.database("DATABASE_URL", "")
    office = SimpleNamespace(vendor="postgresql", settings_dict={"OPTIONS": {}} | known)
    monkeypatch.setattr(apart, "connection", office)
    monkeypatch.setenv("DATABASE_URL", apart.address())
    return {"OPTIONS": {}} | known, {"OPTIONS": {}} | env.database("DATABASE_URL", "")


@pytest.mark.parametrize(
    "url",
    [
        f"{ROLE}db.example.com/office",
        f"{ROLE}db.example.com:5433/office",
        "postgres:///office",
        f"{ROLE}//var/run/postgresql/office",
        f"{ROLE}/office?host=/var/run/postgresql",
        f"{ROLE}/office?host=/var/Run%20of/post%25gresql&port=5433",
        f"{ROLE}[::1]/office",
        f"{ROLE}[::1]:5433/office",
        f"{ROLE}one:5432,two:5433/office",
        "postgres://me%40h%3Ae%2Fr%3Fe%23%25%20%2B:p%40s%3As%2F%3F%23%25%20%2B@h/of%40f%3Ai%2Fc%3Fe%23%25%20%2Bd%C5%BE",
        f"{ROLE}/of%2Ffi%25ce?host=/var/run/postgresql",
        f"{ROLE}h/office?sslmode=verify-full&sslrootcert=/a%20b%26c.crt&options=-c%20a%3Db&connect_timeout=5",
    ],
)
def test_an_address_is_read_as_it_was_meant(monkeypatch, url):
    known, found = read_back(monkeypatch, url)
    assert found == known


def test_what_is_no_part_of_an_address_is_left_out(monkeypatch):
    known = {
        "NAME": "office", "USER": "", "PASSWORD": None, "HOST": "", "PORT": "",
        "OPTIONS": {"sslmode": "require", "pool": {"min_size": 1}},
    }  # fmt: skip
    monkeypatch.setattr(apart, "connection", SimpleNamespace(vendor="postgresql", settings_dict=known))
    assert apart.address() == "postgres:///office?sslmode=require"


@on_postgresql
def test_a_restore_is_tried_over_a_socket(archive, monkeypatch):
    with contextlib.closing(postgresql.connected()) as server:
        [(folders,)] = server.execute("SHOW unix_socket_directories").fetchall()
    monkeypatch.setitem(connection.settings_dict, "HOST", folders.partition(",")[0])
    try:
        postgresql.connected().close()
    except psycopg.OperationalError:
        pytest.skip("the server is another machine's, or lets nobody in there")
    assert checking.verify(archive, restore=True).proof == BackupProof.RESTORED
    assert not left()
