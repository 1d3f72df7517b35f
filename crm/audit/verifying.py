"""Verification: whether every sealed row, seal and link of the chain is what it was, and what is not sealed yet.

Streams a block at a time. Two passes: the seals, then the rows that they close. A row is read once and digested once; the
digests of its fields are computed only to say which field of a changed row differs."""

import bisect
import contextlib
import datetime
import enum
import itertools
import json
import logging
import struct
import traceback
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone
from django.utils.translation import gettext as _

from crm.audit import sealing, trail
from crm.audit.digests import (
    Digester,
    Key,
    Table,
    keys,
    moment,
    sealed_tables,
    sealing_key,
    split_fields,
)
from crm.choices import OPERATION_KINDS, SealKind
from crm.models import AuditCheck, AuditEntry, AuditSeal, SealBlock

logger = logging.getLogger(__name__)

MOST_PROBLEMS = 20
# Whose rows are counted at once.
OPERATIONS = 20
CHECKS, BLOCKS, ENTRIES = Table(AuditCheck), Table(SealBlock), Table(AuditEntry)


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


def verify(
    *,
    now: datetime.datetime,
    since: datetime.date | None = None,
    mailed: sealing.Head | None = None,
    progress=lambda rows: None,
) -> Verification:
    """Compares everything with its seals (rows: of seals made since that day) and keeps the result as an AuditCheck.
    `mailed` is a head that somebody kept outside, beside those of the anchor. `progress` hears how many rows were compared; what it raises ends the work without a result, nothing in the data does.
    Reads one snapshot and blocks no writer. Raises AuditKeyMissing."""
    found, key = Verification(), sealing_key()
    with _snapshot():
        walk = _Walk(found, progress, mailed)
        found.problems += itertools.islice(walk.problems(since), MOST_PROBLEMS)
        last = walk.sealed_up_to
        found.unsealed = sum(table.count_after(last.get(table.name, 0)) for table in sealed_tables().values())
    check = AuditCheck(
        at=now,
        is_whole=found.is_whole,
        is_anchored=found.is_anchored,
        seals=found.seals,
        rows=found.rows,
        unsealed_rows=found.unsealed,
        since=since,
        message=found.problems[0] if found.problems else "",
    )
    values = {field.attname: getattr(check, field.attname) for field in AuditCheck._meta.concrete_fields}
    check.mac = _check_mac(key, **values | {"at": moment(now), "since": since.isoformat() if since else None})
    check.save(force_insert=True)
    return found


# --- What earlier verifications said, and whether it was they who said it ---


def _check_mac(key: Key, *, at, is_whole, is_anchored, seals, rows, unsealed_rows, since, message, **_others) -> str:
    """Of the canonical values, as CHECKS reads them."""
    return key.mac("verification", at, is_whole, is_anchored, seals, rows, unsealed_rows, since, message)


class Standing(enum.Enum):
    """Unproven: made before verifications were bound to AUDIT_KEY, or there is none here to look with."""

    PROVEN = enum.auto()
    UNPROVEN = enum.auto()
    FORGED = enum.auto()


def _standing(check: dict, known: list[Key]) -> Standing:
    if any(type(check[name]) is not kind for name, kind in _KINDS.items()):
        return Standing.FORGED
    if not known or not check["mac"]:
        return Standing.UNPROVEN
    return Standing.PROVEN if any(_check_mac(key, **check) == check["mac"] for key in known) else Standing.FORGED


_KINDS = {"at": str, "is_whole": bool, "is_anchored": bool, "message": str, "mac": str}
_KINDS |= dict.fromkeys(("seals", "rows", "unsealed_rows"), int)


def newest_checks(count: int) -> list[tuple[AuditCheck, Standing]]:
    """Newest first. A forged one is not whole, whatever it says, and says nothing else."""
    known, found = [Key(text) for text in settings.AUDIT_KEYS], []
    for values in CHECKS.newest(CHECKS.columns, count):
        check = dict(zip(CHECKS.columns, values, strict=True))
        standing = _standing(check, known)
        if standing is Standing.FORGED:
            check = {"id": check["id"], "at": None, "is_whole": False}
        else:
            check["at"] = datetime.datetime.fromisoformat(check["at"]).replace(tzinfo=datetime.UTC)
            check["since"] = datetime.date.fromisoformat(check["since"]) if isinstance(check["since"], str) else None
        found.append((AuditCheck(**check), standing))
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


def _blocks(column: str, value: int) -> Iterator[SimpleNamespace]:
    for values in BLOCKS.rows_where(BLOCKS.columns, column, value):
        yield SimpleNamespace(**dict(zip(BLOCKS.columns, values, strict=True)))


def _day(at: str) -> datetime.date:
    return timezone.localdate(datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.UTC))


