from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from crm.models import Client, SearchToken

TELL_EVERY = 5000


class Command(BaseCommand):
    help = "Writes the search tokens of all clients anew, a batch a transaction; people may go on working."

    def handle(self, **options):
        self.total = Client.objects.count()
        done = SearchToken.objects.rebuild(Client.objects.all(), progress=self.tell)
        self.stdout.write(
            _("%(clients)d clients indexed with %(tokens)d search tokens.")
            % {"clients": done, "tokens": SearchToken.objects.count()}
        )

    def tell(self, done: int) -> None:
        if done % TELL_EVERY == 0:
            self.stdout.write(_("%(done)d of %(total)d clients") % {"done": done, "total": self.total})
            self.stdout.flush()
