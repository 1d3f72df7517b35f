"""Lists out of the office: what a file shows (columns.py), its typed rows (tables.py), and how XLSX and CSV write them.
Every door (admin, command, later jobs) calls `write`, which asks for the permission, narrows to the rows that the person
sees and leaves a record."""

import datetime
import hashlib
from typing import BinaryIO

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.text import capfirst, slugify

from crm.choices import RunState
from crm.exceptions import NotAllowed
from crm.exports import csv_file, xlsx_file
from crm.exports.columns import chosen, columns_of
from crm.exports.tables import Table
from crm.models import Case, Client, ExportRun

__all__ = ["CSV", "FORMATS", "XLSX", "chosen", "columns_of", "file_name", "may_export", "write"]

XLSX, CSV = "xlsx", "csv"
FORMATS = {XLSX: xlsx_file, CSV: csv_file}


def permission(model: type[models.Model]) -> str:
    """Clients and cases have a permission of their own; a catalogue is exported by whoever keeps it."""
    verb = settings.IMPORT_EXPORT_EXPORT_PERMISSION_CODE if model in (Client, Case) else "change"
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
    try:
        run.rows = FORMATS[file_format].write(
            Table(capfirst(str(model._meta.verbose_name_plural)), picked, queryset), target
        )
        target.seek(0)
        run.sha256 = hashlib.file_digest(target, "sha256").hexdigest()
        run.state = RunState.DONE
    finally:
        if run.state != RunState.DONE:
            run.state = RunState.FAILED
        run.finished_at = timezone.now()
        run.save()
        target.seek(0)
    return run
