"""Imports of the office's pages: each is a record from its upload on. A file of some hundred rows is checked and written in
the request; a longer one by jobs of the long queue. Its write and the record's state are one transaction, so a kill at any
moment leaves both or neither, and a job that is begun again after it finds nothing to do."""

import datetime
import json
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from crm import jobs
from crm.audit.undo import undone
from crm.choices import ImportPart, ImportState, QueueName, RunState
from crm.exceptions import CrmError, NotAllowed
from crm.imports import apart, conflicts, mappings, older_crm, older_file, pieces, preview, workbook
from crm.imports.checking import check_file
from crm.imports.columns import CASES, CLIENTS, ColumnsUnknown, Layout, folded
from crm.imports.decisions import narrow, reshape
from crm.imports.older_crm import OlderPlan
from crm.imports.plans import Outcome, Plan, problems_json, sha256
from crm.imports.problems import DUPLICATE, RowProblem, UnusableFile
from crm.imports.reading import Sheet, read
from crm.imports.writing import take_turn, write
from crm.jobs import unwatched
from crm.models import Case, Client, ImportPiece, ImportRun, JobRun

CHECK_JOB, WRITE_JOB = "check_import", "write_import"
# A page answers at once up to here.
ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 1 << 20
# Of a workbook, whose few bytes may unpack to a thousand columns; at 30 us a cell where all of them are errors.
CELLS_AT_ONCE, UNPACKED_AT_ONCE = 32_000, 8 << 20
# Of one person: others wait in the same queue.
MOST_AT_ONCE = 3
# Of one file; whoever has more to mend mends the file.
MOST_CORRECTIONS = 5_000
# Of the imports of one file those that are asked whether they were undone.
MOST_EARLIER = 20
# How long an unconfirmed file waits, and the refused rows of a finished import.
KEPT_FOR = datetime.timedelta(days=1)
REFUSED_KEPT_FOR = datetime.timedelta(days=30)
# Beside those of both imports, for the older CRM's dump.
DUMP_PERMISSIONS = ("crm.add_client", "crm.add_case", "crm.add_note", "crm.view_all_cases")
IN_WORK = (ImportState.CHECKING, ImportState.RUNNING)
WAITING = (ImportState.UPLOADED, ImportState.CHECKING, ImportState.CHECKED, ImportState.RUNNING)
OF_JOBS = (RunState.QUEUED, RunState.RUNNING)


class DumpNotAllowed(NotAllowed):
    message = _(
        "The older CRM's dump holds clients, cases and notes of everybody. To import it takes the rights to import and to "
        "add clients and cases, to add notes and to see all cases."
    )


class TooManyAtOnce(CrmError):
    message = _("%(count)s of your imports are not finished yet. Wait for one, or cancel it.")


class TooManyCorrections(CrmError):
    message = _("At most %(limit)s cells are put right here. Correct the rest in the file and send it again.")


class ChangedMeanwhile(CrmError):
    message = _("The office changed what this file is about. Look at the rows again before you import them.")


# --- What the pages ask for ---


def begin(content: bytes, file_name: str, user, *, model: str = "client", empty_deletes: bool = False) -> ImportRun:
    """A new import, checked or being checked. Raises UnusableFile or NotAllowed of a short file, whose record is not kept
    then; TooManyAtOnce of a long one."""
    tidy(timezone.now())
    if older_file.is_dump(content, file_name):
        _require_dump(user)
    run = ImportRun(
        user=user, user_name=user.get_display_name(), state=ImportState.CHECKING, model=model, sha256=sha256(content),
        file_name=file_name[-255:], options={"empty_deletes": empty_deletes},
    )  # fmt: skip
    found = _found(run, content, taken=frozenset()) if is_short(content, file_name) else None
    with transaction.atomic():
        if found is None:
            _refuse_too_many(user)
        run.save()
        pieces.store_bytes(run, ImportPart.FILE, content)
        if found is None:
            _order(run, CHECK_JOB)
        else:
            _keep(run, found)
    return run


