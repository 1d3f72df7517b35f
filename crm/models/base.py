"""What every model of the office shares: the operation a write belongs to, its history, and a strict queryset."""

import contextlib
import contextvars
import dataclasses
import re
import uuid

from django.conf import settings
from django.db import models, transaction
from django.db.models.expressions import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from crm.choices import Source
from crm.encryption import EncryptedTextField, is_encrypted, reaches_encrypted
from crm.exceptions import EncryptedFieldError
from crm.models.bulk import insert_rows, stored

BATCH = 500
NAME_LENGTH = 200


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
    return user.get_display_name()[:NAME_LENGTH] if user else ""


class HistoryBase(models.Model):
    """Columns that every history row has beside simple-history's own: name frozen, operation, source."""

    history_user_name = models.CharField(_("by"), max_length=NAME_LENGTH, default=history_user_name, editable=False)
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
        tracked = {field.attname for field in self.fields_included(instance)}
        if missing := tracked & instance.get_deferred_fields():
            instance.refresh_from_db(fields=missing)  # in one query, not one a column
        # Where simple-history's own attribute names the user, the frozen name is his too.
        with operation(user=getattr(instance, "_history_user", None)):
            super().create_historical_record(instance, history_type, using)

    def m2m_changed(self, instance, action, attr, pk_set, reverse, model, **kwargs):
        if not reverse:
            super().m2m_changed(instance, action, attr, pk_set, reverse)
            return
        # `group.user_set.add(user)`: the records that change are at the other end, and simple-history looks for the
        # history of the group. After a clear nothing tells any more who was there.
        if action == "pre_clear":
            instance._cleared = list(model._base_manager.filter(**{attr: instance}))
        elif action == "post_clear":
            for record in instance.__dict__.pop("_cleared", ()):
                self.create_historical_record(record, "~")
        elif action in ("post_add", "post_remove"):
            for record in model._base_manager.filter(pk__in=pk_set):
                self.create_historical_record(record, "~")

    def get_history_user(self, instance):
        return current_user()

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
    convert = stored(model, [*names, *shared])
    same = tuple(convert(name, value) for name, value in shared.items())
    rows = ((*(convert(name, getattr(item, name)) for name in names), *same) for item in objects)
    insert_rows(model, [*names, *shared], rows)


class CrmQuerySet(models.QuerySet):
    """Refuses what would damage encrypted columns. `visible_to` is the one door to rows for a person."""

    def visible_to(self, user):
        return self

    def order_by(self, *names):
        self._refuse_encrypted(names)
        return super().order_by(*names)

    def distinct(self, *names):
        self._refuse_encrypted(names)
        return super().distinct(*names)

    def earliest(self, *names):
        self._refuse_encrypted(names)
        return super().earliest(*names)

    def latest(self, *names):
        self._refuse_encrypted(names)
        return super().latest(*names)

    def aggregate(self, *args, **kwargs):
        self._refuse_encrypted([*args, *kwargs.values()])
        return super().aggregate(*args, **kwargs)

    def _refuse_encrypted(self, expressions) -> None:
        """The database would sort or count tokens, of which two for one value differ."""
        for expression in expressions:
            if expression is None:
                continue
            if isinstance(expression, str | F):
                path = (expression if isinstance(expression, str) else expression.name).lstrip("-+")
                known = self.query.annotations.get(path)
                if reaches_encrypted(self.model, path) or is_encrypted(getattr(known, "_output_field_or_none", None)):
                    raise EncryptedFieldError()
            elif hasattr(expression, "get_source_expressions"):
                self._refuse_encrypted(expression.get_source_expressions())

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
        objects = list(objects)
        changed = self.bulk_update(objects, fields, batch_size=BATCH)
        keys = [item.pk for item in objects]
        for start in range(0, len(keys), BATCH):
            # The rows as they stand, not the objects: those may be older, or hold more changes than `fields`.
            write_history(list(self.model._base_manager.filter(pk__in=keys[start : start + BATCH])), "~")
        return changed


def sees_all_cases(user) -> bool:
    return settings.ADVISER_SCOPE != "own" or user.has_perm("crm.view_all_cases")


class OfCaseQuerySet(CrmQuerySet):
    """Rows that are seen by whoever sees their case."""

    def visible_to(self, user):
        return self if sees_all_cases(user) else self.belonging_to(user)

    def belonging_to(self, user):
        return self.filter(models.Q(case__adviser=user) | models.Q(case__stand_in=user))


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


def lock_references(prefix: str) -> Counter:
    """Whoever else wants a reference of this kind waits until the transaction ends."""
    Counter.objects.get_or_create(kind=prefix)
    return Counter.objects.select_for_update().get(kind=prefix)


def give_references(prefix: str, items: list) -> None:
    """Gives references such as `C-000123`, never given out before, to the items that have none. A reference that came
    with its item (an import) moves the counter on, so that nobody gets it again. The counter's row stays locked until
    the transaction ends: a rollback leaves no gap, and two writers never meet."""
    nameless = [item for item in items if not item.reference]
    brought = max((_number(prefix, item.reference) for item in items if item.reference), default=0)
    if not nameless and (not brought or Counter.objects.filter(kind=prefix, last__gte=brought).exists()):
        return
    with transaction.atomic():
        counter = lock_references(prefix)
        first = max(counter.last, brought) + 1
        counter.last = first + len(nameless) - 1
        counter.save(update_fields=["last"])
    for number, item in enumerate(nameless, first):
        item.reference = f"{prefix}-{number:06d}"


def _number(prefix: str, reference: str) -> int:
    found = re.fullmatch(rf"{prefix}-(\d{{1,15}})", reference)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def with_references(prefix: str, items: list):
    """A transaction in which the items get their references, and lose them again when it fails."""
    nameless = [item for item in items if not item.reference]
    try:
        with transaction.atomic():
            give_references(prefix, items)
            yield
    except BaseException:
        for item in nameless:
            item.reference = ""
        raise


class Stamped(models.Model):
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        abstract = True
