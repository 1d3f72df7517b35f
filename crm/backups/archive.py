"""The container of a backup: one file, compressed, encrypted and authenticated throughout. Knows no database.

A clear head (what it is, a salt, which key), then parts of 1 MiB under AES-256-GCM, each bound by its nonce to its place
and to being the last or not, and by its associated data to this head. In the parts, one after another: the sections,
each a zstd frame, the manifest as a last one, and a tail that says where the manifest begins."""

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crm.encryption import fingerprint
from crm.exceptions import BackupDamaged, BackupKeyMissing, BackupTooNew, NotABackup

MAGIC = b"HYPODESK BACKUP\n"
VERSION = 1
# Magic, version, salt, fingerprint of the key, and the first bytes of the SHA-256 of these: so a damaged head is not
# taken for one of another key. This shape is for all versions.
_HEAD = struct.Struct(">16sB32s4s8s")
_SUM = 8
_NONCE = struct.Struct(">xxxIxxx?")
# Of the packed stream: where the manifest's frame begins, and how long it is.
_TAIL = struct.Struct(">QQ")
PART = 1024 * 1024
_TAG = 16
# Of encrypted values and of rows of steps 1 is three times as fast as 3, and no larger: measured.
LEVEL = 1


def _cipher(key: str, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, b"hypodesk backup 1").derive(key.encode()))


class Writer:
    """Writes an archive to whatever takes bytes, front to back; some MiB of memory whatever the size. A name is used once.

    After an error, or without `finish`, what was written opens for nobody."""

    def __init__(self, target: BinaryIO, key: str):
        start = _HEAD.pack(MAGIC, VERSION, os.urandom(32), bytes.fromhex(fingerprint(key)), b"")[:-_SUM]
        self._head = start + hashlib.sha256(start).digest()[:_SUM]
        self._cipher = _cipher(key, start[17:49])
        self._zstd = zstandard.ZstdCompressor(level=LEVEL)
        self._target = target
        self._part = 0
        self._waiting = bytearray()
        self._packed = 0
        self._sections: dict[str, dict] = {}
        self._is_open = True
        target.write(self._head)

    @contextmanager
    def section(self, name: str) -> Iterator["SectionWriter"]:
        if not self._is_open or name in self._sections:
            raise ValueError(f"No section {name!r} can begin here.")
        self._is_open = False
        start = self._packed
        out = SectionWriter(self._pack, self._zstd)
        yield out
        out.close()
        told = {"size": out.size, "sha256": out.digest.hexdigest(), "at": start, "packed": self._packed - start}
        self._sections[name] = {"name": name, **told}
        self._is_open = True

    def finish(self, manifest: dict) -> None:
        """`manifest` gets the list of sections under "sections"."""
        sections = list(self._sections.values())
        start = self._packed
        text = json.dumps({**manifest, "sections": sections}, separators=(",", ":"), allow_nan=False)
        if not self._is_open:
            raise ValueError("A section is open, or all is finished.")
        self._is_open = False
        out = SectionWriter(self._pack, self._zstd)
        out.write(text.encode())
        out.close()
        self._pack(_TAIL.pack(start, self._packed - start))
        self._seal(self._waiting, is_last=True)

    def _pack(self, data: bytes) -> None:
        self._packed += len(data)
        self._waiting += data
        # The last part is never empty: whoever reads the tail has then opened it.
        while len(self._waiting) > PART:
            self._seal(self._waiting[:PART], is_last=False)
            del self._waiting[:PART]

    def _seal(self, plain: bytearray, *, is_last: bool) -> None:
        self._target.write(self._cipher.encrypt(_NONCE.pack(self._part, is_last), plain, self._head))
        self._part += 1


class SectionWriter:
    def __init__(self, pack: Callable[[bytes], None], zstd: zstandard.ZstdCompressor):
        self._pack = pack
        self._zstd = zstd.compressobj()
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PART):
            piece = view[start : start + PART]
            self.digest.update(piece)
            self._pack(self._zstd.compress(piece))
        self.size += len(view)
        return len(view)

    def close(self) -> None:
        self._pack(self._zstd.flush())


def open_archive(path: Path | str, keys: list[str], *, name: str = "") -> "Archive":
    """Reads the head and the manifest, in milliseconds. Raises NotABackup, BackupTooNew, BackupKeyMissing, BackupDamaged
    and OSError, which call it `name`, else as the file is called. What lies between is looked at by `verify`."""
    name = name or Path(path).name
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise NotABackup(file=name)
    file = open(path, "rb")  # noqa: SIM115
    try:
        return Archive(file, name, keys)
    except BaseException:
        file.close()
        raise


