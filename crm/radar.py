"""What runs out one day, told to advisers in time: the fixation of a rate 12, 6 and 4 months before its end, identity
documents of the parties to an active case and valuations of its properties two months and one month before. What was
written down later than that is told on the first working day of a month, with all that runs out as soon."""

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Iterator

from dateutil.relativedelta import relativedelta
from django.db.models import F, TextChoices
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from crm import notices, outbox, texts, values
from crm.choices import ACTIVE_STATUSES, CaseStatus, MessageKind, NoticeKind
from crm.deadlines import is_working_day
from crm.due import DAY, last_told, next_working_day
from crm.models import Case, CaseParty, MessageLog, Property
from crm.notifications import Told, case_url, missed_since, nobodys_of

JOB = "send_radar"
KIND = MessageKind.RADAR
# A rate is fixed on after the case is done; what was declined or withdrawn has none.
FIXED = (*ACTIVE_STATUSES, CaseStatus.COMPLETED)


class What(TextChoices):
    FIXATION = "fixation", gettext_lazy("End of fixation")
    DOCUMENT = "document", gettext_lazy("Identity document")
    PARTY_DOCUMENT = "party_document", gettext_lazy("Identity document of another party")
    VALUATION = "valuation", gettext_lazy("Valuation of a property")


MONTHS = {What.FIXATION: (12, 6, 4), What.DOCUMENT: (2, 1), What.PARTY_DOCUMENT: (2, 1), What.VALUATION: (2, 1)}


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
            about = moment + relativedelta(months=months)
            days = (about + more * DAY for more in range(4))
            found |= {each for each in days if each - relativedelta(months=months) == moment}
    return found


def near(what: str, after: datetime.date, day: datetime.date) -> set[datetime.date]:
    """The last days that are told of once a month: from a month ago to as far as the last of the moments."""
    if not after < next_working_day(day.replace(day=1)) <= day:
        return set()
    first, last = day - relativedelta(months=1), day + relativedelta(months=min(MONTHS[what]))
    return {first + number * DAY for number in range(1, (last - first).days + 1)}


def expiring(after: datetime.date, day: datetime.date) -> list[Expiry]:
    """Four queries over indexes; nothing encrypted is read."""
    of_case = ("pk", "reference", "client_id", "adviser_id", "stand_in_id")
    days = {what: told_of(what, after, day) | near(what, after, day) for what in What}
    fixations = Case.objects.filter(status__in=FIXED, fixation_until__in=days[What.FIXATION])
    documents = Case.objects.active().filter(client__id_document_valid_until__in=days[What.DOCUMENT])
    of_active = {"case__status__in": ACTIVE_STATUSES}
    parties = CaseParty.objects.filter(**of_active, client__id_document_valid_until__in=days[What.PARTY_DOCUMENT])
    parties = parties.exclude(client=F("case__client"))
    valuations = Property.objects.filter(**of_active, valid_until__in=days[What.VALUATION])
    of_others = ["case_id", *(f"case__{name}" for name in of_case[1:])]
    found = [Expiry(What.FIXATION, *row) for row in fixations.values_list("fixation_until", *of_case)]
    found += [Expiry(What.DOCUMENT, *row) for row in documents.values_list("client__id_document_valid_until", *of_case)]
    found += [Expiry(What.VALUATION, *row) for row in valuations.values_list("valid_until", *of_others)]
    of_parties = parties.values_list("client__id_document_valid_until", *of_others)
    found += [Expiry(What.PARTY_DOCUMENT, *row) for row in of_parties]
    return sorted(found, key=lambda each: (each.on, each.reference))


def of_case(case: Case) -> list[Expiry]:
    """All that it has, whenever it runs out."""
    whose = (case.pk, case.reference, case.client_id, case.adviser_id, case.stand_in_id)
    days = [(What.FIXATION, case.fixation_until), (What.DOCUMENT, case.client.id_document_valid_until)]
    parties = case.parties.exclude(client=case.client_id).values_list("client__id_document_valid_until", flat=True)
    days += [(What.PARTY_DOCUMENT, on) for on in parties]
    days += [(What.VALUATION, on) for on in case.properties.values_list("valid_until", flat=True)]
    return sorted((Expiry(what, on, *whose) for what, on in days if on), key=lambda each: each.on)


def plan(day: datetime.date, *, since: datetime.date | None = None) -> Told:
    since = last_told(day, JOB) if since is None else since
    if not is_working_day(day):
        return Told(NoticeKind.RADAR, day, since)
    rule, found = notices.rule_of(NoticeKind.RADAR), expiring(since, day)
    nobodys = nobodys_of(found, rule)
    readers = list(notices.readers(rule, found, on=day, nobodys=nobodys))
    return Told(NoticeKind.RADAR, day, since, list(_messages(readers, day, since, nobodys)), readers)


def _messages(
    readers: list[notices.Reader], day: datetime.date, since: datetime.date, nobodys: list[Expiry]
) -> Iterator[MessageLog]:
    wording = functools.cache(texts.in_force)
    for user, rows in notices.by_mail(readers):
        with translation.override(user.language):
            text = wording(KIND, user.language).render(
                told(rows, day, missed=missed_since(since, day), nobodys=nobodys)
            )
        yield outbox.message(
            KIND,
            to=user.email,
            user=user,
            subject=text.subject,
            body=text.body,
            html=text.html,
            about=[user.pk, day.isoformat()],
            language=user.language,
        )


def told(rows: list[Expiry], day: datetime.date, *, missed: str = "", nobodys: Iterable[Expiry] = ()) -> dict:
    """As the text of the message knows it, in the active language. `nobodys` stand in groups of their own."""
    nobodys = set(nobodys)
    his, others = [each for each in rows if each not in nobodys], [each for each in rows if each in nobodys]
    groups = [(str(what.label), [_line(each) for each in his if each.what == what]) for what in What]
    title = _("%(what)s, of nobody's cases: the adviser has left")
    groups += [(title % {"what": what.label}, [_line(each) for each in others if each.what == what]) for what in What]
    count = len(rows)
    return {
        "day": values.date(day),
        "count": count,
        "count_text": ngettext("%(count)s thing runs out", "%(count)s things run out", count) % {"count": count},
        "missed_since": missed,
        "groups": [{"title": title, "lines": lines} for title, lines in groups if lines],
    }


def _line(each: Expiry) -> dict:
    return {"date": values.date(each.on), "reference": each.reference, "url": case_url(each.case_id)}
