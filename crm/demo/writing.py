"""Writes planned households in bulk, with a history as if the office had lived through it: who and when, row by row.

Steps, documents and all history go through crm.models.bulk: of 90 rows a client 85 are such.
"""

import datetime
import functools
import uuid

from django.db import models
from django.utils import timezone

from crm.choices import AuditKind, CaseStatus, Source, StepState
from crm.demo.cases import Plan
from crm.models import AuditEntry, Case, CaseStep, Client, Note
from crm.models.base import BATCH
from crm.models.bulk import insert_rows, reserve_keys, stored
from crm.models.history import CHANGED, CREATED, by_hand


class Table:
    """A model's columns, its history's, and the stored values of the objects that are being written."""

    def __init__(self, model: type[models.Model]):
        history = model.history.model  # once: this builds a manager class each time
        self.model, self.history = model, history
        self.names = [field.attname for field in model._meta.concrete_fields]
        self.tracked = [field.attname for field in history.tracked_fields]
        self.extra = ["history_date", "history_type", "history_user_id", "history_user_name", "operation_id", "source"]
        self.relations = [field for field in model._meta.concrete_fields if field.is_relation]
        self.stamps = [field for field in model._meta.concrete_fields if getattr(field, "auto_now_add", False)
                       or getattr(field, "auto_now", False)]  # fmt: skip
        self.convert = stored(model, self.names)
        self.convert_extra = stored(history, self.extra)

    def values(self, item) -> dict[str, object]:
        return {name: self.convert(name, getattr(item, name)) for name in self.names}

    def insert(self, items: list) -> list[dict[str, object]]:
        for item, key in zip(items, reserve_keys(self.model, len(items)), strict=True):
            item.pk = key
            for field in self.relations:
                if field.is_cached(item):
                    related = field.get_cached_value(item)
                    setattr(item, field.attname, related.pk if related else None)
            for field in self.stamps:
                field.pre_save(item, add=True)
        found = [self.values(item) for item in items]
        insert_rows(self.model, self.names, (tuple(values.values()) for values in found))
        return found

    def remember(self, rows: list[tuple[dict, dict, dict]]) -> None:
        """`rows`: stored values, what was different then, and the history's own columns."""
        insert_rows(self.history, [*self.tracked, *self.extra], (self._history_row(*row) for row in rows))

    def _history_row(self, values: dict, before: dict, extra: dict) -> tuple:
        past = {name: self.convert(name, value) for name, value in before.items()}
        return (
            *(past[name] if name in past else values[name] for name in self.tracked),
            *(self.convert_extra(name, extra[name]) for name in self.extra),
        )


@functools.cache
def table(model: type[models.Model]) -> Table:
    return Table(model)


class Writer:
    def __init__(self, now: datetime.datetime):
        self.now = now
        self.zone = timezone.get_current_timezone()
        self.operations: dict[uuid.UUID, tuple] = {}

    def write(self, clients: list[Client], plans: list[Plan], others: list) -> None:
        """`others` are rows about clients: they were written down on the day the client came."""
        plans = sorted(plans, key=lambda plan: plan.case.opened_on, reverse=True)  # the first case of two counts
        came_with = {id(plan.case.client): plan for plan in plans}
        for plan in plans:  # a spouse came with the case where he is a party
            for row in plan.others:
                came_with.setdefault(id(getattr(row, "client", None)), plan)
        with by_hand():
            Client.objects.bulk_create(clients, batch_size=BATCH)
            Case.objects.bulk_create([plan.case for plan in plans], batch_size=BATCH)
        people, cases = table(Client), table(Case)
        people.remember([(people.values(each), {}, self._made(came_with[id(each)])) for each in clients])
        cases.remember([row for plan in plans for row in self._life_of_case(plan, cases.values(plan.case))])
        self._write_steps(plans)
        self._write_rest([(row, came_with[id(row.client)]) for row in others])
        self._write_rest([(row, plan) for plan in plans for row in plan.others])
        self._write_audit_trail()

    def _write_audit_trail(self) -> None:
        names = ["operation_id", "kind", "at", "user_id", "user_name", "source", "counts"]
        convert = stored(AuditEntry, names)
        rows = (
            (operation, AuditKind.CHANGE, at, user, name, source, {})
            for operation, (at, user, name, source) in self.operations.items()
        )
        empty = ["reason", "model", "object_id", "detail"]
        insert_rows(
            AuditEntry,
            [*names, *empty],
            ((*map(convert, names, row), *("" for _ in empty)) for row in rows),
        )
        self.operations = {}

    def _write_steps(self, plans: list[Plan]) -> None:
        owners = [(step, plan) for plan in plans for step in plan.steps]
        written = table(CaseStep).insert([step for step, plan in owners])
        rows = []
        for (step, plan), values in zip(owners, written, strict=True):
            rows += self._life_of_step(step, plan, values)
        table(CaseStep).remember(rows)

    def _write_rest(self, pairs: list[tuple]) -> None:
        by_model: dict[type, list[tuple]] = {}
        for row, plan in pairs:
            if isinstance(row, Note):
                row.created_at = self.at(row.created_at, 14)
            by_model.setdefault(type(row), []).append((row, plan))
        for model, mine in by_model.items():
            written = table(model).insert([row for row, plan in mine])
            table(model).remember(
                [(values, {}, self._made(plan)) for values, (row, plan) in zip(written, mine, strict=True)]
            )

    def _life_of_case(self, plan: Plan, values: dict) -> list[tuple]:
        """Opened, and what it is today; the way between stands in its steps."""
        case, first = plan.case, plan.steps[0]
        beginning = {
            "status": CaseStatus.OPEN.value,
            "current_step_id": first.step_id,
            "next_deadline": first.deadline,
            "decided_on": None,
            "rejection_reason": "",
            "approved_amount_czk": None,
            "contract_number": "",
        }
        rows = [(values, beginning, self._made(plan))]
        if case.current_step_id != first.step_id or case.status != CaseStatus.OPEN:
            rows.append((values, {}, self._happened(CHANGED, plan.closed_on, 16, case.adviser, uuid.uuid4())))
        return rows

    def _life_of_step(self, step: CaseStep, plan: Plan, values: dict) -> list[tuple]:
        pending = {"state": StepState.PENDING.value, "completed_on": None, "completed_by_id": None, "note": ""}
        rows = [(values, pending, self._made(plan))]
        if step.is_settled:
            day = step.completed_on or min(self.now.date(), step.deadline)
            by = step.completed_by or plan.case.adviser
            rows.append((values, {}, self._happened(CHANGED, day, 15, by, uuid.uuid4())))
        return rows

    def _made(self, plan: Plan) -> dict:
        return self._happened(CREATED, plan.case.opened_on, 9, plan.by, plan.operation)

    def _happened(self, kind: str, day: datetime.date, hour: int, by, operation: uuid.UUID) -> dict:
        at = self.at(day, hour)
        self.operations.setdefault(operation, (at, by.pk, by.get_display_name(), Source.ADMIN))
        return {
            "history_date": at,
            "history_type": kind,
            "history_user_id": by.pk,
            "history_user_name": by.get_display_name(),
            "operation_id": operation,
            "source": Source.ADMIN.value,
        }

    def at(self, day: datetime.date, hour: int) -> datetime.datetime:
        return min(self.now, datetime.datetime.combine(day, datetime.time(hour, 5), self.zone))
