"""The operation a write belongs to: one request, command or job. Its line in the audit trail is written with its first row."""

import contextlib
import contextvars
import dataclasses
import logging
import uuid

from django.db import DatabaseError
from django.db.transaction import TransactionManagementError

from crm.choices import OPERATION_KINDS, AuditKind, Source

logger = logging.getLogger(__name__)

NAME_LENGTH = 200
# Fewer rows are counted when somebody looks: keeping the number would cost each save a transaction of its own.
MANY = 100


@dataclasses.dataclass
class Written:
    """What of an operation is in the database for good, shared by all that is nested in it."""

    entry: bool = False
    counts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(count for kinds in self.counts.values() for count in kinds.values())


@dataclasses.dataclass
class Operation:
    """All history rows written inside it carry its id."""

    source: str = Source.SHELL
    user: object | None = None
    reason: str = ""
    kind: str = AuditKind.CHANGE
    detail: dict = dataclasses.field(default_factory=dict)
    undoes: uuid.UUID | None = None
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)
    written: Written = dataclasses.field(default_factory=Written)


_current: contextvars.ContextVar[Operation | None] = contextvars.ContextVar("operation", default=None)


@contextlib.contextmanager
def operation(source: str | None = None, *, user=None, reason: str = "", kind: str = "", detail=None, undoes=None):
    """Everything written inside is one operation. Inside another one it keeps that one's id and what is not given.

    `detail` is kept encrypted in the audit trail: JSON, of what no column says."""
    outer = _current.get()
    given = {"source": source, "reason": reason, "kind": kind, "detail": detail, "undoes": undoes}
    given = {name: value for name, value in given.items() if value}
    if user is not None:  # not by its truth: a request's user is asked for when somebody writes
        given["user"] = user
    inner = dataclasses.replace(outer, **given) if outer else Operation(**given)
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
        if outer is None and inner.written.rows >= MANY:
            _keep_counts(inner)


def _keep_counts(done: Operation) -> None:
    """So that a list of operations need not count the rows of an import. Where this is missed they are counted then."""
    from crm.models.audit import AuditEntry

    try:
        AuditEntry.objects.filter(operation_id=done.id, kind__in=OPERATION_KINDS).update(counts=done.written.counts)
    except (DatabaseError, TransactionManagementError):
        logger.warning("operation %s: its counts were not kept", done.id)


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
