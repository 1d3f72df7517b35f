"""The product's production settings with throw-away keys; static files without a manifest, which only a build makes."""

import os

os.environ.update(
    {
        "ENV_FILE": "",
        "DEBUG": "0",
        "SITE_URL": "https://testserver",
        "SECRET_KEY": "only-for-the-bench-0123456789-abcdefghijklmnopqrstuvwxyz",
        "SEARCH_KEY": "search-key-for-the-bench-9876543210-zyxwvutsrqponmlkjihg",
        "FIELD_ENCRYPTION_KEY": "101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f",
    }
)

from project.settings import *  # noqa: F403
from project.settings import STORAGES

STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
LOGGING_CONFIG = None
