"""Rows of our own exports: matched by reference (or the older CRM's id), compared cell by cell. An equal row is skipped,
a cell that differs is an update, an empty cell leaves the value, and a row without a reference is new."""

import datetime
import re
from decimal import Decimal

from django.db.models import Q
from django.utils.translation import gettext as _

from crm import search
from crm.choices import CaseStatus
from crm.encryption import Unreadable
from crm.imports import conflicts, parsers, people
from crm.imports.columns import CASE, CLIENT, CLIENTS, KEYS, Column
from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Item, Outcome, Plan
from crm.imports.problems import WARNING, UnreadableValue
from crm.imports.reading import Row, is_empty
from crm.imports.shelf import Shelf
from crm.imports.values import RowReader
from crm.models import Case, CaseStep, Client, SearchToken
from crm.models.steps import LENDER_SELECTION

BATCH = 500
LONGEST_VERSION = 18  # digits
LEGACY_ID_LENGTH = Client._meta.get_field("legacy_id").max_length
# One of these beside the name says who somebody is; a name alone never does.
IDENTIFYING = ("email", "phone", "birth_number", "birth_date", "id_document_number", "bank_account", "business_id")
_CLIENT_REFERENCE = re.compile(r"\bC-[0-9]{6,}\b")


def plan_own(plan: Plan, reader: RowReader, rows: list[Row], user, *, on) -> None:
    """Three queries for each 500 rows, and two more where the rows carry versions."""
    planner = (_Clients if plan.layout.kind == CLIENTS else _Cases)(plan, reader, user, on)
    for start in range(0, len(rows), BATCH):
        planner.plan(rows[start : start + BATCH])


