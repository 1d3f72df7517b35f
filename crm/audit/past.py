"""Records as they were at a moment of the past, from the history: of each the newest version until then. One query a model.

What a record points at (adviser, lender, step) is called by today's name."""

import dataclasses
import datetime

from django.db import models
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext_lazy as _

from crm.exceptions import CrmError
from crm.models import (
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    FinanceItem,
    Identification,
    Note,
    Property,
)
from crm.models.base import sees_all_cases
from crm.models.history import CHANGED, CREATED, DELETED

PER_PAGE = 50
# What belongs to a record, by the column that says so.
CHILDREN = {
    Case: dict.fromkeys((CaseStep, CaseParty, Property, Document, Note, Commission), "case_id"),
    Client: {Case: "client_id", FinanceItem: "client_id", Consent: "client_id", Identification: "client_id"},
}


class NotAMoment(CrmError):
    message = _("This is no date. Write it as 2026-03-01 or 2026-03-01T08:00.")


class InTheFuture(CrmError):
    message = _("This moment has not come yet. Choose one of the past.")


def moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """`2026-03-01` (its end), `2026-03-01T08:00`, with seconds and an offset if wanted; else the office's time zone.
    Raises NotAMoment, InTheFuture. An hour that the clock skipped or repeated is read as the first one."""
    text = text.strip()[:40]
    try:
        at = parse_datetime(text)
        day = parse_date(text) if at is None or len(text) <= len("2026-03-01") else None
    except ValueError:
        at = day = None
    if day is not None:
        at = datetime.datetime.combine(day, datetime.time.max)
    if at is None or not 1900 <= at.year <= 9998:
        raise NotAMoment()
    at = (at if timezone.is_aware(at) else timezone.make_aware(at)).astimezone(datetime.UTC)
    if day is not None and timezone.localdate(now) == day:
        return now
    if at > now:
        raise InTheFuture()
    return at


def versions(model: type[models.Model], at: datetime.datetime, **where) -> QuerySet:
    """History rows: of each record that stood then its version, where that version says so (`case_id=5`)."""
    history = model.history.model.objects
    later = history.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"), history_date__lte=at)
    return history.filter(~Exists(later), history_date__lte=at, **where).exclude(history_type=DELETED).order_by("id")


def version(model: type[models.Model], key: int, at: datetime.datetime) -> models.Model | None:
    return versions(model, at, id=key).first()


def first_seen(model: type[models.Model], key: int) -> datetime.datetime | None:
    rows = model.history.model.objects.filter(id=key).order_by("history_id")
    return rows.values_list("history_date", flat=True).first()


def newest(model: type[models.Model], keys) -> dict[int, models.Model]:
    """Key -> the last version of each, also of a deleted record."""
    history = model.history.model.objects
    later = history.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"))
    return {row.id: row for row in history.filter(~Exists(later), id__in=list(keys))}


@dataclasses.dataclass(frozen=True)
class CasesThen:
    """A page of the list of cases; `next_before` is where the following page begins."""

    rows: list[models.Model]
    next_before: str


STANDING = (CREATED, CHANGED)


def cases(user, at: datetime.datetime, *, before: str = "", where: dict | None = None) -> CasesThen:
    """Cases as they were, by descending reference from `before` on, where their versions say so (`{"status": ["open"]}`).
    Walks down the index of references and looks each version up, so that a page costs the same whatever
    the number of cases; what was deleted since stands among them for who sees everybody's."""
    history = Case.history.model.objects
    live = Case.objects.visible_to(user)
    gone = history.none()
    if sees_all_cases(user):
        standing = Case.objects.filter(pk=OuterRef("id"))
        later = history.filter(id=OuterRef("id"), history_id__gt=OuterRef("history_id"))
        gone = history.filter(~Exists(standing), ~Exists(later), history_type=DELETED, history_date__gt=at)
    keys: dict[str, int] = {}
    for rows, key in ((live, "pk"), (gone, "id")):
        if before:
            rows = rows.filter(reference__lt=before)
        then = history.filter(id=OuterRef(key), history_date__lte=at).order_by("-history_id")
        rows = rows.annotate(then=Subquery(then.values("history_id")[:1]))
        for name, wanted in {"history_type": STANDING, **(where or {})}.items():
            rows = rows.alias(**{f"{name}_then": Subquery(then.values(name)[:1])}).filter(
                **{f"{name}_then__in": wanted}
            )
        keys |= dict(rows.order_by("-reference").values_list("reference", "then")[: PER_PAGE + 1])
    references = sorted(keys, reverse=True)
    page = references[:PER_PAGE]
    found = history.in_bulk([keys[reference] for reference in page])
    more = page[-1] if len(references) > PER_PAGE else ""
    return CasesThen([found[keys[reference]] for reference in page], more)
