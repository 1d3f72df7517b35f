"""The settings of FAULTS_SETTINGS; stored files lie in a folder of DATA_DIR whatever a suite has, because several processes
share them."""

import importlib
import os

_settings = importlib.import_module(os.environ["FAULTS_SETTINGS"])
globals().update({name: value for name, value in vars(_settings).items() if name.isupper()})

if _key := os.environ.get("FAULTS_BACKUP_KEY"):
    BACKUP_KEYS = [_key]
STORAGES = {**_settings.STORAGES, "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
