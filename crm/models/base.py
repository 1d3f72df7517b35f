"""What every model of the office shares: a strict queryset that leaves a history row whatever it writes, and references."""

import contextlib
import functools
import itertools
import operator
import re

from django.conf import settings
from django.db import NotSupportedError, models, transaction
from django.db.models.expressions import F
from django.utils.translation import gettext_lazy as _

from crm.encryption import is_encrypted, reaches_encrypted
from crm.exceptions import EncryptedFieldError
from crm.models.history import CHANGED, CREATED, History, Tracked, Uncommitted, is_tracked, record, tracked_names
from crm.models.operations import operation

BATCH = 500
# A client is kept because the law says so, or erased.
RESTRICTED_BY = ("restricted_at", "anonymised_at")


class CrmQuerySet(models.QuerySet):
    """Refuses what would damage encrypted columns. `visible_to` is the one door to rows for a person."""

    def visible_to(self, user):
        return self

    def restricted(self):
        """What is part of a client's record into which nobody writes any more."""
        condition = self._is_restricted()
        return self.none() if condition is None else self.filter(condition)

    def unrestricted(self):
        condition = self._is_restricted()
        return self if condition is None else self.filter(~condition)

    def _is_restricted(self) -> models.Q | None:
        path = self.model.client_path
        if path is None:
            return None
        names = (f"{path}__{name}" if path else name for name in RESTRICTED_BY)
        return functools.reduce(operator.or_, (models.Q(**{f"{name}__isnull": False}) for name in names))

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

    # --- Writes of many rows: each leaves its history row, as a save does ---

    def bulk_create(self, objs, *args, **kwargs):
        if not is_tracked(self.model):
            return super().bulk_create(objs, *args, **kwargs)
        if kwargs.get("ignore_conflicts") or kwargs.get("update_conflicts"):
            raise NotSupportedError("Neither the history nor the search index can follow what a conflict skips.")
        objs = list(objs)
        keys = [item.pk for item in objs]
        with transaction.atomic():
            created = super().bulk_create(objs, *args, **{"batch_size": BATCH, **kwargs})
            record(self.model, [item.pk for item in created], CREATED)
            write = Uncommitted()
            for item, key in zip(created, keys, strict=True):
                item._remember_written(write, key)
        return created

    def update(self, **values):
        """As Django's; also writes a history row for each row that it changed. Locks the rows; reads and writes a chunk
        at a time."""
        if not is_tracked(self.model) or not values:
            return super().update(**values)
        fields = [self.model._meta.get_field(name) for name in values]
        names = [field.attname for field in fields]
        changed = 0
        with transaction.atomic():
            keys = list(self.order_by().values_list("pk", flat=True))
            if not keys:
                return super().update(**values)  # for what it refuses
            for chunk in itertools.batched(dict.fromkeys(keys), BATCH):
                rows = self.model._base_manager.filter(pk__in=chunk)
                before = {key: old for key, *old in rows.select_for_update(no_key=True).values_list("pk", *names)}
                changed += models.QuerySet.update(self.filter(pk__in=chunk).order_by(), **values)
                if tracked_names(self.model) & {field.name for field in fields}:
                    after = rows.order_by("pk").values_list("pk", *names)
                    record(self.model, [key for key, *new in after if new != before.get(key)], CHANGED)
        return changed

    update.alters_data = True

    def delete(self):
        with operation():  # what goes with a record has its operation, so that it comes back with it
            return super().delete()

    delete.alters_data = True
    delete.queryset_only = True


def sees_all_cases(user) -> bool:
    return settings.ADVISER_SCOPE != "own" or user.has_perm("crm.view_all_cases")


class OfCaseQuerySet(CrmQuerySet):
    """Rows that are seen by whoever sees their case."""

    def visible_to(self, user):
        return self if sees_all_cases(user) else self.belonging_to(user)

    def belonging_to(self, user):
        return self.filter(models.Q(case__adviser=user) | models.Q(case__stand_in=user))


class CrmModel(Tracked):
    """A record that people edit: with history. `client_path` leads to the client whose record it is part of; it is None of
    what is part of none."""

    client_path: str | None = None

    history = History(inherit=True)
    objects = CrmQuerySet.as_manager()

    class Meta:
        abstract = True
        # What Django updates by itself (ON DELETE SET_NULL) leaves its history row too.
        base_manager_name = "objects"

    @functools.cached_property
    def is_restricted(self) -> bool:
        """Part of a client's record into which nobody writes any more. One query, of two columns."""
        if self.client_path is None:
            return False
        of = self._meta.get_field(self.client_path.partition("__")[0])
        return of.related_model.objects.restricted().filter(pk=getattr(self, of.attname)).exists()


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
