"""What every page of the admin obeys, whatever model it shows: rows come through `visible_to`, a foreign row is a 404, a
missing permission a 403, lists fetch no encrypted column that they do not show, and a rule's no is a message."""

import contextlib
import re
from http import HTTPStatus

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.db.models import ForeignKey
from django.forms.models import _get_foreign_key
from django.http import Http404
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.utils.text import capfirst
from django.utils.translation import gettext
from simple_history.admin import SimpleHistoryAdmin

from crm import values
from crm.admin import ui
from crm.admin.deletion import AsSeenDeletion, records_only
from crm.admin.forms import (
    AdminChoiceField,
    CrmModelForm,
    LocalDateField,
    LocalDateWidget,
    NumberField,
    NumberWidget,
    choice_label,
)
from crm.admin.history import HistoryPages
from crm.admin.merging import MergingInlineFormSet, versions, with_version
from crm.admin.paging import CappedPaginator, CrmChangeList
from crm.audit.hooks import refused
from crm.encryption import encrypted_names
from crm.exceptions import ClientRestricted, CrmError

STYLES = {"all": ("crm/case.css",)}
FORM_FIELDS = {
    models.DecimalField: {"form_class": NumberField, "widget": NumberWidget},
    models.DateField: {"form_class": LocalDateField, "widget": LocalDateWidget},
    models.TextField: {"widget": ui.ExpandableTextareaWidget},
}


def visible(rows, user):
    return rows.visible_to(user) if hasattr(rows, "visible_to") else rows


def is_restricted(record) -> bool:
    """Accounts and the like know of no client."""
    return getattr(record, "is_restricted", False)


def hold_rows(rows) -> None:
    """Until the transaction ends; in the order of their keys, as everybody does."""
    list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk"))


def tell_merged(request, forms) -> None:
    """Who changed what while these forms were open, after they were saved."""
    told = {}
    for form in forms:
        for who, fields in getattr(form, "told", {}).items():
            told.setdefault(who, {}).update(dict.fromkeys(fields))
    for who, fields in told.items():
        text = gettext("%(who)s changed meanwhile, and it stays: %(fields)s.")
        messages.info(request, text % {"who": who, "fields": ", ".join(fields)})


def back_to(request, default: str) -> str:
    """Where a POST came from, if that is ours; else `default`."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else default


def _group_digits(contents: str) -> str:
    """`1234567,50` of a read-only field as `1 234 567,50`."""
    whole, separator, rest = str(contents).partition("," if values.is_czech() else ".")
    return mark_safe(values.number(int(whole)) + separator + rest) if whole.isdigit() else contents  # noqa: S308


class FieldsMixin:
    """For admins and inlines alike: form fields in the reader's language, every foreign key an autocomplete."""

    form = CrmModelForm
    formfield_overrides = FORM_FIELDS

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.readonly_preprocess_fields = {
            field.name: _group_digits
            for field in self.model._meta.fields
            if isinstance(field, models.DecimalField) and field.name.endswith("_czk")
        }

    def get_autocomplete_fields(self, request):
        return [
            field.name
            for field in self.opts.fields
            if isinstance(field, ForeignKey)
            and field.editable
            and self.admin_site.is_registered(field.remote_field.model)
            and self.admin_site.get_model_admin(field.remote_field.model).search_fields
        ]

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        kwargs.setdefault("form_class", AdminChoiceField)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_field_queryset(self, db, db_field, request):
        rows = super().get_field_queryset(db, db_field, request)
        if rows is None:
            rows = db_field.remote_field.model._default_manager.all()
        rows = visible(rows, request.user)
        if self.admin_site.is_registered(rows.model):
            rows = self.admin_site.get_model_admin(rows.model).for_choices(rows)
        return self.allowed_choices(rows, db_field.name)

    def allowed_choices(self, rows, name: str):
        """What may be chosen for a field; what is stored in it may stay. Lists and autocompletes ask for it."""
        return rows


