"""A disk that has no room, or a file that may not grow: as the system, SQLite and PostgreSQL say it, told with its cure."""

import contextlib
import errno
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
from django.db import connection
from django.utils.translation import gettext as _

from crm.exceptions import FileMayNotGrow, NoRoom

FULL = {errno.ENOSPC, errno.EDQUOT}
SQLITE_FULL = {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}
# What SQLite says of a file that may not grow, and of much else too.
SQLITE_FAILED = {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHMSIZE"}


def lacking(error: BaseException, place: Path | str = "") -> NoRoom | None:
    """What to raise instead, where the error or its cause is of that kind. Without a place it is the database's, unless the error
    names its own."""
    of_place = {"place": place or of_database()}
    for each in filter(None, (error, error.__cause__)):
        if isinstance(each, NoRoom):
            return each
        if (limit := _limit(each)) is not None:
            return FileMayNotGrow(limit=limit, **of_place)
        if _is_full(each):
            return NoRoom(**of_place)
    return None


@contextlib.contextmanager
def told(place: Path | str = "") -> Iterator[None]:
    """Raises NoRoom, FileMayNotGrow instead."""
    try:
        yield
    except (OSError, sqlite3.Error, psycopg.Error) as error:
        if found := lacking(error, place):
            raise found from error
        raise


def of_database() -> str:
    if connection.vendor == "sqlite":
        return str(Path(connection.settings_dict["NAME"]).absolute().parent)
    return _("the data folder of the PostgreSQL server")


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "") in SQLITE_FULL
    return isinstance(error, psycopg.errors.DiskFull)


def _limit(error: BaseException) -> int | None:
    """Of a file of this process, in bytes, where that is what stopped it."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    is_limit = isinstance(error, OSError) and error.errno == errno.EFBIG
    is_limit |= isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "") in SQLITE_FAILED
    return most if is_limit and most != resource.RLIM_INFINITY else None
