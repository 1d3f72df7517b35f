"""How a scenario measures, and the table of what it found. With HYPODESK_BENCH_ONCE set (`--once`) nothing is repeated."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

WARM_UP, TIMES = 3, 15
ONCE = "HYPODESK_BENCH_ONCE"


@dataclass(frozen=True)
class Measured:
    """One line's cell at one size. `goal` is about the largest size: `value` there against the smallest one."""

    what: str
    value: float
    text: str
    goal: str = ""


def best_ms(act: Callable[[], object], *, times: int = TIMES) -> float:
    """The fastest of so many, as timeit has it: whatever else the machine does only ever adds to the others."""
    warm_up, times = (0, 1) if os.environ.get(ONCE) else (WARM_UP, times)
    for _ in range(warm_up):
        act()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        taken.append((time.perf_counter() - start) * 1000)
    return min(taken)


def rows_per_second(what: str, rows: int, seconds: float) -> Measured:
    return Measured(what, rows / seconds, f"{rows / seconds:,.0f} rows/s ({rows:,} in {seconds:.1f} s)")


def table(found: dict[int, list[Measured]]) -> str:
    """Markdown; the last but one column says how the largest size compares with the smallest."""
    sizes = list(found)
    lines = [
        f"| | {' | '.join(f'{size:,} clients' for size in sizes)} | last / first | goal |",
        "|---" * (len(sizes) + 3) + "|",
    ]
    by_what: dict[str, dict[int, Measured]] = {}
    for size, cells in found.items():
        for cell in cells:
            by_what.setdefault(cell.what, {})[size] = cell
    for what, cells in by_what.items():
        texts = " | ".join(cells[size].text if size in cells else "" for size in sizes)
        first, last = cells.get(sizes[0]), cells.get(sizes[-1])
        ratio = f"{last.value / first.value:.2f}x" if first and last and len(sizes) > 1 and first.value else ""
        lines.append(f"| {what} | {texts} | {ratio} | {next(iter(cells.values())).goal} |")
    return "\n".join(lines)
