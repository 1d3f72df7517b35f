"""Verification: whether every sealed row, seal and link of the chain is what it was, and what is not sealed yet.

Streams a block at a time. Two passes: the seals, then the rows that they close. A row is read once and digested once; the
digests of its fields are computed only to say which field of a changed row differs."""

import bisect
import contextlib
import datetime
import hmac
import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import connection
from django.utils.translation import gettext as _

from crm.audit import sealing
from crm.audit.digests import Digester, Key, Table, block_digest, keys, sealed_tables, split_fields
from crm.choices import SealKind
from crm.models import AuditCheck, AuditSeal, SealBlock

MOST_PROBLEMS = 20


@dataclass
class Verification:
    """`notes` are no problems: what was not compared, and why."""

    seals: int = 0
    rows: int = 0
    unsealed: int = 0
    is_anchored: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Overlay:
    """A block of an amendment: the digests that its rows have from that seal on."""

    first: int
    last: int
    block_id: int
    key: Key


def verify(*, now: datetime.datetime, since: datetime.date | None = None, progress=lambda rows: None) -> Verification:
    """Compares everything with its seals (rows: of seals made since that day) and keeps the result as an AuditCheck.
    `progress` hears how many rows were compared; what it raises ends the work without a result. Reads one snapshot and blocks no writer. Raises AuditKeyMissing."""
    found = Verification()
    with _snapshot():
        walk = _Walk(found, progress)
        found.problems += itertools.islice(walk.problems(since), MOST_PROBLEMS)
        last = walk.sealed_up_to
        found.unsealed = sum(table.count_after(last.get(table.name, 0)) for table in sealed_tables().values())
    AuditCheck.objects.create(
        at=now,
        is_whole=found.is_whole,
        is_anchored=found.is_anchored,
        seals=found.seals,
        rows=found.rows,
        unsealed_rows=found.unsealed,
        since=since,
        message=found.problems[0] if found.problems else "",
    )
    return found


@contextlib.contextmanager
def _snapshot() -> Iterator[None]:
    """One moment for all that is read. SQLite's own atomic() would take the write lock for as long."""
    if connection.in_atomic_block:
        yield
        return
    postgres = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgres else "BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


