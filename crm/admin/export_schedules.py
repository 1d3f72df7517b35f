"""Regular exports: one's own, and everybody's for whoever sees all cases, who may pause them."""

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import values
from crm.admin.base import CrmAdmin
from crm.admin.forms import CrmModelForm
from crm.admin.ui import ChoicesDropdownFilter, display
from crm.choices import Rhythm, Weekday
from crm.exceptions import NotAllowed, ReasonMissing
from crm.exports import presets, regular
from crm.models import ExportRun, ExportSchedule


class ExportScheduleForm(CrmModelForm):
    user = None

    def clean(self):
        given = super().clean()
        if given.get("preset") and not given.get("is_paused"):  # whoever lost a right may still stop it
            try:
                regular.plan(given["preset"], self.user, given.get("reason", ""))
            except ReasonMissing as error:
                self.add_error("reason", ValidationError(str(error)))
            except NotAllowed:
                self.add_error("preset", ValidationError(_("Your role may not export all of its columns.")))
        return given


@admin.register(ExportSchedule)
class ExportScheduleAdmin(CrmAdmin):
    form = ExportScheduleForm
    list_display = ("title", "of_list", "when", "channel", "by", "is_paused", "last")
    list_filter = (("rhythm", ChoicesDropdownFilter), "is_paused")
    list_select_related = ("preset", "user")
    fields = ("preset", "rhythm", "day", "channel", "reason", "is_paused")

    def get_form(self, request, obj=None, **kwargs):
        made = super().get_form(request, obj, **kwargs)
        made.user = request.user
        return made

    def get_readonly_fields(self, request, obj=None):
        is_own = obj is None or obj.user_id == request.user.pk
        return () if is_own else tuple(name for name in self.fields if name != "is_paused")

    def save_model(self, request, obj, form, change):
        if not change:
            obj.user = request.user
        super().save_model(request, obj, form, change)

    def for_list(self, request, queryset):
        runs = ExportRun.objects.filter(schedule=OuterRef("pk")).order_by("-pk")
        last = {f"last_{name}": Subquery(runs.values(name)[:1]) for name in ("pk", "created_at")}
        return super().for_list(request, queryset).annotate(**last)

    @display(description=_("export preset"), ordering="preset__name")
    def title(self, schedule):
        return schedule.preset.name

    @display(description=_("list"), ordering="preset__model")
    def of_list(self, schedule):
        return presets.model_of(schedule.preset)._meta.verbose_name_plural

    @display(description=_("when"))
    def when(self, schedule):
        if schedule.rhythm == Rhythm.WEEKLY:
            return gettext("Weekly: %(day)s") % {"day": Weekday(schedule.day).label}
        return gettext("Monthly: day %(day)s") % {"day": schedule.day}

    @display(description=_("for whom"), ordering="user__last_name")
    def by(self, schedule):
        return schedule.user

    @display(description=_("last"))
    def last(self, schedule):
        if not schedule.last_pk:
            return "–"
        url = reverse("admin:crm_exportrun_change", args=[schedule.last_pk])
        return format_html('<a href="{}">{}</a>', url, values.moment(schedule.last_created_at))
