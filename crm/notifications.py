"""Who is told about which deadlines, and in what words. Selecting is pure; writing goes through crm.outbox.

A step is told some days before its deadline, the day before, on the day, and then every few days a few times (REMIND_...).
Weekends and holidays are quiet: what falls on one is told on the next working day, and after an outage one mail tells all
that was missed."""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm import outbox, values
from crm.choices import ConsentPurpose, RunState
from crm.deadlines import is_working_day
from crm.encryption import Unreadable
from crm.models import CaseStep, Client, Consent, JobRun, MessageLog, Step, User

DAY = datetime.timedelta(days=1)
JOB = "send_deadlines"
TO_STAFF, TO_CLIENT = "deadlines", "client_deadlines"
# However long the outage: older moments are told by what is overdue now.
LOOK_BACK = 31 * DAY
MOST_RUNS = 500


@dataclasses.dataclass(frozen=True)
class Due:
    """A step that is to be told of on the day."""

    step_id: int
    kind_id: int
    deadline: datetime.date
    case_id: int
    reference: str
    client_id: int
    adviser_id: int | None
    stand_in_id: int | None


@dataclasses.dataclass(frozen=True)
class Told:
    """What one day's messages became; `messages` are not written yet."""

    day: datetime.date
    since: datetime.date
    messages: list[MessageLog]


def moments(after: datetime.date, day: datetime.date) -> set[datetime.date]:
    """The deadlines that are told of on the days after < d <= day."""
    distances = [settings.REMIND_DAYS_BEFORE, 1, 0]
    distances += [-settings.REMIND_EVERY_DAYS * number for number in range(1, settings.REMIND_TIMES + 1)]
    days = [after + number * DAY for number in range(1, (day - after).days + 1)]
    return {each + distance * DAY for each in days for distance in distances}


def due(after: datetime.date, day: datetime.date) -> list[Due]:
    """One query over the index of pending steps; nothing encrypted is read."""
    rows = CaseStep.objects.pending().of_active_cases().filter(deadline__in=moments(after, day))
    names = ("pk", "step_id", "deadline", "case_id", "case__reference", "case__client_id", "case__adviser_id", "case__stand_in_id")  # fmt: skip
    return [Due(*row) for row in rows.order_by("deadline", "case_id", "step_id").values_list(*names)]


def last_told(day: datetime.date, job: str = JOB) -> datetime.date:
    """The day up to which this job told before this one: as its last run says, at the latest the working day before."""
    before = day - DAY
    while not is_working_day(before):
        before -= DAY
    runs = JobRun.objects.filter(name=job, state=RunState.DONE).order_by("-due_at", "-pk")
    for counts in runs.values_list("counts", flat=True)[:MOST_RUNS]:
        told = datetime.date.fromisoformat(counts["told_until"])
        if told < day:
            return max(min(told, before), day - LOOK_BACK)
    return before


def plan(day: datetime.date, *, since: datetime.date | None = None) -> Told:
    """The messages of a day; none on a quiet one. The number of queries does not follow the cases."""
    since = last_told(day) if since is None else since
    if not is_working_day(day):
        return Told(day, since, [])
    found = due(since, day)
    kinds = {step.pk: step for step in Step.objects.filter(pk__in={each.kind_id for each in found})}
    return Told(day, since, [*_to_staff(found, kinds, day, since), *_to_clients(found, kinds, day)])


def send(day: datetime.date) -> dict[str, object]:
    return written(plan(day))


def written(told: Told) -> dict[str, object]:
    """Puts a day's messages into the outbox; on a quiet day there are none, and what was told stays where it was."""
    day = told.day
    until = day if is_working_day(day) else told.since
    return {"messages": outbox.put(told.messages), "told_until": until.isoformat()}


# --- To those who work here ---


def by_recipient(found: Iterable, day: datetime.date) -> Iterator[tuple[User, list]]:
    """To each adviser what is his own, and what he stands in for while its adviser is absent or gone; only who works here
    and has an address. One query."""
    users = {user.pk: user for user in User.objects.filter(is_active=True, is_staff=True)}
    rows: dict[int, list] = {}
    for each in found:
        rows.setdefault(each.adviser_id, []).append(each)
        adviser = users.get(each.adviser_id)
        if each.stand_in_id not in (None, each.adviser_id) and (adviser is None or adviser.is_absent(day)):
            rows.setdefault(each.stand_in_id, []).append(each)
    yield from ((users[key], some) for key, some in rows.items() if key in users and users[key].email)


