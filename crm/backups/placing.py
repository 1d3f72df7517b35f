"""Which staged files belong to the default database: what a restore has committed and a kill kept from its place is placed by
whoever comes next. That is the start of web and worker, a release, a backup, another restore."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from django.core.files.storage import FileSystemStorage, default_storage
from django.db import DatabaseError, connection, transaction

from crm import checks
from crm.backups import postgresql, sqlite, stored
from crm.exceptions import CrmError, FilesNotHere
from crm.jobs import told
from crm.models import StagedFiles

logger = logging.getLogger(__name__)

# How long a restore that runs is waited for: its moves are renames.
PATIENCE_S = 10


def database() -> str:
    """Whose staged files are; no secret is in it."""
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        return str(Path(known["NAME"]).resolve())
    return f"{known['HOST']}:{known['PORT']}/{known['NAME']}"


def named() -> list[str]:
    """The folders that this database has committed. Waits for a restore whose commit is on its way."""
    is_postgresql = connection.vendor == "postgresql"
    with transaction.atomic() if is_postgresql else contextlib.nullcontext():
        if is_postgresql:
            with connection.cursor() as cursor:
                postgresql.wait_for_restores(cursor)
        if StagedFiles._meta.db_table not in checks.tables():
            return []
        return list(StagedFiles.objects.values_list("folder", flat=True))


def name(folder: str) -> None:
    """In the transaction of the restore. What a backup named is of its own time."""
    StagedFiles.objects.all().delete()
    if folder:
        StagedFiles.objects.create(folder=folder)


def forget(folders: list[str]) -> None:
    StagedFiles.objects.filter(folder__in=folders).delete()


def finish() -> None:
    """Raises FileNotPlaced, and RestoreRuns where it still does."""
    if not (stored.left(default_storage) or _databases_left()):
        return
    with stored.alone(default_storage, patience_s=PATIENCE_S):
        for left in _databases_left():
            left.unlink(missing_ok=True)
        # Elsewhere nobody can tell whether the restore still runs that has staged it.
        own = database() if isinstance(default_storage, FileSystemStorage) else None
        placed = stored.settle(default_storage, named(), database=own)
        forget(placed)
        for folder in placed:
            stored.remove(default_storage, folder)
            logger.warning("A restore that was killed is finished: its stored files are in their places.")


def _databases_left() -> list[Path]:
    return sqlite.leftovers(Path(connection.settings_dict["NAME"]).resolve()) if connection.vendor == "sqlite" else []


@contextlib.contextmanager
def finished() -> Iterator[None]:
    """For a backup: every file is in its place and stays there. Raises FileNotPlaced, RestoreRuns."""
    finish()
    with stored.unmoved(default_storage, patience_s=PATIENCE_S):
        yield


def finish_at_start() -> None:
    """What cannot be placed keeps no office closed; it is said in the log."""
    try:
        finish()
        if missing := set(named()) - set(stored.left(default_storage)):
            raise FilesNotHere(folder=", ".join(sorted(missing)))
    except (CrmError, OSError, DatabaseError) as error:
        logger.error("%s", told(error))
