"""What every model of the office shares: the operation a write belongs to, its history, and a strict queryset."""

import contextlib
import contextvars
import dataclasses
import uuid

from django.db import models, transaction
from django.db.models.expressions import Case as CaseExpression
from django.db.models.expressions import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from crm.choices import Source
from crm.encryption import EncryptedTextField, encrypted_names, is_encrypted
from crm.exceptions import EncryptedFieldError

BATCH = 500


@dataclasses.dataclass
class Operation:
    """One request, command or job. All history rows written inside it carry its id."""

    source: str = Source.SHELL
    user: object | None = None
    reason: str = ""
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)


_current: contextvars.ContextVar[Operation | None] = contextvars.ContextVar("operation", default=None)


@contextlib.contextmanager
def operation(source: str | None = None, *, user=None, reason: str = ""):
    """Everything written inside is one operation. Inside another one it keeps that one's id and what is not given."""
    outer = _current.get()
    if outer:
        inner = dataclasses.replace(
            outer, source=source or outer.source, user=user or outer.user, reason=reason or outer.reason
        )
    else:
        inner = Operation(source=source or Source.SHELL, user=user, reason=reason)
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)


def current_operation() -> Operation | None:
    return _current.get()


def current_user():
    active = _current.get()
    return active.user if active and getattr(active.user, "pk", None) else None


def history_operation_id() -> uuid.UUID:
    return _current.get().id if _current.get() else uuid.uuid4()


def history_source() -> str:
    return _current.get().source if _current.get() else Source.SHELL


def history_user_name() -> str:
    user = current_user()
    return user.get_display_name() if user else ""


class HistoryBase(models.Model):
    """Columns that every history row has beside simple-history's own: name frozen, operation, source."""

    history_user_name = models.CharField(_("by"), max_length=200, default=history_user_name, editable=False)
    operation_id = models.UUIDField(_("operation"), default=history_operation_id, editable=False, db_index=True)
    source = models.CharField(
        _("source"), max_length=10, choices=Source.choices, default=history_source, editable=False
    )

    class Meta:
        abstract = True


class History(HistoricalRecords):
    """simple-history with this office's columns: the user's id survives the user, the reason is encrypted."""

    def __init__(self, **kwargs):
        super().__init__(
            bases=[HistoryBase],
            history_id_field=models.BigAutoField(),
            history_user_id_field=models.BigIntegerField(null=True, blank=True),
            history_change_reason_field=EncryptedTextField(null=True, blank=True),
            **kwargs,
        )

    def create_historical_record(self, instance, history_type, using=None):
        if missing := instance.get_deferred_fields():
            instance.refresh_from_db(fields=missing)  # in one query, not one a column
        super().create_historical_record(instance, history_type, using)

    def get_history_user(self, instance):
        return getattr(instance, "_history_user", None) or current_user()

    def get_change_reason_for_object(self, instance, history_type, using):
        given = super().get_change_reason_for_object(instance, history_type, using)
        return given or (current_operation().reason if current_operation() else "") or None


def write_history(objects, history_type: str) -> None:
    """History rows for objects that were written in bulk: `+` created, `~` changed, `-` deleted."""
    if not objects:
        return
    model = type(objects[0]).history.model
    now = timezone.now()
    user = current_user()
    active = current_operation()
    shared = {
        "history_date": now,
        "history_type": history_type,
        "history_user_id": user.pk if user else None,
        "history_user_name": history_user_name(),
        "history_change_reason": (active.reason if active else "") or None,
        "operation_id": history_operation_id(),
        "source": history_source(),
    }
    names = [field.attname for field in model.tracked_fields]
    rows = (model(**{name: getattr(item, name) for name in names}, **shared) for item in objects)
    model.objects.bulk_create(rows, batch_size=BATCH)


def _computes(expression) -> bool:
    """True for an SQL expression that would write something else than an encrypted plain value."""
    if isinstance(expression, CaseExpression):  # what bulk_update builds: values chosen by primary key
        return any(_computes(case.result) for case in expression.cases)
    if isinstance(expression, F):
        return True
    return any(_computes(source) for source in expression.get_source_expressions() if source is not None)


class CrmQuerySet(models.QuerySet):
    """Refuses what would damage encrypted columns. `visible_to` is the one door to rows for a person."""

    def visible_to(self, user):
        return self

    def update(self, **values):
        for name in encrypted_names(self.model) & values.keys():
            value = values[name]
            if hasattr(value, "resolve_expression") and _computes(value):
                raise EncryptedFieldError()
        return super().update(**values)

    update.alters_data = True

    def order_by(self, *names):
        encrypted = encrypted_names(self.model)
        if any(isinstance(name, str) and name.lstrip("-") in encrypted for name in names):
            raise EncryptedFieldError()
        return super().order_by(*names)

    def defer_encrypted(self):
        """Without the encrypted columns: what lists start from."""
        return self.defer(*(field.name for field in self.model._meta.concrete_fields if is_encrypted(field)))

    @transaction.atomic
    def bulk_create_with_history(self, objects, **kwargs):
        created = self.bulk_create(objects, batch_size=kwargs.pop("batch_size", BATCH), **kwargs)
        write_history(created, "+")
        return created

    @transaction.atomic
    def bulk_update_with_history(self, objects, fields):
        changed = self.bulk_update(objects, fields, batch_size=BATCH)
        write_history(objects, "~")
        return changed


class CrmModel(models.Model):
    """A record that people edit: with history."""

    history = History(inherit=True)
    objects = CrmQuerySet.as_manager()

    class Meta:
        abstract = True


class Counter(models.Model):
    """The last number given out for a kind of reference."""

    kind = models.CharField(max_length=20, primary_key=True)
    last = models.PositiveBigIntegerField(default=0)


def reserve_references(prefix: str, count: int = 1) -> list[str]:
    """References never given out before, such as `C-000123`. The counter's row stays locked until the transaction
    ends, so that a rollback leaves no gap and two writers never meet."""
    with transaction.atomic():
        Counter.objects.get_or_create(kind=prefix)
        counter = Counter.objects.select_for_update().get(kind=prefix)
        first = counter.last + 1
        counter.last += count
        counter.save(update_fields=["last"])
    return [f"{prefix}-{number:06d}" for number in range(first, first + count)]


class Stamped(models.Model):
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        abstract = True
