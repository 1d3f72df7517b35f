"""The calendar of the adviser with the most deadlines, as his calendar program asks for it."""

from collections.abc import Iterator

from django.db.models import Count
from django.utils import timezone

from crm import calendars
from crm.bench.measuring import Measured, best_ms
from crm.models import CaseStep, User


def run(size: int) -> Iterator[Measured]:
    day = timezone.localdate()
    steps = CaseStep.objects.pending().of_active_cases().exclude(case__adviser=None).order_by()
    busiest = steps.values_list("case__adviser").annotate(count=Count("pk")).order_by("-count")[0][0]
    user = User.objects.get(pk=busiest)
    content = calendars.of_person(user, day)
    taken = best_ms(lambda: calendars.of_person(user, day))
    events, kilobytes = content.count(b"BEGIN:VEVENT"), len(content) / 1024
    yield Measured("reading a calendar", taken, f"{taken:.0f} ms for {events:,} events, {kilobytes:,.0f} KB")
