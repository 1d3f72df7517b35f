"""Imports of one file at one time: whoever comes second finds the rows there and adds nothing."""

import os
import subprocess
import sys

import pytest

from crm import catalogue, imports
from crm.imports import older_crm, runs
from crm.models import Case, Client, Note
from crm.tests.factories import make_catalogue, make_client
from crm.tests.imports.test_killed import SAMPLES, database  # noqa: F401 - a fixture
from crm.tests.imports.workbooks import csv
from project.env import ROOT

# Waits between check and write until the other process is there as well.
CHILD = """
import sys, time
from pathlib import Path
import django
django.setup()
from django.core.management import call_command
from crm.imports import writing

command, file, meeting, own = sys.argv[1:]
plain = writing.take_turn

def take_turn(plan):
    plain(plan)
    time.sleep(0.5)  # long enough for the other to come in, where nothing keeps it out

import crm.imports as imports
from crm.imports import older_crm
writing.take_turn = older_crm.take_turn = take_turn
for module in (imports, older_crm):
    def check(*args, plain_check=module.check, **kwargs):
        plan = plain_check(*args, **kwargs)
        (Path(meeting) / own).touch()
        while len(list(Path(meeting).iterdir())) < 2:
            time.sleep(0.02)
        return plan
    module.check = check
call_command(command, file)
"""


@pytest.fixture
def _steps(db):
    make_catalogue()


@pytest.mark.parametrize(
    ("command", "sample", "clients"),
    [("import_clients", "czech_excel_bom.csv", 7), ("import_older_crm", "older_crm_dump.json", 13)],
)
def test_two_imports_at_once_write_each_row_once(database, tmp_path, command, sample, clients):  # noqa: F811
    address, count = database
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, command, SAMPLES / sample, meeting, own],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in ("one", "other")
    ]
    said = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [2, 2], said  # both samples have rows that are refused
    created = sorted(int(out.splitlines()[-1].split()[2]) for out, _err in said)
    assert (created, count("crm_client"), count("crm_case")) == ([0, clients], clients, clients)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        (["jmeno", "datum"], ["Alice", "1.2.2025"]),
        (["reference", "full name", "e-mail"], ["", "Alice", "alice@example.com"]),
        (["legacy_id", "full name"], ["102", "Alice"]),
    ],
)
def test_a_plan_made_before_another_import_is_made_again(_steps, header, cells):
    content = csv(cells, header=header)
    plans = [imports.check(content, "x.csv") for _each in range(2)]
    runs = [imports.write(plan) for plan in plans]
    assert [(run.created_count, run.skipped_count) for run in runs] == [(1, 0), (0, 1)]
    assert (Client.objects.count(), plans[1].skipped) == (1, 1)


def test_a_case_of_a_client_goes_in_once(_steps):
    client = make_client("Alice")
    content = csv(["", client.reference, "1.2.2025"], header=["reference", "client", "opened on"])
    plans = [imports.check(content, "x.csv") for _each in range(2)]
    assert [imports.write(plan).created_count for plan in plans] == [1, 0]
    assert client.cases.count() == 1


def test_a_file_confirmed_while_a_command_imports_it_goes_in_once(_steps, manager, monkeypatch):
    content = csv(["Alice", "1.2.2025"], header=["jmeno", "datum"])
    run = imports.begin(content, "x.csv", manager)
    check_file = runs.check_file

    def check_and_be_overtaken(*args, **kwargs):
        plan = check_file(*args, **kwargs)
        imports.write(imports.check(content, "x.csv"))
        return plan

    monkeypatch.setattr(runs, "check_file", check_and_be_overtaken)
    with pytest.raises(runs.ChangedMeanwhile):
        imports.confirm(run, manager)
    monkeypatch.undo()
    run = imports.confirm(run, manager)
    assert (run.created_count, run.skipped_count, Client.objects.count()) == (0, 1, 1)


def test_a_dump_planned_before_another_import_of_it_adds_nothing(db):
    catalogue.load()
    content = (SAMPLES / "older_crm_dump.json").read_bytes()
    plans = [older_crm.check(content, "dump.json") for _each in range(2)]
    runs = [older_crm.write(plan) for plan in plans]
    assert [(run.created_count, run.skipped_count) for run in runs] == [(13, 0), (0, 13)]
    assert (Client.objects.count(), Case.objects.count(), Note.objects.count()) == (13, 13, 5)
