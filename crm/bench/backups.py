"""A backup and its way back, by the commands: made, verified by a trial restore, and restored into a new empty database until
somebody has logged in there; beside plain `pg_dump -Fc` and `pg_dump | zstd` of the same database. Of stored files there is
1 GiB at 100,000 clients, which nothing can pack. Memory is of a command with all that it starts, without the database's server."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from django.db import connection
from django.db.backends.postgresql.client import DatabaseClient
from django.urls import reverse
from django.utils import translation
from honcho.environ import parse_procfile

from crm import demo
from crm.backups import postgresql
from crm.bench import office, seal
from crm.bench.measuring import Measured, ran
from crm.models import User
from crm.tests.processes import Browser, Program, free_port, wait_until
from project.env import ROOT

FILE_BYTES, BYTES_A_CLIENT = 2 << 20, (1 << 30) // 100_000
MEGABYTE = 1_000_000
WEB_STARTS_S = 300
ANYBODY = "manager"
PEAK, BACKUP, LOGIN, SIZE = "300 MB", "5 minutes", "15 minutes", "1.1x of pg_dump -Fc and the files"


def run(size: int) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if trouble := _no_tools() or _no_room(folder, size):
            yield Measured("backup", 0, f"not measured: {trouble}")
            return
        stored = _store_files(folder / "office" / "files", size * BYTES_A_CLIENT)
        with _as_in_production():
            env = _environment(folder, DATA_DIR=str(folder / "office"))
            archive = yield from _back_up(env, folder, stored)
            yield from _verify(env, archive)
            yield from _restore(folder, archive)


def _no_tools() -> str:
    with translation.override("en"):
        return postgresql.check_tools()


def _no_room(folder: Path, size: int) -> str:
    """Files lie there, in the archive and restored; the database is dumped twice, and restored with its log."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        needed = 4 * cursor.fetchone()[0] + 3 * size * BYTES_A_CLIENT
    free = shutil.disk_usage(folder).free
    return f"needs {_mb(needed)} of free disk, there are {_mb(free)}" if free < needed else ""


def _mb(count: int) -> str:
    return f"{count / MEGABYTE:,.0f} MB"


