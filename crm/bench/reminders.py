"""The 08:00 mail: finding whom to tell of which step, and writing ten thousand messages; both are rolled back."""

import time
from collections.abc import Iterator

from django.db import transaction
from django.utils import timezone

from crm import due, outbox
from crm.bench.measuring import Measured, best_ms
from crm.models import CaseStep

MESSAGES = 10_000


def run(size: int) -> Iterator[Measured]:
    day = timezone.localdate()
    found = due.due(day - due.DAY, day)
    taken = best_ms(lambda: due.due(day - due.DAY, day))
    text = f"{taken:.1f} ms for {len(found):,} of {CaseStep.objects.count():,} steps"
    yield Measured("finding the steps to tell of", taken, text, "50 ms")
    with transaction.atomic():
        start = time.perf_counter()
        outbox.put(
            outbox.message(
                "bench", to=f"adviser{number}@example.com", subject="H-000001", body="due", about=[day], language="cs"
            )
            for number in range(MESSAGES)
        )
        seconds = time.perf_counter() - start
        transaction.set_rollback(True)
    yield Measured(f"writing {MESSAGES:,} messages", seconds, f"{seconds:.1f} s", "10 s")
