"""Pruning of old history, only where the office has set AUDIT_KEEP_YEARS. What goes is named by a seal first, so that
verification tells it from a removal behind the office's back."""

import datetime
from collections.abc import Iterator

from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q, Subquery
from simple_history.models import HistoricalRecords

from crm.audit import sealing
from crm.audit.amending import as_sealed, forget_counts, ranges, sealed_rows
from crm.audit.changes import tracked_models
from crm.audit.digests import sealed_tables, sealing_key
from crm.choices import SealKind
from crm.models import AuditEntry, operation
from crm.models.history import enter

BATCH = 2_000


def prune(*, before: datetime.datetime, now: datetime.datetime, reason: str) -> int:
    """Removes sealed history from before that moment and what of the audit trail then has no history left. What stays: the
    first and the last row of each record that still stands, and of every record the row before its first later one, so
    that undo, the timeline and the past compare each later row with its true predecessor. A batch and its seal are one transaction. Returns the rows.

    Raises SealBroken where a row is not what was sealed (it would go unnoticed), AuditKeyMissing, AnchorAhead."""
    key, pruned = sealing_key(), 0
    sealing.refuse_other_chain()
    with operation(reason=reason) as active:
        for model, candidates in _candidates(before):
            while True:
                with transaction.atomic():
                    sealing.lock()
                    ids = list(candidates.order_by("pk").values_list("pk", flat=True)[:BATCH])
                    if not ids:
                        break
                    removed = dict(_remove(model, ids))
                    told = {"operation": active.id.hex, "before": before.isoformat(), "removed": removed}
                    enter(active, now)
                    sealing.append(SealKind.PRUNING, [], key=key, now=now, named=told)
                pruned += sum(last - first + 1 for found in removed.values() for first, last in found)
    if pruned:
        sealing.anchor_head()
    return pruned


def years_before(now: datetime.datetime, years: int) -> datetime.datetime:
    try:
        return now.replace(year=now.year - years)
    except ValueError:  # the 29th of February
        return now.replace(year=now.year - years, day=28)


def _candidates(before) -> Iterator[tuple[type[models.Model], models.QuerySet]]:
    sealed = sealing.sealed_up_to()
    histories = [model.history.model for model in tracked_models()]
    for model, history in zip(tracked_models(), histories, strict=True):
        key = model._meta.pk.attname
        versions = history._base_manager.filter(**{key: OuterRef(key)})
        old = history._base_manager.filter(history_date__lt=before, pk__lte=sealed.get(history._meta.db_table, 0))
        stands = Exists(model._base_manager.filter(pk=OuterRef(key)))
        later = versions.filter(pk__gt=OuterRef("pk")).order_by("pk")
        between = Exists(versions.filter(pk__lt=OuterRef("pk"))) & Exists(later)
        old = old.annotate(next_at=Subquery(later.values("history_date")[:1]))
        old = old.filter(Q(next_at=None) | Q(next_at__lt=before))
        yield history, old.filter(~stands | between)
    entries = AuditEntry.objects.filter(at__lt=before, pk__lte=sealed.get(AuditEntry._meta.db_table, 0))
    for history in histories:
        entries = entries.exclude(Exists(history._base_manager.filter(operation_id=OuterRef("operation_id"))))
    yield AuditEntry, entries


def _remove(model: type[models.Model], ids: list[int]) -> Iterator[tuple[str, list[list[int]]]]:
    """Table and ranges of the ids that went, the rows' many-to-many rows first."""
    for field in getattr(model, "_history_m2m_fields", ()):
        copies = HistoricalRecords.m2m_models[field]
        pointing = list(copies.objects.filter(history_id__in=ids).values_list("pk", flat=True))
        if pointing:
            yield from _remove(copies, pointing)
    table = sealed_tables()[model._meta.db_table]
    forget_counts(table, as_sealed(table, sealed_rows(table, ids)).values())
    rows = model._base_manager.filter(pk__in=ids)
    rows._raw_delete(rows.db)
    yield table.name, ranges(ids)
