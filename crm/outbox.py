"""Messages out of the office: written first, then sent by a job, each once. A message is claimed by what it is about, so it
cannot be written twice; it is tried until the server takes it, refuses it for good, MOST_ATTEMPTS are over or nobody needs it
any more, always under one Message-ID. Whether its recipient may still be written to is asked at the moment of sending. No
web request speaks SMTP."""

import base64
import collections
import contextlib
import datetime
import itertools
import json
import re
import smtplib
import time
from collections.abc import Iterable
from functools import partial
from urllib.parse import urlsplit

from django.conf import settings
from django.core import mail
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.html import escape

from crm import mail_server, roles, search
from crm.choices import MessageKind, MessageState, SendingTrouble, Withheld
from crm.encryption import Unreadable
from crm.exceptions import CrmError
from crm.models import Case, Client, MessageLog, User
from crm.models.base import sees_all_cases

MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
CHUNK = 500
# How long a message is of use: what waits longer for a server is told by its next one, or by nobody.
LIFETIMES = {
    MessageKind.DEADLINES: 3 * DAY,
    MessageKind.CLIENT_DEADLINES: 3 * DAY,
    MessageKind.RADAR: 14 * DAY,
    MessageKind.WEEKLY_REPORT: 7 * DAY,
    MessageKind.NOTICES: 7 * DAY,
    MessageKind.CLIENT_NOTICES: 7 * DAY,
    MessageKind.WELCOME: 14 * DAY,
    MessageKind.PASSWORD_RESET: DAY,
}
LIFETIME = 7 * DAY
TO_CLIENTS = (MessageKind.CLIENT_DEADLINES, MessageKind.CLIENT_NOTICES)
# Who may get what tells of cases, by any of these permissions.
OF_CASES = {
    MessageKind.DEADLINES: ("crm.view_case",),
    MessageKind.RADAR: ("crm.view_case",),
    MessageKind.WEEKLY_REPORT: ("crm.view_case",),
    MessageKind.NOTICES: ("crm.view_case", "crm.view_client"),
}
# Stands for the link that lets a person set a password. Whoever reads messages in the admin could use a real one, so it is
# made when the mail leaves, anew on every try.
LINK = "[one-time link]"
WITH_LINK = (MessageKind.WELCOME, MessageKind.PASSWORD_RESET)
# A sweep leaves the rest to the next minute's, so that a slow server holds one worker of the quick queue and not both.
SWEEP_S = 50
# The last one is repeated: in all about two days.
BACKOFF = tuple(minutes * MINUTE for minutes in (1, 2, 5, 10, 20, 30, 60))
MOST_ATTEMPTS = 54
# Where the server took the text and said nothing: each try may be one more copy, so they are few and far between.
UNANSWERED_BACKOFF = tuple(minutes * MINUTE for minutes in (10, 60, 360))
# Nobody else tries a message while it may be on its way; also the wait after a kill between the server's yes and ours.
LEASE = 15 * MINUTE
FINAL = range(500, 600)
HANGS_UP, NOT_LET_IN, TOO_LARGE = 421, 530, 552
_ENHANCED = re.compile(rb"^([245]\.\d{1,3}\.\d{1,3})\b")


class ServerTrouble(Exception):
    """Not about a message: the server cannot be reached, or does not let us in."""


def message(
    kind: str,
    *,
    to: str,
    subject: str,
    body: str,
    about: Iterable[object],
    language: str,
    html: str = "",
    case_id: int | None = None,
    user: User | None = None,
) -> MessageLog:
    """Not written yet. `about` are the slot or the ids of the events that make it what it is; `subject` carries references,
    never a name."""
    return MessageLog(
        claim_key=claim_key(kind, _folded(to), about),
        kind=kind,
        case_id=case_id,
        user=user,
        language=language,
        **_addressed(to),
        subject=subject[:200],
        body=body,
        html=html,
        needs_all_cases=kind in OF_CASES and user is not None and sees_all_cases(user),
        expires_at=timezone.now() + LIFETIMES.get(kind, LIFETIME),
    )


def _addressed(to: str) -> dict[str, object]:
    return {"recipient": to, "recipient_digest": search.digest(search.Kind.EMAIL, _folded(to))}


def _folded(address: str) -> str:
    return search.fold_value(search.Kind.EMAIL, address)


def put(messages: Iterable[MessageLog]) -> int:
    """To be sent; those that were written before are left out. Returns how many are new. In the caller's transaction."""
    count = 0
    for some in itertools.batched(messages, CHUNK):
        known = set(
            MessageLog.objects.filter(claim_key__in=[each.claim_key for each in some]).values_list(
                "claim_key", flat=True
            )
        )
        fresh = {each.claim_key: each for each in some if each.claim_key not in known}
        MessageLog.objects.bulk_create(fresh.values(), ignore_conflicts=True)
        count += len(fresh)
    return count


