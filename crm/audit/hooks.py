"""Where the events of the audit trail come from: signals of Django and axes, and the request that was refused. Connected
when the app is ready; exports and imports enter theirs by themselves."""

from axes.helpers import get_client_ip_address
from axes.signals import user_locked_out
from django.apps import apps
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import receiver
from django.http import Http404

from crm.audit.events import enter, first_this_minute
from crm.choices import AuditKind
from crm.models import User
from crm.models.history import DELETED, recorded
from crm.models.operations import current_user

FLAGS = ("is_active", "is_staff", "is_superuser")
NEWCOMER = {"is_active": True, "is_staff": False, "is_superuser": False}


# --- Logins ---


@receiver(user_logged_in)
def _logged_in(sender, request, user, **kwargs):
    enter(AuditKind.LOGIN, user=user, detail=address_of(request))


@receiver(user_logged_out)
def _logged_out(sender, request, user, **kwargs):
    if user is not None:
        enter(AuditKind.LOGOUT, user=user, detail=address_of(request))


@receiver(user_login_failed)
def _login_failed(sender, credentials, request=None, **kwargs):
    # The first one that the lock met is entered, and then one a minute.
    if getattr(request, "axes_locked_out", False) and not _is_first_of_lockout("failed", request, credentials):
        return
    _enter_attempt(AuditKind.LOGIN_FAILED, request, credentials.get("username"))


@receiver(user_locked_out)
def _locked_out(sender, request, username, **kwargs):
    if _is_first_of_lockout("locked", request, {"username": username}):
        _enter_attempt(AuditKind.LOCKOUT, request, username)


def _is_first_of_lockout(what: str, request, credentials) -> bool:
    return first_this_minute(what, credentials.get("username"), address_of(request).get("address"))


def _enter_attempt(kind: str, request, account) -> None:
    account = str(account or "")[:200]
    tried = User.objects.filter(username=account).values_list("pk", flat=True).first() if account else None
    known = {"model": "user", "object_id": tried} if tried else {}
    enter(kind, detail={"account": account, **address_of(request)}, **known)


def address_of(request) -> dict:
    if request is None or not request.META.get("REMOTE_ADDR"):
        return {}
    return {"address": str(get_client_ip_address(request) or "")}


# --- Passwords and permissions ---


@receiver(post_save, sender=User)
def _password_set(sender, instance, created, raw=False, update_fields=None, **kwargs):
    usable = instance.has_usable_password()
    # `_password` is what was typed, for as long as it is being saved; a hash that a login renews has none.
    is_set = instance._password is not None or (created and usable)
    is_taken = not created and not usable and (update_fields is None or "password" in update_fields)
    if raw or not (is_set or is_taken):
        return
    by = current_user()
    if is_taken:
        how = "taken"
    elif created:
        how = "first"
    elif by is None:
        how = "unknown"  # by a link that was sent, or a command
    else:
        how = "own" if by.pk == instance.pk else "other"
    enter(AuditKind.PASSWORD, detail={"name": instance.get_display_name(), "how": how}, **_about(instance))


@receiver(recorded, sender=User)
def _flags_changed(sender, keys, history_type, **kwargs):
    """By the history, which every way to write a user leaves: what he was before, and what he is now."""
    if history_type == DELETED:
        return
    for key in keys:
        versions = list(User.history.filter(id=key).order_by("-history_id").values("username", *FLAGS)[:2])
        now, before = [*versions, NEWCOMER][:2] if versions else (NEWCOMER, NEWCOMER)
        changed = {name: now[name] for name in FLAGS if now[name] != before[name]}
        if changed:
            detail = {"name": now["username"], "flags": changed}
            enter(AuditKind.PERMISSIONS, model="user", object_id=key, detail=detail)


@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def _given_or_taken(sender, instance, action, reverse, model, pk_set, **kwargs):
    if action == "pre_clear":  # after it nobody can tell any more what there was
        _cleared(sender, instance, reverse)
    elif action in ("post_add", "post_remove") and pk_set:
        verb = "added" if action == "post_add" else "removed"
        if reverse:
            for other in model._base_manager.filter(pk__in=pk_set):
                _enter_given(other, verb, [instance])
        else:
            _enter_given(instance, verb, model._base_manager.filter(pk__in=pk_set))


