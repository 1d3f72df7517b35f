"""What every page of the admin obeys, whatever model it shows: rows come through `visible_to`, a foreign row is a 404, a
missing permission a 403, lists fetch no encrypted column that they do not show, and a rule's no is a message."""

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import ForeignKey
from django.http import Http404, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from simple_history.admin import SimpleHistoryAdmin

from crm.admin import ui, values
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
from crm.admin.paging import CappedPaginator, CrmChangeList
from crm.encryption import encrypted_names
from crm.exceptions import CrmError

STYLES = {"all": ("crm/case.css",)}
FORM_FIELDS = {
    models.DecimalField: {"form_class": NumberField, "widget": NumberWidget},
    models.DateField: {"form_class": LocalDateField, "widget": LocalDateWidget},
    models.TextField: {"widget": ui.ExpandableTextareaWidget},
}


def visible(rows, user):
    return rows.visible_to(user) if hasattr(rows, "visible_to") else rows


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
        return visible(super().get_queryset(request), request.user)

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
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def history_view(self, request, object_id, extra_context=None):
        require(self.has_view_or_change_permission(request))
        return super().history_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs, request):
        """Whoever may delete a record may delete its parts with it."""
        shown, counts, needed, protected = super().get_deleted_objects(objs, request)
        if self.has_delete_permission(request):
            needed = set()
        return shown, counts, needed, protected

    def visible_or_404(self, request, object_id):
        found = self.get_object(request, str(object_id))
        if found is None:
            raise Http404
        return found


class CrmAdmin(SafeAdminMixin, HistoryPages, ui.ModelAdmin, SimpleHistoryAdmin):
    """Base of every record that people edit. Import and export mixins go before it."""

    class Media:
        css = STYLES

    def save_model(self, request, obj, form, change):
        """Writes what was changed and nothing else: another person's change of the moment before stays, and a save
        without a change leaves no row in the history."""
        if not change:
            obj.save()
            return
        names = {field.name for field in self.opts.concrete_fields}
        changed = names.intersection(form.changed_data)
        if changed:
            obj.save(update_fields=[*changed, *names.intersection(["updated_at"])])


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


class InlineMixin(FieldsMixin):
    def get_queryset(self, request):
        rows = super().get_queryset(request)
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
        return self.model_admin.for_choices(super().get_queryset())

    def serialize_result(self, obj, to_field_name):
        return {**super().serialize_result(obj, to_field_name), "text": choice_label(obj)}

    def has_perm(self, request, obj=None):
        return self.model_admin.has_choice_permission(request)


def require(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied
