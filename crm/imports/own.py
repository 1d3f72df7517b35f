"""Rows of our own exports: matched by reference (or the older CRM's id), compared cell by cell. An equal row is skipped,
a cell that differs is an update, an empty cell leaves the value, and a row without a reference is new."""

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal

from django.db.models import Q
from django.utils.translation import gettext as _

from crm import search, workflow
from crm.encryption import Unreadable
from crm.imports import conflicts, parsers, people
from crm.imports.columns import CASE, CLIENT, CLIENTS, CODES, KEYS, Column
from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Item, Outcome, Plan
from crm.imports.problems import CONFLICT, WARNING, UnreadableValue
from crm.imports.reading import Row, is_empty
from crm.imports.scratch import Blocks
from crm.imports.shelf import CellError, FirstMet, Shelf
from crm.imports.values import RowReader, is_multiline
from crm.models import Case, CaseStep, Client, SearchToken
from crm.models.steps import LENDER_SELECTION

BATCH = 500
LEGACY_ID_LENGTH = Client._meta.get_field("legacy_id").max_length
# One of these beside the name says who somebody is; a name alone never does.
IDENTIFYING = ("email", "phone", "birth_number", "birth_date", "id_document_number", "bank_account", "business_id")
# What XML cannot hold is written as a code, and calamine does not read these two again.
_LEFT_WRITTEN = {0xFFFE: "_xFFFE_", 0xFFFF: "_xFFFF_"}
_CLIENT_REFERENCE = re.compile(r"\bC-[0-9]{6,}\b")


def plan_own(
    plan: Plan, reader: RowReader, rows: list[Row], user, *, on, named: Mapping[int, str] | None = None
) -> None:
    """`named`: by row's number the reference of whom a person says that it is about. Three queries for each 500 rows, and
    two more where the rows carry versions."""
    planner = (_Clients if plan.layout.kind == CLIENTS else _Cases)(plan, reader, user, on, named or {})
    for start in range(0, len(rows), BATCH):
        planner.plan(rows[start : start + BATCH])


