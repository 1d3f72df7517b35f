"""Typed readers of the environment, and of `data/.env` below it (the environment wins).

A reader names the variable and what is wrong with its value. `NAME_FILE` names a file that holds the value of NAME,
as Docker and systemd hand over secrets. `python -m project.env` adds the keys that are missing to `data/.env`.
"""

import base64
import binascii
import fcntl
import io
import os
import re
import secrets
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import unquote
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parent.parent
FIELD_KEY_NAMES = ("FIELD_ENCRYPTION_KEY", "ENCRYPTED_MODEL_FIELDS_KEY")
POSTGRESQL = {"postgres", "postgresql", "psql"}
_LINE = re.compile(r"(export )?[A-Za-z_][A-Za-z_0-9]*=.*")


def env_file() -> Path | None:
    """`ENV_FILE` names another file than data/.env, counted from the repository; an empty value means none."""
    named = os.environ.get("ENV_FILE", "data/.env")
    return ROOT / named if named else None


def load_env_file() -> None:
    """Into the environment comes what it has not yet, in whatever form: NAME, NAME_FILE, the key's older name."""
    file = env_file()
    if file and file.is_file():
        os.environ.update({name: value for name, value in _read(file).items() if not _is_in(os.environ, name)})


def _read(file: Path) -> dict[str, str]:
    """What stands in the file and is not empty. Complains about a line by its number: it may be a secret."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"{file} cannot be read: {_why(error)}.") from error
    lines = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    for number, line in lines:
        if not _LINE.fullmatch(line):
            raise ImproperlyConfigured(f"{file}, line {number}: write NAME=value, without spaces around the sign.")
    reader = type("Reader", (environ.Env,), {"ENVIRON": {}})
    reader.read_env(io.StringIO("\n".join(line for _, line in lines)))
    return {name: value for name, value in reader.ENVIRON.items() if value.strip()}


def _is_in(values, name: str) -> bool:
    aliases = FIELD_KEY_NAMES if name in FIELD_KEY_NAMES else (name,)
    return any(values.get(form, "").strip() for alias in aliases for form in (alias, f"{alias}_FILE"))


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not text"


def text(name: str, default: str = "") -> str:
    value = os.environ.get(name, "").strip()
    if value:
        return value
    file = os.environ.get(f"{name}_FILE", "").strip()
    if not file:
        return default
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"{name}_FILE names {file}, which cannot be read: {_why(error)}.") from error


def boolean(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no: write 1 or 0.")


def integer(name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from error
    if number < minimum:
        raise ImproperlyConfigured(f"{name}={number} is less than {minimum}.")
    if maximum is not None and number > maximum:
        raise ImproperlyConfigured(f"{name}={number} is more than {maximum}.")
    return number


def items(name: str, default: tuple[str, ...] = ()) -> list[str]:
    return [item.strip() for item in text(name).split(",") if item.strip()] or list(default)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(allowed)}.")
    return value


def site_url(name: str, default: str) -> str:
    return _address(name, text(name, default), "https://office.example.com")


def store_url(name: str) -> str:
    """Empty without one. May have a path, as that of Supabase has."""
    return _address(name, text(name), "https://s3.eu-central-1.example.com", has_path=True)


def _address(name: str, value: str, example: str, *, has_path: bool = False) -> str:
    value = value.rstrip("/")
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        path = parts.path if has_path else ""
        bare = value == f"{parts.scheme}://{parts.netloc}{path}" and parts.port != 0
    except ValueError:
        bare = False
    if not bare or parts.scheme not in {"http", "https"} or not parts.hostname or "@" in value:
        raise ImproperlyConfigured(f"{name} is not an address like {example}.")
    return value


def database(name: str, default: str) -> dict:
    """A Django database setting from a URL; a relative SQLite path counts from the repository. PostgreSQL's host and port
    may stand among the options, and become HOST and PORT, which are all that pg_dump is told."""
    url = text(name, default)
    # Before anything else reads it: django-environ warns about an unknown one with its password.
    if url.partition("://")[0] not in {"sqlite", *POSTGRESQL}:
        raise ImproperlyConfigured(f"{name}: only postgres:// and sqlite:// are supported.")
    try:
        config = environ.Env.db_url_config(url)
    except (ValueError, environ.ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} cannot be read as a database URL.") from error
    if config["ENGINE"].endswith("sqlite3"):
        path = url.partition("://")[2].partition("?")[0]
        if not path.startswith("/") or path == "/":
            raise ImproperlyConfigured(f"{name}: write sqlite:////absolute/path or sqlite:///relative/path.")
        config["NAME"] = str(ROOT / path[1:]) if not path.startswith("//") else path[1:]
    else:
        config["ENGINE"] = "django.db.backends.postgresql"
        options = config.get("OPTIONS", {})
        config |= {key: config[key] or options.pop(key.lower(), "") for key in ("HOST", "PORT")}
    return config


def postgresql_url(name: str) -> str:
    """As `database` reads it; empty without one."""
    url = text(name)
    if url and url.partition("://")[0] not in POSTGRESQL:
        raise ImproperlyConfigured(f"{name}: only postgres:// is supported.")
    if url:
        database(name, "")
    return url


def mail_server(name: str) -> dict | None:
    """Django's EMAIL_ settings from a URL, None without one: smtp+tls://user:password@host:587 (STARTTLS),
    smtps://user:password@host:465, smtp://127.0.0.1:25, filemail:///folder."""
    url = text(name)
    if not url:
        return None
    scheme = url.partition(":")[0].lower()
    if scheme not in {"smtp", "smtp+tls", "smtps", "smtp+ssl", "filemail"}:
        raise ImproperlyConfigured(f"{name} is not an address like smtp+tls://user:password@mail.example.com:587.")
    try:
        found = environ.Env.email_url_config(url)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} cannot be read: {_why(error)}.") from error
    if scheme == "filemail":
        return {"EMAIL_BACKEND": found["EMAIL_BACKEND"], "EMAIL_FILE_PATH": f"/{found['EMAIL_FILE_PATH'].lstrip('/')}"}
    if not found["EMAIL_HOST"]:
        raise ImproperlyConfigured(f"{name} names no host.")
    is_ssl = scheme in {"smtps", "smtp+ssl"}
    return {
        "EMAIL_BACKEND": "crm.mail_server.EmailBackend",
        "EMAIL_HOST": found["EMAIL_HOST"],
        "EMAIL_PORT": found["EMAIL_PORT"] or (465 if is_ssl else 587 if scheme == "smtp+tls" else 25),
        "EMAIL_HOST_USER": found["EMAIL_HOST_USER"] or "",
        "EMAIL_HOST_PASSWORD": found["EMAIL_HOST_PASSWORD"] or "",
        "EMAIL_USE_TLS": scheme == "smtp+tls",
        "EMAIL_USE_SSL": is_ssl,
    }


