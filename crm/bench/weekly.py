"""The weekly report of all cases: its figures, and 500 cases of them as a spreadsheet and as pages."""

import dataclasses
import itertools
from collections.abc import Iterator

from django.utils import timezone

from crm import reports, weekly, weekly_pdf
from crm.bench.measuring import Measured, best_ms
from crm.models import Case

ROWS = 500


def run(size: int) -> Iterator[Measured]:
    day = timezone.localdate()
    first = reports.monday_of(day) - reports.WEEK
    week = reports.week(first, Case.objects.all(), on=day)
    taken = best_ms(lambda: reports.week(first, Case.objects.all(), on=day))
    yield Measured("the week's figures", taken, f"{taken:.0f} ms for {sum(map(len, week.cases.values())):,} cases")
    # As many of each group, over and over where the office has fewer.
    known = list(itertools.chain(*week.cases.values()))
    rows = list(itertools.islice(itertools.cycle(known), ROWS))
    share = len(rows) // len(week.cases) + 1
    week = dataclasses.replace(
        week, cases=dict(zip(week.cases, map(list, itertools.batched(rows, share)), strict=False))
    )
    for name, write in (("XLSX", weekly.workbook), ("PDF", lambda week: weekly_pdf.pages(week, weekly.TITLES))):
        kilobytes = len(write(week)) / 1024
        taken = best_ms(lambda write=write: write(week), times=3)
        yield Measured(f"a report of {ROWS} cases, {name}", taken, f"{taken:,.0f} ms, {kilobytes:.0f} KB")
