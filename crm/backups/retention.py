"""Which backups are old enough to go. Pure: whoever removes them, here or off-site, brings the list."""

import datetime
import itertools
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from crm.choices import BackupKind

HOURLY = datetime.timedelta(hours=48)
OTHERS = datetime.timedelta(days=30)
# So long none was made: or a clock was wrong for a night, and by it all that there is would be old.
SILENCE = datetime.timedelta(days=31)


class Candidate(NamedTuple):
    """`is_good`: verified, and found whole. `is_restored`: restored to try it, which says more."""

    name: Hashable
    kind: str
    at: datetime.datetime
    is_good: bool
    is_restored: bool = False


def to_remove(backups: Iterable[Candidate], now: datetime.datetime, *, settings) -> set:
    """Names. Of a kind that is not known here, and of the time to come (a clock was wrong), none goes.

    Nothing goes while the newest is not good, and ages count from the newest: where none is made any more, none goes. After
    a silence nothing goes until as many days as the least number that stays have one anew."""
    past = sorted((each for each in backups if each.at <= now), key=lambda each: each.at)
    if not past or not past[-1].is_good:
        return set()
    # Days count, not files: of hourly ones enough are made within one day whose clock is wrong.
    newest_of_day = {each.at.date(): each.at for each in past}
    last = list(newest_of_day.values())[-settings.BACKUP_KEEP_LEAST :]
    if any(later - each > SILENCE for each, later in itertools.pairwise(last)):
        return set()
    newest = past[-1].at
    good = [each for each in past if each.is_good]
    stay = good[-settings.BACKUP_KEEP_LEAST :] + [each for each in good if each.is_restored][-1:]
    stay = {each.name for each in stay}
    ages = kept_for(settings)
    old = {each.name for each in past if each.kind in ages and newest - each.at > ages[each.kind]}
    return old - stay


def kept_for(settings) -> dict[str, datetime.timedelta]:
    nights = datetime.timedelta(days=settings.BACKUP_NIGHTLY_DAYS)
    return {
        BackupKind.HOURLY: HOURLY,
        BackupKind.NIGHTLY: nights,
        # It is a night's backup too.
        BackupKind.WEEKLY: max(nights, datetime.timedelta(weeks=settings.BACKUP_WEEKLY_WEEKS)),
        **dict.fromkeys([BackupKind.BY_HAND, BackupKind.BEFORE_MIGRATE, BackupKind.SAFETY], OTHERS),
    }
