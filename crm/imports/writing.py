"""Writes a plan in one transaction: a kill at any moment leaves none or all of its good rows. Bulk all the way, with
history and search tokens; the number of queries follows the batches, not the rows."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from functools import partial

from django.db import connection, models, transaction
from django.db.models import Count, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from crm import notices, search, workflow
from crm.choices import AuditKind, NoticeKind, RunState, Source
from crm.imports.drafts import Draft, beginnings
from crm.imports.plans import Item, Outcome, Plan, problems_json
from crm.imports.problems import RowProblem
from crm.jobs import unwatched
from crm.models import Case, CaseStep, Client, ImportRun, SearchToken, Step, operation
from crm.models.base import give_references
from crm.models.bulk import (
    ahead,
    insert_columns,
    insert_stored,
    refresh_statistics,
    reserve_keys,
    stored_columns,
    update_rows,
)
from crm.models.cases import REFERENCE_PREFIX as CASE_PREFIX
from crm.models.clients import REFERENCE_PREFIX as CLIENT_PREFIX
from crm.models.clients import tokens_of
from crm.models.history import CHANGED, CREATED, enter, record
from crm.models.operations import current_operation, history_operation_id
from crm.models.steps import LENDER_SELECTION

BATCH = 500
CREATED_AT_ONCE = 2000
# New records after which the tables are no more what the database believes of them.
MANY = 1000
_TABLES = [Client, Case, CaseStep, SearchToken, *(each.history.model for each in (Client, Case, CaseStep))]
# Any number that no other part of the office locks.
ADVISORY_LOCK = 20_260_302


def write(
    plan: Plan,
    user=None,
    *,
    all_or_nothing: bool = False,
    run: ImportRun | None = None,
    progress: Callable[[int, int], None] = unwatched,
) -> ImportRun:
    """Writes the good rows and the record of the run under one operation. With `all_or_nothing`, one bad row means
    that none is written; the record then says so. A stored row that somebody changed since the plan was made is not
    overwritten: it becomes an error of the plan. On SQLite the write lock is held for all of it. `progress` is told after
    each batch how many rows of how many are written, and ends all of it by what it raises."""
    with import_operation(plan, user), transaction.atomic():
        take_turn(plan)
        _refuse_changed(plan)
        items = [] if all_or_nothing and plan.errors else plan.items
        if not items:
            _write_nothing(plan)
        handed_over = [item.case for item in items if "adviser" in item.changed]
        had = _advisers(handed_over)
        new = (item for item in items if item.is_new)
        clients, cases = _create(new, now=timezone.now(), written=lambda done: progress(done, len(items)))
        _update([item for item in items if item.changed])
        if len(clients) + len(cases) >= MANY:
            transaction.on_commit(partial(refresh_statistics, *_TABLES), robust=True)
        notices.tell_of_many(NoticeKind.NEW_CLIENT, clients, by=user)
        notices.tell_of_many(NoticeKind.NEW_CASE, cases, by=user)
        notices.tell_of_many(NoticeKind.HANDED_OVER, handed_over, by=user, had=had)
        _keep_lenders({item.case.pk: item.lender_text for item in items if item.lender_text and not item.is_new})
        return store_run(plan, user, run=run)


def import_operation(plan, user):
    return operation(Source.IMPORT, user=user, kind=AuditKind.IMPORT, detail={"file": plan.file_name})


def written_runs() -> tuple:
    """Changes with every import that writes."""
    return tuple(ImportRun.objects.filter(state=RunState.DONE).aggregate(Count("pk"), Max("finished_at")).values())


def take_turn(plan) -> None:
    """First in the transaction of a write: imports write one after another, and where one did since this plan was made,
    the plan is made once more, so that no row goes in twice. On SQLite the transaction holds the write lock already."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
    if plan.seen != written_runs():
        fresh = plan.again()
        for part in dataclasses.fields(plan):
            setattr(plan, part.name, getattr(fresh, part.name))


def store_run(plan, user, *, run: ImportRun | None = None) -> ImportRun:
    run = run or ImportRun(user=user)
    run.operation_id = history_operation_id()
    run.user_name = user.get_display_name() if user else ""
    run.file_name, run.sha256 = plan.file_name[-255:], plan.sha256
    run.rows, run.error_count = plan.rows, plan.errors
    run.created_count, run.updated_count = plan.count(Outcome.CREATE), plan.count(Outcome.UPDATE)
    run.skipped_count = plan.count(Outcome.SKIP)
    run.state, run.finished_at = RunState.DONE, timezone.now()
    run.message, run.problems = plan.summary_line(), problems_json(plan.problems)
    run.save()
    enter(current_operation(), run.finished_at)  # where no row was written it has no line in the audit trail yet
    return run


