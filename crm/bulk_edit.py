"""The same values into many records: counted first, written as one operation that can be undone.

Rules of the workflow hold: whose a case is changes as by handing it over."""

import dataclasses
import datetime
import itertools

from django.db import models, transaction
from django.db.models import QuerySet
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from crm import notices, workflow
from crm.choices import AuditKind, NoticeKind, StepState
from crm.exceptions import CannotTakeCase, CrmError, ImpossibleValue, NotAllowed
from crm.models import Case, CaseStep, operation

MOST_ROWS = 10_000
CHUNK = 500


class TooManyToEdit(CrmError):
    message = _("More than %(most)s records fit. Narrow the filter, or use an import.")


class ChangedSincePreview(CrmError):
    message = _("Meanwhile other records fit, or they changed. Look at the preview once more.")


@dataclasses.dataclass
class Plan:
    """`changed` is key -> what was there before, of the records that differ; `fields` counts them by field; `settled`
    are steps whose deadline would change and may not."""

    matched: int
    fields: dict[str, int]
    changed: dict[int, dict[str, object]]
    settled: list[int] = dataclasses.field(default_factory=list)

    @property
    def same(self) -> int:
        return self.matched - len(self.changed) - len(self.settled)

    @property
    def seen(self) -> str:
        """Says of every record what it held, and gives nothing of it away."""
        return salted_hmac("bulk edit", f"{self.matched} {sorted(self.changed.items())!r}").hexdigest()


def may_be_emptied(model: type[models.Model], name: str) -> bool:
    return model._meta.get_field(name).blank and (model, name) != (Case, "adviser")


def plan(rows: QuerySet, values: dict[str, object], by) -> Plan:
    """What writing `values` (field name -> cleaned value) into these rows would change. Raises NotAllowed,
    CannotTakeCase, ImpossibleValue, TooManyToEdit. Reads only the columns in question. What is of restricted clients is none of them."""
    model = rows.model
    if not by.has_perm(f"{model._meta.app_label}.change_{model._meta.model_name}"):
        raise NotAllowed()
    if model is Case:
        _check_people(values, by)
    if any(_is_empty(value) and not may_be_emptied(model, name) for name, value in values.items()):
        raise ImpossibleValue()
    columns = {name: model._meta.get_field(name).attname for name in values}
    wanted = {name: value.pk if isinstance(value, models.Model) else value for name, value in values.items()}
    keys = list(rows.unrestricted().visible_to(by).order_by().values_list("pk", flat=True)[: MOST_ROWS + 1])
    if len(keys) > MOST_ROWS:
        raise TooManyToEdit(most=MOST_ROWS)
    made = Plan(len(keys), dict.fromkeys(values, 0), {})
    for chunk in itertools.batched(keys, CHUNK):
        settled = _settled(chunk) if model is CaseStep and "deadline" in values else ()
        stored = model._base_manager.filter(pk__in=chunk).order_by("-pk").values_list("pk", *columns.values())
        for key, *before in stored:
            differing = {name: old for name, old in zip(columns, before, strict=True) if not _same(old, wanted[name])}
            if "deadline" in differing and key in settled:
                made.settled.append(key)
            elif differing:
                made.changed[key] = differing
                for name in differing:
                    made.fields[name] += 1
    return made


def _is_empty(value) -> bool:
    return value in (None, "")  # zero is a value


def _same(old, wanted) -> bool:
    return old == wanted or (_is_empty(old) and _is_empty(wanted))


def _settled(keys) -> set[int]:
    """The deadline of a settled step is history."""
    return set(CaseStep.objects.filter(pk__in=keys).exclude(state=StepState.PENDING).values_list("pk", flat=True))


def _check_people(values: dict, by) -> None:
    if "adviser" in values and not by.has_perm("crm.hand_over_case"):
        raise NotAllowed()
    given = {values[name].pk for name in workflow.GIVEN_TO if values.get(name)}
    if values.get("adviser", given) is None or workflow.takers().filter(pk__in=given).count() < len(given):
        raise CannotTakeCase()


def carry_out(
    rows: QuerySet,
    values: dict[str, object],
    by,
    *,
    seen: str,
    now: datetime.datetime,
    reason: str = "",
    filtered_by: str = "",
) -> Plan:
    """Writes the plan that somebody has `seen`, in one transaction and one operation. Raises ChangedSincePreview where
    the plan of this moment, made with the rows locked, is another."""
    model = rows.model
    detail = {"list": model._meta.model_name, "filter": filtered_by, "fields": sorted(values)}
    with operation(user=by, kind=AuditKind.BULK_EDIT, reason=reason, detail=detail), transaction.atomic():
        keys = list(rows.visible_to(by).order_by("pk").values_list("pk", flat=True)[: MOST_ROWS + 1])
        if model is CaseStep:  # the case first, as crm.workflow does
            for chunk in itertools.batched(keys, CHUNK):
                _lock(Case.objects.filter(pk__in=CaseStep.objects.filter(pk__in=chunk).values("case")))
        for chunk in itertools.batched(keys, CHUNK):
            _lock(model.objects.filter(pk__in=chunk))
        made = plan(rows, values, by)
        if seen != made.seen:
            raise ChangedSincePreview()
        stamps = {field.name: now for field in model._meta.concrete_fields if getattr(field, "auto_now", False)}
        for chunk in itertools.batched(made.changed, CHUNK):
            model.objects.filter(pk__in=chunk).update(**values, **stamps)
        if model is Case and values.get("adviser"):
            standing_in = model.objects.filter(pk__in=list(made.changed), stand_in=values["adviser"])
            standing_in.update(stand_in=None)
            _tell_advisers(made, by)
        if model is CaseStep:
            for chunk in itertools.batched(made.changed, CHUNK):
                workflow.resettle(Case.objects.filter(pk__in=CaseStep.objects.filter(pk__in=chunk).values("case")))
    return made


def _tell_advisers(made: Plan, by) -> None:
    before = {key: old["adviser"] for key, old in made.changed.items() if "adviser" in old}
    rows, had = [], {}
    for keys in itertools.batched(before, CHUNK):
        rows += Case.objects.filter(pk__in=keys).only("adviser_id", "stand_in_id")
    for case in rows:
        had.setdefault(before[case.pk], []).append(case)
    notices.tell_of_many(NoticeKind.HANDED_OVER, rows, by=by, had=had)


def _lock(rows: QuerySet) -> None:
    list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk"))
