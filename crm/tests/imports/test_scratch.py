import errno
import os
import tempfile

import pytest
from cryptography.exceptions import InvalidTag

from crm.imports import scratch
from crm.imports.scratch import Blocks

BLOCKS = [b"Alice", b"", b"Bob" * 1000, "Žaneta".encode()]


@pytest.fixture
def files(monkeypatch):
    """Those that were made."""
    found, real = [], tempfile.TemporaryFile

    def make(**how):
        found.append(real(**how))
        return found[-1]

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", make)
    return found


def filled() -> Blocks:
    blocks = Blocks()
    for block in BLOCKS:
        blocks.append(block)
    return blocks


def all_of(blocks: Blocks) -> list[bytes]:
    """Not in their order."""
    numbers = range(len(blocks))
    found = {number: blocks[number] for number in reversed(numbers)}
    return [found[number] for number in numbers]


@pytest.mark.parametrize(("kept", "made"), [(10_000, 0), (5, 1), (0, 1)])
def test_blocks_come_back_wherever_they_lie(monkeypatch, files, kept, made):
    monkeypatch.setattr(scratch, "KEPT_BYTES", kept)
    assert (all_of(filled()), len(files)) == (BLOCKS, made)


def test_a_file_has_no_name_and_nothing_in_the_clear(monkeypatch, files, tmp_path):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    monkeypatch.setattr(scratch, "FOLDER", tmp_path)
    blocks = filled()
    lies = os.pread(files[0].fileno(), 10_000, 0)
    assert len(lies) > sum(map(len, BLOCKS)) and len(blocks) == len(BLOCKS)
    assert b"Alice" not in lies and b"Bob" not in lies
    assert list(tmp_path.iterdir()) == []


def test_no_two_files_have_one_key(monkeypatch, files):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    _blocks = filled(), filled()
    one, other = (os.pread(file.fileno(), 10_000, 0) for file in files)
    assert one != other


def test_a_changed_file_is_not_believed(monkeypatch, files):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    blocks = filled()
    os.pwrite(files[0].fileno(), b"x", 3)
    with pytest.raises(InvalidTag):
        blocks[0]


def test_what_no_folder_takes_stays_in_the_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    monkeypatch.setattr(scratch, "FOLDER", tmp_path / "none")
    assert all_of(filled()) == BLOCKS


@pytest.mark.parametrize("half", [False, True])
def test_a_full_disk_loses_nothing(monkeypatch, half):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 0)
    real, left = os.pwrite, [1]

    def pwrite(file, content, at):
        if left[0]:
            left[0] -= 1
            return real(file, content, at)
        if half:
            return real(file, content[: len(content) // 2], at)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(scratch.os, "pwrite", pwrite)
    assert all_of(filled()) == BLOCKS
