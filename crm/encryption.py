"""Strict encrypted fields on top of django-encrypted-model-fields, which gives the keys and the tokens, not the fields.

The database sees Fernet tokens (or an empty string). Decryption happens on reading a row and nowhere else, so input is
never decrypted. A value that no key opens becomes an `Unreadable`, which shows itself and is written back untouched.
About 6 us a value each way: lists defer what they do not show, and many values are encrypted and decrypted together (`encrypt_texts`,
`decrypt_texts`).
"""

import base64
import binascii
import functools
import hashlib
import os
import struct
import time
from collections.abc import Iterable, Sequence
from hmac import compare_digest

from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models.expressions import Case, Value
from django.db.models.functions import Cast
from django.utils.translation import gettext_lazy as _
from encrypted_model_fields.fields import CRYPTER, decrypt_str, encrypt_str

from crm.choices import UNREADABLE_MARK
from crm.exceptions import CiphertextRefused, EncryptedFieldError, ImpossibleValue

# The first 41 bits of every Fernet token until 2106 are fixed: version 0x80 and the high half of a 64-bit time.
TOKEN_PREFIX = "gAAAAA"


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
        text = self._text(value)
        if not text:
            return text
        refuse_throw_away_key()
        try:
            return encrypt_str(text).decode()
        except UnicodeEncodeError as error:
            raise ImpossibleValue() from error

    def _text(self, value) -> str | None:
        value = self.to_python(value)
        if value is None or value == "":
            return value
        text = self.encode(value)
        if looks_encrypted(text):
            raise CiphertextRefused()
        return text

    def prepare_many(self, values: Sequence) -> list:
        """The stored forms of plain values, in their order: what get_prep_value gives for each."""
        texts = [value.stored if isinstance(value, Unreadable) else self._text(value) for value in values]
        plain = [at for at, text in enumerate(texts) if text and not isinstance(values[at], Unreadable)]
        for at, token in zip(plain, encrypt_texts([texts[at] for at in plain]), strict=True):
            texts[at] = token
        return texts

    def read_many(self, stored: Sequence) -> list:
        """Plain values of stored ones, in their order: what from_db_value gives for each."""
        texts = decrypt_texts(stored)
        if type(self).decode is StrictEncryptedField.decode:
            return texts
        return [self._decoded(text, token) for text, token in zip(texts, stored, strict=True)]

    def _decoded(self, text, token):
        if not text or isinstance(text, Unreadable):
            return text
        try:
            return self.decode(text)
        except (ValueError, ValidationError):
            return Unreadable(token)

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


def refuse_throw_away_key() -> None:
    if "FIELD_ENCRYPTION_KEY" in settings.MISSING_SECRETS:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEY is not set: nothing is encrypted with a throw-away key.")


# Of Fernet's format: https://github.com/fernet/spec/blob/master/Spec.md
_VERSION = b"\x80"
_BLOCK = 16
# Of a longer text the cipher itself is what takes the time, and hardly two are of one length.
_MOST_BLOCKS = 64
_PADDINGS = [bytes([count]) * count for count in range(_BLOCK + 1)]
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_blocks = struct.Struct(f"{_BLOCK}s").iter_unpack


def encrypt_texts(texts: Iterable[str]) -> list[str]:
    """Fernet tokens of many texts, as `encrypt_str` makes them one by one, at a third of its time.

    What costs Fernet 6 us is a dozen calls a value, not the cipher. Texts of one length in blocks are chained side by
    side here: each block of all of them goes through AES in one call."""
    refuse_throw_away_key()
    sign, cipher = _primary_key()
    by_blocks: dict[int, list[tuple[int, bytes]]] = {}
    tokens = []
    for at, text in enumerate(texts):
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise ImpossibleValue() from error
        blocks = len(data) // _BLOCK + 1
        is_long = blocks > _MOST_BLOCKS
        tokens.append(encrypt_str(text).decode() if is_long else "")
        if not is_long:
            by_blocks.setdefault(blocks, []).append((at, data + _PADDINGS[blocks * _BLOCK - len(data)]))
    head = _VERSION + int(time.time()).to_bytes(8, "big")
    for blocks, members in by_blocks.items():
        chains = _chain([padded for _at, padded in members], blocks, cipher)
        for (at, _padded), parts in zip(members, chains, strict=True):
            body = head + b"".join([part for (part,) in parts])
            signature = sign.copy()
            signature.update(body)
            token = binascii.b2a_base64(body + signature.finalize(), newline=False)
            tokens[at] = token.translate(_URL_SAFE).decode("ascii")
    return tokens