class _Planner:
    """What the two kinds of rows share."""

    def __init__(self, plan: Plan, reader: RowReader, user, on):
        self.whole, self.reader, self.user, self.on = plan, reader, user, on
        self.reference, self.legacy = (plan.layout.column(name) for name in KEYS)
        owner = CLIENT if plan.layout.kind == CLIENTS else CASE
        self.columns = [
            column for column in plan.layout.columns if column.owner == owner and column.name not in (*KEYS, "client")
        ]
        self.version = plan.layout.versions.get(owner)
        self.seen: dict[int, int] = {}
        self.new_ids: dict[str, int] = {}
        self.shelf, self.row_digests = Shelf(), people.RowDigests(plan)

    def visible(self, model):
        return model.objects.all() if self.user is None else model.objects.visible_to(self.user)

    def key(self, row: Row, column: Column | None) -> str:
        return parsers.unescape_cell(parsers.shown(row.cell(column.index))).replace("\0", "") if column else ""

    def plan(self, rows: list[Row]) -> None:
        references = [key for row in rows if (key := self.key(row, self.reference))]
        legacy_ids = [key for row in rows if (key := self.key(row, self.legacy))]
        found = list(self.stored().filter(Q(reference__in=references) | Q(legacy_id__in=legacy_ids)))
        by_reference = {each.reference: each for each in found}
        by_legacy_id = {each.legacy_id: each for each in found if each.legacy_id}
        self.foreign = self.taken_ids(legacy_ids) - by_legacy_id.keys()
        self.prepare(rows)
        keys = [(row, self.key(row, self.reference), self.key(row, self.legacy)) for row in rows]
        targets = [
            by_reference.get(reference) if reference else by_legacy_id.get(legacy) for _row, reference, legacy in keys
        ]
        self.then = self.changed_since(rows, targets)
        items = []
        for (row, reference, legacy_id), target in zip(keys, targets, strict=True):
            if reference and target is None:
                self.refuse(row, self.reference, _("There is no such record among yours."))
            elif target is not None and legacy_id and target.legacy_id != legacy_id:
                self.refuse(row, self.legacy, _("The record has another id in the older CRM."))
            elif target is None and (reason := self.refusal(legacy_id)):
                self.refuse(row, self.legacy, reason)
            elif target is None:
                if legacy_id:
                    self.new_ids[legacy_id] = row.number
                items.append(self.new(row, legacy_id))
            elif earlier := self.seen.get(target.pk):
                self.refuse(row, self.reference, _("Row %(row)s is about the same record.") % {"row": earlier})
            else:
                self.seen[target.pk] = row.number
                items.append(self.existing(row, target))
        self.finish([item for item in items if item])

    def taken_ids(self, legacy_ids: list[str]) -> set[str]:
        """Also of records that `user` does not see: no id is given twice."""
        if not legacy_ids:
            return set()
        found = self.stored().model.objects.filter(legacy_id__in=legacy_ids)
        return set(found.values_list("legacy_id", flat=True))

    def refusal(self, legacy_id: str) -> str:
        """Why no new record can have this id; empty if one can."""
        if len(legacy_id) > LEGACY_ID_LENGTH:
            return _("The id is longer than %(length)s characters.") % {"length": LEGACY_ID_LENGTH}
        if legacy_id in self.foreign:
            return _("There is no such record among yours.")
        if earlier := self.new_ids.get(legacy_id):
            return _("Row %(row)s is about the same record.") % {"row": earlier}
        return ""

    def refuse(self, row: Row, column: Column | None, reason: str) -> None:
        self.reader.report(row, column, reason)
        self.whole.outcomes[row.number] = Outcome.ERROR

    def existing(self, row: Row, target) -> Item | None:
        changes, lender_text, is_bad = {}, "", not self.belongs(row, target)
        for column in self.columns:
            cell, stored = row.cell(column.index), getattr(target, column.name)
            if cell is None:
                if self.whole.empty_deletes and not is_nothing(stored) and is_empty_at(row, column.index):
                    is_bad = not self.empty(row, column, target, changes) or is_bad
                continue
            if says(cell, stored):
                continue
            if isinstance(stored, Unreadable):
                self.reader.report(row, column, _("The stored value cannot be read, so it cannot be replaced."))
                is_bad = True
                continue
            values = self.reader.values(row, [column])
            is_bad, lender_text = is_bad or values.is_bad, lender_text or values.lender_text
            value = values.of(column.owner).get(column.name)
            if value is not None and value != stored and not self.gives_way(row, column, target, value):
                changes[column.name] = value
                if reason := forbidden(target, column.name, value):
                    self.reader.report(row, column, reason)
                    is_bad = True
        if is_bad:
            self.whole.outcomes[row.number] = Outcome.ERROR
            return None
        before = {name: getattr(target, name) for name in changes}
        for name, value in changes.items():
            setattr(target, name, value)
        self.whole.outcomes[row.number] = Outcome.UPDATE if changes or lender_text else Outcome.SKIP
        if not changes and not lender_text:
            return None
        item = Item(row.number, changed=tuple(changes), lender_text=lender_text, is_new=False, before=before)
        setattr(item, "client" if isinstance(target, Client) else "case", target)
        return item

    def changed_since(self, rows: list[Row], targets: list) -> dict:
        """Two queries where the rows carry versions."""
        versions = {}
        for row, target in zip(rows, targets, strict=True):
            written = self.key(row, self.version)
            if target is not None and written.isdecimal() and len(written) <= LONGEST_VERSION:
                versions[target.pk] = int(written)
        return conflicts.changed_since(self.stored().model, versions)

    def gives_way(self, row: Row, column: Column, target, value: object) -> bool:
        """Whether the office's value stays, since it was written after the file was made. Where the file's differs from
        both of them, a person is told."""
        if target.pk not in self.then:
            return False
        then, now = self.then[target.pk], getattr(target, column.name)
        if then is None:
            reason = _("The office changed this record since the file was made, and wrote “%(now)s”, which stays.")
            self.reader.report(row, column, reason % {"now": now}, WARNING)
            return True
        was, cell = getattr(then, column.field.attname), row.cell(column.index)
        if conflicts.is_same(was, getattr(target, column.field.attname)):
            return False
        if not conflicts.is_same(was, getattr(value, "pk", value)) and (cell is None or not says(cell, was)):
            reason = _(
                "Changed on both sides: it said “%(was)s” when the file was made; the office wrote “%(now)s” since, which "
                "stays. Without the column of versions the file's value is written."
            )
            was = self.reader.lookups.named(column.name, was) if column.field.is_relation else was
            said = {"was": "" if was is None else was, "now": "" if now is None else now}
            self.reader.report(row, column, reason % said, WARNING)
        return True

    def empty(self, row: Row, column: Column, target, changes: dict) -> bool:
        """Whether the value may go."""
        reason = forbidden(target, column.name, None)
        if isinstance(getattr(target, column.name), Unreadable):
            reason = _("The stored value cannot be read, so it cannot be replaced.")
        elif not column.field.blank:
            reason = reason or _("This value may not be empty.")
        if self.gives_way(row, column, target, None):
            return True
        if reason:
            self.reader.report(row, column, reason)
            return False
        changes[column.name] = None if column.field.null else ""
        return True


