"""Strict encrypted fields on top of django-encrypted-model-fields, which gives the keys and the tokens, not the fields.

The database sees Fernet tokens (or an empty string). Decryption happens on reading a row and nowhere else, so input is
never decrypted. A value that no key opens becomes an `Unreadable`, which shows itself and is written back untouched.
About 6 us a value each way: lists defer what they do not show.
"""

import functools
import hashlib

from cryptography.fernet import InvalidToken
from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models.expressions import Case, Value
from django.db.models.functions import Cast
from django.utils.translation import gettext_lazy as _
from encrypted_model_fields.fields import CRYPTER, decrypt_str, encrypt_str

from crm.exceptions import CiphertextRefused, EncryptedFieldError, ImpossibleValue

# The first 41 bits of every Fernet token until 2106 are fixed: version 0x80 and the high half of a 64-bit time.
TOKEN_PREFIX = "gAAAAA"
UNREADABLE_MARK = "⚠ unreadable"


class Unreadable(str):
    """Stands for a stored value that no key opens. `stored` is what the column holds, kept as it is on saving."""

    def __new__(cls, stored):
        self = super().__new__(cls, UNREADABLE_MARK)
        self.stored = stored
        return self

    def __reduce__(self):
        return (Unreadable, (self.stored,))


def looks_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(TOKEN_PREFIX)


def refuse_ciphertext(value: object) -> None:
    if looks_encrypted(value):
        raise ValidationError(CiphertextRefused.message, code="ciphertext")


def refuse_unstorable(value: object) -> None:
    """NUL, which PostgreSQL and spreadsheets refuse, and halves of a character, which have no bytes."""
    if isinstance(value, str) and ("\0" in value or not _has_bytes(value)):
        raise ValidationError(_("The text has characters that cannot be stored. Type it again."), code="unstorable")


def _has_bytes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fingerprint(key: str) -> str:
    """Names a key without telling it: eight hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def field_key_fingerprints() -> list[str]:
    return [fingerprint(key) for key in settings.FIELD_ENCRYPTION_KEY]


def _computes(expression) -> bool:
    """True for an SQL expression that would write something else than encrypted plain values."""
    if isinstance(expression, Case):  # what bulk_update builds: values chosen by primary key
        return any(_computes(case.result) for case in expression.cases) or _computes(expression.default)
    if isinstance(expression, Cast):
        return any(_computes(source) for source in expression.get_source_expressions())
    if isinstance(expression, Value):
        return expression.value is not None and not is_encrypted(expression._output_field_or_none)
    return True


class StrictEncryptedField:
    """Mixin before a Django field. The column is text, whatever the field's own type is."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.validators.extend([refuse_ciphertext, refuse_unstorable])

    def get_internal_type(self):
        return "TextField"

    def db_parameters(self, connection):
        # Without the checks that the plain type would put on the column.
        return {"type": models.TextField().db_type(connection), "check": None, "collation": None}

    def check(self, **kwargs):
        errors = super().check(**kwargs)
        if self.unique or self.db_index:
            errors.append(
                checks.Error("An encrypted field can be neither unique nor indexed.", obj=self, id="crm.E010")
            )
        return errors

    def encode(self, value) -> str:
        return str(value)

    def decode(self, text: str):
        return text

    def from_db_value(self, value, expression, connection):
        if value is None or value == "":
            return value
        if not isinstance(value, str):  # SQLite keeps a BLOB in a text column
            return Unreadable(value)
        try:
            return self.decode(decrypt_str(value))
        except (InvalidToken, ValueError, ValidationError):
            return Unreadable(value)

    def to_python(self, value):
        if isinstance(value, Unreadable):
            return value
        if isinstance(value, dict) and value.keys() == {"unreadable"}:  # as value_to_string writes it
            return Unreadable(value["unreadable"])
        return super().to_python(value)

    def clean(self, value, model_instance):
        # Nobody typed an unreadable value, so no rule about typing applies: the rest of the record can be saved.
        return value if isinstance(value, Unreadable) else super().clean(value, model_instance)

    def formfield(self, **kwargs):
        field = super().formfield(**kwargs)
        field.__class__ = _keeping_unreadable(type(field))
        return field

    def save_form_data(self, instance, data):
        # A form shows the mark; sent back as it was, it must not become the value.
        if data != UNREADABLE_MARK or not isinstance(self.value_from_object(instance), Unreadable):
            super().save_form_data(instance, data)

    def get_prep_value(self, value):
        """The stored form of a plain value; raises CiphertextRefused for a token, so nothing is encrypted twice."""
        if hasattr(value, "resolve_expression"):
            return value
        if isinstance(value, Unreadable):
            return value.stored
        value = self.to_python(value)
        if value is None or value == "":
            return value
        text = self.encode(value)
        if looks_encrypted(text):
            raise CiphertextRefused()
        if "FIELD_ENCRYPTION_KEY" in settings.MISSING_SECRETS:
            raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY is not set: nothing is encrypted with a throw-away key.")
        try:
            return encrypt_str(text).decode()
        except UnicodeEncodeError as error:
            raise ImpossibleValue() from error

    def get_db_prep_value(self, value, connection, prepared=False):
        return value if prepared else self.get_prep_value(value)

    def get_db_prep_save(self, value, connection):
        """Every write of every queryset and save passes here, SQL expressions too: they would write plain text or
        another column's token."""
        if hasattr(value, "resolve_expression") and _computes(value):
            raise EncryptedFieldError()
        return super().get_db_prep_save(value, connection)

    def get_lookup(self, lookup_name):
        if lookup_name != "isnull":
            raise FieldError(f"{self.name}: {EncryptedFieldError.message} Use the search index.")
        return super().get_lookup(lookup_name)

    def get_transform(self, lookup_name):
        raise FieldError(f"{self.name}: {EncryptedFieldError.message}")

    def value_to_string(self, obj):
        """For dumpdata. No form sends a dict, so what comes back as one through to_python was never typed."""
        value = self.value_from_object(obj)
        return {"unreadable": value.stored} if isinstance(value, Unreadable) else super().value_to_string(obj)


