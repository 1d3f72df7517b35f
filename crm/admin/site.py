"""The admin site itself: Unfold's, minus what would leak, plus the language switch and the demo hint at the login."""

import functools

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.functional import SimpleLazyObject
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.module_loading import import_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.sites import UnfoldAdminSite

from crm import health, roles
from crm.admin import navigation
from crm.audit.hooks import refused
from crm.backups import watch
from crm.choices import Language
from crm.models import User
from crm.search import clean


class OfficeSite(UnfoldAdminSite):
    index_title = _("My day")

    def get_urls(self):
        return [
            path("search/", require_POST(self.admin_view(self.search)), name="search"),
            path("language/", require_POST(self.admin_view(self.language)), name="language"),
            path("audit/<uuid:operation_id>/", self.admin_view(self.operation), name="crm_operation"),
            self._page("audit/<uuid:operation_id>/undo/", "undo_operation.undo_page", "crm_operation_undo"),
            self._page("audit/<uuid:operation_id>/undo/progress/", "undo_operation.progress", "crm_undo_progress"),
            self._page("audit/<uuid:operation_id>/undo/cancel/", "undo_operation.cancel", "crm_undo_cancel"),
            self._page("audit/version/<str:model>/<int:history_id>/", "undo.revert_page", "crm_revert"),
            self._page("recycle-bin/", "undo.recycle_bin", "crm_recycle_bin"),
            self._page("recycle-bin/<str:model>/<int:key>/", "undo.restore_page", "crm_restore"),
            self._page("inbox/", "notices.inbox", "crm_inbox"),
            self._page("inbox/read/", "notices.mark_read", "crm_inbox_read"),
            self._page("inbox/<int:pk>/open/", "notices.open_notice", "crm_inbox_open"),
            self._page("inbox/choices/", "notices.my_notices", "crm_my_notices"),
            *super().get_urls(),
        ]

    def admin_view(self, view, cacheable=False):
        """A client's login is led to the office's login page; that he asked stands in the trail."""
        inner = super().admin_view(view, cacheable)

        @functools.wraps(inner)
        def page(request, *args, **kwargs):
            known = request.user.is_authenticated and not self.has_permission(request)
            if known and request.path != reverse("admin:logout", current_app=self.name):
                refused(request, PermissionDenied())
            return inner(request, *args, **kwargs)

        return page

    def _page(self, route: str, view: str, name: str):
        """Its module is imported when it is asked for: it needs the site that is being made here."""

        def page(request, **kwargs):
            return import_string(f"crm.admin.{view}")(request, site=self, **kwargs)

        return path(route, self.admin_view(page), name=name)

    def each_context(self, request):
        return super().each_context(request) | {
            "trouble": SimpleLazyObject(lambda: _trouble(request)),
            "unread": SimpleLazyObject(lambda: navigation.unread(request)),
        }

    def operation(self, request, operation_id):
        return import_string("crm.admin.audit.operation_page")(request, operation_id, self)

    def autocomplete_view(self, request):
        return import_string("crm.admin.base.ChoicesView").as_view(admin_site=self)(request)

    def search(self, request, extra_context=None):
        """Unfold's keeps results for five minutes in Django's cache: decrypted names, still shown after a person lost
        the right to see them. This one asks anew every time and keeps nothing. It is a POST, so that no name stands in
        an address, which every proxy writes into its log."""
        term = clean(request.POST.get("s") or "")
        if not term:
            return HttpResponse()
        results = self._search_apps(self.get_app_list(request), term.lower())
        results += import_string(settings.UNFOLD["COMMAND"]["search_callback"])(request, term)
        pages = Paginator(results, max(len(results), 1))
        response = TemplateResponse(
            request,
            "unfold/helpers/command_results.html",
            {"search_term": term, "page_obj": pages, "results": pages.page(1), "page_counter": 0},
            headers={"HX-Trigger": "search"},
        )
        add_never_cache_headers(response)
        return response

    def language(self, request):
        """The switch changes the person's own language, so that his next login and his mails speak it too."""
        back = request.POST.get("next") or request.META.get("HTTP_REFERER") or ""
        if not url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure()):
            back = reverse("admin:index")
        response = HttpResponseRedirect(back)
        chosen = request.POST.get("language")
        if chosen in Language.values:
            if request.user.language != chosen:
                request.user.language = chosen
                request.user.save(update_fields=["language"])
            # For the login page, where nobody is known yet.
            response.set_cookie(
                settings.LANGUAGE_COOKIE_NAME,
                chosen,
                max_age=365 * 24 * 3600,
                secure=request.is_secure(),
                samesite="Lax",
            )
        return response

    def login(self, request, extra_context=None):
        return super().login(request, {"demo_logins": _demo_logins(), **(extra_context or {})})


def _trouble(request) -> str:
    """For everybody who works here: his reminders do not go out. Asked where the page shows it."""
    if not (request.user.is_active and request.user.is_staff):
        return ""
    now = timezone.now()
    found = health.silence(now, last_sign(request)) or _backup_trouble(request)
    return found or health.mail_trouble()


def _backup_trouble(request) -> str:
    """Everybody's business, but what is wrong with it and its cure is for who can do something."""
    found = watch.disk_trouble() or backups(request).trouble
    if not found or request.user.has_perm("crm.view_backuprun"):
        return found
    return gettext("The office's backups are not in order: tell an administrator.")


def last_sign(request):
    """Asked once a request."""
    if not hasattr(request, "last_sign"):
        request.last_sign = health.last_sign()
    return request.last_sign


def backups(request) -> watch.Finding:
    """Asked once a request."""
    if not hasattr(request, "backups"):
        request.backups = watch.finding(timezone.now())
    return request.backups


def _demo_logins():
    """On a desk whose office is the invented one only; production refuses to start with demo users."""
    if not settings.DEBUG or not User.objects.filter(is_demo=True, is_active=True).exists():
        return []
    return [
        {"username": login.username, "password": login.password, "role": roles.LABELS[login.role]}
        for login in import_string("crm.demo.LOGINS")
        if login.role != roles.CLIENT
    ]
