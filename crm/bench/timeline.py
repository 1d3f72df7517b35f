"""The timeline of a client with 50 and with 1,000 changes: its page, its filters, its last page."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import connection
from django.urls import reverse
from django.utils import timezone

from crm.audit.timeline import PER_PAGE
from crm.bench.measuring import Measured
from crm.bench.pages import browser, page
from crm.models import Case, operation

SHORT, LONG = 50, 1_000
GOAL = "2x"


def run(size: int) -> Iterator[Measured]:
    newest = Case.objects.order_by("-pk").first()
    approved = Case.objects.filter(status="approved").order_by("pk").first()
    quiet, busy = newest, Case.objects.exclude(client=newest.client_id).order_by("-pk").first()
    for case, wanted in ((quiet, SHORT), (busy, LONG)):
        _change(case, wanted)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    opened = browser()
    yield page("timeline, as it grew", reverse("admin:crm_client_timeline", args=[approved.client_id]), opened, GOAL)
    few, many = (reverse("admin:crm_client_timeline", args=[case.client_id]) for case in (quiet, busy))
    yield page(f"timeline of {SHORT} changes", few, opened, GOAL)
    yield page(f"timeline of {LONG:,} changes", many, opened, f"{GOAL}, as the one of {SHORT}")
    yield page(f"timeline of {LONG:,} changes, its last page", f"{many}?p={LONG // PER_PAGE}", opened)
    yield page(f"timeline of {LONG:,} changes, of one field", f"{many}?field=casestep.deadline", opened)


def _change(case: Case, wanted: int) -> None:
    """Until so many rows of steps were changed, a step at a time, as people do it."""
    steps = list(case.steps.all())
    today = timezone.localdate()
    for number in range(wanted):
        step = steps[number % len(steps)]
        step.deadline = today + timedelta(days=number)
        with operation(reason="measured" if number % 10 == 0 else ""):
            step.save()
