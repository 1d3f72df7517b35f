"""Typed readers of the environment, and of `data/.env` below it (the environment wins).

A reader names the variable and what is wrong with its value. `NAME_FILE` names a file that holds the value of NAME,
as Docker and systemd hand over secrets. `python -m project.env` adds the keys that are missing to `data/.env`.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parent.parent
FIELD_KEY_NAMES = ("FIELD_ENCRYPTION_KEY", "ENCRYPTED_MODEL_FIELDS_KEY")
MIN_SECRET_LENGTH = 32


def env_file() -> Path | None:
    """`ENV_FILE` names another file than data/.env; an empty value means none."""
    named = os.environ.get("ENV_FILE")
    if named == "":
        return None
    return Path(named) if named else ROOT / "data" / ".env"


def load_env_file() -> None:
    file = env_file()
    if file and file.is_file():
        environ.Env.read_env(file, overwrite=False)


def text(name: str, default: str = "") -> str:
    value = os.environ.get(name, "").strip()
    if value:
        return value
    file = os.environ.get(f"{name}_FILE", "").strip()
    if not file:
        return default
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE names {file}, which cannot be read: {error.strerror}.") from error


def boolean(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no: write 1 or 0.")


def integer(name: str, default: int, *, minimum: int = 0) -> int:
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from error
    if number < minimum:
        raise ImproperlyConfigured(f"{name}={number} is less than {minimum}.")
    return number


def items(name: str, default: tuple[str, ...] = ()) -> list[str]:
    return [item.strip() for item in text(name).split(",") if item.strip()] or list(default)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(allowed)}.")
    return value


def site_url(name: str, default: str) -> str:
    value = text(name, default).rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
        raise ImproperlyConfigured(f"{name}={value!r} is not an address like https://office.example.com.")
    return value


def database(name: str, default: str) -> dict:
    """A Django database setting from a URL; a relative SQLite path counts from the repository."""
    url = text(name, default)
    try:
        config = environ.Env.db_url_config(url)
    except (ValueError, environ.ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} cannot be read as a database URL.") from error
    engine = config.get("ENGINE", "")
    if engine.endswith("sqlite3"):
        path = url.partition("://")[2].partition("?")[0]
        if not path.startswith("/") or path == "/":
            raise ImproperlyConfigured(f"{name}: write sqlite:////absolute/path or sqlite:///relative/path.")
        config["NAME"] = str(ROOT / path[1:]) if not path.startswith("//") else path[1:]
    elif not engine.endswith(("postgresql", "psycopg2")):
        raise ImproperlyConfigured(f"{name}: only postgres:// and sqlite:// are supported.")
    else:
        config["ENGINE"] = "django.db.backends.postgresql"
    return config


def field_keys() -> list[str]:
    """Fernet keys, the first one for writing; none set gives an empty list.

    Takes what people and key generators really put there: Fernet's own form, plain base64 and 64 hexadecimal digits,
    one or several with commas between. Raises ImproperlyConfigured without quoting the value.
    """
    for name in FIELD_KEY_NAMES:
        if value := text(name):
            return [_fernet_key(part.strip(), name) for part in value.split(",") if part.strip()]
    return []


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
    if len(set(raw)) < 8:
        raise ImproperlyConfigured(f"{name} holds a key that is too regular to be random: make a new one.")
    return base64.urlsafe_b64encode(raw).decode()


def add_missing_keys(file: Path) -> list[str]:
    """Appends a line for each key that neither the environment nor `file` has; returns their names."""
    known = _names_in(file)
    missing = {
        name: value
        for name, value in {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FIELD_ENCRYPTION_KEY": throw_away_key(),
            "SEARCH_KEY": secrets.token_urlsafe(48),
            "DEBUG": "1",
        }.items()
        if not any(
            alias in known or text(alias) for alias in (FIELD_KEY_NAMES if name == "FIELD_ENCRYPTION_KEY" else (name,))
        )
    }
    if missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            if before and not before.endswith("\n"):
                stream.write("\n")
            stream.writelines(f"{name}={value}\n" for name, value in missing.items())
    if file.exists():
        file.chmod(0o600)
    return list(missing)


def _names_in(file: Path) -> set[str]:
    if not file.exists():
        return set()
    lines = file.read_text(encoding="utf-8").splitlines()
    return {line.partition("=")[0].removeprefix("export ").strip() for line in lines if line.partition("=")[2].strip()}


if __name__ == "__main__":
    target = env_file()
    if target and (added := add_missing_keys(target)):
        print(f"{target}: added {', '.join(added)}. Keep this file: without its keys the data cannot be read.")
