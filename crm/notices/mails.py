"""What waited a quarter of an hour becomes one message a person, to a client one a case; and the end of old notices."""

import datetime
import itertools
import logging
from collections.abc import Collection, Iterator

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import ngettext

from crm import jobs, outbox, texts, values
from crm.choices import CaseStatus, MessageKind, NoticeKind, StepState
from crm.exceptions import NoticesNotMailed
from crm.models import Case, CaseStep, MessageLog, Notice, User
from crm.notices import addresses, seen
from crm.notices.words import BEFORE, CLIENT_WORDS, line

logger = logging.getLogger(__name__)
DAY = datetime.timedelta(days=1)
WAIT = datetime.timedelta(minutes=15)
# Of what was read or never stood in an inbox; nobody who comes back after longer looks for the rest.
KEPT, KEPT_UNREAD = 90 * DAY, 400 * DAY
# What each takes back.
TAKES_BACK = {
    NoticeKind.STEP_REOPENED: (NoticeKind.STEP_COMPLETED,),
    NoticeKind.REOPENED: (NoticeKind.DECLINED, NoticeKind.WITHDRAWN),
}


def send(now: datetime.datetime, progress=lambda done: None) -> dict[str, int]:
    """To each whose oldest notice waited long enough, one message of all that waits. Whose could not be made keeps nobody
    else waiting; raises NoticesNotMailed in the end."""
    due = Notice.objects.to_mail().filter(created_at__lte=now - WAIT).order_by()
    users = due.filter(user__isnull=False).values_list("user", flat=True).distinct()
    cases = due.filter(user=None).values_list("case", flat=True).distinct()
    work = [(_to_user, key) for key in users] + [(_to_client, key) for key in cases]
    count = failed = 0
    for number, (messages, key) in enumerate(work, 1):
        try:
            with transaction.atomic():
                count += outbox.put(messages(key, now))
        except Exception as error:
            logger.error("notices: %s %s: %s", messages.__name__, key, jobs.told(error))
            failed += 1
        progress(number)
    if failed:
        raise NoticesNotMailed(count=failed)
    return {"messages": count}


def _take(rows, now: datetime.datetime) -> list[Notice]:
    """In the transaction that writes the message: of two jobs at once the second finds none, or none that waited."""
    found = list(rows.with_words().select_for_update(of=("self",), no_key=True).order_by("created_at", "pk"))
    if not found or found[0].created_at > now - WAIT:
        return []
    for some in itertools.batched(found, outbox.CHUNK):
        Notice.objects.filter(pk__in=[each.pk for each in some]).update(mailed_at=now)
    return found


def _to_user(key: int, now: datetime.datetime) -> Iterator[MessageLog]:
    taken = _take(Notice.objects.to_mail().filter(user=key), now)
    user = User.objects.get(pk=key)
    if not (user.is_active and user.is_staff):
        return
    if not user.email:  # he chose mail, and lost his address since
        Notice.objects.filter(pk__in=[each.pk for each in taken]).update(in_inbox=True)
        return
    open_to_him = seen(user, taken)
    told = [each for each in taken if each.pk in open_to_him or each.detail.get("whose") == BEFORE]
    if told:
        with translation.override(user.language):
            context = told_to_user(told, closed={each.pk for each in told} - open_to_him)
        yield _message(MessageKind.NOTICES, user.language, context, told, to=user.email, user=user)


def told_to_user(notices: list[Notice], closed: Collection[int] = ()) -> dict:
    """As the text of the message knows it, in the active language. To what is `closed` to him (that a case was his he may
    still know) leads no link."""
    count = ngettext("%(count)s event", "%(count)s events", len(notices)) % {"count": len(notices)}
    lines = [line(each).as_row() | ({"url": ""} if each.pk in closed else {}) for each in notices]
    return {"count": len(notices), "count_text": count, "lines": lines}


def _to_client(key: int, now: datetime.datetime) -> Iterator[MessageLog]:
    taken = _take(Notice.objects.to_mail().filter(user=None, case=key), now)
    if not taken:
        return
    case = taken[0].case
    address = addresses([case.client_id]).get(case.client_id)
    told = _still_true(case, [each for each in taken if each.client_id == case.client_id])
    if told and address:
        language = settings.LANGUAGE_CODE
        with translation.override(language):
            context = told_to_client(case.reference, told)
        yield _message(MessageKind.CLIENT_NOTICES, language, context, told, to=address, case_id=key)


def told_to_client(reference: str, notices: list[Notice]) -> dict:
    return {"reference": reference, "lines": [_client_line(each) for each in notices]}


def _client_line(notice: Notice) -> dict[str, str]:
    what = CLIENT_WORDS[notice.kind]
    return {
        "date": values.date(timezone.localdate(notice.created_at)),
        "what": what % {"step": notice.step.name} if notice.step else str(what),
    }


def _still_true(case: Case, notices: list[Notice]) -> list[Notice]:
    """Of the same news the last. What was taken back before he heard of it he need not hear at all."""
    of_case = CaseStep.objects.filter(case=case, step__in={each.step_id for each in notices} - {None})
    states = dict(of_case.values_list("step", "state"))
    opened: dict[int | None, str] = {}
    for each in notices:
        if each.kind in TAKES_BACK or each.kind in itertools.chain(*TAKES_BACK.values()):
            opened.setdefault(each.step_id, each.kind)

    def holds(notice: Notice) -> bool:
        match notice.kind:
            case NoticeKind.STEP_COMPLETED:
                return states.get(notice.step_id) == StepState.DONE
            case NoticeKind.STEP_REOPENED:
                return states.get(notice.step_id) == StepState.PENDING and opened[notice.step_id] == notice.kind
            case NoticeKind.APPROVED:
                return case.status in (CaseStatus.APPROVED, CaseStatus.COMPLETED)
            case NoticeKind.DECLINED | NoticeKind.WITHDRAWN:
                return case.status == notice.kind
            case NoticeKind.REOPENED:
                return case.is_active and opened[None] == notice.kind
        return True

    return [each for each in {(each.kind, each.step_id): each for each in notices}.values() if holds(each)]


def _message(kind: str, language: str, context: dict, told: list[Notice], **to) -> MessageLog:
    text = texts.render(kind, language, context)
    return outbox.message(
        kind,
        subject=text.subject,
        body=text.body,
        html=text.html,
        about=[each.pk for each in told],
        language=language,
        **to,
    )


def tidy(now: datetime.datetime) -> int:
    """Deletes old notices; returns how many."""
    done = Q(created_at__lt=now - KEPT) & (Q(in_inbox=False) | Q(read_at__isnull=False))
    waits = Q(wants_mail=True, mailed_at=None)
    old = Notice.objects.filter(done & ~waits | Q(created_at__lt=now - KEPT_UNREAD))
    return old._raw_delete(old.db)
