"""What every request passes: health, size limit, the user's language, and the operation its writes belong to."""

from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.utils import translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _

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
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            return HttpResponse("ready", content_type="text/plain")
        return self.get_response(request)


class BodyLimitMiddleware:
    """Refuses by Content-Length, before Django reads the body. (Uvicorn limits nothing.)"""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        if length > (settings.UPLOAD_LIMIT_MB + 1) * 1024 * 1024:
            text = _("The file is too large: at most %(limit)s MB.") % {"limit": settings.UPLOAD_LIMIT_MB}
            return HttpResponse(text, status=413, content_type="text/plain; charset=utf-8")
        return self.get_response(request)


class UserLanguageMiddleware:
    """A person's own language goes before the browser's."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        chosen = request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME)
        if request.user.is_authenticated and not chosen:
            translation.activate(request.user.language)
            request.LANGUAGE_CODE = translation.get_language()
        return self.get_response(request)


class OperationMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with operation(Source.ADMIN, user=SimpleLazyObject(lambda: request.user)):
            return self.get_response(request)
