"""The product's own settings with fixed keys, so that the suite reads nothing of the machine it runs on."""

import os
import tempfile
from pathlib import Path

os.environ.update(
    {
        "ENV_FILE": "",
        "DEBUG": "0",
        "SITE_URL": "https://testserver",
        "SECRET_KEY": "only-for-tests-0123456789-abcdefghijklmnopqrstuvwxyz",
        "SEARCH_KEY": "search-key-for-tests-9876543210-zyxwvutsrqponmlkjihg",
        "FIELD_ENCRYPTION_KEY": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "BACKUP_KEY": "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f",
        "ADVISER_SCOPE": "all",
        "LANGUAGE_CODE": "en",
    }
)
# What this process starts writes to the same place.
os.environ.setdefault("BACKUP_DIR", str(Path(tempfile.gettempdir()) / f"hypodesk-test-{os.getpid()}-backups"))

from project.settings import *  # noqa: F403

SECURE_SSL_REDIRECT = False
SESSION_COOKIE_SECURE = False
CSRF_COOKIE_SECURE = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    # A file, as in the product: an in-memory database of several threads locks by other rules.
    _file = Path(tempfile.gettempdir()) / f"hypodesk-test-{os.getpid()}.sqlite3"
    DATABASES["default"]["TEST"] = {"NAME": str(_file)}  # noqa: F405
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"  # noqa: F405
