"""What the office changed in a record since a file was exported from it, by the version that the file's row carries: the
number of the newest history row of then."""

from django.db.models import Max, Model

from crm.encryption import Unreadable


def changed_since(model: type[Model], versions: dict[int, int]) -> dict[int, Model | None]:
    """By key: how each record was at its version, of those that changed since; None where no such version of it is known.
    Two queries."""
    if not versions:
        return {}
    newest = dict(model.history.filter(id__in=versions).order_by().values_list("id").annotate(Max("history_id")))
    behind = {key: version for key, version in versions.items() if newest.get(key) != version}
    if not behind:
        return {}
    then = {row.id: row for row in model.history.filter(history_id__in=set(behind.values()))}
    return {key: then[key] if key in then and then[key].history_id == behind[key] else None for key in behind}


def is_same(one: object, other: object) -> bool:
    """Nothing is nothing, whether it is stored as an empty text or as NULL."""
    if isinstance(one, Unreadable) or isinstance(other, Unreadable):
        return getattr(one, "stored", None) == getattr(other, "stored", None)
    return one == other or (one in (None, "") and other in (None, ""))
