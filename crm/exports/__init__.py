"""Lists out of the office: what a file shows (columns.py), its typed rows (tables.py, trail.py), and how XLSX, CSV and
CSV for machines write them. Every door (admin, command, jobs) lets `fill` make the file: it asks for the permission,
narrows to the rows that the person sees, and leaves a record, an entry of the audit trail and the names of those whose data
went out."""

import datetime
import hashlib
import io
import logging
from functools import partial
from typing import BinaryIO

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, models, transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.text import capfirst, slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import jobs
from crm.audit import events
from crm.choices import AuditKind, RunState
from crm.exceptions import NotAllowed, ReasonMissing
from crm.exports import csv_file, plain_csv, xlsx_file
from crm.exports.columns import CASES, CATALOGUES, PARTS, Column, Kind, chosen, columns_of, is_own
from crm.exports.summary import Line
from crm.exports.tables import Table, with_cases
from crm.exports.trail import TrailTable
from crm.models import AuditEntry, Case, Client, ExportedClient, ExportRun
from crm.models.base import sees_all_cases
from crm.models.bulk import insert_rows
from crm.spreadsheet import escape_cell

__all__ = [
    "CSV", "ENDINGS", "FORMATS", "IMPORTED", "NO_REASON", "PLAIN_CSV", "REASON_LENGTH", "XLSX", "chosen", "columns_of", "file_name", "fill", "filter_text",
    "give_up", "header_text", "is_own", "may_export", "may_have", "model_of", "offered", "planned", "title_of", "with_cases", "write",
]  # fmt: skip

logger = logging.getLogger(__name__)

XLSX, CSV, PLAIN_CSV = "xlsx", "csv", "plain_csv"
FORMATS = {XLSX: xlsx_file, CSV: csv_file, PLAIN_CSV: plain_csv}
ENDINGS = {XLSX: "xlsx", CSV: "csv", PLAIN_CSV: "csv"}
NO_REASON = gettext_lazy("Some of these columns are sensitive: say what they are exported for.")
SENSITIVE_RIGHT = "crm.export_sensitive"
REASON_LENGTH = ExportRun._meta.get_field("reason").max_length
# The lists' filters are an edge, and know what they are called.
FILTER_WORDS = "crm.admin.filter_words.words"
# Whose files an import takes again.
IMPORTED = (Client, Case)
CLIENT_PATHS = {Client: "pk", Case: "client_id"} | {model: f"{client}_id" for model, client in PARTS.items()}


def permission(model: type[models.Model]) -> str:
    """Each list has one of its own; a catalogue is exported by whoever keeps it."""
    verb = "change" if model in CATALOGUES else settings.IMPORT_EXPORT_EXPORT_PERMISSION_CODE
    return f"{model._meta.app_label}.{verb}_{model._meta.model_name}"


def may_export(user, model: type[models.Model]) -> bool:
    return user.has_perm(permission(model))


def offered(user, model: type[models.Model]) -> list[Column]:
    """The columns that he may choose of (None: the system, all of them): of another list only where he may export that,
    sensitive ones only with their own right."""
    return [each for each in columns_of(model) if user is None or _may_have(user, each)]


def _may_have(user, column: Column) -> bool:
    of_list = is_own(column) or may_export(user, column.owner)
    return of_list and (not column.is_sensitive or user.has_perm(SENSITIVE_RIGHT))


def model_of(run: ExportRun) -> type[models.Model]:
    return apps.get_model("crm", run.model)


def title_of(run: ExportRun) -> str:
    return capfirst(str(model_of(run)._meta.verbose_name_plural))


def file_name(run: ExportRun) -> str:
    """With the number of its record. No personal data in it, nor a letter that a mail program would spoil."""
    return f"{slugify(title_of(run))}-{timezone.localdate(run.created_at).isoformat()}-{run.pk}.{ENDINGS[run.format]}"


def write(
    queryset, target: BinaryIO, *, file_format: str, user=None, columns=None, filtered_by: dict | None = None, reason=""
) -> ExportRun:
    """Writes the rows of `queryset` that `user` sees (None: the system, all of them) into `target` and returns the record.
    `filtered_by` goes into the record in the clear: ids and dates, no values of encrypted fields. Raises NotAllowed,
    ReasonMissing and TooManyRows."""
    run = planned(queryset.model, file_format, user, columns, filtered_by, reason)
    run.save()
    fill(run, queryset, target)
    return run


def planned(model, file_format: str, user, columns, filtered_by: dict | None, reason: str = "") -> ExportRun:
    """The record of an export that has not begun, not saved yet; without `columns` of all of the list's own that he may
    have. Raises NotAllowed, and ReasonMissing where one is sensitive."""
    picked = chosen(model, columns or [each.name for each in offered(user, model) if is_own(each)])
    _refuse(model, picked, user)
    if not reason.strip() and any(each.is_sensitive for each in picked):
        raise ReasonMissing(NO_REASON)
    return ExportRun(
        user=user,
        user_name=user.get_display_name() if user else "",
        state=RunState.RUNNING,
        model=model._meta.model_name,
        format=file_format,
        filter=filtered_by or {},
        columns=[column.name for column in picked],
        reason=reason[:REASON_LENGTH],
    )


