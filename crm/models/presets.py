"""What people want in their exports: columns under a name, the last choice, and what is sent by the calendar. Making files
of it is crm.exports'."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import NoticeChannel, Rhythm
from crm.encryption import EncryptedCharField, EncryptedTextField
from crm.models.base import CrmModel, CrmQuerySet

LAST_DAY = 28  # which every month has


class ExportPresetQuerySet(CrmQuerySet):
    def visible_to(self, user):
        """His own, and what others share."""
        return self.filter(Q(user=user) | Q(is_shared=True))


class ExportPreset(CrmModel):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="export_presets", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=80)
    model = models.CharField(_("list"), max_length=40, editable=False)
    format = models.CharField(_("format"), max_length=10)
    columns = models.JSONField(_("columns"), default=list)
    # Of the list's address: its filters, and what was searched for, which may be a name.
    query = EncryptedTextField(_("filter"), blank=True, editable=False)
    is_shared = models.BooleanField(_("shared"), default=False, help_text=_("Whoever may export this list can use it."))

    objects = ExportPresetQuerySet.as_manager()

    class Meta(CrmModel.Meta):
        verbose_name = _("export preset")
        verbose_name_plural = _("export presets")
        ordering = ["name", "pk"]
        permissions = [("share_exportpreset", "Can share export presets")]
        constraints = [models.UniqueConstraint(fields=["user", "model", "name"], name="export_preset_unique")]

    def __str__(self) -> str:
        return self.name


class ExportChoice(models.Model):
    """What somebody exported last of a list. Internal: no history."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=40)
    format = models.CharField(max_length=10)
    columns = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "model"], name="export_choice_unique")]


class ExportScheduleQuerySet(CrmQuerySet):
    def visible_to(self, user):
        return self if user.has_perm("crm.view_all_cases") else self.filter(user=user)


class ExportSchedule(CrmModel):
    """A preset that is made by the calendar for one person, with his rights and rows of that day."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="export_schedules",
        editable=False,
        verbose_name=_("for whom"),
    )
    preset = models.ForeignKey(
        ExportPreset, on_delete=models.CASCADE, related_name="schedules", verbose_name=_("export preset")
    )
    rhythm = models.CharField(_("how often"), max_length=10, choices=Rhythm, default=Rhythm.WEEKLY)
    day = models.PositiveSmallIntegerField(
        _("day"), default=1, help_text=_("Of the week, 1 is Monday; of the month, 1 to 28.")
    )
    channel = models.CharField(
        _("told by"),
        max_length=10,
        choices=[each for each in NoticeChannel.choices if each[0] != NoticeChannel.NONE],
        default=NoticeChannel.BOTH,
        help_text=_("The mail holds a link, which needs a login and works for a week."),
    )
    reason = EncryptedCharField(
        _("reason"), max_length=200, blank=True, help_text=_("Needed where the preset has sensitive columns.")
    )
    is_paused = models.BooleanField(_("paused"), default=False)
    # Days before it are none of its own.
    since = models.DateField(default=timezone.localdate, editable=False)

    objects = ExportScheduleQuerySet.as_manager()

    class Meta(CrmModel.Meta):
        verbose_name = _("regular export")
        verbose_name_plural = _("regular exports")
        ordering = ["preset", "pk"]

    def __str__(self) -> str:
        return f"{self.preset} ({self.get_rhythm_display()})"

    def clean(self):
        most = 7 if self.rhythm == Rhythm.WEEKLY else LAST_DAY
        if self.day is not None and not 1 <= self.day <= most:
            raise ValidationError({"day": _("A day from 1 to %(most)s.") % {"most": most}})

    def save(self, **kwargs):
        as_it_runs = ExportSchedule.objects.filter(pk=self.pk, is_paused=False, rhythm=self.rhythm, day=self.day)
        if self.pk and not self.is_paused and not as_it_runs.exists():
            self.since = timezone.localdate()
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], "since"}
        super().save(**kwargs)
