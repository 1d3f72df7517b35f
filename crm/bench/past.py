"""Pages as they were thirty days ago, and the list of cases of the day when the office was small."""

import datetime
from collections.abc import Iterator

from django.urls import reverse
from django.utils import timezone

from crm.bench.measuring import Measured
from crm.bench.pages import browser, page
from crm.models import Case

GOAL = "2x"


def run(size: int) -> Iterator[Measured]:
    opened = browser()
    now = timezone.localtime()
    case = Case.objects.filter(status="approved", opened_on__lt=now.date() - datetime.timedelta(days=90)).first()
    then = _as_of(now - datetime.timedelta(days=30))
    listed = reverse("admin:crm_case_changelist")
    yield page("case page as of then", reverse("admin:crm_case_change", args=[case.pk]) + then, opened, GOAL)
    yield page("client page as of then", reverse("admin:crm_client_change", args=[case.client_id]) + then, opened, GOAL)
    yield page("list of cases as of then", listed + then, opened, GOAL)
    yield page(
        "list of cases as of then, of an adviser, open", f"{listed}{then}&adviser={case.adviser_id}&status=open", opened
    )
    first = Case.history.order_by("history_date").values_list("history_date", flat=True)[50]
    yield page("list of cases as of its beginning", listed + _as_of(timezone.localtime(first)), opened)


def _as_of(at: datetime.datetime) -> str:
    return f"?as_of={at:%Y-%m-%dT%H:%M}"