def is_short(content: bytes, file_name: str) -> bool:
    if len(content) > BYTES_AT_ONCE:
        return False
    if older_file.is_dump(content, file_name):
        return older_file.clients(content) <= ROWS_AT_ONCE
    return _is_narrow(content) and len(read(content, file_name).rows) <= ROWS_AT_ONCE


def _is_narrow(content: bytes) -> bool:
    return not workbook.is_zip(content) or workbook.holds_at_most(content, CELLS_AT_ONCE, UNPACKED_AT_ONCE)


def kept(user):
    """The runs whose file waits for `user`, and for nobody else."""
    return ImportRun.objects.filter(user=user, state__in=WAITING, created_at__gte=timezone.now() - KEPT_FOR)


def check_again(run: ImportRun, user, *, taken: frozenset[str] | None = None) -> None:
    """After something was chosen or put right, and after a job that failed or was cancelled. Raises NotAllowed where the
    file is not there any more or a job works on it; UnusableFile."""
    if state_of(run) not in (ImportState.UPLOADED, ImportState.CHECKED, ImportState.FAILED):
        raise NotAllowed()
    content = pieces.load_bytes(run, ImportPart.FILE, BYTES_AT_ONCE)
    is_at_once = content is not None and is_short(content, run.file_name)
    found = _found(run, content, taken=taken) if is_at_once else None
    with transaction.atomic():
        if not kept(user).filter(pk=run.pk).filter(_free(run)).update(state=ImportState.CHECKING, message=""):
            raise NotAllowed()
        run.state, run.message = ImportState.CHECKING, ""
        run.save(update_fields=["options", "mapping", "corrections"])
        if taken is not None:
            conflicts.keep(run, taken)
        if found is None:
            _refuse_too_many(user)
            _order(run, CHECK_JOB)
        else:
            _keep(run, found)


def name_columns(run: ImportRun, user, chosen: dict[str, str]) -> None:
    """Says what columns mean, by headers as they are written, for this file and the next ones, and checks the file."""
    said = {folded(header): target for header, target in chosen.items()}
    run.mapping = json.dumps({**_json(run.mapping), **said}, ensure_ascii=False)
    check_again(run, user)
    mappings.remember(user, chosen)


def correct(
    run: ImportRun,
    user,
    cells: dict[tuple[int, int], str],
    decisions: dict[int, str] | None = None,
    taken: frozenset[str] | None = None,
) -> None:
    """New texts for cells, by row and column's index, what becomes of rows (`decisions.decide`), and the marks of all
    conflicts in which the file's value is taken (None: as before); the file is checked with them. Raises
    TooManyCorrections."""
    run.options["decisions"] = {
        str(row): choice for row, choice in (run.decisions | (decisions or {})).items() if choice
    }
    corrections = corrections_of(run)
    for (row, index), text in cells.items():
        corrections.setdefault(row, {})[index] = text
    if len(run.options["decisions"]) + sum(map(len, corrections.values())) > MOST_CORRECTIONS:
        raise TooManyCorrections(limit=MOST_CORRECTIONS)
    run.corrections = json.dumps(corrections, ensure_ascii=False)
    check_again(run, user, taken=taken)


def choose(run: ImportRun, user, options: dict[str, bool]) -> None:
    """Which rows are to be written, as `confirm` takes it: for the next time that the preview is shown."""
    run.options = run.options | options
    kept(user).filter(pk=run.pk, state=ImportState.CHECKED).update(options=run.options)


def corrections_of(run: ImportRun) -> dict[int, dict[int, str]]:
    return {
        int(row): {int(index): text for index, text in cells.items()} for row, cells in _json(run.corrections).items()
    }


