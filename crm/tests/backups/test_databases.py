"""What of a database goes into a backup and comes back: PostgreSQL where the suite runs on it, else SQLite."""

import contextlib
import io
import os
import sqlite3
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection

from crm.backups import apart, postgresql, sqlite
from crm.exceptions import DumpFailed, LoadFailed
from crm.tests import factories
from crm.tests.raw import IS_POSTGRES, Database

engine = postgresql if IS_POSTGRES else sqlite
on_postgresql = pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL")
on_sqlite = pytest.mark.skipif(IS_POSTGRES, reason="SQLite")


@pytest.fixture
def elsewhere(tmp_path):
    """A database of its own: `load(bytes)`, then `tables()`."""
    own = Database(tmp_path)
    yield Elsewhere(own)
    own.drop()


class Elsewhere:
    def __init__(self, own: Database):
        self.own = own

    def load(self, dump: bytes) -> None:
        source = io.BufferedReader(io.BytesIO(dump))
        if IS_POSTGRES:
            with self.own.connect() as server:
                postgresql.load(server.cursor(), source)
        else:
            sqlite.load(self.own.file, source)

    def tables(self) -> dict:
        if IS_POSTGRES:
            with self.own.connect() as server:
                return postgresql.tables(server.cursor())
        with contextlib.closing(sqlite.opened(self.own.file)) as reader:
            return sqlite.tables(reader)


NAUGHTY = "a\tb\\N \\. ; 'it''s' \"x\" žluťoučký\r\n\\.\n\n--COPY x FROM stdin;\n\u2028😀"


@pytest.mark.django_db(transaction=True)
def test_a_loaded_dump_has_the_rows_and_digests_of_its_snapshot(elsewhere):
    client = factories.make_client()
    factories.make_case(client=client)
    factories.make_lender(name=NAUGHTY)
    out = io.BytesIO()
    with engine.snapshot() as snapshot:
        known = snapshot.tables()
        snapshot.dump(out)
        assert ["crm", "0001_initial"] in snapshot.migrations()
    elsewhere.load(out.getvalue())
    assert known["crm_client"]["rows"] == 1
    assert elsewhere.tables() == known


@pytest.mark.django_db(transaction=True)
def test_a_snapshot_does_not_see_what_is_written_while_it_is_read(elsewhere):
    factories.make_client()
    out = io.BytesIO()
    with engine.snapshot() as snapshot:
        factories.make_client()
        known = snapshot.tables()
        factories.make_client()
        snapshot.dump(out)
    elsewhere.load(out.getvalue())
    assert known["crm_client"]["rows"] == 1
    assert elsewhere.tables()["crm_client"] == known["crm_client"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE crm_lender SET name = name || ' '",
        "UPDATE crm_lender SET name = '', business_id = name",
        "UPDATE crm_lender SET id = id + 1000",
        "DELETE FROM crm_lender",
    ],
)
def test_a_digest_tells_one_changed_value(change):
    factories.make_lender(name="Bank", business_id="")
    before = here()
    with connection.cursor() as cursor:
        cursor.execute(change)
    after = here()
    assert after.pop("crm_lender") != before.pop("crm_lender")
    assert after == before


def here() -> dict:
    return engine.tables(connection.connection.cursor())


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_ends_the_dump_and_says_so():
    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with engine.snapshot() as snapshot, pytest.raises(OSError, match="No space left"):
        snapshot.dump(Full())


@on_sqlite
@pytest.mark.django_db(transaction=True)
def test_a_snapshot_has_no_name_and_leaves_none():
    folder = os.path.dirname(connection.settings_dict["NAME"])
    name = os.path.basename(connection.settings_dict["NAME"])

    def beside():
        return {each for each in os.listdir(folder) if each.startswith(name)} - {f"{name}-wal", f"{name}-shm"}

    with sqlite.snapshot() as snapshot:
        snapshot.tables()
        assert beside() == {name}
    assert beside() == {name}


@on_sqlite
@pytest.mark.django_db(transaction=True)
def test_a_snapshot_takes_away_the_name_that_a_killed_one_left():
    name = Path(connection.settings_dict["NAME"])
    left, other = name.with_name(f"{name.name}.0f.copy"), name.with_name(f"other {name.name}.0f.copy")
    for path in (left, other):
        path.touch()
    try:
        with sqlite.snapshot():
            assert (left.exists(), other.exists()) == (False, True)
    finally:
        other.unlink()


def test_a_text_that_is_no_utf_8_is_digested(tmp_path):
    (tmp_path / "own.sqlite3").touch()
    with contextlib.closing(sqlite.opened(tmp_path / "own.sqlite3")) as own:
        own.execute("CREATE TABLE t AS SELECT CAST(x'ff41' AS text) AS name")
        assert sqlite.tables(own)["t"]["rows"] == 1


