"""What a row is to the seal: canonical values, the same on every engine, and the keyed digests of the row and its fields.

Encrypted columns count as the token that is stored. Nothing here decrypts or writes.
"""

import datetime
import decimal
import functools
import hashlib
import hmac
import json
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError, connection, models
from simple_history.models import HistoricalRecords

from crm.audit.changes import tracked_models
from crm.encryption import fingerprint, is_encrypted
from crm.exceptions import AuditKeyMissing
from crm.models import AuditCheck, AuditEntry

ROW_BYTES, FIELD_BYTES = 16, 8


# What a driver raises for a value that its type cannot hold: a date of PostgreSQL's beyond Python's, broken UTF-8 in SQLite.
UNREADABLE = (DatabaseError, ValueError, ArithmeticError)


@dataclass(frozen=True)
class Strange:
    """What no write of ours left there (SQLite keeps anything anywhere): it differs from every right value."""

    text: str

    @classmethod
    def of(cls, value) -> "Strange":
        return cls(bytes(value).hex() if isinstance(value, bytes | memoryview) else repr(value))


def _told(value) -> dict:
    return {"strange": (value if isinstance(value, Strange) else Strange.of(value)).text}


# ASCII only: what Python calls printable changes with its version, the escapes do not.
canonical_json = json.JSONEncoder(
    ensure_ascii=True, separators=(",", ":"), sort_keys=True, check_circular=False, default=_told
).encode


@dataclass(frozen=True)
class Key:
    text: str

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.text)

    def mac(self, *parts) -> str:
        return hmac.new(self.text.encode(), canonical_json(list(parts)).encode(), hashlib.sha256).hexdigest()

    @functools.cached_property
    def for_rows(self) -> bytes:
        return hmac.new(self.text.encode(), b"digests of rows and fields", hashlib.sha256).digest()


def keys() -> dict[str, Key]:
    """By fingerprint; the first one of AUDIT_KEY seals, the others verify what they sealed. Raises AuditKeyMissing."""
    if not settings.AUDIT_KEYS:
        raise AuditKeyMissing()
    return {key.fingerprint: key for key in map(Key, settings.AUDIT_KEYS)}


def sealing_key() -> Key:
    return next(iter(keys().values()))


# --- Values: as the driver gives them, on SQLite as they are stored. Exact: what Django would read as the same value
# but would not have written so (`1. 3. 2026`, 100.004 of a column with two places) is another value. ---


def _exactly(read, stored: str):
    if str(read) != stored:
        raise ValueError
    return read


def moment(value) -> str:
    if isinstance(value, str):
        value = _exactly(datetime.datetime.fromisoformat(value), value)
        if value.tzinfo is not None:
            raise ValueError
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value.isoformat(timespec="microseconds")


def _date(value) -> str:
    return str(_exactly(datetime.date.fromisoformat(value), value)) if isinstance(value, str) else value.isoformat()


def _time(value) -> str:
    return str(_exactly(datetime.time.fromisoformat(value), value)) if isinstance(value, str) else value.isoformat()


def _uuid(value) -> str:
    return value.hex if isinstance(value, uuid.UUID) else _exactly(uuid.UUID(value).hex, value)


def _json(value) -> str:
    read = json.loads(value, parse_float=lambda text: float(_exactly(float(text), text)))
    if connection.vendor == "sqlite":  # PostgreSQL keeps the value, not the text
        _exactly(json.dumps(read), value)
    return canonical_json(read)


def _boolean(value):
    return bool(value) if value in (0, 1) else value


def _bytes(value) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    raise TypeError


def _decimal(places: int, digits: int) -> Callable[[object], str]:
    exact, context = decimal.Decimal(1).scaleb(-places), decimal.Context(prec=max(15, digits))

    def convert(value) -> str:
        if isinstance(value, float):  # SQLite's numbers, rounded as Django reads them
            read = context.create_decimal_from_float(value).quantize(exact, context=context)
            if float(read) != value:
                raise ValueError
            value = read
        elif not isinstance(value, int | decimal.Decimal):
            raise TypeError
        value = decimal.Decimal(value)
        return format(value.normalize() if value else decimal.Decimal(0), "f")

    return convert


