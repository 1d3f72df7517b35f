"""One message to one recipient and what became of it. Internal: no history. Sending is another room's."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from crm.choices import MessageState
from crm.encryption import EncryptedEmailField, EncryptedTextField
from crm.models.base import CrmQuerySet, Stamped
from crm.models.cases import Case


class MessageLog(Stamped):
    claim_key = models.CharField(max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=40)
    # Keeps the number of a deleted case, so that the client's timeline keeps the message. Read it by a join.
    case = models.ForeignKey(
        Case, on_delete=models.DO_NOTHING, db_constraint=False, null=True, blank=True, related_name="messages",
        verbose_name=_("case"),
    )  # fmt: skip
    recipient = EncryptedEmailField(_("recipient"), max_length=254)
    subject = models.CharField(_("subject"), max_length=200, help_text=_("A reference, never a name."))
    body = EncryptedTextField(_("text"), blank=True)
    state = models.CharField(_("state"), max_length=10, choices=MessageState, default=MessageState.WAITING)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    error = models.CharField(_("error"), max_length=300, blank=True)

    objects = CrmQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.subject
