"""Where an import puts what is too much for its memory: a temporary file without a name, which nobody else can open and
which is gone with its process. What lies there is encrypted under a key that is nowhere but in the memory of that process,
so no disk ever holds a client's data in the clear."""

import os
import tempfile
from typing import IO

# For temporary files on a disk; the usual folder is often memory itself, in our containers too.
FOLDER = "/var/tmp"  # noqa: S108 - nothing there gets a name
KEPT_BYTES = 2 << 20
_NONCE_BYTES = 12


class Blocks:
    """As a list of bytes that only grows. The first KEPT_BYTES stay in the memory, and so does what no disk takes."""

    __slots__ = ("_cipher", "_end", "_file", "_kept", "_places")

    def __init__(self):
        # A block itself, or where it lies in the file.
        self._places: list[bytes | slice] = []
        self._file: IO[bytes] | None = None
        self._kept = self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def append(self, block: bytes) -> None:
        if self._kept + len(block) > KEPT_BYTES:
            try:
                self._places.append(self._written(block))
                return
            except OSError:  # no folder to write to, or a full one
                pass
        self._kept += len(block)
        self._places.append(block)

    def __getitem__(self, number: int) -> bytes:
        place = self._places[number]
        if isinstance(place, bytes):
            return place
        sealed = os.pread(self._file.fileno(), place.stop - place.start, place.start)
        return self._cipher.decrypt(_nonce(number), sealed, None)

    def __del__(self):
        if self._file is not None:
            self._file.close()

    def _written(self, block: bytes) -> slice:
        if self._file is None:
            # Not above: the process that reads a file (`apart`) imports this module, and has no use for a cipher.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._file = tempfile.TemporaryFile(buffering=0, dir=FOLDER)  # noqa: SIM115 - __del__
            self._cipher = AESGCM(AESGCM.generate_key(256))
        sealed = self._cipher.encrypt(_nonce(len(self)), block, None)
        place = slice(self._end, self._end + len(sealed))
        if os.pwrite(self._file.fileno(), sealed, place.start) < len(sealed):
            raise OSError
        self._end = place.stop
        return place


def _nonce(number: int) -> bytes:
    """Of a key that encrypts each block once."""
    return number.to_bytes(_NONCE_BYTES)
