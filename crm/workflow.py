"""Every transition of a case and its steps, and how clients and cases begin. The admin, imports, jobs and the API all go
through here.

Each verb is one transaction that locks the case first, so that of two people who tick one step one wins and the other is
told. `by` is a user, or None for the system; `on` is the day it happened. Errors are CrmErrors with a sentence for the
person. `settle` alone decides what is stored of a case's steps (current step, next deadline) and its status.
"""

import functools
from collections.abc import Iterable, Iterator

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Prefetch, Q, QuerySet, Subquery

from crm import deadlines, notices, roles
from crm.choices import ACTIVE_STATUSES, CaseStatus, NoticeKind, StepState
from crm.exceptions import (
    CannotTakeCase,
    CaseNotActive,
    ClientRestricted,
    EarlierStepsPending,
    ImpossibleValue,
    NotAllowed,
    ReasonMissing,
    StepAlreadyDone,
    StepNotDone,
    WrongStatus,
)
from crm.models import Case, CaseStep, Client, Step, User, operation
from crm.models.base import lock_references
from crm.models.cases import REFERENCE_PREFIX
from crm.models.steps import UNDERWRITING

CHUNK = 500
# Who works on a case.
GIVEN_TO = ("adviser", "stand_in")
STORED = ("status", "current_step_id", "next_deadline")
# How a case ends without its steps, and the right that it takes.
ENDED_BY = {CaseStatus.DECLINED: "reject_case", CaseStatus.WITHDRAWN: "withdraw_case"}


# --- Pure: on objects in memory, for bulk writers too ---


def plan_steps(case: Case, catalogue: Iterable[Step]) -> list[CaseStep]:
    """The unsaved steps of a new case; `catalogue` is the active Steps."""
    return [
        CaseStep(case=case, step=step, deadline=deadlines.default_deadline(case.opened_on, step)) for step in catalogue
    ]


def settle(case: Case, steps: Iterable[CaseStep]) -> bool:
    """Sets what is stored of the steps on the case; True if that changed anything. Saves nothing.

    The current step is the first pending one in the catalogue's order, whatever the status. The next deadline is the
    earliest one of pending steps, of active cases only. A case whose every step is settled is completed.
    """
    before = tuple(getattr(case, name) for name in STORED)
    steps = sorted(steps, key=lambda each: (each.step.number, each.step_id))
    pending = [each for each in steps if not each.is_settled]
    case.current_step = pending[0].step if pending else None
    if case.status not in (CaseStatus.DECLINED, CaseStatus.WITHDRAWN):
        if steps and not pending:
            case.status = CaseStatus.COMPLETED
        elif case.status == CaseStatus.COMPLETED:
            case.status = CaseStatus.APPROVED if _is_approved(case, steps) else CaseStatus.OPEN
    due = [each.deadline for each in pending if each.deadline]
    case.next_deadline = min(due) if due and case.status in ACTIVE_STATUSES else None
    return before != tuple(getattr(case, name) for name in STORED)


def _is_approved(case: Case, steps: list[CaseStep]) -> bool:
    underwriting = next((each for each in steps if each.step.code == UNDERWRITING), None)
    return bool(case.decided_on and (underwriting is None or underwriting.is_settled))


def blocking_step(step: CaseStep, steps: Iterable[CaseStep]) -> CaseStep | None:
    """The first earlier step of the case that is pending yet."""
    position = (step.step.number, step.step_id)
    earlier = [each for each in steps if not each.is_settled and (each.step.number, each.step_id) < position]
    return min(earlier, key=lambda each: (each.step.number, each.step_id), default=None)


def may_take() -> Q:
    """The condition on users that a case may be given to them, to keep or to stand in for its adviser."""
    return roles.holders("change_case") & Q(is_active=True, is_staff=True)


def takers() -> QuerySet[User]:
    return User.objects.filter(may_take())


def handed_over(case: Case, to: User) -> dict[str, User | None]:
    """What of the case is another when it is his: nobody stands in for himself."""
    return {"adviser": to, "stand_in": None} if case.stand_in_id == to.pk else {"adviser": to}


def require_ending(status: str, *, by, reason: str) -> str:
    """The reason for which a case is declined or withdrawn. Raises NotAllowed, ReasonMissing."""
    _require(by, ENDED_BY[status])
    return _require_reason(reason)


# --- Inside a transaction ---


