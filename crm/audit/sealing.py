"""The chain of seals: closing new rows, and adding a link. Runs beside the office's work: rows are read and digested
before the one lock is taken, which is held only to write the link."""

import datetime
import fcntl
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import connection, models, transaction

from crm.audit.digests import Digester, Key, Table, block_digest, canonical_json, moment, sealed_tables, sealing_key
from crm.choices import SealKind
from crm.exceptions import AnchorAhead, AnchorLost
from crm.models import AuditSeal, SealBlock

BLOCK_ROWS = 2_000
SEAL_ROWS = 20_000
LOCK = 0x48796465  # of PostgreSQL's advisory locks
LOOK_EVERY_S = 0.1
TRIES = 20
SEALS = Table(AuditSeal)
# What an unfinished line of the anchor is closed with: nothing in that file is ever taken back.
CUT_OFF = b" cut off"
LINE = re.compile(rb"([0-9]{1,18}) ([0-9a-f]{64}|-) (\S+)")


class HeadMoved(Exception):
    """Somebody else has added a link meanwhile."""


@dataclass
class Sealed:
    """`waiting` names tables whose new rows stay open because a transaction that may still add older ones is."""

    seals: int = 0
    rows: int = 0
    waiting: list[str] = field(default_factory=list)


def seal(*, now: datetime.datetime, wait_s: float = 10, progress=lambda rows: None) -> Sealed:
    """Closes what was written since the last seal; nothing new, no link. Several at once share the work. Waits up to
    `wait_s` for transactions that are open now. `progress` hears how many rows are sealed after each link; what it raises
    ends the work, and what is sealed stays so. Raises AuditKeyMissing, AnchorAhead, AnchorLost."""
    key, done = sealing_key(), Sealed()
    refuse_other_chain()
    tops = {table.name: table.top() for table in sealed_tables().values()}
    sealed = sealed_up_to()
    fresh = {name for name, top in tops.items() if top > sealed.get(name, 0)}
    done.waiting = sorted(_still_open(fresh, wait_s))
    tops = {name: tops[name] for name in fresh.difference(done.waiting)}
    for _ in range(TRIES):
        try:
            while blocks := _next_blocks(key, tops):
                head, blocks = blocks
                link = append(SealKind.ROWS, blocks, key=key, now=now, after=head)
                done.seals += 1
                done.rows += link.rows
                progress(done.rows)
            break
        except HeadMoved:
            continue
    anchor_head()
    return done


def _next_blocks(key: Key, tops: dict[str, int]) -> tuple[int, list[SealBlock]] | None:
    """The number of the head, read first, and blocks of rows after it; None where everything is sealed."""
    head, sealed, blocks, left = head_number(), sealed_up_to(), [], SEAL_ROWS
    for name, top in sorted(tops.items()):
        table, first = sealed_tables()[name], sealed.get(name, 0) + 1
        while first <= top and left > 0:
            rows = table.rows(table.columns, first, top, limit=min(BLOCK_ROWS, left))
            if not rows:
                break
            blocks.append(block(key, table, table.columns, rows, first=first))
            first, left = rows[-1][0] + 1, left - len(rows)
    return (head, blocks) if blocks else None


def block(key: Key, table: Table, columns: list[str], rows: list[list], *, first: int | None = None) -> SealBlock:
    """`first` says from which id on no other row may stand among these."""
    return SealBlock(
        table=table.name,
        first_id=rows[0][0] if first is None else first,
        last_id=rows[-1][0],
        rows=len(rows),
        columns=canonical_json(columns),
        digests=Digester(key, table.name, columns).pack(rows),
    )


def append(
    kind: str,
    blocks: list[SealBlock],
    *,
    key: Key,
    now: datetime.datetime,
    after: int | None = None,
    named: dict | None = None,
) -> AuditSeal:
    """Adds a link in a transaction of its own or the one that is open. `named` is what an amendment or a pruning tells.
    It also keeps that there was an anchor. Raises HeadMoved when the head is not `after` any more."""
    anchored = {"anchored": True} if settings.AUDIT_ANCHOR else {}
    with transaction.atomic():
        lock()
        number, previous = AuditSeal.objects.order_by("-number").values_list("number", "mac").first() or (0, "")
        if after is not None and after != number:
            raise HeadMoved
        told = {
            "number": number + 1,
            "kind": kind,
            "rows": sum(each.rows for each in blocks),
            "content": canonical_json((named or {}) | anchored | {"blocks": [described(each) for each in blocks]}),
            "key_fingerprint": key.fingerprint,
            "previous": previous,
        }
        link = AuditSeal(at=now, mac=mac(key, at=moment(now), **told), **told)
        link.save(force_insert=True)
        for each in blocks:
            each.seal = link
        SealBlock.objects.bulk_create(blocks, batch_size=10)
    return link


def described(found) -> list:
    """Of a SealBlock, or of what a Table read of one: then nothing is sure of its columns."""
    readable = isinstance(found.columns, str) and isinstance(found.digests, bytes)
    digest = block_digest(found.columns, found.digests) if readable else ""
    return [found.table, found.first_id, found.last_id, found.rows, digest]


def mac(key: Key, *, number, kind, at, rows, content, key_fingerprint, previous, **_others) -> str:
    """Of a link's canonical values, as SEALS reads them."""
    return key.mac(number, kind, f"{at}+00:00", rows, content, key_fingerprint, previous)