class SafeAdminMixin(FieldsMixin):
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    paginator = CappedPaginator
    list_filter_submit = True
    show_facets = ShowFacets.NEVER
    save_on_top = False
    # Encrypted columns that the list shows, of the model itself or through a relation (`client__full_name`).
    list_encrypted: tuple[str, ...] = ()
    # Plain columns that are too long to carry along.
    list_defer: tuple[str, ...] = ()

    def get_queryset(self, request):
        rows = visible(super().get_queryset(request), request.user)
        return with_version(rows) if getattr(request, "wants_versions", False) else rows

    def get_changelist(self, request, **kwargs):
        return CrmChangeList

    def for_list(self, request, queryset):
        """What one page of the list reads. Override to prefetch or annotate; call super first."""
        hidden = set(encrypted_names(self.model))
        related = self.get_list_select_related(request)
        for path in related if isinstance(related, (list, tuple)) else ():
            model = self.model
            for part in path.split("__"):
                model = model._meta.get_field(part).related_model
            hidden |= {f"{path}__{name}" for name in encrypted_names(model)}
        return queryset.defer(*sorted(hidden - set(self.list_encrypted)), *self.list_defer)

    def get_search_results(self, request, queryset, search_term):
        if hasattr(queryset, "search"):
            return queryset.search(search_term), False
        return super().get_search_results(request, queryset, search_term)

    # --- Autocomplete ---

    def has_choice_permission(self, request) -> bool:
        """Who may pick a row of this list in another form."""
        return self.has_view_permission(request)

    def for_choices(self, queryset):
        """What an autocomplete reads, and the choice that a form shows."""
        return queryset.defer(*encrypted_names(self.model))

    # --- Errors ---

    def _get_obj_does_not_exist_redirect(self, request, opts, object_id):
        raise Http404

    def changeform_view(self, request, object_id=None, form_url="", extra_context=None):
        """A rule's no, met while saving, rolls everything back and stands on the form with all that was typed."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except CrmError as error:
            if request.method != "POST":
                raise
            request.refusal = str(error)
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(self, request, obj=None, **kwargs):
        made = super().get_form(request, obj, **kwargs)
        made.refusal = getattr(request, "refusal", "")
        return made

    def history_view(self, request, object_id, extra_context=None):
        require(self.has_view_or_change_permission(request))
        return super().history_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs, request):
        """Whoever may delete a record may delete its parts with it."""
        shown, counts, needed, protected = super().get_deleted_objects(objs, request)
        if self.has_delete_permission(request):
            needed = set()
        return *records_only(shown, counts), needed, protected

    def _changeform_view(self, request, object_id, form_url, extra_context):
        if request.method == "POST" and object_id:
            self.hold_asked(request, object_id)
        return super()._changeform_view(request, object_id, form_url, extra_context)

    def hold_asked(self, request, object_id: str) -> None:
        """What an address names, if it names a key."""
        with contextlib.suppress(ValidationError, ValueError):
            self.hold(request, self.model._meta.pk.to_python(unquote(str(object_id))))

    def hold(self, request, key) -> None:
        """The second of two who save at once waits here, and then reads what the first one wrote."""
        hold_rows(self.model._base_manager.filter(pk=key))
        for inline in self.inlines:
            if inline(self.model, self.admin_site).has_change_permission(request):
                owner = _get_foreign_key(self.model, inline.model, fk_name=inline.fk_name)
                hold_rows(inline.model._base_manager.filter(**{owner.name: key}))

    def get_object(self, request, object_id, from_field=None):
        request.wants_versions = True
        try:
            return super().get_object(request, object_id, from_field)
        finally:
            request.wants_versions = False

    def visible_or_404(self, request, object_id):
        found = self.get_object(request, str(object_id))
        if found is None:
            raise Http404
        return found


class UnrestrictedMixin:
    """For admins and inlines alike, which give their parent: into the record of a restricted client nobody writes."""

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and not is_restricted(obj)

    def has_delete_permission(self, request, obj=None):
        return super().has_delete_permission(request, obj) and not is_restricted(obj)


class CrmAdmin(UnrestrictedMixin, SafeAdminMixin, AsSeenDeletion, HistoryPages, ui.ModelAdmin, SimpleHistoryAdmin):
    """Base of every record that people edit. Import and export mixins go before it."""

    class Media:
        css = STYLES

    change_form_before_template = "admin/crm/versions.html"

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj:
            inlines = (form for inline in context["inline_admin_formsets"] for form in inline.formset.initial_forms)
            context["versions"] = versions([context["adminform"].form, *inlines])
        return super().render_change_form(request, context, add, change, form_url, obj)

    def save_form(self, request, form, change):
        """Raises ClientRestricted of a new record, and of one that would come to such a client."""
        made = super().save_form(request, form, change)
        if form.changed_data:  # maybe of another client by now than it was asked for
            vars(made).pop("is_restricted", None)
        if is_restricted(made):
            raise ClientRestricted()
        return made

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        tell_merged(request, [form, *(one for formset in formsets for one in formset.forms)])

    def _get_obj_does_not_exist_redirect(self, request, opts, object_id):
        """Nothing that was typed is lost with the record."""
        if request.method != "POST":
            raise Http404
        return self.gone(request, object_id)

    def gone(self, request, object_id, form_class=None):
        """Answers a POST to a record that is not there, or not this person's: with what was typed into the change form,
        or into this other one."""
        refused(request, Http404())
        labels = {field.name: field.verbose_name for field in self.opts.fields}
        labels |= {name: field.label for name, field in getattr(form_class, "base_fields", {}).items()}
        for inline in self.inlines:
            owner = _get_foreign_key(self.model, inline.model, fk_name=inline.fk_name)
            prefix = owner.remote_field.get_accessor_name()
            labels |= {
                f"{prefix}-{field.name}": field.verbose_name
                for field in inline.model._meta.fields
                if field is not owner and not field.primary_key
            }
        typed = []
        for name, value in request.POST.items():
            label = labels.get(re.sub(r"-\d+-", "-", name))
            if label and value.strip():
                typed.append((capfirst(str(label)), value))
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": gettext("Gone"), "typed": typed}
        with contextlib.suppress(Http404):
            self._history_owner(request, str(object_id))  # only who may see what was deleted gets further
            context["history"] = reverse(f"admin:crm_{self.opts.model_name}_history", args=[object_id])
        return render(request, "admin/crm/gone.html", context, status=HTTPStatus.NOT_FOUND)


class ReadOnlyAdmin(SafeAdminMixin, ui.ModelAdmin):
    """What machines write and people look at."""

    class Media:
        css = STYLES

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class InlineMixin(UnrestrictedMixin, FieldsMixin):
    formset = MergingInlineFormSet

    def has_add_permission(self, request, obj=None):
        return super().has_add_permission(request, obj) and not is_restricted(obj)

    def get_queryset(self, request):
        rows = with_version(super().get_queryset(request))
        rows = rows if rows.ordered else rows.order_by("pk")
        return rows.prefetch_related(*self._chosen(request))

    def _chosen(self, request):
        """What the rows' autocompletes show, one query a field; with the columns that a choice shows only."""
        for name in self.get_autocomplete_fields(request):
            if name in flatten_fieldsets(self.get_fieldsets(request)):
                chosen = self.opts.get_field(name).remote_field.model._default_manager.all()
                yield models.Prefetch(name, self.admin_site.get_model_admin(chosen.model).for_choices(chosen))


class CrmTabularInline(InlineMixin, ui.TabularInline):
    extra = 0
    tab = True
    show_title = False
    per_page = 20


class CrmStackedInline(InlineMixin, ui.StackedInline):
    extra = 0
    tab = True
    per_page = 20


class ChoicesView(AutocompleteJsonView):
    """Rows of an autocomplete under the name that people know them by."""

    def get_queryset(self):
        rows = self.model_admin.for_choices(super().get_queryset())
        source = self.source_field.model
        if not self.admin_site.is_registered(source):
            return rows
        return self.admin_site.get_model_admin(source).allowed_choices(rows, self.source_field.name)

    def serialize_result(self, obj, to_field_name):
        return {**super().serialize_result(obj, to_field_name), "text": choice_label(obj)}

    def has_perm(self, request, obj=None):
        return self.model_admin.has_choice_permission(request)


def require(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied
