"""The container of a backup: what goes in comes out, and whatever was done to the file is found."""

import hashlib
import io
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.backups import archive
from crm.backups.archive import Writer, open_archive
from crm.encryption import fingerprint
from crm.exceptions import BackupDamaged, BackupKeyMissing, BackupTooNew, CrmError, NotABackup

KEY = "7ba6Rr0VRp3cVvJw7Oa9eAq7oK1Nw1JQbYh4Qb1cZ0Q="
OTHER_KEY = "Zk3mJx0cK0eW0bQv6YH8c3n9v0b7yS5tqF1r2u3i4o5="
HEAD = archive._HEAD.size
MANIFEST = {"format": 1, "tables": {"crm_client": {"rows": 3, "digest": "00ff"}}}


def packed(sections: dict[str, bytes], *, key: str = KEY, manifest: dict = MANIFEST) -> bytes:
    target = io.BytesIO()
    writer = Writer(target, key)
    for name, content in sections.items():
        with writer.section(name) as out:
            out.write(content)
    writer.finish(manifest)
    return target.getvalue()


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def check(path, *keys: str) -> dict:
    """What a restore does first: opens and reads all of it."""
    with open_archive(path, list(keys or [KEY])) as found:
        found.verify()
        return found.manifest


def contents(path) -> dict[str, bytes]:
    with open_archive(path, [KEY]) as found:
        return {name: stream.read() for name, stream in found.sections()}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(archive, "PART", 512)


class Noise:
    """Bytes that do not shrink, the same ones for a seed."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def __call__(self, size: int) -> bytes:
        return self.random.randbytes(size)


# --- What goes in comes out ---


def test_sections_come_back_in_their_order(tmp_path):
    sections = {"database": b"COPY public.crm_client FROM stdin;\n" * 9, "ledger": b"", "files/a.pdf": b"\0\xff" * 99}

    path = written(tmp_path / "a.hdbk", packed(sections))

    assert list(contents(path).items()) == list(sections.items())


def test_the_manifest_tells_size_and_digest_of_each_section(tmp_path):
    path = written(tmp_path / "a.hdbk", packed({"database": b"rows", "ledger": b""}))

    manifest = check(path)

    told = [(each["name"], each["size"], each["sha256"]) for each in manifest.pop("sections")]
    assert told == [
        (name, len(text), hashlib.sha256(text).hexdigest()) for name, text in [("database", b"rows"), ("ledger", b"")]
    ]
    assert manifest == MANIFEST


def test_an_archive_without_sections_is_whole(tmp_path):
    assert check(written(tmp_path / "a.hdbk", packed({})))["sections"] == []


@pytest.mark.parametrize("size", [archive.PART - 40, archive.PART, archive.PART + 1, 3 * archive.PART + 5])
def test_sections_of_several_parts_come_back(tmp_path, size):
    sections = {"noise": Noise(size)(size), "zeros": bytes(size)}

    path = written(tmp_path / "a.hdbk", packed(sections))

    check(path)
    assert contents(path) == sections


def test_lengths_around_a_part_are_whole_and_their_last_byte_counts(tmp_path, small_parts):
    noise, seen = Noise(1), set()
    for size in range(200, 2_500):
        content = packed({"a": noise(size)})
        left = (len(content) - HEAD) % (archive.PART + archive._TAG)
        if left in {0, archive._TAG, archive._TAG + 1, archive.PART + archive._TAG - 1}:
            seen.add(left)
            check(written(tmp_path / "a.hdbk", content))
            with pytest.raises(BackupDamaged):
                check(written(tmp_path / "a.hdbk", content[:-1] + bytes([content[-1] ^ 1])))
    assert {0, archive._TAG} & seen


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(), max_size=40),
        st.tuples(st.integers(0, 5_000), st.integers(1, 2_000), st.booleans()),
        max_size=6,
    )
)
def test_sections_of_any_size_and_name_come_back(tmp_path_factory, drawn):
    """Names as a storage may have them, halves of a character too; written in pieces of any size."""
    sections = {
        name: (Noise(size)(size) if is_noise else b"abc" * (size // 3)) for name, (size, _, is_noise) in drawn.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "PART", 1024)
        target = io.BytesIO()
        writer = Writer(target, KEY)
        for name, content in sections.items():
            step = drawn[name][1]
            with writer.section(name) as out:
                for start in range(0, len(content), step):
                    out.write(content[start : start + step])
        writer.finish({})
        path = written(tmp_path_factory.getbasetemp() / "any.hdbk", target.getvalue())

        check(path)
        assert list(contents(path).items()) == list(sections.items())


def test_a_section_is_read_by_lines_and_by_name(tmp_path):
    path = written(tmp_path / "a.hdbk", packed({"before": b"x" * 99, "database": b"one\ntwo\n", "after": b"y"}))

    with open_archive(path, [KEY]) as found, found.section("database") as stream:
        assert list(stream) == [b"one\n", b"two\n"]


def test_a_name_is_used_once():
    writer = Writer(io.BytesIO(), KEY)
    with writer.section("database"):
        pass

    with pytest.raises(ValueError, match="database"), writer.section("database"):
        pass


def test_what_was_left_in_the_middle_of_a_section_is_never_finished():
    writer = Writer(io.BytesIO(), KEY)
    with pytest.raises(OSError, match="gone"), writer.section("database"):
        raise OSError("gone")

    with pytest.raises(ValueError, match="open"):
        writer.finish({})


def test_two_archives_of_the_same_have_no_part_in_common():
    first, second = packed({"a": bytes(100)}), packed({"a": bytes(100)})

    assert first[60:] != second[60:]


def test_nothing_of_content_names_or_manifest_is_readable():
    content = packed({"files/smlouva.pdf": b"Alice Novakova"})

    assert not any(word in content for word in (b"smlouva", b"Alice", b"crm_client", KEY.encode()))


# --- Whatever was done to it is found ---

PARTS = 512


def parts_of(content: bytes) -> list[bytes]:
    body, size = content[HEAD:], PARTS + archive._TAG
    return [body[start : start + size] for start in range(0, len(body), size)]


def corruptions(draw: random.Random):
    """Each (what was done, the bytes); endless."""
    noise = Noise(draw.randrange(10**9))
    samples = {
        whose: [
            packed({"database": noise(draw.randrange(1_500, 6_000)), "files/a": noise(draw.randrange(900))}, key=key)
            for _ in range(20)
        ]
        for whose, key in (("mine", KEY), ("theirs", OTHER_KEY))
    }
    while True:
        whose = draw.choice(["mine", "theirs"])
        content, other = draw.choice(samples["mine"][:10]), draw.choice(samples[whose][10:])
        head, parts, others = content[:HEAD], parts_of(content), parts_of(other)
        at, onto = draw.sample(range(len(parts)), 2)
        kind = draw.choice(
            [
                "bit",
                "byte",
                "cut",
                "cut at a part",
                "empty",
                "swap",
                "double",
                "remove",
                "head",
                "manifest",
                "part",
                "append",
            ]
        )
        if kind in ("bit", "byte"):
            damaged = bytearray(content)
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8) if kind == "bit" else draw.randrange(1, 256)
        elif kind == "cut":
            damaged = content[: draw.randrange(1, len(content))]
        elif kind == "empty":
            damaged = b""
        elif kind == "append":
            damaged = content + draw.choice(
                [noise(draw.randrange(1, 2_000)), bytes(draw.randrange(1, 600)), parts[at], other]
            )
        elif kind == "head":
            damaged = other[:HEAD] + content[HEAD:]
        else:
            if kind == "cut at a part":
                parts = parts[:at]
            elif kind == "swap":
                parts[at], parts[onto] = parts[onto], parts[at]
            elif kind == "double":
                parts.insert(onto, parts[at])
            elif kind == "remove":
                del parts[at]
            elif kind == "manifest":
                parts[-2:] = others[-2:]
            else:
                parts[at] = draw.choice(others)
            damaged = head + b"".join(parts)
        assert damaged != content
        yield f"{kind}, {whose}", bytes(damaged)


def test_each_of_a_thousand_corruptions_is_found(tmp_path, small_parts):
    path, kinds, missed = tmp_path / "a.hdbk", set(), []

    for number, (what, content) in zip(range(1_000), corruptions(random.Random(20261121)), strict=False):
        path.write_bytes(content)
        kinds.add(what)
        try:
            check(path, KEY, OTHER_KEY)
        except BackupDamaged:
            continue
        missed.append((number, what))

    assert not missed
    assert len(kinds) == 24


def test_corruptions_of_an_archive_of_real_size_are_found(tmp_path):
    draw, content = (
        random.Random(7),
        packed({"database": Noise(3)(3_500_000), "ledger": b"[]", "files/a": bytes(10**6)}),
    )
    path = tmp_path / "a.hdbk"

    for _ in range(60):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        with pytest.raises(BackupDamaged):
            check(written(path, bytes(damaged[: draw.choice([None, len(damaged)])])))


def test_every_bit_of_the_head_counts(tmp_path):
    content = packed({})
    for bit in range(HEAD * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BackupDamaged):
            check(written(tmp_path / "a.hdbk", bytes(damaged)))


def test_an_archive_cut_off_anywhere_is_found(tmp_path, small_parts):
    content = packed({"a": Noise(5)(600)})
    for length in range(len(content)):
        with pytest.raises(BackupDamaged):
            check(written(tmp_path / "a.hdbk", content[:length]))


@pytest.mark.parametrize("content", [b"", b"PGDMP\x01\x0e", b"SQLite format 3\0" + bytes(4096)])
def test_what_is_no_backup_is_called_none(tmp_path, content):
    with pytest.raises(NotABackup, match=r"other\.hdbk"):
        open_archive(written(tmp_path / "other.hdbk", content), [KEY])


def test_a_section_that_is_not_what_the_manifest_says_is_found(tmp_path, monkeypatch):
    """Every part is authentic: who wrote it was wrong."""

    class Forgetful(archive.SectionWriter):
        def write(self, data):
            self.digest.update(b"!")
            return super().write(data)

    monkeypatch.setattr(archive, "SectionWriter", Forgetful)
    path = written(tmp_path / "a.hdbk", packed({"database": b"rows"}))

    with pytest.raises(BackupDamaged):
        check(path)


@pytest.mark.parametrize("later", [{}, {"after": b"rows"}])
def test_bytes_that_no_section_has_are_found(tmp_path, later):
    target = io.BytesIO()
    writer = Writer(target, KEY)
    with writer.section("database") as out:
        out.write(b"rows")
    writer._pack(b"more")
    for name, content in later.items():
        with writer.section(name) as out:
            out.write(content)
    writer.finish({})

    with pytest.raises(BackupDamaged):
        check(written(tmp_path / "a.hdbk", target.getvalue()))


def test_a_damaged_section_is_found_while_it_is_read(tmp_path, small_parts):
    """Also by who did not verify, or where the disk went bad after it."""
    content = bytearray(packed({"first": Noise(1)(4_000), "second": b"fine"}))
    content[HEAD + 2_000] ^= 1

    with open_archive(written(tmp_path / "a.hdbk", bytes(content)), [KEY]) as found:
        with pytest.raises(BackupDamaged, match="byte 16[0-9][0-9] "), found.section("first") as stream:
            stream.read()
        assert found.section("second").read() == b"fine"


# --- Keys and versions ---


def test_another_key_is_told_by_its_fingerprint(tmp_path):
    path = written(tmp_path / "a.hdbk", packed({}, key=OTHER_KEY))

    with pytest.raises(BackupKeyMissing, match=fingerprint(OTHER_KEY)):
        open_archive(path, [KEY])


def test_an_older_key_among_several_opens(tmp_path):
    assert check(written(tmp_path / "a.hdbk", packed({}, key=OTHER_KEY)), KEY, OTHER_KEY)


def test_another_key_of_the_same_fingerprint_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "fingerprint", lambda key: "00000000")
    path = written(tmp_path / "a.hdbk", packed({}, key=OTHER_KEY))

    with pytest.raises(BackupDamaged):
        check(path, KEY)


def test_a_newer_version_asks_for_the_newer_program(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archive, "VERSION", archive.VERSION + 1)
        path = written(tmp_path / "a.hdbk", packed({}))

    with pytest.raises(BackupTooNew, match="newer version"):
        open_archive(path, [KEY])


# --- What it costs ---


class Counted(io.FileIO):
    bytes_read = 0

    def read(self, size=-1):
        found = super().read(size)
        self.bytes_read += len(found)
        return found


def test_the_manifest_is_read_without_the_rest(tmp_path):
    path = written(tmp_path / "a.hdbk", packed({"database": Noise(9)(20 * archive.PART)}))

    with Counted(path) as file:
        found = archive.Archive(file, path.name, [KEY])

    assert found.manifest["sections"]
    assert file.bytes_read < 3 * archive.PART


def test_progress_ends_with_the_whole_file_and_may_stop_the_work(tmp_path):
    path = written(tmp_path / "a.hdbk", packed({"database": Noise(9)(5 * archive.PART)}))
    heard = []

    def stop(done, total):
        heard.append((done, total))
        if len(heard) == 3:
            raise CrmError()

    with open_archive(path, [KEY]) as found:
        with pytest.raises(CrmError):
            found.verify(stop)
        found.verify(lambda *told: heard.append(told))

    size = path.stat().st_size
    assert heard[-1] == (size, size)
    assert [done for done, _ in heard[3:]] == sorted(done for done, _ in heard[3:])


MEASURED = """
import os, sys
from pathlib import Path
from crm.backups.archive import Writer, open_archive

def highest():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

def write(path, size):
    zeros = bytes(1 << 20)
    with open(path, "wb") as file:
        writer = Writer(file, "key")
        for name, block in (("noise", None), ("zeros", zeros)):
            with writer.section(name) as out:
                for _ in range(size):
                    out.write(block or os.urandom(1 << 20))
        writer.finish({})
    with open_archive(path, ["key"]) as found:
        found.verify()
        for name, stream in found.sections():
            while stream.read(1 << 20):
                pass

write(sys.argv[1], 4)
before = highest()
write(sys.argv[1], 100)
print(highest() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="asks Linux for the peak of memory")
def test_memory_does_not_grow_with_the_archive(tmp_path):
    """200 MB, half of it shrinking a thousandfold, against 8 MB."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "big.hdbk")],
        capture_output=True,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
    )

    assert not ended.returncode, ended.stderr
    assert int(ended.stdout) < 4 * 1024  # kB
