"""Mails to those who log in: a welcome, and a link for a new password. They wait in the outbox without the link, which is
made when they leave (outbox.LINK). Nothing here tells an asker whether he is known."""

import datetime

from django.conf import settings
from django.db import transaction

from crm import outbox, search, texts
from crm.choices import MessageKind
from crm.models import MessageLog, User

WINDOW = datetime.timedelta(minutes=10)
# To one address, whoever asks.
MOST_A_DAY = 6


def may_get_link(user: User) -> bool:
    """Whoever works here; a client's login has no page yet."""
    return bool(user.is_active and user.is_staff and user.email)


def link_kind(user: User) -> str:
    """Who has not been here yet is welcomed."""
    return MessageKind.PASSWORD_RESET if user.last_login else MessageKind.WELCOME


def send_link(user: User, now: datetime.datetime) -> bool:
    """A mail with a link to set the password; False where one was written to this address within WINDOW. In the caller's
    transaction."""
    links = MessageLog.objects.filter(user=user, kind__in=outbox.WITH_LINK, recipient_digest=_digest(user.email))
    recent = links.filter(created_at__gt=now - WINDOW)
    return not recent.exists() and bool(outbox.put([_message(link_kind(user), user, now)]))


def ask(email: str, now: datetime.datetime) -> None:
    """Somebody who cannot log in wants a new password. For who is not known, or asked a moment ago, the same is done and
    taken back, so that neither the answer nor its time tells whether he is."""
    folded = search.fold_value(search.Kind.EMAIL, email)
    before = MessageLog.objects.filter(recipient_digest=_digest(email), kind__in=outbox.WITH_LINK)
    times = list(before.filter(created_at__gt=now - outbox.DAY).values_list("created_at", flat=True))
    has_enough = len(times) >= MOST_A_DAY or any(at > now - WINDOW for at in times)
    users = User.objects.filter(email__iexact=email, is_active=True, is_staff=True).order_by("pk")
    known = [user for user in users if search.fold_value(search.Kind.EMAIL, user.email) == folded]
    nobody = User(username="nobody", email=email, language=settings.LANGUAGE_CODE)
    with transaction.atomic():
        outbox.put([_message(MessageKind.PASSWORD_RESET, user, now) for user in known or [nobody]])
        if has_enough or not known:
            transaction.set_rollback(True)


def _digest(email: str) -> bytes:
    return search.digest(search.Kind.EMAIL, search.fold_value(search.Kind.EMAIL, email))


def _message(kind: str, user: User, now: datetime.datetime) -> MessageLog:
    context = {
        "username": user.username,
        "link": outbox.LINK,
        "days_valid": settings.PASSWORD_RESET_TIMEOUT // (24 * 60 * 60),
    }
    if kind == MessageKind.WELCOME:
        context["name"] = user.first_name
    text = texts.render(kind, user.language, context)
    return outbox.message(
        kind,
        to=user.email,
        user=user if user.pk else None,
        subject=text.subject,
        body=text.body,
        html=text.html,
        about=[user.pk, int(now.timestamp() // WINDOW.total_seconds())],
        language=user.language,
    )
