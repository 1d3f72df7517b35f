"""Loads a backup into the default database and looks at what came of it. Runs in a process of its own (`apart`), which knows no
other database. On PostgreSQL all of it is one transaction; a SQLite file is a new one that nobody has yet."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.translation import gettext as _

from crm import checks, privacy, shipped
from crm.audit import sealing, verifying
from crm.backups import keeping, making, placing, postgresql, resuming, sqlite
from crm.backups.archive import Archive, open_archive
from crm.choices import BackupKind
from crm.encryption import Unreadable, decrypt_texts, encrypted_names, fingerprint
from crm.exceptions import (
    AuditKeyMissing,
    AuditNotWhole,
    BackupDiffers,
    KeyMissing,
    RestoreFailed,
    SealBroken,
    TargetDamaged,
    TargetHeld,
    TargetInUse,
    TargetNotEmpty,
)
from crm.models import AuditSeal

# Written by the machinery itself at any moment, and by the safety backup; nothing of the office's work.
MACHINERY = {
    "crm_backuprun", "crm_backupwatch", "crm_heartbeat", "crm_jobrun", "crm_stagedfiles", "django_session", "sqlite_sequence",
}  # fmt: skip
MACHINERY_OF = ("django_q_", "axes_")
# Of a longer table about so many rows are decrypted.
SAMPLE = 20_000


# --- What is there ---


def look(*, say, go) -> None:
    """Changes nothing, and makes no SQLite file. `others` are sessions of somebody who has tables to work on."""
    told = {
        "engine": connection.vendor,
        "name": str(connection.settings_dict["NAME"]),
        "database": placing.database(),
        "tables": 0,
        "is_office": False,
        "others": 0,
        "hangers_on": [],
        "silent_s": None,
    }
    names: list[str] = []
    if connection.vendor == "sqlite":
        if Path(told["name"]).exists():
            with contextlib.closing(sqlite.opened(told["name"])) as reader:
                names = _names(reader)
    else:
        with postgresql.connected() as own, own.cursor() as cursor:
            names = postgresql.names(cursor)
            told["others"] = postgresql.other_sessions(cursor)
            told["silent_s"] = postgresql.silent_s(cursor)
            told["hangers_on"] = postgresql.hangers_on(cursor)
    told |= {"tables": len(names), "is_office": {"django_migrations", "crm_client"} <= set(names)}
    say(**told)


def reach(*, say, go) -> None:
    """Whether a schema can be made in this PostgreSQL database: `why` is empty then."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT has_database_privilege(current_database(), 'CREATE')")
            say(why="" if cursor.fetchone()[0] else _("its role may make no schema there"))
    except OperationalError as error:
        say(why=postgresql.told(error.__cause__))


def _names(reader: sqlite3.Connection) -> list[str]:
    try:
        return sqlite.names(reader)
    except sqlite3.OperationalError:  # such as of a lock
        raise
    except sqlite3.DatabaseError as error:
        raise TargetDamaged() from error


def save(*, say, go) -> None:
    """A safety backup of this database."""
    path = making.create(kind=BackupKind.SAFETY, now=timezone.now())
    say(file=str(path.absolute()))


# --- Into it ---


def restore(*, say, go, file: str, ledgers: list[str], saved: dict | None) -> None:
    """`saved` are the tables of the safety backup, where something is replaced; `ledgers` are others than the
    backup's own. Commits only after the second word, which is the folder of the staged files."""
    with open_archive(file, settings.BACKUP_KEYS) as archive, _all_or_nothing():
        granted = set()
        if connection.vendor == "postgresql":
            postgresql.be_the_only_restore(connection.connection.cursor())
            granted = postgresql.grants(connection.connection.cursor())
            _make_room(saved)
        _fill(archive)
        told = _bring_up(archive.manifest)
        told |= _replay(ledgers, archive.name)
        told["changed"] = _changed(archive.manifest["tables"], told)
        told |= _open()
        told["ungranted"] = sorted(granted - postgresql.grants(connection.connection.cursor())) if granted else []
        keeping.note_restored(Path(file), timezone.now())
        say(**told)
        if (folder := go()) is None:
            raise RestoreFailed(why=_("nobody waits for it any more"))
        placing.name(folder)
    connection.close()
    say(done=True)