def _write_nothing(plan: Plan) -> None:
    """What would have been written counts as skipped, so that the record never claims a row that is not there."""
    for row, outcome in plan.outcomes.items():
        if outcome in (Outcome.CREATE, Outcome.UPDATE):
            plan.outcomes[row] = Outcome.SKIP


def _refuse_changed(plan: Plan) -> None:
    for model, name in ((Client, "client"), (Case, "case")):
        loaded = {getattr(item, name).pk: item for item in plan.items if not item.is_new and _written(item) is model}
        for keys in batches(list(loaded)):
            rows = model.objects.select_for_update().filter(pk__in=keys).values_list("pk", "updated_at")
            stored = dict(rows)
            for key in keys:
                if stored.get(key) != getattr(loaded[key], name).updated_at:
                    reason = _("Somebody changed this record while the file was being checked. Import it again.")
                    plan.problems.append(RowProblem(loaded[key].row, "", "", reason))
                    plan.refuse(loaded[key].row)


def _written(item: Item) -> type:
    return Client if item.case is None else Case


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What is remembered of a new record until everybody was told of it. The first stands for all of the same people: who
    is told of several is told how many."""

    pk: int
    adviser_id: int | None = None
    stand_in_id: int | None = None


class _Batch:
    """New records, as far as they can be made without the database: another thread makes the next ones meanwhile."""

    def __init__(self, items: Iterable):
        self.items = [(item.client, item.case, item.lender_text) for item in items]
        self.clients = _Ready(Client, [owner for owner, _case, _text in self.items if owner.pk is None])
        self.cases = _Ready(Case, [case for _owner, case, _text in self.items if case is not None])
        self.tokens = tokens_of(self.clients.drafts)


class _Ready:
    """Drafts with their columns as the database stores them; what only the database knows still says what it begins with."""

    def __init__(self, model: type[models.Model], drafts: list[Draft]):
        self.model, self.drafts = model, drafts
        given = [draft.given for draft in drafts]
        columns = {name: [each.get(name, first) for each in given] for name, first in beginnings(model).items()}
        self.columns = stored_columns(model, columns)

    def insert(self, prefix: str, now, **known: list) -> None:
        """`known` by now, beside keys and numbers, is more of the columns."""
        if not self.drafts:
            return
        numbered = [_Numbered() for _draft in self.drafts]
        give_references(prefix, numbered)
        for draft, key in zip(self.drafts, reserve_keys(self.model, len(self.drafts)), strict=True):
            draft.pk = key
        known |= {"id": [draft.pk for draft in self.drafts], "reference": [each.reference for each in numbered]}
        known |= dict.fromkeys(("created_at", "updated_at"), [now] * len(self.drafts))
        insert_stored(self.model, self.columns | stored_columns(self.model, known))
        _record(self.model, self.drafts)


def _create(items: Iterable, *, now, written: Callable[[int], None]) -> tuple[list[Written], list[Written]]:
    """The new clients and cases; their history, tokens and steps with them."""
    starts, done = _Beginnings(), 0
    first: dict[tuple, Written] = {}
    clients: list[Written] = []
    cases: list[Written] = []
    for batch in ahead(map(_Batch, itertools.batched(items, CREATED_AT_ONCE))):
        new = batch.clients.drafts
        batch.clients.insert(CLIENT_PREFIX, now)
        SearchToken.objects.insert([draft.pk for draft in new], batch.tokens)
        clients += [first.setdefault((Client,), Written(draft.pk)) for draft in new]
        of_cases = [(owner, case, text) for owner, case, text in batch.items if case is not None]
        known = {"client_id": [owner.pk for owner, _case, _text in of_cases]}
        settled = [starts.of(case).stored for _owner, case, _text in of_cases]
        known |= {name: [each[name] for each in settled] for name in workflow.STORED}
        batch.cases.insert(CASE_PREFIX, now, **known)
        cases += [_first_of_his(first, case) for _owner, case, _text in of_cases]
        starts.insert_steps([(case, text) for _owner, case, text in of_cases])
        done += len(batch.items)
        written(done)
    return clients, cases


def _first_of_his(first: dict[tuple, Written], case: Draft) -> Written:
    whose = (case.adviser_id, case.stand_in_id)
    return first.setdefault(whose, Written(case.pk, *whose))


@dataclasses.dataclass(slots=True)
class _Numbered:
    reference: str = ""


def _record(model, drafts: list[Draft]) -> None:
    """At once, but for those that have a reason of their own."""
    reasons: dict[str, list[int]] = {}
    for draft in drafts:
        reasons.setdefault(draft.given.get("history_reason", ""), []).append(draft.pk)
    if len(reasons) > 1 or "" not in reasons:
        enter(current_operation(), timezone.now())  # the import's line in the audit trail takes none of them
    for reason, keys in reasons.items():
        with operation(reason=reason):
            record(model, keys, CREATED)


@dataclasses.dataclass(frozen=True, slots=True)
class _Beginning:
    """What the workflow makes of a new case: its stored values, and columns of its steps. A lender's text is noted at one."""

    stored: dict[str, object]
    steps: dict[str, list]
    noted: int

    @property
    def count(self) -> int:
        return len(self.steps["step_id"])