def lock() -> None:
    """Until the transaction ends nobody else adds a link. SQLite's transactions are alone anyway (IMMEDIATE)."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def head_number() -> int:
    return AuditSeal.objects.aggregate(last=models.Max("number"))["last"] or 0


def sealed_up_to() -> dict[str, int]:
    """The last sealed id of each table."""
    blocks = SealBlock.objects.filter(seal__kind=SealKind.ROWS).order_by()
    return dict(blocks.values_list("table").annotate(models.Max("last_id")))


# --- Open transactions ---


def _still_open(names: set[str], wait_s: float) -> set[str]:
    """Tables where a transaction that was open when this was called is so after `wait_s`. Ids are drawn before they are
    visible, so it may hold one below what is: whoever draws from a sequence holds a lock on it until its transaction
    ends. SQLite has one writer, whose ids are visible in their order."""
    if connection.vendor != "postgresql" or not names:
        return set()
    with connection.cursor() as cursor:
        sequences = {}
        for name in names:
            column = sealed_tables()[name].key
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)::regclass::oid::bigint", [f'"{name}"', column])
            sequences[cursor.fetchone()[0]] = name
    waiting, until = _holders(list(sequences)), time.monotonic() + wait_s
    while waiting and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        waiting &= _holders(list(sequences))
    return {sequences[sequence] for sequence, _ in waiting}


def _holders(sequences: list[int]) -> set[tuple[int, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relation::bigint, virtualtransaction FROM pg_locks WHERE locktype = 'relation' "
            "AND relation::bigint = ANY(%s) AND pid IS DISTINCT FROM pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [sequences],
        )
        return set(cursor.fetchall())


# --- The anchor: a file outside the database, a line for each head it has seen ---


@dataclass(frozen=True)
class Head:
    number: int
    mac: str
    at: str


@dataclass
class Anchor:
    """What the file says: heads, numbers of lines that nobody can read, and whether a write was cut off."""

    heads: list[Head] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    is_cut: bool = False


def head_line() -> str:
    """The head as the anchor writes it, for whoever keeps it elsewhere; empty where nothing is sealed."""
    head = AuditSeal.objects.order_by("-number").first()
    return f"{head.number} {head.mac} {head.at.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S}Z" if head else ""


def read_head(line: str) -> Head:
    """Raises ValueError."""
    match = LINE.fullmatch(line.strip().encode())
    if match is None:
        raise ValueError("A head is a number, a code of 64 digits and a moment: 12 9f86... 2026-03-02T09:00:00Z")
    number, code, at = (each.decode() for each in match.groups())
    return Head(int(number), code, at)


def anchor() -> Anchor | None:
    """None without AUDIT_ANCHOR; raises OSError where the file cannot be read."""
    if not settings.AUDIT_ANCHOR:
        return None
    try:
        return _anchor(Path(settings.AUDIT_ANCHOR).read_bytes())
    except FileNotFoundError:
        return Anchor()


def _anchor(text: bytes) -> Anchor:
    *lines, rest = text.split(b"\n")
    found = Anchor(is_cut=bool(rest))
    for number, line in enumerate(lines, start=1):
        if line.endswith(CUT_OFF):
            found.is_cut = True
        elif match := LINE.fullmatch(line):
            head, mac_, at = (each.decode("ascii", "replace") for each in match.groups())
            found.heads.append(Head(int(head), mac_, at))
        elif line.strip():
            found.broken.append(number)
    return found


def anchor_head() -> None:
    """Adds the head to the file if it is not in it; before the first seal, that the file has begun."""
    if not settings.AUDIT_ANCHOR:
        return
    file = Path(settings.AUDIT_ANCHOR)
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        text = stream.read()
        known = {(head.number, head.mac) for head in _anchor(text).heads}
        head = AuditSeal.objects.order_by("-number").values_list("number", "mac").first() or (0, "-")
        if head in known or (head[0] == 0 and known):
            return
        [[at]] = SEALS.rows_where(["at"], "number", head[0]) or [["-"]]
        at = f"{at[:19]}Z" if isinstance(at, str) and head[0] else "-"
        line = f"{head[0]} {head[1]} {at}".encode()
        if not LINE.fullmatch(line):  # somebody has rewritten the head: that is for verification to name
            return
        cut = b"" if not text or text.endswith(b"\n") else CUT_OFF + b"\n"
        stream.write(cut + line + b"\n")
        os.fsync(stream.fileno())


def begin_anchor() -> None:
    """Where the file was lost for good, or put aside: a new one that knows the head and nothing before it."""
    if (known := anchor()) and not known.heads:
        anchor_head()


def refuse_other_chain() -> None:
    """Nothing is added to a chain whose end the anchor knows to be gone, or whose anchor is gone: new links would hide it.
    An anchor that is only now configured begins here, so that it is there before a seal counts on it."""
    known = anchor()
    if known is None:
        return
    if not known.heads:
        if number := last_anchored():
            raise AnchorLost(number=number)
        anchor_head()
        return
    last = known.heads[-1]
    if last.number and not AuditSeal.objects.filter(number=last.number, mac=last.mac).exists():
        raise AnchorAhead(number=last.number, at=last.at)


def last_anchored() -> int | None:
    """The number of the newest seal that was made while there was an anchor."""
    made = AuditSeal.objects.filter(content__contains='"anchored":true').order_by("-number")
    return made.values_list("number", flat=True).first()
