"""One demo office for all browser tests: `make run`'s own program, in a folder and a database of its own."""

import os
import shutil
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from crm.tests.processes import Program, free_port, wait_until
from project.env import ROOT

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PASSWORD = "hypodesk-demo"
START_S = 300


@pytest.fixture(scope="session")
def _database_url() -> Iterator[str]:
    """Where the suite runs on PostgreSQL, the office gets a database of its own beside the suite's."""
    given = os.environ.get("DATABASE_URL", "")
    if not given.startswith("postgres"):
        yield ""
        return
    name = f"hypodesk_e2e_{uuid.uuid4().hex[:12]}"
    parts = urlsplit(given)
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield parts._replace(path=f"/{name}").geturl()
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def office(tmp_path_factory, _database_url) -> Iterator[str]:
    """The address of a running demo office."""
    folder: Path = tmp_path_factory.mktemp("office")
    port = free_port()
    keep = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in keep if name in os.environ} | {
        "ENV_FILE": str(folder / ".env"),
        "DATA_DIR": str(folder),
        "PORT": str(port),
        "DEMO": "1",
        "TIME_ZONE": "Europe/Prague",
        **({"DATABASE_URL": _database_url} if _database_url else {}),
    }
    address = f"http://localhost:{port}"
    with Program(
        ["sh", "-c", f"cd '{ROOT}' && exec .venv/bin/python -m project.run"], cwd=folder, env=environment
    ) as run:
        run.wait_for("Ctrl-C stops it", within_s=START_S)
        assert wait_until(lambda: _answers(address), within_s=30), run.output
        yield address
        print(run.output[-3000:])


def _answers(address: str) -> bool:
    with urllib.request.urlopen(f"{address}/healthz", timeout=5) as answer:
        return answer.status == 200


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For a module, not longer: while Playwright runs, its event loop keeps Django's tests from the database."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine; CI installs one and fails when this is skipped")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Desk:
    """A person at a browser. Keeps what went wrong on the pages: errors, refused styles and scripts, outside requests."""

    def __init__(self, browser: Browser, address: str, folder: Path, *, locale: str, **context):
        self.address, self.folder, self.trouble = address, folder, []
        context.setdefault("viewport", {"width": 1400, "height": 900})
        self.context = browser.new_context(locale=locale, timezone_id="Europe/Prague", accept_downloads=True, **context)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda line: line.type == "error" and self.trouble.append(line.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", self._note_outside)
        self.page.on(
            "response", lambda answer: answer.status >= 500 and self.trouble.append(f"{answer.status} {answer.url}")
        )

    def _note_outside(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:", "about:")):
            self.trouble.append(f"outside: {request.url}")

    def go(self, path: str) -> Page:
        answer = self.page.goto(self.address + path)
        assert answer is not None and answer.ok, f"{path}: {answer and answer.status}"
        return self.page

    def log_in(self, username: str) -> Page:
        self.go("/admin/login/")
        self.page.fill("[name=username]", username)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("[type=submit]")
        self.page.wait_for_url("**/admin/")
        return self.page

    def picture(self, name: str) -> Path:
        file = self.folder / f"{name}.png"
        self.page.screenshot(path=file)
        return file


@pytest.fixture
def desk(chromium, office, tmp_path):
    """Opens desks; whatever one of them saw go wrong fails the test at its end."""
    opened: list[Desk] = []

    def open_desk(*, locale: str = "en-GB", **context) -> Desk:
        opened.append(Desk(chromium, office, tmp_path, locale=locale, **context))
        return opened[-1]

    yield open_desk
    trouble = [line for each in opened for line in each.trouble]
    for each in opened:
        each.context.close()
    assert trouble == []
