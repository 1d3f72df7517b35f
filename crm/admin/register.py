"""Importing this registers every page. Not in `__init__`, which the site itself (site.py) is imported through: what was
registered while the site is being made would be lost."""

from crm.admin import audit, cases, catalogues, clients, jobs, messages, records, runs, steps, users

__all__ = ["audit", "cases", "catalogues", "clients", "jobs", "messages", "records", "runs", "steps", "users"]
