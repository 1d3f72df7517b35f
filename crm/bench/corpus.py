"""The suite's damaged, hostile and odd files, each checked once: what the slowest costs one core, and how much memory the
hungriest takes while it is looked at."""

import time
from collections.abc import Iterator

from crm import imports
from crm.bench.measuring import Measured, forget_peak, memory_mb
from crm.tests.imports.corpus import CORPUS


def run(size: int) -> Iterator[Measured]:
    seconds, megabytes, errors = {}, {}, 0
    for title, file in CORPUS.items():
        content = file.make()
        forget_peak()
        before = memory_mb("self", "VmRSS")
        start = time.process_time()
        try:
            imports.check(content, file.name)
        except imports.UnusableFile:
            pass
        except Exception:
            errors += 1
        seconds[title] = time.process_time() - start
        megabytes[title] = memory_mb("self", "VmHWM") - before
    slowest, hungriest = max(seconds, key=seconds.get), max(megabytes, key=megabytes.get)
    yield Measured("bad files: errors of ours", errors, f"{errors} of {len(CORPUS)}", "0")
    yield Measured("bad files: slowest", seconds[slowest], f"{seconds[slowest]:.2f} s of one core ({slowest})", "1 s")
    yield Measured("bad files: all of them", sum(seconds.values()), f"{sum(seconds.values()):.1f} s of one core")
    yield Measured("bad files: memory", megabytes[hungriest], f"{megabytes[hungriest]:.0f} MB ({hungriest})", "100 MB")
