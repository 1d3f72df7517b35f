"""A copy on its way back from the store to a machine that has nothing else."""

import datetime
import errno
import hashlib
import os
import random
from pathlib import Path

import boto3
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from crm.backups import fetching, offsite
from crm.backups.archive import Writer
from crm.exceptions import BackupDamaged, BackupNotFound, BackupNotHere, NoStore, OffsiteFailed
from crm.tests.backups.store import BUCKET, call

OLDER = "hypodesk-20261120T020000Z-weekly.hdbk"
BETWEEN = "hypodesk-20261120T030000Z-nightly.hdbk"
NEWEST = "hypodesk-20261121T020000Z-nightly.hdbk"
SAVED = "hypodesk-20261121T070000Z-safety.hdbk"
LONG_AGO, DAYS_LATER = "hypodesk-20200101T020000Z-nightly.hdbk", "hypodesk-20200104T020000Z-nightly.hdbk"
TO_COME = "hypodesk-20361121T020000Z-nightly.hdbk"
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


@pytest.fixture
def folder(tmp_path, settings):
    settings.BACKUP_DIR = tmp_path / "backups"
    return settings.BACKUP_DIR


def content(name: str) -> bytes:
    return random.Random(name).randbytes(200_000)


@pytest.fixture
def kept(store, folder, tmp_path):
    """Copies of a machine that is lost."""
    for name in (OLDER, NEWEST):
        send(tmp_path, name)
    store.asked.clear()
    return store


def send(folder, name: str) -> None:
    file = folder / name
    file.write_bytes(content(name))
    offsite.put(file, hashlib.sha256(content(name)).hexdigest())
    file.unlink()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def quiet(step: str) -> None:
    pass


def is_download(method: str, path: str) -> bool:
    return method == "GET" and ".hdbk" in path


def test_the_newest_copy_comes_into_the_folder_of_backups(kept, folder):
    path = fetching.newest(quiet, NOW)
    assert path == folder / NEWEST
    assert path.read_bytes() == content(NEWEST)
    assert names(folder) == [NEWEST]


def test_what_root_fetches_belongs_to_whom_the_folder_belongs(kept, folder):
    owner = os.getuid() or 65534
    folder.mkdir()
    os.chown(folder, owner, -1)
    assert fetching.newest(quiet, NOW).stat().st_uid == owner


def test_what_a_restore_has_saved_is_not_the_newest_but_tells_of_erasures(kept, folder, tmp_path):
    send(tmp_path, SAVED)
    assert fetching.newest(quiet, NOW).name == NEWEST
    assert names(folder) == [NEWEST, SAVED]


def test_an_older_copy_comes_with_the_newest_which_knows_who_was_erased_since(kept, folder, tmp_path):
    assert fetching.named(Path(OLDER), quiet, NOW) == folder / OLDER
    assert (folder / OLDER).read_bytes() == content(OLDER)
    assert names(folder) == [OLDER, NEWEST]


def test_one_of_the_time_to_come_is_not_the_newest_while_there_is_another(kept, folder, tmp_path):
    """A clock was wrong. Who had been erased when it was made is asked all the same."""
    said = []
    send(tmp_path, TO_COME)
    assert fetching.newest(said.append, NOW).name == NEWEST
    assert names(folder) == [NEWEST, TO_COME]
    assert [f"restore {TO_COME}" in step for step in said if "passed over" in step] == [True]


def test_one_that_the_store_got_after_its_own_time_is_not_of_the_time_to_come(store, folder, tmp_path):
    """The clock of this machine is behind."""
    said, day = [], datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    for name in (LONG_AGO, DAYS_LATER):
        send(tmp_path, name)
    assert fetching.newest(said.append, day).name == DAYS_LATER
    assert not [step for step in said if "passed over" in step]


def test_one_of_the_time_to_come_hides_no_other_that_knows_who_was_erased_since(kept, folder, tmp_path):
    send(tmp_path, TO_COME)
    fetching.named(Path(OLDER), quiet, NOW)
    assert names(folder) == [OLDER, NEWEST, TO_COME]


def test_one_that_only_knows_who_was_erased_since_keeps_none_back_when_it_cannot_be_fetched(kept, folder):
    said = []
    kept.fault = lambda method, path: "403" if is_download(method, path) and NEWEST in path else ""
    assert fetching.named(Path(OLDER), said.append, NOW) == folder / OLDER
    assert names(folder) == [OLDER]
    assert [step for step in said if "erased again" in step and NEWEST in step]


