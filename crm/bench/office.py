"""The database that is measured: made, filled by the demo's bulk path, dropped."""

import contextlib
import os
from collections.abc import Iterator

import psycopg
from psycopg import conninfo, sql

DEFAULT_SERVER = "postgres://postgres@127.0.0.1:5432/postgres"


@contextlib.contextmanager
def database(suffix: str = "") -> Iterator[str]:
    """The address of an empty database of this process, on the server of DATABASE_URL."""
    server = os.environ.get("DATABASE_URL") or DEFAULT_SERVER
    if not server.startswith(("postgres://", "postgresql://")):
        server = DEFAULT_SERVER
    name = f"hypodesk_bench_{os.getpid()}{suffix}"
    with psycopg.connect(conninfo.make_conninfo(server, dbname="postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{server.partition('?')[0].rpartition('/')[0]}/{name}"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def build() -> None:
    from django.core.management import call_command
    from django.test import override_settings

    from crm import demo

    call_command("migrate", verbosity=0)
    with override_settings(DEBUG=True):  # the demo refuses production; this database lives for minutes
        demo.load(1)


def grow_to(size: int) -> float:
    """Adds clients up to `size`; returns how many it wrote a second."""
    import time

    from django.db import connection
    from django.utils import timezone

    from crm import demo
    from crm.models import Client

    start = time.perf_counter()
    written = demo.grow(size - Client.objects.count(), now=timezone.now())
    seconds = time.perf_counter() - start
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return written / seconds
