"""Form fields in the reader's language, and what every form of the admin refuses or protects: token-shaped text, and
stored values that no key opens."""

import datetime
import re

from django import forms
from django.core.exceptions import ValidationError
from django.forms.models import ModelChoiceIterator
from django.forms.utils import ErrorList
from django.utils.translation import gettext_lazy as _

from crm import values
from crm.admin.merging import MergingFormMixin
from crm.admin.ui import DateWidget, SelectWidget, TextareaWidget, TextInputWidget
from crm.encryption import UNREADABLE, Unreadable, refuse_ciphertext
from crm.imports import parsers
from crm.imports.problems import UnreadableValue
from crm.models import Case, Client

_UNITS = re.compile(r"\s*(kč|czk|%)\s*$", re.IGNORECASE)


class NumberWidget(TextInputWidget):
    """A text input with the number keyboard: `type=number` would refuse spaces and the Czech comma."""

    def __init__(self, attrs=None, places: int = 2):
        super().__init__({"inputmode": "decimal", "autocomplete": "off", **(attrs or {})})
        self.places = places

    def format_value(self, value):
        return values.number(value, self.places) if value is not None and not isinstance(value, str) else value


class NumberField(forms.DecimalField):
    """Takes `1 234 567,50`, `1234567.50` and a trailing Kč or %; shows the reader's way. Never a float."""

    widget = NumberWidget

    def __init__(self, **kwargs):
        kwargs["localize"] = False
        super().__init__(**kwargs)
        if isinstance(self.widget, NumberWidget):
            self.widget.places = self.decimal_places if self.decimal_places is not None else 2

    def widget_attrs(self, widget):
        return {}

    def to_python(self, value):
        if value in self.empty_values:
            return None
        if not isinstance(value, str):
            return super().to_python(value)
        try:
            return parsers.decimal(_UNITS.sub("", value))
        except UnreadableValue as error:
            raise ValidationError(str(error), code="invalid") from error


class LocalDateWidget(DateWidget):
    def format_value(self, value):
        return values.date(value) if isinstance(value, datetime.date) else value


class LocalDateField(forms.DateField):
    """Takes `31. 12. 2025`, `31.12.2025` and `2025-12-31` in every language."""

    widget = LocalDateWidget

    def to_python(self, value):
        if value in self.empty_values:
            return None
        if not isinstance(value, str):
            return super().to_python(value)
        try:
            return parsers.date(value)
        except UnreadableValue as error:
            raise ValidationError(str(error), code="invalid") from error


class UnreadableBoundField(forms.BoundField):
    @property
    def errors(self):
        return ErrorList([UNREADABLE], renderer=self.form.renderer)


class UnreadableField(forms.Field):
    """Stands in for the field of a value that no key opens: shows the mark and an error, takes nothing, keeps all."""

    widget = TextInputWidget

    def __init__(self, label):
        super().__init__(label=label, required=False, disabled=True)

    def clean(self, value):
        return value

    def get_bound_field(self, form, field_name):
        return UnreadableBoundField(form, self, field_name)


class SafeFormMixin:
    """Every form of the admin: a text that looks like one of our tokens is an error on its field, never decrypted."""

    # The rule's no that was met when this was saved: the form comes back with it.
    refusal: str = ""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field, forms.CharField) and refuse_ciphertext not in field.validators:
                field.validators = [*field.validators, refuse_ciphertext]

    def _clean_form(self):
        super()._clean_form()
        if self.refusal:
            self.add_error(None, ValidationError(self.refusal, code="refused"))


class CrmForm(SafeFormMixin, forms.Form):
    pass


class KnownChoice(ModelChoiceIterator):
    """The choices of a field whose present one was fetched with its row, so that showing it asks the database nothing.
    An inline fetches those of all its rows at once."""

    def __init__(self, field, known):
        super().__init__(field)
        self.known = known
        self.fetched = self.queryset
        self.queryset = self

    def using(self, alias):
        return self

    def filter(self, **wanted):
        [keys] = wanted.values()
        return [self.known] if set(map(str, keys)) == {str(self.known.pk)} else self.fetched.filter(**wanted)

    def __iter__(self):
        return iter(ModelChoiceIterator(self.field))


class CrmModelForm(MergingFormMixin, SafeFormMixin, forms.ModelForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unreadable = {name for name in self.fields if isinstance(self.instance.__dict__.get(name), Unreadable)}
        for name in self.unreadable:
            self.fields[name] = UnreadableField(self.fields[name].label)
            self.initial[name] = self.instance.__dict__[name]
        self._allow_present_choices()

    def _allow_present_choices(self):
        """What is stored already may stay, also when this person could not choose it anew."""
        for name, field in self.fields.items():
            if isinstance(field, forms.ModelChoiceField) and not field.disabled:
                present = getattr(self.instance, f"{name}_id", None)
                if present and field.queryset.query.has_filters():
                    field.queryset = field.queryset | field.queryset.model._default_manager.filter(pk=present)
                if known := self.instance._state.fields_cache.get(name):
                    field.widget.choices = KnownChoice(field, known)

    def _get_validation_exclusions(self):
        return super()._get_validation_exclusions() | self.unreadable


def choice_label(row) -> str:
    """A row of an autocomplete under the name that people know it by."""
    if isinstance(row, Case):
        return f"{row.reference} · {row.client.full_name}"
    return row.display_name if isinstance(row, Client) else str(row)


class AdminChoiceField(forms.ModelChoiceField):
    def label_from_instance(self, obj):
        return choice_label(obj)


class ReasonForm(CrmForm):
    """What the small pages of a case ask for when a reason is all there is to say."""

    reason = forms.CharField(label=_("Reason"), widget=TextareaWidget({"rows": 3}), max_length=2000)


class OptionalReasonForm(CrmForm):
    reason = forms.CharField(label=_("Reason"), widget=TextareaWidget({"rows": 3}), max_length=2000, required=False)


def select(**kwargs) -> forms.ChoiceField:
    return forms.ChoiceField(widget=SelectWidget(), **kwargs)
