"""Events of the audit trail: what happened beside the changes of rows. A login, an export, a refusal is one entry, with
what personal data it has (the account that was tried, the address) encrypted in its detail."""

import hashlib
import json
import logging
import uuid

from django.core.cache import cache
from django.db import DatabaseError, transaction
from django.db.transaction import TransactionManagementError

from crm.models import AuditEntry
from crm.models.operations import NAME_LENGTH, Operation, current_operation, current_user

logger = logging.getLogger(__name__)

MINUTE_S = 60


def enter(
    kind: str,
    *,
    user=None,
    model: str = "",
    object_id: object = "",
    detail: dict | None = None,
    operation_id: uuid.UUID | None = None,
) -> None:
    """One entry, of the operation that runs now. `model` and `object_id` stand in the clear: ids, never names. An entry
    that cannot be written is logged and breaks nothing: what it tells of has happened or goes on."""
    active = current_operation() or Operation()
    user = user if getattr(user, "pk", None) else current_user()
    try:
        with transaction.atomic():  # a savepoint where somebody's transaction is open
            AuditEntry.objects.create(
                operation_id=operation_id or active.id,
                kind=kind,
                user_id=user.pk if user else None,
                user_name=user.get_display_name()[:NAME_LENGTH] if user else "",
                source=active.source,
                reason=active.reason,
                model=model,
                object_id=str(object_id),
                detail=json.dumps(detail, ensure_ascii=False, default=str) if detail else "",
            )
    except (DatabaseError, TransactionManagementError) as error:
        logger.error("audit trail: no entry of a %s (%s)", kind, type(error).__name__)


def detail_of(entry: AuditEntry) -> dict:
    """What `enter` or an operation put in; empty where no key opens it."""
    try:
        found = json.loads(entry.detail or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def first_this_minute(*what) -> bool:
    """Whether this process has not met the same within a minute: so that somebody who tries again and again does not
    fill the trail. Several web processes enter it once each."""
    key = hashlib.sha256(repr(what).encode()).hexdigest()
    return cache.add(f"audit:{key}", value=True, timeout=MINUTE_S)