def claim_key(kind: str, to: str, about: Iterable[object]) -> str:
    text = "\0".join([kind, to, *map(str, about)])
    return salted_hmac("message", text, secret=settings.SEARCH_KEY, algorithm="sha256").hexdigest()


def send_due(now: datetime.datetime, progress=lambda done: None) -> dict[str, int]:
    """Sends what is due, for SWEEP_S at most; returns how many became what. Where the server is in trouble the rest waits
    for the next time."""
    ends = time.monotonic() + SWEEP_S
    counts = collections.Counter(expired=_expire(now))
    if not settings.EMAIL_IS_SET:
        counts["waiting"] = MessageLog.objects.due(now).count()
        return dict(+counts)
    with contextlib.closing(mail.get_connection()) as server:
        keys = MessageLog.objects.due(now).order_by("next_try_at", "pk").values_list("pk", flat=True)
        for number, key in enumerate(list(keys), 1):
            progress(number)
            server.meanwhile = partial(_moves, progress, number)
            if time.monotonic() > ends:
                break
            message = _claim(key, now)
            if message is None:
                continue
            try:
                counts[_send(message, server)] += 1
            except ServerTrouble:
                counts["failed"] += 1
                break
    return dict(+counts)


def _moves(progress, number: int) -> None:
    """While a server thinks. Who cancels the sweep now does not keep the message from its answer."""
    with contextlib.suppress(CrmError):
        progress(number)


def _expire(now: datetime.datetime) -> int:
    """What nobody needs any more; not what is on its way."""
    late = MessageLog.objects.due(now).filter(expires_at__lte=now)
    return late.update(state=MessageState.EXPIRED, next_try_at=None, updated_at=timezone.now())


def _claim(key: int, now: datetime.datetime) -> MessageLog | None:
    """Of several workers one gets it."""
    taken = MessageLog.objects.due(now).filter(pk=key)
    if not taken.update(next_try_at=timezone.now() + LEASE, attempts=F("attempts") + 1):
        return None
    return MessageLog.objects.select_related("user").get(pk=key)


def _withheld(message: MessageLog) -> str:
    """Why its recipient is not written to any more, since it was written; empty where he is."""
    if message.kind in TO_CLIENTS:
        cases = Case.objects.filter(pk=message.case_id)
        if not (cases.active() if message.kind == MessageKind.CLIENT_DEADLINES else cases).exists():
            return Withheld.CASE
        of_case = Client.objects.filter(cases__in=cases)
        if not of_case.may_be_written_to().exists():
            return Withheld.CLIENT
        addresses = of_case.values_list("email", flat=True)
    elif message.user is None or not (message.user.is_active and message.user.is_staff):
        return Withheld.USER
    elif message.kind in OF_CASES and not _may_see(message.user, message):
        return Withheld.RIGHTS
    else:
        addresses = [message.user.email]
    known = {_folded(each) for each in addresses if not isinstance(each, Unreadable)}
    return "" if _folded(message.recipient) in known else Withheld.ADDRESS


def _may_see(user: User, message: MessageLog) -> bool:
    """Which cases it tells of is not kept; of who could see all and cannot now, none is sent."""
    can = any(user.has_perm(each) for each in OF_CASES[message.kind])
    return can and (sees_all_cases(user) or not message.needs_all_cases)


def _send(message: MessageLog, server) -> str:
    """The state it came to. Raises ServerTrouble."""
    if any(
        isinstance(each, Unreadable) for each in (message.recipient, message.body, message.html, message.attachments)
    ):
        _became(message, MessageState.FAILED, next_try_at=None, error="Unreadable")
        return MessageState.FAILED
    if reason := _withheld(message):
        _became(message, MessageState.WITHHELD, next_try_at=None, error=reason)
        return MessageState.WITHHELD
    try:
        server.open()
    except Exception as error:  # also a password that no server could read
        _wait_for_server(message, error)
        raise ServerTrouble from error
    try:
        server.send_messages([_as_mail(message)])
    except smtplib.SMTPRecipientsRefused as error:
        [(code, text)] = error.recipients.values()
        return _refused(message, server, code, text)
    except smtplib.SMTPDataError as error:
        return _refused(message, server, error.smtp_code, error.smtp_error)
    except mail_server.Unanswered:
        _close(server)
        _try_again(message, SendingTrouble.UNANSWERED, UNANSWERED_BACKOFF, most=len(UNANSWERED_BACKOFF) + 1)
        return MessageState.FAILED
    except (OSError, smtplib.SMTPException) as error:
        _close(server)
        if isinstance(error, smtplib.SMTPServerDisconnected):
            _try_again(message, told(error))
            return MessageState.FAILED  # perhaps over this one: the next gets a connection of its own
        code = getattr(error, "smtp_code", None)
        if code == TOO_LARGE:
            return _refused(message, server, code, b"")
        if isinstance(error, smtplib.SMTPNotSupportedError):  # letters in the address that this server cannot read
            _became(message, MessageState.REFUSED, next_try_at=None, error=told(error))
            return MessageState.REFUSED
        if isinstance(error, smtplib.SMTPSenderRefused) and code in FINAL and code != NOT_LET_IN:
            _try_again(message, told(error))
            return MessageState.FAILED  # perhaps this one alone; if it is our address, there are days to mend it
        _wait_for_server(message, error)
        raise ServerTrouble from error
    except Exception as error:  # an address or a text that no mail can be made of: the others go on
        _close(server)
        if not mail_server.has_sender():
            _wait_for_server(message, error)
            raise ServerTrouble from error
        _became(message, MessageState.REFUSED, next_try_at=None, error=type(error).__name__)
        return MessageState.REFUSED
    _became(message, MessageState.SENT, sent_at=timezone.now(), next_try_at=None, error="")
    return MessageState.SENT