class _Planner:
    """What the two kinds of rows share."""

    def __init__(self, plan: Plan, reader: RowReader, user, on, named: Mapping[int, str]):
        self.whole, self.reader, self.user, self.on, self.named = plan, reader, user, on, named
        self.reference, self.legacy = (plan.layout.column(name) for name in KEYS)
        owner = CLIENT if plan.layout.kind == CLIENTS else CASE
        self.columns = [
            column for column in plan.layout.columns if column.owner == owner and column.name not in (*KEYS, "client")
        ]
        self.version = plan.layout.versions.get(owner)
        self.names = conflicts.NamesThen()
        # Numbers of rows whose version is none.
        self.bent: set[int] = set()
        self.seen: dict[int, int] = {}
        self.new_ids: dict[str, int] = {}
        self.shelf, self.row_digests = Shelf(Blocks()), people.RowDigests(plan)
        # By row's number, of the batch: the digest of each new one that has no id.
        self.digests: dict[int, str] = {}

    def visible(self, model):
        return model.objects.all() if self.user is None else model.objects.visible_to(self.user)

    def key(self, row: Row, column: Column | None) -> str:
        return parsers.unescape_cell(parsers.shown(row.cell(column.index))).replace("\0", "") if column else ""

    def reference_of(self, row: Row) -> str:
        return self.named.get(row.number) or self.key(row, self.reference)

    def plan(self, rows: list[Row]) -> None:
        references = [key for row in rows if (key := self.reference_of(row))]
        legacy_ids = [key for row in rows if (key := self.key(row, self.legacy))]
        found = list(self.stored().filter(Q(reference__in=references) | Q(legacy_id__in=legacy_ids)))
        by_reference = {each.reference: each for each in found}
        by_legacy_id = {each.legacy_id: each for each in found if each.legacy_id}
        self.foreign = self.taken_ids(legacy_ids) - by_legacy_id.keys()
        self.prepare(rows)
        keys = [(row, self.reference_of(row), self.key(row, self.legacy)) for row in rows]
        targets = [
            by_reference.get(reference) if reference else by_legacy_id.get(legacy) for _row, reference, legacy in keys
        ]
        self.then = self.changed_since(rows, targets)
        items = []
        for (row, reference, legacy_id), target in zip(keys, targets, strict=True):
            if reference and target is None:
                self.refuse(row, self.reference, _("There is no such record among yours."))
            elif target is not None and legacy_id and target.legacy_id != legacy_id:
                self.refuse(row, self.legacy, _("The record has another id in the older CRM."), target)
            elif target is None and (reason := self.refusal(legacy_id)):
                self.refuse(row, self.legacy, reason)
            elif target is None:
                if legacy_id:
                    self.new_ids[legacy_id] = row.number
                items.append(self.new(row, legacy_id))
            elif earlier := self.seen.get(target.pk):
                reason = _("Row %(row)s is about the same record.") % {"row": earlier}
                self.refuse(row, self.reference or self.legacy, reason, target)
            elif row.number in self.bent:
                reason = _("This is no version of an export: put back what the export wrote, or leave the cell empty.")
                self.refuse(row, self.version, reason, target)
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
        if parsers.is_cut(legacy_id):
            return parsers.was_cut()
        if legacy_id in self.foreign:
            return _("There is no such record among yours.")
        if earlier := self.new_ids.get(legacy_id):
            return _("Row %(row)s is about the same record.") % {"row": earlier}
        return ""

    def refuse(self, row: Row, column: Column | None, reason: str, target=None) -> None:
        """With all that is wrong in its other cells; not in those that say what is stored of `target`."""
        self.reader.report(row, column, reason)
        for each in self.columns:
            cell = row.cell(each.index)
            if target is None or cell is None or not says(cell, getattr(target, each.name), each):
                self.reader.values(row, [each])
        self.whole.outcomes[row.number] = Outcome.ERROR

    def existing(self, row: Row, target) -> Item | None:
        changes, lender_text, is_bad = {}, "", not self.belongs(row, target)
        for column in self.columns:
            cell, stored = row.cell(column.index), getattr(target, column.name)
            if cell is None:
                if not self.whole.empty_deletes or is_nothing(stored):
                    continue
                if self.whole.sheet.is_missing(row, column.index):
                    reason = _("The row ends before this cell, so the stored value stays.")
                    self.reader.report(row, column, reason, WARNING)
                elif is_empty_at(row, column.index):
                    is_bad = not self.empty(row, column, target, changes) or is_bad
                continue
            if says(cell, stored, column):
                continue
            if isinstance(stored, Unreadable):
                self.reader.report(row, column, _("The stored value cannot be read, so it cannot be replaced."))
                is_bad = True
                continue
            values = self.reader.read(row, [column])
            value = values.of(column.owner).get(column.name)
            if value != stored and self.said_then(row, column, target, cell):
                continue
            self.reader.tell(row, values)
            is_bad, lender_text = is_bad or values.is_bad, lender_text or values.lender_text
            if value is None or value == stored:
                continue
            if column.name in CODES and parsers.is_without_zeros(value, stored):
                reason = _(
                    "Only zeros at the beginning are missing, which a spreadsheet drops: the stored value stays."
                )
                self.reader.report(row, column, reason, WARNING)
                continue
            refusal = self.reader.rules.of_change(target, column.name, value)
            if self.gives_way(row, column, target, value, refusal):
                continue
            changes[column.name] = value
            if refusal:
                self.reader.report(row, column, refusal)
                is_bad = True
        is_bad = not self.fits(row, target, changes) or is_bad
        rights = [f"change_{target._meta.model_name}"] if changes else []
        if refusal := self.reader.rules.refusal(*rights, *(["change_casestep"] if lender_text else [])):
            self.reader.report(row, None, refusal)
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
            text = self.key(row, self.version)
            version = conflicts.read_version(text)
            if target is not None and version:
                versions[target.pk] = version.number
                self.whole.exports.add(version.export)
            elif text:
                self.bent.add(row.number)
        return conflicts.changed_since(self.stored().model, versions)

    def said_then(self, row: Row, column: Column, target, cell: object) -> bool:
        """Of a lender or a person who has another name since the file was made: whether the file changed nothing."""
        model, then = column.field.related_model, self.then.get(target.pk, target)
        version = conflicts.read_version(self.key(row, self.version))
        if model is None or then is None or version is None:
            return False
        return self.names.says(cell, model, getattr(then, column.field.attname), version.export)

    def gives_way(self, row: Row, column: Column, target, value: object, refusal: str) -> bool:
        """Whether the office's value stays, since it was written after the file was made. Where the file's differs from
        both of them that is a conflict. `refusal`: why an import may not write this value."""
        if target.pk not in self.then:
            return False
        then, name = self.then[target.pk], column.field.attname
        was = getattr(then, name, None)
        if then is not None:
            cell = row.cell(column.index)
            if conflicts.is_same(was, getattr(target, name)):
                return False
            if conflicts.is_same(was, getattr(value, "pk", value)) or (cell is not None and says(cell, was, column)):
                return True
        was = self.reader.lookups.named(column.name, was) if column.field.is_relation else was
        mark = conflicts.mark(target, column, value)
        conflict = conflicts.Conflict(
            row.number, column, was, getattr(target, column.name), value, then is not None,
            mark, not refusal and mark in self.whole.taken, refusal,
        )  # fmt: skip
        self.whole.conflicts.append(conflict)
        self.reader.report(row, column, conflict.reason, WARNING, CONFLICT)
        return not conflict.is_taken

    def empty(self, row: Row, column: Column, target, changes: dict) -> bool:
        """Whether the value may go."""
        reason = self.reader.rules.of_change(target, column.name, None)
        if isinstance(getattr(target, column.name), Unreadable):
            reason = _("The stored value cannot be read, so it cannot be replaced.")
        if self.gives_way(row, column, target, None, reason):
            return True
        if reason:
            self.reader.report(row, column, reason)
            return False
        changes[column.name] = None if column.field.null else ""
        return True