def verb(function):
    """One transaction and one operation, in the name of whoever does it."""

    @functools.wraps(function)
    def wrapped(*args, by, **kwargs):
        with operation(user=by), transaction.atomic():
            return function(*args, by=by, **kwargs)

    return wrapped


def _require(by, permission: str) -> None:
    if by is not None and not by.has_perm(f"crm.{permission}"):
        raise NotAllowed()


def _lock(case_id: int, by, *, to_end: bool = False) -> tuple[Case, list[CaseStep]]:
    """Raises NotAllowed, and ClientRestricted but where the case is to end: an active one would keep its client from being
    erased."""
    cases = Case.objects if by is None else Case.objects.visible_to(by)
    restricted = Client.objects.restricted().filter(pk=OuterRef("client"))
    case = cases.annotate(is_restricted=Exists(restricted)).select_for_update(no_key=True).filter(pk=case_id).first()
    if case is None:
        raise NotAllowed()
    if not to_end:
        _require_unrestricted(case)
    return case, list(CaseStep.objects.filter(case=case).select_related("step"))


def _store(case: Case, steps: list[CaseStep], *changed: str) -> Case:
    """Writes the case once, if anything of it changed."""
    if settle(case, steps) or changed:
        case.save(update_fields=["status", "current_step", "next_deadline", "updated_at", *changed])
    return case


def _same(step: CaseStep, steps: list[CaseStep]) -> CaseStep:
    found = next((each for each in steps if each.pk == step.pk), None)
    if found is None:
        raise NotAllowed()
    return found


def _require_active(case: Case) -> None:
    if not case.is_active:
        raise CaseNotActive(case=case.reference)


def _require_unrestricted(case: Case) -> None:
    """Nothing is written of who is kept for the law alone, or erased."""
    if case.is_restricted:
        raise ClientRestricted()


def _require_status(case: Case, *allowed: str) -> None:
    if case.status not in allowed:
        raise WrongStatus(case=case.reference, status=case.get_status_display())


def _require_reason(reason: str) -> str:
    if not reason.strip():
        raise ReasonMissing()
    return reason.strip()


def _finish(step: CaseStep, steps: list[CaseStep], case: Case, *, by, on, override_reason: str) -> None:
    if step.is_settled:
        raise StepAlreadyDone(step=step.step.number, case=case.reference)
    if blocking := blocking_step(step, steps):
        if not override_reason.strip():
            raise EarlierStepsPending(step=step.step.number, case=case.reference, blocking=blocking.step.number)
        _require(by, "override_step_order")
    step.state, step.completed_on, step.completed_by = StepState.DONE, on, by
    with operation(reason=override_reason.strip()):
        step.save(update_fields=["state", "completed_on", "completed_by"])


# --- Verbs ---


@verb
def start_client(client: Client, *, by) -> Client:
    """Saves an unsaved client. Raises NotAllowed."""
    _require(by, "add_client")
    client.save()
    notices.tell(NoticeKind.NEW_CLIENT, client=client, by=by)
    return client


@verb
def start_case(case: Case, *, by) -> Case:
    """Saves an unsaved case with the catalogue's steps. Raises NotAllowed, ClientRestricted."""
    _require(by, "add_case")
    _require_unrestricted(case)
    lock_references(REFERENCE_PREFIX)
    steps = plan_steps(case, Step.objects.filter(is_active=True))
    settle(case, steps)
    case.save()
    CaseStep.objects.bulk_create(steps)
    notices.tell(NoticeKind.NEW_CASE, case=case, by=by)
    return case


@verb
def complete_step(step: CaseStep, *, by, on, override_reason: str = "") -> CaseStep:
    """Raises StepAlreadyDone, EarlierStepsPending (unless a reason is given by who may override), CaseNotActive."""
    _require(by, "change_casestep")
    case, steps = _lock(step.case_id, by)
    found = _same(step, steps)
    if found.is_settled:
        raise StepAlreadyDone(step=found.step.number, case=case.reference)
    _require_active(case)
    _finish(found, steps, case, by=by, on=on, override_reason=override_reason)
    _store(case, steps)
    notices.tell(NoticeKind.STEP_COMPLETED, case=case, step=found.step, by=by)
    return found


