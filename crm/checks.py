"""What would lose or leak data: settings, keys, and code that asks the database about encrypted columns.

`refuse_unsafe_start` is called by manage.py and project/asgi.py before anything serves or writes; a process that came
up in another way meets `refuse_wrong_keys` at its first query. The rest are Django system checks (crm.E001...)."""

import base64
import contextlib
import hashlib
import hmac
from pathlib import Path

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connection, models
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from encrypted_model_fields.fields import decrypt_str, encrypt_str

from crm.encryption import (
    CANARY_TEXT,
    Unreadable,
    encrypted_names,
    field_key_fingerprints,
    fingerprint,
    reaches_encrypted,
)

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
            len(value) < MIN_SECRET_LENGTH or len(set(value)) < MIN_SECRET_LETTERS or repeats(value)
        ):
            found.append(
                checks.Error(
                    f"{name} is weak.", hint=f"Give at least {MIN_SECRET_LENGTH} random characters.", id="crm.E002"
                )
            )
    if any(len(key) < MIN_SECRET_LENGTH or len(set(key)) < MIN_SECRET_LETTERS for key in settings.AUDIT_KEYS):
        hint = f"Give at least {MIN_SECRET_LENGTH} random characters."
        found.append(checks.Error("AUDIT_KEY is weak.", hint=hint, id="crm.E002"))
    for name, value, others in (
        ("SEARCH_KEY", settings.SEARCH_KEY, settings.SECRET_KEY),
        ("FIELD_ENCRYPTION_KEY", settings.FIELD_ENCRYPTION_KEY, (settings.SECRET_KEY, settings.SEARCH_KEY)),
        (
            "AUDIT_KEY",
            settings.AUDIT_KEYS,
            (settings.SECRET_KEY, settings.SEARCH_KEY, *settings.FIELD_ENCRYPTION_KEY),
        ),
        (
            "BACKUP_KEY",
            settings.BACKUP_KEYS,
            (settings.SECRET_KEY, settings.SEARCH_KEY, *settings.FIELD_ENCRYPTION_KEY, *settings.AUDIT_KEYS),
        ),
    ):
        if _forms(value) & _forms(others):
            found.append(
                checks.Error(f"{name} is the same as another key.", hint="Each key is for one thing.", id="crm.E003")
            )
    store = {name: getattr(settings, name) for name in ("S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")}
    if any([*store.values(), settings.S3_ENDPOINT_URL]) and not all(store.values()):
        missing = " and ".join(name for name, value in store.items() if not value)
        hint = "Backups go off-site where bucket and keys are set; unset all S3_ variables for none."
        found.append(checks.Error(f"{missing} is not set, other S3_ variables are.", hint=hint, id="crm.E007"))
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


def repeats(value: str) -> bool:
    """True for one piece said several times, such as 0123456701234567."""
    return value in (value + value)[1:-1]


def _forms(keys) -> set[str]:
    """One key or several in every form they may be written in: as they are, and hexadecimal as base64."""
    found = {keys} if isinstance(keys, str) else set(keys)
    for key in list(found):
        with contextlib.suppress(ValueError):
            found.add(base64.urlsafe_b64encode(bytes.fromhex(key)).decode())
    return {key.rstrip("=").translate(str.maketrans("+/", "-_")) for key in found}


def _canaries() -> list[tuple[str, str, str]]:
    """(kind, token, fingerprint) of what was planted. Names its columns, so that a later migration can add one."""
    from crm.models import KeyCanary

    if not _has(KeyCanary):
        return []
    return list(KeyCanary.objects.order_by("kind").values_list("kind", "token", "fingerprint"))


def is_there() -> bool:
    """The default database: who asks a SQLite file that is not there makes it. Of a server it says nothing."""
    return connection.vendor != "sqlite" or Path(connection.settings_dict["NAME"]).exists()


def tables() -> list[str]:
    """Of the default database."""
    return connection.introspection.table_names() if is_there() else []


def _has(model) -> bool:
    return model._meta.db_table in tables()


def wrong_keys() -> list[str]:
    """Canaries that the present keys do not open. Two queries; none planted yet means none wrong."""
    return _complaints(_canaries())


