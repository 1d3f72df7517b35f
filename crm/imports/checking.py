"""From bytes to a plan: what every row would do, and every problem of every row. Writes nothing."""

import datetime
from collections.abc import Mapping
from functools import partial

from django.utils import timezone

from crm.imports import combined, duplicates, own, people
from crm.imports.columns import COMBINED, PEOPLE, recognise
from crm.imports.plans import Outcome, Plan, sha256
from crm.imports.reading import Sheet, read
from crm.imports.values import Lookups, RowReader
from crm.imports.writing import unwatched, written_runs

WATCHED_EVERY = 500


def check(
    content: bytes,
    file_name: str,
    user=None,
    *,
    on: datetime.date | None = None,
    mapping: Mapping[str, str] | None = None,
    asks: bool = False,
    corrections: Mapping[int, Mapping[int, str]] | None = None,
    empty_deletes: bool = False,
    progress=unwatched,
) -> Plan:
    """`user` sees only his rows of the database (None: all of them). `on` is the day of a case without a date.
    `mapping` and `asks` are `recognise`'s; `corrections` are texts for cells, by the row's number and the column's index.
    Queries follow the batches of rows. Raises UnusableFile, and ColumnsUnknown where it `asks`."""
    on = on or timezone.localdate()
    seen = written_runs()
    sheet = read(content, file_name)
    _correct(sheet, corrections or {})
    layout, problems = recognise(sheet, mapping, asks=asks)
    chosen = {"mapping": mapping, "corrections": corrections, "empty_deletes": empty_deletes}
    again = partial(check, content, file_name, user, on=on, **chosen)
    plan = Plan(
        file_name, sha256(content), sheet, layout,
        problems=problems, empty_deletes=empty_deletes, seen=seen, again=again,
    )  # fmt: skip
    reader = _WatchedReader(Lookups(), plan.problems, partial(progress, total=len(sheet.rows)))
    rows = []
    for row in sheet.rows:
        if row.is_blank:
            plan.outcomes[row.number] = Outcome.SKIP
        elif reason := sheet.shape_error(row):
            reader.report(row, None, reason)
            plan.outcomes[row.number] = Outcome.ERROR
        else:
            rows.append(row)
    if layout.kind == PEOPLE:
        people.plan_people(plan, reader, rows, on=on)
    elif layout.kind == COMBINED:
        combined.plan_combined(plan, reader, rows, user, on=on)
    else:
        own.plan_own(plan, reader, rows, user, on=on)
    duplicates.report(plan, [item for item in plan.items if item.is_new and item.client.pk is None], user)
    plan.problems.sort(key=lambda problem: problem.row)
    return plan


def _correct(sheet: Sheet, corrections: Mapping[int, Mapping[int, str]]) -> None:
    if not corrections:
        return
    for row in sheet.rows:
        for index, text in corrections.get(row.number, {}).items():
            if index < len(sheet.header):
                row.correct(index, text)


class _WatchedReader(RowReader):
    """Says every some rows how far it is."""

    def __init__(self, lookups: Lookups, problems: list, progress):
        super().__init__(lookups, problems)
        self.progress, self.told = progress, 0

    def values(self, row, columns):
        if row.number >= self.told + WATCHED_EVERY:
            self.told = row.number
            self.progress(row.number)
        return super().values(row, columns)
