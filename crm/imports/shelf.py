"""Many small records in the room of few: a file of 200,000 rows is planned whole before a row of it is written, and as
Python objects its cells alone would take a gigabyte. Where their blocks lie is whoever's who makes a shelf (`scratch`)."""

import datetime
import json
import pickle
import zlib
from array import array
from collections.abc import Callable, Hashable, MutableSequence

BLOCK = 500


class Shelf:
    """Takes records at its end and gives them back by number. Blocks of them are packed; the last one asked for stays open,
    so whoever walks through the records unpacks each block once."""

    __slots__ = ("_count", "_filling", "_number", "_open", "_packed")

    def __init__(self, packed: MutableSequence[bytes] | None = None, count: int = 0):
        """`packed` takes the blocks, or has all of them already, of `count` records."""
        self._packed = [] if packed is None else packed
        self._filling: list = []
        self._count = count
        self._number, self._open = -1, []

    def __len__(self) -> int:
        return self._count

    def add(self, record) -> int:
        self._filling.append(record)
        self._count += 1
        if len(self._filling) == BLOCK:
            self._pack()
        return self._count - 1

    def __getitem__(self, number: int):
        block, at = divmod(number, BLOCK)
        if block == len(self._packed):
            return self._filling[at]
        if block != self._number:
            self._open = self.loads(zlib.decompress(self._packed[block]))
            self._number = block
        return self._open[at]

    def _pack(self) -> None:
        self._packed.append(zlib.compress(self.dumps(self._filling), 1))
        self._filling = []

    def dumps(self, records: list) -> bytes:
        return pickle.dumps(records, protocol=5)

    def loads(self, packed: bytes) -> list:
        # Bytes of this process, never of a file or a request.
        return pickle.loads(packed)  # noqa: S301


class CellShelf(Shelf):
    """Of rows of cells. They may have been packed by the process that reads a stranger's file (`apart`), so they are JSON,
    which becomes nothing but texts, numbers and what is named here."""

    __slots__ = ()

    def blocks(self) -> MutableSequence[bytes]:
        """All of it, packed; nothing is added after it."""
        if self._filling:
            self._pack()
        return self._packed

    def dumps(self, records: list) -> bytes:
        plain = [[cell if type(cell) is str else plain_cell(cell) for cell in cells] for cells in records]
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def loads(self, packed: bytes) -> list:
        return json.loads(packed.decode("utf-8", "surrogatepass"), object_hook=typed_cell)


class CellError(str):
    """`#REF!` and its like: what a spreadsheet shows where a formula failed. No column can hold it."""


class Uncomputed(CellError):
    """The text of a formula that no spreadsheet has computed yet, as programs write them."""


_TYPES: dict[type, tuple[str, Callable]] = {
    CellError: ("error", str),
    Uncomputed: ("formula", str),
    datetime.date: ("date", datetime.date.isoformat),
    datetime.datetime: ("datetime", datetime.datetime.isoformat),
    datetime.time: ("time", datetime.time.isoformat),
    datetime.timedelta: ("duration", datetime.timedelta.total_seconds),
}
_MADE_BY: dict[str, Callable] = {
    "error": CellError,
    "formula": Uncomputed,
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
    "duration": lambda seconds: datetime.timedelta(seconds=seconds),
}


def plain_cell(cell: object) -> object:
    """As JSON can hold it."""
    if type(cell) not in _TYPES:
        return cell
    name, written = _TYPES[type(cell)]
    return {name: written(cell)}


def typed_cell(found: dict) -> object:
    """What `plain_cell` made an object of JSON of."""
    [(name, value)] = found.items()
    return _MADE_BY[name](value)


class FirstMet:
    """The first small number that was put under each key, of hundreds of thousands: as a dict has it, in a seventh of its
    room where it is known how many will come. 0 is nothing. Keys are kept as 64-bit hashes: of a million, two are taken for one in a file of thirty million."""

    __slots__ = ("_count", "_keys", "_size", "_values")

    def __init__(self, expected: int = 0):
        self._make(max(1 << 10, expected * 5 // 4))

    def _make(self, size: int) -> None:
        self._keys, self._values = array("q", bytes(8)) * size, array("i", bytes(4)) * size
        self._size, self._count = size, 0

    def _place(self, key: int) -> int:
        at = key % self._size
        while self._values[at] and self._keys[at] != key:
            at = (at + 1) % self._size
        return at

    def get(self, key: Hashable) -> int:
        return self._values[self._place(hash(key))]

    def add(self, key: Hashable, value: int) -> None:
        """Unless something is there already."""
        self._put(hash(key), value)
        if 5 * self._count > 4 * self._size:
            known = zip(self._keys, self._values, strict=True)
            self._make(2 * self._size)
            for each, number in known:
                if number:
                    self._put(each, number)

    def _put(self, key: int, value: int) -> None:
        at = self._place(key)
        if not self._values[at]:
            self._keys[at], self._values[at] = key, value
            self._count += 1
