"""`kill -9` at a random moment of an import: of the worker that writes it, of the process that answers the page, of
PostgreSQL, of the command. Afterwards the office holds none of its rows or all, each with its history; and the same import,
asked for once more, leaves it with all of them once.

`python -m crm.faults.importing web|command ...` is the process that is killed."""

import contextlib
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from functools import cache

import django
from django.conf import settings

# Of the page, which writes that many itself; longer files are the worker's.
ROWS, ROWS_OF_A_PAGE = 5_000, 500
FEW, FEW_OF_A_PAGE = 600, 60
# Of what a whole act takes, so that some kills come too late.
LATEST = 1.1


def killed_import(desk, rounds: int):
    from crm.faults.desk import Found
    from crm.faults.server import programs

    with contextlib.ExitStack() as stack:
        office = _Office(desk, stack, with_server=programs() is not None)
        seconds = {victim: office.undisturbed(victim) for victim in office.victims}
        drawn = random.Random(desk.seed)
        for number in range(rounds):
            victim = office.victims[number % len(office.victims)]
            office.round(victim, after_s=drawn.uniform(0, LATEST) * seconds[victim])
        told = ", ".join(f"{count} {what}" for what, count in office.told.items())
        rows = f"{office.rows(''):,} rows" + (f", {office.rows('web')} by a page" if "web" in office.victims else "")
        return Found(
            rounds, office.lost, office.doubled, said=f"{rows}; {told}", wrong=tuple(dict.fromkeys(office.wrong))
        )


class _Office:
    """The import that is killed, and what is counted of it."""

    def __init__(self, desk, stack: contextlib.ExitStack, *, with_server: bool):
        from django.db import connection

        from crm import roles
        from crm.faults.server import cluster, elsewhere
        from crm.tests import factories

        self.desk, self.server = desk, None
        if connection.vendor == "postgresql" and with_server:
            self.server = stack.enter_context(cluster())
            stack.enter_context(elsewhere(self.server))
        self.victims = ("worker", "web", "database", "command") if self.server else ("worker", "web", "command")
        factories.make_catalogue()
        self.user = factories.make_user(roles.MANAGER, username=f"imports{time.time_ns()}")
        self.worker = stack.enter_context(desk.worker())
        self.number = self.lost = self.doubled = 0
        self.wrong: list[str] = []
        self.told = {"left nothing": 0, "left all": 0}

    def rows(self, victim: str) -> int:
        whole, few = (ROWS_OF_A_PAGE, FEW_OF_A_PAGE) if victim == "web" else (ROWS, FEW)
        return whole if self.desk.is_whole else few

    def undisturbed(self, victim: str) -> float:
        return self.round(victim, after_s=None)

    def round(self, victim: str, *, after_s: float | None) -> float:
        """Returns the seconds of the act, where nobody is killed."""
        self.number += 1
        empty()
        content = made_of(self.number, self.rows(victim))
        start, taken = time.monotonic(), 0.0
        if victim in ("worker", "database"):
            taken = self._by_the_worker(victim, content, after_s)
        elif victim == "web":
            taken = self._by_a_page(content, after_s)
        else:
            taken = self._by_the_command(content, after_s)
        found = counted()
        if found.clients not in (0, self.rows(victim)) or not found.is_whole:
            self.wrong.append(f"{victim}: {found}")
        self.lost += max(self.rows(victim) - found.clients, 0)
        self.doubled += max(found.clients - self.rows(victim), 0)
        return taken or time.monotonic() - start

    def _seen(self, after_s: float | None, victim: str) -> bool:
        """What a kill left behind at once, in one look: none or all. Whether it was all."""
        from django.db import connection

        connection.close()
        found = counted()
        if found.clients not in (0, self.rows(victim)) or not found.is_whole:
            self.wrong.append(f"{victim}, at once: {found}")
        if after_s is not None:
            self.told["left all" if found.clients else "left nothing"] += 1
        return found.clients > 0

    def _by_the_worker(self, victim: str, content: bytes, after_s: float | None) -> float:
        from crm.imports import runs

        run = runs.begin(content, "clients.csv", self.user)
        self._wait(run, "CHECKED")
        run = runs.confirm(run, self.user)
        busy = self.desk.begun(run.job_id)
        start = time.monotonic()
        if after_s is not None:
            time.sleep(after_s)
            with contextlib.suppress(ProcessLookupError):
                if victim == "worker":
                    os.kill(busy, signal.SIGKILL)
                else:
                    self._kill_the_server()
            self._seen(after_s, victim)
        self._wait(run, "DONE")
        taken = time.monotonic() - start
        if victim == "worker" and after_s is not None:
            self.desk.settle(self.worker)
        return taken

    def _wait(self, run, name: str) -> None:
        """Until it is as far; what failed for good in the meantime is asked for once more, as a person would."""
        from crm.choices import ImportState
        from crm.faults.desk import PATIENCE_S
        from crm.imports import runs
        from crm.tests.processes import wait_until

        wanted = ImportState[name]

        def is_there() -> bool:
            run.refresh_from_db()
            return runs.state_of(run) not in runs.IN_WORK

        if not wait_until(is_there, within_s=PATIENCE_S) or runs.state_of(run) != wanted:
            self.wrong.append(f"{runs.state_of(run)} instead of {wanted}")

    def _kill_the_server(self) -> None:
        from django.db import connection

        from crm.faults.server import AWAY_S, AWAY_SHORT_S

        self.server.kill()
        time.sleep(AWAY_S if self.desk.is_whole else AWAY_SHORT_S)
        self.server.start()
        connection.close()

    def _by_a_page(self, content: bytes, after_s: float | None) -> float:
        from crm.imports import runs

        run = runs.begin(content, "clients.csv", self.user)
        taken = self._child(after_s, "web", run.token, self.user.pk)
        run.refresh_from_db()
        if not self._seen(after_s, "web"):
            if run.state != "checked":
                self.wrong.append(f"web: {run.state} without rows")
            self._child(None, "web", run.token, self.user.pk)
        return taken

    def _by_the_command(self, content: bytes, after_s: float | None) -> float:
        file = self.desk.folder / f"clients {self.number}.csv"
        file.write_bytes(content)
        taken = self._child(after_s, "command", file)
        self._seen(after_s, "command")
        self._child(None, "command", file)  # also where all of it is there: then it does nothing
        return taken

    def _child(self, after_s: float | None, *arguments) -> float:
        from crm.tests.processes import Program

        key = 10**9 + time.monotonic_ns()
        command = [sys.executable, "-m", "crm.faults.importing", *map(str, arguments), str(key)]
        with Program(command, cwd=self.desk.folder, env=self.desk.environment()) as child:
            self.desk.begun(key)
            start = time.monotonic()
            if after_s is None:
                child.wait_for_end(within_s=300)
                if child.process.returncode:
                    self.wrong.append(child.output[-300:])
            else:
                time.sleep(after_s)
                child.process.kill()
                child.process.wait()
        return time.monotonic() - start


