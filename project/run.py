"""`make run`: one machine, one command. Keys, database, demo office, then the Procfile's web and worker until Ctrl-C.

A server does not come here: it starts the Procfile's lines itself.
"""

import contextlib
import ctypes
import datetime
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from project import env

PROCESSES = {"web": "cyan", "worker": "yellow"}
PORTS_TRIED = 100
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ctrl-C ends within 5 s: first ask, then a second time (the worker gives up running tasks), then no more questions.
ASK_AGAIN_AFTER_S = 3.0
KILL_AFTER_S = 4.0
# The address and the logins come when the first lines of web and worker are through, so that they stand last.
QUIET_S = 0.7


class Stopped(Exception):
    """Ctrl-C or its like."""


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)

    def stop(signum, frame):
        # Deaf from here on: stopping has its own deadline and a second Ctrl-C must not cut it short.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    threading.Thread(target=_stop_with_make, daemon=True).start()
    try:
        return run()
    except Stopped:
        return 0


def run() -> int:
    if (file := env.env_file()) and (added := env.add_missing_keys(file)):
        print(f"{file}: added {', '.join(added)}. Keep this file: without its keys the data cannot be read.")
    env.load_env_file()
    wanted = env.integer("PORT", 8000, minimum=1)
    bind = os.environ.setdefault("BIND", "127.0.0.1")
    port = free_port(bind, wanted)
    if port != wanted:
        print(f"Port {wanted} is taken, taking {port}.")
    os.environ["PORT"] = str(port)
    # Links and the origins that forms may come from follow the port, unless the office has named its address.
    if not env.text("SITE_URL"):
        os.environ["SITE_URL"] = f"http://localhost:{port}"
    prepare()
    procfile = parse_procfile((env.ROOT / "Procfile").read_text(encoding="utf-8"))
    with Running() as running:
        for name in PROCESSES:
            running.start(name, procfile.processes[name])
        return running.wait(port)


def free_port(bind: str, wanted: int) -> int:
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        if not _answers(port) and _can_listen(bind, port):
            return port
    sys.exit(f"No free port from {wanted} to {port}: set PORT.")


def _answers(port: int) -> bool:
    """On some systems a port can be bound although another program serves it on a wider address."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def _can_listen(bind: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen()
        except OSError:
            return False
    return True


def prepare() -> None:
    """Static files, tables, shipped data and, in an empty database, the demo office: each only where it is missing."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError, call_command
    from django.db import connections

    try:
        django.setup()
        _collect_static()
        print("Preparing the database ...")
        call_command("release", verbosity=0)
        if _wants_demo():
            print("Filling the empty database with the demo office ...")
            try:
                call_command("load_demo")
            except CommandError as error:  # it holds something else than clients: an office goes on with its own
                print(f"No demo office: {error}")
    except (ImproperlyConfigured, CommandError) as error:
        sys.exit(f"Hypodesk does not start: {error}")
    connections.close_all()


def _collect_static() -> None:
    """collectstatic compresses some hundred files: only when one of them changed."""
    from django.conf import settings
    from django.contrib.staticfiles.finders import get_finders
    from django.core.management import call_command

    lines = []
    for finder in get_finders():
        for name, storage in finder.list([]):
            stat = os.stat(storage.path(name))
            lines.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    seen = "\n".join(sorted(lines))
    note = settings.DATA_DIR / "static.seen"
    if (
        note.exists()
        and note.read_text(encoding="utf-8") == seen
        and (settings.STATIC_ROOT / "staticfiles.json").exists()
    ):
        return
    call_command("collectstatic", interactive=False, verbosity=0)
    note.write_text(seen, encoding="utf-8")


def _wants_demo() -> bool:
    from django.apps import apps
    from django.conf import settings
    from django.db import connection

    if not settings.DEBUG or apps.get_model("crm", "Client").objects.exists():
        return False
    return env.boolean("DEMO", connection.vendor == "sqlite")


