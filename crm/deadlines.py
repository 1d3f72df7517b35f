"""When a step is due: days after opening, moved to a working day where the office wants that."""

import datetime
import functools

import holidays
from django.conf import settings


@functools.cache
def _holidays(country: str):
    return holidays.country_holidays(country)


def is_working_day(day: datetime.date) -> bool:
    return day.weekday() < 5 and day not in _holidays(settings.HOLIDAYS_COUNTRY)


def working_day(day: datetime.date) -> datetime.date:
    """The day itself or the next working one; the day itself where DEADLINES_ON_WORKING_DAYS is off."""
    if settings.DEADLINES_ON_WORKING_DAYS:
        while not is_working_day(day):
            day += datetime.timedelta(days=1)
    return day


def default_deadline(opened_on: datetime.date, step) -> datetime.date:
    return working_day(opened_on + datetime.timedelta(days=step.default_days))
