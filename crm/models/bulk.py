"""Many rows into one table as fast as the database takes them: COPY on PostgreSQL, executemany elsewhere.

What bulk_create costs is SQL of hundreds of thousands of parameters, and a model instance a row. Nothing is returned, no
signal, no history, no search token: for rows that bring their keys (`reserve_keys`) or that nobody points at.
"""

import datetime
import decimal
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from django.db import connection, models

from crm.encryption import is_encrypted

CHUNK = 5000
# COPY takes these as they are; whatever else goes through its field.
PLAIN = {type(None), bool, int, str, bytes, datetime.date, datetime.datetime, decimal.Decimal, uuid.UUID}

# Of a whole column; SQLite's other types are texts of the field's making.
AS_THEY_ARE = {"postgresql": PLAIN, "sqlite": {type(None), int, str, bytes}}


def insert_rows(model: type[models.Model], names: list[str], rows: Iterable[tuple]) -> None:
    """`names` are attribute names (`case_id`), `rows` tuples of stored values in their order, as `stored` gives them."""
    quote = connection.ops.quote_name
    columns = [quote(model._meta.get_field(name).column) for name in names]
    target = f"{quote(model._meta.db_table)} ({', '.join(columns)})"
    # A chunk is whole before the database hears of it: rows may come from a query, which has no place inside a COPY.
    chunks = itertools.batched(rows, CHUNK)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for chunk in chunks:
                with cursor.copy(f"COPY {target} FROM STDIN") as copy:
                    for row in chunk:
                        copy.write_row(row)
            return
        statement = f"INSERT INTO {target} VALUES ({', '.join(['%s'] * len(names))})"  # noqa: S608 - no value in it
        for chunk in chunks:
            cursor.executemany(statement, chunk)


def refresh_statistics(*tables: type[models.Model]) -> None:
    """After many rows, or else PostgreSQL plans for the table as it was: for a minute, and for ever where nothing analyses."""
    if connection.vendor == "postgresql":
        names = ", ".join(connection.ops.quote_name(table._meta.db_table) for table in tables)
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {names}")


def stored(model: type[models.Model], names: list[str]) -> Callable[[str, object], object]:
    """A function of attribute name and value: what the column holds of it. Encrypts where the field does."""
    fields = {name: model._meta.get_field(name) for name in names}
    plain = {name for name, field in fields.items() if connection.vendor == "postgresql" and not is_encrypted(field)}

    def convert(name: str, value: object) -> object:
        if value is None or value == "" or (name in plain and type(value) in PLAIN):
            return value
        return fields[name].get_db_prep_save(value, connection)

    return convert


def insert_columns(model: type[models.Model], columns: dict[str, Sequence]) -> None:
    """Plain values by attribute name, a list for each column, all of one length. What is to be encrypted is encrypted
    together, which is three times as fast as one by one."""
    insert_stored(model, stored_columns(model, columns))


def insert_stored(model: type[models.Model], columns: dict[str, Sequence]) -> None:
    """As `insert_columns`, of what `stored_columns` made."""
    insert_rows(model, list(columns), zip(*columns.values(), strict=True))


def stored_columns(model: type[models.Model], columns: dict[str, Sequence]) -> dict[str, Sequence]:
    return {name: _stored_column(model, name, values) for name, values in columns.items()}


def ahead[T](made: Iterator[T]) -> Iterator[T]:
    """The next one is made in a thread while this one is worked on: one side waits for the database, the other needs the
    processor. None ends it."""
    with ThreadPoolExecutor(1) as maker:
        waits = maker.submit(next, made, None)
        while (one := waits.result()) is not None:
            waits = maker.submit(next, made, None)
            yield one


def update_rows(model: type[models.Model], rows: Mapping[object, Mapping[str, object]]) -> None:
    """Writes into each row, by its key, the plain values of its own columns, by attribute name; the other columns stay,
    token for token. On PostgreSQL the values are staged in a temporary table and merged by one statement, elsewhere it is
    a statement a row. Callers hold the rows' locks, and record and index what they changed."""
    columns: dict[str, dict] = {}
    for key, values in rows.items():
        for name, value in values.items():
            columns.setdefault(name, {})[key] = value
    for name, values in columns.items():
        columns[name] = dict(zip(values, _stored_column(model, name, list(values.values())), strict=True))
    if not columns:
        return
    if connection.vendor == "postgresql":
        _stage_and_merge(model, rows, columns)
    else:
        _update_each(model, rows, columns)


def _stage_and_merge(model, rows: Mapping, columns: dict[str, dict]) -> None:
    quote = connection.ops.quote_name
    table, key = quote(model._meta.db_table), quote(model._meta.pk.column)
    names = [quote(model._meta.get_field(name).column) for name in columns]
    # Which of its columns a row gives; NULL may be one of the values.
    given = ", ".join(f"{name} = CASE WHEN s.given & {1 << at} <> 0 THEN s.{name} ELSE t.{name} END"
                      for at, name in enumerate(names))  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE staged ON COMMIT DROP AS "  # noqa: S608 - no value in it
            f"SELECT {', '.join([key, *names])}, 0::bigint given FROM {table} WITH NO DATA"
        )
        with cursor.copy("COPY staged FROM STDIN") as copy:
            for pk in rows:
                values = [column.get(pk) for column in columns.values()]
                bits = sum(1 << at for at, column in enumerate(columns.values()) if pk in column)
                copy.write_row([pk, *values, bits])
        cursor.execute(f"UPDATE {table} t SET {given} FROM staged s WHERE t.{key} = s.{key}")  # noqa: S608
        cursor.execute("DROP TABLE staged")


def _update_each(model, rows: Mapping, columns: dict[str, dict]) -> None:
    quote = connection.ops.quote_name
    alike: dict[tuple, list] = {}
    for key, values in rows.items():
        alike.setdefault(tuple(values), []).append(key)
    with connection.cursor() as cursor:
        for names, keys in alike.items():
            if not names:
                continue
            assignments = ", ".join(f"{quote(model._meta.get_field(name).column)} = %s" for name in names)
            cursor.executemany(
                f"UPDATE {quote(model._meta.db_table)} SET {assignments} "  # noqa: S608 - no value in it
                f"WHERE {quote(model._meta.pk.column)} = %s",
                [(*(columns[name][key] for name in names), key) for key in keys],
            )


def _stored_column(model: type[models.Model], name: str, values: Sequence) -> Sequence:
    field = model._meta.get_field(name)
    if is_encrypted(field):
        return field.prepare_many(values)
    if not isinstance(field, models.JSONField) and set(map(type, values)) <= AS_THEY_ARE[connection.vendor]:
        return values
    convert = stored(model, [name])
    return [convert(name, value) for value in values]


def reserve_keys(model: type[models.Model], count: int) -> Sequence[int]:
    """Primary keys for rows about to be written, as a range where nobody took any in between. Inside a transaction: SQLite's
    write lock is what keeps them ours."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT min(key), max(key), CASE WHEN max(key) - min(key) >= %s THEN array_agg(key ORDER BY key) END "
                "FROM (SELECT nextval(name) FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass OFFSET 0) AS found (name), "
                "generate_series(1, %s)) AS given (key)",
                [count, connection.ops.quote_name(table), model._meta.pk.column, count],
            )
            first, last, keys = cursor.fetchone()
            return keys or (range(first, last + 1) if count else ())
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        found = cursor.fetchone()
        first = (found[0] if found else 0) + 1
        return range(first, first + count)
