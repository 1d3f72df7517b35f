"""The address under which a person's calendar program reads his deadlines. What it says is crm.calendars'."""

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext_lazy as _

from crm.models.base import CrmModel, CrmQuerySet


class CalendarFeedQuerySet(CrmQuerySet):
    def with_made_at(self):
        """When the address in force was made: nothing else changes a row."""
        versions = self.model.history.filter(id=OuterRef("pk")).order_by("-history_id")
        return self.annotate(made_at=Subquery(versions.values("history_date")[:1]))


class CalendarFeed(CrmModel):
    """Whoever knows the address reads it. The database knows a keyed digest of its secret only: deleting the row revokes
    the address, a new one makes the old one void."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="calendar_feed", verbose_name=_("user")
    )
    digest = models.CharField(max_length=64, db_index=True, editable=False)

    objects = CalendarFeedQuerySet.as_manager()

    class Meta(CrmModel.Meta):
        verbose_name = _("calendar address")
        verbose_name_plural = _("calendar addresses")
        ordering = ["user"]

    def __str__(self) -> str:
        return str(self.user)
