"""A real S3 server in the test's own process, and before it a door that answers as it is told."""

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

BUCKET = "office-backups"


class Door(ThreadingHTTPServer):
    """Hands requests on to `behind`, (host, port). `fault(method, path)` names what happens to one instead: a status (`403`),
    `silent` (no answer until the end of the test), `cut` (the connection is closed when half of the request is there), `half`
    (half of the answer's bytes, then the connection is closed), `short` (half of them, called all), `slow` (a byte at a time),
    `changed` (the last byte is another), `empty` (nothing, called all), `renamed` (another ETag),
    `moved` or `blank` (as no store answers), or nothing."""

    daemon_threads = True

    def __init__(self, behind: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.fault: Callable[[str, str], str] = lambda method, path: ""
        self.asked: list[tuple[str, str]] = []
        self.is_over = threading.Event()

    def handle_error(self, request, client_address):
        """A caller that gave up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Door

    def answer(self):
        self.server.asked.append((self.command, self.path))
        fault = self.server.fault(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if fault == "cut" else length)
        if fault == "cut":
            self.close_connection = True
        elif fault == "silent":
            self.server.is_over.wait()
            self.close_connection = True
        elif fault in ("moved", "blank"):
            self.be_no_store(301 if fault == "moved" else 200)
        elif fault.isdigit():
            self.refuse(int(fault))
        else:
            self.hand_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *args):
        pass

    def be_no_store(self, status: int):
        self.send_response(status)
        self.send_header("Location", "https://127.0.0.1:1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def refuse(self, status: int):
        code = "AccessDenied" if status == 403 else "InternalError"
        said = f"<Error><Code>{code}</Code><Message>secret-words of the server</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    def hand_on(self, body: bytes, fault: str):
        with contextlib.closing(http.client.HTTPConnection(*self.server.behind, timeout=60)) as behind:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            behind.request(self.command, self.path, body=body, headers=headers)
            answer = behind.getresponse()
            content = answer.read()
        given = {"half": content[: len(content) // 2], "short": content[: len(content) // 2], "empty": b""}.get(
            fault, content
        )
        if fault == "changed":
            given = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name == "ETag" and fault == "renamed":
                value = '"another"'
            if self.command == "HEAD" and name.lower() == "content-length":
                self.send_header(name, value)
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content if fault == "half" else given)))
        self.end_headers()
        for at in range(0, len(given), 1 if fault == "slow" else max(len(given), 1)):
            self.wfile.write(given[at : at + 1] if fault == "slow" else given)
            if fault == "slow" and self.server.is_over.wait(0.05):
                break
        if fault == "half":
            self.close_connection = True


@contextlib.contextmanager
def serving():
    """A door in the way of moto's server, which begins empty: what it holds is its process's, and outlives it."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    door = Door(moto.get_host_and_port())
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        assert call(door, "POST", "/moto-api/reset") == 200
        yield door
    finally:
        door.is_over.set()
        door.shutdown()
        door.server_close()
        moto.stop()


def call(door: Door, method: str, path: str) -> int:
    """Past the faults and past boto."""
    with contextlib.closing(http.client.HTTPConnection(*door.behind, timeout=60)) as behind:
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
        behind.request(method, path, headers=headers)
        answer = behind.getresponse()
        answer.read()
        return answer.status


def lying(door: Door) -> dict[str, bytes]:
    """Every object of the bucket by its key, past the door."""
    from moto.s3.models import s3_backends

    return {
        key: found.value
        for backend in s3_backends.values()
        for region in backend.values()
        for name, bucket in region.buckets.items()
        if name == BUCKET
        for key, found in bucket.keys.items()
    }
