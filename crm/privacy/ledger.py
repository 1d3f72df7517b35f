"""The erasure ledger as lines: what a backup carries beside the database, so that whoever was erased after it is erased
again when it is put back. Ids, scope and times only."""

import dataclasses
import datetime
import json
from collections.abc import Iterable

from crm.choices import ErasureScope
from crm.exceptions import NotALedger
from crm.models import Erasure

VERSION = 1
HEAD = {"erasures": VERSION}


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of the ledger, as Erasure has it."""

    asked_at: datetime.datetime
    scope: str
    object_id: int
    made_at: datetime.datetime
    kept_until: datetime.date | None = None
    erased_at: datetime.datetime | None = None


_NAMES = [field.name for field in dataclasses.fields(Line)]


def ledger() -> list[Line]:
    """All of it, in an order that is always the same."""
    return sorted(
        (Line(**values) for values in Erasure.objects.order_by().values(*_NAMES)),
        key=lambda line: (line.asked_at, line.scope, line.object_id, line.made_at),
    )


def merge(line: Line) -> Erasure:
    """Into this database's ledger: what either knows stays known. Of two dates until which the law keeps a record the
    later one counts. Writes only what differs."""
    which = {"scope": line.scope, "object_id": line.object_id, "made_at": line.made_at}
    told = {"asked_at": line.asked_at, "kept_until": line.kept_until, "erased_at": line.erased_at}
    row, is_new = Erasure.objects.select_for_update(no_key=True).get_or_create(**which, defaults=told)
    if is_new:
        return row
    merged = {
        "asked_at": min(row.asked_at, line.asked_at),
        "kept_until": max(filter(None, [row.kept_until, line.kept_until]), default=None),
        "erased_at": min(filter(None, [row.erased_at, line.erased_at]), default=None),
    }
    changed = [name for name, value in merged.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, merged[name])
    if changed:
        row.save(update_fields=changed)
    return row


# --- As text: a line of JSON each, after one that says what it is ---


def write(lines: Iterable[Line]) -> bytes:
    """The same for the same lines."""
    told = [HEAD, *({name: _written(getattr(line, name)) for name in _NAMES} for line in lines)]
    return b"".join(json.dumps(each, sort_keys=True, separators=(",", ":")).encode() + b"\n" for each in told)


def _written(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="microseconds")
    return value.isoformat() if isinstance(value, datetime.date) else value


def read(content: bytes) -> list[Line]:
    """All lines or none: raises NotALedger for whatever `write` does not write."""
    texts = content.split(b"\n")
    if texts.pop():
        raise NotALedger(line=len(texts) + 1, why="cut off")
    if not texts or _json(texts[0], 1) != HEAD:
        raise NotALedger(line=1, why=f"not version {VERSION}")
    return [_line(text, number) for number, text in enumerate(texts[1:], start=2)]


def _json(text: bytes, number: int) -> dict:
    try:
        found = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotALedger(line=number, why="no JSON object")
    return found


def _line(text: bytes, number: int) -> Line:
    found = _json(text, number)
    if found.keys() != set(_NAMES):
        raise NotALedger(line=number, why="other fields")
    if found["scope"] not in ErasureScope.values:
        raise NotALedger(line=number, why="scope")
    if type(found["object_id"]) is not int or not 0 < found["object_id"] < 1 << 63:
        raise NotALedger(line=number, why="object_id")
    try:
        read = {name: _moment(found[name]) for name in ("asked_at", "made_at")}
        read |= {
            name: None if found[name] is None else convert(found[name])
            for name, convert in (("erased_at", _moment), ("kept_until", datetime.date.fromisoformat))
        }
    except (TypeError, ValueError) as error:
        raise NotALedger(line=number, why="time") from error
    return Line(**found | read)


def _moment(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found
