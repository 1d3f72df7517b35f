"""Who is told about which deadlines, and in what words. Selecting is pure; writing goes through crm.outbox.

A step is told some days before its deadline, the day before, on the day, and then every few days a few times (REMIND_...).
What is overdue for longer, or was so when it was written down, is counted on the first working day of each week. Weekends
and holidays are quiet: what falls on one is told on the next working day, and after an outage one mail tells all that was
missed."""

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, QuerySet
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm import notices, outbox, texts, values
from crm.choices import MessageKind, NoticeKind, RunState
from crm.deadlines import is_working_day
from crm.models import CaseStep, JobRun, MessageLog, NoticeRule, Step, User

DAY = datetime.timedelta(days=1)
JOB = "send_deadlines"
TO_STAFF, TO_CLIENT = MessageKind.DEADLINES, MessageKind.CLIENT_DEADLINES
# However long the outage: older moments are told by what is overdue now.
LOOK_BACK = 31 * DAY
MOST_RUNS = 500


class Due(NamedTuple):
    """A step that is to be told of on the day. A tuple: there may be ten thousand in a morning."""

    step_id: int
    kind_id: int
    deadline: datetime.date
    case_id: int
    reference: str
    client_id: int
    adviser_id: int | None
    stand_in_id: int | None


class Older(NamedTuple):
    """How many steps that are overdue for longer than reminders go on."""

    adviser_id: int | None
    stand_in_id: int | None
    steps: int


@dataclasses.dataclass(frozen=True)
class Told:
    """What one day's messages became; neither they nor the notices of the `readers` are written yet."""

    kind: str
    day: datetime.date
    since: datetime.date
    messages: list[MessageLog] = dataclasses.field(default_factory=list)
    readers: list[notices.Reader] = dataclasses.field(default_factory=list)

    def notices(self) -> dict[User, int]:
        """Of how many things each is told."""
        return {each.user: count_of(each.rows) for each in self.readers}


def moments(after: datetime.date, day: datetime.date) -> set[datetime.date]:
    """The deadlines that are told of on the days after < d <= day."""
    distances = [settings.REMIND_DAYS_BEFORE, 1, 0]
    distances += [-settings.REMIND_EVERY_DAYS * number for number in range(1, settings.REMIND_TIMES + 1)]
    days = [after + number * DAY for number in range(1, (day - after).days + 1)]
    return {each + distance * DAY for each in days for distance in distances}


def due(after: datetime.date, day: datetime.date) -> list[Due]:
    """One query over the index of pending steps; nothing encrypted is read."""
    return as_due(CaseStep.objects.pending().of_active_cases().filter(deadline__in=moments(after, day)))


def older(since: datetime.date, day: datetime.date) -> list[Older]:
    """Once a week: who tells of it on `day` told last on `since`. One query over the same index."""
    if not since < next_working_day(day - day.weekday() * DAY) <= day:
        return []
    oldest_told = since + DAY - settings.REMIND_TIMES * settings.REMIND_EVERY_DAYS * DAY
    steps = CaseStep.objects.overdue(oldest_told).order_by().values_list("case__adviser_id", "case__stand_in_id")
    return list(map(Older._make, steps.annotate(steps=Count("pk"))))


def next_working_day(day: datetime.date) -> datetime.date:
    """The day itself, if it is one."""
    while not is_working_day(day):
        day += DAY
    return day


def count_of(rows: Iterable) -> int:
    return sum(each.steps if isinstance(each, Older) else 1 for each in rows)


def as_due(steps: QuerySet[CaseStep]) -> list[Due]:
    names = ("pk", "step_id", "deadline", "case_id", "case__reference", "case__client_id", "case__adviser_id", "case__stand_in_id")  # fmt: skip
    return list(map(Due._make, steps.order_by("deadline", "case_id", "step_id").values_list(*names)))


def nobodys_of(found: Sequence, rule: NoticeRule) -> list:
    """Whose adviser may be told no more, or never could be, with nobody who stands in. One query."""
    here = {user.pk for user in notices.people(rule)}
    return [each for each in found if not {each.adviser_id, each.stand_in_id} & here]


def kinds_of(found: Iterable[Due]) -> dict[int, Step]:
    return {step.pk: step for step in Step.objects.filter(pk__in={each.kind_id for each in found})}


def last_told(day: datetime.date, job: str = JOB) -> datetime.date:
    """The day up to which this job told before this one: as its runs say, at the latest the working day before. A run for a
    past day takes nothing back."""
    before = day - DAY
    while not is_working_day(before):
        before -= DAY
    runs = JobRun.objects.filter(name=job, state=RunState.DONE).order_by("-due_at", "-pk")
    told = [
        datetime.date.fromisoformat(each["told_until"]) for each in runs.values_list("counts", flat=True)[:MOST_RUNS]
    ]
    last = max((each for each in told if each < day), default=before)
    return max(min(last, before), day - LOOK_BACK)


def plan(day: datetime.date, *, since: datetime.date | None = None) -> Told:
    """The messages of a day; none on a quiet one. The number of queries does not follow the cases."""
    since = last_told(day) if since is None else since
    if not is_working_day(day):
        return Told(NoticeKind.DEADLINES, day, since)
    found = due(since, day)
    kinds = kinds_of(found)
    rule = notices.rule_of(NoticeKind.DEADLINES)
    rows = [*found, *older(since, day)]
    nobodys = nobodys_of(rows, rule)
    readers = list(notices.readers(rule, rows, on=day, nobodys=nobodys))
    messages = list(_to_staff(readers, kinds, day, since, nobodys))
    if rule.to_client:
        messages += _to_clients(found, kinds, day)
    return Told(NoticeKind.DEADLINES, day, since, messages, readers)


