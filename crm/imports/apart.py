"""Long files are read in a process of their own, which has limits, no database, no keys and no file to write to: whatever
a stranger's file does to a parser, it does there. The bytes go to its stdin; its answer is a line of JSON and packed rows.

    python -m crm.imports.apart '{"suffix": ".xlsx", ...}' < bytes > answer
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import IO

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from crm.imports.problems import UnusableFile
from crm.imports.reading import MAX_BYTES, Cells, Sheet, read_cells
from crm.imports.shelf import BLOCK, CellShelf

ROOT = Path(__file__).parents[2]
# A workbook of the most cells that are read takes two thirds of it.
MOST_MEMORY_MB = 1_024
MOST_CPU_S = 120
MOST_S = 300
MOST_OPEN_FILES = 32
# Of its answer; rows are packed there.
MOST_LINE_BYTES, MOST_ANSWER_BYTES = 1 << 20, 256 << 20
ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
PR_SET_PDEATHSIG = 1


def read(pieces: Iterable[bytes], name: str) -> Sheet:
    """As `reading.read` of all pieces together. Raises UnusableFile also where the process ends without an answer."""
    asked = {
        "suffix": PurePath(name).suffix, "language": translation.get_language(), "parent": os.getpid(),
        "memory_mb": MOST_MEMORY_MB, "cpu_s": MOST_CPU_S,
    }  # fmt: skip
    with _started(asked) as child, _killed_after(MOST_S, child) as late:
        with contextlib.suppress(BrokenPipeError), child.stdin as target:
            for piece in pieces:
                target.write(piece)
        cells = _answered(child.stdout)
        if cells is None:
            raise UnusableFile(_too_slow() if child.wait() == -signal.SIGXCPU or late.is_set() else _too_much())
    return cells.sheet()


def _too_slow() -> str:
    return _("Reading the file takes too long. Copy the rows into a new workbook, or split them, and send that.")


def _too_much() -> str:
    return _(
        "The file could not be read to its end: it needs more memory than a list of clients does, or it is damaged. "
        "Copy the rows into a new workbook, or save them as CSV, and send that."
    )


@contextlib.contextmanager
def _started(asked: dict) -> Iterator[subprocess.Popen]:
    child = subprocess.Popen(  # noqa: S603 no shell, and no word of a stranger
        [sys.executable, "-m", "crm.imports.apart", json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a parser that fails prints what it was reading
        cwd=ROOT,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    )
    try:
        yield child
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


@contextlib.contextmanager
def _killed_after(seconds: float, child: subprocess.Popen) -> Iterator[threading.Event]:
    late = threading.Event()

    def kill():
        late.set()
        child.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _answered(source: IO[bytes]) -> Cells | None:
    """None where the answer is not whole. Raises UnusableFile where it is a refusal."""
    line = source.readline(MOST_LINE_BYTES)
    if not line.endswith(b"\n"):
        return None
    said = json.loads(line)
    if "refused" in said:
        raise UnusableFile(said["refused"])
    if sum(said["blocks"]) > MOST_ANSWER_BYTES or len(said["blocks"]) != -(-said["rows"] // BLOCK):
        return None
    blocks = [source.read(size) for size in said["blocks"]]
    if list(map(len, blocks)) != said["blocks"]:
        return None
    return Cells(CellShelf.of_blocks(blocks, said["rows"]), said["notices"], said["source"], said["is_cut"])


# --- In the process ---


def _main() -> None:
    asked = json.loads(sys.argv[1])
    _die_with(asked["parent"])
    _prepare()
    _confine(asked)
    with translation.override(asked["language"]):
        try:
            cells = read_cells(sys.stdin.buffer.read(MAX_BYTES + 1), f"file{asked['suffix']}")
        except UnusableFile as error:
            _say({"refused": str(error)})
        else:
            blocks = cells.rows.blocks()
            sizes = list(map(len, blocks))
            said = {"notices": cells.notices, "source": cells.source, "is_cut": cells.is_cut}
            _say({"rows": len(cells.rows), "blocks": sizes, **said}, blocks)


def _die_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _prepare() -> None:
    """As much of Django as it takes to say in the reader's language what is wrong with a file."""
    import django

    settings.configure(USE_I18N=True, LANGUAGE_CODE="en", LOCALE_PATHS=[ROOT / "crm" / "locale"])
    django.setup()


def _confine(asked: dict) -> None:
    import resource

    limits = {
        resource.RLIMIT_AS: (asked["memory_mb"] << 20, asked["memory_mb"] << 20),
        # The second kills where the first was not heard.
        resource.RLIMIT_CPU: (asked["cpu_s"], asked["cpu_s"] + 5),
        resource.RLIMIT_NOFILE: (MOST_OPEN_FILES, MOST_OPEN_FILES),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    for limit, values in limits.items():
        with contextlib.suppress(ValueError, OSError):  # of a system that has no such limit, or a lower one
            resource.setrlimit(limit, values)


def _say(line: dict, blocks: Iterable[bytes] = ()) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    for block in blocks:
        sys.stdout.buffer.write(block)
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