def _refused(message: MessageLog, server, code: int, text: bytes) -> str:
    """5xx is final; what is said with it may name the recipient, so only the numbers are kept."""
    if code == HANGS_UP:
        _close(server)
    found = _ENHANCED.match(text if isinstance(text, bytes) else str(text).encode())
    said = f"{code} {found[1].decode()}" if found else str(code)
    if code in FINAL:
        _became(message, MessageState.REFUSED, next_try_at=None, error=said)
        return MessageState.REFUSED
    _try_again(message, said)
    return MessageState.FAILED


def _close(server) -> None:
    with contextlib.suppress(OSError, smtplib.SMTPException):
        server.close()


def _wait_for_server(message: MessageLog, error: Exception) -> None:
    """Not the message's fault, so it counts for no attempt."""
    again = timezone.now() + BACKOFF[0]
    _became(message, MessageState.FAILED, attempts=message.attempts - 1, next_try_at=again, error=told(error))


def _try_again(message: MessageLog, said: str, backoff=BACKOFF, *, most: int = MOST_ATTEMPTS) -> None:
    wait = backoff[min(message.attempts, len(backoff)) - 1]
    ends = message.attempts >= most
    _became(
        message,
        MessageState.FAILED,
        next_try_at=None if ends else timezone.now() + wait,
        error=said,
    )


def told(error: Exception) -> str:
    """Without what the server said in words."""
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _became(message: MessageLog, state: str, **values) -> None:
    MessageLog.objects.filter(pk=message.pk, attempts=message.attempts).update(
        state=state, updated_at=timezone.now(), **values
    )


def _as_mail(message: MessageLog) -> mail.EmailMultiAlternatives:
    link = roles.set_password_link(message.user) if message.kind in WITH_LINK else LINK
    found = mail.EmailMultiAlternatives(
        message.subject,
        message.body.replace(LINK, link),
        to=[message.recipient],
        headers={"Message-ID": message_id(message), "Auto-Submitted": "auto-generated"},
    )
    if message.html:
        found.attach_alternative(message.html.replace(LINK, escape(link)), "text/html")
    for name, kind, content in json.loads(message.attachments or "[]"):
        found.attach(name, base64.b64decode(content), kind)
    return found


def message_id(message: MessageLog) -> str:
    return f"<{message.message_id.hex}@{urlsplit(settings.SITE_URL).hostname}>"


def resend(message: MessageLog) -> bool:
    """What was refused, given up, withheld or too late is tried anew, under its Message-ID and for as long as a new one, and
    to today's address; False where it waits anyway or has arrived, or nobody may (`may_resend`)."""
    now, address = timezone.now(), _address(message)
    to = _addressed(address) if address else {}
    given_up = MessageLog.objects.filter(pk=message.pk, next_try_at=None).exclude(state=MessageState.SENT)
    given_up = given_up.exclude(kind=MessageKind.PASSWORD_RESET)
    return bool(
        given_up.update(
            state=MessageState.WAITING,
            attempts=0,
            next_try_at=now,
            expires_at=now + LIFETIMES.get(message.kind, LIFETIME),
            error="",
            updated_at=now,
            **to,
        )
    )


def _address(message: MessageLog) -> str:
    """Today's; empty of a client who is not to be written to, which the sending says in words."""
    if message.kind not in TO_CLIENTS:
        return message.user.email if message.user else ""
    of_case = Client.objects.filter(cases=message.case_id).may_be_written_to()
    address = of_case.values_list("email", flat=True).first() if message.case_id else None
    return address if address and not isinstance(address, Unreadable) else ""


def may_resend(message: MessageLog) -> bool:
    """Not a link for a new password: nobody but who forgot it asks for one."""
    is_given_up = message.next_try_at is None and message.state != MessageState.SENT
    return is_given_up and message.kind != MessageKind.PASSWORD_RESET
