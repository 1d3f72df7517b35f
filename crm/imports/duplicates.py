"""New clients that may be somebody already known: told to a person, never merged by a machine."""

from collections import defaultdict
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from crm import search
from crm.imports.plans import Item, Plan
from crm.imports.problems import DUPLICATE, WARNING, RowProblem
from crm.models import Case, Client, SearchToken

BATCH = 500


@dataclass(slots=True)
class _Namesakes:
    """Where a name was met first: at all, with a day, with an e-mail."""

    first: str = ""
    by_day: dict = field(default_factory=dict)
    by_email: dict = field(default_factory=dict)

    def add(self, where: str, days, emails) -> None:
        self.first = self.first or where
        for day in days:
            self.by_day.setdefault(day, where)
        for email in emails:
            self.by_email.setdefault(email, where)


def report(plan: Plan, items: list[Item], user) -> None:
    """Warns of each new client whose name (folded, in any order, without titles) is known here or higher in the file.
    Four queries for each 500 names."""
    column = plan.layout.column("full_name")
    header = column.header if column else ""
    names = [search.name_key_digest(item.client.full_name) for item in items]
    known = _stored(list(dict.fromkeys(names)), user)
    for name, item in zip(names, items, strict=True):
        namesakes = known[name]
        day = item.case.opened_on if item.case else None
        email = _email_digest(item.client.email)
        if where := namesakes.by_email.get(email) or namesakes.by_day.get(day):
            reason = _("Probably somebody already known: %(where)s has the same name and date or e-mail.")
        elif where := namesakes.first:
            reason = _("Perhaps somebody already known: %(where)s has the same name.")
        if where:
            problem = RowProblem(item.row, header, item.client.full_name, reason % {"where": where}, WARNING, DUPLICATE)
            plan.problems.append(problem)
        namesakes.add(_("row %(row)s") % {"row": item.row}, [day] if day else [], [email] if email else [])


def _email_digest(email: str | None) -> bytes | None:
    folded = search.fold_value(search.Kind.EMAIL, email or "")
    return search.digest(search.Kind.EMAIL, folded) if folded else None


def _stored(names: list[bytes], user) -> defaultdict[bytes, _Namesakes]:
    """Only clients that `user` may see, so that a warning tells nobody of somebody else's client."""
    found: defaultdict[bytes, _Namesakes] = defaultdict(_Namesakes)
    for start in range(0, len(names), BATCH):
        tokens = SearchToken.objects.filter(kind=search.Kind.NAME_KEY, digest__in=names[start : start + BATCH])
        owners = list(tokens.order_by("client").values_list("digest", "client"))
        for at in range(0, len(owners), BATCH):
            chunk = owners[at : at + BATCH]
            clients = Client.objects.filter(pk__in=[client for _digest, client in chunk])
            if user is not None:
                clients = clients.visible_to(user)
            references = dict(clients.values_list("pk", "reference"))
            days, emails = defaultdict(set), defaultdict(set)
            for client, day in Case.objects.filter(client__in=references).values_list("client", "opened_on"):
                days[client].add(day)
            of_email = SearchToken.objects.filter(kind=search.Kind.EMAIL, client__in=references)
            for client, digest in of_email.values_list("client", "digest"):
                emails[client].add(bytes(digest))
            for digest, client in chunk:
                if client in references:
                    found[bytes(digest)].add(references[client], days[client], emails[client])
    return found