class Counted(dict):
    """Rows by table, in one look of the database."""

    @property
    def clients(self) -> int:
        return self["crm_client"]

    @property
    def is_whole(self) -> bool:
        steps = self.clients * self["crm_step"]
        tokens = self["crm_searchtoken"]
        return (
            self["crm_client"] == self["crm_case"] == self["crm_historicalclient"] == self["crm_historicalcase"]
            and steps == self["crm_casestep"] == self["crm_historicalcasestep"]
            and (tokens > self.clients if self.clients else tokens == 0)
        )


def counted() -> Counted:
    from django.db import connection

    from crm.models import Step

    names = [model._meta.db_table for model in tables()]
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f'(SELECT count(*) FROM "{name}")' for name in names))
        found = dict(zip(names, cursor.fetchone(), strict=True))
    return Counted(found, crm_step=Step.objects.filter(is_active=True).count())


@cache
def tables() -> tuple:
    from crm.models import Case, CaseStep, Client, SearchToken

    owners = (Client, Case, CaseStep)
    return (*owners, SearchToken, *(model.history.model for model in owners))


def empty() -> None:
    """So that fifty imports of an office do not become a large one."""
    from django.core.management.color import no_style
    from django.db import connection

    names = [model._meta.db_table for model in tables()]
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), names, allow_cascade=True))


def made_of(number: int, rows: int) -> bytes:
    text = io.StringIO()
    text.write("jmeno;email;datum;cena;navrh_financovani_castka\r\n")
    for row in range(rows):
        text.write(f"Dovoz{row} Přerušený{number};d{row}@example.com;{row % 28 + 1}.2.2026;5 000 000;4 000 000\r\n")
    return text.getvalue().encode()


def web(token: str, user: str) -> None:
    """A request as the web process answers it."""
    from django.test import Client as Browser
    from django.urls import reverse

    from crm.models import User

    browser = Browser()
    browser.force_login(User.objects.get(pk=user), backend=settings.AUTHENTICATION_BACKENDS[-1])
    with _begun():
        answer = browser.post(reverse("admin:crm_client_import_preview", args=[token]), {"mode": "good"}, secure=True)
    assert answer.status_code == 302, answer.status_code


def command(file: str) -> None:
    from django.core.management import call_command

    with _begun():
        call_command("import_clients", file)


@contextlib.contextmanager
def _begun() -> Iterator[None]:
    from crm.faults.worker import note

    note("begin", int(sys.argv[-1]))
    yield


if __name__ == "__main__":
    django.setup()
    {"web": web, "command": command}[sys.argv[1]](*sys.argv[2:-1])
