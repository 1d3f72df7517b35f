"""What every request passes, without a server: health, body limit, language, operation."""

import asyncio

import pytest
from django.db import DatabaseError, connection
from django.test import Client as Browser
from django.test import RequestFactory
from django.utils import translation

from crm.choices import Source
from crm.middleware import BodyLimit, OperationMiddleware, UserLanguageMiddleware
from crm.models import Client, User
from crm.models.operations import current_operation, current_user

MEGABYTE = 1024 * 1024


# --- Health ---


def test_ready_says_when_there_is_no_database(db, monkeypatch):
    def broken():
        raise DatabaseError("the server is gone")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "cursor", broken)
        answer = Browser().get("/readyz")
        assert Browser().get("/healthz").status_code == 200
    assert (answer.status_code, answer.content) == (503, b"no database")


def test_health_asks_no_database(client):
    assert client.get("/healthz").status_code == 200


# --- Body limit ---


class Application:
    """Takes in the whole body as Django does, then answers; a disconnect ends it without an answer."""

    def __init__(self, answer_first: bool = False):
        self.taken = b""
        self.called = False
        self.answer_first = answer_first

    async def __call__(self, scope, receive, send):
        self.called = True
        if self.answer_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.taken += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})


def send(application, pieces: list[bytes], **headers: str) -> list[int]:
    """The status lines that go out."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if waiting:
        waiting[-1]["more_body"] = False
    sent = []

    async def receive():
        return waiting.pop(0)

    async def out(message):
        sent.append(message)

    asyncio.run(BodyLimit(application)(scope, receive, out))
    return [message["status"] for message in sent if message["type"] == "http.response.start"]


@pytest.fixture
def limit(settings):
    settings.UPLOAD_LIMIT_MB = 1
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * MEGABYTE
    return 2 * MEGABYTE


def test_a_length_up_to_the_limit_is_let_through(limit):
    application = Application()
    assert send(application, [b"x" * limit], content_length=str(limit)) == [200]
    assert len(application.taken) == limit


def test_a_length_over_the_limit_is_refused_before_anything_is_taken_in(limit):
    application = Application()
    assert send(application, [], content_length=str(limit + 1)) == [413]
    assert not application.called


@pytest.mark.parametrize("length", ["", "-1", "nonsense"])
def test_a_body_without_a_sound_length_is_counted(limit, length):
    piece = b"x" * (limit // 4)
    assert send(Application(), [piece] * 4, content_length=length) == [200]
    application = Application()
    assert send(application, [piece] * 4 + [b"x"], content_length=length) == [413]
    assert len(application.taken) == limit


def test_a_length_that_lies_is_counted(limit):
    assert send(Application(), [b"x" * limit, b"x"], content_length="10") == [413]


def test_an_answer_that_has_begun_is_not_followed_by_another(limit):
    assert send(Application(answer_first=True), [b"x" * limit, b"x"]) == [200]


def test_the_refusal_names_the_limit_in_the_browsers_language(limit):
    sent = []

    async def out(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"999999999")]}
    asyncio.run(BodyLimit(Application())(scope, None, out))
    assert b"1" in sent[1]["body"]
    assert b"MB" in sent[1]["body"]


def test_other_kinds_of_connection_pass(limit):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(BodyLimit(application)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


# --- Language ---


def test_a_persons_own_language_goes_before_the_browsers(db):
    request = RequestFactory().get("/")
    request.user = User.objects.create_user("alice", language="cs")
    spoken = []

    def view(request):
        spoken.append((translation.get_language(), request.LANGUAGE_CODE))

    with translation.override("en"):
        UserLanguageMiddleware(view)(request)
    assert spoken == [("cs", "cs")]


# --- Operation ---


def test_a_request_is_one_operation_of_its_user(db):
    request = RequestFactory().get("/")
    request.user = User.objects.create_user("alice")
    seen = []

    def view(request):
        seen.append((current_operation().source, current_user().pk))
        Client.objects.create(full_name="Bob").save()

    OperationMiddleware(view)(request)
    assert seen == [(Source.ADMIN, request.user.pk)]
    assert current_operation() is None
    rows = list(Client.history.all())
    assert len({row.operation_id for row in rows}) == 1
    assert {row.history_user_id for row in rows} == {request.user.pk}


def test_an_error_ends_the_operation(db):
    def view(request):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        OperationMiddleware(view)(RequestFactory().get("/"))
    assert current_operation() is None
