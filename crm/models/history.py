"""The history of every record that people edit: who, when, as part of what. A history row is copied from the table by
the database, after the write: it says what is stored, whatever the object in memory believed, and encrypts nothing again.
"""

import contextlib
import contextvars
import copy
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from crm.choices import Source
from crm.encryption import EncryptedTextField, Unreadable
from crm.models.bulk import stored
from crm.models.operations import (
    NAME_LENGTH,
    Operation,
    current_operation,
    current_user,
    history_operation_id,
    history_source,
    history_user_name,
    operation,
)

CREATED, CHANGED, DELETED = "+", "~", "-"
CHUNK = 500  # SQLite takes few parameters in old versions
CHUNK_OF_ARRAY = 5000
# Sent with `keys` and `history_type` after history rows of `sender` were written, in their transaction.
recorded = Signal(use_caching=True)
_by_hand: contextvars.ContextVar[bool] = contextvars.ContextVar("history by hand", default=False)
_waiting: contextvars.ContextVar[dict | None] = contextvars.ContextVar("history that waits", default=None)


class HistoryBase(models.Model):
    """Columns that every history row has beside simple-history's own: name frozen, operation, source."""

    history_user_name = models.CharField(_("by"), max_length=NAME_LENGTH, default=history_user_name, editable=False)
    operation_id = models.UUIDField(_("operation"), default=history_operation_id, editable=False)
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

    def copy_fields(self, model):
        fields = super().copy_fields(model)
        for name, field in fields.items():
            # What timelines and the past ask for, beside the indexes below; each costs every write.
            field.db_index = name in ("case", "client")
        return fields

    def get_extra_fields(self, model, fields):
        """With columns of its own: simple-history gives one field to all histories, and an update of it then writes into
        the table of the last one."""
        found = super().get_extra_fields(model, fields)
        for name in ("history_user_id", "history_change_reason"):
            found[name] = copy.copy(found[name])
        return found

    def get_meta_options(self, model):
        name = model._meta.model_name
        indexes = [
            models.Index(fields=[model._meta.pk.name, "history_id"], name=f"h_{name}_versions"),
            models.Index(fields=["operation_id", "history_id"], name=f"h_{name}_operation"),
            models.Index(fields=["history_id"], name=f"h_{name}_gone", condition=models.Q(history_type=DELETED)),
        ]
        return super().get_meta_options(model) | {"indexes": indexes, "default_permissions": ()}

    # --- What simple-history's signals call ---

    def post_save(self, instance, created, raw=False, **kwargs):
        if created:
            self._record(instance, CREATED)
        elif raw:  # loaddata, which writes past every save of ours
            record_if_changed(type(instance), instance.pk)
        elif not hasattr(instance, "skip_history_when_saving"):
            self._record(instance, CHANGED)

    def pre_delete(self, instance, **kwargs):
        self._record(instance, DELETED)

    def post_delete(self, instance, **kwargs):
        """Recorded while the row still stood."""

    def m2m_changed(self, instance, action, attr, pk_set, reverse, model, **kwargs):
        if not reverse:
            if action == "post_clear" or (action in ("post_add", "post_remove") and pk_set):
                self._record(instance, CHANGED)
            return
        # `group.user_set.add(user)`: the records that change are at the other end, and simple-history looks for the
        # history of the group. After a clear nothing tells any more who was there.
        if action == "pre_clear":
            instance._cleared = list(model._base_manager.filter(**{attr: instance}).values_list("pk", flat=True))
        elif action == "post_clear":
            record(model, instance.__dict__.pop("_cleared", ()), CHANGED)
        elif action in ("post_add", "post_remove"):
            record(model, pk_set, CHANGED)

    def _record(self, instance, history_type: str) -> None:
        # simple-history's own way to name a user and a reason, for one object.
        given = instance.__dict__
        with operation(user=given.get("_history_user"), reason=given.get("_change_reason") or ""):
            record(type(instance), [instance.pk], history_type)


