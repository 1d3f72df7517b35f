"""What every deploy does before the new version serves."""

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from crm import checks, jobs, roles, shipped
from crm.backups import keeping, making, placing, watch
from crm.choices import BackupKind, Source
from crm.exceptions import CrmError
from crm.models import User, operation


def _is_to_migrate() -> bool:
    """Migrations wait, and there is something to lose."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    table = User._meta.db_table
    if table not in connection.introspection.table_names():
        return False
    return User.objects.order_by().exists()


class Command(BaseCommand):
    help = (
        "Migrates, loads what is missing of the catalogue, syncs roles, schedules and texts of messages and makes the "
        "first administrator."
    )

    def handle(self, *args, **options):
        checks.refuse_unsafe_start()
        placing.finish_at_start()
        for trouble in filter(None, (watch.cannot_make(), watch.tools_trouble(), watch.disk_trouble())):
            self.warn(trouble)
        with operation(Source.COMMAND):
            backup = self.back_up() if _is_to_migrate() else None
            call_command("migrate", interactive=False, verbosity=options["verbosity"])
            if backup:
                keeping.note(*backup, timezone.now())
            shipped.sync()
            self.first_administrator()

    def back_up(self):
        """What a release cannot back up it migrates all the same: it would stand still until somebody came."""
        why = watch.cannot_make() or watch.tools_trouble() or watch.disk_trouble()
        if not why:
            try:
                with placing.finished():
                    path = making.create(kind=BackupKind.BEFORE_MIGRATE, now=timezone.now())
                copied = self.copy(path)
            except (CrmError, OSError, DatabaseError) as error:
                why = jobs.told(error)
            else:
                self.stdout.write(f"Backed up before migrating: {path.name}")
                return path, copied
        self.warn(f"The database is migrated WITHOUT A BACKUP before. {why}")
        return None

    def copy(self, path):
        try:
            return keeping.copy_of(path)
        except CrmError as error:
            if settings.BACKUPS_ON_THROWAWAY_DISK:
                raise
            self.warn(f"{path.name} stands on this machine only. {error}")
            return None

    def warn(self, text: str) -> None:
        """Where people look and where programs do."""
        self.stderr.write(self.style.WARNING(f"WARNING: {text}"))
        self.stdout.write(f"WARNING: {text}")

    def first_administrator(self) -> None:
        if not settings.ADMIN_EMAIL:
            return
        if user := roles.first_administrator(settings.ADMIN_EMAIL):
            self.stdout.write(f"First administrator {user.username}, set the password here (works once):")
            self.stdout.write(roles.set_password_link(user))
