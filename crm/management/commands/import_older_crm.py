"""`manage.py import_older_crm DUMP.json`: the older CRM's whole dump; running it again changes nothing."""

from crm.imports import older_crm
from crm.management.importing import ImportCommand


class Command(ImportCommand):
    help = (
        "Imports the older CRM's dump (its `manage.py dumpdata`, made with its key). Exit code 0: all good, 2: some "
        "rows refused, 1: the file cannot be used. The last line on standard output counts the rows."
    )
    source = "dump"
    errors_help = "write every problem here, into a new file (CSV; a workbook where the name ends .xlsx)"

    def check_file(self, content, name, options):
        return older_crm.check(content, name)

    def write(self, plan, options):
        older_crm.write(plan)

    def notices(self, plan):
        return plan.notices
