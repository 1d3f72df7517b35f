"""The data that ships with the product: steps, lenders, document types, limits and who is told of what, from `fixtures/*.json`.

`load()` adds what is new and touches nothing else: what an office has changed, renamed or deleted stays as it left it,
release after release. (`manage.py loaddata fixtures/*.json` is the blunt way: it puts every shipped row back as shipped.)
"""

from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.management.color import no_style
from django.db import connection, transaction

from crm.choices import Source
from crm.models import operation

FIXTURES = settings.BASE_DIR / "fixtures"
# What names a row for people. A primary key does not: an office's own sixteenth step may stand where we ship one.
NATURAL_KEYS = {
    "Step": ("code",),
    "Lender": ("name",),
    "DocumentType": ("code",),
    "RegulatoryLimit": ("metric", "audience", "valid_from"),
    "NoticeRule": ("kind",),
}


def load() -> int:
    """Adds the shipped rows whose natural key this database never held; returns how many.

    "Never" is asked of the history too, so a row that an office renamed or deleted does not come back beside it.
    """
    added = 0
    with transaction.atomic(), operation(Source.COMMAND):
        for model_name, rows in _shipped().items():
            added += _add_new(apps.get_model("crm", model_name), rows)
    return added


def _shipped() -> dict[str, list]:
    found = {name: [] for name in NATURAL_KEYS}
    for path in sorted(FIXTURES.glob("*.json")):
        for row in serializers.deserialize("json", path.read_text(encoding="utf-8")):
            found[type(row.object).__name__].append(row.object)
    return found


def _add_new(model, rows: list) -> int:
    names = NATURAL_KEYS[model.__name__]
    known = {*model.objects.values_list(*names), *model.history.values_list(*names)}
    new = [row for row in rows if tuple(getattr(row, name) for name in names) not in known]
    taken = {*model.objects.values_list("pk", flat=True), *model.history.values_list("id", flat=True)}
    for row in new:
        # The fixture's own number where it is free, so that a later loaddata meets this very row.
        row.pk = None if row.pk in taken else row.pk
    model.objects.bulk_create([row for row in new if row.pk])
    with connection.cursor() as cursor:  # PostgreSQL's sequences do not see numbers given by hand
        for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
            cursor.execute(statement)
    model.objects.bulk_create([row for row in new if not row.pk])
    return len(new)
