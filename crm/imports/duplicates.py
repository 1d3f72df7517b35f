"""New clients that may be somebody already known, and cases that a client who is known may have already: told to a person,
never merged by a machine."""

import datetime
import itertools
from collections import defaultdict
from collections.abc import Sequence

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import search
from crm.choices import CaseStatus
from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Item, Plan
from crm.imports.problems import DUPLICATE, WARNING, RowProblem
from crm.imports.shelf import FirstMet
from crm.models import Case, Client, SearchToken

BATCH = 500
BORN = "born"
# What a client is known by here: the name, the name with each of three marks, and the birth number.
MOST_MARKS = 5
# What a new client has in common with a known one; or that it is the case which is known.
NUMBER, DETAILS, NAME, CASE = "number", "details", "name", "case"
_REASONS = {
    NUMBER: _("Probably somebody already known: %(where)s has the same birth number."),
    DETAILS: _("Probably somebody already known: %(where)s has the same name and date or e-mail."),
    NAME: _("Perhaps somebody already known: %(where)s has the same name."),
    CASE: _("Probably a case already known: %(where)s says the same of this client."),
}
# What says which row a case came from, not which case it is.
_OF_THE_ROW = {"import_digest", "legacy_id", "history_reason"}


class _Namesakes:
    """Where each name was met first: at all, and with a day or an e-mail. Of the file that is a row's number, of the office
    a reference."""

    def __init__(self, clients: int):
        self._first = FirstMet(MOST_MARKS * clients)
        # Which of them, where a number of `_first` is negative.
        self._references: list[str] = []

    def add(self, name: bytes, where: str | int, *marks) -> None:
        number = where
        if isinstance(where, str):
            self._references.append(where)
            number = -len(self._references)
        self._first.add(name, number)
        for mark in marks:
            if mark:
                self._first.add((name, mark), number)

    def first(self, name: bytes) -> str | int | None:
        return self._where(self._first.get(name))

    def alike(self, name: bytes, *marks) -> str | int | None:
        return self._where(next(filter(None, (self._first.get((name, mark)) for mark in marks if mark)), 0))

    def _where(self, number: int) -> str | int | None:
        return self._references[-number - 1] if number < 0 else number or None


def _said(where: str | int) -> str:
    return gettext("row %(row)s") % {"row": where} if isinstance(where, int) else where


def report(plan: Plan, items: list[Item], user) -> None:
    """Warns of each new client whose birth number, or name (folded, in any order, without titles), is known here or higher
    in the file. Six queries for each 500 rows."""
    column = plan.layout.column("full_name")
    header = column.header if column else ""
    known = _Namesakes(len(items))
    for some in itertools.batched(items, BATCH):
        clients = [item.client for item in some]
        names = [search.name_key_digest(client.full_name) for client in clients]
        numbers = [_digest(search.Kind.BIRTH_NUMBER, client.birth_number) for client in clients]
        _add_stored(known, list(dict.fromkeys(names)), user)
        _add_numbers(known, [number for number in numbers if number], user)
        for name, number, item, client in zip(names, numbers, some, clients, strict=True):
            case = item.case
            marks = (
                _digest(search.Kind.EMAIL, client.email),
                client.birth_date and (BORN, client.birth_date),
                case.opened_on if case else None,
            )
            if where := number and known.first(number):
                common = NUMBER
            elif where := known.alike(name, *marks):
                common = DETAILS
            elif where := known.first(name):
                common = NAME
            if where:
                about = where if isinstance(where, str) else ""
                plan.problems.append(_problem(item.row, header, client.full_name, common, where, about))
            known.add(name, item.row, *marks)
            if number:
                known.add(number, item.row)


def _problem(row: int, header: str, value: str, common: str, where: str | int, about: str = "") -> RowProblem:
    reason = str(_REASONS[common]) % {"where": _said(where)}
    return RowProblem(row, header, value, reason, WARNING, DUPLICATE, about, f"{common} {where}")


def is_about_a_case(problem: RowProblem) -> bool:
    return problem.kind == DUPLICATE and problem.code.startswith(f"{CASE} ")


