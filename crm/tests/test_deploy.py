"""`git push` to a PaaS, step by step as its Python buildpack does it, with nothing but config variables."""

import json
import os
import re
import secrets
import subprocess
import uuid

import pytest
from django.conf import settings
from django.db import connections

from crm.tests.processes import Browser, Program, bare_environment, clone, free_port, wait_until
from project.env import ROOT

HOST = "office.example.com"
PASSWORD = "seven-green-hills-of-brno"
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


@pytest.fixture(scope="module")
def database(tmp_path_factory, django_db_blocker):
    """The add-on: an empty database of the engine that this run is about."""
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        yield f"sqlite:////{str(tmp_path_factory.mktemp('database')).lstrip('/')}/office.sqlite3"
        return
    name = f"deploy_{uuid.uuid4().hex[:12]}"
    with django_db_blocker.unblock():
        connection = connections["default"]
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        yield re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", os.environ["DATABASE_URL"], count=1)
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def slug(tmp_path_factory):
    """The built application: clone, venv, requirements, collectstatic, and no config variable in sight."""
    home = tmp_path_factory.mktemp("build")
    folder, env = clone(home / "app"), bare_environment(home)
    python = f"{folder}/.venv/bin/python"
    for step in (
        f"{env['PATH'].split(':')[0]}/python -m venv .venv",
        f"{python} -m pip install --quiet --require-hashes -r requirements.txt",
        f"{python} manage.py collectstatic --noinput",
    ):
        done = subprocess.run(step.split(), cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    assert (folder / "data" / "static" / "staticfiles.json").exists()
    assert not (folder / "data" / ".env").exists()
    return folder, env


@pytest.fixture(scope="module")
def config(slug, database):
    folder, env = slug
    return {
        **env,
        "PATH": f"{folder}/.venv/bin:{env['PATH']}",
        "DATABASE_URL": database,
        # As app.json's generators make them.
        "SECRET_KEY": secrets.token_hex(32),
        "FIELD_ENCRYPTION_KEY": secrets.token_hex(32),
        "SEARCH_KEY": secrets.token_hex(32),
        "AUDIT_KEY": secrets.token_hex(32),
        "BACKUP_KEY": secrets.token_hex(32),
        "SITE_URL": f"https://{HOST}",
        "ADMIN_EMAIL": "first@example.com",
        "WEB_CONCURRENCY": "2",
    }


@pytest.fixture(scope="module")
def release(slug, config) -> str:
    with Program(PROCFILE["release"], cwd=slug[0], env=config) as program:
        program.wait_for_end(within_s=300)
        assert program.process.returncode == 0, program.output
        return program.output


@pytest.fixture(scope="module")
def start_web(slug, config, release):
    started = []

    def start(**variables) -> int:
        port = free_port()
        program = Program(PROCFILE["web"], cwd=slug[0], env={**config, "PORT": str(port), **variables})
        started.append(program)
        assert wait_until(lambda: is_healthy(port) or program.process.poll() is not None, within_s=120), program.output
        assert program.process.poll() is None, program.output
        return port

    yield start
    for program in started:
        program.process.terminate()
        program.wait_for_end(within_s=40)
        program.__exit__()


@pytest.fixture(scope="module")
def port(start_web) -> int:
    return start_web()


def is_healthy(port: int) -> bool:
    try:
        return Browser(port).get("/healthz").status == 200
    except OSError:
        return False


def through_proxy(port: int) -> Browser:
    return Browser(port, Host=HOST, X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.7")


@pytest.mark.slow
def test_first_administrator_sets_a_password_by_the_link_and_is_in(release, port):
    [link] = re.findall(rf"https://{HOST}/\S+", release)
    browser = through_proxy(port).get(link)
    assert browser.status == 302, browser.text[:3000]
    form = browser.location  # the token moves from the address into the session
    browser.get(form).submit(form, new_password1=PASSWORD, new_password2=PASSWORD)
    assert browser.status == 302, browser.text[:3000]
    [username] = re.findall(r"First administrator (\S+?),", release)
    login = through_proxy(port).get("/admin/login/").submit("/admin/login/", username=username, password=PASSWORD)
    assert login.status == 302, login.text[:3000]
    assert login.get("/admin/").status == 200

    again = through_proxy(port).get(link)
    assert again.status == 200
    assert "new_password1" not in again.text, "the link worked twice"


@pytest.mark.slow
def test_second_release_changes_nothing_and_prints_no_link(slug, config, release):
    with Program(PROCFILE["release"], cwd=slug[0], env=config) as program:
        program.wait_for_end(within_s=300)
        assert program.process.returncode == 0, program.output
        assert "https://" not in program.output


@pytest.mark.slow
def test_plain_http_is_sent_to_https_and_https_is_kept(port):
    plain = Browser(port, Host=HOST).get("/admin/login/")
    assert (plain.status, plain.location) == (301, f"https://{HOST}/admin/login/")
    page = through_proxy(port).get("/admin/login/")
    assert page.status == 200
    assert "max-age=31536000" in page.answer_headers["Strict-Transport-Security"]
    assert all("Secure" in cookie for cookie in page.answer_headers.get_all("Set-Cookie"))


@pytest.mark.slow
def test_stranger_who_says_https_is_not_believed(start_web):
    port = start_web(FORWARDED_ALLOW_IPS="203.0.113.1")
    assert through_proxy(port).get("/admin/login/").status == 301


@pytest.mark.slow
def test_static_files_come_compressed_and_for_ever(port):
    page = through_proxy(port).get("/admin/login/")
    styles = re.search(r'href="(/static/[^"]+\.css)"', page.text)[1]
    assert re.search(r"\.[0-9a-f]{12}\.css$", styles)
    file = Browser(port, Host=HOST, X_Forwarded_Proto="https", Accept_Encoding="br").get(styles)
    assert file.status == 200
    assert file.answer_headers["Content-Encoding"] == "br"
    assert "immutable" in file.answer_headers["Cache-Control"]


@pytest.mark.slow
def test_web_runs_as_many_processes_as_asked(slug, config, release):
    with Program(PROCFILE["web"], cwd=slug[0], env={**config, "PORT": str(free_port())}) as web:
        assert wait_until(lambda: web.output.count("Started server process") == 2, within_s=120), web.output
        web.process.terminate()
        web.wait_for_end(within_s=40)


def runs_tasks(folder, config) -> bool:
    with Program("exec python manage.py check_worker", cwd=folder, env=config) as check:
        check.wait_for_end(within_s=60)
        return check.process.returncode == 0


@pytest.mark.slow
def test_worker_of_the_deploy_runs_tasks(slug, config, release):
    with Program(PROCFILE["worker"], cwd=slug[0], env=config) as worker:
        assert wait_until(lambda: runs_tasks(slug[0], config), within_s=60), worker.output
        worker.process.terminate()
        worker.wait_for_end(within_s=40)
        assert worker.process.returncode == 0
    assert not runs_tasks(slug[0], config)


@pytest.mark.slow
def test_a_host_with_one_process_has_a_worker_too(slug, config, release):
    env = {**config, "PORT": str(free_port()), "RUN_WORKER_IN_WEB": "1", "WEB_CONCURRENCY": "1"}
    with Program(PROCFILE["web"], cwd=slug[0], env=env) as web:
        assert wait_until(lambda: runs_tasks(slug[0], config), within_s=90), web.output
        web.process.terminate()
        web.wait_for_end(within_s=40)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["web", "worker", "release"])
def test_no_process_starts_with_the_key_of_another_database(slug, config, release, process):
    """Every other unsafe setting: test_start.py. Here: the lines of the Procfile, two web processes among them."""
    env = {**config, "PORT": str(free_port()), "FIELD_ENCRYPTION_KEY": secrets.token_hex(32)}
    with Program(PROCFILE[process], cwd=slug[0], env=env) as program:
        program.wait_for_end(within_s=60)
        assert "is not the key of this database" in program.output
        # Uvicorn's parent of several processes ends with 0 whatever the reason.
        assert program.process.returncode != 0 or process == "web"


def test_app_json_is_read_by_heroku_and_dokku():
    app = json.loads((ROOT / "app.json").read_text())
    generated = {name for name, variable in app["env"].items() if variable.get("generator") == "secret"}
    assert generated == {"SECRET_KEY", "FIELD_ENCRYPTION_KEY", "SEARCH_KEY", "AUDIT_KEY", "BACKUP_KEY"}
    assert {"SITE_URL", "ADMIN_EMAIL"} <= set(app["env"])
    of_the_store = set(re.findall(r"S3_\w+", (ROOT / "project" / "settings.py").read_text()))
    assert of_the_store == {name for name in app["env"] if name.startswith("S3_")}
    assert all(app["env"][name]["required"] is False and app["env"][name]["description"] for name in of_the_store)
    assert app["addons"] == ["heroku-postgresql"]
    assert {name: process["quantity"] for name, process in app["formation"].items()} == {"web": 1, "worker": 1}
    assert app["healthchecks"]["web"][0]["path"] == "/healthz"


def test_python_version_is_one_that_buildpacks_read():
    assert re.fullmatch(r"3\.\d+\n", (ROOT / ".python-version").read_text())