@verb
def mark_not_applicable(step: CaseStep, *, by, reason: str = "") -> CaseStep:
    _require(by, "change_casestep")
    case, steps = _lock(step.case_id, by)
    found = _same(step, steps)
    if found.is_settled:
        raise StepAlreadyDone(step=found.step.number, case=case.reference)
    _require_active(case)
    found.state = StepState.NOT_APPLICABLE
    with operation(reason=reason.strip()):
        found.save(update_fields=["state"])
    _store(case, steps)
    return found


@verb
def reopen_step(step: CaseStep, *, by, reason: str = "") -> CaseStep:
    """Makes a settled step pending again. Reopening underwriting takes an approval back; the amounts typed stay."""
    _require(by, "change_casestep")
    case, steps = _lock(step.case_id, by)
    _require_status(case, *ACTIVE_STATUSES, CaseStatus.COMPLETED)
    found = _same(step, steps)
    if not found.is_settled:
        raise StepNotDone(step=found.step.number, case=case.reference)
    found.state, found.completed_on, found.completed_by = StepState.PENDING, None, None
    changed = []
    if found.step.code == UNDERWRITING and case.decided_on:
        case.status, case.decided_on = CaseStatus.OPEN, None
        changed = ["decided_on"]
    with operation(reason=reason.strip()):
        found.save(update_fields=["state", "completed_on", "completed_by"])
        _store(case, steps, *changed)
    notices.tell(NoticeKind.STEP_REOPENED, case=case, step=found.step, by=by)
    return found


@verb
def set_deadline(step: CaseStep, deadline, *, by, note: str | None = None) -> CaseStep:
    """With the note that was typed beside it, if any: both are one change of the step."""
    _require(by, "change_casestep")
    case, steps = _lock(step.case_id, by)
    found = _same(step, steps)
    found.deadline = deadline
    if note is not None:
        found.note = note
    found.save(update_fields=["deadline", "note"])
    _store(case, steps)
    return found


@verb
def approve(case: Case, *, by, on, lender, amount_czk, override_reason: str = "", **approved) -> Case:
    """Records lender, amount and day, and completes underwriting under the same order rule as any step.

    `approved`: approved_terms, approved_own_funds_czk, approved_ltv_percent, interest_rate_percent, term_months,
    fixation_years, fixation_until, monthly_payment_czk. Raises WrongStatus, ImpossibleValue, EarlierStepsPending.
    """
    _require(by, "approve_case")
    case, steps = _lock(case.pk, by)
    _require_status(case, CaseStatus.OPEN)
    if lender is None or amount_czk is None or amount_czk <= 0:
        raise ImpossibleValue()
    underwriting = next((each for each in steps if each.step.code == UNDERWRITING), None)
    if underwriting and not underwriting.is_settled:
        _finish(underwriting, steps, case, by=by, on=on, override_reason=override_reason)
    case.status, case.lender, case.approved_amount_czk, case.decided_on = CaseStatus.APPROVED, lender, amount_czk, on
    for name, value in approved.items():
        setattr(case, name, value)
    _store(case, steps, "lender", "approved_amount_czk", "decided_on", *approved)
    notices.tell(NoticeKind.APPROVED, case=case, by=by)
    return case


@verb
def reject(case: Case, *, by, on, reason: str) -> Case:
    """Sets declined. The reason is kept encrypted on the case. Raises ReasonMissing, WrongStatus."""
    reason = require_ending(CaseStatus.DECLINED, by=by, reason=reason)
    case, steps = _lock(case.pk, by, to_end=True)
    _require_status(case, *ACTIVE_STATUSES)
    case.status, case.rejection_reason, case.decided_on = CaseStatus.DECLINED, reason, on
    with operation(reason=reason):
        _store(case, steps, "rejection_reason", "decided_on")
    notices.tell(NoticeKind.DECLINED, case=case, by=by)
    return case


@verb
def withdraw(case: Case, *, by, on, reason: str) -> Case:
    reason = require_ending(CaseStatus.WITHDRAWN, by=by, reason=reason)
    case, steps = _lock(case.pk, by, to_end=True)
    _require_status(case, *ACTIVE_STATUSES)
    case.status, case.decided_on = CaseStatus.WITHDRAWN, on
    with operation(reason=reason):
        _store(case, steps, "decided_on")
    notices.tell(NoticeKind.WITHDRAWN, case=case, by=by)
    return case


