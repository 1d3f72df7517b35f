"""What the database really holds, past every field and model; and processes of their own with an environment of their own."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import uuid

import psycopg
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import connection
from encrypted_model_fields import fields as plain

ROOT = settings.BASE_DIR
IS_POSTGRES = connection.vendor == "postgresql"
# None is derived from another and none is the suite's own.
KEYS = {
    "SECRET_KEY": "b7Q-own-process-secret-key-X93kfjw02LmzPq84vTyUeRi",
    "SEARCH_KEY": "w5Z-own-process-search-key-N17cbxs86HgdKa39oJuYtEr",
    "FIELD_ENCRYPTION_KEY": "8f1d2c3b4a59687706f5e4d3c2b1a0998877665544332211f0e1d2c3b4a59687",
}


def stored(item, name: str):
    """The bytes of one column, as the database gives them."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{name}" FROM "{item._meta.db_table}" WHERE "{item._meta.pk.column}" = %s', [item.pk])
        return cursor.fetchone()[0]


def tamper(item, name: str, value) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "{item._meta.db_table}" SET "{name}" = %s WHERE "{item._meta.pk.column}" = %s', [value, item.pk]
        )


@contextlib.contextmanager
def keys(*used: bytes):
    """The field keys are read once, at import: this changes them for a while."""
    before = plain.CRYPTER
    plain.CRYPTER = MultiFernet([Fernet(key) for key in used])
    try:
        yield
    finally:
        plain.CRYPTER = before


class Database:
    """An empty database of its own, for whole processes: SQLite in a folder, PostgreSQL where the suite runs on it."""

    def __init__(self, folder):
        self.name = f"hypodesk_own_{uuid.uuid4().hex[:12]}"
        self.file = folder / "own.sqlite3"
        if IS_POSTGRES:
            with self._maintenance() as server:
                server.execute(f"CREATE DATABASE {self.name}")

    def _maintenance(self):
        return psycopg.connect(autocommit=True, **(self._address() | {"dbname": "postgres"}))

    def _address(self) -> dict:
        known = connection.settings_dict
        given = {"host": known["HOST"], "port": known["PORT"], "user": known["USER"], "password": known["PASSWORD"]}
        return {name: value for name, value in given.items() if value} | {"dbname": self.name}

    @property
    def url(self) -> str:
        if not IS_POSTGRES:
            return f"sqlite:///{self.file}"
        known = self._address()
        password = f":{known['password']}" if "password" in known else ""
        return f"postgres://{known['user']}{password}@{known.get('host', '')}:{known.get('port', 5432)}/{self.name}"

    def connect(self):
        return psycopg.connect(**self._address()) if IS_POSTGRES else sqlite3.connect(self.file)

    def rows(self) -> dict[str, list]:
        """Every row of every table."""
        names = (
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            if IS_POSTGRES
            else "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        with contextlib.closing(self.connect()) as server:
            tables = [name for (name,) in server.execute(names).fetchall()]
            return {
                name: sorted(map(repr, server.execute(f'SELECT * FROM "{name}"').fetchall())) for name in sorted(tables)
            }

    def drop(self) -> None:
        if IS_POSTGRES:
            with self._maintenance() as server:
                server.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


def environment(**changes: str | None) -> dict[str, str]:
    """Of this machine only what a process needs to start; a change to None takes a variable away."""
    base = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")
        if name in os.environ
    }
    base |= {"ENV_FILE": "", "SITE_URL": "https://office.example.com", "PYTHONPATH": str(ROOT), **KEYS}
    return {name: value for name, value in (base | changes).items() if value is not None}


def run(*arguments: str, cwd=ROOT, env: dict, timeout: float = 60) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
