"""The timeline of a client, and pages as they were thirty days ago."""

import datetime
from collections.abc import Iterator

from django.urls import reverse
from django.utils import timezone

from crm.bench.measuring import Measured
from crm.bench.pages import browser, page
from crm.models import Case, Client

GOAL = "2x"


def run(size: int) -> Iterator[Measured]:
    opened = browser()
    long_ago = timezone.localdate() - datetime.timedelta(days=90)
    case = Case.objects.filter(status="approved", opened_on__lt=long_ago).order_by("pk").first()
    then = f"?as_of={timezone.localtime() - datetime.timedelta(days=30):%Y-%m-%dT%H:%M}"
    yield page("timeline, as it grew", _timeline(case.client_id), opened, GOAL)
    busy = Client.objects.order_by("pk").last()
    for changes in (50, 1000):
        _change(busy, changes)
        yield page(f"timeline of {changes:,} changes", _timeline(busy.pk), opened, GOAL)
    yield page("case page as of then", reverse("admin:crm_case_change", args=[case.pk]) + then, opened, GOAL)
    yield page("client page as of then", reverse("admin:crm_client_change", args=[case.client_id]) + then, opened, GOAL)
    yield page("list of cases as of then", reverse("admin:crm_case_changelist") + then, opened, GOAL)


def _timeline(client_id: int) -> str:
    return reverse("admin:crm_client_timeline", args=[client_id])


def _change(client: Client, wanted: int) -> None:
    for number in range(client.history.count(), wanted):
        client.citizenship = ("CZ", "SK")[number % 2]
        client.save()
