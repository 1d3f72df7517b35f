"""The audit trail's own tables: what happened (one line an operation or event), and the seals that prove it stayed so.
Internal: append-only, without a history of their own. What they mean is in crm.audit."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import OPERATION_KINDS, AuditKind, SealKind, Source
from crm.encryption import EncryptedTextField
from crm.models.base import CrmQuerySet, sees_all_cases
from crm.models.operations import NAME_LENGTH


class AuditEntryQuerySet(CrmQuerySet):
    def visible_to(self, user):
        """One's own entries for whoever sees his own cases only: of others' rows he is not to know that they exist."""
        return self if sees_all_cases(user) else self.filter(user_id=user.pk)


class AuditEntry(models.Model):
    """An operation that changed rows, or an event such as a login. The changes themselves are history rows that share
    `operation_id`."""

    operation_id = models.UUIDField(_("operation"))
    kind = models.CharField(_("kind"), max_length=12, choices=AuditKind, default=AuditKind.CHANGE)
    at = models.DateTimeField(_("when"), default=timezone.now)
    user_id = models.BigIntegerField(null=True, blank=True, editable=False)
    user_name = models.CharField(_("by"), max_length=NAME_LENGTH, blank=True)
    source = models.CharField(_("source"), max_length=10, choices=Source)
    reason = EncryptedTextField(_("reason"), blank=True)
    # What the event was about, where it was about one record: `case`, 12.
    model = models.CharField(_("record"), max_length=40, blank=True)
    object_id = models.CharField(max_length=40, blank=True, editable=False)
    # JSON: the account that was tried, the address, the filter of a bulk edit ...
    detail = EncryptedTextField(_("detail"), blank=True)
    # {"case": {"~": 3}}; empty where the operation was cut off, and then counted when it is looked at. A hint for lists:
    # not sealed, because it is written after the row; verification compares it with the history.
    counts = models.JSONField(default=dict, blank=True, editable=False)
    undoes = models.UUIDField(null=True, blank=True, editable=False, db_index=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("entry of the audit trail")
        verbose_name_plural = _("audit trail")
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["operation_id"], condition=models.Q(kind__in=OPERATION_KINDS), name="audit_entry_operation"
            )
        ]
        indexes = [
            models.Index(fields=["-at", "-id"], name="audit_entry_at"),
            models.Index(fields=["user_id", "-at", "-id"], name="audit_entry_user"),
            models.Index(fields=["kind", "-at", "-id"], name="audit_entry_kind"),
            models.Index(fields=["source", "-at", "-id"], name="audit_entry_source"),
            models.Index(fields=["operation_id"], name="audit_entry_of_operation"),
        ]
        default_permissions = ("view",)
        permissions = [
            ("undo_operation", "Can put records back and undo operations"),
            ("export_auditentry", "Can export the audit trail"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {str(self.operation_id)[:8]}"


class ExportedClient(models.Model):
    """Whose data left the office with which export."""

    run = models.ForeignKey("crm.ExportRun", on_delete=models.CASCADE, related_name="exported_clients")
    client_id = models.BigIntegerField(db_index=True)


class AuditSeal(models.Model):
    """A link of the chain: an HMAC over what it closes and over the link before it."""

    number = models.PositiveBigIntegerField(_("number"), primary_key=True)
    kind = models.CharField(_("kind"), max_length=10, choices=SealKind, default=SealKind.ROWS)
    at = models.DateTimeField(_("sealed"), default=timezone.now)
    rows = models.PositiveBigIntegerField(_("rows"), default=0)
    # Canonical JSON: of an amendment or a pruning, what it names; of every seal, the digests of its blocks.
    content = models.TextField(blank=True, editable=False)
    key_fingerprint = models.CharField(max_length=8, editable=False)
    previous = models.CharField(max_length=64, blank=True, editable=False)
    mac = models.CharField(max_length=64, editable=False)

    class Meta:
        verbose_name = _("seal")
        verbose_name_plural = _("seals")
        ordering = ["-number"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.number}"


class SealBlock(models.Model):
    """The sealed rows of one table: their ids and, for each, a digest of the row and one of every field."""

    seal = models.ForeignKey(AuditSeal, on_delete=models.PROTECT, related_name="blocks")
    table = models.CharField(max_length=60)
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    rows = models.PositiveIntegerField()
    columns = models.TextField()
    digests = models.BinaryField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["table", "first_id"], name="seal_block_table")]


class AuditCheck(models.Model):
    """A verification of the seals and what it found. `mac` binds all of it with AUDIT_KEY; empty in what is older."""

    at = models.DateTimeField(_("verified"), default=timezone.now)
    is_whole = models.BooleanField(_("whole"))
    is_anchored = models.BooleanField(_("compared with an anchor"), default=False)
    seals = models.PositiveBigIntegerField(_("seals"), default=0)
    rows = models.PositiveBigIntegerField(_("rows"), default=0)
    unsealed_rows = models.PositiveBigIntegerField(_("rows not sealed yet"), default=0)
    since = models.DateField(null=True, blank=True, editable=False)
    message = models.TextField(_("message"), blank=True)
    mac = models.CharField(max_length=64, blank=True, editable=False)

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        ordering = ["-at"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"