def send(day: datetime.date, progress=lambda done, total=0: None) -> dict[str, object]:
    return written(plan(day), progress)


def written(told: Told, progress=lambda done, total=0: None) -> dict[str, object]:
    """Puts a day's messages into the outbox and its notices into inboxes, all or, where it is cancelled, none; on a quiet day
    there are none, and what was told stays where it was."""
    day = told.day
    until = day if is_working_day(day) else told.since
    with transaction.atomic():
        count = outbox.put(_counted(told.messages, progress))
        notices.leave(told.kind, told.notices(), day=day.isoformat())
    return {"messages": count, "told_until": until.isoformat()}


def _counted(messages: list[MessageLog], progress) -> Iterator[MessageLog]:
    progress(0, len(messages))
    for number, each in enumerate(messages, 1):
        progress(number, len(messages))
        yield each


# --- To those who work here ---


def _to_staff(
    readers: list[notices.Reader], kinds: dict, day: datetime.date, since: datetime.date, nobodys: list[Due | Older]
) -> Iterator[MessageLog]:
    wording = functools.cache(texts.in_force)
    for user, rows in notices.by_mail(readers):
        with translation.override(user.language):
            text = wording(TO_STAFF, user.language).render(
                told_to_staff(rows, kinds, day, missed=missed_since(since, day), nobodys=nobodys, reader=user)
            )
        yield outbox.message(
            TO_STAFF,
            to=user.email,
            user=user,
            subject=text.subject,
            body=text.body,
            html=text.html,
            about=[user.pk, day.isoformat()],
            language=user.language,
        )


def told_to_staff(
    rows: list[Due | Older],
    kinds: dict,
    day: datetime.date,
    *,
    missed: str = "",
    nobodys: Iterable[Due | Older] = (),
    reader: User | None = None,
) -> dict:
    """As the texts of messages know it, in the active language. `nobodys` stand in a group of their own."""
    counted = [each for each in rows if isinstance(each, Older)]
    rows = [each for each in rows if isinstance(each, Due)]
    longer = count_of(counted)
    count, late = len(rows) + longer, sum(each.deadline < day for each in rows) + longer
    nobodys = set(nobodys)
    his = [each for each in rows if each not in nobodys]
    groups = (
        (_("Overdue"), [each for each in his if each.deadline < day]),
        (_("Today"), [each for each in his if each.deadline == day]),
        (_("In the next days"), [each for each in his if each.deadline > day]),
        (_("Of nobody's cases: the adviser has left"), [each for each in rows if each in nobodys]),
    )
    return {
        "day": values.date(day),
        "count": count,
        "count_text": ngettext("%(count)s deadline", "%(count)s deadlines", count) % {"count": count},
        "late": late,
        "late_text": ngettext("%(late)s overdue", "%(late)s overdue", late) % {"late": late} if late else "",
        "missed_since": missed,
        "groups": [{"title": title, "lines": _lines(some, kinds)} for title, some in groups if some],
        "older": longer,
        "older_text": (
            ngettext("%(older)s step overdue for longer", "%(older)s steps overdue for longer", longer)
            % {"older": longer}
            if longer
            else ""
        ),
        "older_url": _overdue_url(counted, reader) if longer else "",
    }


def _overdue_url(rows: list[Older], reader: User | None) -> str:
    """The list of overdue steps: the reader's own, where he is told of no others."""
    is_his = reader and all(reader.pk in (each.adviser_id, each.stand_in_id) for each in rows)
    whose = f"&adviser={reader.pk}" if is_his else ""
    return f"{settings.SITE_URL}{reverse('admin:crm_casestep_changelist')}?quick=overdue{whose}"


def missed_since(since: datetime.date, day: datetime.date) -> str:
    """The first working day that nobody was told of, where a run was missed."""
    days = (since + number * DAY for number in range(1, (day - since).days))
    return next((values.date(each) for each in days if is_working_day(each)), "")


def _lines(rows: Iterable[Due], kinds: dict) -> list[dict]:
    return [
        {
            "deadline": values.date(each.deadline),
            "reference": each.reference,
            "step": str(kinds[each.kind_id]),
            "url": case_url(each.case_id),
        }
        for each in rows
    ]


def case_url(case_id: int) -> str:
    return settings.SITE_URL + reverse("admin:crm_case_change", args=[case_id])


# --- To clients ---


def _to_clients(found: list[Due], kinds: dict, day: datetime.date) -> Iterator[MessageLog]:
    """A plain one a case, of steps whose kind says so, to who has an address and has not withdrawn his consent."""
    rows = [each for each in found if kinds[each.kind_id].tell_client]
    addresses = notices.addresses({each.client_id for each in rows})
    by_case: dict[int, list[Due]] = {}
    for each in rows:
        if addresses.get(each.client_id):
            by_case.setdefault(each.case_id, []).append(each)
    language = settings.LANGUAGE_CODE
    wording = functools.cache(texts.in_force)
    for case_id, some in by_case.items():
        with translation.override(language):
            text = wording(TO_CLIENT, language).render(told_to_client(some[0].reference, some, kinds, day))
        yield outbox.message(
            TO_CLIENT,
            to=addresses[some[0].client_id],
            case_id=case_id,
            subject=text.subject,
            body=text.body,
            html=text.html,
            about=[case_id, day.isoformat()],
            language=language,
        )


def told_to_client(reference: str, rows: list[Due], kinds: dict, day: datetime.date) -> dict:
    lines = [
        (each.deadline, {"deadline": values.date(each.deadline), "step": str(kinds[each.kind_id])}) for each in rows
    ]
    return {
        "reference": reference,
        "late": [line for deadline, line in lines if deadline < day],
        "lines": [line for deadline, line in lines if deadline >= day],
    }