def test_an_error_of_sqlites_is_told_by_its_name():
    with contextlib.closing(sqlite3.connect(":memory:")) as own, pytest.raises(sqlite3.Error) as met:
        own.execute("SELECT 'secret' FROM nowhere")
    error = OperationalError()
    error.__cause__ = met.value
    assert apart.why(error) == "SQLITE_ERROR"


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(sqlite3.OperationalError):
        sqlite.opened(tmp_path / "none.sqlite3")
    assert not list(tmp_path.iterdir())


# --- PostgreSQL ---


@on_postgresql
def test_digests_do_not_depend_on_the_roles_settings_or_the_rows_order(elsewhere):
    with elsewhere.own.connect() as server:
        server.execute("CREATE TABLE t (id int, at timestamptz, ratio float8, raw bytea, day date, note text)")
        server.execute(
            "INSERT INTO t VALUES (1, '2026-01-02 03:04:05.678+01', 0.1 + 0.2, '\\x00ff', '2026-02-01', NULL),"
            "(2, NULL, NULL, NULL, NULL, '')"
        )
        before = postgresql.tables(server.cursor())
    with elsewhere.own.connect() as server:
        for name, value in {
            "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "extra_float_digits": "0", "bytea_output": "escape",
        }.items():  # fmt: skip
            server.execute("SELECT set_config(%s, %s, false)", [name, value])
        server.execute("UPDATE t SET id = id WHERE id = 1")  # now it lies behind the other
        assert postgresql.tables(server.cursor()) == before


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_table_without_columns_is_backed_up_and_its_rows_count(elsewhere):
    out = io.BytesIO()
    with contextlib.closing(postgresql.connected()) as server:
        server.execute("CREATE TABLE bare ()")
        try:
            server.execute("INSERT INTO bare DEFAULT VALUES")
            with postgresql.snapshot() as snapshot:
                one = snapshot.tables()
                snapshot.dump(out)
            server.execute("INSERT INTO bare DEFAULT VALUES")
            with postgresql.snapshot() as snapshot:
                two = snapshot.tables()
        finally:
            server.execute("DROP TABLE bare")
    assert [one["bare"]["rows"], two["bare"]["rows"]] == [1, 2]
    assert one["bare"]["digest"] != two["bare"]["digest"]
    elsewhere.load(out.getvalue())
    assert elsewhere.tables() == one


@on_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("schema", "is_there"), [(postgresql.SCHEMA, False), ("scratch", False), ("scratch", True)])
def test_what_an_index_needs_of_an_extension_comes_along_and_no_other_extension(elsewhere, schema, is_there):
    out = io.BytesIO()
    factories.make_lender(name=NAUGHTY)
    with contextlib.closing(postgresql.connected()) as server:
        server.execute("CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gin")
        try:
            server.execute(
                "CREATE INDEX by_part_of_name ON crm_lender USING gin (name gin_trgm_ops) WHERE name <-> 'a' < 1 OR similarity(name, 'b') > 0"
            )
            with postgresql.snapshot() as snapshot:
                known = snapshot.tables()
                snapshot.dump(out)
        finally:
            server.execute("DROP EXTENSION pg_trgm CASCADE; DROP EXTENSION btree_gin")
    assert b"btree_gin" not in out.getvalue()
    with elsewhere.own.connect() as server:
        server.execute("CREATE SCHEMA scratch")
        if is_there:
            server.execute("CREATE EXTENSION pg_trgm")
        postgresql.load(server.cursor(), io.BytesIO(out.getvalue()), schema)
        assert postgresql.tables(server.cursor(), schema) == known
        assert server.execute("SELECT FROM pg_indexes WHERE indexname = 'by_part_of_name'").fetchall() == [()]


@on_postgresql
@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 64])
def test_rows_end_where_they_end_however_the_blocks_fall(monkeypatch, block):
    monkeypatch.setattr(postgresql, "BLOCK", block)
    script = postgresql._Script(
        io.BytesIO(b"COPY a FROM stdin;\n1\ta\\\\.\n2\t\\\\.\n\\.\n\nCOPY b FROM stdin;\n\\.\nlast;\n")
    )
    assert script.line() == b"COPY a FROM stdin;\n"
    assert b"".join(script.rows()) == b"1\ta\\\\.\n2\t\\\\.\n"
    assert [script.line(), script.line()] == [b"\n", b"COPY b FROM stdin;\n"]
    assert b"".join(script.rows()) == b""
    assert [script.line(), script.line()] == [b"last;\n", b""]


@on_postgresql
def test_rows_without_an_end_are_refused():
    script = postgresql._Script(io.BytesIO(b"1\ta\n2\tb\n"))
    with pytest.raises(LoadFailed):
        list(script.rows())


@on_postgresql
def test_a_dump_of_a_newer_server_loads_where_its_settings_are_unknown(elsewhere):
    elsewhere.load(b"\\restrict x\n\nSET transaction_timeout = 0;\nCREATE TABLE public.t (id int);\n\\unrestrict x\n")
    assert list(elsewhere.tables()) == ["t"]


