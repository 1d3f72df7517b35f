"""Filters of the lists: quick ones shown as links above the list, people, and ranges typed in the reader's language."""

import datetime

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.admin.forms import LocalDateField, LocalDateWidget, NumberField, NumberWidget
from crm.admin.ui import INPUT_CLASSES, DropdownFilter, RangeDateFilter, RangeNumericFilter
from crm.exceptions import CrmError
from crm.models import Client, User


class UnreadFilter(CrmError):
    message = _("The filter “%(filter)s” cannot be read, so nothing is exported. Put it right on the list.")


def pass_over(request, unread) -> None:
    """A list shows all rows, and what is wrong beside the filter; a file could not, so none is made of it."""
    if getattr(request, "wants_whole_filter", False):
        raise UnreadFilter(filter=unread.title)


class QuickFilter(DropdownFilter):
    """Its choices stand above the list as links too. `default` is what holds when nothing is chosen."""

    quick = True
    parameter_name = "quick"
    default = "all"
    all_option = None
    title = _("quick choice")

    def queryset(self, request, queryset):
        choice = self.value() or self.default
        if choice not in dict(self.lookup_choices):
            pass_over(request, self)
            return queryset
        return getattr(self, choice, self.everything)(request, queryset)

    def everything(self, request, queryset):
        return queryset


class CaseQuickFilter(QuickFilter):
    def lookups(self, request, model_admin):
        return [
            ("all", _("All")),
            ("active", _("Active")),
            ("mine", _("Mine")),
            ("overdue", _("Overdue")),
            ("nobodys", _("Without an adviser")),
        ]

    def active(self, request, cases):
        return cases.active()

    def mine(self, request, cases):
        return cases.active().belonging_to(request.user)

    def overdue(self, request, cases):
        return cases.active().filter(next_deadline__lt=timezone.localdate())

    def nobodys(self, request, cases):
        return cases.active().filter(adviser=None)


class DueFilter(QuickFilter):
    default = "pending"
    title = _("due")

    def lookups(self, request, model_admin):
        return [
            ("pending", _("To do")),
            ("overdue", _("Overdue")),
            ("today", _("Today")),
            ("soon", _("Next 3 days")),
            ("week", _("Next 7 days")),
            ("mine", _("Mine")),
            ("all", _("Also settled ones")),
        ]

    def pending(self, request, steps):
        return steps.pending().of_active_cases()

    def overdue(self, request, steps):
        return steps.overdue(timezone.localdate())

    def today(self, request, steps):
        return steps.due_on(timezone.localdate())

    def soon(self, request, steps):
        return self._next(steps, 3)

    def week(self, request, steps):
        return self._next(steps, 7)

    def _next(self, steps, days):
        today = timezone.localdate()
        return steps.due_between(today + datetime.timedelta(days=1), today + datetime.timedelta(days=days))

    def mine(self, request, steps):
        return steps.pending().of_active_cases().belonging_to(request.user)


class AdviserFilter(DropdownFilter):
    """Of one person, as adviser or stand-in: what "mine" means to him."""

    title = _("adviser")
    parameter_name = "adviser"

    def lookups(self, request, model_admin):
        staff = User.objects.filter(is_staff=True).only("first_name", "last_name", "username")
        return [(str(user.pk), user.get_display_name()) for user in staff]

    def queryset(self, request, queryset):
        if (self.value() or "").isdecimal():
            return queryset.belonging_to(int(self.value()))
        if self.value():
            pass_over(request, self)
        return queryset


class CitizenshipFilter(DropdownFilter):
    title = _("citizenship")
    parameter_name = "citizenship"

    def lookups(self, request, model_admin):
        return [(code, code) for code in Client.objects.citizenships() if code]

    def queryset(self, request, queryset):
        return queryset.filter(citizenship=self.value()) if self.value() else queryset


class RangeForm(forms.Form):
    """Two inputs, from and to."""

    field_class, widget_class = NumberField, NumberWidget
    field_options: dict = {}

    class Media:
        js = ("admin/js/calendar.js", "admin/js/admin/DateTimeShortcuts.js")

    def __init__(self, name, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for end, label in (("from", _("From")), ("to", _("To"))):
            widget = self.widget_class({"placeholder": label, "aria-label": label, "class": " ".join(INPUT_CLASSES)})
            self.fields[f"{name}_{end}"] = self.field_class(
                label="", required=False, widget=widget, **self.field_options
            )


class NumberRangeForm(RangeForm):
    pass


class DateRangeForm(RangeForm):
    field_class, widget_class = LocalDateField, LocalDateWidget


class TypedRangeMixin:
    """Reads what was typed with the form's own fields; what cannot be read is an error beside the field."""

    range_form: type[RangeForm]

    def queryset(self, request, queryset):
        for end, lookup in (("from", "gte"), ("to", "lte")):
            typed = self.used_parameters.get(f"{self.parameter_name}_{end}")
            try:
                value = self.range_form.field_class(required=False).clean(typed)
            except ValidationError:
                pass_over(request, self)
                continue
            if value is not None:
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": value})
        return queryset

    def choices(self, changelist):
        names = [f"{self.parameter_name}_{end}" for end in ("from", "to")]
        data = {name: self.used_parameters.get(name) for name in names}
        yield {
            "request": self.request,
            "parameter_name": self.parameter_name,
            "form": self.range_form(name=self.parameter_name, data=data),
        }


class DateRange(TypedRangeMixin, RangeDateFilter):
    range_form = form_class = DateRangeForm


class NumberRange(TypedRangeMixin, RangeNumericFilter):
    range_form = NumberRangeForm
