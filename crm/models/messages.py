"""One message to one recipient and what became of it (internal: no history; writing and sending are crm.outbox's), and the
texts as the office words them (crm.texts)."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import Language, MessageKind, MessageState, SendingTrouble, Withheld
from crm.encryption import EncryptedEmailField, EncryptedTextField
from crm.models.base import CrmModel, CrmQuerySet, Stamped
from crm.models.cases import Case

TO_SEND = (MessageState.WAITING, MessageState.FAILED)
# What somebody sends himself to see a text. No MessageKind: nothing counts it, and nothing waits for its link.
TEST = "test"


def kind_label(kind: str) -> str:
    return str(_("Test of a text") if kind == TEST else dict(MessageKind.choices).get(kind, kind))


def error_label(error: str) -> str:
    """The server's numbers, or why we do not send it."""
    return str(dict(Withheld.choices + SendingTrouble.choices).get(error, error))


class MessageLogQuerySet(CrmQuerySet):
    def to_send(self):
        return self.filter(state__in=TO_SEND, next_try_at__isnull=False)

    def due(self, now):
        return self.filter(state__in=TO_SEND, next_try_at__lte=now)

    def visible_to(self, user):
        """Whoever sees the case sees its messages; those of no case are for who sees everything."""
        if user.has_perm("crm.view_all_cases"):
            return self
        return self.filter(case__in=Case.objects.visible_to(user))


class MessageLog(Stamped):
    """`claim_key` is a keyed digest of what the message is: nobody writes the same one twice. Where `next_try_at` is empty
    nobody tries any more. `message_id` is the same on every try."""

    claim_key = models.CharField(max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=40, choices=MessageKind)
    # Keeps the number of a deleted case, so that the client's timeline keeps the message. Read it by a join.
    case = models.ForeignKey(
        Case, on_delete=models.DO_NOTHING, db_constraint=False, null=True, blank=True, related_name="messages",
        verbose_name=_("case"),
    )  # fmt: skip
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name=_("user"),
    )  # fmt: skip
    language = models.CharField(_("language"), max_length=2, choices=Language, default=Language.CZECH)
    recipient = EncryptedEmailField(_("recipient"), max_length=254)
    recipient_digest = models.BinaryField(max_length=16, null=True, blank=True, editable=False)
    subject = models.CharField(_("subject"), max_length=200, help_text=_("A reference, never a name."))
    body = EncryptedTextField(_("text"), blank=True)
    html = EncryptedTextField(blank=True, editable=False)
    # JSON: a list of name, type and base64.
    attachments = EncryptedTextField(blank=True, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=MessageState, default=MessageState.WAITING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_try_at = models.DateTimeField(_("next try"), default=timezone.now, null=True, blank=True)
    # Whether whoever it was written to could see all cases then: it may tell of any.
    needs_all_cases = models.BooleanField(default=False, editable=False)
    message_id = models.UUIDField(default=uuid.uuid4, editable=False)
    expires_at = models.DateTimeField(_("no use after"), null=True, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=300, blank=True)

    objects = MessageLogQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-created_at"]
        permissions = [
            ("resend_message", "Can send messages again"),
            ("export_messagelog", "Can export messages"),
        ]
        indexes = [
            models.Index(fields=["next_try_at"], name="message_to_send", condition=Q(state__in=["waiting", "failed"])),
            models.Index(fields=["recipient_digest"], name="message_recipient"),
        ]

    def __str__(self) -> str:
        return self.subject


class MessageText(CrmModel):
    """The words of one kind of message in one language; what is empty is as shipped. Templates of crm.texts, which alone
    renders them."""

    kind = models.CharField(_("kind"), max_length=40, choices=MessageKind, editable=False)
    language = models.CharField(_("language"), max_length=2, choices=Language, editable=False)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    body = models.TextField(_("text"), blank=True)
    html = models.TextField("HTML", blank=True)

    class Meta(CrmModel.Meta):
        verbose_name = _("text of messages")
        verbose_name_plural = _("texts of messages")
        ordering = ["kind", "language"]
        constraints = [models.UniqueConstraint(fields=["kind", "language"], name="message_text_unique")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.get_language_display()})"
