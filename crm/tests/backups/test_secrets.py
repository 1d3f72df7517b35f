"""What others on the machine may see of a backup and a restore: no key and no password among any process's arguments, and
pg_dump's environment has no key at all."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from django.conf import settings

from crm.backups import making, postgresql
from crm.choices import BackupKind
from crm.tests.backups import archives
from crm.tests.backups.store import BUCKET
from crm.tests.processes import Program
from crm.tests.raw import IS_POSTGRES, ROOT, environment

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
PATIENCE_S = 120
KEYS = {name: os.environ[name] for name in ("SECRET_KEY", "SEARCH_KEY", "FIELD_ENCRYPTION_KEY", "BACKUP_KEY")} | {
    "S3_SECRET_ACCESS_KEY": "secret-words-of-the-office",
    "AUDIT_KEY": "p3Kd93hfLzmQ7rTyB5xWnV1cUe8sJa2g",
}
SPY = """#!{python}
import os, sys
from pathlib import Path
seen = Path("/proc/self")
with open({seen!r}, "ab") as file:
    file.write((seen / "cmdline").read_bytes() + (seen / "environ").read_bytes())
os.execv({real!r}, [{real!r}, *sys.argv[1:]])
"""


@pytest.fixture
def spied(tmp_path, monkeypatch):
    """Where pg_dump's arguments and environment are written down, each time it is started."""
    if not IS_POSTGRES:
        pytest.skip("PostgreSQL")
    folder, seen = tmp_path / "spy", tmp_path / "seen"
    folder.mkdir()
    spy = folder / "pg_dump"
    spy.write_text(SPY.format(python=sys.executable, seen=str(seen), real=shutil.which("pg_dump")))
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody:a-word-of-tests-only@127.0.0.1/office")
    return seen


def names_of(seen: bytes) -> set[str]:
    return {each.partition("=")[0] for each in seen.decode().split("\0") if "=" in each and not each.startswith("-")}


def test_pg_dump_is_given_no_key(spied, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path / "backups"
    making.create(kind=BackupKind.BY_HAND, now=archives.MADE_AT)
    seen = spied.read_bytes()
    assert seen.count(b"--snapshot=") == 1
    assert not [name for name, value in KEYS.items() if value.encode() in seen or name.encode() in seen]
    assert b"a-word-of-tests-only" not in seen
    assert all(name in postgresql.ENVIRONMENT or name.startswith(postgresql.ENVIRONMENT_OF) for name in names_of(seen))


@pytest.mark.slow
def test_no_process_of_a_backup_or_a_restore_has_a_secret_among_its_arguments(archive, target, store, tmp_path):
    (tmp_path / "data").mkdir()
    env = environment(
        **KEYS, DATABASE_URL=target.owner_url, DATA_DIR=str(tmp_path / "data"), BACKUP_DIR=str(tmp_path / "backups"),
        LANGUAGE_CODE="en", S3_ENDPOINT_URL=store.url, S3_BUCKET=BUCKET, S3_ACCESS_KEY_ID="id-of-the-office", NO_PROXY="127.0.0.1",
    )  # fmt: skip
    secrets = [*KEYS.values(), *settings.BACKUP_KEYS, *([archives.Role.PASSWORD] if IS_POSTGRES else [])]
    seen = set()
    for command in (["restore", str(archive)], ["backup"], ["restore", str(archive), "--yes"], ["verify_backup", str(archive), "--restore"]):  # fmt: skip
        with Program([sys.executable, str(ROOT / "manage.py"), *command], cwd=tmp_path, env=env) as program:
            while program.process.poll() is None:
                seen |= arguments_of(program)
            assert program.process.wait(PATIENCE_S) == 0, program.output
    assert any(b"crm.backups.apart" in each for each in seen)
    assert not [each for each in seen if any(secret.encode() in each for secret in secrets)]


def arguments_of(program: Program) -> set[bytes]:
    found = set()
    for pid in program.pids():
        try:
            found.add(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:  # it has ended
            continue
    return found