def _store_files(folder: Path, wanted: int) -> int:
    """Returns their bytes."""
    documents = folder / "documents"
    documents.mkdir(parents=True)
    count = -(-wanted // FILE_BYTES)
    for number in range(count):
        (documents / f"{number:06}.pdf").write_bytes(os.urandom(FILE_BYTES))
    return count * FILE_BYTES


@contextlib.contextmanager
def _as_in_production() -> Iterator[None]:
    """Which refuses the demo's people; the office grows by them."""
    people = User.objects.filter(pk__in=list(User.objects.filter(is_demo=True).values_list("pk", flat=True)))
    people.update(is_demo=False)
    try:
        yield
    finally:
        people.update(is_demo=True)


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    """Of a command, or of the web process: the bench's own settings, and of this machine's nothing about backups."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return os.environ | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": str(ROOT),
        "BACKUP_DIR": str(folder / "backups"),
        "BACKUP_KEY": "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
        "AUDIT_KEY": seal.KEY,
        **dict.fromkeys(("AUDIT_ANCHOR", "VERIFY_DATABASE_URL", "ADMIN_EMAIL", "RUN_WORKER_IN_WEB"), ""),
        **variables,
    }


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


# --- Out ---


def _back_up(env: dict[str, str], folder: Path, stored: int) -> Iterator[Measured]:
    """Returns the archive."""
    made = ran(_manage("backup"), env)
    [archive] = (folder / "backups").glob("*.hdbk")
    yield Measured("backup", made.seconds, f"{made.seconds:.1f} s", BACKUP)
    yield Measured("backup, peak memory", made.peak_mb, f"{made.peak_mb:.0f} MB", PEAK)
    custom, custom_s = _dump_custom(folder / "plain.dump")
    zipped = _dump_zstd(folder / "plain.sql.zst")
    size = archive.stat().st_size
    ratio = size / (custom + stored)
    text = f"{_mb(size)}, {ratio:.3f}x of pg_dump -Fc and the files' {_mb(stored)}"
    if zipped:
        text += f", {size / (zipped[0] + stored):.3f}x of pg_dump to zstd and the files"
    yield Measured("backup, its size", ratio, text, SIZE)
    yield Measured("pg_dump -Fc, without the files", custom_s, f"{custom_s:.1f} s, {_mb(custom)}")
    told = f"{zipped[1]:.1f} s, {_mb(zipped[0])}" if zipped else "zstd is missing: apt-get install zstd"
    yield Measured("pg_dump to zstd, without the files", zipped[1] if zipped else 0, told)
    return archive


def _dump_custom(target: Path) -> tuple[int, float]:
    """Bytes and seconds."""
    command, env = _pg_dump("--format=custom", f"--file={target}")
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    return target.stat().st_size, time.perf_counter() - start


def _dump_zstd(target: Path) -> tuple[int, float] | None:
    """Bytes and seconds; None where the program is missing. One thread, its level 3, as it comes."""
    if shutil.which("zstd") is None:
        return None
    command, env = _pg_dump()
    start = time.perf_counter()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as dump, target.open("wb") as out:
        subprocess.run(["zstd", "--quiet", "--stdout"], stdin=dump.stdout, stdout=out, check=True)
    if dump.returncode:
        raise RuntimeError(f"pg_dump ended with {dump.returncode}")
    return target.stat().st_size, time.perf_counter() - start


def _pg_dump(*options: str) -> tuple[list[str], dict[str, str]]:
    """No password on the command line."""
    command, env = DatabaseClient.settings_to_cmd_args_env(connection.settings_dict, [*options])
    return ["pg_dump", *command[1:]], os.environ | (env or {})


def _verify(env: dict[str, str], archive: Path) -> Iterator[Measured]:
    done = ran(_manage("verify_backup", str(archive), "--restore"), env)
    if "verified: restored" not in done.said:
        raise RuntimeError(done.said)
    yield Measured("verify_backup --restore", done.seconds, f"{done.seconds:.1f} s, {done.said.splitlines()[-1]}")
    yield Measured("verify_backup --restore, peak memory", done.peak_mb, f"{done.peak_mb:.0f} MB", PEAK)


# --- Back ---


def _restore(folder: Path, archive: Path) -> Iterator[Measured]:
    """As the README's runbook has it, up to somebody's day on the screen."""
    with office.database("_restored") as address:
        env = _environment(folder, DATA_DIR=str(folder / "restored"), DATABASE_URL=address)
        start = time.perf_counter()
        done = ran(_manage("restore", str(archive)), env)
        ran(_manage("release"), env)
        _log_in(env, folder)
        taken = time.perf_counter() - start
    if _sizes(folder / "restored" / "files") != _sizes(folder / "office" / "files"):
        raise RuntimeError("The restored files are other ones.")
    yield Measured("restore", done.seconds, f"{done.seconds:.1f} s")
    yield Measured("restore, peak memory", done.peak_mb, f"{done.peak_mb:.0f} MB", PEAK)
    yield Measured("restore to a login", taken, f"{taken:.1f} s from the command to My day", LOGIN)


def _log_in(env: dict[str, str], folder: Path) -> None:
    port, procfile = free_port(), parse_procfile((ROOT / "Procfile").read_text())
    env = env | {"BIND": "127.0.0.1", "PORT": str(port), "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    login, day = reverse("admin:login"), reverse("admin:index")
    with Program(procfile.processes["web"], cwd=folder, env=env) as web:
        wait_until(lambda: _answers(port) or web.process.poll() is not None, within_s=WEB_STARTS_S)
        browser = Browser(port, Host="testserver", X_Forwarded_Proto="https").get(login)
        browser.submit(login, username=ANYBODY, password=demo.PASSWORD)
        if browser.status != 302 or browser.get(day).status != 200:
            raise RuntimeError(f"No login: {browser.status}\n{web.output}")


def _answers(port: int) -> bool:
    try:
        return Browser(port).get("/healthz").status == 200
    except OSError:
        return False


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