class _Clients(_Planner):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.equal: dict[str, int] = {}

    def stored(self):
        return self.visible(Client)

    def prepare(self, rows: list[Row]) -> None:
        self.rows = {row.number: row for row in rows}

    def belongs(self, row: Row, target: Client) -> bool:
        return True

    def new(self, row: Row, legacy_id: str) -> NewItem | None:
        values = self.reader.values(row, self.columns)
        name = self.whole.layout.column("full_name")
        if name is None or row.cell(name.index) is None:
            self.reader.report(row, name, _("The client's name is missing."))
            values.is_bad = True
        self.whole.outcomes[row.number] = Outcome.ERROR if values.is_bad else Outcome.CREATE
        if values.is_bad:
            return None
        return NewItem(row.number, self.shelf, client=values.draft(CLIENT, legacy_id=legacy_id or None))

    def finish(self, items: list[Item]) -> None:
        """A new row is somebody known, and skipped with a warning, where each of its cells says what a client of that
        name already is, and one of them is more than a name."""
        new = {item.row: item for item in items if item.is_new and self.is_identified(item.client)}
        names = {row: search.name_key_digest(item.client.full_name) for row, item in new.items()}
        tokens = SearchToken.objects.filter(kind=search.Kind.NAME_KEY, digest__in=set(names.values()))
        owners = list(tokens.values_list("digest", "client"))[: 10 * BATCH]
        clients = self.visible(Client).in_bulk([client for _digest, client in owners])
        for row, digest in names.items():
            namesakes = [clients[owner] for found, owner in owners if bytes(found) == digest and owner in clients]
            same = next((each.reference for each in namesakes if self.is_same(new[row].client, each)), "")
            cells = self.row_digests.of(self.rows[row])
            if same:
                self.leave_out(row, _("Every cell is equal to %(where)s, so it was left out.") % {"where": same})
            elif earlier := self.equal.get(cells):
                self.leave_out(row, _("Every cell is equal to row %(row)s, so it was left out.") % {"row": earlier})
            else:
                self.equal[cells] = row
        self.whole.items += [item for item in items if self.whole.outcomes[item.row] != Outcome.SKIP]

    def leave_out(self, row: int, reason: str) -> None:
        self.reader.report(self.rows[row], None, reason, WARNING)
        self.whole.outcomes[row] = Outcome.SKIP

    def is_identified(self, client: Draft) -> bool:
        return client.legacy_id is None and any(getattr(client, name) for name in IDENTIFYING)

    def is_same(self, client: Draft, stored: Client) -> bool:
        names = [column.name for column in self.columns]
        return all(not getattr(client, name) or getattr(client, name) == getattr(stored, name) for name in names)