@on_postgresql
def test_what_cannot_be_loaded_is_told_without_its_value(elsewhere):
    dump = b"CREATE TABLE public.t (id int);\n\nCOPY public.t (id) FROM stdin;\nMrs Novak\n\\.\n"
    with pytest.raises(LoadFailed) as refused:
        elsewhere.load(dump)
    assert "Novak" not in str(refused.value)
    assert "22P02" in str(refused.value)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_schema_is_emptied_of_everything_and_another_is_filled_instead(elsewhere):
    out = io.BytesIO()
    factories.make_lender(name=NAUGHTY)
    with postgresql.snapshot() as snapshot:
        known = snapshot.tables()
        snapshot.dump(out)
    with elsewhere.own.connect() as server:
        cursor = server.cursor()
        cursor.execute(
            "CREATE SCHEMA scratch; CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE old (id serial, mood mood);"
            "CREATE VIEW seen AS SELECT * FROM old; CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        postgresql.load(cursor, io.BytesIO(out.getvalue()), "scratch")
        assert postgresql.tables(cursor, "scratch") == known
        assert list(postgresql.tables(cursor)) == ["old"]
        postgresql.clear(cursor)
        assert not postgresql.tables(cursor)
        postgresql.load(cursor, io.BytesIO(out.getvalue()))
        assert postgresql.tables(cursor) == known


@on_postgresql
def test_a_schema_is_emptied_of_what_is_no_table_too(elsewhere):
    things = (
        'CREATE COLLATION public.cz FROM "C"; CREATE TEXT SEARCH DICTIONARY public.words (TEMPLATE = simple);'
        "CREATE TEXT SEARCH CONFIGURATION public.czech (COPY = simple);"
        "CREATE CONVERSION public.old FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; CREATE TYPE public.mood AS ENUM ('fine');"
        "CREATE FUNCTION public.same(public.mood, public.mood) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        "CREATE OPERATOR public.=== (LEFTARG = public.mood, RIGHTARG = public.mood, FUNCTION = public.same);"
        "CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);"
        'CREATE OPERATOR CLASS public."by Mood" FOR TYPE int USING hash AS OPERATOR 1 public.===(int, int);'
    )
    with elsewhere.own.connect() as server:
        for _ in range(2):
            server.execute(things)
            postgresql.clear(server.cursor())


@on_postgresql
def test_a_function_and_a_text_come_back_with_every_line(elsewhere):
    body = "BEGIN\n  RAISE NOTICE 'it''s';\nSET LOCAL lock_timeout = 0;\n-- why\n\nCOPY a FROM stdin;\nEND;\n"
    text = 'a;\n-- "b\n\nSET c;\n$x$;\n\\.\n'
    dump = (
        f"CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $_$\n{body}$_$;\n\n\n--\n-- Name: it's; Type: TABLE\n--\n\n"
        f'CREATE TABLE public."it\'s" (note text DEFAULT \'{text}\', "a;\n-- b" int);\n\n--\n-- "\n--\n\nSET x = 0;\n'
        'COPY public."it\'s" (note) FROM stdin;\n\\N\n\\.\n\n'
    )
    elsewhere.load(dump.encode())
    with elsewhere.own.connect() as server:
        assert server.execute("SELECT prosrc FROM pg_proc WHERE proname = 'f'").fetchone() == (f"\n{body}",)
        server.execute('INSERT INTO "it\'s" DEFAULT VALUES')
        assert server.execute('SELECT note FROM "it\'s"').fetchall() == [(None,), (text,)]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_pg_dump_that_fails_is_told_in_its_own_words():
    with postgresql.snapshot() as snapshot:
        snapshot._name = "00000000-00000000-1"
        with pytest.raises(DumpFailed, match="snapshot"):
            snapshot.dump(io.BytesIO())


@pytest.mark.parametrize(
    ("tool", "server", "told"), [(None, 15, "missing"), (14, 15, "older"), (15, 15, ""), (17, 15, "")]
)
def test_pg_dump_is_there_and_not_older_than_the_server(tool, server, told):
    trouble = postgresql._trouble(tool, server)
    assert told in trouble
    assert bool(trouble) == bool(told)
    assert not trouble or "postgresql-client-15" in trouble


@on_postgresql
@pytest.mark.django_db
def test_this_machines_pg_dump_is_good_enough():
    assert postgresql.check_tools() == ""


@on_postgresql
@pytest.mark.django_db
def test_tables_in_another_schema_are_told_before_a_backup_is_made_without_them():
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA office; SET LOCAL search_path TO office, public")
        cursor.execute("CREATE TABLE office.not_ours (id int)")
        assert postgresql.check_tools() == ""
        cursor.execute("CREATE TABLE office.crm_client (id int)")
    assert "schema office" in postgresql.check_tools()


@on_postgresql
def test_a_connection_that_fails_is_told_in_the_servers_words():
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(host="127.0.0.1", port=1, dbname="office")
    told = postgresql.told(refused.value)
    assert "port 1 failed" in told
    assert len(told.splitlines()) == 1
