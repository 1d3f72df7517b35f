"""Importing this registers every page. Not in `__init__`, which the site itself (site.py) is imported through: what was
registered while the site is being made would be lost."""

from crm.admin import (
    audit,
    backups,
    calendars,
    cases,
    catalogues,
    clients,
    export_runs,
    export_schedules,
    import_runs,
    jobs,
    messages,
    notices,
    privacy,
    records,
    runs,
    steps,
    texts,
    users,
)

__all__ = [
    "audit",
    "backups",
    "calendars",
    "cases",
    "catalogues",
    "clients",
    "export_runs",
    "export_schedules",
    "import_runs",
    "jobs",
    "messages",
    "notices",
    "privacy",
    "records",
    "runs",
    "steps",
    "texts",
    "users",
]
