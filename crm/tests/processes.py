"""Programs started as an operator starts them: a clone of the repository, a clean environment, an end without a trace."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from project.env import ROOT
from project.run import term_when_parent_dies

START_S = 120
END_S = 20  # the promise is 5 s; a busy machine gets more


def clone(target: Path) -> Path:
    """`git clone`, with what is not committed yet laid over it."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, target], check=True, capture_output=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, target / name
        if source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        else:
            copy.unlink(missing_ok=True)
    return target


def bare_environment(home: Path, **variables: str) -> dict[str, str]:
    """What a new shell has. No test reaches outside: pip finds this suite's own packages, in exactly the locked
    versions or it fails, instead of an index."""
    scripts = Path(sys.executable).parent
    return {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages")),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        **variables,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A started command with all that it starts in turn, whatever group or session that moves to."""

    def __init__(self, command: list[str] | str, *, cwd: Path, env: dict[str, str]):
        self.mark = f"HYPODESK_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.output_file = cwd / f"output-{value}.txt"
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                shell=isinstance(command, str),
                cwd=cwd,
                env={**env, name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=term_when_parent_dies,  # a killed suite leaves nothing either
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def wait_for(self, text: str, *, within_s: float = START_S) -> str:
        wait_until(lambda: text in self.output or self.process.poll() is not None, within_s=within_s)
        assert text in self.output, self.output
        return self.output

    def signal_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def wait_for_end(self, *, within_s: float = END_S) -> None:
        """Of everything that was started, not only of the first process."""
        ended = wait_until(lambda: self.process.poll() is not None and not self.pids(), within_s=within_s)
        assert ended, f"still there: {self.pids()}\n{self.output}"


def wait_until(condition, *, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


class Browser:
    """Just enough of one: cookies, redirects by hand, forms with their token. Speaks as a proxy would pass it on."""

    def __init__(self, port: int, **headers: str):
        self.port = port
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.cookies: dict[str, str] = {}
        self.status = 0
        self.location = ""
        self.text = ""
        self.answer_headers: http.client.HTTPMessage | None = None

    def get(self, address: str) -> "Browser":
        return self._ask("GET", address)

    def submit(self, address: str, **fields: str) -> "Browser":
        """Posts a form of the page that was fetched last."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.text)
        assert token, self.text[:2000]
        return self._ask("POST", address, {"csrfmiddlewaretoken": token[1], **fields})

    def _ask(self, method: str, address: str, fields: dict | None = None) -> "Browser":
        parts = urlsplit(address)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {**self.headers, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if fields is not None:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"{headers.get('X-Forwarded-Proto', 'http')}://{headers.get('Host', '')}",
            }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body=urlencode(fields) if fields is not None else None, headers=headers)
        answer = connection.getresponse()
        self.text = answer.read().decode("utf-8", "replace")
        self.status, self.location, self.answer_headers = (
            answer.status,
            answer.getheader("Location", ""),
            answer.headers,
        )
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        connection.close()
        return self
