"""What runs out one day, told to advisers in time: the fixation of a rate 12, 6 and 4 months before its end, identity
documents of clients with an active case and valuations of its properties two months and one month before."""

import dataclasses
import datetime
from collections.abc import Iterator

from dateutil.relativedelta import relativedelta
from django.db.models import TextChoices
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from crm import outbox, values
from crm.choices import ACTIVE_STATUSES, CaseStatus
from crm.deadlines import is_working_day
from crm.models import Case, Property
from crm.notifications import DAY, Told, by_recipient, case_url, last_told, missed_since

JOB = "send_radar"
KIND = "radar"
# A rate is fixed on after the case is done; what was declined or withdrawn has none.
FIXED = (*ACTIVE_STATUSES, CaseStatus.COMPLETED)


class What(TextChoices):
    FIXATION = "fixation", gettext_lazy("End of fixation")
    DOCUMENT = "document", gettext_lazy("Identity document")
    VALUATION = "valuation", gettext_lazy("Valuation of a property")


MONTHS = {What.FIXATION: (12, 6, 4), What.DOCUMENT: (2, 1), What.VALUATION: (2, 1)}


@dataclasses.dataclass(frozen=True)
class Expiry:
    what: str
    on: datetime.date
    case_id: int
    reference: str
    client_id: int
    adviser_id: int | None
    stand_in_id: int | None


def told_of(what: str, after: datetime.date, day: datetime.date) -> set[datetime.date]:
    """The last days that are told of on the days after < d <= day. Of the 31st, six months before is the last of a shorter
    month."""
    found = set()
    for number in range(1, (day - after).days + 1):
        moment = after + number * DAY
        for months in MONTHS[what]:
            near = moment + relativedelta(months=months)
            days = (near + more * DAY for more in range(4))
            found |= {each for each in days if each - relativedelta(months=months) == moment}
    return found


def expiring(after: datetime.date, day: datetime.date) -> list[Expiry]:
    """Three queries over indexes; nothing encrypted is read."""
    of_case = ("pk", "reference", "client_id", "adviser_id", "stand_in_id")
    fixations = Case.objects.filter(status__in=FIXED, fixation_until__in=told_of(What.FIXATION, after, day))
    documents = Case.objects.active().filter(client__id_document_valid_until__in=told_of(What.DOCUMENT, after, day))
    valuations = Property.objects.filter(
        case__status__in=ACTIVE_STATUSES, valid_until__in=told_of(What.VALUATION, after, day)
    )
    of_property = ["case_id", *(f"case__{name}" for name in of_case[1:])]
    found = [Expiry(What.FIXATION, *row) for row in fixations.values_list("fixation_until", *of_case)]
    found += [Expiry(What.DOCUMENT, *row) for row in documents.values_list("client__id_document_valid_until", *of_case)]
    found += [Expiry(What.VALUATION, *row) for row in valuations.values_list("valid_until", *of_property)]
    return sorted(found, key=lambda each: (each.on, each.reference))


def plan(day: datetime.date, *, since: datetime.date | None = None) -> Told:
    since = last_told(day, JOB) if since is None else since
    return Told(day, since, list(_messages(day, since)) if is_working_day(day) else [])


def _messages(day: datetime.date, since: datetime.date) -> Iterator:
    found = expiring(since, day)
    for user, rows in by_recipient(found, day):
        with translation.override(user.language):
            count = ngettext("%(count)s thing runs out", "%(count)s things run out", len(rows)) % {"count": len(rows)}
            groups = [(what.label, [_line(each) for each in rows if each.what == what]) for what in What]
            context = {
                "groups": [(title, lines) for title, lines in groups if lines],
                "missed_since": missed_since(since, day),
            }
            yield outbox.message(
                KIND,
                to=user.email,
                user=user,
                subject=f"{values.date(day)}: {count}",
                body=render_to_string("mail/deadlines.txt", context).strip() + "\n",
                about=[user.pk, day.isoformat(), *sorted(f"{each.what} {each.case_id}" for each in rows)],
                language=user.language,
            )


def _line(each: Expiry) -> dict:
    return {
        "deadline": values.date(each.on),
        "reference": each.reference,
        "step": _("runs out"),
        "url": case_url(each.case_id),
    }
