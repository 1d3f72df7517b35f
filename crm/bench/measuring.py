"""How a scenario measures, and the table of what it found. With HYPODESK_BENCH_ONCE set (`--once`) nothing is repeated."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WARM_UP, TIMES = 3, 15
LOOK_S = 0.02
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


def forget_peak() -> None:
    """VmHWM of this process begins anew."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_mb(pid: int | str, name: str) -> float:
    """VmRSS, what a process holds, or VmHWM, the most it held. Not getrusage, whose number begins with that of whoever
    started the process. 0 of one that has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0
    return int(status.get(name, "0").split()[0]) / 1024


def together_mb(pid: int | str) -> float:
    """What a process holds now, and all that it started, whichever of its threads did."""
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            children += file.read_text().split()
    return memory_mb(pid, "VmRSS") + sum(map(together_mb, children))


@dataclass(frozen=True)
class Ran:
    """`peak_mb` is of the process and all that it started, together."""

    seconds: float
    peak_mb: float
    said: str


def ran(command: list[str], env: dict[str, str]) -> Ran:
    """Runs it to its end. Raises RuntimeError with what it said where it fails."""
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = None
        try:
            while said is None:
                peak = max(peak, together_mb(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    said, _ = process.communicate(timeout=LOOK_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {said}")
    return Ran(time.perf_counter() - start, peak, said)


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
