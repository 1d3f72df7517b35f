"""Where a backup is restored to try: a SQLite file, a PostgreSQL database or schema of its own. What a killed verification
left is taken away by the next one: whoever is alive holds a lock."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from crm.backups import apart, postgresql

NAME = "hypodesk_verify_"
FOLDER = ".verify-"


@dataclass(frozen=True)
class Place:
    """The database's address; `schema` is empty where the whole database is for it."""

    url: str
    schema: str = ""


class Unusable(Exception):
    """Says why."""


@contextlib.contextmanager
def place(engine: str) -> Iterator[Place | None]:
    """None where this office has none for such a backup, or may make none. Raises Unusable of VERIFY_DATABASE_URL."""
    if engine == "sqlite":
        with _folder(Path(settings.DATA_DIR)) as folder:
            yield Place(f"sqlite:////{str(folder / 'scratch.sqlite3').lstrip('/')}")
    elif settings.VERIFY_DATABASE_URL:
        with apart.working("reach", settings.VERIFY_DATABASE_URL) as work:
            if why := work.answer()["why"]:
                raise Unusable(why)
        yield Place(settings.VERIFY_DATABASE_URL, _new_name())
    elif connection.vendor != "postgresql":
        yield None
    else:
        with _on_our_server() as found:
            yield found


def _new_name() -> str:
    return f"{NAME}{secrets.token_hex(8)}"


# --- SQLite ---


@contextlib.contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    for left in parent.glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError), _locked(left, os.O_RDONLY):
            shutil.rmtree(left)
    folder = parent / f"{FOLDER}{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700, parents=True)
    with _locked(folder, os.O_RDONLY):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(path: Path, flags: int) -> Iterator[None]:
    """Raises BlockingIOError where somebody else has it."""
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


# --- PostgreSQL ---


@contextlib.contextmanager
def _on_our_server() -> Iterator[Place | None]:
    with postgresql.connected() as own:
        cursor = own.cursor()
        # The role's, of which making a database may take longer, and waiting for the trial does.
        cursor.execute(
            "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'idle_session_timeout')"
        )
        cursor.execute(
            "SELECT rolcreatedb OR rolsuper, has_database_privilege(current_database(), 'CREATE') "
            "FROM pg_roles WHERE rolname = current_user"
        )
        may_make_databases, may_make_schemas = cursor.fetchone()
        if may_make_databases:
            with _database(cursor) as name:
                yield Place(apart.address(name))
        elif may_make_schemas:
            yield Place(apart.address(), _new_name())
        else:
            yield None


@contextlib.contextmanager
def _database(cursor: psycopg.Cursor) -> Iterator[str]:
    """Named after the office's own one, in which the lock is held by which another verification knows that it lives."""
    cursor.execute(
        "SELECT left(md5(datname), 8), datcollate, datctype, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    )
    office, collate, ctype, encoding = cursor.fetchone()
    prefix = f"{NAME}{office}_"
    cursor.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'USAGE')", [prefix]
    )
    for (left,) in cursor.fetchall():
        if _lock(cursor, left):
            _drop(cursor, left)
    name = f"{prefix}{secrets.token_hex(8)}"
    _lock(cursor, name)
    try:
        cursor.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
                sql.Identifier(name), sql.Literal(encoding), sql.Literal(collate), sql.Literal(ctype)
            )
        )
        yield name
    finally:
        _drop(cursor, name)


def _lock(cursor: psycopg.Cursor, name: str) -> bool:
    """Until the session ends."""
    cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
    return cursor.fetchone()[0]


def _drop(cursor: psycopg.Cursor, name: str) -> None:
    cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
