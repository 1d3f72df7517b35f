"""Pages as a manager opens them: the whole request in this process, without the network."""

from collections.abc import Iterator

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm.bench.measuring import Measured, best_ms
from crm.models import Case, Client


def browser() -> Browser:
    found = Browser()
    manager = get_user_model().objects.get(username="manager")
    found.force_login(manager, backend="django.contrib.auth.backends.ModelBackend")
    return found


def page(what: str, address: str, opened: Browser, goal: str = "") -> Measured:
    def get():
        response = opened.get(address, secure=True)
        if response.status_code != 200:
            raise RuntimeError(f"{address} answers {response.status_code}")
        return response

    with CaptureQueriesContext(connection) as queries:
        size = len(get().content)
    count = len(queries)  # now: the next request empties the log
    taken = best_ms(get)
    return Measured(what, taken, f"{taken:.0f} ms, {count} queries, {size / 1000:.0f} kB", goal)


def run(size: int) -> Iterator[Measured]:
    opened = browser()
    case = Case.objects.filter(status="approved").order_by("pk").first()
    client = Client.objects.order_by("pk")[size // 2]
    goal = "1.5x, 12 queries"
    yield page("list of clients", reverse("admin:crm_client_changelist"), opened, goal)
    yield page("list of cases", reverse("admin:crm_case_changelist"), opened, goal)
    yield page("what is due", reverse("admin:crm_casestep_changelist"), opened)
    yield page("case page", reverse("admin:crm_case_change", args=[case.pk]), opened)
    yield page("client page", reverse("admin:crm_client_change", args=[client.pk]), opened)
    yield page("my day", reverse("admin:index"), opened)
