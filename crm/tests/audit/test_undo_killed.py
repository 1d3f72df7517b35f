"""A kill in the middle of an undo leaves all or nothing, and the job of a large one is begun again: real processes, a real
SIGKILL, both databases."""

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
from crm.audit import undo_runs
from crm.models import AuditEntry, Case, CaseStep, Client, SearchToken
from crm.tests.imports.test_killed import count_here
from project.env import ROOT

SAMPLE = Path(__file__).parent.parent / "imports" / "samples" / "czech_excel.csv"
CHILD = """
import datetime, os, signal, sys, uuid
import django
django.setup()
from django.db import connection
from django.utils import timezone
from crm import jobs, tasks
from crm.audit import undo
from crm.models import JobRun

what, number, at = sys.argv[1:]

def watch(execute, sql, params, many, context):
    done = execute(sql, params, many, context)
    if str(sql).startswith(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return done

with connection.execute_wrapper(watch):
    if what == "operation":
        undo.undo(uuid.UUID(number), None)
    else:
        jobs.sweep(timezone.now() + datetime.timedelta(hours=1))
        JobRun.objects.update(due_at=timezone.now())
        jobs.carry_out(int(number), tasks.JOBS)
"""
AT = ('DELETE FROM "crm_casestep"', 'INSERT INTO "crm_historicalcase"', 'DELETE FROM "crm_client"')
MODELS = (Client, Case, CaseStep, SearchToken, Client.history.model, CaseStep.history.model, AuditEntry)


@pytest.fixture
def office(transactional_db, tmp_path):
    """(how another process undoes an operation or runs a job there, how to count the rows of a table there)"""
    server, count = connection.settings_dict, count_here
    login = f"{server['USER']}:{server['PASSWORD']}" if server["PASSWORD"] else server["USER"]
    file = tmp_path / "office.sqlite3"
    address = f"postgres://{login}@{server['HOST']}:{server['PORT']}/{server['NAME']}"
    if connection.vendor == "sqlite":
        address = f"sqlite:////{str(file).lstrip('/')}"

        def count(table):
            with contextlib.closing(sqlite3.connect(file)) as copy:
                return copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def run(what: str, number: object, at: str) -> int:
        if connection.vendor == "sqlite" and not file.exists():
            with connection.cursor() as cursor:
                cursor.execute("VACUUM INTO %s", [str(file)])
        return subprocess.run(
            [sys.executable, "-c", CHILD, what, str(number), at],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
            capture_output=True,
            timeout=120,
        ).returncode

    return run, lambda: {model: count(model._meta.db_table) for model in MODELS}


@pytest.fixture
def imported(transactional_db, manager):
    catalogue.load()
    run = imports.write(imports.check(SAMPLE.read_bytes(), SAMPLE.name, manager), manager)
    wrote = (Client, Case, CaseStep, SearchToken, Client.history.model, CaseStep.history.model)
    return run.operation_id, {model: model.objects.count() for model in wrote}


def undone(wrote: dict, after: dict) -> bool:
    gone = all(after[model] == 0 for model in (Client, Case, CaseStep, SearchToken))
    return gone and after[Client.history.model] == 2 * wrote[Client.history.model]


def test_a_kill_in_the_middle_of_an_undo_leaves_all_or_nothing(imported, office):
    (operation_id, wrote), (run, counts) = imported, office
    before = None
    for at in AT:
        assert run("operation", operation_id, at) == -signal.SIGKILL, at
        before = before or counts()
        assert {model: before[model] for model in wrote} == wrote
        assert counts() == before, at
    assert run("operation", operation_id, "nothing is written so") == 0
    assert undone(wrote, counts())


def test_a_job_that_was_killed_has_put_nothing_back_and_is_begun_again(imported, office, manager):
    (operation_id, wrote), (run, counts) = imported, office
    job = undo_runs.order(operation_id, manager).job_id
    before = None
    for at in AT[1:]:
        assert run("job", job, at) == -signal.SIGKILL, at
        before = before or counts()
        assert {model: before[model] for model in wrote} == wrote
        assert counts() == before, at
    assert run("job", job, "nothing is written so") == 0
    assert undone(wrote, counts())
    assert run("job", job, "nothing is written so") == 0
    assert counts()[AuditEntry] == before[AuditEntry] + 1
