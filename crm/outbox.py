"""Messages out of the office: written first, then sent by a job, each once. A message is claimed by what it is about, so it
cannot be written twice; it is tried until the server takes it, refuses it for good, or MOST_ATTEMPTS are over, always under
one Message-ID. No web request speaks SMTP."""

import base64
import contextlib
import datetime
import itertools
import json
import re
import smtplib
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.core import mail
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac

from crm import search
from crm.choices import MessageState
from crm.encryption import Unreadable
from crm.models import MessageLog, User

MINUTE = datetime.timedelta(minutes=1)
CHUNK = 500
# The last one is repeated: in all about two days.
BACKOFF = tuple(minutes * MINUTE for minutes in (1, 2, 5, 10, 20, 30, 60))
MOST_ATTEMPTS = 54
# Nobody else tries a message while it may be on its way; also the wait after a kill between the server's yes and ours.
LEASE = 15 * MINUTE
FINAL = range(500, 600)
TOO_LARGE = 552
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
    folded = search.fold_value(search.Kind.EMAIL, to)
    return MessageLog(
        claim_key=claim_key(kind, folded, about),
        kind=kind,
        case_id=case_id,
        user=user,
        language=language,
        recipient=to,
        recipient_digest=search.digest(search.Kind.EMAIL, folded),
        subject=subject[:200],
        body=body,
        html=html,
    )


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
    """Sends what is due; returns how many became what. Where the server is in trouble the rest waits for the next time."""
    counts = {"sent": 0, "failed": 0, "refused": 0}
    if not settings.EMAIL_IS_SET:
        return {"waiting": MessageLog.objects.due(now).count()}
    with contextlib.closing(mail.get_connection()) as server:
        keys = MessageLog.objects.due(now).order_by("next_try_at", "pk").values_list("pk", flat=True)
        for number, key in enumerate(list(keys), 1):
            progress(number)
            message = _claim(key, now)
            if message is None:
                continue
            try:
                state = _send(message, server)
            except ServerTrouble:
                counts["failed"] += 1
                break
            counts[state] += 1
    return counts


def _claim(key: int, now: datetime.datetime) -> MessageLog | None:
    """Of several workers one gets it."""
    taken = MessageLog.objects.due(now).filter(pk=key)
    if not taken.update(next_try_at=timezone.now() + LEASE, attempts=F("attempts") + 1):
        return None
    return MessageLog.objects.get(pk=key)


def _send(message: MessageLog, server) -> str:
    """The state it came to. Raises ServerTrouble."""
    if any(
        isinstance(each, Unreadable) for each in (message.recipient, message.body, message.html, message.attachments)
    ):
        _became(message, MessageState.FAILED, next_try_at=None, error="Unreadable")
        return MessageState.FAILED
    try:
        server.open()
    except (OSError, smtplib.SMTPException) as error:
        _wait_for_server(message, error)
        raise ServerTrouble from error
    try:
        server.send_messages([_as_mail(message)])
    except smtplib.SMTPRecipientsRefused as error:
        [(code, text)] = error.recipients.values()
        return _refused(message, code, text)
    except smtplib.SMTPDataError as error:
        return _refused(message, error.smtp_code, error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        _close(server)
        if isinstance(error, smtplib.SMTPServerDisconnected):
            _try_again(message, told(error))
            return MessageState.FAILED  # perhaps over this one: the next gets a connection of its own
        if getattr(error, "smtp_code", None) == TOO_LARGE:
            return _refused(message, TOO_LARGE, b"")
        _wait_for_server(message, error)
        raise ServerTrouble from error
    except Exception as error:  # an address or a text that no mail can be made of: the others go on
        _close(server)
        _became(message, MessageState.REFUSED, next_try_at=None, error=type(error).__name__)
        return MessageState.REFUSED
    _became(message, MessageState.SENT, sent_at=timezone.now(), next_try_at=None, error="")
    return MessageState.SENT


def _refused(message: MessageLog, code: int, text: bytes) -> str:
    """5xx is final; what is said with it may name the recipient, so only the numbers are kept."""
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


def _try_again(message: MessageLog, said: str) -> None:
    wait = BACKOFF[min(message.attempts, len(BACKOFF)) - 1]
    ends = message.attempts >= MOST_ATTEMPTS
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
    found = mail.EmailMultiAlternatives(
        message.subject,
        message.body,
        to=[message.recipient],
        headers={"Message-ID": message_id(message), "Auto-Submitted": "auto-generated"},
    )
    if message.html:
        found.attach_alternative(message.html, "text/html")
    for name, kind, content in json.loads(message.attachments or "[]"):
        found.attach(name, base64.b64decode(content), kind)
    return found


def message_id(message: MessageLog) -> str:
    return f"<{message.message_id.hex}@{urlsplit(settings.SITE_URL).hostname}>"


def resend(message: MessageLog) -> bool:
    """What was refused or given up is tried anew, under its Message-ID; False where it waits anyway or has arrived."""
    given_up = MessageLog.objects.filter(pk=message.pk, next_try_at=None).exclude(state=MessageState.SENT)
    return bool(
        given_up.update(
            state=MessageState.WAITING, attempts=0, next_try_at=timezone.now(), error="", updated_at=timezone.now()
        )
    )


def waiting() -> int:
    return MessageLog.objects.filter(next_try_at__isnull=False).exclude(state=MessageState.SENT).count()