def may_have(user, run: ExportRun) -> bool:
    """Whether he may still be given its file: with today's rights, of which some may have been taken away since."""
    model = model_of(run)
    sees_as_much = sees_all_cases(user) or not run.saw_all_cases
    return sees_as_much and _may_have_all(user, model, chosen(model, run.columns))


def _may_have_all(user, model, columns: list[Column]) -> bool:
    return may_export(user, model) and all(_may_have(user, each) for each in columns)


def _refuse(model, columns: list[Column], user) -> None:
    if user is not None and not _may_have_all(user, model, columns):
        raise NotAllowed()


def fill(run: ExportRun, queryset, target: BinaryIO, progress: jobs.Progress | None = None) -> None:
    """Writes what the run says into `target`, from its beginning. The record, the audit trail's entry and the names of
    whose data went out are written together, when the file is whole, or when nobody tries again."""
    model, user = queryset.model, run.user
    picked = chosen(model, run.columns)
    _refuse(model, picked, user)
    run.saw_all_cases = user is None or sees_all_cases(user)
    if user is not None:
        queryset = queryset.visible_to(user)
    if model is Client and any(each.owner is Case for each in picked) and CASES not in queryset.query.annotations:
        queryset = with_cases(queryset, user)
    if run.format == PLAIN_CSV:
        picked = [column.plain for column in picked]
    shared = {"number": run.pk, "about": partial(_about, run), "progress": progress or (lambda done: None)}
    if model is AuditEntry:
        table = TrailTable(picked, queryset, user=user, **shared)
    else:
        table = Table(picked, queryset, CLIENT_PATHS.get(model, ""), **shared)
    hashed = _Hashed(target)
    ExportRun.objects.filter(pk=run.pk).update(state=RunState.RUNNING)
    try:
        run.rows = FORMATS[run.format].write(table, hashed)
        hashed.flush()
    except BaseException as error:
        if progress is None or progress.ends_with(error):
            run.message = jobs.told(error)
            _end(run, RunState.FAILED, table, progress)
        raise
    run.sha256, run.message = hashed.digest.hexdigest(), ""
    _end(run, RunState.DONE, table, progress)


@transaction.atomic
def _end(run: ExportRun, state: str, table: Table, progress: jobs.Progress | None) -> None:
    """Raises jobs.Interrupted where somebody else makes the file by now."""
    if progress is not None and not progress.is_mine():
        raise jobs.Interrupted()
    run.state, run.finished_at = state, timezone.now()
    run.save()
    _enter(run, run.user, table.clients)


@transaction.atomic
def give_up(run: ExportRun, *, message: str, at: datetime.datetime) -> bool:
    """Of what nobody makes any more; False where it has ended meanwhile."""
    run.state, run.message, run.finished_at = RunState.FAILED, message, at
    ended = {"state": run.state, "message": run.message, "finished_at": run.finished_at}
    if not ExportRun.objects.filter(pk=run.pk, state__in=(RunState.QUEUED, RunState.RUNNING)).update(**ended):
        return False
    _enter(run, run.user, set())
    return True


class _Hashed(io.RawIOBase):
    """What goes through, in one direction, is counted in."""

    def __init__(self, target: BinaryIO):
        self.target, self.digest = target, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.digest.update(data)
        self.target.write(data)
        return len(data)

    def flush(self) -> None:
        if not self.target.closed:  # when it is forgotten, Python closes it once more
            self.target.flush()


def _about(run: ExportRun, rows: int) -> list[Line]:
    return [
        (_("List"), title_of(run), Kind.TEXT),
        (_("Filter"), filter_text(run, run.user), Kind.TEXT),
        (_("Rows"), rows, Kind.INTEGER),
        (_("Columns"), f"{len(run.columns)} / {len(columns_of(model_of(run)))}", Kind.TEXT),
        (_("Exported by"), escape_cell(run.user_name) or _("the system"), Kind.TEXT),
        (_("Exported on"), timezone.localtime(run.created_at), Kind.MOMENT),
        (_("Number of the export"), run.pk, Kind.INTEGER),
    ]


def filter_text(run: ExportRun, reader) -> str:
    return "; ".join(import_string(FILTER_WORDS)(model_of(run), run.filter, reader)) or _("everything")


def header_text(run: ExportRun) -> str:
    return ", ".join(column.label for column in chosen(model_of(run), run.columns))


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
            insert_rows(ExportedClient, ["run_id", "client_id"], ((run.pk, key) for key in sorted(clients - {None})))
    except DatabaseError as error:
        logger.error("export %s: not noted whose data went out (%s)", run.pk, type(error).__name__)
