"""Addresses: the admin is the product. The older CRM's addresses lead to their new pages."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("calendar/", include("crm.feeds")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("password/", include("crm.admin.passwords")),
    re_path(r"^klienti(?:/.*)?$", RedirectView.as_view(pattern_name="admin:crm_client_changelist")),
    re_path(r"^(?:dashboard|reporting)(?:/.*)?$", RedirectView.as_view(pattern_name="admin:index")),
]
