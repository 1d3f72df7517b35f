from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from crm import demo
from crm.exceptions import CrmError

TELL_EVERY = 5000


class Command(BaseCommand):
    help = "Fills an empty database with the demo office: invented people, deadlines around today, a login per role."

    def add_arguments(self, parser):
        parser.add_argument("--clients", type=int, default=60, help="How many clients (60).")

    def handle(self, *, clients, **options):
        if clients < 1:
            raise CommandError(_("--clients has to be at least 1."))
        try:
            written = demo.load(clients, progress=self.tell)
        except CrmError as error:
            raise CommandError(str(error)) from error
        if written:
            self.stdout.write(_("The demo office is ready: %(count)d clients.") % {"count": written})
        else:
            self.stdout.write(_("The demo office is here already; nothing was changed."))

    def tell(self, written: int) -> None:
        if written % TELL_EVERY == 0:
            self.stdout.write(_("%(count)d clients") % {"count": written})
            self.stdout.flush()
