"""What machines did, to be looked at; and the queue itself. All read-only."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from django_q.models import Failure, OrmQ, Schedule, Success

from crm.admin import badges
from crm.admin.base import ReadOnlyAdmin
from crm.admin.ui import ChoicesDropdownFilter, display


class RunAdmin(ReadOnlyAdmin):
    list_filter = (("state", ChoicesDropdownFilter), "created_at")
    list_select_related = ("user",)

    @display(description=_("state"), ordering="state")
    def state_badge(self, run):
        return badges.choice(run.state, run.get_state_display())

    @display(description=_("by"))
    def by(self, run):
        return run.user_name or str(run.user or "–")


# --- The queue. Another app registered plain pages for it, where inputs are invisible and everything can be edited. Of its
# schedules there is none: what they call is free text that a worker would run. ---
for model in (Schedule, Success, Failure, OrmQ):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class TaskAdmin(ReadOnlyAdmin):
    """Arguments are ids; results may be long, so lists leave them out."""

    list_display = ("name", "func", "group", "started", "stopped", "attempt_count")
    list_defer = ("args", "kwargs", "result")
    search_fields = ("name", "func", "group")
    fields = ("id", "name", "func", "group", "started", "stopped", "attempt_count", "cluster")


@admin.register(Success)
class SuccessAdmin(TaskAdmin):
    pass


@admin.register(Failure)
class FailureAdmin(TaskAdmin):
    fields = (*TaskAdmin.fields, "result")


@admin.register(OrmQ)
class OrmQAdmin(ReadOnlyAdmin):
    list_display = ("id", "key", "lock")
    list_defer = ("payload",)
    fields = ("id", "key", "lock")