def _converter(field: models.Field) -> Callable[[object], object] | None:
    """From what the driver gives to a value of JSON; None where the two are the same."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if is_encrypted(field):
        return None
    match field:
        case models.DateTimeField():
            return moment
        case models.DateField():
            return _date
        case models.TimeField():
            return _time
        case models.UUIDField():
            return _uuid
        case models.JSONField():
            return _json
        case models.BooleanField():
            return _boolean
        case models.BinaryField():
            return _bytes
        case models.DecimalField():
            return _decimal(field.decimal_places, field.max_digits)
    return None


# --- Tables ---


class Table:
    """A table that is sealed."""

    def __init__(self, model: type[models.Model], without: Iterable[str] = ()):
        self.model = model
        self.name = model._meta.db_table
        self.key = model._meta.pk.column
        self.fields = {field.column: field for field in model._meta.concrete_fields if field.name not in without}
        self.columns = [self.key, *(column for column in self.fields if column != self.key)]

    def top(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT max({self._quoted(self.key)}) FROM {self._quoted(self.name)}")  # noqa: S608
            return cursor.fetchone()[0] or 0

    def count_after(self, last: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT count(*) FROM {self._quoted(self.name)} WHERE {self._quoted(self.key)} > %s",  # noqa: S608
                [last],
            )
            return cursor.fetchone()[0]

    def rows(self, columns: list[str], first: int | None, last: int | None, limit: int | None = None) -> list[list]:
        """Canonical values of the rows from `first` (None: the very first) to `last` (None: the very last), by key."""
        bounds = {f"{self._quoted(self.key)} {sign} %s": end for sign, end in ((">=", first), ("<=", last))}
        bounds = {bound: end for bound, end in bounds.items() if end is not None}
        return self._read(columns, " AND ".join(bounds) or "1 = 1", list(bounds.values()), limit)

    def rows_of(self, columns: list[str], ids: Iterable[int]) -> list[list]:
        ids = list(ids)
        marks = ", ".join(["%s"] * len(ids))
        return self._read(columns, f"{self._quoted(self.key)} IN ({marks})", ids) if ids else []

    def rows_where(self, columns: list[str], column: str, value, *, sign: str = "=") -> list[list]:
        return self._read(columns, f"{self._quoted(column)} {sign} %s", [value])

    def newest(self, columns: list[str], count: int) -> list[list]:
        """The last ones, newest first."""
        key = self._quoted(self.key)
        last = f"SELECT {key} FROM {self._quoted(self.name)} ORDER BY {key} DESC LIMIT {int(count)}"  # noqa: S608
        return self._read(columns, f"{key} IN ({last})", [])[::-1]

    def _read(self, columns, where: str, parameters: list, limit: int | None = None) -> list[list]:
        try:
            return self._converted(columns, where, parameters, limit)
        except UNREADABLE:
            keys = [key for (key,) in self._select([self._quoted(self.key)], where, parameters, limit)]
            return self._narrowed(columns, keys)

    def _narrowed(self, columns: list[str], keys: list) -> list[list]:
        """Where the driver cannot take some value of these rows: half of them and half of those, down to the values of the
        one row, so that it alone is strange."""
        if len(keys) < 2:
            return [[self._value(column, key) for column in columns] for key in keys]
        found, middle = [], len(keys) // 2
        for half in (keys[:middle], keys[middle:]):
            try:
                marks = ", ".join(["%s"] * len(half))
                found += self._converted(columns, f"{self._quoted(self.key)} IN ({marks})", half)
            except UNREADABLE:
                found += self._narrowed(columns, half)
        return found

    def _value(self, column: str, key):
        where = f"{self._quoted(self.key)} = %s"
        try:
            return self._converted([column], where, [key])[0][0]
        except UNREADABLE:
            raw = "text" if connection.vendor == "postgresql" else "blob"
            return Strange.of(self._select([f"CAST({self._quoted(column)} AS {raw})"], where, [key])[0][0])

    def _converted(self, columns, where: str, parameters: list, limit: int | None = None) -> list[list]:
        # With a sign SQLite gives what is stored: Django's own reading of a column takes what is no date for none at all.
        sign = "+" if connection.vendor == "sqlite" else ""
        rows = self._select([f"{sign}{self._quoted(column)}" for column in columns], where, parameters, limit)
        converters = [(at, _converter(self.fields[column])) for at, column in enumerate(columns)]
        for at, convert in converters:
            for row in rows if convert else ():
                if row[at] is not None:
                    try:
                        row[at] = convert(row[at])
                    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError):
                        row[at] = Strange.of(row[at])
        return rows

    def _select(self, what: list[str], where: str, parameters: list, limit: int | None = None) -> list[list]:
        key = self._quoted(self.key)
        select = f"SELECT {', '.join(what)} FROM {self._quoted(self.name)} WHERE {where} ORDER BY {key}"  # noqa: S608
        with connection.cursor() as cursor:
            cursor.execute(f"{select} LIMIT {int(limit)}" if limit else select, parameters)
            return list(map(list, cursor.fetchall()))

    _quoted = staticmethod(connection.ops.quote_name)


@functools.cache
def sealed_tables() -> dict[str, Table]:
    """By name: the history of every tracked model, of its many-to-many fields, the audit trail but its counts, which are kept
    for speed and written later (verification compares them with the rows), and the verifications."""
    found = []
    for model in tracked_models():
        found.append(Table(model.history.model))
        found += [Table(HistoricalRecords.m2m_models[field]) for field in model.history.model._history_m2m_fields]
    found += [Table(AuditEntry, without=["counts"]), Table(AuditCheck)]
    return {table.name: table for table in found}


# --- Digests ---


class Digester:
    """Digests of rows of one table and set of columns, the first of which is the key. A digest is bound to the table,
    the columns and, because the key is among them, to the row."""

    def __init__(self, key: Key, table: str, columns: list[str]):
        self.columns = columns
        self._row = hashlib.blake2b(canonical_json([table, columns]).encode(), key=key.for_rows, digest_size=ROW_BYTES)
        self._fields = [
            hashlib.blake2b(canonical_json([table, column]).encode(), key=key.for_rows, digest_size=FIELD_BYTES)
            for column in columns
        ]
        self._record = struct.Struct(f">q{ROW_BYTES}s{FIELD_BYTES * len(columns)}s")

    def row(self, values: list) -> bytes:
        digest = self._row.copy()
        digest.update(canonical_json(values).encode())
        return digest.digest()

    def fields(self, values: list) -> list[bytes]:
        found = []
        for state, value in zip(self._fields, values, strict=True):
            digest = state.copy()
            digest.update(canonical_json([values[0], value]).encode())
            found.append(digest.digest())
        return found

    def pack(self, rows: Iterable[list]) -> bytes:
        return b"".join(
            self._record.pack(values[0], self.row(values), b"".join(self.fields(values))) for values in rows
        )

    def unpack(self, packed: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """Id, digest of the row, digests of its fields one after another. Raises struct.error where it is no record."""
        return self._record.iter_unpack(packed)


def split_fields(packed: bytes) -> list[bytes]:
    return [packed[at : at + FIELD_BYTES] for at in range(0, len(packed), FIELD_BYTES)]


def block_digest(columns: str, digests: bytes) -> str:
    return hashlib.sha256(columns.encode() + b"\0" + digests).hexdigest()