def is_tracked(model: type[models.Model]) -> bool:
    return hasattr(model._meta, "simple_history_manager_attribute")


@contextlib.contextmanager
def by_hand():
    """Inside, nothing is recorded: for the demo alone, which writes a past of its own."""
    token = _by_hand.set(True)
    try:
        yield
    finally:
        _by_hand.reset(token)


@contextlib.contextmanager
def one_row():
    """Inside, a record of several tables (a person and his groups) that is written in parts leaves one row, at the end."""
    if _waiting.get() is not None:
        yield
        return
    waiting = {}
    with transaction.atomic():
        token = _waiting.set(waiting)
        try:
            yield
        finally:
            _waiting.reset(token)
        for (model, key), history_type in waiting.items():
            record(model, [key], history_type)


def record(model: type[models.Model], keys: Iterable, history_type: str) -> None:
    """One history row for each of these rows, as it stands in the table now; the operation's line in the audit trail too.
    `-` is recorded before the row goes. Whatever lies in a range of keys is recorded with it."""
    keys = keys if isinstance(keys, range) else list(keys)
    if not keys or _by_hand.get():
        return
    columns = _columns(model)
    waiting = _waiting.get()
    if waiting is not None and columns.has_many_to_many:
        for key in keys:
            waiting.setdefault((model, key), history_type)
        if history_type != DELETED:
            return
        for key in keys:
            del waiting[model, key]
    active = current_operation() or Operation()
    at = timezone.now()
    user = current_user()
    extra = (
        at,
        history_type,
        user.pk if user else None,
        history_user_name(),
        active.reason or None,
        active.id,
        active.source,
    )
    constants = [columns.convert(name, value) for name, value in zip(EXTRA, extra, strict=True)]
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        if isinstance(keys, range):
            cursor.execute(columns.copy % "BETWEEN %s AND %s", [*constants, keys[0], keys[-1]])
        elif connection.vendor == "postgresql":
            for chunk in itertools.batched(keys, CHUNK_OF_ARRAY):
                cursor.execute(columns.copy % "= ANY(%s)", [*constants, list(chunk)])
        else:
            for chunk in itertools.batched(keys, CHUNK):
                marks = ", ".join(["%s"] * len(chunk))
                cursor.execute(columns.copy % f"IN ({marks})", [*constants, *chunk])
        if columns.has_many_to_many:
            _record_many_to_many(model, keys)
        enter(active, at, model, history_type, len(keys))
        recorded.send(sender=model, keys=keys, history_type=history_type)


EXTRA = (
    "history_date",
    "history_type",
    "history_user_id",
    "history_user_name",
    "history_change_reason",
    "operation_id",
    "source",
)


@dataclasses.dataclass(frozen=True)
class _Columns:
    copy: str
    convert: Callable[[str, object], object]
    has_many_to_many: bool


@functools.cache
def _columns(model: type[models.Model]) -> _Columns:
    """What a history row of this model is copied with; found once, as `model.history` builds a class each time."""
    history = model.history.model
    quote = connection.ops.quote_name
    tracked = [quote(field.column) for field in history.tracked_fields]
    targets = ", ".join([*tracked, *(quote(history._meta.get_field(name).column) for name in EXTRA)])
    values = ", ".join([*tracked, *["%%s"] * len(EXTRA)])
    table, key = quote(model._meta.db_table), quote(model._meta.pk.column)
    copy = (
        f"INSERT INTO {quote(history._meta.db_table)} ({targets}) SELECT {values} FROM {table} "  # noqa: S608
        f"WHERE {key} %s ORDER BY {key}"
    )
    return _Columns(copy, stored(history, list(EXTRA)), bool(history._history_m2m_fields))


