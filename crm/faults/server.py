"""`kill -9` of PostgreSQL's own main process, of a cluster that is there for it: the worker goes on when the server is back,
and nothing that was committed is lost (fsync is on)."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from django.db import connection

from crm.faults.desk import Desk, Found, address
from crm.tests.processes import free_port, wait_until
from project.run import term_when_parent_dies

# How long it is away.
AWAY_S, AWAY_SHORT_S = 5, 0.5
START_S = 60


def database(desk: Desk, rounds: int) -> Found:
    runs, waited, again = [], [], []
    with cluster() as server, elsewhere(server), desk.worker():
        for number in range(rounds):
            hit = desk.enqueue(f"database {number}", chunks=desk.chunks)
            waiting = desk.enqueue(f"waiting {number}", queue="long")
            desk.begun(hit)
            time.sleep(number % 7 / 10)
            server.kill()
            time.sleep(AWAY_S if desk.is_whole else AWAY_SHORT_S)
            server.start()
            connection.close()
            following = desk.enqueue(f"after database {number}")
            waited.append(desk.seconds_until_done(following))
            again.append(waited[-1] + desk.seconds_until_done(hit, waiting))
            runs += [hit, waiting, following]
        found = desk.tally(runs)
    said = f"counted from the server's return; what was running has ended after {max(again):.0f} s at most"
    return Found(rounds, **found, slowest_s=max(waited), said=said, goal_s=desk.goal_s)


class Server:
    """PostgreSQL refuses to run as root, so there it is postgres' or nobody's."""

    def __init__(self, programs: Path, folder: Path):
        self.programs, self.folder, self.port = programs, folder, free_port()
        self.user = None
        if os.getuid() == 0:
            self.user = next(name for name in ("postgres", "nobody") if _is_user(name))
        self.take(folder)
        self.process: subprocess.Popen | None = None
        self._run("initdb", "--pgdata", "data", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8")

    def take(self, folder: Path) -> None:
        """To be written by it."""
        if self.user:
            shutil.chown(folder, self.user)

    @property
    def address(self) -> str:
        return self.address_of("postgres", "postgres")

    def address_of(self, name: str, login: str) -> str:
        return f"postgres://{login}@127.0.0.1:{self.port}/{name}"

    def ask(self, *statements: str) -> None:
        with psycopg.connect(self.address, autocommit=True) as own:
            for each in statements:
                own.execute(each)

    def want_passwords(self) -> None:
        """Of all but its own user."""
        (self.folder / "data" / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.ask("SELECT pg_reload_conf()")

    def start(self) -> None:
        """A server that was killed leaves processes, which go by themselves; until then it does not start."""
        assert wait_until(self._starts, within_s=START_S), (self.folder / "log").read_text()

    def stand_up(self) -> None:
        """After whatever befell it; who has ended is started again."""
        wait_until(lambda: self._answers() or self.process.poll() is not None, within_s=START_S)
        if self.process.poll() is not None:
            self.start()

    def _starts(self) -> bool:
        command = ["postgres", "-D", "data", "-p", str(self.port), "-k", str(self.folder), "-c", "fsync=on"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [self.programs / command[0], *command[1:]], cwd=self.folder, user=self.user, stdout=log, stderr=log,
                preexec_fn=term_when_parent_dies,
            )  # fmt: skip
        return wait_until(lambda: self._answers() or self.process.poll() is not None, within_s=START_S) and (
            self.process.poll() is None
        )

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.address, connect_timeout=2).close()
            return True
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()

    def fill(self, source: str) -> None:
        """With everything of another database."""
        dump = self._run("pg_dump", "--no-owner", "--dbname", source)
        self._run("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", self.address, input=dump)

    def _run(self, program: str, *arguments: str, **options) -> bytes:
        done = subprocess.run(
            [self.programs / program, *arguments], cwd=self.folder, user=self.user, capture_output=True, check=False,
            **options,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def programs() -> Path | None:
    """Where PostgreSQL's own programs are, of the newest version; not on everybody's path."""
    found = [Path(each).parent for each in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    if asked := shutil.which("pg_config"):
        said = subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
        found += [Path(said)] if (Path(said) / "initdb").exists() else []
    return max(found, key=lambda folder: [int(part) for part in folder.parts if part.isdigit()], default=None)


@contextlib.contextmanager
def cluster() -> Iterator[Server]:
    """With a copy of the database that Django has here."""
    with own_folder() as folder, started(folder) as server:
        server.fill(address())
        yield server


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Where whoever PostgreSQL runs as may go."""
    folder = Path(tempfile.mkdtemp(prefix="hypodesk-cluster-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Server]:
    """An empty one."""
    server = Server(programs(), folder)
    try:
        server.start()
        yield server
    finally:
        if server.process:
            server.kill(signal.SIGQUIT)


@contextlib.contextmanager
def elsewhere(server: Server) -> Iterator[None]:
    """Django's own connection goes to that server meanwhile."""
    known = connection.settings_dict
    before = dict(known)
    connection.close()
    known.update(HOST="127.0.0.1", PORT=server.port, USER="postgres", PASSWORD="", NAME="postgres")
    try:
        yield
    finally:
        connection.close()
        known.update(before)
