"""Alice, Bob and the office around them. Every factory writes through the product's own doors."""

import datetime
import itertools

from crm import catalogue, roles, workflow
from crm.models import Case, Client, Lender, Step, User

_numbers = itertools.count(1)
TODAY = datetime.date(2026, 3, 2)  # a Monday


def make_user(role: str = roles.ADVISER, **fields) -> User:
    number = next(_numbers)
    fields.setdefault("username", f"{role.lower()}{number}")
    fields.setdefault("email", f"{fields['username']}@example.com")
    user = User.objects.create_user(password="a long enough password", is_staff=True, **fields)
    roles.assign(user, role)
    return User.objects.get(pk=user.pk)


def make_catalogue() -> list[Step]:
    catalogue.load()
    return list(Step.objects.all())


def make_client(full_name: str = "Alice Nováková", **fields) -> Client:
    return Client.objects.create(full_name=full_name, **fields)


def make_case(client: Client | None = None, *, by=None, **fields) -> Case:
    if not Step.objects.exists():
        make_catalogue()
    fields.setdefault("opened_on", TODAY)
    return workflow.start_case(Case(client=client or make_client(), **fields), by=by)


def make_lender(name: str = "Banka Pod Lipou", **fields) -> Lender:
    return Lender.objects.get_or_create(name=name, defaults=fields)[0]
