"""Undo of an import of full rows beside the import itself; both are rolled back."""

import time
from collections.abc import Iterator

from django.contrib.auth import get_user_model
from django.db import connection, transaction

from crm import imports
from crm.audit import undo
from crm.bench import full_rows
from crm.bench.measuring import Measured
from crm.models import operation


def run(size: int) -> Iterator[Measured]:
    rows = min(10_000, max(size, 100))
    manager = get_user_model().objects.get(username="manager")
    full_rows.add_lender()
    with transaction.atomic():
        with operation(user=manager) as done:
            start = time.perf_counter()
            imports.write(imports.check(full_rows.csv_file(rows), "bench.csv", manager), manager)
            imported = time.perf_counter() - start
        with operation(user=manager):
            start = time.perf_counter()
            made = undo.undo(done.id, manager)
            undone = time.perf_counter() - start
        transaction.set_rollback(True)
    text = f"{undone:.1f} s for {made.count:,} records, {undone / imported:.2f} times the import ({imported:.1f} s)"
    yield Measured(f"undo of an import of {rows:,} rows", undone / imported, text, "not above 1 time the import")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
