from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class CrmConfig(AppConfig):
    name = "crm"
    verbose_name = _("Office")

    def ready(self):
        from crm import (
            checks,  # registers the system checks
            privacy,  # noqa: F401 connects what restricts again who comes back
        )
        from crm.audit import hooks  # noqa: F401 connects what the audit trail is told by

        post_migrate.connect(checks.plant_canaries, sender=self)


class OfficeAdminConfig(admin_apps.AdminConfig):
    """Stands in for django.contrib.admin, so that admin.site is ours."""

    default = False
    default_site = "crm.admin.site.OfficeSite"

    def ready(self):
        super().ready()
        from crm.admin import register  # noqa: F401 after the other apps' pages, some of which it replaces
