"""The messages and notices of a morning's deadlines (crm.due says which): to whom, and in what words. Planning is pure;
writing goes through crm.outbox."""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm import notices, outbox, texts, values
from crm.choices import MessageKind, MessageState, NoticeKind
from crm.deadlines import is_working_day
from crm.due import DAY, Due, Last, Lost, Older, Seen, due, entered, last_run, older, seen
from crm.models import MessageLog, NoticeRule, Step, User

TO_STAFF, TO_CLIENT = MessageKind.DEADLINES, MessageKind.CLIENT_DEADLINES


@dataclasses.dataclass(frozen=True)
class Told:
    """What one day's messages became; neither they nor the notices of the `readers` are written yet."""

    kind: str
    day: datetime.date
    since: datetime.date
    messages: list[MessageLog] = dataclasses.field(default_factory=list)
    readers: list[notices.Reader] = dataclasses.field(default_factory=list)
    seen: Seen | None = None
    # Keys of messages that would be too late today; `messages` say what they said.
    waiting: list[int] = dataclasses.field(default_factory=list)

    def notices(self) -> dict[User, int]:
        """Of how many things each is told."""
        return {each.user: count_of(each.rows) for each in self.readers}


def count_of(rows: Iterable) -> int:
    return sum(each.steps if isinstance(each, Older) else 1 for each in rows)


def nobodys_of(found: Sequence, rule: NoticeRule) -> list:
    """Whose adviser may be told no more, or never could be, with nobody who stands in. One query."""
    here = {user.pk for user in notices.people(rule)}
    return [each for each in found if not {each.adviser_id, each.stand_in_id} & here]


def kinds_of(found: Iterable[Due]) -> dict[int, Step]:
    return {step.pk: step for step in Step.objects.filter(pk__in={each.kind_id for each in found})}


def plan(day: datetime.date, *, since: datetime.date | None = None) -> Told:
    """The messages of a day; none on a quiet one. The number of queries does not follow the cases."""
    last = last_run(day) if since is None else Last(since)
    if not is_working_day(day):
        return Told(NoticeKind.DEADLINES, day, last.until)
    seen_now = seen()
    found = due(last.until, day)
    found = _sorted({*found, *entered(last)})
    counted = older(last.until, day)
    lost = Lost.until(day)
    again = _sorted({*found, *lost.rows()})
    kinds = kinds_of(again)
    rule = notices.rule_of(NoticeKind.DEADLINES)
    nobodys = nobodys_of([*again, *counted], rule)
    readers = list(notices.readers(rule, [*again, *counted], on=day, nobodys=nobodys))
    readers, by_mail = _without(readers, lost, {*found, *counted}) if lost.days else (readers, readers)
    missed = missed_since(last.until, day)
    missed_by = {key: values.date(min(days)) for key, days in lost.days_of().items()}
    messages = list(_to_staff(by_mail, kinds, day, lambda user: missed_by.get(user.pk, missed), nobodys))
    if rule.to_client:
        messages += _to_clients(found, kinds, day)
    return Told(NoticeKind.DEADLINES, day, last.until, messages, readers, seen_now, lost.waiting)


def _sorted(rows: Iterable[Due]) -> list[Due]:
    return sorted(rows, key=lambda each: (each.deadline, each.case_id, each.kind_id))


def _without(readers: list[notices.Reader], lost: Lost, todays: set) -> tuple[list, list]:
    """What each is told in his inbox, of the day alone, and by mail, with what his own lost mails said."""

    def cut(keep):
        rows = ((each, [row for row in each.rows if keep(each.user, row)]) for each in readers)
        return [dataclasses.replace(each, rows=some) for each, some in rows if some]

    his = {key: {row for day in days for row in lost.days[day][1]} for key, days in lost.days_of().items()}
    return (
        cut(lambda user, row: row in todays),
        cut(lambda user, row: row in todays or row in his.get(user.pk, ())),
    )


def send(day: datetime.date, progress=lambda done, total=0: None) -> dict[str, object]:
    return written(plan(day), progress)


def written(told: Told, progress=lambda done, total=0: None) -> dict[str, object]:
    """Puts a day's messages into the outbox and its notices into inboxes, all or, where it is cancelled, none; on a quiet day
    there are none, and what was told stays where it was."""
    day = told.day
    until = day if is_working_day(day) else told.since
    with transaction.atomic():
        MessageLog.objects.to_send().filter(pk__in=told.waiting).update(
            state=MessageState.EXPIRED, next_try_at=None, updated_at=timezone.now()
        )
        count = outbox.put(_counted(told.messages, progress))
        notices.leave(told.kind, told.notices(), day=day.isoformat())
    counts = {"messages": count, "told_until": until.isoformat()}
    return counts | {"_seen": told.seen} if told.seen else counts


def _counted(messages: list[MessageLog], progress) -> Iterator[MessageLog]:
    progress(0, len(messages))
    for number, each in enumerate(messages, 1):
        progress(number, len(messages))
        yield each


# --- To those who work here ---


def _to_staff(
    readers: list[notices.Reader],
    kinds: dict,
    day: datetime.date,
    missed: Callable[[User], str],
    nobodys: list[Due | Older],
) -> Iterator[MessageLog]:
    wording = functools.cache(texts.in_force)
    for user, rows in notices.by_mail(readers):
        with translation.override(user.language):
            text = wording(TO_STAFF, user.language).render(
                told_to_staff(rows, kinds, day, missed=missed(user), nobodys=nobodys, reader=user)
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
