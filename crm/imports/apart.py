"""Long files are read in a process of their own, which has limits, no database, no keys and no file to write to: whatever
a stranger's file does to a parser, it does there. It asks for each piece of the file by a line of JSON, behind which stand
the packed rows that it has so far, and for the first one again where it walks through the file once more: so neither of
the two holds a text. Its last line is what the file was, or why it is refused.

    python -m crm.imports.apart '{"suffix": ".xlsx", ...}'
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePath
from typing import IO

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from crm.imports.problems import UnusableFile
from crm.imports.reading import MAX_BYTES, Cells, Sheet, Source, read_cells, too_large
from crm.imports.scratch import Blocks
from crm.imports.shelf import BLOCK, CellShelf

ROOT = Path(__file__).parents[2]
# A workbook of the most cells that are read takes two thirds of it.
MOST_MEMORY_MB = 1_024
MOST_CPU_S = 120
MOST_S = 300
MOST_OPEN_FILES = 32
# Of its answer; rows are packed there.
MOST_LINE_BYTES, MOST_ANSWER_BYTES = 1 << 20, 256 << 20
# Of the number before each piece.
SIZE_BYTES = 8
# What its last line says beside the number of rows.
SAID = ("notices", "source", "is_cut", "is_text", "sheets")
# What the process asks for.
FIRST, NEXT = "first", "next"
ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
PR_SET_PDEATHSIG = 1


def read(pieces: Callable[[], Iterable[bytes]], name: str) -> Sheet:
    """As `reading.read` of all pieces together; they are asked for several times. Raises UnusableFile also where the process
    ends without an answer."""
    asked = {
        "suffix": PurePath(name).suffix, "language": translation.get_language(), "parent": os.getpid(),
        "memory_mb": MOST_MEMORY_MB, "cpu_s": MOST_CPU_S,
    }  # fmt: skip
    with _started(asked) as child, _killed_after(MOST_S, child) as late:
        cells = _answered(child, pieces)
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
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
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


def _answered(child: subprocess.Popen, pieces: Callable[[], Iterable[bytes]]) -> Cells | None:
    """None where the answer is not whole. Raises UnusableFile where it is a refusal."""
    blocks, sent, left = Blocks(), iter(()), MOST_ANSWER_BYTES
    while said := _said(child.stdout):
        if "refused" in said:
            raise UnusableFile(said["refused"])
        left -= sum(said["blocks"])
        if min(left, *said["blocks"], 0) < 0:
            return None
        for size in said["blocks"]:
            block = child.stdout.read(size)
            if len(block) != size:
                return None
            blocks.append(block)
        if "rows" in said:
            is_whole = len(blocks) == -(-said["rows"] // BLOCK)
            rows = CellShelf(blocks, said["rows"])
            return Cells(rows, **{name: said[name] for name in SAID}) if is_whole else None
        if said["asks"] == FIRST:
            sent = _limited(pieces())
        _send(next(sent, b""), child.stdin)
    return None


def _said(source: IO[bytes]) -> dict | None:
    line = source.readline(MOST_LINE_BYTES)
    return json.loads(line) if line.endswith(b"\n") else None


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    length = 0
    for piece in filter(None, pieces):
        length += len(piece)
        if length > MAX_BYTES:
            raise too_large()
        yield piece


def _send(piece: bytes, target: IO[bytes]) -> None:
    """An empty one is the end."""
    with contextlib.suppress(BrokenPipeError):
        target.write(len(piece).to_bytes(SIZE_BYTES))
        target.write(piece)
        target.flush()


# --- In the process ---


def _main() -> None:
    asked = json.loads(sys.argv[1])
    _die_with(asked["parent"])
    _prepare()
    _confine(asked)
    with translation.override(asked["language"]):
        try:
            source = _Asked()
            cells = read_cells(source, f"file{asked['suffix']}", source.packed)
        except UnusableFile as error:
            _say({"refused": str(error)})
        else:
            _say({"rows": len(cells.rows), **{name: getattr(cells, name) for name in SAID}}, cells.rows.blocks())


class _Asked(Source):
    """Its pieces are asked for one by one; what was packed meanwhile goes with the question."""

    def __init__(self):
        self.packed: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        asks = FIRST
        while piece := self._piece(asks):
            yield piece
            asks = NEXT

    def _piece(self, asks: str) -> bytes:
        _say({"asks": asks}, self.packed)
        self.packed.clear()
        size = int.from_bytes(sys.stdin.buffer.read(SIZE_BYTES))
        return sys.stdin.buffer.read(size)


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


def _say(line: dict, blocks: Collection[bytes] = ()) -> None:
    sys.stdout.buffer.write(json.dumps(line | {"blocks": list(map(len, blocks))}).encode() + b"\n")
    for block in blocks:
        sys.stdout.buffer.write(block)
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
