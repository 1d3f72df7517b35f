"""Archives of the suite's own database, made past everything that makes backups, so that they may also be wrong."""

import contextlib
import datetime
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from crm.backups import postgresql, sqlite
from crm.backups.archive import Writer, open_archive
from crm.encryption import field_key_fingerprints, fingerprint
from crm.tests.raw import IS_POSTGRES, Database

MADE_AT = datetime.datetime(2026, 3, 2, 2, 0, tzinfo=datetime.UTC)
EMPTY_LEDGER = b'{"erasures":1}\n'
# Opening the office after a restore writes into these, beside the tables of the machinery.
OPENING = {
    "auth_group", "auth_group_permissions", "crm_auditentry", "crm_historicaljobschedule", "crm_historicalmessagetext",
    "crm_jobschedule", "crm_messagetext",
}  # fmt: skip


def write(
    path: Path, *, files: dict[str, bytes] | None = None, ledger: bytes = EMPTY_LEDGER, head="", **manifest
) -> Path:
    """`manifest` stands instead of what is true."""
    with (postgresql if IS_POSTGRES else sqlite).snapshot() as snapshot, path.open("wb") as target:
        writer = Writer(target, settings.BACKUP_KEYS[0])
        told = described(snapshot, head)
        with writer.section("database") as out:
            snapshot.dump(out)
        _finish(writer, files or {}, ledger, told | manifest)
    return path


def described(snapshot, head: str) -> dict:
    return {
        "format": 1, "version": "0.1.0", "kind": "by-hand", "created_at": MADE_AT.isoformat(), "engine": connection.vendor,
        "server_version": snapshot.server_version(), "migrations": snapshot.migrations(), "tables": snapshot.tables(),
        "field_keys": field_key_fingerprints(), "search_key": fingerprint(settings.SEARCH_KEY), "audit_head": head,
    }  # fmt: skip


def changed(source: Path, path: Path, *, files=None, ledger: bytes = EMPTY_LEDGER, **manifest) -> Path:
    """The same database, told of differently; `told_files` stands instead of what is true of the files."""
    with open_archive(source, settings.BACKUP_KEYS) as known, path.open("wb") as target:
        writer = Writer(target, settings.BACKUP_KEYS[0])
        with writer.section("database") as out, known.section("database") as content:
            out.write(content.read())
        told = {name: value for name, value in known.manifest.items() if name != "sections"}
        _finish(writer, files or {}, ledger, told | manifest)
    return path


def _finish(writer: Writer, files: dict[str, bytes], ledger: bytes, manifest: dict) -> None:
    with writer.section("ledger") as out:
        out.write(ledger)
    for name, content in files.items():
        with writer.section(f"files/{name}") as out:
            out.write(content)
    known = writer._sections
    told = [{**{key: known[f"files/{name}"][key] for key in ("size", "sha256")}, "name": name} for name in files]
    manifest["files"] = manifest.pop("told_files", told)
    writer.finish(manifest)


@contextlib.contextmanager
def default_is(own: Database, role: "Role | None" = None):
    """For what reads the default database through a connection of its own."""
    other = {"NAME": own.name if IS_POSTGRES else str(own.file)}
    if role:
        other |= {"USER": role.name, "PASSWORD": role.PASSWORD}
    before = dict(connection.settings_dict)
    connection.settings_dict.update(other)
    try:
        yield
    finally:
        connection.settings_dict.update(before)


class Role:
    """A PostgreSQL role that has no right but what it is given."""

    PASSWORD = "a-word-of-tests-only"

    def __init__(self, own: Database):
        self.own, self.name = own, own.name.replace("own", "role")
        with own._maintenance() as server:
            server.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(self.name), sql.Literal(self.PASSWORD)
                )
            )

    def owns_it(self) -> None:
        with self.own._maintenance() as server:
            server.execute(f"ALTER DATABASE {self.own.name} OWNER TO {self.name}")

    def owns_nothing(self) -> None:
        with self.own._maintenance() as server:
            server.execute(f"ALTER DATABASE {self.own.name} OWNER TO CURRENT_USER")

    @property
    def url(self) -> str:
        at = self.own._address()
        return f"postgres://{self.name}:{self.PASSWORD}@{at.get('host', '')}:{at.get('port', 5432)}/{self.own.name}"

    def drop(self) -> None:
        """After what it owns."""
        with self.own._maintenance() as server, contextlib.suppress(psycopg.errors.UndefinedObject):
            server.execute(f"DROP ROLE {self.name}")
