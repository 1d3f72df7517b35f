"""What each role may do, kept in step with code by `sync`. A role is a Django group; nothing re-derives it at login."""

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext_lazy as _

from crm.models import User
from crm.models.history import one_row

ADMINISTRATOR, MANAGER, ADVISER = "Administrator", "Manager", "Adviser"
ASSISTANT, AUDITOR, CLIENT = "Assistant", "Auditor", "Client"

BUSINESS = (
    "client", "case", "casestep", "caseparty", "financeitem", "property", "document", "note", "commission", "consent",
    "identification",
)  # fmt: skip
CATALOGUE = ("step", "lender", "documenttype", "regulatorylimit")
RULES = ("noticerule", "messagetext")
AUDIT = ("auditentry", "auditseal", "auditcheck")
RUNS = ("importrun", "exportrun", "jobrun", "messagelog")
EVERYTHING = object()
LABELS = {
    ADMINISTRATOR: _("Administrator"),
    MANAGER: _("Manager"),
    ADVISER: _("Adviser"),
    ASSISTANT: _("Assistant"),
    AUDITOR: _("Auditor"),
    CLIENT: _("Client"),
}


def _codes(verbs: str, models: tuple[str, ...]) -> set[str]:
    return {f"crm.{verb}_{model}" for verb in verbs.split() for model in models}


_prepare = _codes("view add change", BUSINESS) | _codes("view", CATALOGUE)
_advise = (
    _prepare
    | _codes("delete", BUSINESS)
    | _codes("export", BUSINESS)
    | {"crm.approve_case", "crm.reject_case", "crm.withdraw_case"}
    | {"crm.view_exportrun"}  # his own
    | _codes("view add change delete", ("exportschedule",))  # his own
)
_manage = (
    _advise
    | _codes("add change delete", CATALOGUE)
    | _codes("view change", RULES)
    | _codes("view", RUNS + AUDIT)
    | {"crm.export_sensitive", "crm.share_exportpreset"}
    | {"crm.undo_operation", "crm.export_auditentry", "crm.export_messagelog", "crm.resend_message"}
    | {"crm.import_client", "crm.import_case", "crm.hand_over_case", "crm.override_step_order", "crm.view_all_cases"}
    | {"crm.view_user"}
)
# What a role is about: an administrator has every permission there is.
ROLES: dict[str, object] = {
    ADMINISTRATOR: EVERYTHING,
    MANAGER: _manage,
    ADVISER: _advise,
    ASSISTANT: _prepare,
    AUDITOR: _codes("view", BUSINESS + CATALOGUE + RULES + RUNS + AUDIT) | {"crm.view_user", "crm.view_all_cases"},
    CLIENT: set(),
}


@transaction.atomic
def sync() -> None:
    """Makes the groups' permissions those of ROLES. Groups that an office made itself stay as they are."""
    by_code = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.select_related("content_type")
    }
    for name, codes in ROLES.items():
        group, _made = Group.objects.get_or_create(name=name)
        wanted = set(by_code.values()) if codes is EVERYTHING else {by_code[code] for code in codes}
        if set(group.permissions.all()) != wanted:
            group.permissions.set(wanted)


def assign(user: User, role: str) -> None:
    """One role a person; a client's login never reaches the admin."""
    group = Group.objects.get(name=role)
    with one_row():
        user.groups.set([group])
        if user.is_staff != (role != CLIENT):
            user.is_staff = role != CLIENT
            user.save(update_fields=["is_staff"])


def role_of(user: User) -> str:
    names = {group.name for group in user.groups.all()}
    return next((role for role in ROLES if role in names), "")


def holders(code: str) -> Q:
    """The condition on users that they have this permission of crm, as `has_perm` says it."""
    named = Permission.objects.filter(codename=code, content_type__app_label="crm")
    by_role = User.groups.through.objects.filter(group__permissions__in=named).values("user")
    own = User.user_permissions.through.objects.filter(permission__in=named).values("user")
    return Q(is_superuser=True) | Q(pk__in=by_role) | Q(pk__in=own)


def is_last_administrator(user: User) -> bool:
    """Without him nobody could let anybody in again."""
    may = Q(is_superuser=True) | Q(groups__name=ADMINISTRATOR)
    active = User.objects.filter(may, is_active=True)
    return active.filter(pk=user.pk).exists() and not active.exclude(pk=user.pk).exists()


@transaction.atomic
def first_administrator(email: str) -> User | None:
    """Makes the first administrator, unless there is one; returns him while he has not yet set a password."""
    user = User.objects.filter(is_superuser=True).order_by("pk").first()
    if user is None:
        user = User(username=email, email=email, is_superuser=True, is_staff=True)
        user.set_unusable_password()
        with one_row():
            user.save()
            assign(user, ADMINISTRATOR)
    return None if user.has_usable_password() else user


def set_password_link(user: User) -> str:
    """Works once, for PASSWORD_RESET_TIMEOUT seconds. Built from SITE_URL, never from a request's host."""
    path = reverse(
        "password_reset_confirm",
        kwargs={
            "uidb64": urlsafe_base64_encode(force_bytes(user.pk)),
            "token": default_token_generator.make_token(user),
        },
    )
    return settings.SITE_URL + path
