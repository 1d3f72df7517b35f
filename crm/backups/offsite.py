"""The copies of backups in an S3-compatible store. A copy is named only when it was read back and is what was sent; until
then, and if anything goes wrong, the file here is the backup.

What a store answers may hold anything, so of its errors only status and code are told."""

import base64
import contextlib
import dataclasses
import datetime
import fcntl
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from crm.exceptions import BackupDamaged, CopyTaken, OffsiteFailed

SUFFIX = ".hdbk"
# Of a copy that is sent in parts: the least that S3 takes, for lines that need a minute for it.
PART = 5 * 1024 * 1024
MOST_PARTS = 9_000
BLOCK = 64 * 1024
WAIT_S = 1
PAGE = 1000
# Of each request, the waiting between them included.
ATTEMPTS = 5
CONNECT_S = 10
READ_S = 60
# A store that gives back less than so many bytes a second, after a minute, has stopped.
SLOWEST = 16 * 1024
PATIENCE_S = 60
# What is being sent for longer was left by a killed process.
LEFT = datetime.timedelta(days=1)

SILENT = _("did not answer in time")
BROKEN_OFF = _("broke off in the middle")
AWAY = _("cannot be reached: look at S3_ENDPOINT_URL and S3_REGION")
NO_STORE = _(
    "did not answer as S3-compatible stores do: look at S3_ENDPOINT_URL (the name of its host has no underscore)"
)
NO_BUCKET = _("has no such bucket: look at S3_BUCKET")
NO_NAME = _("can have no bucket of such a name: look at S3_BUCKET")
NO_REGION = _("can have no region of such a name: look at S3_REGION")
REFUSED = _("refused (%(code)s): look at S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and what they may do there")
FAILED = _("failed (%(code)s)")
NOT_THERE = _("has no file %(name)s")
DIFFERENT = _("gave back something else than was sent; that copy was given up")
SPOILT = _("holds something else under %(name)s than was sent there, or gave back something else: take another copy")
TAKEN = _("has another office's %(name)s: give each office its own S3_PREFIX")
EMPTY = _("holds no backup here: look at S3_BUCKET and S3_PREFIX")

Progress = Callable[[int, int], object]


@dataclasses.dataclass(frozen=True)
class Copy:
    name: str
    size: int
    etag: str
    at: datetime.datetime


def is_set() -> bool:
    return bool(settings.S3_BUCKET)


def key_of(name: str) -> str:
    return f"{settings.S3_PREFIX}/{name}" if settings.S3_PREFIX else name


def put(file: Path, sha256: str, progress: Progress = lambda done, total: None) -> Copy:
    """Sends it, reads it back and compares; `progress` hears the bytes of both. One process at a time: what the other has sent is
    read back only. Raises OffsiteFailed, and BackupDamaged where the file is not the one of `sha256` any more. Then the store
    has no copy of this name that is not whole: one that is sent in parts is there with its last one, and one that came back
    different is removed."""
    with _store() as store, file.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        _wait_for_others(source, lambda: progress(0, 2 * size))
        place = {"Bucket": settings.S3_BUCKET, "Key": key_of(file.name)}
        _give_up_older(store)
        etag = _sent_before(store, place, size, sha256)
        if etag and _read_back(store, place, lambda done: progress(size + done, 2 * size)) == sha256:
            return Copy(file.name, size, etag, datetime.datetime.now(datetime.UTC))
        send = _send_whole if size <= PART else _send_parts
        etag, sent = send(store, place, source, size, sha256, lambda done: progress(done, 2 * size))
        if sent != sha256:
            raise BackupDamaged(file=file.name, at=0)
        try:
            same = _read_back(store, place, lambda done: progress(size + done, 2 * size)) == sha256
        except BaseException:
            _remove(store, place)
            raise
        if not same:
            _remove(store, place)
            raise OffsiteFailed(why=DIFFERENT)
        return Copy(file.name, size, etag, datetime.datetime.now(datetime.UTC))


def _wait_for_others(source: BinaryIO, waiting: Callable[[], object]) -> None:
    while True:
        try:
            return fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()  # it may be told to stop
            time.sleep(WAIT_S)