class _Cases(_Planner):
    def stored(self):
        return self.visible(Case).select_related("client", "lender", "adviser", "stand_in")

    def prepare(self, rows: list[Row]) -> None:
        self.client, self.name = (self.whole.layout.column(name) for name in ("client", "full_name"))
        references = [self.client_reference(row) for row in rows]
        self.clients = {each.reference: each for each in self.visible(Client).filter(reference__in=references)}
        unkeyed = [row for row in rows if not self.key(row, self.reference) and not self.key(row, self.legacy)]
        self.digests = {row.number: self.row_digests.of(row) for row in unkeyed}
        self.imported = people.known_digests(list(self.digests.values()))

    def client_reference(self, row: Row) -> str:
        written = self.key(row, self.client)
        found = _CLIENT_REFERENCE.search(written)
        return found[0] if found else written

    def belongs(self, row: Row, target: Case) -> bool:
        if self.client_reference(row) not in ("", target.client.reference):
            self.reader.report(row, self.client, _("A case stays with its client."))
            return False
        if not self.is_named(row, target.client):
            reason = _("The client's name is not changed here; import the clients for that.")
            self.reader.report(row, self.name, reason, WARNING)
        return True

    def is_named(self, row: Row, client: Client) -> bool:
        cell = row.cell(self.name.index) if self.name else None
        return cell is None or says(cell, client.full_name)

    def new(self, row: Row, legacy_id: str) -> NewItem | None:
        digest = self.digests.get(row.number, "")
        if digest and digest in self.imported:
            self.whole.outcomes[row.number] = Outcome.SKIP
            return None
        client = self.clients.get(self.client_reference(row))
        if client is None:
            self.refuse(row, self.client, _("A new case needs the reference of one of your clients."))
            return None
        if not self.is_named(row, client):
            self.refuse(row, self.name, _("The client of this reference has another name."))
            return None
        values = self.reader.values(row, self.columns)
        if values.is_bad:
            self.whole.outcomes[row.number] = Outcome.ERROR
            return None
        case = people.new_case(self.whole, self.reader, row, values, on=self.on)
        case.given |= {"legacy_id": legacy_id or None, "import_digest": digest}
        self.imported.add(digest)
        self.whole.outcomes[row.number] = Outcome.CREATE
        owner = Draft(Client, {"reference": client.reference, "full_name": client.full_name}, client.pk)
        return NewItem(row.number, self.shelf, client=owner, case=case, lender_text=values.lender_text)

    def finish(self, items: list[Item]) -> None:
        """A lender's text that is kept already changes nothing."""
        texts = {item.case.pk: item for item in items if not item.is_new and item.lender_text}
        steps = CaseStep.objects.filter(case__in=texts, step__code=LENDER_SELECTION)
        for case, note in steps.values_list("case", "note"):
            if texts[case].lender_text in note:
                texts[case].lender_text = ""
        for item in items:
            if item.is_new or item.changed or item.lender_text:
                self.whole.items.append(item)
            else:
                self.whole.outcomes[item.row] = Outcome.SKIP


def forbidden(target: Client | Case, name: str, value: object) -> str:
    """Why an import may not change this field of a stored record; empty if it may."""
    if getattr(target, "restricted_at", None):
        return _("The client's record is restricted and stays as it is.")
    if name == "status":
        return _("The status changes by an action on the case, not by an import.")
    if name == "rejection_reason" and target.status != CaseStatus.DECLINED:
        return _("Reject the case; the reason alone does not.")
    if name in ("adviser", "stand_in") and value is not None and not value.is_active:
        return _("This user no longer works here.")
    return ""


def is_empty_at(row: Row, index: int) -> bool:
    """Not where the export wrote that it leaves the value out."""
    return index >= len(row.cells) or is_empty(row.cells[index])


def is_nothing(stored: object) -> bool:
    return stored is None or stored == ""


def says(cell: object, stored: object) -> bool:
    """Whether a cell still says what the export wrote of `stored`, whatever an import would make of it otherwise."""
    if stored is None or stored == "":
        return False
    try:
        if isinstance(stored, Decimal | int):
            return parsers.decimal(cell) == stored
        if isinstance(stored, datetime.date):
            return parsers.date(cell) == stored
    except UnreadableValue:
        return False
    if isinstance(stored, str) and isinstance(cell, str):
        return _plain(parsers.unescape_cell(cell)) == _plain(stored) or _plain(cell) == _plain(stored)
    return False


def _plain(text: str) -> str:
    return " ".join(text.split())