class _Walk:
    def __init__(self, found: Verification, progress):
        self.found, self.progress = found, progress
        self.keys = keys()
        self.sealed_up_to: dict[str, int] = {}
        self.overlays: dict[str, list[Overlay]] = {}
        self.removed: dict[str, list[tuple[int, int, int]]] = {}  # first, last, number of the seal
        self.link_keys: dict[int, Key] = {}

    def problems(self, since: datetime.date | None) -> Iterator[str]:
        yield from self.chain()
        yield from self.anchor()
        for ranges in self.removed.values():
            ranges.sort()
        links = AuditSeal.objects.all()
        if since:
            links = links.filter(at__date__gte=since)
            self.found.notes.append(_("Rows sealed before %(day)s were not compared.") % {"day": since.isoformat()})
        for link in links.order_by("number"):
            if link.number in self.link_keys:
                yield from self.blocks(link)

    # --- First pass: the links ---

    def chain(self) -> Iterator[str]:
        number, previous = 0, ""
        for link in AuditSeal.objects.order_by("number").iterator(chunk_size=100):
            if link.number != number + 1:
                yield self._gap(number + 1, link.number - 1)
            elif link.previous != previous:
                yield _("Seal %(number)s does not follow the one before it: one of the two was rewritten.") % {
                    "number": link.number
                }
            number, previous = link.number, link.mac
            key = self.keys.get(link.key_fingerprint)
            if key is None:
                yield _("Seal %(number)s was made with key %(key)s, which AUDIT_KEY has not.") % {
                    "number": link.number,
                    "key": link.key_fingerprint,
                }
            elif not hmac.compare_digest(sealing.mac(key, link), link.mac):
                yield _("Seal %(number)s was rewritten.") % {"number": link.number}
            else:
                self.link_keys[link.number] = key
                yield from self._learn(link, key)
        self.found.seals = number
        self.head = (number, previous)
        earlier = AuditCheck.objects.order_by("-seals").first()
        if earlier and earlier.seals > number:
            yield _("The verification of %(at)s has seen seal %(last)s; now the last one is %(number)s.") % {
                "at": f"{earlier.at:%Y-%m-%d %H:%M}",
                "last": earlier.seals,
                "number": number,
            }
        if SealBlock.objects.filter(seal_id__gt=number).exists():
            yield _("There are digests of a seal after %(number)s, which is gone.") % {"number": number}

    def _learn(self, link: AuditSeal, key: Key) -> Iterator[str]:
        content = json.loads(link.content)
        if link.kind == SealKind.ROWS:
            for table, first, last, _rows, _digest in content["blocks"]:
                expected = self.sealed_up_to.get(table, 0) + 1
                if first != expected:
                    yield _("Seal %(number)s begins %(table)s at row %(first)s instead of %(expected)s.") % {
                        "number": link.number,
                        "table": table,
                        "first": first,
                        "expected": expected,
                    }
                self.sealed_up_to[table] = last
            return
        for table, ranges in content.get("removed", {}).items():
            self.removed.setdefault(table, []).extend((first, last, link.number) for first, last in ranges)
        blocks = list(link.blocks.order_by("pk"))
        if [sealing.described(each) for each in blocks] == content["blocks"]:
            for each in blocks:
                self.overlays.setdefault(each.table, []).append(Overlay(each.first_id, each.last_id, each.pk, key))

    @staticmethod
    def _gap(first: int, last: int) -> str:
        if first == last:
            return _("Seal %(number)s is missing.") % {"number": first}
        return _("Seals %(first)s to %(last)s are missing.") % {"first": first, "last": last}

    def anchor(self) -> Iterator[str]:
        try:
            known = sealing.anchors()
        except (OSError, ValueError):
            yield _("The anchor cannot be read.")
            return
        if known is None:
            self.found.notes.append(_("No anchor is configured: a cut-off end or an older copy put back may pass."))
            return
        if not known:
            self.found.notes.append(_("The anchor is empty as yet."))
            return
        self.found.is_anchored = True
        macs = dict(AuditSeal.objects.filter(number__in=[each.number for each in known]).values_list("number", "mac"))
        for each in known:
            if each.number > self.head[0]:
                yield _(
                    "%(gap)s The anchor has seen seal %(number)s on %(at)s: the end was cut off or an older copy of the "
                    "database was put back."
                ) % {"gap": self._gap(self.head[0] + 1, known[-1].number), "number": each.number, "at": each.at}
                return
            if macs.get(each.number) != each.mac:
                yield _("Seal %(number)s is another than the one the anchor has seen on %(at)s.") % {
                    "number": each.number,
                    "at": each.at,
                }
                return

    # --- Second pass: the rows ---

    def blocks(self, link: AuditSeal) -> Iterator[str]:
        content = json.loads(link.content)["blocks"]
        stored = link.blocks.order_by("pk").values_list("pk", flat=True)
        if len(stored) != len(content):
            yield _("Seal %(number)s has %(stored)s blocks of digests instead of %(expected)s.") % {
                "number": link.number,
                "stored": len(stored),
                "expected": len(content),
            }
            return
        for key, expected in zip(stored, content, strict=True):
            found = SealBlock.objects.get(pk=key)
            digest = block_digest(found.columns, bytes(found.digests))
            if [found.table, found.first_id, found.last_id, found.rows, digest] != expected:
                yield _("The digests of seal %(number)s for %(table)s from row %(first)s were rewritten.") % {
                    "number": link.number,
                    "table": expected[0],
                    "first": expected[1],
                }
            elif link.kind == SealKind.ROWS:
                yield from self.rows(found, self.link_keys[link.number])
                self.progress(self.found.rows)

    def rows(self, found: SealBlock, key: Key) -> Iterator[str]:
        table = sealed_tables().get(found.table)
        if table is None:
            self.found.notes.append(
                _("Table %(table)s is no more; its rows were not compared.") % {"table": found.table}
            )
            return
        columns = json.loads(found.columns)
        there = [column for column in columns if column in table.fields]
        # Before the first sealed row of a table no row may stand at all.
        rows = table.rows(there, found.first_id if found.first_id > 1 else None, found.last_id)
        self.found.rows += found.rows
        digester = Digester(key, table.name, columns)
        try:
            sealed = {number: (row, fields) for number, row, fields in digester.unpack(bytes(found.digests))}
        except struct.error:
            sealed = {}
        overlays = [
            o for o in self.overlays.get(table.name, ()) if o.first <= found.last_id and o.last >= found.first_id
        ]
        if there == columns and not overlays and not self._removed_in(table.name, found.first_id, found.last_id):
            digest = digester.row
            if len(rows) == len(sealed) and all(
                (known := sealed.get(values[0])) is not None and known[0] == digest(values) for values in rows
            ):
                return
        expected = {number: (row, fields, digester) for number, (row, fields) in sealed.items()}
        for overlay in overlays:
            block = SealBlock.objects.get(pk=overlay.block_id)
            amended = Digester(overlay.key, table.name, json.loads(block.columns))
            for number, row, fields in amended.unpack(bytes(block.digests)):
                if number in sealed:
                    expected[number] = (row, fields, amended)
        yield from self._differences(table, there, rows, expected)

    def _removed_in(self, table: str, first: int, last: int) -> bool:
        return any(a <= last and b >= first for a, b, _number in self.removed.get(table, ()))

    def _remover(self, table: str, number: int) -> int | None:
        """The seal that tells of this row's lawful removal."""
        ranges = self.removed.get(table, [])
        at = bisect.bisect_right(ranges, (number, float("inf"), 0)) - 1
        for first, last, seal in reversed(ranges[: at + 1]):
            if first <= number <= last:
                return seal
        return None

    def _differences(self, table: Table, columns: list[str], rows: list[list], expected: dict) -> Iterator[str]:
        """In the order of the ids: rows that are gone, too many or changed."""
        there = {values[0]: values for values in rows}
        changed = [
            number
            for number, values in there.items()
            if number in expected and not self._is_as_sealed(values, columns, *expected[number])
        ]
        swapped = set()
        for number in sorted(there.keys() | expected.keys()):
            words = {"table": table.name, "row": number}
            if number not in there:
                if self._remover(table.name, number) is None:
                    yield _("Row %(row)s of %(table)s was removed.") % words
            elif number not in expected:
                yield _("Row %(row)s of %(table)s was inserted among sealed rows.") % words
            elif (seal := self._remover(table.name, number)) is not None:
                yield _("Row %(row)s of %(table)s was removed with seal %(seal)s and is there again.") % (
                    words | {"seal": seal}
                )
            elif number in changed and number not in swapped:
                other = self._swapped_with(number, changed, there, columns, expected)
                if other is not None:
                    swapped |= {number, other}
                    yield _("Rows %(row)s and %(other)s of %(table)s were swapped.") % (words | {"other": other})
                else:
                    names = ", ".join(self._changed_fields(there[number], columns, *expected[number][1:]))
                    yield _("Row %(row)s of %(table)s was changed: %(fields)s.") % (words | {"fields": names})

    @staticmethod
    def _is_as_sealed(values: list, columns: list[str], row: bytes, fields: bytes, digester: Digester) -> bool:
        if digester.columns == columns:
            return digester.row(values) == row
        return not _Walk._changed_fields(values, columns, fields, digester)

    @staticmethod
    def _changed_fields(values: list, columns: list[str], fields: bytes, digester: Digester) -> list[str]:
        """Of the columns that are still there; a release may have taken some away."""
        known = dict(zip(columns, values, strict=True))
        now = digester.fields([known.get(column) for column in digester.columns])
        return [
            column
            for column, old, new in zip(digester.columns, split_fields(fields), now, strict=True)
            if old != new and column in known
        ]

    @staticmethod
    def _swapped_with(number: int, changed: list[int], there: dict, columns: list[str], expected: dict) -> int | None:
        row, _fields, digester = expected[number]
        for other in changed:
            if other != number and digester.columns == columns:
                back = [number, *there[other][1:]]
                forth = [other, *there[number][1:]]
                if digester.row(back) == row and expected[other][2].row(forth) == expected[other][0]:
                    return other
        return None