def _demo_logins() -> list[str]:
    from django.apps import apps
    from django.db import connections
    from django.utils.module_loading import import_string

    has_demo = apps.get_model("crm", "User").objects.filter(is_demo=True, is_active=True).exists()
    connections.close_all()
    # A client's login is for the portal, which does not stand yet.
    logins = [login for login in import_string("crm.demo.LOGINS") if login.role != "Client"]
    return [f"  {login}" for login in logins] if has_demo else []


def _mail_folder() -> list[str]:
    from django.conf import settings

    folder = getattr(settings, "EMAIL_FILE_PATH", None)
    return [f"Mails are written to {folder}"] if folder else []


@dataclass
class Running:
    """The started processes, each in its own group, and their output with the name before each line."""

    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    lines: queue.Queue = field(default_factory=queue.Queue)
    printer: Printer = field(default_factory=lambda: Printer(sys.stdout, width=max(map(len, PROCESSES))))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def start(self, name: str, command: str) -> None:
        process = subprocess.Popen(  # noqa: S603 - a line of our own Procfile
            ["/bin/sh", "-c", command],
            cwd=env.ROOT,
            env={
                **os.environ,
                "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=term_when_parent_dies,
        )
        self.processes[name] = process
        threading.Thread(target=self._read, args=(name, process), daemon=True).start()

    def _read(self, name: str, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.lines.put((name, line))

    def wait(self, port: int) -> int:
        """Until one of the processes ends, which ends all; returns its exit code."""
        healthy = greeted = False
        quiet_since = time.monotonic()
        while True:
            try:
                self._print(*self.lines.get(timeout=0.2))
                quiet_since = time.monotonic()
            except queue.Empty:
                healthy = healthy or _is_healthy(port)
            if healthy and not greeted and time.monotonic() - quiet_since > QUIET_S:
                greeted = True
                greet()
            for name, process in self.processes.items():
                if process.poll() is not None:
                    self._drain()
                    print(f"{name} ended with exit code {process.returncode}: stopping.", flush=True)
                    return process.returncode or 1

    def stop(self) -> None:
        began = time.monotonic()
        self._signal(signal.SIGTERM)
        print("Stopping ...")
        asked_again = False
        while self._alive() and (waited := time.monotonic() - began) < KILL_AFTER_S:
            if waited > ASK_AGAIN_AFTER_S and not asked_again:
                asked_again = True
                self._signal(signal.SIGTERM)
            with contextlib.suppress(queue.Empty):
                self._print(*self.lines.get(timeout=0.1))
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._drain()

    def _alive(self) -> list[subprocess.Popen]:
        return [process for process in self.processes.values() if process.poll() is None]

    def _signal(self, number: int) -> None:
        for process in self._alive():
            process.send_signal(number)

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._print(*self.lines.get(timeout=0.1))

    def _print(self, name: str, line: bytes) -> None:
        self.printer.write(Message("line", line, datetime.datetime.now(), name, PROCESSES[name]))


def greet() -> None:
    """The last thing on the screen: where to go and how to get in."""
    logins = _demo_logins()
    address = os.environ["SITE_URL"]
    print("\n".join(["", f"Hypodesk is at {address}", *logins, *_mail_folder(), "Ctrl-C stops it.", ""]), flush=True)


def _is_healthy(port: int) -> bool:
    # Straight to the process: a proxy named in the environment is for the outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    host = f"[{os.environ['BIND']}]" if ":" in os.environ["BIND"] else os.environ["BIND"]
    try:
        with opener.open(f"http://{host}:{port}/healthz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def term_when_parent_dies() -> None:
    """Runs in the child. Linux only; elsewhere a killed parent leaves web and worker to be stopped by hand."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _stop_with_make() -> None:
    """A killed `make` must not leave an office running that nobody sees."""
    make = os.getppid()
    while "MAKELEVEL" in os.environ and os.getppid() == make:
        time.sleep(1)
    if "MAKELEVEL" in os.environ:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
