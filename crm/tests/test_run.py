import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from crm.demo import LOGINS
from crm.tests.processes import Browser, Program, bare_environment, clone, free_port
from project import run
from project.env import ROOT

SETUP = ROOT / "project" / "setup.sh"


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_free_port_is_taken_as_asked():
    port = free_port()
    assert run.free_port("127.0.0.1", port) == port


def test_taken_port_moves_to_a_later_one(taken):
    assert taken < run.free_port("127.0.0.1", taken) < taken + run.PORTS_TRIED


def test_port_is_taken_although_another_program_serves_it_on_all_addresses():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert run.free_port("127.0.0.1", taken) != taken


@pytest.mark.parametrize(("folder", "said"), [("/srv/office/mail", True), (None, False)])
def test_the_greeting_says_where_the_demos_mails_are(settings, monkeypatch, capsys, folder, said):
    monkeypatch.setattr(run, "_demo_logins", list)
    monkeypatch.setenv("SITE_URL", "http://localhost:8000")
    settings.EMAIL_FILE_PATH = folder
    run.greet()
    assert ("Mails are written to /srv/office/mail" in capsys.readouterr().out) is said


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return clone(home / "office"), bare_environment(home)


@pytest.fixture
def start(office):
    folder, env = office
    started = []

    def make_run(port: int) -> Program:
        # Its own environment only: what DATABASE_URL this suite has is not the stranger's.
        program = Program(["make", "run", f"PORT={port}"], cwd=folder, env=env)
        started.append(program)
        program.wait_for("Ctrl-C stops it.")
        return program

    yield make_run
    for program in started:
        program.__exit__()


def address_port(program: Program) -> int:
    return int(re.search(r"Hypodesk is at http://localhost:(\d+)", program.output)[1])


def counts(folder: Path, env: dict) -> str:
    program = (
        "from crm.models import *; print([m.objects.count() for m in (User, Client, Case, CaseStep, Lender, Step)])"
    )
    done = subprocess.run(
        [folder / ".venv/bin/python", "manage.py", "shell", "-v0", "-c", program],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_one_command_starts_the_demo_office_and_a_second_time_changes_nothing(office, start, taken):
    folder, env = office
    first = start(taken)
    port = address_port(first)
    assert f"Port {taken} is taken, taking {port}." in first.output
    # All but the client's, which opens no page before there is a portal.
    assert [login.role for login in LOGINS if str(login) not in first.output] == ["Client"]
    keys = folder / "data" / ".env"
    assert keys.stat().st_mode & 0o777 == 0o600
    browser = Browser(port, Host=f"localhost:{port}")
    assert browser.get("/healthz").status == 200
    login = LOGINS[0]
    browser.get("/admin/login/").submit("/admin/login/", username=login.username, password=login.password)
    assert browser.status == 302, browser.text[:2000]
    assert browser.get("/admin/").status == 200
    first.signal_group(signal.SIGINT)
    first.wait_for_end()

    written, kept = counts(folder, env), keys.read_bytes()
    assert eval(written)[1] >= 50  # clients of the demo office
    second = start(port)
    assert address_port(second) == port
    assert "Making .venv" not in second.output
    assert "Filling" not in second.output
    second.signal_group(signal.SIGTERM)
    second.wait_for_end()
    assert (counts(folder, env), keys.read_bytes()) == (written, kept)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["make", "project.run"])
def test_killed_start_leaves_nothing_running(start, victim):
    program = start(free_port())
    for pid in program.pids():
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if victim in (words[0], words[2] if len(words) > 2 else ""):
            os.kill(pid, signal.SIGKILL)
    program.wait_for_end()


