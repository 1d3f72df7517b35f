"""Copies in an S3 store: a real server of moto's, and a door before it that refuses, fails, is silent or gives half."""

import datetime
import fcntl
import hashlib
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm.backups import offsite
from crm.exceptions import BackupDamaged, CrmError, OffsiteFailed
from crm.tests.backups.store import BUCKET

NAME = "hypodesk-20261121T020000Z-nightly.hdbk"


def made(folder, name=NAME, size=100_000) -> tuple:
    """A file and its SHA-256."""
    content = random.Random(name).randbytes(size)
    (folder / name).write_bytes(content)
    return folder / name, hashlib.sha256(content).hexdigest()


def names() -> list[str]:
    return [copy.name for copy in offsite.listed()]


def content(name=NAME) -> bytes:
    sizes = {copy.name: copy.size for copy in offsite.listed()}
    return b"".join(offsite.blocks(name, sizes.get(name, 1)))


def is_of_a_copy(path: str) -> bool:
    return NAME in path


@pytest.fixture(params=["whole", "in parts"])
def file(request, tmp_path):
    return made(tmp_path, size=100_000 if request.param == "whole" else 2 * offsite.PART + 1)


def test_a_copy_is_what_was_sent_and_is_listed(store, file):
    copy = offsite.put(*file)
    assert copy.size == file[0].stat().st_size
    assert offsite.listed()[0].etag == copy.etag
    assert content() == file[0].read_bytes()


def test_copies_are_listed_by_their_time_and_nothing_else_is(store, tmp_path, settings):
    for name in ("hypodesk-20261122T020000Z-weekly.hdbk", NAME, "hypodesk-20261120T020000Z-nightly.part"):
        offsite.put(*made(tmp_path, name))
    settings.S3_PREFIX = "prague/other"
    offsite.put(*made(tmp_path, "hypodesk-20261101T020000Z-nightly.hdbk"))
    settings.S3_PREFIX = "prague"
    assert names() == [NAME, "hypodesk-20261122T020000Z-weekly.hdbk"]


def test_more_copies_than_one_answer_holds_are_listed(store, tmp_path, monkeypatch):
    monkeypatch.setattr(offsite, "PAGE", 2)
    given = [f"hypodesk-2026112{day}T020000Z-nightly.hdbk" for day in range(5)]
    for name in given:
        offsite.put(*made(tmp_path, name, size=1))
    assert names() == given


def test_without_a_prefix_copies_stand_at_the_top(store, tmp_path, settings):
    settings.S3_PREFIX = ""
    offsite.put(*made(tmp_path))
    assert names() == [NAME]
    assert any(path.startswith(f"/office-backups/{NAME}") for _method, path in store.asked)


def test_a_deleted_copy_is_gone_and_one_that_never_was_is_no_error(store, tmp_path):
    offsite.put(*made(tmp_path))
    offsite.delete(NAME)
    offsite.delete(NAME)
    assert names() == []


def test_an_empty_file_has_a_copy(store, tmp_path):
    offsite.put(*made(tmp_path, size=0))
    assert content() == b""


def test_progress_hears_of_what_is_sent_and_of_what_comes_back(store, file):
    heard = []
    offsite.put(*file, progress=lambda done, total: heard.append((done, total)))
    size = file[0].stat().st_size
    assert {total for _done, total in heard} == {2 * size}
    assert heard == sorted(heard)
    assert size in [done for done, _total in heard]
    assert heard[-1][0] == 2 * size


# --- What is not whole is no copy ---


def put_fails(file) -> str:
    with pytest.raises(OffsiteFailed) as failed:
        offsite.put(*file)
    said = str(failed.value)
    assert "secret-words" not in said
    assert "id-of-the-office" not in said
    assert len(said.splitlines()) == 1
    assert file[0].exists()
    return said


def nothing_is_left(store) -> None:
    """No copy, and no part of one that would be paid for."""
    store.fault = lambda method, path: ""
    assert names() == []
    with offsite._store() as client:
        assert "Uploads" not in client.list_multipart_uploads(Bucket="office-backups")


@pytest.mark.parametrize(("fault", "words"), [("403", "403 AccessDenied"), ("500", "500 InternalError")])
def test_a_store_that_refuses_or_fails_is_told_in_one_line_and_has_nothing(store, file, fault, words):
    store.fault = lambda method, path: fault if is_of_a_copy(path) else ""
    assert words in put_fails(file)
    nothing_is_left(store)