class _Beginnings:
    """Found out once for each day of opening and status."""

    def __init__(self):
        self.catalogue = list(Step.objects.filter(is_active=True))
        self.found: dict[tuple, _Beginning] = {}

    def of(self, case: Draft) -> _Beginning:
        key = (case.opened_on, case.status)
        if key not in self.found:
            model = Case(opened_on=case.opened_on, status=case.status)
            steps = workflow.plan_steps(model, self.catalogue)
            workflow.settle(model, steps)
            stored = {name: getattr(model, name) for name in workflow.STORED}
            columns = {name: [getattr(step, name) for step in steps] for name in ("step_id", "deadline", "state")}
            codes = [step.step.code for step in steps]
            noted = codes.index(LENDER_SELECTION) if LENDER_SELECTION in codes else 0
            self.found[key] = _Beginning(stored, columns, noted)
        return self.found[key]

    def insert_steps(self, cases: list[tuple[Draft, str]]) -> None:
        columns: dict[str, list] = {"case_id": [], "note": [], "step_id": [], "deadline": [], "state": []}
        for case, lender_text in cases:
            begun = self.of(case)
            columns["case_id"] += [case.pk] * begun.count
            for name, values in begun.steps.items():
                columns[name] += values
            notes = [""] * begun.count
            if lender_text and notes:
                notes[begun.noted] = lender_text
            columns["note"] += notes
        if count := len(columns["case_id"]):
            keys = reserve_keys(CaseStep, count)
            insert_columns(CaseStep, {"id": keys} | columns)
            record(CaseStep, keys, CREATED)


def _advisers(cases: list[Case]) -> dict[int, list[Case]]:
    """Whose they were, before they are written."""
    found: dict[int, list[Case]] = {}
    for some in batches(cases):
        by_key = {case.pk: case for case in some}
        for key, adviser in Case.objects.filter(pk__in=by_key).values_list("pk", "adviser"):
            found.setdefault(adviser, []).append(by_key[key])
    return found


def _update(items: list[Item]) -> None:
    """The rows are locked by now, and known to differ."""
    now = timezone.now()
    for model in (Client, Case):
        names = {field.name: field.attname for field in model._meta.concrete_fields}
        for batch in batches([item for item in items if _written(item) is model]):
            rows, indexed = {}, {}
            for item in batch:
                target = item.client if model is Client else item.case
                rows[target.pk] = {names[name]: getattr(target, names[name]) for name in item.changed}
                rows[target.pk]["updated_at"] = now
                if model is Client and (fields := frozenset(item.changed) & set(search.INDEXED_FIELDS)):
                    indexed.setdefault(fields, []).append(target)
            update_rows(model, rows)
            record(model, rows, CHANGED)
            for fields, clients in indexed.items():
                SearchToken.objects.replace(clients, fields)


def _keep_lenders(texts: dict[int, str]) -> None:
    """Adds the unknown lender's text to what the step's note says already."""
    for keys in batches(list(texts)):
        steps = list(CaseStep.objects.filter(case__in=keys, step__code=LENDER_SELECTION))
        for step in steps:
            step.note = "\n".join(filter(None, [step.note, texts[step.case_id]]))
        CaseStep.objects.bulk_update(steps, ["note"])


def batches(items: list):
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
