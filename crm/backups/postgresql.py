"""What of a PostgreSQL database goes into a backup, and how it comes back.

The dump is the plain SQL of pg_dump, so it is loaded through a connection of ours, inside whatever transaction that is in:
no pg_restore, no right but the target's. Only what lies in the schema public is the office's."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import BinaryIO

import psycopg
from django.db import connection
from django.db.backends.postgresql.client import DatabaseClient
from django.utils.translation import gettext as _
from psycopg import sql

from crm.backups import room
from crm.exceptions import DumpFailed, LoadFailed

SCHEMA = "public"
BLOCK = 1 << 20
# So that stored values have one text, whatever the role or the database is set to; and a transaction may wait for pg_dump.
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
# All that pg_dump is given: where it and its libraries lie, and how the server is reached. No key of the office's is among it.
ENVIRONMENT = {"HOME", "LANG", "OPENSSL_CONF", "PATH", "PERL5LIB", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ"}
ENVIRONMENT_OF = ("KRB5", "LC_", "LD_", "PG")
# The first pg_dump that can be told which extensions to take along.
KNOWS_EXTENSIONS = 14
# Seconds that pg_dump, or who drops tables, waits for who holds them.
PATIENCE_S = 60
# Of the locks that have numbers, the one of who restores into a database.
RESTORES = 0x7265_7374_6F72_6500
# Their text has no comma, and none of them is empty: what stands between two commas is one value, or none.
PLAIN_TYPES = {
    "bigint", "integer", "smallint", "boolean", "date", "numeric", "real", "double precision", "uuid", "bytea", "inet",
    "timestamp with time zone", "timestamp without time zone", "time without time zone", "interval",
}  # fmt: skip
# Of a function's arguments PostgreSQL takes a hundred.
ARGUMENTS = 90


def check_tools() -> str:
    """Empty, or what is in the way of a backup and what cures it: pg_dump, or tables that it would leave out. Asks the server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10_000
        elsewhere = _schema_elsewhere(cursor)
    return _trouble(_tool_version(), server) or elsewhere


def _schema_elsewhere(cursor) -> str:
    """A search_path, or a schema named as the role is, may lead Django to other tables than those of a dump."""
    cursor.execute(
        """
        SELECT min(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relname = ANY(%s) AND n.nspname <> %s AND pg_table_is_visible(c.oid)
        """,
        [["django_migrations", *connection.introspection.django_table_names()], SCHEMA],
    )
    schema = cursor.fetchone()[0]
    if schema is None:
        return ""
    return _(
        "The office's tables are in the schema %(schema)s, and a backup takes those of the schema public only, so none is made. "
        "Move them: ALTER TABLE ... SET SCHEMA public."
    ) % {"schema": schema}


def _tool_version() -> int | None:
    """None without one, 0 of one that does not start."""
    if shutil.which("pg_dump") is None:
        return None
    try:
        told = subprocess.run(["pg_dump", "--version"], capture_output=True, text=True, check=False, env=_environment())  # noqa: S607
    except OSError:
        return 0
    found = re.search(r"\) (\d+)", told.stdout)
    return int(found[1]) if found else 0


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in ENVIRONMENT or name.startswith(ENVIRONMENT_OF)}


def _trouble(tool: int | None, server: int) -> str:
    words = {"server": server, "tool": tool}
    if tool is None:
        return (
            _("pg_dump is missing, so no backup can be made. Install the package postgresql-client-%(server)s.") % words
        )
    if not tool:
        return _(
            "pg_dump does not start, so no backup can be made. See what pg_dump --version says; where something of it is missing, "
            "install the package postgresql-client-%(server)s anew."
        ) % words  # fmt: skip
    if tool < server:
        return _(
            "pg_dump %(tool)s is older than the server, which is %(server)s, so no backup can be made. "
            "Install the package postgresql-client-%(server)s."
        ) % words  # fmt: skip
    return ""


# --- Out ---


@contextlib.contextmanager
def snapshot() -> Iterator["Snapshot"]:
    """Of the default database, on a connection of its own: whatever is read of it is of one moment. Blocks no writer."""
    with connected() as own, own.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        yield Snapshot(cursor, cursor.fetchone()[0])


