"""Work on a database that is not this process's own: in a process of its own, for which it is the default one, so that keys,
migrations and every query mean it. It is asked by a line of JSON and answers in lines of JSON; no secret is among them.

    python -m crm.backups.apart < asked > answers
"""

import contextlib
import ctypes
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import translation
from django.utils.translation import gettext as _

from crm import exceptions
from crm.exceptions import CrmError, RestoreFailed

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG = 1
logger = logging.getLogger(__name__)


def address(name: str | None = None) -> str:
    """Of the default database, or of another on its server, as DATABASE_URL has it."""
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:////{str(Path(known['NAME']).absolute()).lstrip('/')}"
    login = quote(known["USER"] or "", safe="")
    if known["PASSWORD"]:
        login += f":{quote(known['PASSWORD'], safe='')}"
    # Host and port stand among the options, where a socket, an IPv6 address and several servers have one form.
    options = {key: value for key, value in known["OPTIONS"].items() if isinstance(value, str | int)}
    options |= {key.lower(): known[key] for key in ("HOST", "PORT") if known[key]}
    query = f"?{urlencode(options)}" if options else ""
    return f"postgres://{login}{'@' if login else ''}/{quote(name or known['NAME'], safe='')}{query}"


class Work:
    """What a process was asked for. Its answers come one after another."""

    def __init__(self, child: subprocess.Popen):
        self._child = child

    def answer(self) -> dict:
        """Waits. Raises what was raised there, and RestoreFailed where it ended without a word."""
        line = self._child.stdout.readline()
        if not line.endswith(b"\n"):
            raise RestoreFailed(why=_("its process ended with code %(code)s") % {"code": self._child.wait()})
        said = json.loads(line)
        if "refused" in said:
            raise getattr(exceptions, said["refused"], CrmError)(said["message"])
        return said

    def go_on(self, word: object) -> dict:
        """After an answer that waits for it."""
        self._child.stdin.write(json.dumps(word).encode() + b"\n")
        self._child.stdin.flush()
        return self.answer()


@contextlib.contextmanager
def working(work: str, url: str, **asked) -> Iterator[Work]:
    """Whatever is not done when this ends, is never done; so too where this process is killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "crm.backups.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "DATABASE_URL_FILE"}
        | {"DATABASE_URL": url, "DATABASE_POOL": "0"},
    )
    asked |= {"work": work, "language": translation.get_language(), "parent": os.getpid()}
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
        yield Work(child)
    finally:
        child.kill()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
        child.wait()


# --- In the process ---


def _main() -> None:
    asked = json.loads(sys.stdin.buffer.readline())
    _die_with(asked.pop("parent"))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever else is printed is no answer

    def say(**answer) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")

    def go() -> object:
        """The word to go on with; None where nobody waits any more."""
        line = sys.stdin.buffer.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    try:
        settings.DATABASES  # noqa: B018
    except ImproperlyConfigured as error:  # and without settings nothing is translated
        say(refused="RestoreFailed", message=str(error))
        return
    with contextlib.ExitStack() as stack:
        try:
            work = _work(asked.pop("work"))
            stack.enter_context(translation.override(asked.pop("language")))
            work(say=say, go=go, **asked)
        except CrmError as error:
            say(refused=type(error).__name__, message=str(error))
        except Exception as error:
            from crm.backups import room

            if lacking := room.lacking(error):
                say(refused=type(lacking).__name__, message=str(lacking))
                return
            because = why(error)
            if because == type(error).__name__:
                # Without the error's own text, which may quote a value.
                logger.error("backups: %s", "".join(traceback.format_tb(error.__traceback__)))
            say(refused="RestoreFailed", message=str(RestoreFailed(why=because)))


def _work(name: str):
    import django

    django.setup()
    # It may know seals that an older database has not.
    settings.AUDIT_ANCHOR = ""
    from crm.backups import loading

    return loading.WORKS[name]


def why(error: Exception) -> str:
    """Without the error's own text where that may quote a value."""
    import psycopg

    from crm.backups import postgresql

    for each in (error, error.__cause__):
        if isinstance(each, psycopg.Error):
            return postgresql.told(each)
        if isinstance(each, sqlite3.Error):
            return getattr(each, "sqlite_errorname", type(each).__name__)
    # Ours, about settings and keys; the system's own, about files.
    return str(error) if isinstance(error, (ImproperlyConfigured, OSError)) else type(error).__name__


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


if __name__ == "__main__":
    _main()
