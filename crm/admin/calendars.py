"""A person's calendar address, the office's list of them, and the calendar of one case as a file. crm.calendars writes them."""

import re

from django import forms
from django.contrib import admin, messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from crm import calendars, values
from crm.admin.base import STYLES, CrmAdmin, require
from crm.admin.navigation import MY_CALENDAR
from crm.admin.ui import display
from crm.models import CalendarFeed


@admin.register(CalendarFeed)
class CalendarFeedAdmin(CrmAdmin):
    """Whoever may delete an address here revokes it: its person makes himself another."""

    list_display = ("user", "made")
    list_select_related = ("user",)
    list_defer = ("digest",)
    search_fields = ("user__username", "user__first_name", "user__last_name")
    fields = ("user", "made")
    readonly_fields = ("made",)

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def get_queryset(self, request):
        return super().get_queryset(request).with_made_at()

    @display(description=_("made"))
    def made(self, feed):
        return values.moment(feed.made_at)

    # --- One's own ---

    def get_urls(self):
        def url(name, view):
            return path(f"{name}/", self.admin_site.admin_view(view), name=f"crm_calendarfeed_{name}")

        return [
            url("mine", self.mine_view),
            url("make", self.make_view),
            url("revoke", self.revoke_view),
            *super().get_urls(),
        ]

    def mine_view(self, request):
        require(calendars.may_have(request.user))
        return self._mine(request)

    @method_decorator(require_POST)
    def make_view(self, request):
        """The answer is the page itself: no message and no session keeps the address."""
        require(calendars.may_have(request.user))
        return self._mine(request, calendars.make(request.user))

    @method_decorator(require_POST)
    def revoke_view(self, request):
        require(calendars.may_have(request.user))
        if calendars.revoke(request.user):
            messages.success(
                request, gettext("The address is revoked. Calendars that ask for it get nothing any more.")
            )
        return HttpResponseRedirect(reverse(MY_CALENDAR))

    def _mine(self, request, address: str = ""):
        feed = CalendarFeed.objects.with_made_at().filter(user=request.user).first()
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("My calendar"),
            "media": forms.Media(css=STYLES),
            "address": address,
            # Not webcal://, which asks without encryption first: the secret would cross the network in the clear.
            "webcal": re.sub("^http", "webcal", address),
            "made": values.moment(feed.made_at) if feed else "",
            "days": calendars.LOOK_BACK.days,
        }
        return render(request, "admin/crm/my_calendar.html", context)


class CaseCalendarMixin:
    """Of the case's admin. A file that shows nothing but what the list of steps does: no export."""

    def get_urls(self):
        page = self.admin_site.admin_view(self.calendar_view)
        return [path("<path:object_id>/calendar/", page, name="crm_case_calendar"), *super().get_urls()]

    def calendar_view(self, request, object_id):
        require(self.has_view_permission(request))
        case = get_object_or_404(self.get_queryset(request).only("reference"), pk=values.key(object_id))
        headers = {"Content-Disposition": f'attachment; filename="{case.reference}.ics"'}
        return HttpResponse(calendars.of_case(case), content_type="text/calendar; charset=utf-8", headers=headers)