def _sent_before(store, place: dict, size: int, sha256: str) -> str:
    """The ETag of what has this name and content there. Raises CopyTaken where it is another backup."""
    from botocore.exceptions import ClientError

    try:
        known = store.head_object(**place)
    except ClientError:  # none; or a key that may not ask, which what follows tells
        return ""
    digest = known["Metadata"].get("sha256", "")
    if digest not in ("", sha256):
        raise CopyTaken(why=TAKEN % {"name": Path(place["Key"]).name})
    return known["ETag"].strip('"') if digest and known.get("ContentLength") == size else ""


def _send_whole(store, place: dict, source: BinaryIO, size: int, sha256: str, moved: Callable) -> tuple[str, str]:
    content = source.read()
    sent = hashlib.sha256(content).hexdigest()
    if sent != sha256:
        return "", sent
    answer = store.put_object(**place, Body=content, ContentMD5=_md5(content), Metadata={"sha256": sha256})
    moved(size)
    return answer["ETag"].strip('"'), sent


def _send_parts(store, place: dict, source: BinaryIO, size: int, sha256: str, moved: Callable) -> tuple[str, str]:
    upload = {**place, "UploadId": store.create_multipart_upload(**place, Metadata={"sha256": sha256})["UploadId"]}
    try:
        parts, digest, length = [], hashlib.sha256(), max(PART, -(-size // MOST_PARTS))
        while content := source.read(length):
            digest.update(content)
            number = len(parts) + 1
            answer = store.upload_part(**upload, PartNumber=number, Body=content, ContentMD5=_md5(content))
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            moved(source.tell())
        if digest.hexdigest() != sha256:
            store.abort_multipart_upload(**upload)
            return "", digest.hexdigest()
        answer = store.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    except BaseException:
        with contextlib.suppress(Exception):
            store.abort_multipart_upload(**upload)
        raise
    return answer["ETag"].strip('"'), sha256


def _md5(content: bytes) -> str:
    """By which the store itself refuses what arrived different; every one of them knows it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _read_back(store, place: dict, moved: Callable) -> str:
    digest = hashlib.sha256()
    for block in _blocks(store, place, moved):
        digest.update(block)
    return digest.hexdigest()


def _blocks(store, place: dict, moved: Callable = lambda done: None, size: int | None = None) -> Iterator[bytes]:
    """What breaks off is asked for again from there on."""
    from botocore.exceptions import BotoCoreError

    done, tries, began = 0, 1, time.monotonic()
    answer = store.get_object(**place)
    end = answer["ContentLength"]
    if size not in (None, end):
        raise OffsiteFailed(why=SPOILT % {"name": Path(place["Key"]).name})
    while done < end:
        try:
            with contextlib.closing(answer["Body"]) as body:
                while block := body.read(BLOCK):
                    yield block
                    done += len(block)
                    moved(done)
                    if time.monotonic() - began > PATIENCE_S + done / SLOWEST:
                        raise OffsiteFailed(why=SILENT)
        except BotoCoreError:
            if tries == ATTEMPTS:
                raise
        if done < end:
            tries += 1
            if tries > ATTEMPTS:
                raise OffsiteFailed(why=BROKEN_OFF)
            answer = store.get_object(**place, Range=f"bytes={done}-", IfMatch=answer["ETag"])


def _remove(store, place: dict) -> None:
    with contextlib.suppress(Exception):
        store.delete_object(**place)


def _give_up_older(store) -> None:
    """What killed processes began to send costs money until it is given up. A store that cannot say is none the worse."""
    with contextlib.suppress(Exception):
        begun = store.list_multipart_uploads(Bucket=settings.S3_BUCKET, Prefix=key_of(""))
        for each in begun.get("Uploads", ()):
            if each["Key"].endswith(SUFFIX) and each["Initiated"] < datetime.datetime.now(datetime.UTC) - LEFT:
                store.abort_multipart_upload(Bucket=settings.S3_BUCKET, Key=each["Key"], UploadId=each["UploadId"])


def listed() -> list[Copy]:
    """Every backup there, also such as no BackupRun names; oldest first. Raises OffsiteFailed."""
    with _store() as store:
        pages = store.get_paginator("list_objects_v2").paginate(
            Bucket=settings.S3_BUCKET, Prefix=key_of(""), PaginationConfig={"PageSize": PAGE}
        )
        pages = list(pages)
        # What is no answer at all must not say that nothing is there.
        if not all("KeyCount" in page or "Name" in page for page in pages):
            raise OffsiteFailed(why=NO_STORE)
        found = [
            Copy(each["Key"].removeprefix(key_of("")), each["Size"], each["ETag"].strip('"'), each["LastModified"])
            for page in pages
            for each in page.get("Contents", ())
        ]
    return sorted(
        (each for each in found if each.name.endswith(SUFFIX) and "/" not in each.name), key=lambda each: each.name
    )


def digest(name: str) -> str:
    """The SHA-256 of what was sent; empty of what somebody else brought there. Raises OffsiteFailed."""
    with _store(name) as store:
        return store.head_object(Bucket=settings.S3_BUCKET, Key=key_of(name))["Metadata"].get("sha256", "")


def blocks(name: str, size: int) -> Iterator[bytes]:
    """Of a copy, while they come. Raises OffsiteFailed, before the first one where the copy has another size."""
    with _store(name) as store:
        yield from _blocks(store, {"Bucket": settings.S3_BUCKET, "Key": key_of(name)}, size=size)


def is_copy(copy: Copy, sha256: str, progress: Progress) -> bool:
    """Reads it. Raises OffsiteFailed."""
    with _store(copy.name) as store:
        place = {"Bucket": settings.S3_BUCKET, "Key": key_of(copy.name)}
        return _read_back(store, place, lambda done: progress(done, copy.size)) == sha256


def delete(name: str) -> None:
    """One that is not there is none. Raises OffsiteFailed."""
    with _store(name) as store:
        store.delete_object(Bucket=settings.S3_BUCKET, Key=key_of(name))


@contextlib.contextmanager
def _store(name: str = "") -> Iterator[Any]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield _client(
            settings.S3_ACCESS_KEY_ID,
            settings.S3_SECRET_ACCESS_KEY,
            settings.S3_REGION or "us-east-1",
            settings.S3_ENDPOINT_URL,
            (CONNECT_S, READ_S, ATTEMPTS),
        )
    except ClientError as error:
        raise OffsiteFailed(why=_answered(error.response, name)) from error
    except BotoCoreError as error:
        raise OffsiteFailed(why=_unanswered(error)) from error
    # What boto does not tell itself: an address that it does not take, one that redirects, an answer without what S3 tells.
    except (ValueError, KeyError, RecursionError) as error:
        raise OffsiteFailed(why=NO_STORE) from error


@functools.lru_cache(maxsize=1)
def _client(access_key: str, secret_key: str, region: str, endpoint: str, patience: tuple[float, float, int]):
    # Imported where it is used: it is half of what the rest of the program needs to start.
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        endpoint_url=endpoint or None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=patience[0],
            read_timeout=patience[1],
            retries={"total_max_attempts": patience[2], "mode": "standard"},
            # Others than Amazon's serve a bucket by its path, and know no newer checksums.
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _answered(response: dict, name: str):
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = response.get("Error", {}).get("Code", "")
    if code == "NoSuchBucket":
        return NO_BUCKET
    if status == 404 and name:
        return NOT_THERE % {"name": name}
    if 300 <= status < 400:
        return NO_STORE
    words = {"code": " ".join(filter(None, [str(status or ""), *re.findall(r"^[A-Za-z]{1,40}$", code)]))}
    return (REFUSED if status in (401, 403) else FAILED) % words


def _unanswered(error: Exception):
    from botocore import exceptions

    if isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError):
        return SILENT
    if isinstance(
        error,
        exceptions.ConnectionClosedError | exceptions.IncompleteReadError | exceptions.ResponseStreamingError,
    ):
        return BROKEN_OFF
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return AWAY
    if isinstance(error, exceptions.InvalidRegionError):
        return NO_REGION
    if isinstance(error, exceptions.ParamValidationError):
        return NO_NAME
    return FAILED % {"code": type(error).__name__}
