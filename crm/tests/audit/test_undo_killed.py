"""A kill in the middle of an undo leaves all or nothing: real processes, a real SIGKILL, both databases."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from crm import catalogue, imports
from crm.models import Case, CaseStep, Client, SearchToken
from crm.tests.imports.test_killed import count_here
from project.env import ROOT

SAMPLE = Path(__file__).parent.parent / "imports" / "samples" / "czech_excel.csv"
CHILD = """
import os, signal, sys, uuid
import django
django.setup()
from django.db import connection
from crm.audit import undo

def watch(execute, sql, params, many, context):
    done = execute(sql, params, many, context)
    if str(sql).startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return done

with connection.execute_wrapper(watch):
    undo.undo(uuid.UUID(sys.argv[1]), None)
"""
MODELS = (Client, Case, CaseStep, SearchToken, Client.history.model, CaseStep.history.model)


@pytest.mark.django_db(transaction=True)
def test_a_kill_in_the_middle_of_an_undo_leaves_all_or_nothing(tmp_path):
    catalogue.load()
    run = imports.write(imports.check(SAMPLE.read_bytes(), SAMPLE.name, None), None)
    server, count = connection.settings_dict, count_here
    if connection.vendor == "sqlite":
        file = tmp_path / "office.sqlite3"
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(file)])
        address = f"sqlite:////{str(file).lstrip('/')}"

        def count(table):
            with contextlib.closing(sqlite3.connect(file)) as copy:
                return copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    else:
        login = f"{server['USER']}:{server['PASSWORD']}" if server["PASSWORD"] else server["USER"]
        address = f"postgres://{login}@{server['HOST']}:{server['PORT']}/{server['NAME']}"

    def undo_and_kill(at: str) -> int:
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(run.operation_id), at],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
            capture_output=True,
            timeout=120,
        ).returncode

    before = {model: count(model._meta.db_table) for model in MODELS}
    for at in ('DELETE FROM "crm_casestep"', 'INSERT INTO "crm_historicalcase"', 'DELETE FROM "crm_client"'):
        assert undo_and_kill(at) == -signal.SIGKILL, at
        assert {model: count(model._meta.db_table) for model in MODELS} == before, at
    assert undo_and_kill("nothing is written so") == 0
    after = {model: count(model._meta.db_table) for model in MODELS}
    assert (after[Client], after[Case], after[CaseStep], after[SearchToken]) == (0, 0, 0, 0)
    assert after[Client.history.model] == 2 * before[Client.history.model]