@pytest.mark.parametrize(("fault", "asked"), [("changed", [NEWEST, BETWEEN]), ("silent", [NEWEST])])
def test_the_one_before_it_is_asked_who_was_erased_since_where_the_newest_is_spoilt(
    kept, folder, tmp_path, monkeypatch, fault, asked
):
    send(tmp_path, BETWEEN)
    said, kept.asked[:] = [], []
    monkeypatch.setattr(offsite, "READ_S", 1)
    kept.fault = lambda method, path: fault if is_download(method, path) and NEWEST in path else ""
    assert fetching.named(Path(OLDER), said.append, NOW) == folder / OLDER
    assert names(folder) == sorted([OLDER, *asked[1:]])
    assert [NEWEST in step for step in said if "erased again" in step] == [True]
    assert [name for name in (NEWEST, BETWEEN) if any(name in path for _method, path in kept.asked)] == asked


def test_a_file_that_is_here_comes_with_the_newest_copy_too(kept, folder):
    folder.mkdir()
    (folder / OLDER).write_bytes(content(OLDER))
    assert fetching.named(folder / OLDER, quiet, NOW) == folder / OLDER
    assert names(folder) == [OLDER, NEWEST]


def test_a_file_that_is_here_needs_no_store_that_answers(kept, folder):
    said = []
    folder.mkdir()
    (folder / OLDER).write_bytes(content(OLDER))
    kept.fault = lambda method, path: "403"
    assert fetching.named(folder / OLDER, said.append, NOW) == folder / OLDER
    assert [step for step in said if "erased again" in step]


def of_nobody_knows_whom(name: str, content: bytes) -> None:
    """As somebody else's tool copies a file: nothing says what was sent."""
    client = boto3.client(
        "s3", endpoint_url=settings.S3_ENDPOINT_URL, aws_access_key_id="a", aws_secret_access_key="b", region_name="eu"
    )
    client.put_object(Bucket=BUCKET, Key=offsite.key_of(name), Body=content)


@pytest.mark.parametrize("length", [-1, 1000, 0])
def test_what_somebody_else_has_put_into_the_store_replaces_no_whole_file(store, folder, tmp_path, length):
    whole = archive_of(tmp_path)
    of_nobody_knows_whom(NEWEST, whole[:length])
    with pytest.raises(BackupDamaged):
        fetching.newest(quiet, NOW)
    assert names(folder) == []
    (folder / NEWEST).write_bytes(whole)
    assert fetching.newest(quiet, NOW).read_bytes() == whole


def test_what_somebody_else_has_put_into_the_store_is_taken_where_it_is_whole(store, folder, tmp_path):
    whole = archive_of(tmp_path)
    of_nobody_knows_whom(NEWEST, whole)
    folder.mkdir()
    (folder / NEWEST).write_bytes(whole[:-1])
    assert fetching.newest(quiet, NOW).read_bytes() == whole


def archive_of(folder) -> bytes:
    with (folder / "whole").open("wb") as file:
        writer = Writer(file, settings.BACKUP_KEYS[0])
        with writer.section("database") as out:
            out.write(random.Random(7).randbytes(200_000))
        writer.finish({"tables": {}, "files": []})
    return (folder / "whole").read_bytes()


def test_where_there_are_only_ones_of_the_time_to_come_the_newest_of_them_is_taken(store, folder, tmp_path):
    send(tmp_path, TO_COME)
    assert fetching.newest(quiet, NOW) == folder / TO_COME


def test_what_is_here_already_is_not_fetched_again_and_a_spoilt_one_is(kept, folder):
    fetching.newest(quiet, NOW)
    kept.asked.clear()
    fetching.newest(quiet, NOW)
    assert not [each for each in kept.asked if is_download(*each)]
    (folder / NEWEST).write_bytes(b"half of it")
    assert fetching.newest(quiet, NOW).read_bytes() == content(NEWEST)


@pytest.mark.parametrize("place", ["folder", "elsewhere"])
def test_a_damaged_file_that_is_here_gives_way_to_its_copy(kept, folder, tmp_path, place):
    said, folder_of = [], {"folder": folder, "elsewhere": tmp_path}[place]
    folder.mkdir()
    (folder_of / NEWEST).write_bytes(content(NEWEST)[:-1])
    assert fetching.named(folder_of / NEWEST, said.append, NOW) == folder / NEWEST
    assert (folder / NEWEST).read_bytes() == content(NEWEST)
    assert [step for step in said if f"{folder_of / NEWEST} is damaged" in step]


def test_a_damaged_file_stays_where_its_copy_is_no_better(kept, folder):
    said = []
    folder.mkdir()
    (folder / NEWEST).write_bytes(b"half of it")
    kept.fault = lambda method, path: "changed" if is_download(method, path) else ""
    assert fetching.named(Path(NEWEST), said.append, NOW).read_bytes() == b"half of it"
    assert "take another copy" in said[-1]


