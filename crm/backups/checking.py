"""Whether a backup is one: whole to its last byte, and, where there is room for a trial, restored and compared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from crm.backups import apart, postgresql, room, scratch, stored
from crm.backups.archive import Archive, open_archive
from crm.choices import BackupProof
from crm.exceptions import BackupDiffers, RestoreFailed


@dataclass
class Checked:
    """RESTORED only where all of it was: loaded, compared, migrated, decrypted and its seal verified. `warnings` say what was
    not, or what is wrong with the office's own data."""

    manifest: dict
    proof: BackupProof = BackupProof.DIGESTS
    warnings: list[str] = field(default_factory=list)
    values: int = 0
    seals: int = 0

    @property
    def rows(self) -> int:
        return sum(table["rows"] for table in self.manifest["tables"].values())


def verify(
    path: Path | str, *, restore: bool, progress: Callable[[int, int], object] = lambda done, total: None
) -> Checked:
    """Raises a CrmError that says what is wrong. With `restore` it takes as long as a restore and as much room as the database.
    `progress` hears bytes of the file, and what it raises ends the work."""
    with open_archive(path, settings.BACKUP_KEYS) as archive:
        archive.verify(progress)
        compare_files(archive)
        found = Checked(archive.manifest)
    if restore:
        _try(Path(path), found)
    return found


def compare_files(archive: Archive) -> None:
    """What the manifest tells of files is what lies in the archive."""
    sections = {each["name"]: each for each in archive.manifest["sections"]}
    files = {f"{stored.SECTION}{told['name']}": told for told in archive.manifest["files"]}
    if sections.keys() - {"database", "ledger"} != files.keys():
        raise BackupDiffers(tables=_("the list of files"))
    for name, told in files.items():
        if (sections[name]["size"], sections[name]["sha256"]) != (told["size"], told["sha256"]):
            raise BackupDiffers(tables=told["name"])


def _try(path: Path, found: Checked) -> None:
    try:
        with scratch.place(found.manifest["engine"]) as place:
            if place is None:
                found.warnings.append(_no_place(found.manifest["engine"]))
                return
            with apart.working("attempt", place.url, file=str(path.absolute()), schema=place.schema) as work:
                told = work.answer()
    except psycopg.OperationalError as error:
        if lacking := room.lacking(error):
            raise lacking from error
        text = _("Digests only: it was not restored to try, because the database cannot be reached: %(why)s")
        found.warnings.append(text % {"why": postgresql.told(error)})
        return
    except scratch.Unusable as error:
        text = _("Digests only: it was not restored to try, because VERIFY_DATABASE_URL is of no use: %(why)s")
        found.warnings.append(text % {"why": error})
        return
    except RestoreFailed as error:
        if place.url != settings.VERIFY_DATABASE_URL:
            raise
        raise RestoreFailed(f"VERIFY_DATABASE_URL: {error}") from error
    found.warnings += told["warnings"]
    found.values, found.seals = told["values"], told["seals"]
    if "unsealed" in told:
        found.warnings.append(told["unsealed"])
    else:
        found.proof = BackupProof.RESTORED


def _no_place(engine: str) -> str:
    if engine != connection.vendor:
        return _(
            "Digests only: it was not restored to try, because there is no PostgreSQL here. Set VERIFY_DATABASE_URL."
        )
    return _(
        "Digests only: it was not restored to try, because the database's role may make neither a database nor a schema. "
        "Set VERIFY_DATABASE_URL."
    )