def connected() -> psycopg.Connection:
    """To the default database, past Django and its pool; autocommit."""
    known = connection.get_connection_params()
    for name in ("cursor_factory", "context"):
        known.pop(name, None)
    return psycopg.connect(**known, autocommit=True)


class Snapshot:
    def __init__(self, cursor: psycopg.Cursor, name: str):
        self._cursor, self._name = cursor, name

    def tables(self) -> dict[str, dict]:
        return tables(self._cursor)

    def migrations(self) -> list[list[str]]:
        return migrations(self._cursor)

    def server_version(self) -> str:
        return str(self._cursor.execute("SHOW server_version").fetchone()[0])

    def _extensions(self) -> list[str]:
        """That something of ours is built with, such as an index for searching; others need not be where it is restored."""
        if (_tool_version() or 0) < KNOWS_EXTENSIONS:
            return []
        self._cursor.execute(
            """
            SELECT DISTINCT e.extname
            FROM pg_extension e
            JOIN pg_depend part ON part.refclassid = 'pg_extension'::regclass AND part.refobjid = e.oid AND part.deptype = 'e'
            JOIN pg_depend d ON d.refclassid = part.classid AND d.refobjid = part.objid AND d.deptype IN ('n', 'a')
            LEFT JOIN pg_attrdef value ON d.classid = 'pg_attrdef'::regclass AND value.oid = d.objid
            LEFT JOIN pg_trigger tr ON d.classid = 'pg_trigger'::regclass AND tr.oid = d.objid
            JOIN pg_class c ON c.oid = coalesce(value.adrelid, tr.tgrelid, CASE d.classid WHEN 'pg_class'::regclass THEN d.objid END)
            WHERE c.relnamespace = %s::regnamespace AND NOT EXISTS (
                SELECT FROM pg_depend o WHERE o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.deptype = 'e')
            """,
            [SCHEMA],
        )
        return sorted(name for (name,) in self._cursor.fetchall())

    def dump(self, out: BinaryIO) -> None:
        """Raises DumpFailed; what `out` raises ends pg_dump."""
        settings_dict = connection.settings_dict
        options = [
            f"--snapshot={self._name}", f"--schema={SCHEMA}", f"--lock-wait-timeout={PATIENCE_S}s", "--encoding=UTF8",
            "--format=plain", "--no-owner", "--no-privileges", "--no-comments", "--no-security-labels",
            "--no-tablespaces", "--no-publications", "--no-subscriptions", "--no-password",
            *(f'--extension="{name}"' for name in self._extensions()),
        ]  # fmt: skip
        arguments, environment = DatabaseClient.settings_to_cmd_args_env(settings_dict, options)
        arguments[0] = "pg_dump"
        try:
            process = subprocess.Popen(  # noqa: S603
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment() | (environment or {}),
            )
        except FileNotFoundError as error:
            raise DumpFailed(why=_("pg_dump is missing.")) from error
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.extend(process.stderr.readlines(BLOCK)), daemon=True)
        listener.start()
        try:
            while block := process.stdout.read(BLOCK):
                out.write(block)
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
            listener.join()
            process.stderr.close()
        if code:
            raise DumpFailed(why=b"".join(said[:1]).decode(errors="replace").strip() or code)


# --- What is there ---


def tables(cursor, schema: str = SCHEMA) -> dict[str, dict]:
    """Of each table the number of its rows and a digest of their values, whatever their order. One pass over each, in the
    server; leaves the transaction with SETTINGS. The hash is the one that PostgreSQL keeps stable for its hash partitions, twice with
    different seeds, summed: it finds what was lost or bent on the way; against who means to deceive stands the archive's own seal.
    """
    use_settings(cursor)
    return {name: _digest(cursor, schema, name, columns) for name, columns in _columns(cursor, schema).items()}


def names(cursor, schema: str = SCHEMA) -> list[str]:
    return list(_columns(cursor, schema))


def other_sessions(cursor) -> int:
    """Of this role, or of whoever is at a table of ours."""
    cursor.execute(
        """
        SELECT count(*) FROM pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
        AND (a.usename = current_user OR EXISTS (
            SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE l.pid = a.pid AND l.locktype = 'relation' AND n.nspname = %s))
        """,
        [SCHEMA],
    )
    return cursor.fetchone()[0]


