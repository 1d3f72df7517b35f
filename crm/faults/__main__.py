"""`python -m crm.faults [fault ...] [--rounds N] [--seed N] [--quick]`: prints a Markdown table, and exits with 1 where anything is not
as promised, or a fault asked for by name cannot be run. The database is one of its own, on PostgreSQL where DATABASE_URL
names one, else SQLite."""

import argparse
import contextlib
import importlib
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crm.faults import SEED


@dataclass(frozen=True)
class Fault:
    title: str
    room: str
    name: str
    rounds: int
    vendors: tuple[str, ...] = ("sqlite", "postgresql")
    has_own_server: bool = False

    def missing(self, vendor: str) -> str:
        """What it needs and has not got here."""
        if vendor not in self.vendors:
            return "PostgreSQL"
        if (
            self.has_own_server
            and vendor == "postgresql"
            and not importlib.import_module("crm.faults.server").programs()
        ):
            return "PostgreSQL's own programs"
        if self.room == "disks" and not importlib.import_module("crm.faults.disks").can_mount():
            return "a user who may mount a tmpfs"
        return ""

    def run(self, desk, rounds: int):
        return getattr(importlib.import_module(f"crm.faults.{self.room}"), self.name)(desk, rounds)


FAULTS = {
    each.name: each
    for each in (
        Fault("a mail server away for two hours", "mail", "outage", 1),
        Fault("`kill -9` between the server's 250 and the commit", "mail", "commit", 200),
        Fault("`kill -9` of a busy worker", "killed", "busy_worker", 20),
        Fault("`kill -9` of an idle worker", "killed", "idle_worker", 20),
        Fault("`kill -9` of the queue's main process", "killed", "main_process", 20),
        Fault("`kill -9` of PostgreSQL's main process", "server", "database", 20, ("postgresql",), has_own_server=True),
        Fault("`kill -9` at a random moment of an import", "importing", "killed_import", 50),
        Fault("`kill -9` at a random moment of a backup", "backups", "killed_backup", 50),
        Fault("`kill -9` at a random moment of a restore", "backups", "killed_restore", 50),
        Fault("`kill -9` at a random moment of the nightly backup", "backups", "killed_night", 50),
        Fault("a full disk under a backup or a restore", "disks", "full_disk", 30),
        Fault(
            "PostgreSQL's own full disk under a restore",
            "disks",
            "full_server",
            30,
            ("postgresql",),
            has_own_server=True,
        ),
        Fault(
            "a wrong key or password of a backup or a restore", "passwords", "wrong_password", 3, has_own_server=True
        ),
        Fault("a limit of a file's size under a backup or a restore", "limits", "file_size", 30),
        Fault("a store of copies that refuses, fails, stalls or lies", "stores", "broken_store", 30),
        Fault("two workers before 1,000 due slots", "slots", "two_workers", 1),
        Fault("730 days, with each change of the clock", "clock", "two_years", 1),
        Fault("four days without a worker", "clock", "days_down", 20),
        Fault("a task that always raises", "raising", "raising", 3),
    )
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crm.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="fault", help=f"{', '.join(FAULTS)} (all)")
    parser.add_argument("--rounds", type=int, help="of each fault, instead of its own number")
    parser.add_argument(
        "--quick", action="store_true", help="three rounds, small counts, short patience: as the suite does"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="for moments that are drawn (%(default)s)")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    rounds = asked.rounds or (3 if asked.quick else None)
    with tempfile.TemporaryDirectory(prefix="hypodesk-faults-") as folder, database(Path(folder)) as url:
        os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "crm.faults.settings"}
        import django

        django.setup()
        return 0 if _run(asked.faults, rounds, Path(folder), is_whole=not asked.quick, seed=asked.seed) else 1


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    from crm.bench import office

    if os.environ.get("DATABASE_URL", "").startswith(("postgres://", "postgresql://")):
        with office.database() as url:
            yield url
    else:
        yield f"sqlite:///{folder / 'office.sqlite3'}"


def _run(names: list[str], rounds: int | None, folder: Path, *, is_whole: bool, seed: int) -> bool:
    from django.core.management import call_command
    from django.db import connection, connections

    from crm.faults.desk import Desk

    logging.disable()  # the workers' own logs are theirs
    call_command("migrate", verbosity=0)
    call_command("release", verbosity=0)
    print(f"{machine()}, {_engine(connection)}, seed {seed}")
    print("| fault | rounds | lost | doubled | slowest recovery | | |\n|---|---|---|---|---|---|---|", flush=True)
    is_met = True
    for name in names or FAULTS:
        fault = FAULTS[name]
        if missing := fault.missing(connection.vendor):
            print(f"| {fault.title} | 0 | | | | not run: needs {missing} | |", flush=True)
            is_met = is_met and not names
            continue
        start = time.monotonic()
        own = folder / name
        own.mkdir()
        found = fault.run(Desk(own, is_whole=is_whole, seed=seed), rounds or fault.rounds)
        is_met = is_met and found.is_met
        slowest = "" if found.slowest_s is None else f"{found.slowest_s:.1f} s"
        said = "; ".join([found.said, *found.wrong])
        print(f"| {fault.title} | {found.rounds} | {found.lost} | {found.doubled} | {slowest} | {said} | {'met' if found.is_met else '**not met**'} |", flush=True)  # fmt: skip
        print(f"{name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    connections.close_all()
    return is_met


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def _engine(connection) -> str:
    version = ".".join(map(str, connection.get_database_version()))
    return f"{connection.display_name} {version}"


if __name__ == "__main__":
    sys.exit(main())
