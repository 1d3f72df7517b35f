"""The 08:00 mail of an office with a million cases and fifteen million steps: finding whom to tell. By name only
(`--quick million`): the server makes the rows in minutes, ten years of cases with the steps as such an office leaves them."""

import contextlib
import datetime
import re
import sys
from collections.abc import Iterator

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crm import due, notifications
from crm.bench.measuring import Measured, best_ms
from crm.models import Case, CaseStep, Step, User

CASES = 1_000_000
YEARS = 10
CHANGED = 5_000
# A case is worked on for about so long; older ones are done, or ended without.
ACTIVE_DAYS = 120
# Everything follows from the number of a case, so that every run has the same office.
STATUS = f"""CASE WHEN n * 7 % 100 < 10 THEN 'declined' WHEN n * 7 % 100 < 20 THEN 'withdrawn'
    WHEN n % {YEARS * 365} > {ACTIVE_DAYS} THEN 'completed' WHEN n * 7 % 100 < 30 THEN 'approved' ELSE 'open' END"""
# What is over was mostly done in time; who declined or withdrew did so halfway.
IS_DONE = """CASE WHEN c.status = 'completed' THEN true WHEN c.status IN ('declined', 'withdrawn') THEN s.number <= 7
    WHEN c.opened_on + s.default_days < current_date THEN (c.id * 31 + s.number * 17) % 100 < 90
    ELSE (c.id * 31 + s.number * 17) % 100 < 20 END"""


def run(size: int) -> Iterator[Measured]:
    _fill()
    day = timezone.localdate()
    found = due.due(day - due.DAY, day)
    taken = best_ms(lambda: due.due(day - due.DAY, day))
    in_database = _execution_ms(day)
    text = f"{taken:.1f} ms for {len(found):,} of {CaseStep.objects.count():,} steps of {Case.objects.count():,} cases"
    yield Measured("finding the steps to tell of", taken, text, "50 ms")
    yield Measured("finding the steps to tell of, the database's part", in_database, f"{in_database:.1f} ms", "50 ms")
    yield from _of_some_days(day)
    last = due.Last(day - due.DAY, due.seen())
    _change_steps()
    found = due.entered(last)
    taken = best_ms(lambda: due.entered(last))
    text = f"{taken:.1f} ms for {len(found):,} steps, after {CHANGED:,} were changed"
    yield Measured("finding the steps that came too late for it", taken, text, "50 ms")


def _of_some_days(day: datetime.date) -> Iterator[Measured]:
    taken = best_ms(lambda: due.due(day - 3 * due.DAY, day))
    found = due.due(day - 3 * due.DAY, day)
    yield Measured("finding them after a weekend", taken, f"{taken:.1f} ms for {len(found):,} steps", "")
    first = due.next_working_day(day - day.weekday() * due.DAY)
    rows = due.older(first - due.DAY, first)
    taken = best_ms(lambda: due.older(first - due.DAY, first), times=5)
    text = f"{taken:.1f} ms for {notifications.count_of(rows):,} steps of {len(rows):,} advisers"
    yield Measured("counting what is overdue for longer, once a week", taken, text, "")


def _execution_ms(day: datetime.date) -> float:
    """By EXPLAIN ANALYZE, whose plan goes to the log."""
    with CaptureQueriesContext(connection) as queries:
        due.due(day - due.DAY, day)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {queries[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    print(plan, file=sys.stderr)
    return float(re.search(r"Execution Time: ([\d.]+) ms", plan)[1])


def _change_steps() -> None:
    """A day's work: pending steps get a version each, all over the office."""
    step, history = CaseStep._meta.db_table, CaseStep.history.model._meta.db_table
    names = [field.column for field in CaseStep._meta.concrete_fields]
    of_history = {"history_date": "now()", "history_type": "'~'", "history_user_name": "''",
                  "operation_id": "gen_random_uuid()", "source": "'job'"}  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {history} ({', '.join([*names, *of_history])}) SELECT {', '.join([*names, *of_history.values()])} "
            f"FROM {step} WHERE state = 'pending' AND deadline < current_date ORDER BY deadline DESC LIMIT {CHANGED}"
        )
        cursor.execute(f"ANALYZE {history}")


def _fill() -> None:
    template = Case.objects.order_by("pk").first()
    people = list(User.objects.filter(is_staff=True).order_by("pk").values_list("pk", flat=True))
    columns = {field.column: f"t.{field.column}" for field in Case._meta.concrete_fields} | {
        "id": "10000000 + n",
        "reference": "'M-' || n",
        "legacy_id": "NULL",
        "opened_on": f"current_date - n % {YEARS * 365}",
        "status": STATUS,
        "next_deadline": "NULL",
        "adviser_id": f"(ARRAY{people})[1 + n % {len(people)}]",
    }
    case, step = Case._meta.db_table, CaseStep._meta.db_table
    with connection.cursor() as cursor:
        # The server's own word for "as it is": no check of fifteen million foreign keys.
        cursor.execute("SET session_replication_role = replica")
        with _without_indexes(cursor, case):
            cursor.execute(
                f"INSERT INTO {case} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
                f"FROM generate_series(1, {CASES}) n, {case} t WHERE t.id = {template.pk}"
            )
        with _without_indexes(cursor, step):
            cursor.execute(
                f"INSERT INTO {step} (case_id, step_id, deadline, state, completed_on, note) "
                "SELECT id, step_id, deadline, CASE WHEN done THEN 'done' ELSE 'pending' END, "
                "CASE WHEN done THEN deadline END, '' FROM ("
                f"SELECT c.id, s.id step_id, c.opened_on + s.default_days deadline, {IS_DONE} done "
                f"FROM {case} c, {Step._meta.db_table} s WHERE c.id > 10000000) made"
            )
        cursor.execute(
            f"UPDATE {case} c SET next_deadline = s.first FROM (SELECT case_id, min(deadline) AS first FROM {step} "
            "WHERE state = 'pending' GROUP BY case_id) s WHERE s.case_id = c.id AND c.status IN ('open', 'approved')"
        )
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")


@contextlib.contextmanager
def _without_indexes(cursor, table: str) -> Iterator[None]:
    """Those of constraints stay."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s AND indexname NOT IN "
        "(SELECT conname FROM pg_constraint)",
        [table],
    )
    found = cursor.fetchall()
    for name, _definition in found:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _name, definition in found:
        cursor.execute(definition)
