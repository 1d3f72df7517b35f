"""Search in encrypted values: what the list asks the database for, and the list page with a search."""

from collections.abc import Iterator
from itertools import cycle
from urllib.parse import quote

from django.contrib.auth import get_user_model
from django.urls import reverse

from crm.bench.measuring import Measured, best_ms
from crm.bench.pages import browser, page
from crm.models import Client

PAGE = 50
GOAL = "3x"


def run(size: int) -> Iterator[Measured]:
    manager = get_user_model().objects.get(username="manager")
    keys = list(Client.objects.order_by("pk").values_list("pk", flat=True))
    people = list(Client.objects.filter(pk__in=keys[:: max(1, len(keys) // 25)]))
    names = [client.full_name.split()[-1] for client in people]
    for what, texts in (
        ("search: whole e-mail", [client.email for client in people]),
        ("search: birth number", [client.birth_number for client in people if client.birth_number]),
        ("search: surname", names),
        ("search: prefix of 3 letters", [name[:3] for name in names]),
        ("search: first name and surname", [" ".join(client.full_name.split()[-2:]) for client in people]),
        ("search: nothing found", ["xyzxyz", "nobody@example.com", "999999/9999"]),
    ):
        yield _asked(what, texts, manager)
    opened, address = browser(), reverse("admin:crm_client_changelist")
    yield page("list page, prefix search", f"{address}?q={quote(names[0][:3])}", opened, GOAL)
    yield page("list page, e-mail search", f"{address}?q={quote(people[0].email)}", opened, GOAL)


def _asked(what: str, texts: list[str], user) -> Measured:
    turn = cycle(texts)

    def search():
        found = Client.objects.visible_to(user).search(next(turn)).only("reference", "full_name")
        return list(found.order_by("-reference")[:PAGE])

    taken = best_ms(search, times=50)
    return Measured(what, taken, f"{taken:.1f} ms", GOAL)
