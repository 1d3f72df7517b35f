"""Lists out of the office: what a file shows (columns.py), its typed rows (tables.py, trail.py), and how XLSX and CSV
write them. Every door (admin, command, later jobs) calls `write`, which asks for the permission, narrows to the rows that
the person sees, and leaves a record, an entry of the audit trail and the names of those whose data went out."""

import datetime
import hashlib
import logging
from typing import BinaryIO

from django.conf import settings
from django.db import DatabaseError, models, transaction
from django.utils import timezone
from django.utils.text import capfirst, slugify

from crm.audit import events
from crm.choices import AuditKind, RunState
from crm.exceptions import NotAllowed
from crm.exports import csv_file, xlsx_file
from crm.exports.columns import chosen, columns_of
from crm.exports.tables import Table
from crm.exports.trail import TrailTable
from crm.models import AuditEntry, Case, Client, ExportedClient, ExportRun
from crm.models.bulk import insert_rows

__all__ = ["CSV", "FORMATS", "XLSX", "chosen", "columns_of", "file_name", "may_export", "write"]

logger = logging.getLogger(__name__)

XLSX, CSV = "xlsx", "csv"
FORMATS = {XLSX: xlsx_file, CSV: csv_file}
CLIENT_PATHS = {Client: "pk", Case: "client_id"}


def permission(model: type[models.Model]) -> str:
    """Clients, cases and the audit trail have a permission of their own; a catalogue is exported by whoever keeps it."""
    verb = settings.IMPORT_EXPORT_EXPORT_PERMISSION_CODE if model in (Client, Case, AuditEntry) else "change"
    return f"{model._meta.app_label}.{verb}_{model._meta.model_name}"


def may_export(user, model: type[models.Model]) -> bool:
    return user.has_perm(permission(model))


def file_name(model: type[models.Model], file_format: str, on: datetime.date) -> str:
    """No personal data in it, nor a letter that a mail program would spoil."""
    return f"{slugify(model._meta.verbose_name_plural)}-{on.isoformat()}.{file_format}"


def write(
    queryset, target: BinaryIO, *, file_format: str, user=None, columns=None, filtered_by: dict | None = None
) -> ExportRun:
    """Writes the rows of `queryset` that `user` sees (None: the system, all of them) into `target`, a binary file open
    for reading too, and returns the record. `filtered_by` goes into the record in the clear: ids and dates, no values
    of encrypted fields. Raises NotAllowed and TooManyRows."""
    model = queryset.model
    if user is not None:
        if not may_export(user, model):
            raise NotAllowed()
        queryset = queryset.visible_to(user)
    picked = chosen(model, columns)
    run = ExportRun.objects.create(
        user=user,
        user_name=user.get_display_name() if user else "",
        state=RunState.RUNNING,
        model=model._meta.model_name,
        format=file_format,
        filter=filtered_by or {},
        columns=[column.name for column in picked],
    )
    title = capfirst(str(model._meta.verbose_name_plural))
    table = (
        TrailTable(title, picked, queryset, user=user)
        if model is AuditEntry
        else Table(title, picked, queryset, CLIENT_PATHS.get(model, ""))
    )
    try:
        run.rows = FORMATS[file_format].write(table, target)
        target.seek(0)
        run.sha256 = hashlib.file_digest(target, "sha256").hexdigest()
        run.state = RunState.DONE
    finally:
        if run.state != RunState.DONE:
            run.state = RunState.FAILED
        run.finished_at = timezone.now()
        run.save()
        _enter(run, user, table.clients)
        target.seek(0)
    return run


def _enter(run: ExportRun, user, clients: set[int]) -> None:
    detail = {
        "list": run.model,
        "format": run.format,
        "rows": run.rows,
        "columns": run.columns,
        "filter": run.filter,
        "state": run.state,
    }
    about = {"model": run._meta.model_name, "object_id": run.pk, "operation_id": run.operation_id}
    events.enter(AuditKind.EXPORT, user=user, detail=detail, **about)
    if run.state != RunState.DONE:
        return  # of a piece of a file nothing leaves
    try:
        with transaction.atomic():
            insert_rows(ExportedClient, ["run_id", "client_id"], ((run.pk, key) for key in sorted(clients)))
    except DatabaseError as error:
        logger.error("export %s: not noted whose data went out (%s)", run.pk, type(error).__name__)