def _cleared(through, instance, reverse) -> None:
    _id, holder, given = through._meta.fields
    own, other = (given, holder) if reverse else (holder, given)
    keys = through._base_manager.filter(**{own.name: instance}).values(other.attname)
    others = list(other.related_model._base_manager.filter(pk__in=keys))
    if reverse:
        for each in others:
            _enter_given(each, "removed", [instance])
    elif others:
        _enter_given(instance, "removed", others)


def _enter_given(holder, verb: str, given) -> None:
    names = [each.name if isinstance(each, Group) else each.codename for each in given]
    what = "groups" if given and isinstance(next(iter(given)), Group) else "permissions"
    detail = {"name": _name(holder), what: {verb: sorted(names)}}
    enter(AuditKind.PERMISSIONS, detail=detail, **_about(holder))


@receiver(pre_save, sender=Group)
def _group_before(sender, instance, raw=False, **kwargs):
    instance._name_before = (
        Group.objects.filter(pk=instance.pk).values_list("name", flat=True).first() if instance.pk else None
    )


@receiver(post_save, sender=Group)
def _group_saved(sender, instance, created, **kwargs):
    before = instance.__dict__.pop("_name_before", None)
    if created:
        detail = {"name": instance.name, "group": "created"}
    elif before != instance.name:
        detail = {"name": instance.name, "group": "renamed", "before": before}
    else:
        return
    enter(AuditKind.PERMISSIONS, detail=detail, **_about(instance))


@receiver(pre_delete, sender=Group)
def _group_members(sender, instance, **kwargs):
    instance._members = sorted(instance.user_set.values_list("pk", flat=True))


@receiver(post_delete, sender=Group)
def _group_deleted(sender, instance, **kwargs):
    members = instance.__dict__.pop("_members", [])
    detail = {"name": instance.name, "group": "deleted", "members": members}
    enter(AuditKind.PERMISSIONS, detail=detail, **_about(instance))


def _about(row) -> dict:
    return {"model": row._meta.model_name, "object_id": row.pk}


def _name(holder) -> str:
    return holder.get_display_name() if isinstance(holder, User) else holder.name


# --- Refused accesses ---


def refused(request, error: Exception) -> None:
    """What the admin refused to somebody who is logged in: a page without the permission, a foreign row asked for by its
    id. One entry a person, page and minute. A page that is not there is nobody's."""
    match, user = request.resolver_match, request.user
    if match is None or match.namespace != "admin" or not user.is_authenticated:
        return
    model, key = _asked_for(match)
    if isinstance(error, Http404) and not _is_foreign(request, model, key):
        return
    if not isinstance(error, PermissionDenied | Http404) or not first_this_minute("refused", user.pk, request.path):
        return
    detail = {"path": request.path, "method": request.method, **address_of(request)}
    known = {"model": model._meta.model_name, "object_id": _key_of(model, key)} if model else {}
    enter(AuditKind.REFUSED, user=user, detail=detail, **known)


def _asked_for(match) -> tuple[type | None, str]:
    """The model and the id in an address of the admin, by the name that all of them have: app_model_page."""
    app, _, rest = (match.url_name or "").partition("_")
    try:
        model = apps.get_model(app, rest.partition("_")[0])
    except (LookupError, ValueError):
        return None, ""
    given = match.kwargs.get("object_id") or next(iter([*match.kwargs.values(), *match.args]), "")
    return model, unquote(str(given))


def _key_of(model, key: str) -> str:
    """What was typed stands in a clear column only where it is a key."""
    try:
        return str(model._meta.pk.to_python(key))[:40]
    except ValidationError:
        return ""


def _is_foreign(request, model, key: str) -> bool:
    """There is such a row, and this person does not see it."""
    if model is None or not key:
        return False
    page = getattr(request.resolver_match.func, "model_admin", None)
    seen = page.get_queryset(request) if page and page.model is model else _visible(model, request.user)
    wanted = Q(pk=key)
    try:
        return model._base_manager.filter(wanted).exists() and not seen.filter(wanted).exists()
    except (ValueError, ValidationError):
        return False


def _visible(model, user):
    rows = model._default_manager.all()
    return rows.visible_to(user) if hasattr(rows, "visible_to") else rows
