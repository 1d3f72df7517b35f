"""What an import keeps between its pages, in encrypted pieces: web and worker may share no disk."""

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator

from crm.encryption import decrypt_bytes, encrypt_bytes
from crm.models import ImportPiece, ImportRun

PIECE_BYTES = 1 << 20
# Small pieces, as those of JSON are, and large ones.
AT_ONCE, LARGE_AT_ONCE = 50, 4


def store_bytes(run: ImportRun, part: str, content: bytes) -> None:
    contents = (content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES))
    _store(run, part, contents, LARGE_AT_ONCE)


def store_json(run: ImportRun, part: str, values: Iterable) -> None:
    """Each value in a piece of its own."""
    _store(run, part, (zlib.compress(json.dumps(each, ensure_ascii=False).encode(), 1) for each in values))


def _store(run: ImportRun, part: str, contents: Iterable[bytes], at_once: int = AT_ONCE) -> None:
    """In place of what there was."""
    drop(run, part)
    made = (
        ImportPiece(run=run, part=part, number=number, content=encrypt_bytes(content))
        for number, content in enumerate(contents)
    )
    for some in itertools.batched(made, at_once):
        ImportPiece.objects.bulk_create(some)


def drop(run: ImportRun, *parts: str) -> None:
    delete(run.pieces.filter(part__in=parts) if parts else run.pieces.all())


def delete(pieces) -> int:
    return pieces.order_by()._raw_delete(pieces.db)


def _contents(run: ImportRun, part: str, numbers: Iterable[int] | None = None) -> Iterator[bytes]:
    found = run.pieces.filter(part=part).order_by("number")
    if numbers is not None:
        found = found.filter(number__in=numbers)
    return (decrypt_bytes(bytes(content)) for content in found.values_list("content", flat=True).iterator(AT_ONCE))


def stream_bytes(run: ImportRun, part: str) -> Iterator[bytes]:
    """By a query for some of them: a cursor over all would have the server copy them first, also where only the first is
    asked for."""
    for start in itertools.count(step=LARGE_AT_ONCE):
        found = list(_contents(run, part, range(start, start + LARGE_AT_ONCE)))
        yield from found
        if len(found) < LARGE_AT_ONCE:
            return


def load_bytes(run: ImportRun, part: str, most: int) -> bytes | None:
    """None where it is longer."""
    found, length = [], 0
    for content in stream_bytes(run, part):
        found.append(content)
        length += len(content)
        if length > most:
            return None
    return b"".join(found)


def load_json(run: ImportRun, part: str, numbers: Iterable[int] | None = None) -> Iterator:
    return (json.loads(zlib.decompress(content)) for content in _contents(run, part, numbers))
