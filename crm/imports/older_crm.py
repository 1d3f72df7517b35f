"""The older CRM's dump (`dumpdata` with its key): a client with a case for each of its clients, with all 59 columns, its
notes, changes and step log. A dump is a migration: what cannot be a value here is kept as text and told, and only a
client without a readable name is refused. What is here already, by the older CRM's id, stays as it is."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from crm.imports import older_log
from crm.imports.older_clients import OlderItem, OlderReader, row_number, storable
from crm.imports.plans import Outcome, problems_file, sha256, summary_line
from crm.imports.problems import ERROR, WARNING, RowProblem, UnusableFile
from crm.imports.writing import batches, import_operation, store_run, take_turn, written_runs
from crm.models import Case, CaseStep, Client, ImportRun, Note

KEY_LENGTH = Client._meta.get_field("legacy_id").max_length
LONGEST_INTEGER = 100


@dataclass(slots=True)
class OlderPlan:
    """Rows are the dump's clients; a problem's row is the client's id there."""

    file_name: str
    sha256: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    items: list[OlderItem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    seen: tuple = ()
    again: Callable[[], "OlderPlan"] | None = None

    def tell(self, key: str, column: str, value: str, reason: str, severity: str = ERROR) -> None:
        self.problems.append(RowProblem(row_number(key), column, value, reason, severity))

    def count(self, outcome: Outcome) -> int:
        return list(self.outcomes.values()).count(outcome)

    @property
    def rows(self) -> int:
        return len(self.outcomes)

    @property
    def errors(self) -> int:
        return self.count(Outcome.ERROR)

    def errors_file(self) -> bytes:
        return problems_file(self.problems)

    def summary_line(self) -> str:
        counts = (self.count(each) for each in (Outcome.CREATE, Outcome.UPDATE, Outcome.SKIP, Outcome.ERROR))
        return summary_line(self.rows, *counts)


def check(content: bytes, file_name: str, *, on=None) -> OlderPlan:
    """Plans the whole dump; writes nothing. `on` is the day of a client without a date. Raises UnusableFile."""
    on = on or timezone.localdate()
    seen = written_runs()
    records = _records(content)
    found = records.pop("klient", [])
    clients: dict[str, dict] = {}
    for record in found:
        clients.setdefault(record["pk"], record["fields"])
    if not clients:
        raise UnusableFile(_("The dump holds no client. Make it with the older CRM's dumpdata command."))
    plan = OlderPlan(file_name, sha256(content), seen=seen, again=partial(check, content, file_name, on=on))
    accounts = {each["pk"]: storable(each["fields"].get("username")) for each in records.pop("user", [])}
    cases: dict[str, Case] = {}
    caseless: set[str] = set()
    for keys in batches(list(clients)):
        cases |= {case.legacy_id: case for case in Case.objects.filter(legacy_id__in=keys).only("pk", "legacy_id")}
        caseless.update(Client.objects.filter(legacy_id__in=keys).values_list("legacy_id", flat=True))
    reader = OlderReader(plan.problems, accounts, on)
    for key, fields in clients.items():
        if key in cases:
            plan.outcomes[key] = Outcome.SKIP
        elif key in caseless:
            # Its case was deleted here, or the client was imported alone: neither is undone by a machine.
            plan.tell(key, "pk", key, _("The client is here without this case, and stays as it is."), WARNING)
            plan.outcomes[key] = Outcome.SKIP
        elif len(key) > KEY_LENGTH:
            plan.tell(key, "pk", key, _("The id is longer than %(length)s characters.") % {"length": KEY_LENGTH})
            plan.outcomes[key] = Outcome.ERROR
        elif item := reader.item(key, fields):
            plan.items.append(item)
            plan.outcomes[key] = Outcome.CREATE
            cases[key] = item.case
        else:
            plan.outcomes[key] = Outcome.ERROR
    for number, record in enumerate(found):
        if clients[record["pk"]] is not record["fields"]:
            plan.tell(record["pk"], "pk", record["pk"], _("Another client of the dump has the same id."))
            plan.outcomes[f"{record['pk']} #{number}"] = Outcome.ERROR
    older_log.plan_notes(plan, records, clients, cases, accounts)
    plan.notices += [notice for name, left in records.items() for notice in _tell_of(name, left)]
    return plan


def _records(content: bytes) -> dict[str, list[dict]]:
    """Model name in small letters, without its app -> its records."""
    try:
        records: dict[str, list[dict]] = {}
        for record in json.loads(content.decode("utf-8-sig"), parse_int=_integer):
            fields = {storable(column): value for column, value in record["fields"].items()}
            model = storable(record["model"].rpartition(".")[2].lower())
            records.setdefault(model, []).append({"pk": storable(record["pk"]), "fields": fields})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableFile(
            _("This is no dump of the older CRM, or only a part of one. Make it again with its dumpdata command.")
        ) from error
    return records


def _integer(digits: str) -> int | str:
    """Python refuses to read a number of thousands of digits, and the whole dump with it."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def _tell_of(name: str, records: list[dict]) -> list[str]:
    if name == "userprofile":
        text = _("User profile %(pk)s (user %(user)s, role %(role)s): make the user here by hand.")
        return [
            text % {"pk": each["pk"], **{name: storable(each["fields"].get(name)) for name in ("user", "role")}}
            for each in records
        ]
    return [_("%(count)s records of %(name)s have no place here.") % {"count": len(records), "name": name}]


def write(plan: OlderPlan, user=None) -> ImportRun:
    """Everything of the plan in one transaction and one operation."""
    with import_operation(plan, user), transaction.atomic():
        take_turn(plan)
        for batch in batches(plan.items):
            Client.objects.bulk_create([item.client for item in batch])
            Case.objects.bulk_create([item.case for item in batch])
            CaseStep.objects.bulk_create([step for item in batch for step in item.steps])
        for batch in batches(plan.notes):
            Note.objects.bulk_create(batch)
        return store_run(plan, user)
