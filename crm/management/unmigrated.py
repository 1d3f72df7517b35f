"""What commands say of a database that has not the tables of this version."""

import contextlib
from collections.abc import Iterator

from django.core.management.base import CommandError
from django.db import DatabaseError, OperationalError, ProgrammingError
from django.utils.translation import gettext as _

ERRORS = (OperationalError, ProgrammingError)
UNUSABLE = 2


def said_of(error: DatabaseError) -> str:
    reason = str(error).partition("\n")[0]
    return _("The database cannot be used (%(reason)s). Was “manage.py migrate” run? Nothing was written.") % {
        "reason": reason
    }


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """By a line and the exit code UNUSABLE."""
    try:
        yield
    except ERRORS as error:
        raise CommandError(said_of(error), returncode=UNUSABLE) from error
