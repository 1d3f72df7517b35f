"""People who log in, their one role, the roles themselves, and who is locked out. Only an administrator changes these:
whoever could change a role could give himself every permission there is."""

from axes.models import AccessAttempt
from axes.utils import reset
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as AuthUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from crm import accounts, roles
from crm.admin.base import CrmAdmin, ReadOnlyAdmin, require
from crm.admin.forms import CrmForm, SafeFormMixin
from crm.admin.merging import MergingFormMixin
from crm.admin.pages import form_page
from crm.admin.ui import (
    CHECKBOX_CLASSES,
    AdminPasswordChangeForm,
    DropdownFilter,
    SelectWidget,
    UserChangeForm,
    UserCreationForm,
    action,
    display,
)
from crm.choices import MessageKind
from crm.models import User
from crm.models.history import one_row

VERBS = {"view": _("view"), "add": _("add"), "change": _("change"), "delete": _("delete")}


class RoleFilter(DropdownFilter):
    """Django's filter of groups would show the names that the code knows them by."""

    title = _("role")
    parameter_name = "role"

    def lookups(self, request, model_admin):
        return roles.LABELS.items()

    def queryset(self, request, queryset):
        return queryset.filter(groups__name=self.value()) if self.value() else queryset


def is_administrator(user) -> bool:
    return user.is_superuser or roles.role_of(user) == roles.ADMINISTRATOR


def role_field() -> forms.ChoiceField:
    """Nothing is chosen beforehand: a hasty click makes no administrator."""
    return forms.ChoiceField(label=_("Role"), choices=[("", "–"), *roles.LABELS.items()], widget=SelectWidget)


class UserForm(MergingFormMixin, SafeFormMixin, UserChangeForm):
    role = role_field()

    class Meta:
        model = User
        fields = "__all__"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if "role" in self.fields:
            self.initial.setdefault("role", roles.role_of(self.instance))

    # The role is no column: two administrators at one person merge it all the same.

    def merged_names(self):
        return super().merged_names() | (self.fields.keys() & {"role"})

    def value_in(self, row, name):
        if name != "role":
            return super().value_in(row, name)
        if row is self.instance:
            return self.stored(name)
        names = set(row.groups.values_list("group__name", flat=True))
        return next((role for role in roles.ROLES if role in names), "")

    def stored(self, name):
        return roles.role_of(self.instance) if name == "role" else super().stored(name)

    def shown(self, value, name):
        return str(roles.LABELS.get(value, value)) if name == "role" else super().shown(value, name)

    def clean(self):
        cleaned = super().clean()
        stays = cleaned.get("is_active", True) and cleaned.get("role", roles.ADMINISTRATOR) == roles.ADMINISTRATOR
        if not stays and roles.is_last_administrator(self.instance):
            raise forms.ValidationError(_("This is the last administrator. Make another one first."))
        return cleaned


class NewUserForm(SafeFormMixin, UserCreationForm):
    role = role_field()
    wants_welcome = forms.BooleanField(
        label=_("Send a welcome mail"),
        required=False,
        initial=True,
        widget=forms.CheckboxInput({"class": " ".join(CHECKBOX_CLASSES)}),
        help_text=_("With a link to set the password, where there is an e-mail. The password may then be left empty."),
    )

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)

    @property
    def is_welcomed(self) -> bool:
        data = self.cleaned_data
        return bool(data.get("wants_welcome") and data.get("email") and data.get("role") != roles.CLIENT)

    def validate_passwords(self, *args, **kwargs):
        data = self.cleaned_data
        if self.is_welcomed and not (data.get("password1") or data.get("password2")):
            data["usable_password"] = "false"
        super().validate_passwords(*args, **kwargs)