def test_one_that_fails_while_parts_are_sent_has_nothing(store, tmp_path):
    store.fault = lambda method, path: "500" if "partNumber=2" in path else ""
    assert "500" in put_fails(made(tmp_path, size=2 * offsite.PART))
    nothing_is_left(store)


def test_one_that_fails_once_is_asked_again(store, file):
    failed = []

    def fault(method, path):
        if is_of_a_copy(path) and (method, path) not in failed:
            failed.append((method, path))
            return "500"
        return ""

    store.fault = fault
    offsite.put(*file)
    assert failed
    assert content() == file[0].read_bytes()


def test_a_silent_store_is_left_after_a_time_and_has_nothing(store, file, monkeypatch):
    monkeypatch.setattr(offsite, "READ_S", 0.5)
    store.fault = lambda method, path: "silent" if is_of_a_copy(path) and method != "DELETE" else ""
    assert "in time" in put_fails(file)
    monkeypatch.undo()


def test_one_that_gives_back_half_is_no_copy(store, file):
    store.fault = lambda method, path: "half" if (method, is_of_a_copy(path)) == ("GET", True) else ""
    assert "broke off" in put_fails(file)
    nothing_is_left(store)


@pytest.mark.parametrize("fault", ["short", "changed"])
def test_one_that_gives_back_something_else_is_no_copy(store, file, fault):
    store.fault = lambda method, path: fault if (method, is_of_a_copy(path)) == ("GET", True) else ""
    assert "something else" in put_fails(file)
    nothing_is_left(store)


def test_what_breaks_off_once_is_read_on_from_there(store, file):
    broken = []

    def fault(method, path):
        if method == "GET" and is_of_a_copy(path) and not broken:
            broken.append(path)
            return "half"
        return ""

    store.fault = fault
    offsite.put(*file)
    assert broken


def test_one_that_trickles_is_left(store, file, monkeypatch):
    monkeypatch.setattr(offsite, "PATIENCE_S", -1)
    monkeypatch.setattr(offsite, "SLOWEST", 10**12)
    assert "in time" in put_fails(file)
    nothing_is_left(store)


@pytest.mark.parametrize("at", ["while it is sent", "while it comes back"])
def test_who_cancels_leaves_nothing(store, file, at):
    size = file[0].stat().st_size

    class Stop(BaseException):
        pass

    def stop(done, total):
        if (done > size) == (at == "while it comes back"):
            raise Stop

    with pytest.raises(Stop):
        offsite.put(*file, progress=stop)
    if at == "while it comes back" or size > offsite.PART:
        nothing_is_left(store)


def test_a_file_that_is_not_what_was_made_is_not_sent(store, file):
    with pytest.raises(BackupDamaged):
        offsite.put(file[0], "0" * 64)
    nothing_is_left(store)


def test_a_failed_copy_leaves_the_older_ones_and_an_older_one_of_its_name(store, tmp_path, file):
    older, digest = made(tmp_path, "hypodesk-20261120T020000Z-nightly.hdbk")
    offsite.put(older, digest)
    with offsite._store() as client:  # brought by hand
        client.put_object(Bucket=BUCKET, Key=f"prague/{NAME}", Body=file[0].read_bytes())
    store.fault = lambda method, path: "403" if method in ("PUT", "POST") else ""
    put_fails(file)
    store.fault = lambda method, path: ""
    assert names() == [older.name, NAME]
    assert content(older.name) == older.read_bytes()
    assert content() == file[0].read_bytes()


def test_what_was_sent_is_read_back_and_not_sent_again(store, file):
    first = offsite.put(*file)
    store.asked.clear()
    assert offsite.put(*file).etag == first.etag
    assert {method for method, path in store.asked if is_of_a_copy(path)} == {"HEAD", "GET"}


def test_who_is_stopped_while_he_reads_what_another_has_sent_leaves_it(store, file):
    offsite.put(*file)
    size = file[0].stat().st_size

    class Stop(BaseException):
        pass

    def stop(done, total):
        assert done > size
        raise Stop

    with pytest.raises(Stop):
        offsite.put(*file, progress=stop)
    assert content() == file[0].read_bytes()


def test_what_was_sent_and_is_spoilt_is_sent_again_by_a_key_that_may_not_delete(store, file):
    offsite.put(*file)
    spoilt = bytes(file[0].stat().st_size)
    with offsite._store() as client:
        client.put_object(Bucket=BUCKET, Key=f"prague/{NAME}", Body=spoilt, Metadata={"sha256": file[1]})
    store.fault = lambda method, path: "403" if method == "DELETE" else ""
    offsite.put(*file)
    assert content() == file[0].read_bytes()


