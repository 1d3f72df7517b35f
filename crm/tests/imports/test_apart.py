"""Long files are read in a process of their own: it gives what reading gives here, and whatever becomes of it is told."""

import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest
from django.utils import translation

from crm import catalogue, imports, jobs, tasks
from crm.imports import apart, reading, runs, scratch
from crm.imports.problems import UnusableFile
from crm.imports.shelf import CellError, Uncomputed
from crm.models import ImportRun, User
from crm.tests.imports.corpus import CORPUS, MEGABYTE
from crm.tests.imports.workbooks import NINE, csv, with_sheet, xlsx
from crm.tests.processes import wait_until

NASTIEST = (
    "0 bytes", "200 MB", "any bytes", "quotes never closed", "a million columns", "a row beyond the most",
    "a bomb in the sheet", "one part a hundred times", "a cell at the far corner", "a million columns without a place",
    "a text of megabytes, named often", "flipped bytes", "the first four bytes of a workbook", "a password",
    "a sheet that is no XML",
)  # fmt: skip


def pieces(content: bytes, size: int = MEGABYTE):
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.fixture
def processes(monkeypatch):
    """Those that were started."""
    found, real = [], subprocess.Popen

    def start(*args, **kwargs):
        found.append(real(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(apart.subprocess, "Popen", start)
    return found


def same(one: reading.Sheet, other: reading.Sheet) -> bool:
    cells = [[row.cells for row in sheet.rows] for sheet in (one, other)]
    kinds = [[type(cell) for row in rows for cell in row] for rows in cells]
    rest = [
        (sheet.header, [row.number for row in sheet.rows], sheet.notices, sheet.source, sheet.cut_row, sheet.sheets)
        for sheet in (one, other)
    ]
    return repr(cells[0]) == repr(cells[1]) and kinds[0] == kinds[1] and rest[0] == rest[1]


def test_a_text_of_many_blocks_is_what_it_is_here():
    content = csv(*(["Žaneta \x07", f"{number}.2.2025"] for number in range(1, 1203)), header=["jmeno", "datum"])
    content = content.removesuffix(b"\r\n").removesuffix(b"25") + b"\r\nJan"
    assert same(apart.read(lambda: pieces(content, 1000), "x.csv"), reading.read(content, "x.csv"))
    assert apart.read(lambda: pieces(content), "x.csv").cut_row == 1204


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1250", "iso8859-2"])
def test_letters_are_found_out_over_all_pieces(encoding):
    rows = [["Alice", "1.2.2025"]] * 1_500 + [["Žaneta", "2.2.2025"]]
    content = csv(*rows, header=["jmeno", "datum"], encoding=encoding)
    assert same(apart.read(lambda: pieces(content, 997), "x.csv"), reading.read(content, "x.csv"))


def test_a_workbook_keeps_the_types_of_its_cells():
    moments = (datetime.datetime(2025, 5, 28, 10, 30), datetime.time(8, 15), datetime.timedelta(hours=30))
    content = xlsx(
        NINE, ("Alice", datetime.date(2025, 5, 28), None, 1.5, True, "=TODAY()", *moments), sheets={"Další": [["x"]]}
    )
    found = apart.read(lambda: pieces(content), "x.xlsx")
    assert same(found, reading.read(content, "x.xlsx")) and found.sheets


def test_an_error_cell_stays_one():
    rows = (
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>jmeno</t></is></c></row>'
        b'<row r="2"><c r="A2" t="e"><v>#REF!</v></c><c r="B2"><f>1+1</f></c></row>'
    )
    found = apart.read(lambda: [with_sheet(xlsx(NINE), rows)], "x.xlsx")
    assert [type(cell) for row in found.rows for cell in row.cells] == [CellError, Uncomputed]


@pytest.mark.parametrize("title", NASTIEST)
def test_the_nastiest_files_are_refused_in_the_same_words(title):
    file = CORPUS[title]
    with pytest.raises(UnusableFile) as refused:
        apart.read(lambda: pieces(file.make()), file.name)
    assert file.refused in str(refused.value)


def test_a_refusal_is_in_the_readers_language():
    with translation.override("cs"), pytest.raises(UnusableFile) as refused:
        apart.read(lambda: [b""], "x.csv")
    with translation.override("cs"), pytest.raises(UnusableFile) as here:
        reading.read(b"", "x.csv")
    assert str(refused.value) == str(here.value) and "The file" not in str(refused.value)


def test_it_loads_no_models_no_keys_and_no_database():
    code = "import sys, crm.imports.apart as apart; apart._prepare(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=apart.ROOT, env={}, stdout=subprocess.PIPE, check=True)
    loaded = set(run.stdout.decode().split())
    assert "crm.imports.workbook" in loaded
    assert not {"crm.models", "crm.encryption", "crm.search", "psycopg", "sqlite3", "project.settings"} & loaded


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_is_given_no_secret_and_lives_under_limits(processes, monkeypatch):
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", "geheim")
    seen = {}

    def feed():
        folder = Path(f"/proc/{processes[0].pid}")
        wait_until(lambda: "1073741824" in (folder / "limits").read_text(), within_s=20)
        seen.update({name: (folder / name).read_text() for name in ("environ", "cmdline", "limits")})
        yield csv(["Alice"])

    apart.read(feed, "Žaneta Nováková.csv")
    names = {line.partition("=")[0] for line in seen["environ"].split("\0") if line}
    assert names <= set(apart.ENVIRONMENT) | {"LC_CTYPE"}
    assert "Nov" not in seen["cmdline"]
    limits = {line[:26].strip(): line[26:].split()[0] for line in seen["limits"].splitlines()}
    assert (limits["Max address space"], limits["Max cpu time"], limits["Max open files"]) == (
        "1073741824",
        "120",
        "32",
    )
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")


def test_a_long_text_is_never_whole_in_its_memory(monkeypatch):
    monkeypatch.setattr(apart, "MOST_MEMORY_MB", 200)
    content = csv(*(["x" * 9_000] for _each in range(14_000)), header=["jmeno"])
    assert len(apart.read(lambda: pieces(content), "x.csv").rows) == 14_000


def test_what_needs_more_memory_than_it_gets_is_refused(monkeypatch):
    content = csv(["x" * 90_000] * 900, header=["jmeno"])
    assert len(apart.read(lambda: pieces(content), "x.csv").rows) == 1
    monkeypatch.setattr(apart, "MOST_MEMORY_MB", 200)
    with pytest.raises(UnusableFile, match="needs more memory"):
        apart.read(lambda: pieces(content), "x.csv")


def test_what_takes_too_much_of_the_processor_is_refused(monkeypatch):
    monkeypatch.setattr(apart, "MOST_CPU_S", 1)
    with pytest.raises(UnusableFile, match="takes too long"):
        apart.read(lambda: pieces(csv(*([["x" * 20] * 20] * 250_000), header=["x"] * 20)), "x.csv")


def test_what_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(apart, "MOST_S", 0.05)
    with pytest.raises(UnusableFile, match="takes too long"):
        apart.read(lambda: pieces(csv(["Alice"])), "x.csv")


@pytest.mark.parametrize("fed", [0, 1, 30])
def test_a_process_that_is_killed_is_told_wherever_it_was(processes, fed):
    def feed():
        for number in range(40):
            if number == fed:
                processes[0].kill()
            yield b"jmeno\r\n" * 100_000

    with pytest.raises(UnusableFile, match="could not be read to its end"):
        apart.read(feed, "x.csv")
    assert processes[0].returncode == -signal.SIGKILL


def test_no_process_is_left_where_the_pieces_fail(processes):
    def feed():
        yield b"jmeno\r\n"
        raise jobs.Interrupted()

    with pytest.raises(jobs.Interrupted):
        apart.read(feed, "x.csv")
    assert processes[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a child with its parent")
def test_a_killed_worker_leaves_no_orphan():
    code = """
import sys, time, django
django.setup()
from crm.imports import apart
real = apart.subprocess.Popen
def start(*args, **kwargs):
    child = real(*args, **kwargs)
    time.sleep(1)  # it has asked to end with its parent by then
    print(child.pid, flush=True)
    return child
apart.subprocess.Popen = start
apart.read(lambda: iter(lambda: time.sleep(0.1) or b"x", None), "x.csv")
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=apart.ROOT, env=environment, stdout=subprocess.PIPE
    ) as worker:
        child = int(worker.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        worker.kill()
    assert wait_until(lambda: not Path(f"/proc/{child}").exists(), within_s=60)


# --- The job that reads so ---


@pytest.fixture
def long_file(db, manager, monkeypatch) -> ImportRun:
    catalogue.load()
    User.objects.update(language="en")
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 1)
    manager.refresh_from_db()
    return imports.begin(csv(["Alice", "1.2.2026"], ["Bob", "2.2.2026"], header=["jmeno", "datum"]), "x.csv", manager)


def work(run: ImportRun) -> ImportRun:
    jobs.carry_out(run.job_id, tasks.JOBS)
    return ImportRun.objects.select_related("job", "user").get(pk=run.pk)


def test_a_job_reads_in_a_process_of_its_own(long_file, processes):
    run = work(long_file)
    assert (run.state, run.rows, len(processes)) == ("checked", 2, 1)
    assert work(imports.confirm(run, run.user)).created_count == len(processes) == 2


def test_what_a_job_lays_on_a_disk_has_no_name_and_cannot_be_read(long_file, monkeypatch, tmp_path):
    files, real = [], tempfile.TemporaryFile

    def make(**how):
        file = real(**how)
        files.append(os.dup(file.fileno()))  # the job closes its own
        return file

    monkeypatch.setattr(scratch, "FOLDER", tmp_path)
    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", make)
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    assert work(imports.confirm(work(long_file), long_file.user)).created_count == 2
    assert list(tmp_path.iterdir()) == []
    written = [os.pread(file, MEGABYTE, 0) for file in files]
    assert len(written) == 2 and all(written)  # the cells, of the check and of the write
    for file, each in zip(files, written, strict=True):
        os.close(file)
        with pytest.raises(zlib.error):
            zlib.decompress(each)


def test_a_file_that_no_process_can_read_is_refused_with_words(long_file, monkeypatch):
    monkeypatch.setattr(apart, "MOST_S", 0)
    run = work(long_file)
    [problem] = json.loads(run.problems)
    assert (run.state, run.job.state) == ("failed", "done") and "takes too long" in problem["reason"]


def test_a_file_that_cannot_be_read_again_for_its_write_says_why(long_file, monkeypatch):
    run = imports.confirm(work(long_file), long_file.user)
    monkeypatch.setattr(apart, "MOST_S", 0)
    run = work(run)
    assert (runs.state_of(run), run.job.state) == ("failed", "failed") and "takes too long" in run.job.message
