"""The product's production settings with throw-away keys; the worker logs as it does in an office."""

from crm.bench.settings import *  # noqa: F403

LOGGING_CONFIG = "logging.config.dictConfig"
