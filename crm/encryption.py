"""Strict encrypted fields on top of django-encrypted-model-fields, which gives the keys and the tokens, not the fields.

The database sees Fernet tokens (or an empty string). Decryption happens on reading a row and nowhere else, so input is
never decrypted. A value that no key opens becomes an `Unreadable`, which shows itself and is written back untouched.
About 6 us a value each way: lists defer what they do not show.
"""

import hashlib

from cryptography.fernet import InvalidToken
from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _
from encrypted_model_fields.fields import decrypt_str, encrypt_str

from crm.exceptions import CiphertextRefused, EncryptedFieldError

# The first 41 bits of every Fernet token until 2106 are fixed: version 0x80 and the high half of a 64-bit time.
TOKEN_PREFIX = "gAAAAA"


class Unreadable(str):
    """Stands for a stored value that no key opens. `stored` is what the column holds, kept as it is on saving."""

    def __new__(cls, stored: str):
        self = super().__new__(cls, "⚠ unreadable")
        self.stored = stored
        return self

    def __reduce__(self):
        return (Unreadable, (self.stored,))


def looks_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(TOKEN_PREFIX)


def refuse_ciphertext(value: object) -> None:
    if looks_encrypted(value):
        raise ValidationError(CiphertextRefused.message, code="ciphertext")


def fingerprint(key: str) -> str:
    """Names a key without telling it: eight hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def field_key_fingerprints() -> list[str]:
    return [fingerprint(key) for key in settings.FIELD_ENCRYPTION_KEY]


class StrictEncryptedField:
    """Mixin before a Django field. The column is text, whatever the field's own type is."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.validators.append(refuse_ciphertext)

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
        try:
            return self.decode(decrypt_str(value))
        except (InvalidToken, ValueError):
            return Unreadable(value)

    def to_python(self, value):
        return value if isinstance(value, Unreadable) else super().to_python(value)

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
        return encrypt_str(text).decode()

    def get_db_prep_value(self, value, connection, prepared=False):
        return value if prepared else self.get_prep_value(value)

    def get_lookup(self, lookup_name):
        if lookup_name != "isnull":
            raise FieldError(f"{self.name}: {EncryptedFieldError.message} Use the search index.")
        return super().get_lookup(lookup_name)

    def get_transform(self, lookup_name):
        raise FieldError(f"{self.name}: {EncryptedFieldError.message}")

    def value_to_string(self, obj):
        value = self.value_from_object(obj)
        return value.stored if isinstance(value, Unreadable) else super().value_to_string(obj)


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

    def from_db_value(self, value, expression, connection):
        try:
            return super().from_db_value(value, expression, connection)
        except ValidationError:
            return Unreadable(value)


def is_encrypted(field: object) -> bool:
    return isinstance(field, StrictEncryptedField)


def encrypted_names(model: type[models.Model]) -> set[str]:
    return {field.name for field in model._meta.concrete_fields if is_encrypted(field)}


CANARY_TEXT = "the field key opens this"
UNREADABLE = _("This value cannot be read with the office's key. It is kept as it is; ask an administrator.")
