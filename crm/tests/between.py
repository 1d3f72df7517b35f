"""Between two tests. What one committed goes away, and what the set-up made comes back: only tables that differ are written.
Django's own flush writes each (on PostgreSQL seconds a test), and makes permissions anew after it."""

import datetime

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connection, transaction


class Baseline:
    """The rows that every test finds: those of the set-up."""

    def __init__(self):
        self.tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        self.rows = {table: _rows(table) for table in _filled(self.tables)}

    def restore(self) -> None:
        with transaction.atomic():
            if connection.vendor == "postgresql":
                # Whoever still writes (a killed program's server process) has ended before anything is looked at.
                with connection.cursor() as cursor:
                    cursor.execute(f"LOCK TABLE {', '.join(map(_quoted, self.tables))} IN SHARE ROW EXCLUSIVE MODE")
            changed = [
                table
                for table in _filled(self.tables) | self.rows.keys()
                if table not in self.rows or _rows(table) != self.rows[table]
            ]
            with connection.cursor() as cursor:
                for table in changed:
                    cursor.execute(f"DELETE FROM {_quoted(table)}")
                for table in changed:
                    for row in self.rows.get(table, ()):
                        cursor.execute(f"INSERT INTO {_quoted(table)} VALUES ({', '.join(['%s'] * len(row))})", row)
                # A flush lets keys begin with 1 again.
                filled = [
                    model
                    for model in apps.get_models(include_auto_created=True)
                    if model._meta.db_table in self.rows.keys() & set(changed)
                ]
                for statement in connection.ops.sequence_reset_sql(no_style(), filled):
                    cursor.execute(statement)
        ContentType.objects.clear_cache()


# A day ends for UTC and for the office at a full hour; few tests take longer.
LAST_HOURS, LAST_S = (21, 22, 23), 20


def seconds_to_a_new_day(now: datetime.datetime) -> int:
    """0 where no day is about to end, in UTC or in Prague (an hour or two before)."""
    is_late = now.hour in LAST_HOURS and now.minute == 59 and now.second >= 60 - LAST_S
    return 60 - now.second if is_late else 0


def _filled(tables: list[str]) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {_quoted(table)})" for table in tables)
        )
        return {name for (name,) in cursor.fetchall()}


def _rows(table: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {_quoted(table)} ORDER BY 1")
        return cursor.fetchall()


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