def silent_s(cursor) -> float | None:
    """Since a worker's last beat; None where there never was one."""
    if "crm_heartbeat" not in names(cursor):
        return None
    cursor.execute("SELECT extract(epoch FROM now() - max(at))::float FROM crm_heartbeat")
    return cursor.fetchone()[0]


def use_settings(cursor) -> None:
    """For the rest of the transaction."""
    for name, value in SETTINGS.items():
        cursor.execute("SELECT set_config(%s, %s, true)", [name, value])


def _columns(cursor, schema: str) -> dict[str, list[tuple[str, str]]]:
    """Of each table of ours the columns and their types, as they lie."""
    cursor.execute(
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY c.relname COLLATE "C", a.attnum
        """,
        [schema],
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in cursor.fetchall():
        found.setdefault(table, []).extend([(column, kind)] if column else [])
    return found


def _digest(cursor, schema: str, table: str, columns: list[tuple[str, str]]) -> dict:
    text = sql.SQL("concat({})")
    plain = [(name, kind) for name, kind in columns if kind in PLAIN_TYPES]
    others = [name for name, kind in columns if kind not in PLAIN_TYPES]
    parts = [sql.SQL("{}, ','").format(sql.Identifier(name)) for name, _kind in plain]
    # How long each text is says where it ends; of none there is nothing between the commas.
    parts += [sql.SQL("octet_length({}::text), ','").format(sql.Identifier(name)) for name in others]
    parts += [sql.SQL("{}").format(sql.Identifier(name)) for name in others]
    groups = [
        text.format(sql.SQL(", ").join(parts[at : at + ARGUMENTS // 2])) for at in range(0, len(parts), ARGUMENTS // 2)
    ]
    query = sql.SQL(
        "SELECT count(*), sum(hashtextextended(row_text, 1)), sum(hashtextextended(row_text, 2)) "
        'FROM (SELECT ({}) COLLATE "C" AS row_text FROM {} OFFSET 0) AS texts'
    ).format(sql.SQL(" || ").join(groups or [sql.SQL("''")]), sql.Identifier(schema, table))
    cursor.execute(query.as_string(None))
    rows, *sums = cursor.fetchone()
    told = [[name for name, _kind in [*plain, *((name, "") for name in others)]], rows]
    told += [int(each or 0) for each in sums]
    return {"rows": rows, "digest": hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}


def migrations(cursor) -> list[list[str]]:
    cursor.execute("SELECT app, name FROM django_migrations ORDER BY id")
    return [list(row) for row in cursor.fetchall()]


# --- In ---

# What is pg_dump's own client's, would outlast the load, or is there already. A newer server's settings are unknown to an
# older one.
_SKIPPED = re.compile(rb"\\|--|SET |SELECT pg_catalog\.set_config\(|CREATE SCHEMA ")
_COPY = re.compile(rb"COPY .* FROM stdin;\n")
_END = b"\\.\n"
_QUOTE = re.compile(rb"'|\"|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$")
_OWN_NAME = re.compile(rb'\bpublic(?=\.(?:"([^"]+)"|(\w+|[^\w\s"(),;]+)))|(?<= WITH SCHEMA )public(?=;)')
_LOADING = {"check_function_bodies": "off", "client_min_messages": "warning", "maintenance_work_mem": "128MB"}


def load(cursor: psycopg.Cursor, source: BinaryIO, schema: str = SCHEMA) -> None:
    """Runs a dump into the schema, which has none of its tables, in the transaction that is open. Some MiB of memory.
    Raises NoRoom, LoadFailed, which never tells a value."""
    try:
        for name, value in (_LOADING | SETTINGS).items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
        _run(cursor, _Script(source), schema)
    except psycopg.Error as error:
        raise room.lacking(error) or LoadFailed(why=told(error)) from error


def told(error: psycopg.Error) -> str:
    """Without the values that PostgreSQL may quote."""
    if error.diag.sqlstate is None:
        # The client's own: of a connection that fails it says which and why, and no value was sent.
        return " ".join(str(error).split()) if isinstance(error, psycopg.OperationalError) else type(error).__name__
    is_about_values = error.diag.sqlstate.startswith("22")
    return f"{'' if is_about_values else error.diag.message_primary} ({error.diag.sqlstate})".strip()


def _names_of_extensions(cursor: psycopg.Cursor) -> set[bytes]:
    """Of the schema public: where an extension is there already, no second one is made elsewhere."""
    cursor.execute(
        """
        SELECT coalesce(p.proname, t.typname, o.opcname, x.oprname)
        FROM pg_depend d
        LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.pronamespace = %(schema)s::regnamespace
        LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid AND t.typnamespace = %(schema)s::regnamespace
        LEFT JOIN pg_opclass o ON d.classid = 'pg_opclass'::regclass AND o.oid = d.objid AND o.opcnamespace = %(schema)s::regnamespace
        LEFT JOIN pg_operator x ON d.classid = 'pg_operator'::regclass AND x.oid = d.objid AND x.oprnamespace = %(schema)s::regnamespace
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        """,
        {"schema": SCHEMA},
    )
    return {name.encode() for (name,) in cursor.fetchall() if name}


def _run(cursor: psycopg.Cursor, script: "_Script", schema: str) -> None:
    shared = set() if schema == SCHEMA else _names_of_extensions(cursor)

    def place(found: re.Match) -> bytes:
        return found[0] if (found[1] or found[2]) in shared else b'"%s"' % schema.encode()

    def placed(statements: bytes) -> bytes:
        return statements if schema == SCHEMA else _OWN_NAME.sub(place, statements)

    statements: list[bytes] = []
    quote = b""
    while line := script.line():
        # At the beginning of a statement only: a literal or a function may hold such a line.
        begins = not quote and (not statements or statements[-1].endswith(b";\n"))
        if begins and _COPY.fullmatch(line):
            _execute(cursor, placed(b"".join(statements)))
            statements.clear()
            with cursor.copy(placed(line)) as copy:
                for block in script.rows():
                    copy.write(block)
        elif not (begins and (line == b"\n" or _SKIPPED.match(line))):
            statements.append(line)
            quote = _quote_after(line, quote)
    _execute(cursor, placed(b"".join(statements)))


def _quote_after(line: bytes, quote: bytes) -> bytes:
    """Which is open at a line's end, where that one was at its beginning."""
    at = 0
    while True:
        if not quote:
            found = _QUOTE.search(line, at)
            if not found:
                return b""
            quote, at = found[0], found.end()
        end = line.find(quote, at)
        if end < 0:
            return quote
        quote, at = b"", end + len(quote)


def _execute(cursor: psycopg.Cursor, statements: bytes) -> None:
    if statements:
        cursor.execute(statements)


class _Script:
    """A dump, read in blocks: statements by the line, rows as they come."""

    def __init__(self, source: BinaryIO):
        self._source, self._read = source, io.BytesIO()

    def line(self) -> bytes:
        """With its end; empty where there is no more."""
        line = self._read.readline()
        return line if line.endswith(b"\n") else line + self._source.readline()

    def rows(self) -> Iterator[bytes]:
        """Up to the line that ends them, which is left out. Raises LoadFailed where there is none."""
        held, is_first = self._read.read(), True
        while True:
            at = 0 if is_first and held.startswith(_END) else held.find(b"\n" + _END) + 1
            if at or (is_first and held.startswith(_END)):
                self._read = io.BytesIO(held[at + len(_END) :])
                if at:
                    yield held[:at]
                return
            # What may be the beginning of the end waits for the next block.
            if len(held) > 2 * len(_END):
                yield held[: -len(_END)]
                held, is_first = held[-len(_END) :], False
            block = self._source.read(BLOCK)
            if not block:
                raise LoadFailed(why=_("the dump is cut off"))
            held += block


def settle(cursor: psycopg.Cursor, schema: str = SCHEMA) -> None:
    """After a load, for what comes in the same transaction: no constraint waits for its end, since nothing could alter a table
    then; and the planner knows the tables."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    tables = sql.SQL(", ").join(sql.Identifier(schema, name) for name in names(cursor, schema))
    cursor.execute(sql.SQL("ANALYZE {}").format(tables))


def be_the_only_restore(cursor) -> None:
    """To the end of the transaction. Waits for another's end."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [RESTORES])


def wait_for_restores(cursor) -> None:
    """One that was killed while it committed may still do so."""
    cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [RESTORES])


