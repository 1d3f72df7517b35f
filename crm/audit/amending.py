"""Lawful changes of sealed rows: an erasure the law asks for, tokens written anew with another key. Each is a link of the
chain that names the rows with their old and new digests, and nothing else passes verification."""

import bisect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import models, transaction

from crm.audit import sealing
from crm.audit.digests import Digester, Key, Table, keys, sealed_tables, sealing_key, split_fields
from crm.choices import SealKind
from crm.exceptions import SealBroken
from crm.models import AuditEntry, AuditSeal, SealBlock, operation
from crm.models.history import enter


@dataclass(frozen=True)
class Sealed:
    """What the newest seal that has this row says of it."""

    row: bytes
    fields: bytes
    columns: list[str]
    key: Key

    def is_row(self, values: list, table: Table, digesters: dict[tuple, Digester]) -> bool:
        """By its fields where a release has taken a column away or added one."""
        by = (self.key, tuple(self.columns))
        digester = digesters.setdefault(by, Digester(self.key, table.name, self.columns))
        known = dict(zip(table.columns, values, strict=True))
        if known.keys() >= set(self.columns):
            return digester.row([known[column] for column in self.columns]) == self.row
        now = digester.fields([known.get(column) for column in self.columns])
        old = split_fields(self.fields)
        return all(a == b for column, a, b in zip(self.columns, old, now, strict=True) if column in known)


def amend(
    model: type[models.Model],
    ids: Iterable[int],
    fields: Iterable[str],
    change: Callable[[models.QuerySet], None],
    *,
    user,
    reason: str,
    now,
) -> AuditSeal:
    """Calls `change` with the rows `ids` of `model` (a history model, or AuditEntry) and seals what became of them, in one
    transaction. `change` may write `fields` of these rows or delete rows, nothing else. Rows that are not sealed yet are
    changed too and need no naming. For 1,000s of rows call it for some thousand at a time.

    Raises SealBroken, and changes nothing, where a row is not what was sealed or another field came out changed."""
    key, table = sealing_key(), sealed_tables()[model._meta.db_table]
    allowed = {model._meta.get_field(name).column for name in fields}
    with transaction.atomic(), operation(user=user, reason=reason) as active:
        sealing.lock()
        sealing.refuse_other_chain()
        sealed = sealed_rows(table, ids)
        before = as_sealed(table, sealed)
        change(model._base_manager.filter(pk__in=list(ids)))
        after = {values[0]: values for values in table.rows_of(table.columns, sealed)}
        named = _named(table, key, sealed, before, after, allowed)
        enter(active, now)
        blocks = (
            [sealing.block(key, table, table.columns, [after[number] for number in sorted(after)])] if after else []
        )
        gone = sealed.keys() - after.keys()
        forget_counts(table, (before[number] for number in gone))
        gone = ranges(gone)
        told = {"operation": active.id.hex, "amended": named, "removed": {table.name: gone} if gone else {}}
        transaction.on_commit(sealing.anchor_head, robust=True)  # the next seal_audit mends what fails here
        return sealing.append(SealKind.AMENDMENT, blocks, key=key, now=now, named=told)


_OF_A_BLOCK = ("first_id", "last_id", "columns", "digests", "seal__key_fingerprint")


def sealed_rows(table: Table, ids: Iterable[int]) -> dict[int, Sealed]:
    """What is sealed of these rows; what is not sealed yet is not in it."""
    known, found, wanted = keys(), {}, sorted(set(ids))
    if not wanted:
        return {}
    blocks = SealBlock.objects.filter(table=table.name, first_id__lte=wanted[-1], last_id__gte=wanted[0])
    # In the order of the seals, so that an amendment comes after what it amended.
    blocks = blocks.select_related("seal").only(*_OF_A_BLOCK).order_by("seal_id", "pk")
    for block in blocks.iterator(chunk_size=10):
        here = set(wanted[bisect.bisect_left(wanted, block.first_id) : bisect.bisect_right(wanted, block.last_id)])
        if not here:
            continue
        columns = json.loads(block.columns)
        if block.seal.key_fingerprint not in known:
            raise SealBroken(row=block.first_id, table=table.name)
        key = known[block.seal.key_fingerprint]
        for number, row, fields in Digester(key, table.name, columns).unpack(bytes(block.digests)):
            if number in here:
                found[number] = Sealed(row, fields, columns, key)
    return found


def as_sealed(table: Table, sealed: dict[int, Sealed]) -> dict[int, list]:
    """The rows as they stand. Raises SealBroken where one is not what was sealed: a lawful change must not hide another."""
    found = {values[0]: values for values in table.rows_of(table.columns, sealed)}
    digesters: dict[tuple, Digester] = {}
    for number, what in sealed.items():
        values = found.get(number)
        if values is None or not what.is_row(values, table, digesters):
            raise SealBroken(row=number, table=table.name)
    return found


def forget_counts(table: Table, rows: Iterable[list]) -> None:
    """What the audit trail keeps of an operation's numbers ends when rows of it go: from then on they are counted."""
    if "operation_id" in table.columns:
        at = table.columns.index("operation_id")
        entries = AuditEntry.objects.filter(operation_id__in={row[at] for row in rows if row[at]})
        entries.exclude(counts={}).update(counts={})


def _named(table: Table, key: Key, sealed, before, after, allowed: set[str]) -> list:
    """[table, id, digest before, digest after or nothing, {field: [digest before, digest after]}] of each row."""
    digester, named = Digester(key, table.name, table.columns), []
    for number in sorted(sealed):
        old = before[number]
        if number not in after:
            named.append([table.name, number, sealed[number].row.hex(), "", {}])
            continue
        new = after[number]
        changed = [column for column, was, now in zip(table.columns, old, new, strict=True) if was != now]
        if not allowed.issuperset(changed):
            raise SealBroken(row=number, table=table.name)
        then = dict(zip(sealed[number].columns, split_fields(sealed[number].fields), strict=True))
        today = dict(zip(table.columns, digester.fields(new), strict=True))
        digests = {column: [then.get(column, b"").hex(), today[column].hex()] for column in changed}
        named.append([table.name, number, sealed[number].row.hex(), digester.row(new).hex(), digests])
    return named


def ranges(ids: Iterable[int]) -> list[list[int]]:
    """[[first, last], ...] of ids that follow one another."""
    found: list[list[int]] = []
    for number in sorted(ids):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
