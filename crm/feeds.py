"""What is read without a login, by a program that knows a secret address: calendars. Every failure looks the same."""

from django.http import HttpResponse, HttpResponseNotFound
from django.urls import path
from django.utils import timezone
from django.utils.cache import get_conditional_response, set_response_etag
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from crm import calendars

HEADERS = {"Cache-Control": "private, no-cache", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}


@csrf_exempt
@require_safe
def calendar(request, token):
    content = calendars.read(token, timezone.now())
    if content is None:
        return HttpResponseNotFound("Not found.\n", content_type="text/plain; charset=utf-8", headers=HEADERS)
    response = HttpResponse(content, content_type="text/calendar; charset=utf-8", headers=HEADERS)
    set_response_etag(response)
    return get_conditional_response(request, etag=response["ETag"], response=response)


urlpatterns = [path("<str:token>.ics", calendar, name="calendar")]