class KnownCases:
    """Warns of each new case of a client who is known that says what one higher in the file does, or all of whose values a
    stored one of his has. Whoever has an id of the older CRM is a case of its own. A query for each 500 rows."""

    def __init__(self, plan: Plan, user, on: datetime.date):
        """`on`: the day of cases without a date, which therefore says nothing of them."""
        self.plan, self.user, self.on = plan, user, on
        self._first = FirstMet()
        columns = (plan.layout.column(*each) for each in (("client",), ("reference", "client"), ("full_name",)))
        self._header = next((column.header for column in columns if column), "")

    def report(self, items: Sequence[NewItem]) -> None:
        for some in itertools.batched(items, BATCH):
            new = [(item, item.client, case) for item in some if (case := item.case) and not case.legacy_id]
            said = [self._said(case) for _item, _client, case in new]
            stored = self._stored({client.pk for _item, client, _case in new}, set().union(*said))
            for (item, client, case), values in zip(new, said, strict=True):
                given = {name: value for name, value in case.given.items() if name != "import_digest"}
                whole = (client.pk, item.lender_text, frozenset(given.items()))
                same = (each for each in stored[client.pk] if values and values.items() <= each.items())
                where = next((each["reference"] for each in same), None) or self._first.get(whole)
                if where:
                    self.plan.problems.append(_problem(item.row, self._header, client.reference, CASE, where))
                self._first.add(whole, item.row)

    def _said(self, case: Draft) -> dict[str, object]:
        """What a stored case has to say too."""
        begins = {("opened_on", self.on), ("status", CaseStatus.OPEN)}
        return {
            name: value for name, value in case.given.items() if name not in _OF_THE_ROW and (name, value) not in begins
        }

    def _stored(self, clients: set[int], names: set[str]) -> dict[int, list[dict]]:
        """By client those cases of his that the person sees."""
        found = defaultdict(list)
        cases = Case.objects.filter(client__in=clients)
        cases = cases if self.user is None else cases.visible_to(self.user)
        for each in cases.order_by("pk").values("client_id", "reference", *names):
            found[each["client_id"]].append(each)
        return found


def _digest(kind: str, value: str | None) -> bytes | None:
    folded = search.fold_value(kind, value or "")
    return search.digest(kind, folded) if folded else None


def _add_numbers(known: _Namesakes, numbers: list[bytes], user) -> None:
    tokens = SearchToken.objects.filter(kind=search.Kind.BIRTH_NUMBER, digest__in=numbers)
    owners = list(tokens.order_by("client").values_list("digest", "client"))
    for chunk in itertools.batched(owners, BATCH):
        references = dict(_seen([client for _digest, client in chunk], user).values_list("pk", "reference"))
        for digest, client in chunk:
            if client in references:
                known.add(bytes(digest), references[client])


def _seen(keys: list[int], user):
    clients = Client.objects.filter(pk__in=keys)
    return clients if user is None else clients.visible_to(user)


def _add_stored(known: _Namesakes, names: list[bytes], user) -> None:
    """Only clients that `user` may see, so that a warning tells nobody of somebody else's client."""
    tokens = SearchToken.objects.filter(kind=search.Kind.NAME_KEY, digest__in=names)
    owners = list(tokens.order_by("client").values_list("digest", "client"))
    for chunk in itertools.batched(owners, BATCH):
        references, marks = {}, defaultdict(set)
        clients = _seen([client for _digest, client in chunk], user)
        for client, reference, born in clients.values_list("pk", "reference", "birth_date"):
            references[client] = reference
            if isinstance(born, datetime.date):
                marks[client].add((BORN, born))
        for client, day in Case.objects.filter(client__in=references).values_list("client", "opened_on"):
            marks[client].add(day)
        of_email = SearchToken.objects.filter(kind=search.Kind.EMAIL, client__in=references)
        for client, digest in of_email.values_list("client", "digest"):
            marks[client].add(bytes(digest))
        for digest, client in chunk:
            if client in references:
                known.add(bytes(digest), references[client], *marks[client])