class _Walk:
    def __init__(self, found: Verification, progress, mailed: sealing.Head | None):
        self.found, self.progress, self.mailed = found, progress, mailed
        self.keys = keys()
        self.sealed_up_to: dict[str, int] = {}
        self.overlays: dict[str, list[Overlay]] = {}
        self.removed: dict[str, list[tuple[int, int, int]]] = {}  # first, last, number of the seal
        self.macs: dict[int, str] = {}
        self.intact: dict[int, tuple[Key, str]] = {}  # its key and when it was made
        self.head = 0
        self.anchored = 0  # the last seal that was made while there was an anchor

    def problems(self, since: datetime.date | None) -> Iterator[str]:
        yield from self._whatever_is_there(self.chain(), _("The chain of seals"))
        yield from self._whatever_is_there(self.checks(), _("The list of verifications"))
        yield from self.anchor()
        for ranges in self.removed.values():
            ranges.sort()
        if since:
            self.found.notes.append(_("Rows sealed before %(day)s were not compared.") % {"day": since.isoformat()})
        for number, (_key, at) in self.intact.items():
            if since is None or _day(at) >= since:
                yield from self._whatever_is_there(self.blocks(number), _("Seal %(number)s") % {"number": number})
                self.progress(self.found.rows)
        for some in itertools.batched(self._entries_with_counts(since), OPERATIONS):
            yield from self._whatever_is_there(self.counts(some), _("What is counted in the audit trail"))
            self.progress(self.found.rows)

    @staticmethod
    def _whatever_is_there(problems: Iterator[str], what: str) -> Iterator[str]:
        """Somebody may have put anything anywhere: what nobody can read is a problem, not the end of the verification."""
        try:
            yield from problems
        except Exception as error:
            # PostgreSQL's own trouble (a lost connection, a query that was stopped) says nothing about the data.
            if isinstance(error, OperationalError) and connection.vendor == "postgresql":
                raise
            # Without the error's own text, which may quote the value.
            logger.error("verification: %s: %s", what, "".join(traceback.format_tb(error.__traceback__)))
            yield _("%(what)s cannot be read: %(error)s.") % {"what": what, "error": type(error).__name__}

    # --- First pass: the links ---

    def chain(self) -> Iterator[str]:
        number, previous, count = 0, "", 0
        for link in self._links():
            count += 1
            if type(link.number) is not int or link.number < 1:
                yield _("A seal has no proper number: %(number)s.") % {"number": link.number}
                continue
            if link.number != number + 1:
                yield self._gap(number + 1, link.number - 1)
            elif link.previous != previous:
                yield _("Seal %(number)s does not follow the one before it: one of the two was rewritten.") % {
                    "number": link.number
                }
            number, previous = link.number, link.mac
            self.macs[number] = link.mac
            key = self.keys.get(link.key_fingerprint)
            if key is None:
                yield _("Seal %(number)s was made with key %(key)s, which AUDIT_KEY has not.") % {
                    "number": link.number,
                    "key": link.key_fingerprint,
                }
            elif sealing.mac(key, **vars(link)) != link.mac:
                yield _("Seal %(number)s was rewritten.") % {"number": link.number}
            else:
                self.intact[link.number] = key, link.at
                yield from self._learn(link, key)
        self.found.seals = self.head = number
        if SealBlock.objects.filter(seal_id__gt=number).exists():
            yield _("There are digests of a seal after %(number)s, which is gone.") % {"number": number}

    @staticmethod
    def _links() -> Iterator[SimpleNamespace]:
        numbers = list(AuditSeal.objects.order_by("number").values_list("number", flat=True))
        for some in itertools.batched(numbers, 100):
            for values in sealing.SEALS.rows_of(sealing.SEALS.columns, some):
                yield SimpleNamespace(**dict(zip(sealing.SEALS.columns, values, strict=True)))

    def _learn(self, link: SimpleNamespace, key: Key) -> Iterator[str]:
        content = json.loads(link.content)
        if content.get("anchored"):
            self.anchored = link.number
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
        blocks = list(_blocks("seal_id", link.number))
        if [sealing.described(each) for each in blocks] == content["blocks"]:
            for each in blocks:
                self.overlays.setdefault(each.table, []).append(Overlay(each.first_id, each.last_id, each.id, key))

    def checks(self) -> Iterator[str]:
        """The verifications themselves, those too that are not sealed yet. The first ones were bound to no key."""
        seen, at, is_bound = 0, None, False
        for values in CHECKS.rows(CHECKS.columns, None, None):
            check = dict(zip(CHECKS.columns, values, strict=True))
            standing = _standing(check, list(self.keys.values()))
            if standing is Standing.FORGED or (standing is Standing.UNPROVEN and is_bound):
                yield _("Verification %(number)s was rewritten, or made with a key that AUDIT_KEY has not.") % {
                    "number": check["id"]
                }
            elif check["seals"] >= seen:
                seen, at = check["seals"], check["at"]
            is_bound = is_bound or standing is Standing.PROVEN
        if seen > self.head:
            yield _("The verification of %(at)s has seen seal %(last)s; now the last one is %(number)s.") % {
                "at": at[:16].replace("T", " "),
                "last": seen,
                "number": self.head,
            }

    @staticmethod
    def _gap(first: int, last: int) -> str:
        if first == last:
            return _("Seal %(number)s is missing.") % {"number": first}
        return _("Seals %(first)s to %(last)s are missing.") % {"first": first, "last": last}

    def anchor(self) -> Iterator[str]:
        if self.mailed:
            self.found.is_anchored = True
            yield from filter(None, [self._compared(self.mailed, self.mailed.number)])
        try:
            anchor = sealing.anchor()
        except OSError:
            yield _("The anchor cannot be read.")
            return
        if anchor is None:
            self.found.notes.append(_("No anchor is configured: a cut-off end or an older copy put back may pass."))
            return
        for line in anchor.broken:
            yield _("Line %(line)s of the anchor cannot be read.") % {"line": line}
        if anchor.is_cut:
            self.found.notes.append(_("A line of the anchor was cut off while it was written; it was left out."))
        if not anchor.heads:
            if self.anchored:
                yield _("The anchor is gone or empty, although seal %(number)s was made for it.") % {
                    "number": self.anchored
                }
            else:
                self.found.notes.append(_("The anchor is empty as yet."))
            return
        self.found.is_anchored = True
        for head in anchor.heads:
            if problem := self._compared(head, anchor.heads[-1].number):
                yield problem
                return

    def _compared(self, head: sealing.Head, last: int) -> str:
        """What is wrong with a head that was seen outside; `last` is the newest one that was."""
        if head.number > self.head:
            gap = self._gap(self.head + 1, last)
            return _(
                "%(gap)s The anchor has seen seal %(number)s on %(at)s: the end was cut off or an older copy of the "
                "database was put back."
            ) % {"gap": gap, "number": head.number, "at": head.at}
        if head.number and self.macs.get(head.number) != head.mac:
            return _("Seal %(number)s is another than the one the anchor has seen on %(at)s.") % {
                "number": head.number,
                "at": head.at,
            }
        return ""

    # --- Second pass: the rows ---

    def blocks(self, number: int) -> Iterator[str]:
        [[kind, content]] = sealing.SEALS.rows_where(["kind", "content"], "number", number)
        content = json.loads(content)["blocks"]
        stored = list(SealBlock.objects.filter(seal_id=number).order_by("pk").values_list("pk", flat=True))
        if len(stored) != len(content):
            yield _("Seal %(number)s has %(stored)s blocks of digests instead of %(expected)s.") % {
                "number": number,
                "stored": len(stored),
                "expected": len(content),
            }
            return
        for key, expected in zip(stored, content, strict=True):
            [found] = _blocks("id", key)
            if sealing.described(found) != expected:
                yield _("The digests of seal %(number)s for %(table)s from row %(first)s were rewritten.") % {
                    "number": number,
                    "table": expected[0],
                    "first": expected[1],
                }
            elif kind == SealKind.ROWS:
                yield from self.rows(found, self.intact[number][0])

    def rows(self, found: SimpleNamespace, key: Key) -> Iterator[str]:
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
            sealed = {number: (row, fields) for number, row, fields in digester.unpack(found.digests)}
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
            [block] = _blocks("id", overlay.block_id)
            amended = Digester(overlay.key, table.name, json.loads(block.columns))
            for number, row, fields in amended.unpack(block.digests):
                if number in sealed:
                    expected[number] = (row, fields, amended)
        yield from self._differences(table, there, rows, expected)

    @staticmethod
    def _entries_with_counts(since: datetime.date | None) -> Iterator[SimpleNamespace]:
        for values in ENTRIES.rows_where(["id", "kind", "at", "operation_id", "counts"], "counts", "{}", sign="<>"):
            entry = SimpleNamespace(**dict(zip(("id", "kind", "at", "operation_id", "counts"), values, strict=True)))
            old = since and isinstance(entry.at, str) and _day(entry.at) < since
            if entry.kind in OPERATION_KINDS and not old:
                yield entry

    @staticmethod
    def counts(entries: Iterable[SimpleNamespace]) -> Iterator[str]:
        """What the audit trail keeps of an operation's numbers is written later than its row, and so not sealed with it."""
        asked = [
            AuditEntry(pk=entry.id, operation_id=uuid.UUID(entry.operation_id))
            for entry in entries
            if isinstance(entry.operation_id, str)
        ]
        counted = trail.counts_of(asked, None)
        known = {model._meta.model_name for model in trail.readable_models(None)}
        for entry in entries:
            kept = json.loads(entry.counts) if isinstance(entry.counts, str) else None
            if isinstance(kept, dict):  # a release may have taken a model away
                kept = {name: kinds for name, kinds in kept.items() if name in known}
            if kept != counted.get(entry.id):
                yield _("What row %(row)s of %(table)s counts is not what its operation changed.") % {
                    "row": entry.id,
                    "table": ENTRIES.name,
                }

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
