#!/usr/bin/env python
"""Commands. Whatever may serve or write first passes crm.checks.refuse_unsafe_start."""

import os
import sys

# These run for as long as they are left to; every other command's writes are one operation.
ENDLESS = {"qcluster", "runserver", "shell", "worker"}
# These only read the code, so they run without keys: a build has none.
BUILD_ONLY = {"check", "collectstatic", "findstatic", "help", "makemigrations", "update_messages"}
# These bring a database back, or look at one of their own: the office's may be gone.
WITHOUT_DATABASE = {"restore", "verify_backup"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    options = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if command not in BUILD_ONLY and not {"--help", "--version"} & set(options):
        import django
        from django.utils.module_loading import import_string

        try:
            django.setup()
            needed = "settings" if command in WITHOUT_DATABASE else "start"
            import_string(f"crm.checks.refuse_unsafe_{needed}")()
        except ImproperlyConfigured as error:
            sys.exit(f"Hypodesk does not start: {error}")
        except OperationalError as error:  # its text has several lines
            sys.exit(f"Hypodesk does not reach its database: {' '.join(str(error).split())}")
        if command not in ENDLESS:
            with import_string("crm.models.operation")("command"):
                return execute_from_command_line(sys.argv)
    return execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