def columns_of(run: ImportRun) -> tuple[str, list, dict[str, str], list[str], dict[str, str]] | None:
    """Of columns that a person may name: the file's kind, index, header and values of each, what is said of them, which
    sheets were not read, and which fields the file's other columns hold."""
    found = next(pieces.load_json(run, ImportPart.COLUMNS), None)
    if not found:
        return None
    kind, asked, sheets, held = (*found, *("", {})[len(found) - 2 :])  # an older version kept less
    return kind, asked, _mapping(run), list(filter(None, [sheets])), held


def _json(text: str) -> dict:
    return json.loads(text) if text else {}


def _mapping(run: ImportRun) -> dict[str, str]:
    return {**mappings.remembered(run.user), **_json(run.mapping)}


def confirm(
    run: ImportRun,
    user,
    *,
    all_or_nothing: bool = False,
    create: bool = True,
    update: bool = True,
    duplicates: bool = True,
) -> ImportRun:
    """Writes what the preview showed, once: of two confirmations one wins. Raises NotAllowed when the run is somebody
    else's, was confirmed before or waited too long, ChangedMeanwhile when it would do something else than was shown. Without
    `duplicates` rows that are probably about somebody known are left out, but for those that were decided one by one."""
    waiting = kept(user).filter(pk=run.pk, state=ImportState.CHECKED)
    run = waiting.first()
    if run is None:
        raise NotAllowed()
    chosen = {"all_or_nothing": all_or_nothing, "create": create, "update": update, "duplicates": duplicates}
    run.options = run.options | chosen
    content = pieces.load_bytes(run, ImportPart.FILE, BYTES_AT_ONCE) if run.rows <= ROWS_AT_ONCE else None
    plan = _checked(run, content) if content is not None and _is_narrow(content) else None
    with transaction.atomic():
        if not waiting.update(state=ImportState.RUNNING, options=run.options):
            raise NotAllowed()
        run.state = ImportState.RUNNING
        if plan is None:
            _order(run, WRITE_JOB)
        else:
            _write(run, plan)
    if run.state == ImportState.CHECKED:
        raise ChangedMeanwhile()
    return run


def cancel(run: ImportRun, *, by) -> None:
    """Raises jobs.NotRunnable."""
    if run.job is None or state_of(run) not in IN_WORK:
        raise jobs.NotRunnable()
    jobs.cancel(run.job, by=by)


def state_of(run: ImportRun) -> str:
    """While it is in work the job knows: one that was cancelled or given up tells its run nothing."""
    if run.state in IN_WORK and (run.job is None or run.job.state not in OF_JOBS):
        if run.job and run.job.state == RunState.DONE:  # it ended after the run was read
            run.refresh_from_db(fields=["state"])
        return ImportState.FAILED if run.state in IN_WORK else run.state
    return run.state


def earlier(run: ImportRun) -> ImportRun | None:
    """The last import that wrote rows of the same file, whoever did; one that was undone only where all were."""
    wrote = Q(created_count__gt=0) | Q(updated_count__gt=0)
    same = ImportRun.objects.filter(wrote, sha256=run.sha256, state=ImportState.DONE).exclude(pk=run.pk)
    found = list(same.order_by("-finished_at")[:MOST_EARLIER])
    again = undone([each.operation_id for each in found])
    return next((each for each in found if each.operation_id not in again), found[0] if found else None)


def may_import(user, model) -> bool:
    verb = settings.IMPORT_EXPORT_IMPORT_PERMISSION_CODE
    return user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}")


def tidy(now: datetime.datetime) -> int:
    """Files that nobody confirmed in time, and refused rows that nobody fetched; the record of the import stays."""
    idle = Q(job=None) | ~Q(job__state__in=OF_JOBS)
    old = ImportRun.objects.filter(idle, created_at__lt=now - KEPT_FOR, state__in=WAITING)
    ImportRun.objects.filter(pk__in=list(old.values_list("pk", flat=True))).update(
        state=ImportState.MISSED, corrections=""
    )
    ended = Q(state__in=[ImportState.MISSED, ImportState.FAILED], created_at__lt=now - KEPT_FOR)
    fetched = Q(state=ImportState.DONE, finished_at__lt=now - REFUSED_KEPT_FOR)
    keys = list(ImportRun.objects.filter(ended | fetched, pieces__isnull=False).distinct().values_list("pk", flat=True))
    return pieces.delete(ImportPiece.objects.filter(run__in=keys)) if keys else 0


