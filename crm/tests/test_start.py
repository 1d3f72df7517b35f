"""Whole processes, as an office runs them: manage.py, python -m django and uvicorn, with the right and the wrong keys.

Each test module has one migrated database of its own, SQLite or PostgreSQL as the suite."""

import contextlib
import http.client
import re
import socket
import sys

import pytest

from crm.encryption import fingerprint
from crm.tests.processes import Program, free_port, wait_until
from crm.tests.raw import KEYS, Database, environment, run
from project.env import throw_away_key

GENEROUS_S = 60  # the promise is 5 s; make bench and the fault runs measure it
SERVE = [sys.executable, "-m", "uvicorn", "project.asgi:application", "--lifespan", "off", "--no-server-header"]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A database with one client and one user in it."""
    own = Database(tmp_path_factory.mktemp("office"))
    try:
        code = (
            "from crm.models import *; from django.contrib.auth import get_user_model; "
            "Client.objects.create(full_name='Alice Nováková', email='alice@example.com'); "
            "get_user_model().objects.create_superuser('boss', 'boss@example.com', 'a long enough password')"
        )
        for command in (["migrate", "--verbosity", "0"], ["shell", "--verbosity", "0", "-c", code]):
            done = run("manage.py", *command, env=environment(DATABASE_URL=own.url), timeout=300)
            assert done.returncode == 0, done.stderr
        yield own
    finally:
        own.drop()


def new_field_key() -> dict:
    return {"FIELD_ENCRYPTION_KEY": throw_away_key()}


def new_search_key() -> dict:
    return {"SEARCH_KEY": throw_away_key()[::-1]}


# --- A wrong key ---

WRITE = "from crm.models import Client; Client.objects.create(full_name='Mallory')"
WAYS = {
    "migrate": ["manage.py", "migrate"],
    "shell": ["manage.py", "shell", "-c", WRITE],
    "release": ["manage.py", "release"],
    "createsuperuser": ["manage.py", "createsuperuser", "--noinput", "--username", "x", "--email", "x@example.com"],
    "after other options": ["manage.py", "--settings=project.settings", "shell", "-c", WRITE],
    "worker": ["manage.py", "worker"],
    "python -m django": ["-m", "django", "shell", "-c", WRITE],
    "python -m django migrate": ["-m", "django", "migrate"],
    "a script": ["-c", f"import django; django.setup(); {WRITE}"],
    "a script that calls a command": [
        "-c",
        "import django; django.setup(); from django.core.management import call_command; call_command('migrate')",
    ],
    "uvicorn": [*SERVE[1:], "--port", "0"],
    "uvicorn with two workers": [*SERVE[1:], "--port", "0", "--workers", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        *((way, new_field_key) for way in WAYS),
        *((way, new_search_key) for way in ("migrate", "python -m django", "uvicorn")),
    ],
)
def test_a_wrong_key_refuses_every_way_in_and_changes_no_row(office, way, wrong):
    key = wrong()
    way = WAYS[way]
    before = office.rows()
    env = environment(DATABASE_URL=office.url, DJANGO_SETTINGS_MODULE="project.settings", **key)
    done = run(*way, env=env, timeout=GENEROUS_S)
    said = done.stdout + done.stderr
    (name, value), *_ = key.items()
    # Of several processes uvicorn ends too, but keeps the code to itself.
    assert done.returncode != 0 or "--workers" in way, said
    assert name in said
    assert fingerprint(value) in said
    assert value not in said
    assert "Nothing was written" in said
    assert office.rows() == before


@pytest.mark.slow
def test_the_right_keys_in_other_notations_and_names_are_let_in(office):
    key = KEYS["FIELD_ENCRYPTION_KEY"]
    code = "from crm.models import Client; print(Client.objects.get().full_name)"
    for keys in (
        {"FIELD_ENCRYPTION_KEY": None, "ENCRYPTED_MODEL_FIELDS_KEY": key.upper()},
        {"FIELD_ENCRYPTION_KEY": f"{throw_away_key()},{key}"},
    ):
        done = run("manage.py", "shell", "-c", code, env=environment(DATABASE_URL=office.url, **keys))
        assert "Alice Nováková" in done.stdout, done.stderr


# --- Missing and unsafe settings ---

UNSAFE = {
    "no secret key": ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
    "no field key": ({"FIELD_ENCRYPTION_KEY": None}, "FIELD_ENCRYPTION_KEY is not set"),
    "no search key": ({"SEARCH_KEY": ""}, "SEARCH_KEY is not set"),
    "weak secret key": ({"SECRET_KEY": "short"}, "SECRET_KEY is weak"),
    "regular search key": ({"SEARCH_KEY": "0123456789abcdef" * 4}, "SEARCH_KEY is weak"),
    "short field key": ({"FIELD_ENCRYPTION_KEY": "short"}, "FIELD_ENCRYPTION_KEY"),
    "regular field key": ({"FIELD_ENCRYPTION_KEY": "00" * 32}, "too regular"),
    "debug in public": ({"DEBUG": "1"}, "DEBUG=1"),
    "any host": ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
    "no https": ({"SITE_URL": "http://office.example.com"}, "SITE_URL"),
    "no address": ({"SITE_URL": None}, "SITE_URL"),
    "a setting that is none": ({"DEBUG": "maybe"}, "DEBUG"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_unsafe_settings_refuse_a_command_in_one_line(tmp_path, changes, reason):
    env = environment(DATABASE_URL=f"sqlite:///{tmp_path}/x.sqlite3", **changes)
    done = run("manage.py", "migrate", env=env)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.sqlite3").exists()


@pytest.mark.slow
def test_unsafe_settings_refuse_the_web_process(tmp_path):
    env = environment(DATABASE_URL=f"sqlite:///{tmp_path}/x.sqlite3", SECRET_KEY="short", SEARCH_KEY=None)
    done = run(*SERVE[1:], "--port", "0", env=env)
    assert done.returncode != 0
    assert "SECRET_KEY is weak" in done.stderr
    assert "SEARCH_KEY is not set" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("code", [WRITE, "from crm.models import *; Client.objects.search('novak').exists()"])
def test_without_keys_nothing_is_encrypted_or_searched_whatever_the_way_in(office, code):
    before = office.rows()
    env = environment(DATABASE_URL=office.url, DJANGO_SETTINGS_MODULE="project.settings", **dict.fromkeys(KEYS))
    done = run("-m", "django", "shell", "-c", code, env=env)
    assert done.returncode != 0
    assert "is not set" in done.stderr
    assert office.rows() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["check"], ["makemigrations", "--check"], ["collectstatic", "--noinput", "--dry-run"], ["migrate", "--help"]],
)
def test_commands_that_only_build_need_no_keys_and_no_address(tmp_path, command):
    env = environment(DATA_DIR=str(tmp_path), SITE_URL=None, **dict.fromkeys(KEYS))
    done = run("manage.py", *command, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_help_after_the_double_dash_does_not_open_the_door(office):
    done = run("manage.py", "loaddata", "--", "--help", env=environment(DATABASE_URL=office.url, **new_field_key()))
    assert "is not the key of this database" in done.stderr


@pytest.mark.slow
def test_the_deploy_check_has_no_warning():
    done = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", env=environment())
    assert done.returncode == 0, done.stderr


# --- The web process ---


@contextlib.contextmanager
def serving(office, folder, **changes):
    port = free_port()
    env = environment(DATABASE_URL=office.url, DATA_DIR=str(folder), UPLOAD_LIMIT_MB="1", **changes)
    with Program([*SERVE, "--port", str(port)], cwd=folder, env=env) as program:
        program.wait_for("Uvicorn running")
        yield port


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A folder with the static files in it, as the manifest storage wants them."""
    folder = tmp_path_factory.mktemp("web")
    env = environment(DATA_DIR=str(folder))
    done = run("manage.py", "collectstatic", "--noinput", "--verbosity", "0", env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def web(office, collected):
    """Believes no proxy: another one is named."""
    with serving(office, collected, FORWARDED_ALLOW_IPS="192.0.2.1") as port:
        yield port


@pytest.fixture(scope="module")
def proxied(office, collected):
    """Believes the proxy on this machine."""
    with serving(office, collected, FORWARDED_ALLOW_IPS="127.0.0.1") as port:
        yield port


def ask(port: int, path: str, method: str = "GET", body=None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GENEROUS_S)
    headers = {"Host": "office.example.com"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer


@pytest.mark.slow
def test_health_needs_neither_a_known_host_nor_https(web):
    for path, text in {"/healthz": "ok", "/readyz": "ready"}.items():
        answer = ask(web, path, Host="10.1.2.3:8000")
        assert (answer.status, answer.text) == (200, text)


@pytest.mark.slow
def test_a_foreign_host_is_refused(web):
    assert ask(web, "/admin/login/", Host="evil.example.com").status == 400


@pytest.mark.slow
def test_plain_http_leads_to_https_whatever_a_stranger_says_about_a_proxy(web):
    for headers in ({}, {"X_Forwarded_Proto": "https"}, {"X_Forwarded_Proto": "https", "X_Forwarded_For": "192.0.2.1"}):
        answer = ask(web, "/admin/login/", **headers)
        assert answer.status == 301
        assert answer.getheader("Location") == "https://office.example.com/admin/login/"


@pytest.mark.slow
def test_a_trusted_proxy_is_believed_and_the_answer_is_locked_down(proxied):
    answer = ask(proxied, "/admin/login/", X_Forwarded_Proto="https")
    assert answer.status == 200
    assert answer.getheader("Strict-Transport-Security") == "max-age=31536000; includeSubDomains"
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'self'" in policy
    assert "script-src 'self' 'unsafe-eval';" in policy + ";"
    assert "frame-ancestors 'none'" in policy
    assert answer.getheader("X-Frame-Options") == "DENY"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "same-origin"
    assert answer.getheader("Server") is None
    assert "Secure" in answer.getheader("Set-Cookie")


def login(port: int, name: str, password: str, origin: str = "https://office.example.com", **headers: str):
    page = ask(port, "/admin/login/", X_Forwarded_Proto="https", **headers)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
    cookie = page.getheader("Set-Cookie").partition(";")[0]
    return ask(
        port,
        "/admin/login/",
        "POST",
        f"csrfmiddlewaretoken={token}&username={name}&password={password}",
        Content_Type="application/x-www-form-urlencoded",
        X_Forwarded_Proto="https",
        Origin=origin,
        Cookie=cookie,
        **headers,
    )


@pytest.mark.slow
def test_a_login_sets_a_secure_cookie_and_a_foreign_origin_may_not_post(proxied):
    answer = login(proxied, "boss", "a+long+enough+password")
    assert answer.status == 302
    session = next(value for name, value in answer.getheaders() if name == "set-cookie" and "sessionid" in value)
    assert {"Secure", "HttpOnly", "SameSite=Lax"} <= {part.strip() for part in session.split(";")}
    assert login(proxied, "boss", "a+long+enough+password", origin="https://evil.example.com").status == 403


@pytest.mark.slow
def test_a_body_over_the_limit_is_refused_before_it_is_sent(proxied):
    with socket.create_connection(("127.0.0.1", proxied), timeout=GENEROUS_S) as peer:
        peer.sendall(
            b"POST /admin/login/ HTTP/1.1\r\nHost: office.example.com\r\nX-Forwarded-Proto: https\r\n"
            b"Content-Length: 2097153\r\n\r\n"
        )
        assert peer.recv(100).startswith(b"HTTP/1.1 413 ")


def chunked(port: int, size: int) -> bytes:
    """Sends `size` bytes in chunks, without saying how many will come; returns the answer's first line."""
    with socket.create_connection(("127.0.0.1", port), timeout=GENEROUS_S) as peer:
        peer.sendall(
            b"POST /admin/login/ HTTP/1.1\r\nHost: office.example.com\r\nX-Forwarded-Proto: https\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(size // 0x10000):
                peer.sendall(piece)
            peer.sendall(
                b"%x\r\n%s\r\n0\r\n\r\n" % (size % 0x10000, b"x" * (size % 0x10000)) if size % 0x10000 else b"0\r\n\r\n"
            )
        return peer.recv(1000).partition(b"\r\n")[0]


@pytest.mark.slow
def test_a_chunked_body_is_counted(proxied):
    limit = 2 * 1024 * 1024
    assert b" 413 " in chunked(proxied, limit + 1)
    assert b" 413 " in chunked(proxied, 20 * limit)
    assert b" 403 " in chunked(proxied, limit)  # taken in; it only has no token against forgery


@pytest.mark.slow
def test_two_web_processes_come_up(office, collected):
    with serving(office, collected, WEB_CONCURRENCY="2") as port:
        assert wait_until(lambda: answers(port), within_s=GENEROUS_S)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(port, "/readyz").status == 200
    return False