def settle(*, say, go) -> None:
    """What became of the files of a restore into this database: those that it names are to be placed, and then forgotten."""
    say(named=placing.named())
    if placed := go():  # else there may be no database
        placing.forget(placed)
    connection.close()  # with what SQLite keeps beside the file
    say(done=True)


def attempt(*, say, go, file: str, schema: str = "") -> None:
    """What a verification does in a scratch database; nothing of it stays on PostgreSQL."""
    with open_archive(file, settings.BACKUP_KEYS) as archive, _all_or_nothing():
        if schema:
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE SCHEMA "{schema}"')
                cursor.execute(f'SET LOCAL search_path TO "{schema}"')
        _fill(archive, schema or postgresql.SCHEMA)
        told = _bring_up(archive.manifest)
        told |= {"warnings": [], "values": 0}
        _prove_fields(archive.manifest["tables"], told)
        _prove_seal(archive.manifest, told)
        _open()
        if connection.vendor == "postgresql":
            transaction.set_rollback(True)
    connection.close()
    say(**told)


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[None]:
    """SQLite's migrations want no transaction around them; its file is thrown away where anything fails."""
    with transaction.atomic() if connection.vendor == "postgresql" else contextlib.nullcontext():
        yield


def _make_room(saved: dict | None) -> None:
    """Raises TargetNotEmpty, TargetInUse, TargetHeld."""
    cursor = connection.connection.cursor()
    there = postgresql.names(cursor)
    if not there:
        return
    if saved is None:
        raise TargetNotEmpty()
    postgresql.take(cursor, there)
    if unsaved(saved, postgresql.tables(cursor)):
        raise TargetInUse(why=written_since())
    if names := postgresql.hangers_on(cursor):
        raise TargetHeld(names=", ".join(names))
    postgresql.clear(cursor)


def written_since() -> str:
    return _("it was written to since its safety backup")


def unsaved(saved: dict, found: dict) -> list[str]:
    """Tables of the office's work that are not as the safety backup has them."""
    return [
        name
        for name in sorted(saved.keys() | found.keys())
        if saved.get(name) != found.get(name) and name not in MACHINERY and not name.startswith(MACHINERY_OF)
    ]


def _fill(archive: Archive, schema: str = postgresql.SCHEMA) -> None:
    """Loads and compares. Raises LoadFailed, BackupDamaged, BackupDiffers, KeyMissing."""
    with archive.section("database") as source:
        if connection.vendor == "sqlite":
            _fill_file(source)
        else:
            postgresql.load(connection.connection.cursor(), source, schema)
    _compare(archive.manifest["tables"], _tables(schema))
    if connection.vendor == "postgresql":
        postgresql.settle(connection.connection.cursor(), schema)
    applied = postgresql.migrations if connection.vendor == "postgresql" else sqlite.migrations
    with connection.cursor() as cursor:
        if applied(cursor) != archive.manifest["migrations"]:
            raise BackupDiffers(tables="django_migrations")
    if wrong := checks.wrong_keys():
        raise KeyMissing(" ".join(wrong))


def _fill_file(source) -> None:
    path = connection.settings_dict["NAME"]
    sqlite.load(path, source)
    with contextlib.closing(sqlite.opened(path)) as reader:
        sqlite.check(reader)


def _tables(schema: str = postgresql.SCHEMA) -> dict:
    if connection.vendor == "postgresql":
        return postgresql.tables(connection.connection.cursor(), schema)
    connection.close()
    with contextlib.closing(sqlite.opened(connection.settings_dict["NAME"])) as reader:
        return sqlite.tables(reader)


def _compare(expected: dict, found: dict) -> None:
    if differing := [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]:
        raise BackupDiffers(tables=", ".join(differing))


