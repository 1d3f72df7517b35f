import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from django.db import connection

from crm.backups import postgresql
from crm.bench import backups
from crm.bench.measuring import Measured, memory_mb, ran, table, together_mb
from project.env import ROOT

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="the benchmarks run on PostgreSQL")


def run(*arguments: str, **environment: str) -> tuple[str, int]:
    """What it printed, and its process."""
    server = connection.settings_dict
    login = f"{server['USER']}:{server['PASSWORD']}" if server["PASSWORD"] else server["USER"]
    address = f"postgres://{login}@{server['HOST']}:{server['PORT']}/postgres"
    bench = subprocess.Popen(
        [sys.executable, "-m", "crm.bench", *arguments, "--once"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": address} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed, errors = bench.communicate(timeout=1800)
    assert bench.returncode == 0, errors
    return printed, bench.pid


def databases_of(process: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE starts_with(datname, %s)", [f"hypodesk_bench_{process}"])
        return cursor.fetchone()[0]


@pytest.mark.slow
@on_postgresql
def test_a_quick_run_measures_every_scenario_and_drops_its_databases(db):
    printed, process = run("--quick")
    for line in (
        "list of clients",
        "case page",
        "search: whole e-mail",
        "import of full rows, csv",
        "export clients, xlsx",
        "backup",
        "restore to a login",
    ):
        assert f"| {line} |" in printed
    assert databases_of(process) == 0


@pytest.mark.slow
@on_postgresql
def test_backups_are_measured_without_zstd_and_leave_nothing_behind(db, tmp_path):
    programs, temporary = tmp_path / "programs", tmp_path / "temporary"
    programs.mkdir()
    temporary.mkdir()
    (programs / "pg_dump").symlink_to(shutil.which("pg_dump"))
    printed, process = run("backups", "--sizes", "300", PATH=str(programs), TMPDIR=str(temporary))
    assert "zstd is missing: apt-get install zstd" in printed
    assert "verified: restored and compared" in printed
    assert "| restore to a login |" in printed
    assert databases_of(process) == 0
    assert not list(temporary.iterdir())


@on_postgresql
def test_without_pg_dump_or_room_backups_are_not_measured_and_it_says_why(db, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(postgresql, "_tool_version", lambda: None)
        [row] = backups.run(100)
        assert "not measured: pg_dump is missing" in row.text
    disk = namedtuple("disk", "total used free")(9, 9, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    [row] = backups.run(100)
    assert "of free disk, there are 0 MB" in row.text


def test_the_memory_of_a_process_is_counted_with_what_its_threads_started():
    child = "held = b'x' * (64 << 20); print('held', flush=True); import sys; sys.stdin.read()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    thread = f"import threading; threading.Thread(target=exec, args=[{start!r}]).start()"
    with subprocess.Popen(
        [sys.executable, "-c", thread], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        own, together = memory_mb(process.pid, "VmRSS"), together_mb(process.pid)
    assert 0 < own < 64 < together
    assert memory_mb(process.pid, "VmRSS") == together_mb(process.pid) == 0


def test_a_command_that_fails_is_told_with_what_it_said():
    with pytest.raises(RuntimeError, match="no such office"):
        ran([sys.executable, "-c", "import sys; sys.exit('no such office')"], dict(os.environ))


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
