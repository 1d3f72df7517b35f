"""Blind index: how a plain value is folded, cut into words and turned into keyed digests. The rows that hold them are
crm.models.SearchToken. A digest shows equality to whoever has the database and, by trying, values to whoever has
SEARCH_KEY too: so it is a key of its own, and only fields that people search are indexed."""

import functools
import re
import unicodedata
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes, hmac
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import TextChoices

MIN_PREFIX = 3
MAX_PREFIX = 20
MAX_WORDS = 10  # each is a subquery
DIGEST_BYTES = 16
TITLES = {
    "ing", "mgr", "bc", "judr", "mudr", "phdr", "rndr", "mvdr", "paeddr", "thdr", "rsdr", "mba", "phd", "ph", "d", "csc",
    "drsc", "doc", "prof", "dis", "llm", "arch", "dr",
}  # fmt: skip
# Letters that are no accented form of another one for Unicode, but are for whoever types them on a keyboard without.
_LETTERS = str.maketrans({"đ": "d", "ð": "d", "ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th", "ħ": "h"})

_APOSTROPHES = re.compile("['’ʼ‘`´]")


class Kind(TextChoices):
    NAME = "n"
    NAME_KEY = "k"
    EMAIL = "e"
    PHONE = "p"
    BIRTH_NUMBER = "b"
    ID_DOCUMENT = "d"
    BUSINESS_ID = "i"


# Client field -> kind, for the values that are found only whole.
WHOLE_KINDS = {
    "email": Kind.EMAIL,
    "phone": Kind.PHONE,
    "birth_number": Kind.BIRTH_NUMBER,
    "id_document_number": Kind.ID_DOCUMENT,
    "business_id": Kind.BUSINESS_ID,
}
NUMBER_KINDS = {Kind.PHONE, Kind.BIRTH_NUMBER, Kind.BUSINESS_ID}
FIELD_KINDS = {"full_name": (Kind.NAME, Kind.NAME_KEY)} | {field: (kind,) for field, kind in WHOLE_KINDS.items()}
INDEXED_FIELDS = tuple(FIELD_KINDS)


def fold(text: str) -> str:
    """Case and accents away: `Nováková` and `NOVAKOVA` are one."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).translate(_LETTERS)


def clean(text: str) -> str:
    """A search text without what no database takes: NUL and halves of a character."""
    return text.encode(errors="ignore").decode().replace("\0", "").strip()


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", fold(text))


def name_key(name: str) -> str:
    """The same for `NOVÁK Jan`, `Jan Novák` and `Ing. Jan Novák, Ph.D.`: what makes two names probably one person's."""
    found = words(name)
    return " ".join(sorted([word for word in found if word not in TITLES] or found))


def fold_value(kind: str, value: str) -> str:
    if kind == Kind.EMAIL:
        return value.strip().casefold()
    if kind == Kind.PHONE:
        digits = re.sub(r"\D", "", value)
        digits = digits.removeprefix("00")
        return digits[3:] if len(digits) == 12 and digits.startswith("420") else digits
    if kind == Kind.BIRTH_NUMBER:
        return re.sub(r"\D", "", value)
    if kind == Kind.BUSINESS_ID:
        digits = re.sub(r"\D", "", value)
        return digits.zfill(8) if digits else ""
    if kind == Kind.ID_DOCUMENT:
        return "".join(words(value))
    return fold(value)


def digest(kind: str, folded: str) -> bytes:
    """HMAC-SHA-256 over kind and folded value, cut to 16 bytes (an index four times smaller than its hexadecimal)."""
    if "SEARCH_KEY" in settings.MISSING_SECRETS:
        raise ImproperlyConfigured("SEARCH_KEY is not set: nothing is indexed with a throw-away key.")
    keyed = _keyed(settings.SEARCH_KEY).copy()
    keyed.update(f"{kind}:{folded}".encode())
    return keyed.finalize()[:DIGEST_BYTES]


@functools.cache
def _keyed(key: str) -> hmac.HMAC:
    """Copied for each digest: a third of the time of beginning with the key."""
    return hmac.HMAC(key.encode(), hashes.SHA256())


def name_words(name: str) -> set[str]:
    """`O'Brien` is also found by `obrien`."""
    found = set(words(name))
    return found | set(words(_APOSTROPHES.sub("", name))) if _APOSTROPHES.search(name) else found


def prefixes(word: str) -> set[str]:
    return {word[:length] for length in range(MIN_PREFIX, min(len(word), MAX_PREFIX) + 1)} | {word[:MAX_PREFIX]}


def tokens(values: dict[str, str], known: dict[str, set] | None = None) -> set[tuple[str, bytes]]:
    """(kind, digest) pairs for a client's plain values, keyed by field name; empty values give none. Whoever asks for
    many clients brings one dict for all of them, which keeps what each word of a name gives."""
    known = {} if known is None else known
    found = set()
    if name := values.get("full_name"):
        for word in name_words(name):
            if word not in known:
                known[word] = {(Kind.NAME.value, digest(Kind.NAME.value, each)) for each in prefixes(word)}
            found |= known[word]
        found.add((Kind.NAME_KEY.value, digest(Kind.NAME_KEY.value, name_key(name))))
    for field, kind in WHOLE_KINDS.items():
        if (value := values.get(field)) and (folded := fold_value(kind, value)):
            found.add((kind.value, digest(kind.value, folded)))
    return found


def whole_digests(text: str) -> Iterator[tuple[str, bytes]]:
    """What a search text may be as a whole value, a pair for each kind. A text with letters is no number."""
    has_letters = any(char.isalpha() for char in text)
    for kind in WHOLE_KINDS.values():
        if has_letters and kind in NUMBER_KINDS:
            continue
        if folded := fold_value(kind, text):
            yield kind.value, digest(kind, folded)


def word_digests(text: str) -> list[bytes]:
    if "@" in text:  # an address, which is found whole: five words of it would only cost the planner its time
        return []
    found = dict.fromkeys(word[:MAX_PREFIX] for word in words(text))
    return [digest(Kind.NAME, word) for word in list(found)[:MAX_WORDS]]


def name_key_digest(name: str) -> bytes:
    return digest(Kind.NAME_KEY, name_key(name))
