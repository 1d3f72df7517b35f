"""What the history leaves out or makes up, asked of every model at once."""

from itertools import pairwise

from crm.models import AuditEntry, CrmModel, User
from crm.models.history import CREATED, DELETED

TRACKED = [*CrmModel.__subclasses__(), User]
STAMPS = {"created_at", "updated_at"}


def gaps() -> list[str]:
    """Records whose newest history row is not what the table holds, rows that changed nothing or do not follow the one
    before, and operations that are not in the audit trail."""
    found = []
    operations = set(AuditEntry.objects.values_list("operation_id", flat=True))
    for model in TRACKED:
        names = [field.attname for field in model.history.model.tracked_fields]
        told = [at for at, name in enumerate(names) if name not in STAMPS]
        stands = {row[names.index("id")]: row for row in model.objects.order_by().values_list(*names)}
        versions: dict[int, list] = {}
        for kind, operation, *row in model.history.order_by("history_id").values_list(
            "history_type", "operation_id", *names
        ):
            versions.setdefault(row[names.index("id")], []).append((kind, tuple(row)))
            if operation not in operations:
                found.append(f"{model.__name__}: operation {operation} is not in the audit trail")
        found += [f"{model.__name__} {key}: no history" for key in stands.keys() - versions.keys()]
        for key, rows in versions.items():
            if stands.get(key) != (None if rows[-1][0] == DELETED else rows[-1][1]):
                found.append(f"{model.__name__} {key}: its newest row is not what stands")
            if rows[0][0] != CREATED:
                found.append(f"{model.__name__} {key}: begins with {rows[0][0]}")
            for (before, then), (kind, now) in pairwise(rows):
                if (kind == CREATED) != (before == DELETED):
                    found.append(f"{model.__name__} {key}: {kind} after {before}")
                # A user's groups are rows of another table.
                if kind == before and model is not User and all(then[at] == now[at] for at in told):
                    found.append(f"{model.__name__} {key}: a row that changes nothing")
    return found
