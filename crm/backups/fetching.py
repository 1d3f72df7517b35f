"""Copies on their way back from the off-site store. Asks no database: the machine that made them may be lost, and the new one
has the S3_... settings and BACKUP_DIR alone."""

import datetime
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm.backups import offsite, shelf
from crm.backups.archive import open_archive
from crm.choices import BackupKind
from crm.exceptions import (
    BackupDamaged,
    BackupFolderUnusable,
    BackupNotFound,
    BackupNotHere,
    CrmError,
    NoRoom,
    NoStore,
    OffsiteFailed,
)

MEGABYTE = 1024 * 1024
Say = Callable[[str], object]
PASSED_OVER = gettext_lazy(
    "%(name)s is passed over: its name is of the time to come, by the clock of this machine and by that of the store. To take it all the same: manage.py restore %(name)s"
)
LESS_KNOWN = gettext_lazy("Who was erased since, as far as only %(name)s knows it, is not erased again: %(why)s")


def copies() -> list[offsite.Copy]:
    """What there is, oldest first. Raises NoStore; OffsiteFailed, also where there is none."""
    if not offsite.is_set():
        raise NoStore()
    found = [copy for copy in offsite.listed() if shelf.told_by(Path(copy.name))]
    if not found:
        raise OffsiteFailed(why=offsite.EMPTY)
    return found


def newest(say: Say, now: datetime.datetime) -> Path:
    """But for what a restore has saved before it replaced it, and for the time to come (a clock was wrong), while there is
    another; that is said. Raises as `copies`, NoRoomForBackup, BackupFolderUnusable."""
    known = copies()
    past = _past(known, now)
    for copy in known:
        if copy not in past:
            say(PASSED_OVER % {"name": copy.name})
    of_work = [copy for copy in past if shelf.told_by(Path(copy.name)).kind != BackupKind.SAFETY]
    return _fetch((of_work or past)[-1], known, say, now)


def named(file: Path, say: Say, now: datetime.datetime) -> Path:
    """A file as it is, or in BACKUP_DIR, or the copy of this name, which also takes the place of a file that is damaged. Raises
    BackupNotFound, BackupNotHere, and as `newest`."""
    for path in (file, Path(settings.BACKUP_DIR) / file):
        if path.exists():
            known = []
            try:
                known = copies() if offsite.is_set() else []
            except OffsiteFailed as error:
                say(LESS_KNOWN % {"name": _("the off-site store"), "why": error})
            _fetch_the_last(known, path.name, say, now)
            return _whole(path, known, say)
    known = copies() if offsite.is_set() else []
    for copy in known:
        if copy.name == str(file):
            return _fetch(copy, known, say, now)
    raise BackupNotFound(file=file) if offsite.is_set() else BackupNotHere(file=file, folder=settings.BACKUP_DIR)


def _whole(path: Path, known: list[offsite.Copy], say: Say) -> Path:
    """The file, unless it is damaged and a copy of its name can be had."""
    for copy in known if path.is_file() else ():
        try:
            if copy.name == path.name and offsite.digest(copy.name) != shelf.digest(path) and not _is_whole(path):
                say(_("%(file)s is damaged: its copy in the off-site store is taken.") % {"file": path})
                return _into_the_folder(copy, say)
        except (CrmError, OSError) as error:
            say(str(error))
    return path


def _past(known: list[offsite.Copy], now: datetime.datetime) -> list[offsite.Copy]:
    """Also by the store's clock, where ours is behind. All, where all are of the time to come."""
    return [copy for copy in known if shelf.told_by(Path(copy.name)).at <= max(now, copy.at)] or known


def _fetch(copy: offsite.Copy, known: list[offsite.Copy], say: Say, now: datetime.datetime) -> Path:
    _fetch_the_last(known, copy.name, say, now)
    return _into_the_folder(copy, say)


def _fetch_the_last(known: list[offsite.Copy], name: str, say: Say, now: datetime.datetime) -> None:
    """Beside the one of that name, because it knows who was erased since, or the one before it where it cannot be had, and so on
    back to that name; where a clock was wrong, the last one of the past too. Which cannot be had is said, and keeps no office
    from being put back."""
    past = _past(known, now)
    for some in (past, [copy for copy in known if copy not in past]):
        for other in reversed(some):
            if other.name == name or not _is_another_to_ask(other, say):
                break


def _is_another_to_ask(other: offsite.Copy, say: Say) -> bool:
    """Not where this one is fetched, nor where no other could be either."""
    try:
        _into_the_folder(other, say)
    except (CrmError, OSError) as error:
        say(LESS_KNOWN % {"name": other.name, "why": error})
        is_for_all = isinstance(error, NoRoom | BackupFolderUnusable)
        return not (is_for_all or getattr(error, "details", {}).get("why") in (offsite.SILENT, offsite.AWAY))
    return False


def _into_the_folder(copy: offsite.Copy, say: Say) -> Path:
    """It has its name when it is whole and what was sent; of one that somebody else has put there, when it is a backup from
    its first byte to its last. Raises OffsiteFailed, NoRoomForBackup, BackupFolderUnusable, and what opening an archive does.
    """
    sent, path = offsite.digest(copy.name), Path(settings.BACKUP_DIR) / copy.name
    if path.is_file() and (shelf.digest(path) == sent if sent else _is_whole(path)):
        return path
    say(_("Fetching %(name)s, %(size)s MB.") % {"name": copy.name, "size": -(-copy.size // MEGABYTE)})
    with shelf.file_of(copy.name) as file:
        for block in offsite.blocks(copy.name, copy.size):
            file.write(block)
        if sent and file.sha256 != sent:
            raise OffsiteFailed(why=offsite.SPOILT % {"name": copy.name})
        if not sent:
            _verify(file.written(), copy.name)
    return file.path


def _verify(path: Path, name: str) -> None:
    with open_archive(path, settings.BACKUP_KEYS, name=name) as archive:
        archive.verify()


def _is_whole(path: Path) -> bool:
    """Raises what opening an archive does where nobody can tell."""
    try:
        _verify(path, path.name)
    except BackupDamaged:
        return False
    return True
