"""The erasure itself: every row that is about one client, now and in the history, as crm.privacy.fields says. Sealed rows are
changed through crm.audit.amending, so that the seal stays whole and says that they were."""

import itertools
import uuid
from collections import Counter
from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, Max, OuterRef, Q

from crm import outbox, search
from crm.audit.amending import amend
from crm.audit.changes import tracked_models
from crm.choices import OPERATION_KINDS, MessageState, Withheld
from crm.encryption import Unreadable
from crm.models import (
    AuditEntry,
    AuditSeal,
    Case,
    Client,
    ExportedClient,
    ExportPiece,
    ExportRun,
    ImportPiece,
    ImportRun,
    MessageLog,
    SearchToken,
    UndoRun,
    User,
)
from crm.privacy.fields import (
    ACCOUNT,
    ENTRY,
    EXPORT,
    HISTORY,
    IMPORT,
    MESSAGE,
    MESSAGE_TO_STAFF,
    RECORDS,
    UNDO,
    Treatment,
    erased_values,
)

CHUNK = 500
# Of history rows in one seal.
BATCH = 2_000


def cases_of(client_id: int) -> set[int]:
    """His cases, also those in the recycle bin; not one that was given to somebody else."""
    return _records_of(Case, {"client_id": {client_id}})


def wipe(client_id: int, reference: str, *, now) -> None:
    """In the caller's transaction and operation, which hold the client. Leaves him standing and unmarked."""
    cases = cases_of(client_id)
    # Without no_key: nothing is added to them meanwhile.
    list(Case.objects.filter(pk__in=cases).order_by("pk").select_for_update().values_list("pk"))
    owned = {"id": {client_id}, "client_id": {client_id}, "case_id": cases}
    accounts = _accounts(client_id)
    # Before the addresses that they went to are gone.
    _wipe_messages(client_id, cases, accounts)
    mine: Counter[tuple[type, uuid.UUID]] = Counter()
    for model, treatment in RECORDS.items():
        keys = _records_of(model, {name: owned[name] for name in treatment.owners})
        mine += _wipe_records(model, keys, treatment, reference, now)
    _forget_accounts(accounts, now)
    alone = _of_nobody_else(mine)
    _wipe_entries(alone, now)
    _wipe_runs(client_id, {operation for _model, operation in mine}, alone)
    SearchToken.objects.filter(client=client_id).delete()


def mark_deleted(client_id: int, at, *, now) -> None:
    """In the recycle bin: its last version says that he is erased, so he comes back as that or not at all."""
    last = Client.history.filter(id=client_id).aggregate(last=Max("history_id"))["last"]
    _rewrite(Client.history.model, [last], {"anonymised_at": at, "restricted_at": at}, now)


# --- Records ---


def _records_of(model: type[models.Model], owned: dict[str, set[int]]) -> set[int]:
    """Keys of the records that belong to any of these now, or did when they were deleted."""
    found = set()
    for column, owners in owned.items():
        if column == "id":
            return set(owners)
        for some in itertools.batched(sorted(owners), CHUNK):
            history = model.history.model.objects.order_by()
            found |= set(model._base_manager.filter(**{f"{column}__in": some}).values_list("pk", flat=True))
            once = set(history.filter(**{f"{column}__in": some}).values_list("id", flat=True).distinct())
            found |= {key for key, owner in _last_owners(model, once - found, column) if owner in owners}
    return found


def _last_owners(model: type[models.Model], keys: set[int], column: str) -> Iterable[tuple[int, int]]:
    history = model.history.model.objects.order_by()
    for some in itertools.batched(sorted(keys), CHUNK):
        last = history.filter(id__in=some).values_list("id").annotate(last=Max("history_id"))
        yield from history.filter(history_id__in=[number for _key, number in last]).values_list("id", column)


def _wipe_records(model, keys: set[int], treatment: Treatment, reference: str, now) -> Counter:
    """Returns how many history rows each operation has here."""
    values = erased_values(model, treatment, reference)
    mine, rows = Counter(), []
    for some in itertools.batched(sorted(keys), CHUNK):
        if values:  # past the history, which is written to say the same
            models.QuerySet.update(model._base_manager.filter(pk__in=some), **values)
        history = model.history.model.objects.filter(id__in=some).order_by()
        for number, operation in history.values_list("history_id", "operation_id"):
            rows.append(number)
            mine[model, operation] += 1
    _rewrite(model.history.model, rows, values | erased_values(model.history.model, HISTORY), now)
    return mine


def _rewrite(model, ids: Iterable[int], values: dict[str, object], now) -> None:
    """Raises SealBroken where a row is not what was sealed, AuditKeyMissing, AnchorAhead, AnchorLost."""
    is_sealed = bool(settings.AUDIT_KEYS) or AuditSeal.objects.exists()
    for some in itertools.batched(sorted(ids), BATCH):
        if is_sealed:
            amend(model, some, values, lambda rows: rows.update(**values), user=None, reason="", now=now)
        else:
            model._base_manager.filter(pk__in=some).update(**values)


# --- What hangs on them ---


def _addresses(client_id: int) -> set[bytes]:
    """Digests of every e-mail that he ever had."""
    now = Client.objects.filter(pk=client_id).values_list("email", flat=True)
    ever = {*now, *Client.history.filter(id=client_id).values_list("email", flat=True)}
    return {
        search.digest(search.Kind.EMAIL, search.fold_value(search.Kind.EMAIL, each))
        for each in ever
        if each and not isinstance(each, Unreadable)
    }


