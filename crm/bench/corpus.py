"""The suite's damaged, hostile and odd files, each checked once: what the slowest costs one core, and how much memory the
hungriest takes while it is looked at."""

import time
from collections.abc import Iterator
from pathlib import Path

from crm import imports
from crm.bench.measuring import Measured
from crm.tests.imports.corpus import CORPUS

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run(size: int) -> Iterator[Measured]:
    seconds, megabytes, errors = {}, {}, 0
    for title, file in CORPUS.items():
        content = file.make()
        before = _memory_mb("VmRSS")
        start = time.process_time()
        try:
            imports.check(content, file.name)
        except imports.UnusableFile:
            pass
        except Exception:
            errors += 1
        seconds[title] = time.process_time() - start
        megabytes[title] = _memory_mb("VmHWM") - before
    slowest, hungriest = max(seconds, key=seconds.get), max(megabytes, key=megabytes.get)
    yield Measured("bad files: errors of ours", errors, f"{errors} of {len(CORPUS)}", "0")
    yield Measured("bad files: slowest", seconds[slowest], f"{seconds[slowest]:.2f} s of one core ({slowest})", "1 s")
    yield Measured("bad files: all of them", sum(seconds.values()), f"{sum(seconds.values()):.1f} s of one core")
    yield Measured("bad files: memory", megabytes[hungriest], f"{megabytes[hungriest]} MB ({hungriest})", "100 MB")


def _memory_mb(name: str) -> int:
    """Of this process. Asked for what it holds now, it begins to count the most it will hold."""
    if name == "VmRSS":
        _RESET.write_text("5")
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024
