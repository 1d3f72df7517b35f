"""`python -m crm.bench [scenario ...] [--quick] [--once] [--sizes 1000,10000]`: prints a Markdown table, row by row as it goes."""

import argparse
import importlib
import os
import sys
import time

from crm.bench import office
from crm.bench.measuring import ONCE, Measured, table

SCENARIOS = (
    "pages",
    "search",
    "exports",
    "imports",
    "full_rows",
    "history",
    "timeline",
    "audit",
    "past",
    "seal",
    "undo",
    "reminders",
    "calendars",
    "weekly",
    "backups",
)
# Only where they are named: what they measure does not grow with the office.
EXTRA = ("million", "corpus")
SIZES = (1_000, 10_000, 100_000)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crm.bench", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="scenario", help=f"{', '.join(SCENARIOS)} (all of these), {', '.join(EXTRA)}"
    )
    parser.add_argument("--quick", action="store_true", help="1,000 clients only: seconds instead of minutes")
    parser.add_argument("--once", action="store_true", help="no repetition: shows that all of it runs, not how fast")
    parser.add_argument("--sizes", help="numbers of clients, smallest first, with commas between (1000,10000,100000)")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.scenarios) - {*SCENARIOS, *EXTRA}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    sizes = sorted(int(size) for size in asked.sizes.split(",")) if asked.sizes else SIZES[:1] if asked.quick else SIZES
    with office.database() as address:
        os.environ |= {"DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "crm.bench.settings"}
        if asked.once:
            os.environ[ONCE] = "1"
        import django

        django.setup()
        print(table(_measure(sizes, asked.scenarios or SCENARIOS)))
        django.db.connections.close_all()
    return 0


def _measure(sizes, scenarios) -> dict[int, list[Measured]]:
    found: dict[int, list[Measured]] = {}
    office.build()
    for size in sizes:
        written = office.grow_to(size)
        found[size] = [Measured("demo clients written", written, f"{written:.0f}/s")]
        for name in scenarios:
            start = time.perf_counter()
            found[size] += importlib.import_module(f"crm.bench.{name}").run(size)
            print(f"{size:,} clients: {name} in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if size != sizes[-1]:  # the last size takes minutes: something to read, and to keep if it is interrupted
            print(table(found), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