def _chain(texts: list[bytes], blocks: int, cipher: Cipher) -> Iterable[tuple]:
    """CBC of each text under a random vector of its own, which comes first: a block is XORed with the one before it, then
    encrypted."""
    size = len(texts) * _BLOCK
    encryptor = cipher.encryptor()
    last = os.urandom(size)
    columns = [_blocks(last)]
    for start in range(0, blocks * _BLOCK, _BLOCK):
        plain = b"".join([text[start : start + _BLOCK] for text in texts])
        mixed = int.from_bytes(plain, "big") ^ int.from_bytes(last, "big")
        last = encryptor.update(mixed.to_bytes(size, "big"))
        columns.append(_blocks(last))
    return zip(*columns, strict=True)


# Version and time before the vector and the text, the signature behind them.
_HEAD, _SIGNATURE = 9, 32
_AROUND = _HEAD + _BLOCK + _SIGNATURE
# Tokens of one length end in equally many "=", which become as many zeros: so they are decoded together.
_TO_STANDARD = bytes.maketrans(b"-_=", b"+/A")


def decrypt_texts(tokens: Sequence) -> list:
    """What the tokens say, as `decrypt_str` reads them one by one, at a third of its time; an Unreadable for each that no
    key opens; None and "" as they are."""
    found = list(tokens)
    by_length: dict[int, list[int]] = {}
    for at, token in enumerate(found):
        if token:
            by_length.setdefault(len(token) if isinstance(token, str) else 0, []).append(at)
    for length, places in by_length.items():
        for at, text in zip(places, _decrypt_alike([found[at] for at in places], length), strict=True):
            found[at] = text
    return found


def _decrypt_alike(tokens: list, length: int) -> Iterable[str]:
    """Of tokens of one length."""
    sign, cipher = _primary_key()
    blocks, rest = divmod(length // 4 * 3 - _AROUND, _BLOCK)
    size = blocks * _BLOCK
    try:
        raw = binascii.a2b_base64("".join(tokens).encode("ascii").translate(_TO_STANDARD))
        parts = list(struct.iter_unpack(f"{_HEAD + _BLOCK + size}s{_SIGNATURE}s{rest}x", raw))
    except (ValueError, TypeError, struct.error):
        parts = []
    if len(parts) != len(tokens) or blocks < 1:
        return map(_decrypt_one, tokens)
    are_ours = []
    for body, given in parts:
        signature = sign.copy()
        signature.update(body)
        are_ours.append(compare_digest(signature.finalize(), given))
    plain = struct.iter_unpack(f"{size}s", _unchain([body[_HEAD:] for body, _given in parts], cipher))
    # Others are of an older key, or of none.
    return [
        _text(text, token) if is_ours else _decrypt_one(token)
        for is_ours, (text,), token in zip(are_ours, plain, tokens, strict=True)
    ]


def _unchain(bodies: list[bytes], cipher: Cipher) -> bytes:
    """CBC backwards: each block is decrypted, then XORed with the one before it, all of them at once."""
    before = b"".join([body[:-_BLOCK] for body in bodies])
    mixed = cipher.decryptor().update(b"".join([body[_BLOCK:] for body in bodies]))
    return (int.from_bytes(mixed, "big") ^ int.from_bytes(before, "big")).to_bytes(len(before), "big")


def _text(padded: bytes, token: str) -> str:
    try:
        return padded[: -padded[-1]].decode()
    except UnicodeDecodeError:
        return Unreadable(token)


def _decrypt_one(token) -> str:
    if not isinstance(token, str):  # SQLite keeps a BLOB in a text column
        return Unreadable(token)
    try:
        return decrypt_str(token)
    except (InvalidToken, ValueError):
        return Unreadable(token)


@functools.cache
def _primary_key() -> tuple[hmac.HMAC, Cipher]:
    """The first of the keys, which new values are written with."""
    key = base64.urlsafe_b64decode(settings.FIELD_ENCRYPTION_KEY[0])
    block_cipher = Cipher(algorithms.AES(key[_BLOCK:]), modes.ECB())  # noqa: S305 - one block; _chain makes it CBC
    return hmac.HMAC(key[:_BLOCK], hashes.SHA256()), block_cipher


def encrypt_bytes(content: bytes) -> bytes:
    """Of what no field holds, under the fields' key."""
    refuse_throw_away_key()
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