def take(cursor: psycopg.Cursor, tables: list[str]) -> None:
    """From here to the end of the transaction nobody else reads or writes them. Waits a minute for who is at one, then raises
    psycopg's LockNotAvailable."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{PATIENCE_S}s"])
    named = sql.SQL(", ").join(sql.Identifier(SCHEMA, name) for name in tables)
    cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(named))


def hangers_on(cursor) -> list[str]:
    """What lies in other schemas, or publishes a table, would go with what is in the office's, and is in no backup. Temporary
    tables go anyway."""
    cursor.execute(
        """
        SELECT DISTINCT coalesce(v.identity, told.identity)
        FROM pg_depend d
        JOIN pg_identify_object(d.refclassid, d.refobjid, 0) AS ours ON ours.schema = %(schema)s
        JOIN pg_identify_object(d.classid, d.objid, 0) AS told ON true
        LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
        LEFT JOIN pg_identify_object('pg_class'::regclass, w.ev_class, 0) AS v ON true
        LEFT JOIN pg_constraint f ON d.classid = 'pg_constraint'::regclass AND f.oid = d.objid
        LEFT JOIN pg_attrdef value ON d.classid = 'pg_attrdef'::regclass AND value.oid = d.objid
        LEFT JOIN pg_trigger tr ON d.classid = 'pg_trigger'::regclass AND tr.oid = d.objid
        LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
        LEFT JOIN pg_class c ON c.oid = coalesce(w.ev_class, nullif(f.conrelid, 0), value.adrelid, tr.tgrelid, p.polrelid)
        LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE d.deptype IN ('n', 'a') AND coalesce(n.nspname, told.schema, '') !~ '^pg_temp'
        AND (coalesce(n.nspname, told.schema) <> %(schema)s OR d.classid = 'pg_publication_rel'::regclass) AND NOT EXISTS (
            SELECT FROM pg_depend e WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')
        ORDER BY 1
        """,
        {"schema": SCHEMA},
    )
    return [name for (name,) in cursor.fetchall()]


def grants(cursor) -> set[tuple[str, str, str]]:
    """Who else may do what with which of the office's tables, columns and sequences; no backup knows it."""
    cursor.execute(
        """
        SELECT coalesce(r.rolname, 'PUBLIC'), a.privilege_type, c.relname
        FROM (
            SELECT oid, relname, relnamespace, relowner, relacl FROM pg_class
            UNION ALL SELECT attrelid, relname, relnamespace, relowner, attacl FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
        ) AS c (oid, relname, relnamespace, relowner, acl), aclexplode(c.acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE c.relnamespace = %s::regnamespace AND a.grantee <> c.relowner
        """,
        [SCHEMA],
    )
    return set(cursor.fetchall())


def clear(cursor: psycopg.Cursor, schema: str = SCHEMA) -> None:
    """Drops whatever is in the schema but what belongs to an extension."""
    cursor.execute(
        """
        WITH extended AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'), things AS (
            SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind,
                format('%%I.%%I', n.nspname, c.relname) AS name, c.tableoid, c.oid, c.relkind NOT IN ('r', 'p') AS later
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
            UNION ALL
            SELECT 'ROUTINE', p.oid::regprocedure::text, p.tableoid, p.oid, true
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %(schema)s
            UNION ALL
            SELECT 'TYPE', format('%%I.%%I', n.nspname, t.typname), t.tableoid, t.oid, true
            FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
            WHERE n.nspname = %(schema)s AND t.typtype IN ('e', 'd', 'r')
            UNION ALL
            SELECT upper(told.type), told.identity, other.*, true
            FROM (
                SELECT tableoid, oid FROM pg_ts_config UNION ALL SELECT tableoid, oid FROM pg_ts_dict
                UNION ALL SELECT tableoid, oid FROM pg_collation UNION ALL SELECT tableoid, oid FROM pg_conversion
                UNION ALL SELECT tableoid, oid FROM pg_operator
                UNION ALL SELECT tableoid, oid FROM pg_opclass UNION ALL SELECT tableoid, oid FROM pg_opfamily
            ) AS other, pg_identify_object(other.tableoid, other.oid, 0) AS told
            WHERE told.schema = %(schema)s)
        SELECT kind, name FROM things WHERE (tableoid, oid) NOT IN (SELECT classid, objid FROM extended) ORDER BY later, name
        """,
        {"schema": schema},
    )
    for kind, name in cursor.fetchall():
        cursor.execute(f"DROP {kind} IF EXISTS {name} CASCADE".encode())