@pytest.mark.slow
def test_process_that_ends_by_itself_ends_the_office(start):
    program = start(free_port())
    [web] = [pid for pid in program.pids() if "uvicorn" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(web, signal.SIGKILL)
    program.wait_for("web ended with exit code -9")
    program.wait_for_end()
    assert program.process.returncode != 0


# --- Finding a Python and keeping .venv ---


@pytest.fixture
def bare(tmp_path):
    """A folder with the set-up script and a lock of nothing, and a path that holds only what a test puts there."""
    folder = tmp_path / "office"
    (folder / "project").mkdir(parents=True)
    (folder / "project" / "setup.sh").write_bytes(SETUP.read_bytes())
    (folder / "requirements.txt").write_text("")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for tool in ("sh", "dirname", "cksum", "grep", "rm", "mv"):
        (scripts / tool).symlink_to(subprocess.check_output(["/bin/sh", "-c", f"command -v {tool}"], text=True).strip())
    return folder, scripts


def set_up(folder: Path, path: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/sh", "project/setup.sh", "requirements.txt"],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def put(scripts: Path, name: str, program: str) -> None:
    (scripts / name).write_text(f"#!/bin/sh\n{program}\n")
    (scripts / name).chmod(0o755)


def python() -> str:
    return os.path.realpath(ROOT / ".venv" / "bin" / "python")


def test_shim_that_fails_is_passed_over_also_when_it_hides_a_good_one(bare):
    folder, scripts = bare
    put(scripts, "python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    behind = scripts.parent / "behind"
    behind.mkdir()
    put(behind, "python3.13", f'exec {python()} "$@"')
    done = set_up(folder, f"{scripts}:{behind}")
    assert done.returncode == 0, done.stderr
    assert str(behind) in done.stderr


def test_without_a_python_one_line_says_what_to_install(bare):
    folder, scripts = bare
    put(scripts, "python3", "exit 1")
    done = set_up(folder, str(scripts))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.12 or newer" in done.stderr
    assert not (folder / ".venv").exists()


def test_without_a_python_uv_is_asked_for_one(bare):
    folder, scripts = bare
    for tool in ("mkdir", "ln"):
        (scripts / tool).symlink_to(f"/bin/{tool}")
    put(
        scripts,
        "uv",
        f'[ "$2 $3" = "python install" ] && mkdir -p "$UV_PYTHON_INSTALL_DIR/cpython-3.13.0/bin" && '
        f'ln -s {python()} "$UV_PYTHON_INSTALL_DIR/cpython-3.13.0/bin/python3"',
    )
    done = set_up(folder, str(scripts))
    assert done.returncode == 0, done.stderr
    assert "Making .venv" in done.stderr


def test_set_up_is_done_once_and_again_when_the_lock_changes(bare):
    folder, scripts = bare
    put(scripts, "python3.13", f'exec {python()} "$@"')
    assert "Making .venv" in set_up(folder, str(scripts)).stderr
    assert set_up(folder, str(scripts)).stderr == ""
    (folder / "requirements.txt").write_text("# changed\n")
    changed = set_up(folder, str(scripts)).stderr
    assert "Installing requirements.txt" in changed
    assert "Making .venv" not in changed


def test_half_made_venv_is_made_anew(bare):
    folder, scripts = bare
    put(scripts, "python3.13", f'exec {python()} "$@"')
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "half").touch()
    done = set_up(folder, str(scripts))
    assert done.returncode == 0, done.stderr
    assert not (folder / ".venv" / "half").exists()


def test_lock_that_cannot_be_installed_leaves_no_stamp(bare):
    folder, scripts = bare
    put(scripts, "python3.13", f'exec {python()} "$@"')
    (folder / "requirements.txt").write_text("no-such-package-of-ours==1.0 --hash=sha256:" + 64 * "0" + "\n")
    done = set_up(folder, str(scripts))
    assert done.returncode == 1
    assert "Try again" in done.stderr
    assert not (folder / ".venv" / "installed").exists()


# --- The lock files ---


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) ", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_lock_pins_by_hash_and_names_no_index(name):
    text = (ROOT / name).read_text()
    assert len(pins(name)) > 40
    for block in re.split(r"\n(?=[a-z])", text)[1:]:
        assert "--hash=sha256:" in block, block
    assert not re.search(r"://|index-url|find-links|trusted-host", text)


def test_development_lock_holds_the_same_versions_as_the_other():
    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()
