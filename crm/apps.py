from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class CrmConfig(AppConfig):
    name = "crm"
    verbose_name = _("Office")

    def ready(self):
        from crm import checks  # registers the system checks

        post_migrate.connect(checks.plant_canaries, sender=self)