# --- The jobs ---


def check_by_job(progress: jobs.Progress) -> dict:
    run = _run_of(progress)
    if run.state != ImportState.CHECKING:
        return {"rows": run.rows}
    with translation.override(run.user.language):
        try:
            found = _found(run, None, progress)
        except UnusableFile as error:
            _refuse(run, str(error))
            return {"rows": 0}
        with transaction.atomic():
            _hold(run, ImportState.CHECKING)
            _keep(run, found)
            _insist_on(progress)
    return {"rows": run.rows, "errors": run.error_count}


def write_by_job(progress: jobs.Progress) -> dict:
    run = _run_of(progress)
    if run.state == ImportState.RUNNING:
        with translation.override(run.user.language):
            plan = _checked(run, None, progress)
            with transaction.atomic():
                _hold(run, ImportState.RUNNING)
                _write(run, plan, progress, message=str(ChangedMeanwhile()))
                _insist_on(progress)
    return {"created": run.created_count, "updated": run.updated_count, "errors": run.error_count}


def _run_of(progress: jobs.Progress) -> ImportRun:
    """Raises NotAllowed where the person left meanwhile."""
    run = ImportRun.objects.select_related("user").get(pk=progress.arguments["run"])
    if run.user is None or not (run.user.is_active and run.user.is_staff):
        raise NotAllowed()
    return run


def _hold(run: ImportRun, state: str) -> None:
    """Against another worker that began the same job: it waits here for our end, and then finds nothing to do."""
    if not ImportRun.objects.select_for_update().filter(pk=run.pk, state=state).exists():
        raise jobs.Interrupted()


def _insist_on(progress: jobs.Progress) -> None:
    """Last in the transaction: the job's row is not locked while the rows are written."""
    if not progress.is_mine():
        raise jobs.Interrupted()


# --- Their parts ---


def _require_dump(user) -> None:
    """A dump's clients are known again by its ids, whoever's they are here."""
    if not (all(may_import(user, model) for model in (Client, Case)) and user.has_perms(DUMP_PERMISSIONS)):
        raise DumpNotAllowed()


def _read_apart(run: ImportRun) -> Sheet:
    return apart.read(partial(pieces.stream_bytes, run, ImportPart.FILE), run.file_name)


def _found(run: ImportRun, content: bytes | None, progress=unwatched, *, taken=None) -> Plan | OlderPlan | Layout:
    """The plan, or the columns to ask about first."""
    try:
        return _checked(run, content, progress, asks=not run.mapping, taken=taken)
    except ColumnsUnknown as unknown:
        return unknown.layout


def _checked(
    run: ImportRun, content: bytes | None, progress=unwatched, *, asks: bool = False, taken=None
) -> Plan | OlderPlan:
    """Without `content` the file is long, and lies in the run's pieces. Raises UnusableFile; NotAllowed where the person may
    not import what is in the file."""
    begins = next(pieces.stream_bytes(run, ImportPart.FILE), b"") if content is None else content
    if older_file.is_dump(begins, run.file_name):
        _require_dump(run.user)
        content = content or b"".join(pieces.stream_bytes(run, ImportPart.FILE))
        return older_crm.check(content, run.file_name, progress=progress)
    plan = check_file(
        partial(_read_apart, run) if content is None else partial(read, content, run.file_name),
        run.sha256, run.file_name, run.user,
        mapping=_mapping(run), asks=asks, corrections=corrections_of(run),
        empty_deletes=run.options.get("empty_deletes", False), progress=progress,
        taken=conflicts.taken(run) if taken is None else taken, decisions=run.decisions,
    )  # fmt: skip
    # Either list's page takes any file, so what is in it decides which permissions it needs.
    needed = {CLIENTS: (Client,), CASES: (Case,)}.get(plan.layout.kind, (Client, Case))
    if not all(may_import(run.user, model) for model in needed):
        raise NotAllowed()
    return plan


