"""What commands say of a database that has not the tables of this version."""

import contextlib
import errno
import os
from collections.abc import Iterator

from django.core.management.base import CommandError
from django.db import DatabaseError, OperationalError, ProgrammingError, connection
from django.utils.translation import gettext as _

from crm import checks

ERRORS = (OperationalError, ProgrammingError)
UNUSABLE = 2


def said_of(error: DatabaseError) -> str:
    reason = str(error).partition("\n")[0]
    return _("The database cannot be used (%(reason)s). Was “manage.py migrate” run? Nothing was written.") % {
        "reason": reason
    }


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """By a line and the exit code UNUSABLE. Makes no SQLite file."""
    try:
        _refuse_missing_file()
        yield
    except ERRORS as error:
        raise CommandError(said_of(error), returncode=UNUSABLE) from error


def _refuse_missing_file() -> None:
    """SQLite would make it."""
    if not checks.is_there():
        raise OperationalError(f"{connection.settings_dict['NAME']}: {os.strerror(errno.ENOENT)}")
