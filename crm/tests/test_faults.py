"""Three rounds of each fault on the database under test, with short patience; `make faults` has the full counts, which
docs/faults.md shows."""

import os
import subprocess
import sys

import pytest
from django.db import connection

from crm.faults.__main__ import FAULTS
from crm.faults.desk import GOAL_S, Desk, Found
from crm.faults.importing import Counted
from project.env import ROOT

ROUNDS = 3


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_done_twice(name, tmp_path):
    fault = FAULTS[name]
    if missing := fault.missing(connection.vendor):
        pytest.skip(f"needs {missing}; .ci/run has it")
    found = fault.run(Desk(tmp_path), ROUNDS)
    assert found.is_met, found


@pytest.mark.parametrize(
    "found", [Found(3, lost=1), Found(3, doubled=1), Found(3, slowest_s=GOAL_S + 1), Found(3, wrong=("kept",))]
)
def test_what_is_not_as_promised_is_not_met(found):
    assert Found(3, slowest_s=GOAL_S - 1).is_met and not found.is_met


IMPORTED = {
    "crm_client": 2, "crm_case": 2, "crm_casestep": 30, "crm_searchtoken": 9, "crm_step": 15,
    "crm_historicalclient": 2, "crm_historicalcase": 2, "crm_historicalcasestep": 30,
}  # fmt: skip


@pytest.mark.parametrize("table", [name for name in IMPORTED if name != "crm_step"])
def test_an_import_without_some_rows_of_any_table_is_not_whole(table):
    assert Counted(IMPORTED).is_whole
    assert not Counted(IMPORTED | {table: IMPORTED[table] - 1 if table != "crm_searchtoken" else 0}).is_whole
    assert Counted(dict.fromkeys(IMPORTED, 0) | {"crm_step": 15}).is_whole
    assert not Counted(dict.fromkeys(IMPORTED, 0) | {"crm_step": 15, table: 1}).is_whole


def test_an_unknown_fault_is_refused():
    found = subprocess.run(
        [sys.executable, "-m", "crm.faults", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2 and "nonsense" in found.stderr


def test_a_fault_asked_for_by_name_that_cannot_be_run_here_is_no_success():
    found = subprocess.run(
        [sys.executable, "-m", "crm.faults", "database"],
        cwd=ROOT, env=os.environ | {"DATABASE_URL": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1 and "not run: needs PostgreSQL" in found.stdout