def test_a_whole_file_that_is_here_is_taken_whatever_the_store_has(store, folder, tmp_path):
    whole = archive_of(tmp_path)
    send(tmp_path, NEWEST)
    folder.mkdir()
    (folder / NEWEST).write_bytes(whole)
    assert fetching.named(Path(NEWEST), quiet, NOW).read_bytes() == whole


@pytest.mark.parametrize("put", ["sent", "by somebody else"])
@pytest.mark.parametrize("why", ["key", "disk"])
def test_a_file_that_is_here_and_cannot_be_opened_is_not_damaged(
    store, folder, tmp_path, settings, monkeypatch, why, put
):
    whole = archive_of(tmp_path)
    send(tmp_path, NEWEST) if put == "sent" else of_nobody_knows_whom(NEWEST, content(NEWEST))
    folder.mkdir()
    (folder / NEWEST).write_bytes(whole)
    if why == "key":
        settings.BACKUP_KEYS = ["bJk0t2Yw8f7v8dKq1m0oR5Zc3QeS6xT9uWhLgNnPpA4="]
    else:
        monkeypatch.setattr(fetching, "open_archive", unreadable)
    said = []
    assert fetching.named(Path(NEWEST), said.append, NOW) == folder / NEWEST
    assert (folder / NEWEST).read_bytes() == whole
    assert not [step for step in said if "damaged" in step]


def unreadable(*args, **kwargs):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_that_is_here_needs_no_store(folder, tmp_path):
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "office.hdbk").write_bytes(b"x")
    assert fetching.named(tmp_path / "office.hdbk", quiet, NOW) == tmp_path / "office.hdbk"
    assert fetching.named(Path("office.hdbk"), quiet, NOW) == folder / "office.hdbk"


def test_an_answer_that_breaks_off_is_taken_up_again(kept, folder):
    answered = []

    def once(method, path):
        answered.append(path) if is_download(method, path) else None
        return "half" if is_download(method, path) and len(answered) == 1 else ""

    kept.fault = once
    assert fetching.newest(quiet, NOW).read_bytes() == content(NEWEST)
    assert len(answered) == 2


@pytest.mark.parametrize("fault", ["half", "short", "changed", "500", "403"])
def test_what_is_not_what_was_sent_gets_no_name(kept, folder, fault):
    kept.fault = lambda method, path: fault if is_download(method, path) else ""
    with pytest.raises(OffsiteFailed) as refused:
        fetching.newest(quiet, NOW)
    assert names(folder) == []
    assert "secret-words" not in str(refused.value)


def test_an_older_file_stays_when_its_copy_cannot_be_fetched(kept, folder):
    folder.mkdir()
    (folder / NEWEST).write_bytes(b"an older one")
    kept.fault = lambda method, path: "changed" if is_download(method, path) else ""
    with pytest.raises(OffsiteFailed, match=NEWEST):
        fetching.newest(quiet, NOW)
    assert (folder / NEWEST).read_bytes() == b"an older one"
    assert names(folder) == [NEWEST]


def test_a_store_that_refuses_says_what_to_look_at(kept):
    kept.fault = lambda method, path: "403"
    with pytest.raises(OffsiteFailed, match="S3_SECRET_ACCESS_KEY"):
        fetching.copies()


def test_a_bucket_that_is_not_there_is_told(store, settings):
    settings.S3_BUCKET = "another-office"
    with pytest.raises(OffsiteFailed, match="S3_BUCKET"):
        fetching.copies()


def test_an_empty_store_and_one_of_other_things_are_told(store, settings):
    with pytest.raises(OffsiteFailed, match="S3_PREFIX"):
        fetching.copies()
    assert call(store, "PUT", f"/{BUCKET}/{settings.S3_PREFIX}/a-letter.hdbk") == 200
    with pytest.raises(OffsiteFailed, match="S3_PREFIX"):
        fetching.newest(quiet, NOW)


def test_a_name_that_nobody_has_is_told(kept, tmp_path):
    with pytest.raises(BackupNotFound, match="--list"):
        fetching.named(Path("hypodesk-20200101T000000Z-nightly.hdbk"), quiet, NOW)


def test_without_a_store_there_is_only_what_is_here(folder, tmp_path, settings):
    settings.S3_BUCKET = ""
    with pytest.raises(NoStore, match="S3_BUCKET"):
        fetching.newest(quiet, NOW)
    with pytest.raises(BackupNotHere, match=str(folder)):
        fetching.named(tmp_path / NEWEST, quiet, NOW)


def test_the_command_lists_what_there_is(kept, capsys):
    call_command("restore", "--list")
    assert capsys.readouterr().out.splitlines() == [f"{OLDER}  1 MB", f"{NEWEST}  1 MB"]


def test_the_command_wants_one_of_three(kept):
    for given in ([], [NEWEST, "--latest"], ["--latest", "--list"]):
        with pytest.raises(CommandError):
            call_command("restore", *given)