class Archive:
    """An open archive. `manifest["sections"]` has name, size and SHA-256 of each section. To be closed, or used in `with`."""

    def __init__(self, file: BinaryIO, name: str, keys: list[str]):
        self._file, self.name = file, name
        self._end = os.fstat(file.fileno()).st_size
        self._read_head(keys)
        # The tail alone would fit into the last part, with its tag.
        self._parts, left = divmod(self._end - _HEAD.size, PART + _TAG)
        self._parts += left > 0
        self._size = self._end - _HEAD.size - self._parts * _TAG
        self._known = (-1, b"")
        self.manifest, self._manifest_at = self._read_manifest()
        self._sections = {section["name"]: section for section in self.manifest["sections"]}

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def verify(self, progress: Callable[[int, int], object] = lambda done, total: None) -> None:
        """Reads all of it: every part, and that the sections are what the manifest says, one after another without a gap.
        Raises BackupDamaged. `progress` hears the bytes of the file; what it raises ends the work."""
        at = 0
        for section in self.manifest["sections"]:
            with self.section(section["name"]) as stream:
                while stream.read(PART):
                    progress(self._file.tell(), self._end)
            at += section["packed"]
        if at != self._manifest_at:
            raise self.damaged(at)
        progress(self._end, self._end)

    def sections(self) -> Iterator[tuple[str, io.BufferedReader]]:
        """Each with its name, in the order of the file."""
        for name in self._sections:
            with self.section(name) as stream:
                yield name, stream

    def section(self, name: str) -> io.BufferedReader:
        """Its plain bytes. Each part is authenticated again as it is read; at the end size and digest are compared: raises
        BackupDamaged there. KeyError where there is no such section."""
        section = self._sections[name]
        return io.BufferedReader(SectionReader(self, section), PART)

    def _read_head(self, keys: list[str]) -> None:
        self._head = self._file.read(_HEAD.size)
        if len(self._head) < _HEAD.size or not self._head.startswith(MAGIC):
            raise NotABackup(file=self.name)
        _magic, version, salt, key_name, head_sum = _HEAD.unpack(self._head)
        if hashlib.sha256(self._head[:-_SUM]).digest()[:_SUM] != head_sum:
            raise BackupDamaged(file=self.name, at=0)
        if version > VERSION:
            raise BackupTooNew(file=self.name)
        key_name = key_name.hex()
        key = next((key for key in keys if fingerprint(key) == key_name), None)
        if key is None:
            raise BackupKeyMissing(file=self.name, fingerprint=key_name)
        self._cipher = _cipher(key, salt)

    def _read_manifest(self) -> tuple[dict, int]:
        if self._size < _TAIL.size:
            raise self.damaged(0)
        at, packed = _TAIL.unpack(self._plain(self._size - _TAIL.size, _TAIL.size))
        if at + packed + _TAIL.size != self._size:
            raise self.damaged(at)
        try:
            return json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(self._plain(at, packed))), at
        except (zstandard.ZstdError, ValueError) as error:
            raise self.damaged(at) from error

    def _plain(self, start: int, size: int) -> bytes:
        """Of the packed stream: may be long for a manifest only."""
        pieces = []
        while size:
            piece = self.piece(start, size)
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)

    def piece(self, start: int, size: int) -> bytes:
        """What the part at `start` has of it: at least one byte."""
        number, offset = divmod(start, PART)
        return self._opened(number)[offset : offset + size]

    def _opened(self, number: int) -> bytes:
        if self._known[0] != number:
            is_last = number == self._parts - 1
            self._file.seek(_HEAD.size + number * (PART + _TAG))
            sealed = self._file.read(PART + _TAG)
            try:
                plain = self._cipher.decrypt(_NONCE.pack(number, is_last), sealed, self._head)
            except (InvalidTag, ValueError) as error:  # the latter of what is too short for a tag
                raise self.damaged(number * PART) from error
            self._known = (number, plain)
        return self._known[1]

    def damaged(self, at: int) -> BackupDamaged:
        """At a place of the packed stream; told as one of the file."""
        return BackupDamaged(file=self.name, at=_HEAD.size + at + at // PART * _TAG)


class SectionReader(io.RawIOBase):
    def __init__(self, archive: Archive, section: dict):
        self._archive, self._section = archive, section
        self._packed = PackedReader(archive, section["at"], section["packed"])
        self._zstd = zstandard.ZstdDecompressor().stream_reader(self._packed)
        self._size, self._digest = 0, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            count = self._zstd.readinto(buffer)
        except zstandard.ZstdError as error:
            raise self._damaged() from error
        self._size += count
        self._digest.update(memoryview(buffer)[:count])
        if not count and len(buffer):
            told = (self._section["size"], self._section["sha256"], 0)
            if (self._size, self._digest.hexdigest(), self._packed.left) != told:
                raise self._damaged()
        return count

    def _damaged(self) -> BackupDamaged:
        return self._archive.damaged(self._section["at"])


class PackedReader:
    def __init__(self, archive: Archive, at: int, left: int):
        self._archive, self._at, self.left = archive, at, left

    def read(self, size: int) -> bytes:
        if not self.left:
            return b""
        piece = self._archive.piece(self._at, min(size, self.left))
        self._at, self.left = self._at + len(piece), self.left - len(piece)
        return piece
