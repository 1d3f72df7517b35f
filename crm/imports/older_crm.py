"""The older CRM's dump (`dumpdata` with its key): a client with a case for each of its clients, with all 59 columns, its
notes, changes and step log. A dump is a migration: what cannot be a value here is kept as text and told, and only a
client without a readable name is refused. What is here already, by the older CRM's id, stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from crm.imports import older_file, older_log
from crm.imports.older_clients import OlderItem, OlderReader, row_number, storable
from crm.imports.plans import Counted, Outcome, Table, csv_file, problem_table, sha256
from crm.imports.problems import ERROR, WARNING, RowProblem, UnusableFile
from crm.imports.writing import BATCH, batches, import_operation, store_run, take_turn, written_runs
from crm.jobs import unwatched
from crm.models import Case, CaseStep, Client, ImportRun, Note

KEY_LENGTH = Client._meta.get_field("legacy_id").max_length
WATCHED_EVERY = 500


@dataclass(slots=True)
class OlderPlan(Counted):
    """Rows are the dump's clients, and notes that are refused; a problem's row is the client's id there."""

    file_name: str
    sha256: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    items: list[OlderItem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    # Of clients that are here: the reference of the case.
    known: dict[str, str] = field(default_factory=dict)
    seen: tuple = ()
    again: Callable[[], "OlderPlan"] | None = None

    def tell(self, key: str, column: str, value: str, reason: str, severity: str = ERROR, *, record: str = "") -> None:
        """`record` is the outcome's, where that is not the client's."""
        self.problems.append(RowProblem(row_number(key), column, value, reason, severity, record=record or key))

    def leave_all(self) -> None:
        """What would have been written counts as skipped, so that the record never claims what is not there."""
        self.items, self.notes = [], []
        for key, outcome in self.outcomes.items():
            if outcome in (Outcome.CREATE, Outcome.UPDATE):
                self.outcomes[key] = Outcome.SKIP

    def errors_file(self) -> bytes:
        return csv_file(*self.refused())

    def refused(self) -> Table:
        return problem_table(self.problems)


def check(content: bytes, file_name: str, *, on=None, progress=unwatched) -> OlderPlan:
    """Plans the whole dump; writes nothing. `on` is the day of a client without a date. Raises UnusableFile."""
    on = on or timezone.localdate()
    seen = written_runs()
    records, notices = older_file.read(content)
    found = records.pop(older_file.CLIENT, [])
    clients: dict[str, dict] = {}
    for record in found:
        clients.setdefault(record["pk"], record["fields"])
    if not clients:
        raise UnusableFile(_("The dump holds no client. Make it with the older CRM's dumpdata command."))
    again = partial(check, content, file_name, on=on)
    plan = OlderPlan(file_name, sha256(content), notices=notices, seen=seen, again=again)
    accounts = {each["pk"]: storable(each["fields"].get("username")) for each in records.pop("user", [])}
    cases: dict[str, Case] = {}
    caseless: set[str] = set()
    restricted: set[str] = set()
    for keys in batches(list(clients)):
        here = Case.objects.filter(legacy_id__in=keys).select_related("client")
        here = here.only("pk", "legacy_id", "reference", "client__restricted_at", "client__anonymised_at")
        cases |= {case.legacy_id: case for case in here}
        restricted |= {case.legacy_id for case in here if case.client.is_restricted}
        caseless.update(Client.objects.filter(legacy_id__in=keys).values_list("legacy_id", flat=True))
    plan.known = {key: case.reference for key, case in cases.items()}
    reader = OlderReader(plan.tell, accounts, on)
    for number, (key, fields) in enumerate(clients.items()):
        if number % WATCHED_EVERY == 0:
            progress(number, len(clients))
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
            key, twin = record["pk"], f"{record['pk']} #{number}"
            plan.tell(key, "pk", key, _("Another client of the dump has the same id."), record=twin)
            plan.outcomes[twin] = Outcome.ERROR
    older_log.plan_notes(plan, records, clients, cases, accounts, restricted)
    plan.notices += [notice for name, left in records.items() for notice in _tell_of(name, left)]
    return plan


def _tell_of(name: str, records: list[dict]) -> list[str]:
    if name == "userprofile":
        text = _("User profile %(pk)s (user %(user)s, role %(role)s): make the user here by hand.")
        return [
            text % {"pk": each["pk"], **{name: storable(each["fields"].get(name)) for name in ("user", "role")}}
            for each in records
        ]
    return [_("%(count)s records of %(name)s have no place here.") % {"count": len(records), "name": name}]


def write(
    plan: OlderPlan, user=None, *, all_or_nothing: bool = False, run: ImportRun | None = None, progress=unwatched
) -> ImportRun:
    """Everything of the plan in one transaction and one operation; with `all_or_nothing` nothing while a record is refused."""
    with import_operation(plan, user), transaction.atomic():
        take_turn(plan)
        if all_or_nothing and plan.errors:
            plan.leave_all()
        for number, batch in enumerate(batches(plan.items)):
            progress(number * BATCH, len(plan.items))
            Client.objects.bulk_create([item.client for item in batch])
            Case.objects.bulk_create([item.case for item in batch])
            CaseStep.objects.bulk_create([step for item in batch for step in item.steps])
        for batch in batches(plan.notes):
            Note.objects.bulk_create(batch)
        return store_run(plan, user, run=run)