@admin.register(User)
class UserAdmin(CrmAdmin, AuthUserAdmin):
    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "full_name", "email", "role", "is_active", "absent_from", "absent_until", "last_login")
    list_display_links = ("username", "full_name")
    list_filter = ("is_active", RoleFilter)
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("last_name", "first_name", "username")
    filter_horizontal = ()
    actions_detail = ("mail_link",)
    readonly_fields = ("last_login", "date_joined")
    add_fieldsets = (
        (
            None,
            {
                "fields": (
                    "username",
                    ("first_name", "last_name"),
                    ("email", "language"),
                    "role",
                    "wants_welcome",
                    "password1",
                    "password2",
                )
            },
        ),
    )
    fieldsets = (
        (None, {"fields": ("username", "password", ("first_name", "last_name"), ("email", "language"))}),
        (_("Absence"), {"fields": (("absent_from", "absent_until"),)}),
        (_("Access"), {"fields": ("role", "is_active", ("last_login", "date_joined"))}),
    )

    def get_fieldsets(self, request, obj=None):
        """Whoever only looks needs neither the hash nor a field to choose a role."""
        if obj and not self.has_change_permission(request, obj):
            return (
                (None, {"fields": ("username", "full_name", "email", "role", "is_active")}),
                (_("Absence"), {"fields": ("absent_from", "absent_until")}),
            )
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request, obj=None):
        if obj and not self.has_change_permission(request, obj):
            return (*super().get_readonly_fields(request, obj), "full_name", "role")
        return super().get_readonly_fields(request, obj)

    def has_add_permission(self, request):
        return super().has_add_permission(request) and is_administrator(request.user)

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request, obj=None):
        may = super().has_delete_permission(request, obj) and self._may_touch(request, obj)
        return may and not (obj and roles.is_last_administrator(obj))

    def _may_touch(self, request, obj) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return is_administrator(request.user)

    def has_choice_permission(self, request) -> bool:
        return request.user.is_staff

    def for_choices(self, queryset):
        return queryset.filter(is_staff=True, is_active=True)

    def for_list(self, request, queryset):
        return super().for_list(request, queryset).prefetch_related("groups").defer("password")

    def save_model(self, request, obj, form, change):
        role = form.cleaned_data.get("role")
        with one_row():
            super().save_model(request, obj, form, change)
            if role and role != roles.role_of(obj):
                roles.assign(obj, role)
        if not change and form.is_welcomed and accounts.send_link(obj, timezone.now()):
            messages.info(request, self._mailed(obj))

    def get_actions_detail(self, request, object_id):
        """Where a mail would reach him."""
        found = super().get_actions_detail(request, object_id) if str(object_id).isdecimal() else []
        user = User.objects.filter(pk=object_id).first() if found else None
        return found if user and accounts.may_get_link(user) and self._may_touch(request, user) else []

    def has_mail_link_permission(self, request, object_id=None) -> bool:
        return self.has_change_permission(request)

    @action(description=_("Mail a link for the password"), url_path="mail-link", permissions=["mail_link"])
    def mail_link(self, request, object_id):
        user = self.visible_or_404(request, object_id)
        require(self.has_change_permission(request, user) and accounts.may_get_link(user))
        back = reverse("admin:crm_user_change", args=[user.pk])
        is_new = accounts.link_kind(user) == MessageKind.WELCOME

        def act(form):
            if accounts.send_link(user, timezone.now()):
                messages.success(request, self._mailed(user))
            else:
                messages.warning(request, gettext("A mail with a link was written to him a moment ago."))
            return HttpResponseRedirect(back)

        return form_page(
            self,
            request,
            CrmForm,
            act,
            title=gettext("Send the welcome mail again") if is_new else gettext("Send a mail for a new password"),
            about=f"{user} · {user.email}",
            back=back,
            submit=gettext("Send"),
        )

    def _mailed(self, user) -> str:
        if settings.EMAIL_IS_SET:
            text = gettext("A mail with a link to set the password goes to %(address)s.")
        else:
            text = gettext("A mail with a link to set the password waits for %(address)s: no mail server is named yet.")
        return text % {"address": user.email}

    @display(description=pgettext_lazy("of a person", "name"), ordering="last_name")
    def full_name(self, user):
        return user.get_full_name() or "–"

    @display(description=_("role"))
    def role(self, user):
        name = roles.role_of(user)
        return roles.LABELS.get(name, name) or "–"


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    """The roles, kept in step with code (crm.roles)."""

    list_display = ("role", "members")
    search_fields = ("name",)
    fields = ("role", "may")
    readonly_fields = ("role", "may")

    def for_list(self, request, queryset):
        return super().for_list(request, queryset).annotate(member_count=Count("user"))

    @display(description=_("role"), ordering="name")
    def role(self, group):
        return roles.LABELS.get(group.name, group.name)

    @display(description=pgettext_lazy("of a role", "may"))
    def may(self, group):
        """A line a kind of record, in the reader's words."""
        found = {}
        for permission in group.permissions.select_related("content_type"):
            verb = permission.codename.removesuffix(f"_{permission.content_type.model}")
            found.setdefault(permission.content_type.name, []).append(str(VERBS.get(verb, gettext(permission.name))))
        return format_html_join(
            "", "<p><strong>{}</strong>: {}</p>", ((name, ", ".join(may)) for name, may in found.items())
        )

    @display(description=_("members"))
    def members(self, group):
        return group.member_count


@admin.register(AccessAttempt)
class LockoutAdmin(ReadOnlyAdmin):
    """Failed logins. What was typed is not shown. An administrator lets somebody in before the waiting is over."""

    list_display = ("attempt_time", "username", "ip_address", "failures_since_start")
    list_defer = ("get_data", "post_data")
    search_fields = ("username", "ip_address")
    fields = ("attempt_time", "username", "ip_address", "user_agent", "failures_since_start")
    actions = ("unlock",)

    def has_unlock_permission(self, request) -> bool:
        return is_administrator(request.user)

    @admin.action(description=_("Unlock"), permissions=["unlock"])
    def unlock(self, request, queryset):
        count = 0
        for attempt in queryset:
            count += reset(username=attempt.username) + reset(ip=attempt.ip_address)
        messages.success(request, ngettext("%d lock was lifted.", "%d locks were lifted.", count) % count)
