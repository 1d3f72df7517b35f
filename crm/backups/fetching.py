"""Copies on their way back from the off-site store. Asks no database: the machine that made them may be lost, and the new one
has the S3_... settings and BACKUP_DIR alone."""

import datetime
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from crm.backups import offsite, shelf
from crm.choices import BackupKind
from crm.exceptions import BackupNotFound, NoStore, OffsiteFailed

MEGABYTE = 1024 * 1024
Say = Callable[[str], object]


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
    another. Raises as `copies`, NoRoomForBackup, BackupFolderUnusable."""
    known = copies()
    past = _past(known, now)
    of_work = [copy for copy in past if shelf.told_by(Path(copy.name)).kind != BackupKind.SAFETY]
    return _fetch((of_work or past)[-1], known, say, now)


def named(file: Path, say: Say, now: datetime.datetime) -> Path:
    """A file as it is, or in BACKUP_DIR, or the copy of this name. Raises BackupNotFound, and as `newest`."""
    for path in (file, Path(settings.BACKUP_DIR) / file):
        if path.exists():
            return path
    known = copies() if offsite.is_set() else []
    for copy in known:
        if copy.name == str(file):
            return _fetch(copy, known, say, now)
    raise BackupNotFound(file=file)


def _past(known: list[offsite.Copy], now: datetime.datetime) -> list[offsite.Copy]:
    """All, where all are of the time to come."""
    return [copy for copy in known if shelf.told_by(Path(copy.name)).at <= now] or known


def _fetch(copy: offsite.Copy, known: list[offsite.Copy], say: Say, now: datetime.datetime) -> Path:
    """With the last one, which knows who was erased since; where a clock was wrong, with the last one of the past too. That one
    of those cannot be had is said, and keeps no office from being put back."""
    for other in {_past(known, now)[-1], known[-1]} - {copy}:
        try:
            _into_the_folder(other, say)
        except OffsiteFailed as error:
            text = _("Who was erased since, as far as only %(name)s knows it, is not erased again: %(why)s")
            say(text % {"name": other.name, "why": error})
    return _into_the_folder(copy, say)


def _into_the_folder(copy: offsite.Copy, say: Say) -> Path:
    """It has its name when it is whole and what was sent. Raises OffsiteFailed, NoRoomForBackup, BackupFolderUnusable."""
    sent, path = offsite.digest(copy.name), Path(settings.BACKUP_DIR) / copy.name
    if sent and path.is_file() and shelf.digest(path) == sent:
        return path
    say(_("Fetching %(name)s, %(size)s MB.") % {"name": copy.name, "size": -(-copy.size // MEGABYTE)})
    with shelf.file_of(copy.name) as file:
        for block in offsite.blocks(copy.name):
            file.write(block)
        if file.size != copy.size or file.sha256 != (sent or file.sha256):
            raise OffsiteFailed(why=offsite.SPOILT % {"name": copy.name})
    return file.path
