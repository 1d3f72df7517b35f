"""What a person said that a column means: remembered for the next file, shown, and forgotten on demand. A header is
anybody's text, so it is kept encrypted and compared in memory; one person's are few."""

from django.db import transaction
from django.utils.text import capfirst

from crm.imports.columns import CASE, CLIENT, folded, targets
from crm.models import Case, Client, ImportMapping, User

MOST = 200


def remembered(user) -> dict[str, str]:
    """Folded header -> `owner.field`, or nothing where it is to be left out."""
    return {folded(each.header): each.field for each in ImportMapping.objects.filter(user=user)}


@transaction.atomic
def remember(user, chosen: dict[str, str]) -> None:
    """`chosen` by headers as they are written. The oldest give way."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two files of one person at once
    new = {folded(header): (header, field) for header, field in chosen.items()}
    stored = list(ImportMapping.objects.filter(user=user))
    gone = [each.pk for each in stored if folded(each.header) in new]
    gone += [each.pk for each in stored if each.pk not in gone][: max(0, len(stored) - len(gone) + len(new) - MOST)]
    ImportMapping.objects.filter(pk__in=gone).delete()
    ImportMapping.objects.bulk_create(
        ImportMapping(user=user, header=header, field=field) for header, field in new.values()
    )


def forget(user) -> None:
    ImportMapping.objects.filter(user=user).delete()


def label_of(target: str) -> str:
    """How a page names `owner.field`."""
    owner, _point, name = target.partition(".")
    model = {CLIENT: Client, CASE: Case}.get(owner)
    return capfirst(model._meta.get_field(name).verbose_name) if model else ""


def choices_of(kind: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of a select: the fields that a column of such a file may fill, by owner."""
    found: dict[str, list] = {}
    for target in targets(kind):
        model = Client if target.startswith(f"{CLIENT}.") else Case
        found.setdefault(capfirst(model._meta.verbose_name), []).append((target, label_of(target)))
    return list(found.items())