@functools.cache
def _keeping_unreadable(form_class: type) -> type:
    """The form field that lets the mark of an unreadable value pass, so that the other fields can be saved."""

    def clean(self, value):
        return value if value == UNREADABLE_MARK else form_class.clean(self, value)

    return type(form_class.__name__, (form_class,), {"clean": clean})


class EncryptedCharField(StrictEncryptedField, models.CharField):
    pass


class EncryptedTextField(StrictEncryptedField, models.TextField):
    pass


class EncryptedEmailField(StrictEncryptedField, models.EmailField):
    pass


class EncryptedDateField(StrictEncryptedField, models.DateField):
    def encode(self, value) -> str:
        return value.isoformat()

    def decode(self, text: str):
        return models.DateField.to_python(self, text)


def encrypt_bytes(content: bytes) -> bytes:
    """Of what no field holds, under the fields' key."""
    if "FIELD_ENCRYPTION_KEY" in settings.MISSING_SECRETS:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY is not set: nothing is encrypted with a throw-away key.")
    return CRYPTER.encrypt(content)


def decrypt_bytes(token: bytes) -> bytes:
    """Raises InvalidToken where no key opens it."""
    return CRYPTER.decrypt(token)


def is_encrypted(field: object) -> bool:
    return isinstance(field, StrictEncryptedField)


def encrypted_names(model: type[models.Model]) -> set[str]:
    return {field.name for field in model._meta.concrete_fields if is_encrypted(field)}


def reaches_encrypted(model: type[models.Model], path: str) -> bool:
    """Whether a lookup path such as `client__full_name` ends in or passes through an encrypted field."""
    for part in path.split("__"):
        if part in encrypted_names(model):
            return True
        field = next((field for field in model._meta.get_fields() if field.name == part), None)
        if field is None or not field.is_relation or field.related_model is None:
            return False
        model = field.related_model
    return False


CANARY_TEXT = "the field key opens this"
UNREADABLE = _("This value cannot be read with the office's key. It is kept as it is; ask an administrator.")