def _keep(run: ImportRun, found: Plan | OlderPlan | Layout, *, message: str = "") -> None:
    """What the preview shows, or the page of the columns. In the caller's transaction."""
    if isinstance(found, Layout):
        _keep_columns(run, found)
        run.state, run.message = ImportState.UPLOADED, ""
        run.save()
    else:
        _keep_plan(run, found, message)


def _keep_columns(run: ImportRun, layout: Layout) -> None:
    pieces.store_json(run, ImportPart.COLUMNS, [[layout.kind, layout.asked, layout.sheets, layout.held]])


def _keep_plan(run: ImportRun, plan: Plan | OlderPlan, message: str) -> None:
    if isinstance(plan, Plan) and plan.layout.asked:
        _keep_columns(run, plan.layout)
    index = preview.store(run, plan)
    run.rows, run.error_count = plan.rows, plan.errors
    run.created_count, run.updated_count, run.skipped_count = plan.created, plan.updated, plan.skipped
    run.duplicate_count = len(index.duplicates)
    run.fingerprint, run.state, run.message = preview.fingerprint(plan), ImportState.CHECKED, message
    run.save()


def _write(run: ImportRun, plan: Plan | OlderPlan, progress=unwatched, *, message: str = "") -> None:
    """Writes what was shown; of a plan that differs from it, also by what another import wrote just now, keeps what is to
    be shown again, with the message. In the caller's transaction."""
    take_turn(plan)
    if preview.fingerprint(plan) != run.fingerprint:
        _keep(run, plan, message=message)
        return
    if isinstance(plan, OlderPlan):
        older_crm.write(
            plan, run.user, all_or_nothing=run.options["all_or_nothing"], run=run, progress=progress
        )  # fmt: skip
    else:
        _write_rows(run, plan, progress)
    pieces.drop(run)
    preview.store(run, plan, only=Outcome.ERROR)


def _write_rows(run: ImportRun, plan: Plan, progress) -> None:
    options, decided = run.options, run.decisions.keys()

    def chosen(made: Plan) -> None:
        twice = set() if options["duplicates"] else {each.row for each in made.problems if each.kind == DUPLICATE}
        narrow(made, create=options["create"], update=options["update"], leave_out=frozenset(twice - decided))

    reshape(plan, chosen)
    run.corrections = ""
    write(plan, run.user, all_or_nothing=options["all_or_nothing"], run=run, progress=progress)


def _refuse(run: ImportRun, reason: str) -> None:
    """The reason may name headers of the file, so it is kept encrypted."""
    with transaction.atomic():
        pieces.drop(run)
        ImportRun.objects.filter(pk=run.pk, state=ImportState.CHECKING).update(
            state=ImportState.FAILED,
            finished_at=timezone.now(),
            problems=problems_json([RowProblem(0, "", "", reason)]),
        )


def _order(run: ImportRun, name: str) -> None:
    run.job = jobs.enqueue(name, queue=QueueName.LONG, user=run.user, run=run.pk)
    run.save(update_fields=["job"])


def _refuse_too_many(user) -> None:
    count = JobRun.objects.filter(name__in=[CHECK_JOB, WRITE_JOB], user=user, state__in=OF_JOBS).count()
    if count >= MOST_AT_ONCE:
        raise TooManyAtOnce(count=count)


def _free(run: ImportRun) -> Q:
    """As it was seen, and without a job that works."""
    return Q(state=run.state) & (Q(job=None) | ~Q(job__state__in=OF_JOBS))