def _wipe_messages(client_id: int, cases: set[int], accounts: set[int]) -> None:
    """Those about his cases, to his account, and what went to him of cases that somebody else has by now."""
    to_clients = MessageLog.objects.filter(kind__in=outbox.TO_CLIENTS)
    keys = set(to_clients.filter(case__in=cases).values_list("pk", flat=True))
    keys |= set(MessageLog.objects.filter(user__in=accounts).values_list("pk", flat=True))
    given = Case.history.filter(client_id=client_id).exclude(id__in=cases).values("id")
    to_him = to_clients.filter(case__in=given, recipient_digest__in=_addresses(client_id))
    of_another = {"client__cases": OuterRef("case"), "kind": search.Kind.EMAIL, "digest": OuterRef("recipient_digest")}
    keys |= set(to_him.exclude(Exists(SearchToken.objects.filter(**of_another))).values_list("pk", flat=True))
    withheld = {"state": MessageState.WITHHELD, "next_try_at": None, "error": Withheld.CLIENT}
    for some in itertools.batched(sorted(keys), CHUNK):
        rows = MessageLog.objects.filter(pk__in=some)
        rows.to_send().update(**withheld)
        rows.update(**erased_values(MessageLog, MESSAGE))
    said = MessageLog.objects.filter(case__in=cases).exclude(kind__in=outbox.TO_CLIENTS)
    said.update(**dict.fromkeys(MESSAGE_TO_STAFF, ""))


def _accounts(client_id: int) -> set[int]:
    """His own logins, also earlier ones; no colleague's, and none that another client has by now."""
    ever = set(
        Client.history.filter(id=client_id).exclude(portal_user_id=None).values_list("portal_user_id", flat=True)
    )
    ever |= set(Client.objects.filter(pk=client_id).exclude(portal_user=None).values_list("portal_user_id", flat=True))
    staff = User.history.filter(Q(is_staff=True) | Q(is_superuser=True), id__in=ever).values_list("id", flat=True)
    others = Client.objects.filter(portal_user__in=ever).exclude(pk=client_id).values_list("portal_user_id", flat=True)
    return ever - set(staff) - set(others)


def _forget_accounts(accounts: set[int], now) -> None:
    if not accounts:
        return
    User.objects.filter(pk__in=accounts).delete()
    rows = User.history.filter(id__in=accounts).order_by().values_list("history_id", flat=True)
    values = erased_values(User.history.model, ACCOUNT) | erased_values(User.history.model, HISTORY)
    _rewrite(User.history.model, list(rows), values, now)
    about = Q(user_id__in=accounts) | Q(model="user", object_id__in=[str(key) for key in accounts])
    entries = AuditEntry.objects.filter(about)
    _rewrite(AuditEntry, list(entries.values_list("pk", flat=True)), erased_values(AuditEntry, ENTRY), now)
    named = list(entries.filter(user_id__in=accounts).values_list("pk", flat=True))
    _rewrite(AuditEntry, named, {"user_name": ""}, now)


# --- The operations that wrote it ---


def _of_nobody_else(mine: Counter) -> set[uuid.UUID]:
    """Those of which every history row is one of `mine`, by model and operation."""
    alone = {operation for _model, operation in mine}
    for model in tracked_models():
        for some in itertools.batched(sorted(alone), CHUNK):
            rows = model.history.model.objects.filter(operation_id__in=some).order_by()
            counts = rows.values_list("operation_id").annotate(rows=Count("history_id"))
            alone -= {operation for operation, count in counts if count > mine[model, operation]}
    return alone


def _wipe_entries(alone: set[uuid.UUID], now) -> None:
    found = []
    for some in itertools.batched(sorted(alone), CHUNK):
        entries = AuditEntry.objects.filter(kind__in=OPERATION_KINDS, operation_id__in=some)
        found += [key for key, *said in entries.values_list("pk", *sorted(ENTRY.blank)) if any(said)]
    _rewrite(AuditEntry, found, erased_values(AuditEntry, ENTRY), now)


def _wipe_runs(client_id: int, operations: set[uuid.UUID], alone: set[uuid.UUID]) -> None:
    """What imports, exports and undos keep of him: files that wait, problems, reasons."""
    exports = ExportRun.objects.filter(exported_clients__client_id=client_id)
    pieces = ExportPiece.objects.filter(run__in=list(exports.values_list("pk", flat=True))).order_by()
    pieces._raw_delete(pieces.db)
    others = ExportedClient.objects.filter(run=OuterRef("pk")).exclude(client_id=client_id)
    ExportRun.objects.filter(pk__in=list(exports.filter(~Exists(others)).values_list("pk", flat=True))).update(
        **erased_values(ExportRun, EXPORT)
    )
    values, undos = erased_values(ImportRun, IMPORT), erased_values(UndoRun, UNDO)
    for some in itertools.batched(sorted(operations), CHUNK):
        runs = ImportRun.objects.filter(operation_id__in=some)
        runs.filter(operation_id__in=alone & set(some)).update(file_name="")
        UndoRun.objects.filter(undoes__in=alone & set(some)).update(**undos)
        runs.update(**{name: value for name, value in values.items() if name != "file_name"})
        kept = ImportPiece.objects.filter(run__in=list(runs.values_list("pk", flat=True))).order_by()
        kept._raw_delete(kept.db)