@verb
def reopen_case(case: Case, *, by, reason: str) -> Case:
    """Declined or withdrawn becomes open again. The rejection's reason stays in the history."""
    _require(by, "reject_case")
    case, steps = _lock(case.pk, by)
    _require_status(case, CaseStatus.DECLINED, CaseStatus.WITHDRAWN)
    case.status, case.decided_on, case.rejection_reason = CaseStatus.OPEN, None, ""
    with operation(reason=_require_reason(reason)):
        _store(case, steps, "decided_on", "rejection_reason")
    notices.tell(NoticeKind.REOPENED, case=case, by=by)
    return case


@verb
def hand_over(case: Case, *, by, to, reason: str = "") -> Case:
    _require(by, "hand_over_case")
    case, steps = _lock(case.pk, by)
    if to is None or to.pk == case.adviser_id:
        raise ImpossibleValue()
    if not takers().filter(pk=to.pk).exists():
        raise CannotTakeCase()
    before, changes = case.adviser_id, handed_over(case, to)
    for name, value in changes.items():
        setattr(case, name, value)
    with operation(reason=reason.strip()):
        _store(case, steps, *changes)
    notices.tell(NoticeKind.HANDED_OVER, case=case, by=by, had_by=before)
    return case


# --- The catalogue's changes reach the cases ---


@verb
def renumber_step(step: Step, number: int, *, by) -> None:
    """Puts a step at another place of the order; the others move up or down. Cases' current steps follow."""
    _require(by, "change_step")
    let_no_case_begin()
    others = list(Step.objects.select_for_update(no_key=True).exclude(pk=step.pk).order_by("number", "pk"))
    position = max(0, min(number - 1, len(others)))
    ordered = [*others[:position], step, *others[position:]]
    stored = dict(Step.objects.values_list("pk", "number"))
    for index, each in enumerate(ordered, start=1):
        if stored.get(each.pk) != index or each.number != index:
            each.number = index
            each.save(update_fields=["number"])
    follow_the_order()


@verb
def add_to_open_cases(step: Step, *, by) -> int:
    """Gives a kind of step to every active case that lacks it; returns to how many."""
    _require(by, "change_step")
    let_no_case_begin()
    lacking = Case.objects.active().exclude(steps__step=step)
    cases = list(lacking.select_for_update(no_key=True).order_by("pk").only("pk", "opened_on"))
    CaseStep.objects.bulk_create([each for case in cases for each in plan_steps(case, [step])])
    resettle(Case.objects.filter(pk__in=[case.pk for case in cases]))
    return len(cases)


def let_no_case_begin() -> None:
    """Until the transaction ends: a new case locks its counter before it reads the catalogue."""
    lock_references(REFERENCE_PREFIX)


def follow_the_order() -> int:
    """After the order of the steps has changed."""
    return resettle(_with_another_current_step())


def _with_another_current_step():
    """Cases whose stored step is not the first pending one in the catalogue's present order; found by the database."""
    pending = CaseStep.objects.pending().filter(case=OuterRef("pk")).order_by("step__number", "step")
    return (
        Case.objects.alias(first=Subquery(pending.values("step")[:1]))
        .filter(first__isnull=False)
        .exclude(current_step=F("first"))
    )


def _with_steps(cases) -> Iterator[Case]:
    steps = CaseStep.objects.select_related("step").defer("note")
    yield from cases.order_by("pk").prefetch_related(Prefetch("steps", steps)).iterator(chunk_size=CHUNK)


@transaction.atomic
def resettle(cases) -> int:
    """Settles those of the cases whose stored state is behind; returns how many were. Locks a chunk before reading it."""
    keys = list(cases.order_by("pk").values_list("pk", flat=True))
    mended = 0
    for start in range(0, len(keys), CHUNK):
        chunk = Case.objects.filter(pk__in=keys[start : start + CHUNK])
        list(chunk.select_for_update(no_key=True).order_by("pk").values_list("pk"))
        wrong = [case for case in _with_steps(chunk) if settle(case, case.steps.all())]
        Case.objects.bulk_update(wrong, ["status", "current_step", "next_deadline"])
        mended += len(wrong)
    return mended


def mismatches() -> Iterator[tuple[str, str, object, object]]:
    """(case, field, stored, true) wherever what is stored of a case is not what its steps say."""
    for case in _with_steps(Case.objects.defer_encrypted()):
        stored = {name: getattr(case, name) for name in STORED}
        if settle(case, case.steps.all()):
            for name, value in stored.items():
                if getattr(case, name) != value:
                    yield case.reference, name.removesuffix("_id"), value, getattr(case, name)
