"""The readers of the environment and of data/.env: what they take, and what they say about the rest."""

import base64
import fcntl
import os
import secrets
import stat
import subprocess
import sys
import threading
import warnings

import pytest
from django.core.exceptions import ImproperlyConfigured

from crm.tests.raw import ROOT, environment, run
from project import env

RAW_KEY = bytes(range(32, 64))
FERNET = base64.urlsafe_b64encode(RAW_KEY).decode()


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    """An environment in which nothing of ours is set."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "data" / ".env"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / ".env"


# --- One value ---


def test_a_value_is_stripped_and_an_empty_one_is_none(monkeypatch):
    monkeypatch.setenv("NAME", "  value \n")
    assert env.text("NAME") == "value"
    monkeypatch.setenv("NAME", "   ")
    assert env.text("NAME", "default") == "default"


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on"])
def test_these_mean_yes(monkeypatch, value):
    monkeypatch.setenv("DEBUG", value)
    assert env.boolean("DEBUG") is True


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_these_mean_no(monkeypatch, value):
    monkeypatch.setenv("DEBUG", value)
    assert env.boolean("DEBUG", default=True) is False


@pytest.mark.parametrize("value", ["2", "ano", "enabled"])
def test_anything_else_is_neither(monkeypatch, value):
    monkeypatch.setenv("DEBUG", value)
    with pytest.raises(ImproperlyConfigured, match="DEBUG"):
        env.boolean("DEBUG")


def test_a_number_has_a_minimum(monkeypatch):
    monkeypatch.setenv("HOURS", "1")
    assert env.integer("HOURS", 5, minimum=1) == 1
    monkeypatch.setenv("HOURS", "0")
    with pytest.raises(ImproperlyConfigured, match="HOURS"):
        env.integer("HOURS", 5, minimum=1)
    monkeypatch.setenv("HOURS", "1.5")
    with pytest.raises(ImproperlyConfigured, match="HOURS"):
        env.integer("HOURS", 5)
    monkeypatch.delenv("HOURS")
    assert env.integer("HOURS", 5) == 5


def test_a_number_has_a_maximum(monkeypatch):
    monkeypatch.setenv("HOURS", "24")
    assert env.integer("HOURS", 5, maximum=24) == 24
    monkeypatch.setenv("HOURS", "25")
    with pytest.raises(ImproperlyConfigured, match="HOURS=25 is more than 24"):
        env.integer("HOURS", 5, maximum=24)


def test_items_are_between_commas(monkeypatch):
    monkeypatch.setenv("HOSTS", " a.example.com, ,b.example.com ,")
    assert env.items("HOSTS") == ["a.example.com", "b.example.com"]
    assert env.items("NONE", ("x",)) == ["x"]


def test_a_choice_is_one_of_the_allowed(monkeypatch):
    monkeypatch.setenv("ADVISER_SCOPE", "own")
    assert env.choice("ADVISER_SCOPE", "all", ("all", "own")) == "own"
    monkeypatch.setenv("ADVISER_SCOPE", "mine")
    with pytest.raises(ImproperlyConfigured, match="ADVISER_SCOPE"):
        env.choice("ADVISER_SCOPE", "all", ("all", "own"))


@pytest.mark.parametrize(
    "value", ["https://office.example.com", "http://localhost:8000", "https://office.example.com/", "http://[::1]:8000"]
)
def test_an_address_is_taken(monkeypatch, value):
    monkeypatch.setenv("SITE_URL", value)
    assert env.site_url("SITE_URL", "") == value.rstrip("/")


def test_an_address_may_be_none(monkeypatch):
    assert env.site_url("SITE_URL", "") == env.store_url("S3_ENDPOINT_URL") == ""


def test_a_stores_address_may_have_a_path(monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", "https://office.supabase.co/storage/v1/s3/")
    assert env.store_url("S3_ENDPOINT_URL") == "https://office.supabase.co/storage/v1/s3"


@pytest.mark.parametrize(
    "value",
    [
        "office.example.com", "ftp://office.example.com", "https://", "https://x/path", "https://x?q=1", "https://x#y",
        "https://user:secret@x", "https://x:port", "https://[::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_being_quoted(monkeypatch, value):
    monkeypatch.setenv("SITE_URL", value)
    with pytest.raises(ImproperlyConfigured, match="SITE_URL") as refused:
        env.site_url("SITE_URL", "")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["s3", "ftp://s3.example.com", "https://", "https:///s3", "https://x/s3?q=1", "https://k:secret@x/s3"]
)
def test_what_is_no_stores_address_is_refused_with_one_that_is(monkeypatch, value):
    monkeypatch.setenv("S3_ENDPOINT_URL", value)
    with pytest.raises(ImproperlyConfigured, match="S3_ENDPOINT_URL is not an address like https://s3") as refused:
        env.store_url("S3_ENDPOINT_URL")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sender"),
    [
        ("", "Hypodesk <noreply@localhost>"),
        ("info@novak.cz", "info@novak.cz"),
        ("Novák Finance, s.r.o. <info@novak.cz>", '"Novák Finance, s.r.o." <info@novak.cz>'),
        ('"Novák Finance, s.r.o." <info@novak.cz>', '"Novák Finance, s.r.o." <info@novak.cz>'),
        ("Hypotéky: Novák <info@novák.cz>", '"Hypotéky: Novák" <info@novák.cz>'),
        ("N <old@novak.cz> <info@novak.cz>", '"N <old@novak.cz>" <info@novak.cz>'),
    ],
)
def test_a_sender_has_his_name_quoted(monkeypatch, value, sender):
    monkeypatch.setenv("DEFAULT_FROM_EMAIL", value)
    assert env.mail_sender("DEFAULT_FROM_EMAIL", "Hypodesk <noreply@localhost>") == sender


@pytest.mark.parametrize(
    "value",
    [
        "Hypodesk", "Hypodesk info@novak.cz", "Novák, s.r.o. info@novak.cz", "info@novak.cz>", "N <>", "N <info@>", "N <info@a..b>",
        f"info@{'č' * 60}.cz", "N\nBcc: a@b.cz <info@novak.cz>", "a@b.cz, c@d.cz", "N <a@[>",
    ],
)  # fmt: skip
def test_a_sender_without_an_address_is_refused(monkeypatch, value):
    monkeypatch.setenv("DEFAULT_FROM_EMAIL", value)
    with pytest.raises(ImproperlyConfigured, match="DEFAULT_FROM_EMAIL"):
        env.mail_sender("DEFAULT_FROM_EMAIL", "")


def test_a_mail_server_is_spoken_to_by_our_backend(monkeypatch):
    monkeypatch.setenv("EMAIL_URL", "smtp+tls://office:secret@mail.example.com")
    found = env.mail_server("EMAIL_URL")
    assert (found["EMAIL_BACKEND"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == (
        "crm.mail_server.EmailBackend", 587, True,
    )  # fmt: skip


# --- Secrets from files ---


def test_a_secret_may_stand_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
    assert env.text("SECRET_KEY") == "from a file"
    monkeypatch.setenv("SECRET_KEY", "given")
    assert env.text("SECRET_KEY") == "given"


def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FILE"):
        env.text("SECRET_KEY")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x80")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "bytes"))
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FILE"):
        env.text("SECRET_KEY")


# --- Database addresses ---


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/office.sqlite3", "/var/lib/office.sqlite3"),
        ("sqlite:///data/office.sqlite3", str(ROOT / "data" / "office.sqlite3")),
    ],
)
def test_an_sqlite_path_is_absolute_or_counts_from_the_repository(monkeypatch, url, path):
    monkeypatch.setenv("DATABASE_URL", url)
    assert env.database("DATABASE_URL", "")["NAME"] == path


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "psql"])
def test_a_postgres_address_is_taken_apart(monkeypatch, scheme):
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user:p%40ss%23w@db.example.com:5433/office")
    found = env.database("DATABASE_URL", "")
    assert found["ENGINE"] == "django.db.backends.postgresql"
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.example.com", 5433, "office")
    assert (found["USER"], found["PASSWORD"]) == ("user", "p@ss#w")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgres:////var/run/postgresql/office", "/var/run/postgresql", ""),
        ("postgres:///office?host=/var/run/postgresql&port=5433", "/var/run/postgresql", 5433),
        ("postgres://[::1]:5433/office", "::1", 5433),
        ("postgres:///office?host=::1", "::1", ""),
    ],
)
def test_a_server_behind_a_socket_or_an_ipv6_address_is_found(monkeypatch, url, host, port):
    monkeypatch.setenv("DATABASE_URL", url)
    found = env.database("DATABASE_URL", "")
    assert (found["HOST"], found["PORT"], found["NAME"]) == (host, port, "office")
    assert not found.get("OPTIONS")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/d",
        "sqlite://",
        "sqlite://:memory:",
        "sqlite:///",
        "nonsense",
        "foo://u:secret@h/d",
        "postgres://u:secret@h:x/d",
    ],
)
def test_another_database_is_refused_without_its_password(monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    with warnings.catch_warnings(record=True) as warned, pytest.raises(ImproperlyConfigured, match="URL") as refused:
        env.database("DATABASE_URL", "")
    assert "secret" not in f"{refused.value}{[str(warning.message) for warning in warned]}"


@pytest.mark.parametrize("url", ["", "postgres://u:secret@h/d", "postgresql:////var/run/postgresql/d"])
def test_an_address_of_postgresql_is_taken_as_it_is(monkeypatch, url):
    monkeypatch.setenv("VERIFY_DATABASE_URL", url)
    assert env.postgresql_url("VERIFY_DATABASE_URL") == url


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite:////secret", "secret", "postgres://u:secret@h:x/d"])
def test_another_address_is_refused_by_the_variables_name_and_never_quoted(monkeypatch, url):
    monkeypatch.setenv("VERIFY_DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match="^VERIFY_DATABASE_URL") as refused:
        env.postgresql_url("VERIFY_DATABASE_URL")
    assert "secret" not in str(refused.value)
    assert "sqlite" not in str(refused.value)


# --- Field keys ---

FORMS = {
    "Fernet's own": FERNET,
    "plain base64": base64.b64encode(RAW_KEY).decode(),
    "without padding": FERNET.rstrip("="),
    "hexadecimal": RAW_KEY.hex(),
    "capital hexadecimal": RAW_KEY.hex().upper(),
}


@pytest.mark.parametrize("value", FORMS.values(), ids=FORMS)
def test_a_key_is_taken_in_every_form_that_generators_give(monkeypatch, value):
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", value)
    assert env.field_keys() == [FERNET]


def test_base64_with_the_other_two_letters_is_the_same_key(monkeypatch):
    raw = b"\xfb\xef\xbe" * 10 + b"\xff\x01"
    raw = bytes(a ^ b for a, b in zip(raw, range(32), strict=True))
    for value in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        monkeypatch.setenv("FIELD_ENCRYPTION_KEY", value.decode())
        assert env.field_keys() == [base64.urlsafe_b64encode(raw).decode()]


def test_several_keys_stand_between_commas_the_writing_one_first(monkeypatch):
    other = secrets.token_bytes(32)
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", f" {other.hex()} , {FERNET},")
    assert env.field_keys() == [base64.urlsafe_b64encode(other).decode(), FERNET]


def test_the_older_crms_name_is_taken_and_ours_goes_first(monkeypatch):
    assert env.field_keys() == []
    monkeypatch.setenv("ENCRYPTED_MODEL_FIELDS_KEY", FERNET)
    assert env.field_keys() == [FERNET]
    other = env.throw_away_key()
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", other)
    assert env.field_keys() == [other]


@pytest.mark.parametrize(
    "value",
    [
        "short", "x" * 64, "ž" * 44, FERNET[:-2], FERNET + "A", RAW_KEY.hex()[:-2], "0x" + RAW_KEY.hex(),
        "00" * 32, "0123456789abcdef" * 4, ("01020304050607" + "08090a0b0c0d0e0f00") * 2, f"{FERNET},short",
    ],
)  # fmt: skip
def test_a_bad_key_is_refused_by_name_and_never_quoted(monkeypatch, value):
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", value)
    with pytest.raises(ImproperlyConfigured, match="FIELD_ENCRYPTION_KEY") as refused:
        env.field_keys()
    assert value[:20] not in str(refused.value)
    assert FERNET not in str(refused.value)


# --- Backups ---


@pytest.mark.parametrize("value", FORMS.values(), ids=FORMS)
def test_a_backup_key_is_taken_in_every_form_of_a_field_key(monkeypatch, value):
    monkeypatch.setenv("BACKUP_KEY", value)
    assert env.keys("BACKUP_KEY") == [FERNET]


def test_backup_keys_stand_between_commas_and_none_is_no_error(monkeypatch):
    assert env.keys("BACKUP_KEY") == []
    other = env.throw_away_key()
    monkeypatch.setenv("BACKUP_KEY", f" {other} , {FERNET},")
    assert env.keys("BACKUP_KEY") == [other, FERNET]


@pytest.mark.parametrize("value", ["short", "x" * 64, "00" * 32, "0123456789abcdef" * 4, f"{FERNET},short"])
def test_a_bad_backup_key_is_refused_by_name_and_never_quoted(monkeypatch, value):
    monkeypatch.setenv("BACKUP_KEY", value)
    with pytest.raises(ImproperlyConfigured, match="BACKUP_KEY") as refused:
        env.keys("BACKUP_KEY")
    assert value[:20] not in str(refused.value)


def test_hours_make_a_whole_day(monkeypatch):
    assert env.hours("BACKUP_EVERY") == 0
    monkeypatch.setenv("BACKUP_EVERY", "6h")
    assert env.hours("BACKUP_EVERY") == 6


@pytest.mark.parametrize("value", ["0h", "5h", "48h", "1", "h", "1m", "-1h", "1.5h", "hourly"])
def test_hours_that_make_no_whole_day_are_refused(monkeypatch, value):
    monkeypatch.setenv("BACKUP_EVERY", value)
    with pytest.raises(ImproperlyConfigured, match="BACKUP_EVERY"):
        env.hours("BACKUP_EVERY")


# --- data/.env ---


def test_the_file_fills_what_the_environment_has_not(file, monkeypatch):
    file.write_text("SECRET_KEY=from the file\nSEARCH_KEY=file\n")
    monkeypatch.setenv("SEARCH_KEY", "environment")
    env.load_env_file()
    assert env.text("SECRET_KEY") == "from the file"
    assert env.text("SEARCH_KEY") == "environment"


@pytest.mark.parametrize("form", ["SECRET_KEY_FILE", "SECRET_KEY"])
def test_a_secret_of_the_environment_wins_also_as_a_file(file, monkeypatch, tmp_path, form):
    file.write_text("SECRET_KEY=from the file\nSECRET_KEY_FILE=/nowhere\n")
    (tmp_path / "secret").write_text("environment")
    monkeypatch.setenv(form, str(tmp_path / "secret") if form.endswith("_FILE") else "environment")
    env.load_env_file()
    assert env.text("SECRET_KEY") == "environment"


@pytest.mark.parametrize(("given", "written"), [env.FIELD_KEY_NAMES, env.FIELD_KEY_NAMES[::-1]])
def test_a_field_key_of_the_environment_wins_under_either_name(file, monkeypatch, given, written):
    file.write_text(f"{written}={env.throw_away_key()}\n")
    monkeypatch.setenv(given, FERNET)
    env.load_env_file()
    assert env.field_keys() == [FERNET]


def test_an_empty_variable_of_the_environment_counts_as_not_set(file, monkeypatch):
    file.write_text("SECRET_KEY=from the file\n")
    monkeypatch.setenv("SECRET_KEY", "")
    env.load_env_file()
    assert env.text("SECRET_KEY") == "from the file"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SECRET_KEY=plain", "plain"),
        ("export SECRET_KEY=exported", "exported"),
        ("SECRET_KEY=with a space", "with a space"),
        ("SECRET_KEY='with a space'", "with a space"),
        ('SECRET_KEY="with \\"quotes\\""', 'with "quotes"'),
        ("SECRET_KEY=with#sign", "with#sign"),
        ("SECRET_KEY='with # sign'", "with # sign"),
        ("SECRET_KEY=$dollar$HOME", "$dollar$HOME"),
        ("SECRET_KEY=a=b==", "a=b=="),
        ("SECRET_KEY=100%sure\\n", "100%sure\\n"),
        ("  SECRET_KEY=indented", "indented"),
        ("SECRET_KEY=žluťoučký", "žluťoučký"),
        ("SECRET_KEY=crlf\r", "crlf"),
    ],
)
def test_a_line_of_the_file_is_read(file, line, value):
    file.write_text(f"# a comment\n\n  # another = one\n{line}\n", encoding="utf-8", newline="")
    env.load_env_file()
    assert env.text("SECRET_KEY") == value


@pytest.mark.parametrize("line", ["SECRET_KEY = hush", "SECRET_KEY: hush", "hush", "9KEY=hush"])
def test_a_line_that_is_none_is_refused_by_its_number_and_never_quoted(file, line, caplog):
    file.write_text(f"# a comment\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match="line 2") as refused:
        env.load_env_file()
    assert "hush" not in str(refused.value) + caplog.text


def test_no_file_is_no_error(file):
    env.load_env_file()
    assert env.text("SECRET_KEY") == ""


def test_an_empty_env_file_variable_means_none(monkeypatch):
    monkeypatch.setenv("ENV_FILE", "")
    assert env.env_file() is None
    monkeypatch.delenv("ENV_FILE")
    assert env.env_file() == ROOT / "data" / ".env"
    monkeypatch.setenv("ENV_FILE", "other/.env")
    assert env.env_file() == ROOT / "other" / ".env"


# --- Adding what is missing ---

KEYS = ["SECRET_KEY", "FIELD_ENCRYPTION_KEY", "SEARCH_KEY", "AUDIT_KEY", "BACKUP_KEY", "DEBUG"]


def test_missing_keys_are_added_once_for_the_owner_only(file):
    old = os.umask(0)
    try:
        assert env.add_missing_keys(file) == KEYS
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert env.add_missing_keys(file) == []
    assert file.read_bytes() == before
    env.load_env_file()
    assert len(env.field_keys()) == len(env.keys("BACKUP_KEY")) == 1
    assert len({env.text(name) for name in KEYS}) == len(KEYS)


def test_what_stands_in_the_file_is_never_changed(file):
    file.write_text("# mine\nSECRET_KEY=kept\nSEARCH_KEY=\nOTHER=x")
    assert env.add_missing_keys(file) == ["FIELD_ENCRYPTION_KEY", "SEARCH_KEY", "AUDIT_KEY", "BACKUP_KEY", "DEBUG"]
    assert file.read_text().startswith("# mine\nSECRET_KEY=kept\nSEARCH_KEY=\nOTHER=x\nFIELD_ENCRYPTION_KEY=")
    env.load_env_file()
    assert env.text("SECRET_KEY") == "kept"
    assert env.text("OTHER") == "x"
    assert env.text("SEARCH_KEY")


def test_what_the_environment_gives_in_whatever_form_is_not_added(file, monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("x")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ENCRYPTED_MODEL_FIELDS_KEY", FERNET)
    monkeypatch.setenv("DEBUG", "0")
    assert env.add_missing_keys(file) == ["SEARCH_KEY", "AUDIT_KEY", "BACKUP_KEY"]


def test_a_file_that_others_could_read_is_closed_to_them(file):
    env.add_missing_keys(file)
    file.chmod(0o644)
    env.add_missing_keys(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_start_waits_for_the_first_and_takes_its_keys(file):
    added = []
    with file.open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: added.extend(env.add_missing_keys(file)))
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        first.write("".join(f"{name}=first\n" for name in KEYS))
    second.join()
    assert added == []
    assert file.read_text() == "".join(f"{name}=first\n" for name in KEYS)


def test_four_processes_at_once_write_one_set_of_keys(file):
    command = [sys.executable, "-m", "project.env"]
    variables = {**environment(ENV_FILE=str(file)), **dict.fromkeys(KEYS, "")}
    started = [subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE) for _ in range(4)]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert len(list(filter(None, said))) == 1
    assert [line.partition("=")[0] for line in file.read_text().splitlines()] == KEYS


def test_the_module_says_what_it_added_and_then_nothing(file):
    variables = environment(ENV_FILE=str(file)) | dict.fromkeys(KEYS, "")
    said = run("-m", "project.env", env=variables).stdout
    assert "SEARCH_KEY" in said
    assert env._read(file)["SEARCH_KEY"] not in said
    assert run("-m", "project.env", env=variables).stdout == ""


def test_the_file_is_read_from_any_directory(file, tmp_path):
    file.write_text(f"SECRET_KEY={secrets.token_hex()}\nSITE_URL=https://from-the-file.example.com\n")
    variables = environment(ENV_FILE=str(file), SITE_URL=None, SECRET_KEY=None)
    code = "from django.conf import settings; print(settings.SITE_URL, settings.MISSING_SECRETS)"
    done = run("-c", code, cwd=tmp_path, env=variables | {"DJANGO_SETTINGS_MODULE": "project.settings"})
    assert done.stdout.split() == ["https://from-the-file.example.com", "[]"], done.stderr