def _complaints(canaries) -> list[str]:
    found = []
    for kind, token, planted in canaries:
        if kind == "field" and not _opens(token):
            found.append(
                f"FIELD_ENCRYPTION_KEY {', '.join(field_key_fingerprints())} is not the key of this database, "
                f"which was written with key {planted}."
            )
        if kind == "search" and not hmac.compare_digest(token.encode(), _search_token().encode()):
            found.append(
                f"SEARCH_KEY {fingerprint(settings.SEARCH_KEY)} is not the key of this database's search index, "
                f"which was written with key {planted}."
            )
    return [*found, "Nothing was written. Set the key that belongs to this database."] if found else []


# Databases, by name, whose canaries this process has opened.
_confirmed: set[str] = set()


@receiver(connection_created)
def refuse_wrong_keys(sender, connection, **kwargs):
    """`python -m django`, a script, a notebook: whatever way a process came up, a wrong key gets no connection.

    Throw-away keys pass, for builds that look at the database; nothing is ever written with them (crm.encryption)."""
    name = str(connection.settings_dict["NAME"])
    if connection.alias != DEFAULT_DB_ALIAS or settings.MISSING_SECRETS or name in _confirmed:
        return
    canaries = _canaries()
    if found := _complaints(canaries):
        connection.close()
        raise ImproperlyConfigured(" ".join(found))
    if canaries:
        _confirmed.add(name)


def _opens(token: str) -> bool:
    try:
        return decrypt_str(token) == CANARY_TEXT
    except (InvalidToken, ValueError):
        return False


def _search_token() -> str:
    return hmac.new(settings.SEARCH_KEY.encode(), CANARY_TEXT.encode(), hashlib.sha256).hexdigest()


def has_demo_users() -> bool:
    from crm.models import User

    if not _has(User):
        return False
    return User.objects.filter(is_demo=True, is_active=True).exists()


def refuse_unsafe_settings() -> None:
    """Of refuse_unsafe_start what needs no database. Raises ImproperlyConfigured."""
    _refuse([f"{error.msg} {error.hint or ''}".strip() for error in unsafe_settings()])


def refuse_unsafe_start() -> None:
    """Raises ImproperlyConfigured with every reason not to serve or write: settings first, then keys, then demo users."""
    refuse_unsafe_settings()
    _refuse(wrong_keys())
    if not settings.DEBUG and has_demo_users():
        _refuse(["This database holds demo users with known passwords. Production needs a database of its own."])


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise ImproperlyConfigured(" ".join(reasons))


def plant_canaries(using: str = "default", **kwargs) -> None:
    """After migrate: remembers under which keys this database is written. Never changes a canary that stands."""
    from crm.models import Client, KeyCanary

    if settings.MISSING_SECRETS or not _has(KeyCanary):
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
def check_encrypted_meta(app_configs, **kwargs):
    """Ordering sorts ciphertext; no two ciphertexts are equal, so nothing over them is unique or found by an index."""
    found = []
    for model in apps.get_models():
        meta, encrypted = model._meta, encrypted_names(model)
        if any(reaches_encrypted(model, _path(item)) for item in meta.ordering):
            found.append(checks.Error("Meta.ordering names an encrypted field.", obj=model, id="crm.E011"))
        together = {name for names in meta.unique_together for name in names}
        for item in (*meta.constraints, *meta.indexes):
            together.update(name.lstrip("-") for name in getattr(item, "fields", ()))
        if together & encrypted:
            found.append(checks.Error("A constraint or index names an encrypted field.", obj=model, id="crm.E013"))
    return found


def _path(ordering) -> str:
    """Of `-name`, F("name") and F("name").desc(): name. Of anything else nothing."""
    ordering = getattr(ordering, "expression", ordering)
    return str(ordering.name if isinstance(ordering, models.F) else ordering).lstrip("-")


@checks.register(checks.Tags.admin)
def check_encrypted_admin_options(app_configs, **kwargs):
    """search_fields, list_filter, ordering and date_hierarchy reach the database, where encrypted values mean nothing."""
    found = []
    for model, model_admin in admin.site._registry.items():
        for option in ("search_fields", "list_filter", "ordering", "date_hierarchy"):
            value = getattr(model_admin, option, None) or ()
            for item in [value] if isinstance(value, str) else value:
                path = item[0] if isinstance(item, (tuple, list)) else item
                if isinstance(path, str) and reaches_encrypted(model, path.lstrip("-^=@")):
                    found.append(
                        checks.Error(
                            f"{option} names the encrypted field {path}.", obj=model_admin.__class__, id="crm.E012"
                        )
                    )
    return found
