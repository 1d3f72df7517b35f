"""What it costs to seal the history and to verify it: rows a second of one core, and the bytes that a seal keeps of a row."""

import time
from collections.abc import Iterator

from django.db import connection
from django.db.models import Sum
from django.test import override_settings
from django.utils import timezone

from crm.audit import sealing, verifying
from crm.bench.measuring import Measured
from crm.models import SealBlock

KEY = "seal-key-for-the-bench-0123456789-abcdefghijkl"
MILLION = 1_000_000


def run(size: int) -> Iterator[Measured]:
    with override_settings(AUDIT_KEYS=[KEY], AUDIT_ANCHOR=""):
        start = time.perf_counter()
        sealed = sealing.seal(now=timezone.now()).rows
        seconds = time.perf_counter() - start
        yield Measured("seal", sealed / seconds, f"{sealed / seconds:,.0f} rows/s ({sealed:,} in {seconds:.1f} s)")
        start, worked = time.perf_counter(), time.process_time()
        found = verifying.verify(now=timezone.now())
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        assert found.is_whole, found.problems
        million = seconds / found.rows * MILLION
        text = f"{million:.1f} s a million rows, {worked / seconds:.0%} of a core ({found.rows:,} in {seconds:.1f} s)"
        yield Measured("verify the seals", million, text, "60 s a million rows")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [SealBlock._meta.db_table])
        [kept] = cursor.fetchone()
    rows = SealBlock.objects.aggregate(rows=Sum("rows"))["rows"]
    yield Measured("seal of a history row", kept / rows, f"{kept / rows:,.0f} bytes")
