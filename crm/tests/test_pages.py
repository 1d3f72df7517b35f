"""Pages outside the admin's frame: for whoever is locked out, lost, refused, or has no password yet."""

import asyncio

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation

from crm import roles
from crm.middleware import BodyLimit
from crm.tests import factories

pytestmark = pytest.mark.django_db


def try_to_log_in(client, times):
    for _ in range(times):
        response = client.post(
            "/admin/login/", {"username": "alice", "password": "wrong"}, headers={"accept-language": "en"}
        )
    return response


def test_the_last_allowed_attempt_still_gets_the_form(client, settings):
    settings.AXES_FAILURE_LIMIT = 3
    assert try_to_log_in(client, 2).status_code == 200


def test_who_is_locked_out_reads_for_how_long(client, settings):
    settings.AXES_FAILURE_LIMIT = 3
    response = try_to_log_in(client, 3)
    page = response.content.decode()
    assert response.status_code == 429
    assert "closed for 15 min" in page
    assert "alice" not in page


def test_a_missing_page_is_in_the_persons_language(client, adviser):
    client.force_login(adviser)
    response = client.get("/nowhere/", headers={"accept-language": "en"})
    assert response.status_code == 404
    assert '<html lang="cs"' in response.content.decode()


@pytest.mark.parametrize(
    "name", ["400.html", "403.html", "404.html", "500.html", "403_csrf.html", "crm/too_large.html"]
)
@pytest.mark.parametrize("language", ["cs", "en"])
def test_an_error_page_needs_no_request_and_no_database(name, language, django_db_blocker):
    with translation.override(language), django_db_blocker.block():
        page = render_to_string(name, {"limit": 20})
    assert f'<html lang="{language}"' in page
    assert "<main>" in page
    assert "<script" not in page


LONG, TOO_LONG = "9" * 18, "9" * 5000


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("crm/case/?adviser=%00", 400),
        ("crm/case/?as_of=2026-01-01&before=%00", 400),
        ("crm/auditentry/?kind__exact=%00", 400),
        ("recycle-bin/?q=%00", 400),
        ("?%00=1", 400),
        (f"crm/case/?adviser={TOO_LONG}", 400),
        (f"crm/auditentry/?person=1&person={LONG}9", 400),
        (f"crm/case/?adviser={LONG}", 200),
        (f"crm/auditentry/?person={LONG}", 200),
        (f"crm/client/?q={LONG * 2}", 200),
    ],
)
def test_an_address_that_no_page_writes_is_told_so(client, administrator, address, status):
    client.force_login(administrator)
    assert client.get(f"/admin/{address}").status_code == status


def test_it_is_told_in_the_persons_language(client, adviser):
    client.force_login(adviser)
    assert '<html lang="cs"' in client.get("/admin/?p=%00", headers={"accept-language": "en"}).content.decode()


@pytest.mark.parametrize("ticked", ["abc", "\0", TOO_LONG, f"{LONG}9", "²", "-1", ""])
def test_a_selection_of_no_rows_is_told_so(client, administrator, ticked):
    client.force_login(administrator)
    kept = factories.make_client()
    for name in ("client", "auditentry"):
        chosen = {"action": "bulk_edit", "_selected_action": [kept.pk, ticked]}
        assert client.post(f"/admin/crm/{name}/", chosen).status_code == 400


def test_the_palette_finds_nothing_for_what_no_database_takes(client, administrator):
    client.force_login(administrator)
    assert client.post("/admin/search/", {"s": "H-0\0"}).status_code == 200


def test_a_refused_form_says_what_to_do():
    strict = Client(enforce_csrf_checks=True)
    response = strict.post("/admin/login/", {}, headers={"accept-language": "en"})
    assert response.status_code == 403
    assert "The form has expired" in response.content.decode()


def test_a_new_person_sets_a_password_and_logs_in(client):
    user = factories.make_user(roles.ADVISER)
    path = roles.set_password_link(user).removeprefix("https://testserver")
    form = client.get(path, follow=True)
    assert 'autocomplete="new-password"' in form.content.decode()
    password = "correct horse battery"
    client.post(form.request["PATH_INFO"], {"new_password1": password, "new_password2": password})
    assert client.login(request=form.wsgi_request, username=user.username, password=password)


def test_a_used_link_says_so(client):
    response = client.get("/password/MQ/set-password/", headers={"accept-language": "en"})
    assert "This link no longer works" in response.content.decode()


def refused(headers, body=b"") -> tuple[int, str]:
    """Status and page of a request to an application that reads its whole body and answers 200."""
    sent = []

    async def application(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        if message["type"] == "http.request":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    asyncio.run(BodyLimit(application)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize(("length", "status"), [(1000, 200), (1001, 413)])
def test_a_body_beyond_the_limit_is_refused(settings, length, status):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert refused([(b"content-length", str(length).encode())])[0] == status
    assert refused([], body=b"x" * length)[0] == status


@pytest.mark.parametrize(("language", "words"), [(b"en", "The file is too large"), (b"cs", "Soubor")])
def test_who_sends_too_much_reads_why_in_his_language(settings, language, words):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert words in refused([(b"content-length", b"1001"), (b"accept-language", language)])[1]