def _record_many_to_many(model, keys: list) -> None:
    newest = dict(
        model.history.filter(**{f"{model._meta.pk.attname}__in": keys})
        .order_by()
        .values_list(model._meta.pk.attname)
        .annotate(models.Max("history_id"))
    )
    for field in model.history.model._history_m2m_fields:
        copies, through = HistoricalRecords.m2m_models[field], field.remote_field.through
        owner = through._meta.get_field(field.m2m_field_name()).attname
        names = [each.attname for each in through._meta.concrete_fields]
        rows = through.objects.filter(**{f"{owner}__in": keys})
        copies.objects.bulk_create(
            [copies(history_id=newest[getattr(row, owner)], **{n: getattr(row, n) for n in names}) for row in rows]
        )


def enter(active: Operation, at, model=None, history_type: str = "", count: int = 0) -> None:
    """The operation's line in the audit trail, in the transaction of its first row."""
    written = active.written
    # What a rolled back savepoint had entered is not on this list any more. A save puts a line of its own behind ours.
    last = [function for _savepoints, function, _robust in connection.run_on_commit[-2:]]
    if not written.entry and not any(getattr(function, "written", None) is written for function in last):
        user = current_user()
        insert, names, convert = _entry_columns()
        entry = {
            "operation_id": active.id,
            "kind": active.kind,
            "at": at,
            "user_id": user.pk if user else None,
            "user_name": history_user_name(),
            "source": active.source,
            "reason": active.reason,
            "model": "",
            "object_id": "",
            "detail": json.dumps(active.detail) if active.detail else "",
            "counts": {},
            "undoes": active.undoes,
        }
        with connection.cursor() as cursor:
            cursor.execute(insert, [convert(name, entry[name]) for name in names])

    def committed():
        written.entry = True
        if model:
            what = written.counts.setdefault(model._meta.model_name, {})
            what[history_type] = what.get(history_type, 0) + count

    committed.written = written
    transaction.on_commit(committed)


