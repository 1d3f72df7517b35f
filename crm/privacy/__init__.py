"""What the law asks of the office about a client's data. An erasure that comes while the records of the law against money
laundering must be kept (Act 253/2008, section 16) restricts the client, and erases him when that time is over. The ledger
of erasures goes with every backup, and is replayed on what was put back. What becomes of each field stands in fields.py."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _

from crm import values
from crm.audit import events, past, undo
from crm.choices import AuditKind, ErasureScope
from crm.exceptions import AlreadyErased, AlreadyRestricted, NotAllowed, ReasonMissing, StillActive
from crm.models import Case, CaseParty, CaseStep, Client, Erasure, Identification, operation
from crm.privacy.ledger import Line, ledger, merge, read, write
from crm.privacy.wiping import cases_of, mark_deleted, wipe

__all__ = ["Line", "Replayed", "erase", "erase_due", "kept_until", "ledger", "read", "refuse_active", "replay", "write"]

RIGHT = "crm.erase_client"


@dataclass
class _Whom:
    """A client who stands here, or (`row` is None) one who was deleted and whom the history still knows."""

    pk: int
    reference: str
    made_at: datetime.datetime
    anonymised_at: datetime.datetime | None
    row: Client | None


@dataclass
class Replayed:
    """What a replay did. `unknown` are lines about nobody here: deleted for good, or not yet there."""

    erased: list[int] = field(default_factory=list)
    restricted: list[int] = field(default_factory=list)
    unknown: list[Line] = field(default_factory=list)
    known: int = 0


def kept_until(client_id: int) -> datetime.date | None:
    """The last day on which his records must be kept: RETENTION_YEARS after the last thing that the office did for him, or
    what stands on his record where that is later. None where there never was anything to keep."""
    cases = cases_of(client_id)
    cases |= set(CaseParty.objects.filter(client=client_id).values_list("case_id", flat=True))
    names = ("opened_on", "decided_on")
    rows = [*Case.objects.filter(pk__in=cases).order_by().values_list("pk", *names)]
    rows += [
        (row.id, row.opened_on, row.decided_on)
        for row in past.newest(Case, cases - {pk for pk, *_days in rows}).values()
    ]
    days = [day for _pk, *days in rows for day in days]
    days += CaseStep.objects.filter(case__in=cases).aggregate(last=Max("completed_on")).values()
    days += Identification.objects.filter(client=client_id).aggregate(last=Max("done_on")).values()
    ends = [_years_after(day, settings.RETENTION_YEARS) for day in days if day]
    ends += Client.objects.filter(pk=client_id).exclude(retention_until=None).values_list("retention_until", flat=True)
    return max(ends, default=None)


def _years_after(day: datetime.date, years: int) -> datetime.date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # the 29th of February
        return day.replace(year=day.year + years, month=3, day=1)


def erase(client: Client, *, by, now: datetime.datetime, reason: str) -> Erasure:
    """Erases him, or restricts him until the law lets him go; the ledger's row says which. He may be one of the recycle bin.
    Cannot be undone. Raises NotAllowed, ReasonMissing, StillActive, AlreadyErased, AlreadyRestricted."""
    if by is not None and not by.has_perm(RIGHT):
        raise NotAllowed()
    if not reason.strip():
        raise ReasonMissing()
    with transaction.atomic(), operation(user=by, reason=reason.strip()):
        whom = _find(client.pk)
        if whom is None or whom.anonymised_at:
            raise AlreadyErased(client=client.reference)
        until = refuse_active(whom.pk)
        row = _ledger_row(whom)
        if until is None or until < timezone.localdate(now):
            return _erase(whom, asked_at=row.asked_at if row else now, at=now, now=now)
        if row and whom.row and whom.row.restricted_at:
            raise AlreadyRestricted(client=whom.reference, day=values.date(until))
        return _restrict(whom, asked_at=now, until=until)


def refuse_active(client_id: int) -> datetime.date | None:
    """Returns `kept_until`. Raises StillActive."""
    if active := _active_cases(client_id):
        raise StillActive(cases=", ".join(active))
    return kept_until(client_id)


def _find(client_id: int) -> _Whom | None:
    """Held until the transaction ends."""
    row = Client.objects.select_for_update().filter(pk=client_id).first()
    last = row or past.newest(Client, [client_id]).get(client_id)
    return last and _Whom(client_id, last.reference, last.created_at, last.anonymised_at, row)


def _active_cases(client_id: int) -> list[str]:
    active = Case.objects.active().filter(Q(client=client_id) | Q(parties__client=client_id))
    return list(active.order_by("reference").values_list("reference", flat=True).distinct())


def _ledger_row(whom: _Whom) -> Erasure | None:
    return Erasure.objects.filter(scope=ErasureScope.CLIENT, object_id=whom.pk, made_at=whom.made_at).first()


def _restrict(whom: _Whom, *, asked_at, until: datetime.date) -> Erasure:
    row = merge(Line(asked_at, ErasureScope.CLIENT, whom.pk, whom.made_at, kept_until=until))
    if whom.row and (whom.row.restricted_at, whom.row.retention_until) != (row.asked_at, row.kept_until):
        Client.objects.filter(pk=whom.pk).update(restricted_at=row.asked_at, retention_until=row.kept_until)
        _enter(whom, until=row.kept_until)
    return row


def _erase(whom: _Whom, *, asked_at, at, now) -> Erasure:
    """`at` is when he was erased first: a replay keeps that moment."""
    wipe(whom.pk, whom.reference, now=now)
    if whom.row:
        marked = {"anonymised_at": at, "restricted_at": whom.row.restricted_at or at}
        Client.objects.filter(pk=whom.pk).update(**marked)
    else:
        mark_deleted(whom.pk, at, now=now)
    _enter(whom)
    return merge(Line(asked_at, ErasureScope.CLIENT, whom.pk, whom.made_at, erased_at=at))


def _enter(whom: _Whom, *, until: datetime.date | None = None) -> None:
    detail = {"reference": whom.reference} | ({"until": until.isoformat()} if until else {})
    events.enter(AuditKind.ERASURE, model="client", object_id=whom.pk, detail=detail)


def erase_due(now: datetime.datetime, progress=lambda done: None) -> dict[str, int]:
    """Erases those whose time is over, each in a transaction of its own. Who has become somebody to keep meanwhile waits."""
    today, counts = timezone.localdate(now), {"erased": 0, "put_off": 0}
    due = Erasure.objects.filter(scope=ErasureScope.CLIENT, erased_at=None, kept_until__lt=today).order_by("pk")
    for number, key in enumerate(list(due.values_list("pk", flat=True)), start=1):
        progress(number)
        with transaction.atomic(), operation(reason=_("The time is over for which the law wanted the record kept.")):
            row = Erasure.objects.select_for_update(no_key=True).get(pk=key)
            whom = _find(row.object_id)
            if whom is None or whom.made_at != row.made_at or row.erased_at:
                continue
            until = kept_until(whom.pk)
            if _active_cases(whom.pk) or (until and until >= today):
                if until:
                    _restrict(whom, asked_at=row.asked_at, until=until)
                counts["put_off"] += 1
                continue
            _erase(whom, asked_at=row.asked_at, at=now, now=now)
            counts["erased"] += 1
    return counts


@receiver(undo.came_back, sender=Client)
def restrict_again(keys, **signal) -> None:
    """Whose erasure waits for its day, out of the recycle bin too."""
    waiting = Erasure.objects.filter(scope=ErasureScope.CLIENT, object_id__in=keys, erased_at=None)
    for row in waiting.exclude(kept_until=None):
        whom = _find(row.object_id)
        if whom and whom.row and whom.made_at == row.made_at and not whom.row.restricted_at:
            _restrict(whom, asked_at=row.asked_at, until=row.kept_until)


@transaction.atomic
def replay(lines: Iterable[Line], now: datetime.datetime) -> Replayed:
    """On a database that was put back: restricts and erases again, by the ledgers that there are (that of the database
    which was replaced, and of the office's other backups), and merges them into this database's own. Twice changes nothing. Raises what
    `amend` raises: an AUDIT_ANCHOR that knows a later head than the older database has must be put aside first."""
    done = Replayed()
    with operation(reason=_("Erased again after a backup was put back.")):
        for line in lines:
            row = merge(line)
            whom = _find(line.object_id)
            if whom is None or whom.made_at != line.made_at:
                done.unknown.append(line)
            elif row.erased_at and not whom.anonymised_at:
                _erase(whom, asked_at=row.asked_at, at=row.erased_at, now=now)
                done.erased.append(whom.pk)
            elif not row.erased_at and row.kept_until and whom.row and not whom.row.restricted_at:
                _restrict(whom, asked_at=row.asked_at, until=row.kept_until)
                done.restricted.append(whom.pk)
            else:
                done.known += 1
    return done
