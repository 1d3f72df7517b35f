"""What a row of the file makes: a new client, a new case or both. Tens of thousands of them wait for their write, so none
is a model instance: those cost ten times as much."""

from functools import cache

from django.db import models

from crm.imports.shelf import Shelf
from crm.models import Case, Client


class Draft:
    """Stands for a record: what is given of it by attribute name (`lender_id`), else what a new one begins with. `pk` is
    None for one that is not stored."""

    __slots__ = ("given", "model", "pk")

    def __init__(self, model: type[models.Model], given: dict[str, object], pk: int | None = None):
        self.model, self.given, self.pk = model, given, pk

    def __getattr__(self, name: str):
        return self.given[name] if name in self.given else beginnings(self.model)[name]


@cache
def beginnings(model: type[models.Model]) -> dict[str, object]:
    return {field.attname: field.get_default() for field in model._meta.concrete_fields}


class NewItem:
    """An `Item` of plans.py whose records are drafts. A client with a key is stored already."""

    __slots__ = ("_at", "_shelf", "row")
    is_new = True
    changed = ()

    def __init__(self, row: int, shelf: Shelf, *, client: Draft, case: Draft | None = None, lender_text: str = ""):
        self.row, self._shelf = row, shelf
        self._at = shelf.add((client.given, client.pk, case and case.given, lender_text))

    @property
    def client(self) -> Draft:
        given, key, _case, _lender_text = self._shelf[self._at]
        return Draft(Client, given, key)

    @property
    def case(self) -> Draft | None:
        given = self._shelf[self._at][2]
        return None if given is None else Draft(Case, given)

    @property
    def lender_text(self) -> str:
        return self._shelf[self._at][3]