@functools.cache
def _entry_columns() -> tuple[str, list[str], Callable[[str, object], object]]:
    from crm.models.audit import AuditEntry

    quote = connection.ops.quote_name
    names = [field.attname for field in AuditEntry._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(map(quote, names))
    marks = ", ".join(["%s"] * len(names))
    table = quote(AuditEntry._meta.db_table)
    insert = f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
    return insert, names, stored(AuditEntry, names)


def record_if_changed(model: type[models.Model], key) -> None:
    """For rows that came past every save: a history row only where the row differs from its newest one."""
    names = [field.attname for field in model.history.model.tracked_fields if not _is_stamp(field)]
    newest = model.history.filter(**{model._meta.pk.attname: key}).order_by("-history_id").values_list(*names).first()
    if newest != model._base_manager.filter(pk=key).values_list(*names).first():
        record(model, [key], CHANGED)


def _is_stamp(field: models.Field) -> bool:
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


class Uncommitted:
    """A write that may still be rolled back: Django tells of a commit, and drops what waited for one otherwise."""

    def __init__(self):
        self.is_committed = False
        transaction.on_commit(self)

    def __call__(self):
        self.is_committed = True

    @property
    def is_rolled_back(self) -> bool:
        waiting = (function for _savepoints, function, _robust in reversed(connection.run_on_commit))
        return not self.is_committed and not any(function is self for function in waiting)


class Tracked(models.Model):
    """A record that writes what was changed and nothing else: the fields that differ from what was loaded. So a save that
    changes nothing writes nothing, and nobody's change of the moment before is undone by an object loaded earlier."""

    class Meta:
        abstract = True

    _loaded: dict | None = None
    # The writes with what this object held for stored before them, and its key; the last one last.
    _uncommitted: tuple[tuple[Uncommitted, dict | None, object], ...] = ()

    @transaction.atomic(savepoint=False)
    def save(self, **kwargs):
        is_new, key = self.is_new, self.pk
        if is_new or key is None or kwargs.get("force_insert"):
            self._loaded = None
        if self._loaded is None and self.pk is not None and not kwargs.get("force_insert"):
            self._adopt()
        if self._loaded is None:
            super().save(**kwargs)
            self._remember_written(Uncommitted(), key)
            return
        changed = self.changed_fields()
        if kwargs.get("update_fields") is not None:
            changed &= {self._meta.get_field(name).name for name in kwargs["update_fields"]}
        if not changed:
            return
        if not changed & tracked_names(type(self)):
            self.skip_history_when_saving = True
        written = changed | {field.name for field in self._meta.concrete_fields if getattr(field, "auto_now", False)}
        try:
            super().save(**kwargs | {"update_fields": written})
        finally:
            self.__dict__.pop("skip_history_when_saving", None)
        self._remember_written(Uncommitted(), key, written)

    def delete(self, **kwargs):
        with operation():
            return super().delete(**kwargs)

    delete.alters_data = True

    @property
    def is_new(self) -> bool:
        """Not stored, or not any more: its first save was rolled back."""
        self._forget_rolled_back()
        return self._state.adding

    def _remember_written(self, write: Uncommitted, key, names=None) -> None:
        self._uncommitted = (*self._uncommitted, (write, self._loaded, key))
        self._remember(names)

    def _forget_rolled_back(self) -> None:
        """Else the next save would take for stored what is not, and write nothing."""
        while self._uncommitted and self._uncommitted[-1][0].is_rolled_back:
            *earlier, (_write, self._loaded, self.pk) = self._uncommitted
            self._uncommitted = tuple(earlier)
            self._state.adding = self._loaded is None
        if self._uncommitted and self._uncommitted[-1][0].is_committed:
            self._uncommitted = ()

    def _remember(self, names=None) -> None:
        """What the table holds, as far as this object knows."""
        own = self.__dict__
        if names is None:
            loaded = own.copy()
            loaded.pop("_loaded", None)
            loaded.pop("_uncommitted", None)
        else:
            fields = [field for field in self._meta.concrete_fields if {field.name, field.attname} & set(names)]
            loaded = (self._loaded or {}) | {field.attname: own[field.attname] for field in fields}
        for name in _mutable(type(self)):
            if name in loaded:
                loaded[name] = copy.deepcopy(loaded[name])
        self._loaded = loaded

    def changed_fields(self) -> set[str]:
        """Names of the fields whose value is another than the loaded one; stamps that the save sets are none."""
        self._forget_rolled_back()
        own, loaded = self.__dict__, self._loaded or {}
        return {
            field.name
            for field in self._meta.concrete_fields
            if field.attname in own
            and not field.primary_key
            and not _is_stamp(field)
            and (field.attname not in loaded or _differ(field, own[field.attname], loaded[field.attname]))
        }

    @classmethod
    def from_db(cls, db, field_names, values):
        self = super().from_db(db, field_names, values)
        self._remember()
        return self

    def refresh_from_db(self, using=None, fields=None, from_queryset=None):
        super().refresh_from_db(using, fields, from_queryset)
        self._remember(fields)

    def _adopt(self) -> None:
        """An object that was made with a key and not loaded: what stands in the table is what it changes."""
        stored = type(self)._base_manager.filter(pk=self.pk).first()
        if stored is not None:
            self._loaded = stored._loaded
            self._state.adding = False


@functools.cache
def tracked_names(model: type[models.Model]) -> frozenset[str]:
    return frozenset(field.name for field in model.history.model.tracked_fields)


@functools.cache
def _mutable(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields if isinstance(field, models.JSONField))


def _differ(field, value, loaded) -> bool:
    if value is loaded:
        return False
    if hasattr(value, "resolve_expression"):
        return True
    if isinstance(value, Unreadable) or isinstance(loaded, Unreadable):
        return getattr(value, "stored", None) != getattr(loaded, "stored", None)
    if value == loaded:
        return False
    try:
        return field.to_python(value) != loaded
    except ValidationError:
        return True
