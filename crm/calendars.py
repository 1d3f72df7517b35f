"""Deadlines as a calendar (RFC 5545): of the cases a person looks after, behind an address that is a secret, and of one case
as a file. References and names of steps only: nothing encrypted is read.

Written by hand: the icalendar package, which reads it in the tests, takes a second for the thousand events of a busy adviser,
and calendar programs ask every hour."""

import datetime
import re
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from crm import notices, notifications
from crm.models import CalendarFeed, Case, CaseStep, Step, User

LOOK_BACK = datetime.timedelta(days=90)
MOST_EVENTS = 2_000
LINE_OCTETS = 75
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


# --- The address ---


def make(user: User) -> str:
    """A new address, which is told this once; the one before is void. Its secret has 256 bits, so guessing is hopeless."""
    token = secrets.token_urlsafe(32)
    CalendarFeed.objects.update_or_create(user=user, defaults={"digest": _digest(token)})
    return settings.SITE_URL + reverse("calendar", args=[token])


def revoke(user: User) -> bool:
    return bool(CalendarFeed.objects.filter(user=user).delete()[0])


def may_have(user: User) -> bool:
    return user.is_active and user.is_staff and user.has_perm("crm.view_casestep")


def read(token: str, now: datetime.datetime) -> bytes | None:
    """The calendar behind an address; None where there is none, whatever the reason. The number of queries does not follow
    the cases."""
    found = CalendarFeed.objects.select_related("user").filter(digest=_digest(token)).first()
    if found is None or not may_have(found.user):
        return None
    return of_person(found.user, timezone.localdate(now))


def _digest(token: str) -> str:
    return salted_hmac("calendar", token, secret=settings.SEARCH_KEY, algorithm="sha256").hexdigest()


# --- What it says ---


def of_person(user: User, on: datetime.date) -> bytes:
    """His own cases, and those he stands in for while their adviser is away; in his language."""
    here = notices.at_work(notices.staff(), on)
    own, stood_in = Q(case__adviser=user), Q(case__stand_in=user) & ~Q(case__adviser__in=here)
    with translation.override(user.language):
        steps = CaseStep.objects.filter(own | stood_in, deadline__gte=on - LOOK_BACK)
        return _calendar(steps, _("Hypodesk: deadlines"))


def of_case(case: Case) -> bytes:
    """In the language of whoever asks."""
    return _calendar(CaseStep.objects.filter(case=case), case.reference)


def _calendar(steps, title: str) -> bytes:
    """Of those that wait for somebody, the earliest MOST_EVENTS. Two queries."""
    versions = CaseStep.history.filter(id=OuterRef("pk")).order_by("-history_id")
    changed = Coalesce(Subquery(versions.values("history_date")[:1]), "case__updated_at")
    rows = steps.pending().of_active_cases().exclude(deadline=None).annotate(changed_at=changed)
    rows = rows.order_by("deadline", "case", "step__number", "pk")
    found = list(rows.values_list("pk", "step", "case", "case__reference", "deadline", "changed_at")[:MOST_EVENTS])
    names = {each.pk: each.name for each in Step.objects.filter(pk__in={step for _key, step, *_rest in found})}
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        f"PRODID:-//Hypodesk//Hypodesk//{(translation.get_language() or settings.LANGUAGE_CODE)[:2].upper()}",
        "CALSCALE:GREGORIAN",
        f"X-WR-CALNAME:{_text(title)}",
        f"X-WR-TIMEZONE:{settings.TIME_ZONE}",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        "X-PUBLISHED-TTL:PT1H",
    ]
    for key, step, case, reference, deadline, changed_at in found:
        lines += _event(key, f"{reference}: {names[step]}", notifications.case_url(case), deadline, changed_at)
    lines += [] if found else NOTHING
    return b"".join(folded + b"\r\n" for line in [*lines, "END:VCALENDAR"] for folded in _folded(line))


# A calendar without any component is not valid, and says "error" in some programs.
NOTHING = [
    "BEGIN:VTIMEZONE", "TZID:UTC", "BEGIN:STANDARD", "DTSTART:19700101T000000", "TZOFFSETFROM:+0000", "TZOFFSETTO:+0000",
    "END:STANDARD", "END:VTIMEZONE",
]  # fmt: skip


def _event(key: int, summary: str, url: str, deadline: datetime.date, changed_at: datetime.datetime) -> list[str]:
    """A day that is not blocked. A moved deadline keeps its UID and gets a higher SEQUENCE: minutes, which never go back,
    not even when the history is pruned."""
    stamp = f"{changed_at.astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}"
    return [
        "BEGIN:VEVENT",
        f"UID:step-{key}@{urlsplit(settings.SITE_URL).hostname}",
        f"DTSTAMP:{stamp}",
        f"LAST-MODIFIED:{stamp}",
        f"SEQUENCE:{int(changed_at.timestamp() // 60)}",
        f"DTSTART;VALUE=DATE:{deadline.isoformat().replace('-', '')}",
        f"SUMMARY:{_text(summary)}",
        f"DESCRIPTION:{_text(url)}",
        f"URL:{url}",
        "CLASS:PRIVATE",
        "STATUS:CONFIRMED",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    ]


def _text(value: str) -> str:
    value = _CONTROL.sub("", value.replace("\r\n", "\n")).replace("\\", "\\\\")
    return value.replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _folded(line: str) -> Iterator[bytes]:
    """Lines of at most 75 octets; no letter is cut in two."""
    rest, lead = line.encode(), b""
    while len(lead) + len(rest) > LINE_OCTETS:
        end = LINE_OCTETS - len(lead)
        while rest[end] & 0xC0 == 0x80:
            end -= 1
        yield lead + rest[:end]
        rest, lead = rest[end:], b" "
    yield lead + rest
