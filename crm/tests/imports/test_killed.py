"""A kill at any moment of an import leaves none or all of it: real processes, a real SIGKILL, both databases."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from crm import catalogue
from crm.models import Case, CaseStep, Client, ImportRun, Note, SearchToken
from project.env import ROOT

SAMPLES = Path(__file__).parent / "samples"
# Sees what a write sends: statements, and COPY on PostgreSQL, which Django's hook does not.
CHILD = """
import contextlib, os, signal, sys
import django
django.setup()
import psycopg
from django.core.management import call_command
from django.db import connection

command, file, table = sys.argv[1:]

def kill_after(statement):
    if str(statement).startswith(("INSERT", "COPY")) and f'"{table}"' in str(statement):
        os.kill(os.getpid(), signal.SIGKILL)

def watch(execute, sql, params, many, context):
    done = execute(sql, params, many, context)
    kill_after(sql)
    return done

plain_copy = psycopg.Cursor.copy

@contextlib.contextmanager
def copy(cursor, statement, *args, **kwargs):
    with plain_copy(cursor, statement, *args, **kwargs) as open_copy:
        yield open_copy
    kill_after(statement)

psycopg.Cursor.copy = copy
with connection.execute_wrapper(watch):
    try:
        call_command(command, file)
    finally:
        if table == "after the end":
            os.kill(os.getpid(), signal.SIGKILL)
"""
AFTER_THE_END = "after the end"
MODELS = (Client, Case, CaseStep, SearchToken, Note, ImportRun, Client.history.model, CaseStep.history.model)


@pytest.fixture
def database(transactional_db, tmp_path):
    """(address for another process, how to count the rows of a table there)"""
    catalogue.load()
    if connection.vendor != "sqlite":
        server = connection.settings_dict
        login = f"{server['USER']}:{server['PASSWORD']}" if server["PASSWORD"] else server["USER"]
        return f"postgres://{login}@{server['HOST']}:{server['PORT']}/{server['NAME']}", count_here
    file = tmp_path / "office.sqlite3"
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(file)])

    def count_there(table):
        with contextlib.closing(sqlite3.connect(file)) as copy:
            return copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    return f"sqlite:////{str(file).lstrip('/')}", count_there


def count_here(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return cursor.fetchone()[0]


def run_and_kill(address: str, command: str, file: Path, table: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, command, file, table],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
        capture_output=True,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()


@pytest.mark.parametrize(
    ("command", "file", "tables", "clients"),
    [
        (
            "import_clients",
            "czech_excel_bom.csv",
            ["crm_client", "crm_searchtoken", "crm_case", "crm_casestep", "crm_historicalcasestep", "crm_importrun"],
            7,
        ),
        (
            "import_older_crm",
            "older_crm_dump.json",
            ["crm_client", "crm_casestep", "crm_historicalnote", "crm_importrun"],
            13,
        ),
    ],
)
def test_a_kill_leaves_none_or_all(database, command, file, tables, clients):
    address, count = database
    before = {model: count(model._meta.db_table) for model in MODELS}
    for table in tables:
        run_and_kill(address, command, SAMPLES / file, table)
        assert {model: count(model._meta.db_table) for model in MODELS} == before, table
    run_and_kill(address, command, SAMPLES / file, AFTER_THE_END)
    after = {model: count(model._meta.db_table) for model in MODELS}
    assert (after[Client], after[Case], after[CaseStep], after[ImportRun]) == (clients, clients, 15 * clients, 1)
    assert (after[Client.history.model], after[CaseStep.history.model]) == (clients, 15 * clients)
