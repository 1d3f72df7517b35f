"""What a list was filtered by, in the reader's words: the list's own filters know their titles and choices. What they do not
know (the command has filters of its own, and a list may have lost one) is told by the columns of the export."""

import re

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.http import HttpRequest, QueryDict
from django.utils.dateparse import parse_datetime
from django.utils.text import capfirst
from django.utils.translation import gettext

from crm import exports, values
from crm.admin.filters import TypedRangeMixin
from crm.admin.forms import LocalDateField, NumberField

SEARCH, SELECTED = "search", "selected"
_SIGNS = {"gt": ">", "gte": "≥", "lt": "<", "lte": "≤", "from": "≥", "to": "≤"}
_LOOKUP = re.compile(r"__(gte?|lte?)$")
_RANGE_END = re.compile(r"_(from|to)$")
_NOTHING = "–"


def words(model: type[models.Model], filtered_by: dict, user) -> list[str]:
    """Of `filtered_by` as an export's record has it. `user` is whose list it is; None: nobody's. In the list's order: a
    record of PostgreSQL does not keep that of the address."""
    specs = _specs(model, filtered_by, user)
    place = {name: number for number, name in enumerate(specs)}
    told = [name for name, given in filtered_by.items() if not _is_open(specs.get(name), given)]
    names = sorted(told, key=lambda name: (name in (SEARCH, SELECTED), place.get(name, len(place)), name))
    return [_told(model, name, filtered_by[name], specs.get(name)) for name in names]


def named(model: type[models.Model], name: str) -> str:
    """A column of the list's export, or a field of it."""
    return _label(model, name)[0]


def _specs(model, filtered_by: dict, user) -> dict:
    """The list's filters by the parameters that they read."""
    request = HttpRequest()
    request.method, request.user, request.GET = "GET", user, QueryDict(mutable=True)
    for name, given in filtered_by.items():
        if name not in (SEARCH, SELECTED):
            request.GET.setlist(name, given if isinstance(given, list) else [given])
    if user is None or not request.GET:
        return {}
    try:
        changelist = admin.site.get_model_admin(model).get_changelist_instance(request)
    except (IncorrectLookupParameters, DisallowedModelAdminLookup):
        return {}
    return {name: spec for spec in changelist.filter_specs for name in spec.expected_parameters()}


def _is_open(spec, given) -> bool:
    """The lists' forms send each of their filters, also those where nothing was chosen."""
    return spec is not None and given == ""


def _told(model, name: str, given, spec) -> str:
    if name == SEARCH:
        return gettext("search")
    if name == SELECTED:
        return gettext("selected rows: %s") % given
    end = (_RANGE_END if isinstance(spec, TypedRangeMixin) else _LOOKUP).search(name)
    label, field = _label(model, name) if spec is None else (capfirst(str(spec.title)), getattr(spec, "field", None))
    choices = _choices(spec, field)
    given = given if isinstance(given, list) else [given]
    shown = ", ".join(choices.get(str(each)) or _typed(field, str(each)) for each in given)
    return f"{label} {_SIGNS[end[1]]} {shown}" if end else f"{label}: {shown}"


def _label(model, name: str) -> tuple[str, models.Field | None]:
    name = name.partition("__")[0]
    columns = {each.name: each for each in exports.columns_of(model)}
    if column := columns.get(name) or columns.get(f"case.{name}"):
        return column.label, column.field
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return name, None
    return capfirst(str(field.verbose_name)), field


def _choices(spec, field) -> dict[str, str]:
    if isinstance(field, models.BooleanField):
        return {"1": gettext("Yes"), "0": gettext("No")}
    pairs = getattr(spec, "lookup_choices", None) or getattr(field, "flatchoices", None) or ()
    return {str(key): str(label) for key, label in pairs}


def _typed(field, given: str) -> str:
    try:
        if isinstance(field, models.DateField):
            moment = parse_datetime(given)
            return values.date(moment.date() if moment else LocalDateField().clean(given))
        if isinstance(field, models.DecimalField):
            return values.money(NumberField().clean(given))
    except (ValidationError, ValueError):
        pass
    return given or _NOTHING