def _to_staff(found: list[Due], kinds: dict, day: datetime.date, since: datetime.date) -> Iterator[MessageLog]:
    for user, rows in by_recipient(found, day):
        with translation.override(user.language):
            yield outbox.message(
                TO_STAFF,
                to=user.email,
                user=user,
                subject=_staff_subject(rows, day),
                body=_staff_body(rows, kinds, day, since),
                about=[user.pk, day.isoformat(), *sorted(each.step_id for each in rows)],
                language=user.language,
            )


def _staff_subject(rows: list[Due], day: datetime.date) -> str:
    late = sum(each.deadline < day for each in rows)
    count = ngettext("%(count)s deadline", "%(count)s deadlines", len(rows)) % {"count": len(rows)}
    if not late:
        return f"{values.date(day)}: {count}"
    return f"{values.date(day)}: {count}, {ngettext('%(late)s overdue', '%(late)s overdue', late) % {'late': late}}"


def _staff_body(rows, kinds, day, since) -> str:
    groups = (
        (_("Overdue"), [each for each in rows if each.deadline < day]),
        (_("Today"), [each for each in rows if each.deadline == day]),
        (_("In the next days"), [each for each in rows if each.deadline > day]),
    )
    context = {
        "groups": [(title, list(_lines(some, kinds))) for title, some in groups if some],
        "missed_since": missed_since(since, day),
    }
    return render_to_string("mail/deadlines.txt", context).strip() + "\n"


def missed_since(since: datetime.date, day: datetime.date) -> str:
    """The first working day that nobody was told of, where a run was missed."""
    days = (since + number * DAY for number in range(1, (day - since).days))
    return next((values.date(each) for each in days if is_working_day(each)), "")


def _lines(rows: Iterable[Due], kinds: dict) -> Iterator[dict]:
    for each in rows:
        yield {
            "deadline": values.date(each.deadline),
            "reference": each.reference,
            "step": str(kinds[each.kind_id]),
            "url": case_url(each.case_id),
        }


def case_url(case_id: int) -> str:
    return settings.SITE_URL + reverse("admin:crm_case_change", args=[case_id])


# --- To clients ---


def _to_clients(found: list[Due], kinds: dict, day: datetime.date) -> Iterator[MessageLog]:
    """A plain one a case, of steps whose kind says so, to who has an address and has not withdrawn his consent."""
    rows = [each for each in found if kinds[each.kind_id].tell_client]
    addresses = _addresses({each.client_id for each in rows})
    by_case: dict[int, list[Due]] = {}
    for each in rows:
        if addresses.get(each.client_id):
            by_case.setdefault(each.case_id, []).append(each)
    language = settings.LANGUAGE_CODE
    with translation.override(language):
        for case_id, some in by_case.items():
            reference = some[0].reference
            yield outbox.message(
                TO_CLIENT,
                to=addresses[some[0].client_id],
                case_id=case_id,
                subject=_("Your mortgage %(reference)s: next steps") % {"reference": reference},
                body=render_to_string(
                    "mail/client_deadlines.txt",
                    {"reference": reference, "lines": list(_lines(some, kinds))},
                ).strip()
                + "\n",
                about=[case_id, day.isoformat(), *sorted(each.step_id for each in some)],
                language=language,
            )


def _addresses(clients: set[int]) -> dict[int, str]:
    asked = Consent.objects.filter(client=OuterRef("pk"), purpose=ConsentPurpose.MESSAGES)
    withdrawn, given = asked.exclude(withdrawn_on=None), asked.filter(withdrawn_on=None)
    may = Client.objects.filter(
        ~Exists(withdrawn) | Exists(given), Q(pk__in=clients), restricted_at=None, anonymised_at=None
    )
    return {key: email for key, email in may.values_list("pk", "email") if email and not isinstance(email, Unreadable)}