def test_who_waits_for_another_that_sends_hears_that_he_is_to_stop(store, file):
    class Stop(BaseException):
        pass

    def stop(done, total):
        raise Stop

    with file[0].open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stop):
            offsite.put(*file, progress=stop)
    nothing_is_left(store)


def test_two_who_send_one_at_once_send_it_once(store, file):
    with ThreadPoolExecutor(2) as both:
        copies = list(both.map(lambda number: offsite.put(*file), range(2)))
    assert copies[0].etag == copies[1].etag
    begun = [path for method, path in store.asked if method in ("PUT", "POST") and path.endswith((NAME, "?uploads"))]
    assert len(begun) == 1


def test_another_offices_copy_of_the_name_is_not_written_over(store, file, tmp_path):
    offsite.put(*file)
    there, mine = file[0].read_bytes(), b"of an office that writes into the same place"
    file[0].write_bytes(mine)
    with pytest.raises(OffsiteFailed, match="S3_PREFIX"):
        offsite.put(file[0], hashlib.sha256(mine).hexdigest())
    assert content() == there


def test_what_a_killed_process_began_to_send_is_given_up_after_a_day(store, tmp_path, monkeypatch):
    with offsite._store() as client:
        client.create_multipart_upload(Bucket="office-backups", Key="prague/hypodesk-old.hdbk")
        client.create_multipart_upload(Bucket="office-backups", Key="elsewhere/hypodesk-old.hdbk")
    day = offsite.LEFT
    # The server believes that everything began in 2010.
    monkeypatch.setattr(offsite, "LEFT", datetime.timedelta(days=365 * 100))
    offsite.put(*made(tmp_path))
    assert _begun() == ["elsewhere/hypodesk-old.hdbk", "prague/hypodesk-old.hdbk"]
    monkeypatch.setattr(offsite, "LEFT", day)
    offsite.put(*made(tmp_path))
    assert _begun() == ["elsewhere/hypodesk-old.hdbk"]


def _begun() -> list[str]:
    with offsite._store() as client:
        found = client.list_multipart_uploads(Bucket="office-backups").get("Uploads", [])
    return sorted(each["Key"] for each in found)


# --- What is told ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S3_BUCKET": "another-bucket"}, "S3_BUCKET"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"S3_ENDPOINT_URL": "http://nowhere.invalid"}, "cannot be reached"),
        ({"S3_ENDPOINT_URL": "http://my_minio:9000"}, "S3_ENDPOINT_URL .*no underscore"),
        ({"S3_BUCKET": "office/prague"}, "S3_BUCKET"),
        ({"S3_REGION": "eu central 1"}, "S3_REGION"),
    ],
)
def test_what_is_set_wrong_is_named(store, tmp_path, settings, changes, words):
    for name, value in changes.items():
        setattr(settings, name, value)
    assert re.search(words, put_fails(made(tmp_path)))


@pytest.mark.parametrize("fault", ["moved", "308", "blank"])
def test_what_answers_as_no_store_does_names_the_address(store, file, fault):
    store.fault = lambda method, path: fault
    assert "S3_ENDPOINT_URL" in put_fails(file)


@pytest.mark.parametrize(
    "act", [offsite.listed, lambda: offsite.delete(NAME), lambda: content()], ids=["listed", "delete", "blocks"]
)
def test_every_other_act_tells_it_too(store, act):
    store.fault = lambda method, path: "403"
    with pytest.raises(OffsiteFailed, match="403 AccessDenied") as failed:
        act()
    assert "secret-words" not in str(failed.value)
    assert not failed.value.is_final


def test_a_copy_that_is_not_there_is_named(store):
    with pytest.raises(CrmError, match=NAME):
        content()


def test_no_log_line_tells_a_key(store, tmp_path, caplog):
    caplog.set_level("INFO")
    store.fault = lambda method, path: "403"
    put_fails(made(tmp_path))
    assert "of the office" not in caplog.text
    assert "id-of-the-office" not in caplog.text


def test_who_has_no_bucket_has_no_store(settings):
    assert not offsite.is_set()
    settings.S3_BUCKET = "office"
    assert offsite.is_set()
    assert os.environ.get("S3_BUCKET") is None
