"""A file of new people into an office of that size: checked (as for a preview) and written; then rolled back."""

import csv
import io
import time
from collections.abc import Iterator

import xlsxwriter
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from crm import imports
from crm.bench.measuring import Measured, rows_per_second

HEADERS = ("jmeno", "datum", "vyber_banky", "navrh_financovani_castka", "duvod_zamitnuti", "co_financuje",
           "navrh_financovani", "navrh_financovani_procento", "cena")  # fmt: skip


def run(size: int) -> Iterator[Measured]:
    rows = min(10_000, max(size, 100))
    manager = get_user_model().objects.get(username="manager")
    for name, content in (("csv", _csv(rows)), ("xlsx", _xlsx(rows))):
        with transaction.atomic():
            start = time.perf_counter()
            plan = imports.check(content, f"bench.{name}", manager)
            checked = time.perf_counter() - start
            imports.write(plan, manager)
            taken = time.perf_counter() - start
            transaction.set_rollback(True)
        if plan.errors:
            raise RuntimeError(plan.summary_line())
        yield rows_per_second(f"import check, {name}", rows, checked)
        yield rows_per_second(f"import check and write, {name}", rows, taken)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # what was rolled back is still in the files


def _rows(count: int) -> Iterator[tuple]:
    for number in range(count):
        price = 2_000_000 + number * 1000
        name = f"Dovoz{number} Hromadný{number % 997}"
        yield name, f"{number % 28 + 1}.{number % 12 + 1}.2025", "KB", f"{price * 8 // 10},00", "", "Byt 2+kk", \
            "anuita 30 let", "80", f"{price},00"  # fmt: skip


def _csv(count: int) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(HEADERS)
    writer.writerows(_rows(count))
    return text.getvalue().encode("utf-8-sig")


def _xlsx(count: int) -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"constant_memory": True})
    sheet = book.add_worksheet()
    for index, row in enumerate([HEADERS, *_rows(count)]):
        sheet.write_row(index, 0, row)
    book.close()
    return target.getvalue()
