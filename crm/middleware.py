"""What every request passes: size limit, health, the user's language, a look at its address, and the operation its writes
belong to."""

import http
import io

from django.conf import settings
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import BadRequest
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, connection
from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.functional import SimpleLazyObject

from crm import values
from crm.audit.hooks import refused
from crm.choices import Source
from crm.models import operation


class HealthMiddleware:
    """First of all, so that a health check needs no host name and no HTTPS. /readyz asks the database too."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/healthz":
            return HttpResponse("ok", content_type="text/plain")
        if request.path == "/readyz":
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except DatabaseError:
                return HttpResponse("no database", status=503, content_type="text/plain")
            return HttpResponse("ready", content_type="text/plain")
        return self.get_response(request)


class BodyLimit:
    """Around the whole ASGI application, because Django takes in all of a body before its first middleware, and
    uvicorn limits nothing. Refuses by Content-Length, and counts what comes without one."""

    def __init__(self, application):
        self.application = application

    async def __call__(self, scope, receive, send):
        limit = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        length = dict(scope.get("headers", ())).get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await self._refuse(scope, send)
            return
        taken = 0
        started = False

        async def counted():
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            # For Django the client has gone: it drops what it has and answers nothing.
            return message if taken <= limit else {"type": "http.disconnect"}

        async def watched(message):
            nonlocal started
            started = True
            await send(message)

        await self.application(scope, counted, watched)
        if taken > limit and not started:
            await self._refuse(scope, send)

    async def _refuse(self, scope, send):
        # Nobody is known yet, so the page speaks the browser's language, or the one last chosen on it.
        language = translation.get_language_from_request(ASGIRequest(scope, io.BytesIO()))
        with translation.override(language):
            page = render_to_string("crm/too_large.html", {"limit": settings.UPLOAD_LIMIT_MB})
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"connection", b"close")]
        status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": page.encode()})


class UserLanguageMiddleware:
    """A person's own language, which the switch in the menu changes, goes before the browser's and its cookie's."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.user.is_authenticated:
            translation.activate(request.user.language)
            request.LANGUAGE_CODE = translation.get_language()
        return self.get_response(request)


class AddressMiddleware:
    """No page of ours writes such an address: with NUL, which PostgreSQL does not take, or with a number that is longer
    than any key, on which Python or the database gives up. What is searched for may be any number."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        for name, found in request.GET.lists():
            is_search = name == SEARCH_VAR
            if "\0" in name or any("\0" in each or (_is_long_number(each) and not is_search) for each in found):
                raise BadRequest("NUL or too long a number in the address")
        return self.get_response(request)


def _is_long_number(text: str) -> bool:
    return len(text) > values.KEY_DIGITS and text.isdecimal()


class OperationMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with operation(Source.ADMIN, user=SimpleLazyObject(lambda: request.user)):
            return self.get_response(request)

    def process_exception(self, request, exception):
        refused(request, exception)


def locked_out(request, response=None, credentials=None):
    """What django-axes answers to an account or an address that failed too often."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    return render(request, "crm/locked_out.html", {"wait_minutes": minutes}, status=http.HTTPStatus.TOO_MANY_REQUESTS)