class _Clients(_Planner):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.equal = FirstMet()
        self.seen = self.whole.rows_of

    def stored(self):
        return self.visible(Client)

    def prepare(self, rows: list[Row]) -> None:
        self.rows, self.digests = {row.number: row for row in rows}, {}

    def belongs(self, row: Row, target: Client) -> bool:
        return True

    def fits(self, row: Row, target: Client, changes: dict) -> bool:
        return True

    def new(self, row: Row, legacy_id: str) -> NewItem | None:
        values = self.reader.values(row, self.columns)
        self.digests[row.number] = self.row_digests.of(row, values)
        name = self.whole.layout.column("full_name")
        if name is None or row.cell(name.index) is None:
            self.reader.report(row, name, _("The client's name is missing."))
            values.is_bad = True
        if refusal := self.reader.rules.refusal("add_client"):
            self.reader.report(row, None, refusal)
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
            if same:
                self.leave_out(row, _("Every cell is equal to %(where)s, so it was left out.") % {"where": same})
            elif earlier := self.equal.get(self.digests[row]):
                self.leave_out(row, _("Every cell is equal to row %(row)s, so it was left out.") % {"row": earlier})
            else:
                self.equal.add(self.digests[row], row)
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
        self.read = {row.number: self.reader.read(row, self.columns) for row in unkeyed}
        self.digests = {
            row.number: self.row_digests.of(row, self.read[row.number], self.client_reference(row)) for row in unkeyed
        }
        is_stored = self.row_digests.stored(unkeyed, list(self.digests.values()))
        self.imported = {row.number for row, was in zip(unkeyed, is_stored, strict=True) if was}

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

    def fits(self, row: Row, target: Case, changes: dict) -> bool:
        """Whether the changes go together, completed by what changes with them."""
        to, column = changes.get("adviser"), self.whole.layout.column
        if to is None or changes.get("stand_in", target.stand_in) != to:
            return True
        stand_in = column("stand_in")
        if stand_in and row.cell(stand_in.index) is not None:
            self.reader.report(row, stand_in, _("Whoever is given a case does not stand in for it."))
            return False
        changes |= workflow.handed_over(target, to)
        reason = _("The new adviser stood in for this case, and does so no more.")
        self.reader.report(row, column("adviser"), reason, WARNING)
        return True

    def is_named(self, row: Row, client: Client) -> bool:
        cell = row.cell(self.name.index) if self.name else None
        return cell is None or says(cell, client.full_name)

    def new(self, row: Row, legacy_id: str) -> NewItem | None:
        if row.number in self.imported:
            self.whole.outcomes[row.number] = Outcome.SKIP
            return None
        client = self.clients.get(self.client_reference(row))
        if client is None:
            self.refuse(row, self.client, _("A new case needs the reference of one of your clients."))
            return None
        if refusal := self.reader.rules.of_client(client):
            self.refuse(row, self.client, refusal)
            return None
        if not self.is_named(row, client):
            self.refuse(row, self.name, _("The client of this reference has another name."))
            return None
        values = self.read.get(row.number) or self.reader.read(row, self.columns)
        self.reader.tell(row, values)
        if refusal := self.reader.rules.refusal("add_case"):
            self.reader.report(row, None, refusal)
            values.is_bad = True
        case = people.new_case(self.whole, self.reader, row, values, on=self.on)
        if case is None:
            self.whole.outcomes[row.number] = Outcome.ERROR
            return None
        case.given |= {"legacy_id": legacy_id or None, "import_digest": self.digests.get(row.number, "")}
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


def is_empty_at(row: Row, index: int) -> bool:
    """Not where the export wrote that it leaves the value out."""
    return index >= len(row.cells) or is_empty(row.cells[index])


def is_nothing(stored: object) -> bool:
    return stored is None or stored == ""


def says(cell: object, stored: object, column: Column | None = None) -> bool:
    """Whether a cell still says what the export wrote of `stored`, whatever an import would make of it otherwise. In a
    column of longer texts each space and line counts, as it does in their forms."""
    if stored is None or stored == "":
        return False
    try:
        if isinstance(stored, Decimal | int):
            return parsers.decimal(cell) == stored
        if isinstance(stored, datetime.date):
            return parsers.any_date(cell) == stored
    except UnreadableValue:
        return False
    if isinstance(stored, str) and isinstance(cell, str) and not isinstance(cell, CellError):
        same = _lines if column is not None and is_multiline(column.field) else _plain
        text, wanted = same(parsers.unescape_cell(cell)), same(stored)
        return text == wanted or same(cell) == wanted or text == wanted.translate(_LEFT_WRITTEN)
    return False


def _lines(text: str) -> str:
    """Windows and browsers end lines in two characters, Excel in one."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _plain(text: str) -> str:
    return " ".join(text.split())
