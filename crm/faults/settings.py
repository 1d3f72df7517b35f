"""The product's production settings with throw-away keys; the worker logs as it does in an office."""

import os

os.environ["BACKUP_KEY"] = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"

from crm.bench.settings import *  # noqa: F403

LOGGING_CONFIG = "logging.config.dictConfig"
