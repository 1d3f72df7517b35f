import os
import subprocess
import sys

import pytest
from django.db import connection

from crm.bench.measuring import Measured, table
from project.env import ROOT


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "postgresql", reason="the benchmarks run on PostgreSQL")
def test_a_quick_run_measures_every_scenario_and_drops_its_database(db):
    server = connection.settings_dict
    login = f"{server['USER']}:{server['PASSWORD']}" if server["PASSWORD"] else server["USER"]
    address = f"postgres://{login}@{server['HOST']}:{server['PORT']}/postgres"
    bench = subprocess.Popen(
        [sys.executable, "-m", "crm.bench", "--quick", "--once"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed, errors = bench.communicate(timeout=600)
    assert bench.returncode == 0, errors
    for line in (
        "list of clients",
        "case page",
        "search: whole e-mail",
        "import of full rows, csv",
        "export clients, xlsx",
    ):
        assert f"| {line} |" in printed
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [f"hypodesk_bench_{bench.pid}"])
        assert cursor.fetchone() == (0,)


def test_an_unknown_scenario_is_refused():
    found = subprocess.run(
        [sys.executable, "-m", "crm.bench", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "nonsense" in found.stderr


def test_the_table_compares_the_largest_size_with_the_smallest():
    found = {1000: [Measured("page", 20, "20 ms", "1.5x")], 100_000: [Measured("page", 25, "25 ms", "1.5x")]}
    assert table(found).splitlines() == [
        "| | 1,000 clients | 100,000 clients | last / first | goal |",
        "|---|---|---|---|---|",
        "| page | 20 ms | 25 ms | 1.25x | 1.5x |",
    ]


def test_what_was_measured_at_one_size_only_has_no_ratio():
    found = {1000: [], 100_000: [Measured("import", 900, "900 rows/s")]}
    assert table(found).splitlines()[-1] == "| import |  | 900 rows/s |  |  |"