def _bring_up(manifest: dict) -> dict:
    """Migrates forward."""
    executor = MigrationExecutor(connection)
    plan = [migration for migration, _backwards in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    alone = [str(migration) for migration in plan if not migration.atomic]
    if alone and connection.vendor == "postgresql":
        raise RestoreFailed(why=_("%(names)s cannot run in a transaction") % {"names": ", ".join(alone)})
    call_command("migrate", interactive=False, verbosity=0)
    return {
        "tables": len(manifest["tables"]),
        "rows": sum(table["rows"] for table in manifest["tables"].values()),
        "migrated": [f"{migration.app_label}.{migration.name}" for migration in plan],
    }


def _replay(ledgers: list[str], name: str) -> dict:
    """The backup's own lines too, which it may be older than. Raises KeyMissing where who is to be erased stands in seals whose
    keys are not here; else that is only told."""
    unknown = _unknown_seals()
    lines = [*privacy.ledger(), *(line for text in ledgers for line in privacy.read(text.encode()))]
    try:
        done = privacy.replay(dict.fromkeys(lines), timezone.now())
    except (AuditKeyMissing, SealBroken) as error:
        if unknown:
            raise KeyMissing(file=name, fingerprint=", ".join(unknown), name="AUDIT_KEY") from error
        raise
    return {"erased": len(done.erased), "restricted": len(done.restricted), "unknown_seals": unknown}


def _unknown_seals() -> list[str]:
    """The keys, by fingerprint, of seals that AUDIT_KEY does not hold."""
    made = AuditSeal.objects.order_by().values_list("key_fingerprint", flat=True).distinct()
    return sorted(set(made) - {fingerprint(key) for key in settings.AUDIT_KEYS})


def _changed(before: dict, told: dict) -> dict[str, list]:
    """Tables whose counts are other ones now: rows before and after. Raises BackupDiffers where nothing could have changed any."""
    after = _tables()
    if not (told["migrated"] or told["erased"] or told["restricted"]):
        _compare(_without_ledger(before), _without_ledger(after))
    counts = {
        name: [before.get(name, {}).get("rows", 0), after.get(name, {}).get("rows", 0)] for name in before | after
    }
    return {name: rows for name, rows in sorted(counts.items()) if rows[0] != rows[1]}


def _open() -> dict:
    """An office to start web and worker on, as after a release. What would stop it here, a trial has found."""
    return {"added": shipped.sync(), **resuming.resume(timezone.now())}


def _without_ledger(found: dict) -> dict:
    """Lines about nobody here are kept too."""
    return {name: told for name, told in found.items() if name not in {"crm_erasure", "sqlite_sequence"}}


# --- Whether it is worth something ---


def _prove_fields(tables: dict, told: dict) -> None:
    """Raises KeyMissing where the keys open nothing; what somebody had bent before is a warning."""
    read = 0
    for model in apps.get_models():
        columns = [model._meta.get_field(name).column for name in sorted(encrypted_names(model))]
        rows = tables.get(model._meta.db_table, {}).get("rows", 0)
        if not columns or not rows:
            continue
        for column, (good, bad) in _read_columns(model._meta, columns, rows).items():
            read += good
            if bad:
                words = {"count": bad, "column": f"{model._meta.db_table}.{column}"}
                told["warnings"].append(
                    _("%(count)s values of %(column)s cannot be read with the office's keys.") % words
                )
    if told["warnings"] and not read:
        raise KeyMissing(" ".join(told["warnings"]))
    told["values"] = read


def _read_columns(meta, columns: list[str], rows: int) -> dict[str, list[int]]:
    """How many values of each could be read and how many could not: of a long table every so manieth row."""
    quoted = connection.ops.quote_name
    every = rows // SAMPLE + 1
    where = f" WHERE {quoted(meta.pk.column)} % {every} = 0" if every > 1 else ""
    found = {column: [0, 0] for column in columns}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(meta.db_table)}{where}")  # noqa: S608
        while some := cursor.fetchmany(1_000):
            for column, values in zip(columns, zip(*some, strict=True), strict=True):
                given = [value for value in values if value]
                bad = sum(isinstance(value, Unreadable) for value in decrypt_texts(given))
                found[column][0] += len(given) - bad
                found[column][1] += bad
    return found


def _prove_seal(manifest: dict, told: dict) -> None:
    """Raises AuditNotWhole. The head comes from the manifest: a cut-off end is found."""
    told["seals"] = 0
    if not AuditSeal.objects.exists() and not manifest["audit_head"]:
        return
    if not settings.AUDIT_KEYS:
        told["unsealed"] = _("AUDIT_KEY is not set here, so the seal of the audit trail was not verified.")
        return
    head = sealing.read_head(manifest["audit_head"]) if manifest["audit_head"] else None
    found = verifying.verify(now=timezone.now(), mailed=head)
    if not found.is_whole:
        raise AuditNotWhole(found.problems[0])
    told["seals"] = found.seals


WORKS = {work.__name__: work for work in (look, reach, save, restore, settle, attempt)}
