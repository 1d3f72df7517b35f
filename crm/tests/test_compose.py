import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from project import env
from project.env import ROOT

COMPOSE = ROOT / "compose"
SCRIPTS = Path(sys.executable).parent
# Read by uvicorn and by compose.yaml; no line of ours reads them.
READ_BY_OTHERS = {"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"}


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def check_schema(file: Path) -> subprocess.CompletedProcess:
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_file_fits_the_schema():
    done = check_schema(COMPOSE / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_schema_refuses_a_misspelt_key(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((COMPOSE / "compose.yaml").read_text().replace("stop_grace_period", "stop_grace_perod"))
    assert check_schema(wrong).returncode != 0


def test_dockerfile_passes_hadolint():
    done = subprocess.run([SCRIPTS / "hadolint", COMPOSE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_dockerfile_has_stages_a_pinned_base_and_no_root():
    text = (COMPOSE / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) >= 2
    assert all(re.fullmatch(r"python:3\.13\.\d+-slim-\w+", base) for base in bases)
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    assert users and users[-1].split(":")[0] not in {"0", "root"}


def test_image_gets_every_file_that_it_copies_and_no_other():
    patterns = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in patterns, name
    assert "*" in patterns


@pytest.mark.skipif(
    not shutil.which("caddy") and not os.environ.get("CI"), reason="caddy is not installed; .ci/run installs it"
)
def test_caddyfile_is_valid():
    done = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", COMPOSE / "Caddyfile"],
        env={"PATH": os.environ["PATH"], "SITE_HOST": "office.example.com", "ADMIN_EMAIL": "admin@example.com"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_service_has_limits_and_a_health_check_of_its_own(services):
    assert set(services) == {"release", "web", "worker", "postgres", "caddy"}
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert ("test" in service["healthcheck"]) == (name != "release"), name


def test_only_caddy_is_reached_from_outside(services):
    assert [name for name, service in services.items() if "ports" in service] == ["caddy"]
    assert (
        services["web"]["environment"]["FORWARDED_ALLOW_IPS"]
        == (services["caddy"]["networks"]["outside"]["ipv4_address"])
    )


def test_pg_dump_of_the_image_is_no_older_than_the_server(services):
    [client] = re.findall(r"postgresql-client-(\d+)", (COMPOSE / "Dockerfile").read_text())
    [server] = re.findall(r"^postgres:(\d+)", services["postgres"]["image"])
    assert int(client) >= int(server)


def test_release_web_and_worker_see_the_backups_on_a_volume_of_their_own(services):
    volumes = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["volumes"]
    for name in ("release", "web", "worker"):
        folder = services[name]["environment"]["BACKUP_DIR"]
        [volume] = [each.split(":")[0] for each in services[name]["volumes"] if each.endswith(f":{folder}")]
        assert volume in volumes
        assert f" {folder}\n" in (COMPOSE / "Dockerfile").read_text()


def test_images_are_pinned(services):
    for name in ("postgres", "caddy"):
        assert re.search(r":\d+\.\d+", services[name]["image"]), name


def test_commands_are_lines_of_the_procfile_or_of_manage_py(services, tmp_path):
    (tmp_path / "sed").symlink_to(shutil.which("sed"))
    for name in ("python", "uvicorn"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/} $*"\n')
        (tmp_path / name).chmod(0o755)

    def start(*arguments):
        command = ["/bin/sh", "compose/start", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={"PATH": str(tmp_path), "PORT": "8000"}, capture_output=True, text=True, check=False
        )

    assert start(services["release"]["command"]).stdout == "python manage.py release\n"
    assert start(services["web"]["command"]).stdout.startswith(
        "uvicorn project.asgi:application --host 0.0.0.0 --port 8000"
    )
    assert start(services["worker"]["command"]).stdout == "python manage.py worker\n"
    assert start("restore", "a b.hdbk", "--yes").stdout == "python manage.py restore a b.hdbk --yes\n"


# --- .env.example ---


def shown_variables() -> set[str]:
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (COMPOSE / ".env.example").read_text(), re.MULTILINE))


def variables_in_code() -> set[str]:
    """Names given to the readers of project/env.py (or to the helpers that pass them on) and to os.environ."""
    found = set(env.FIELD_KEY_NAMES)
    sources = [ROOT / "manage.py", *ROOT.glob("project/*.py"), *ROOT.glob("crm/**/*.py")]
    for source in sources:
        if {"tests", "bench", "faults"} & set(source.parts):
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            name = None
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func)
                if re.fullmatch(
                    r"(project\.)?env\.\w+|_secret|(os\.)?environ\.(get|setdefault|pop)|os\.getenv", called
                ):
                    name = node.args[0].value
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in {"os.environ", "environ"}:
                name = getattr(node.slice, "value", None)
            if isinstance(name, str) and re.fullmatch(r"[A-Z][A-Z0-9_]+", name):
                found.add(name)
    return found - {"PATH", "DJANGO_SETTINGS_MODULE"}


def variables_in_files() -> set[str]:
    found = set()
    for file in (COMPOSE / "compose.yaml", COMPOSE / "Caddyfile", ROOT / "Procfile"):
        found |= set(re.findall(r"(?<!\$)\{?\$\{?([A-Z][A-Z0-9_]+)", file.read_text()))
    return found


def test_example_shows_every_variable_and_no_other():
    read = variables_in_code() | variables_in_files() | READ_BY_OTHERS
    assert {"SECRET_KEY", "SITE_URL", "ENV_FILE", "POSTGRES_PASSWORD", "PORT"} <= read
    assert shown_variables() == read


def test_example_holds_no_value_for_what_must_be_made():
    text = (COMPOSE / ".env.example").read_text()
    for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEY", "SEARCH_KEY", "AUDIT_KEY", "BACKUP_KEY", "POSTGRES_PASSWORD"):
        assert re.search(rf"^{name}=$", text, re.MULTILINE), name


# --- Procfile, app.json ---


def test_every_line_of_the_procfile_replaces_its_shell():
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert list(lines) == ["release", "web", "worker"]
    assert all(command.startswith("exec ") for command in lines.values())