def mail_sender(name: str, default: str) -> str:
    """An address, or a name with one in <>, as a mail's From takes it: names hold commas, colons and dots as they are
    written, and are quoted here."""
    value = text(name)
    if not value:
        return default
    label, bracket, address = value.rpartition("<") if value.endswith(">") else ("", "", value)
    label = label.strip()
    if len(label) > 1 and label[0] == label[-1] == '"':
        label = unquote(label)
    try:
        sender = Address(label, addr_spec=address.removesuffix(">" if bracket else "").strip())
        sender.domain.encode("idna")
    except (MessageError, ValueError, IndexError, AttributeError) as error:  # the last is a slip of Python's parser
        raise ImproperlyConfigured(f"{name} is not an address like Novák Finance, s.r.o. <info@novak.cz>.") from error
    return str(sender)


def mail_folder(folder: Path) -> dict:
    return {"EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend", "EMAIL_FILE_PATH": str(folder)}


def field_keys() -> list[str]:
    """Fernet keys, the first one for writing; none set gives an empty list.

    Takes what people and key generators really put there: Fernet's own form, plain base64 and 64 hexadecimal digits,
    one or several with commas between. Raises ImproperlyConfigured without quoting the value.
    """
    for name in FIELD_KEY_NAMES:
        if found := keys(name):
            return found
    return []


def keys(name: str) -> list[str]:
    """In every form of a field key."""
    return [_fernet_key(part, name) for part in items(name)]


def hours(name: str) -> int:
    """Of `1h`, `6h`: how many, so that a day has a whole number of them; 0 without one."""
    value = text(name)
    number = int(value[:-1]) if re.fullmatch(r"[0-9]{1,2}h", value) else 0
    if value and (not number or 24 % number):
        raise ImproperlyConfigured(f"{name}={value!r} is not one of 1h, 2h, 3h, 4h, 6h, 8h, 12h, 24h.")
    return number


def throw_away_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _fernet_key(value: str, name: str) -> str:
    raw = b""
    try:
        if len(value) == 64:
            raw = bytes.fromhex(value)
        else:
            bare = value.translate(str.maketrans("-_", "+/")).rstrip("=")
            raw = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (ValueError, binascii.Error):
        pass
    if len(raw) != 32:
        raise ImproperlyConfigured(
            f"{name} holds a key that is not 32 bytes long: give 64 hexadecimal digits or 44 characters of base64 "
            "(python -c 'import secrets; print(secrets.token_hex(32))' makes one)."
        )
    if len(set(raw)) < 8 or raw in (raw + raw)[1:-1]:
        raise ImproperlyConfigured(f"{name} holds a key that is too regular to be random: make a new one.")
    return base64.urlsafe_b64encode(raw).decode()


def add_missing_keys(file: Path) -> list[str]:
    """Appends a line for each key that neither the environment nor `file` has; returns their names. Two at once write
    one set of keys: the second waits, and finds them."""
    if file.is_file():
        _close_to_others(file)
        if not _missing(_read(file)):
            return []
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        missing = _missing(_read(file))
        before = stream.read()
        newline = "\n" if before and not before.endswith("\n") else ""
        stream.write(newline + "".join(f"{name}={value}\n" for name, value in missing.items()))
    return list(missing)


def _missing(known: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FIELD_ENCRYPTION_KEY": throw_away_key(),
            "SEARCH_KEY": secrets.token_urlsafe(48),
            "AUDIT_KEY": secrets.token_urlsafe(48),
            "BACKUP_KEY": throw_away_key(),
            "DEBUG": "1",
        }.items()
        if not _is_in(known, name) and not _is_in(os.environ, name)
    }


def _close_to_others(file: Path) -> None:
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)


if __name__ == "__main__":
    target = env_file()
    if target and (added := add_missing_keys(target)):
        print(f"{target}: added {', '.join(added)}. Keep this file: without its keys the data cannot be read.")
