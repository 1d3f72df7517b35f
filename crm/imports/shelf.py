"""Many small records in the room of few: a file of 200,000 rows is planned whole before a row of it is written, and as
Python objects its cells alone would take a gigabyte. Nothing here touches a disk."""

import pickle
import zlib

BLOCK = 500


class Shelf:
    """Takes records at its end and gives them back by number. Blocks of them are packed; the last one asked for stays open,
    so whoever walks through the records unpacks each block once."""

    __slots__ = ("_filling", "_number", "_open", "_packed")

    def __init__(self):
        self._packed: list[bytes] = []
        self._filling: list = []
        self._number, self._open = -1, []

    def __len__(self) -> int:
        return len(self._packed) * BLOCK + len(self._filling)

    def add(self, record) -> int:
        self._filling.append(record)
        if len(self._filling) == BLOCK:
            self._packed.append(zlib.compress(pickle.dumps(self._filling, protocol=5), 1))
            self._filling = []
        return len(self) - 1

    def __getitem__(self, number: int):
        block, at = divmod(number, BLOCK)
        if block == len(self._packed):
            return self._filling[at]
        if block != self._number:
            # Bytes of this process, never of a file or a request.
            self._open = pickle.loads(zlib.decompress(self._packed[block]))  # noqa: S301
            self._number = block
        return self._open[at]
