"""What would lose or leak data: settings, keys, and code that asks the database about encrypted columns.

`refuse_unsafe_start` is called by manage.py and project/asgi.py before anything serves or writes; the rest are Django
system checks (crm.E001...)."""

import hashlib
import hmac

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from encrypted_model_fields.fields import decrypt_str, encrypt_str

from crm.encryption import CANARY_TEXT, Unreadable, encrypted_names, field_key_fingerprints, fingerprint

MIN_SECRET_LENGTH = 32
MIN_SECRET_LETTERS = 10


def unsafe_settings() -> list[checks.Error]:
    """What makes this configuration unfit to serve or to write. No query."""
    found = [
        checks.Error(
            f"{name} is not set.", hint="`make run` makes keys for one machine; a server sets its own.", id="crm.E001"
        )
        for name in settings.MISSING_SECRETS
    ]
    for name in ("SECRET_KEY", "SEARCH_KEY"):
        value = getattr(settings, name)
        if name not in settings.MISSING_SECRETS and (
            len(value) < MIN_SECRET_LENGTH or len(set(value)) < MIN_SECRET_LETTERS
        ):
            found.append(
                checks.Error(
                    f"{name} is weak.", hint=f"Give at least {MIN_SECRET_LENGTH} random characters.", id="crm.E002"
                )
            )
    if settings.SEARCH_KEY == settings.SECRET_KEY or settings.SEARCH_KEY in settings.FIELD_ENCRYPTION_KEY:
        found.append(
            checks.Error("SEARCH_KEY is the same as another key.", hint="Each key is for one thing.", id="crm.E003")
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(checks.Error("ALLOWED_HOSTS=* lets anybody name the host.", hint="Name the hosts.", id="crm.E004"))
    if settings.DEBUG and not settings.SITE_IS_LOCAL:
        found.append(
            checks.Error(
                f"DEBUG=1 shows internals to the visitors of {settings.SITE_URL}.",
                hint="Unset DEBUG (it also stands in data/.env), or set SITE_URL to a local address.",
                id="crm.E005",
            )
        )
    if not settings.DEBUG and not settings.SITE_URL.startswith("https://"):
        found.append(
            checks.Error(
                f"SITE_URL={settings.SITE_URL} is not an https address.",
                hint="Set SITE_URL to the office's public address, such as https://office.example.com.",
                id="crm.E006",
            )
        )
    return found


def wrong_keys() -> list[str]:
    """Canaries that the present keys do not open. Two queries; none planted yet means none wrong."""
    from crm.models import KeyCanary

    if KeyCanary._meta.db_table not in connection.introspection.table_names():
        return []
    found = []
    for canary in KeyCanary.objects.all():
        if canary.kind == "field" and not _opens(canary.token):
            found.append(
                f"FIELD_ENCRYPTION_KEY {', '.join(field_key_fingerprints())} is not the key of this database, "
                f"which was written with key {canary.fingerprint}."
            )
        if canary.kind == "search" and not hmac.compare_digest(canary.token, _search_token()):
            found.append(
                f"SEARCH_KEY {fingerprint(settings.SEARCH_KEY)} is not the key of this database's search index, "
                f"which was written with key {canary.fingerprint}."
            )
    return found


def _opens(token: str) -> bool:
    try:
        return decrypt_str(token) == CANARY_TEXT
    except (InvalidToken, ValueError):
        return False


def _search_token() -> str:
    return hmac.new(settings.SEARCH_KEY.encode(), CANARY_TEXT.encode(), hashlib.sha256).hexdigest()


def has_demo_users() -> bool:
    from crm.models import User

    if User._meta.db_table not in connection.introspection.table_names():
        return False
    return User.objects.filter(is_demo=True, is_active=True).exists()


def refuse_unsafe_start() -> None:
    """Raises ImproperlyConfigured with every reason not to serve or write: settings first, then keys, then demo users."""
    reasons = [f"{error.msg} {error.hint or ''}".strip() for error in unsafe_settings()]
    if not reasons:
        reasons = wrong_keys()
        if reasons:
            reasons.append("Nothing was written. Set the key that belongs to this database.")
        elif not settings.DEBUG and has_demo_users():
            reasons = ["This database holds demo users with known passwords. Production needs a database of its own."]
    if reasons:
        raise ImproperlyConfigured(" ".join(reasons))


def plant_canaries(using: str = "default", **kwargs) -> None:
    """After migrate: remembers under which keys this database is written. Never changes a canary that stands."""
    from crm.models import Client, KeyCanary

    if settings.MISSING_SECRETS or KeyCanary._meta.db_table not in connection.introspection.table_names():
        return
    first = Client.objects.only("full_name").order_by("pk").first()
    if first and isinstance(first.full_name, Unreadable):
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY does not open the clients of this database.")
    KeyCanary.objects.get_or_create(
        kind="field",
        defaults={"token": encrypt_str(CANARY_TEXT).decode(), "fingerprint": field_key_fingerprints()[0]},
    )
    KeyCanary.objects.get_or_create(
        kind="search", defaults={"token": _search_token(), "fingerprint": fingerprint(settings.SEARCH_KEY)}
    )


@checks.register(checks.Tags.security, deploy=True)
def check_settings(app_configs, **kwargs):
    return unsafe_settings()


@checks.register(checks.Tags.models)
def check_encrypted_ordering(app_configs, **kwargs):
    return [
        checks.Error("Meta.ordering names an encrypted field, which would sort ciphertext.", obj=model, id="crm.E011")
        for model in apps.get_app_config("crm").get_models()
        if {str(name).lstrip("-") for name in model._meta.ordering} & encrypted_names(model)
    ]


@checks.register(checks.Tags.admin)
def check_encrypted_admin_options(app_configs, **kwargs):
    """search_fields, list_filter, ordering and date_hierarchy reach the database, where encrypted values mean nothing."""
    found = []
    for model, model_admin in admin.site._registry.items():
        for option in ("search_fields", "list_filter", "ordering", "date_hierarchy"):
            value = getattr(model_admin, option, None) or ()
            for item in [value] if isinstance(value, str) else value:
                path = item[0] if isinstance(item, (tuple, list)) else item
                if isinstance(path, str) and _reaches_encrypted(model, path):
                    found.append(
                        checks.Error(
                            f"{option} names the encrypted field {path}.", obj=model_admin.__class__, id="crm.E012"
                        )
                    )
    return found


def _reaches_encrypted(model, path: str) -> bool:
    for part in path.lstrip("-^=@").split("__"):
        if part in encrypted_names(model):
            return True
        field = next((field for field in model._meta.get_fields() if field.name == part), None)
        if field is None or not field.is_relation or field.related_model is None:
            return False
        model = field.related_model
    return False
