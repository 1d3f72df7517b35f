"""Documents that a case needs (without the file yet) and notes on it."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from crm.choices import DocumentStatus, NoteKind
from crm.encryption import EncryptedTextField
from crm.models.base import CrmModel, OfCaseQuerySet, Stamped
from crm.models.cases import Case


class DocumentType(CrmModel):
    code = models.SlugField(_("code"), max_length=60, unique=True)
    name_cs = models.CharField(_("name in Czech"), max_length=100)
    name_en = models.CharField(_("name in English"), max_length=100)
    valid_days = models.PositiveSmallIntegerField(_("valid for (days)"), null=True, blank=True)
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("document type")
        verbose_name_plural = _("document types")
        ordering = ["name_cs"]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.name_cs if (get_language() or settings.LANGUAGE_CODE).startswith("cs") else self.name_en


class Document(CrmModel, Stamped):
    client_path = "case__client"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="documents", verbose_name=_("case"))
    type = models.ForeignKey(DocumentType, on_delete=models.PROTECT, related_name="documents", verbose_name=_("type"))
    status = models.CharField(_("status"), max_length=10, choices=DocumentStatus, default=DocumentStatus.REQUESTED)
    received_on = models.DateField(_("received on"), null=True, blank=True)
    expires_on = models.DateField(_("expires on"), null=True, blank=True)
    note = EncryptedTextField(_("note"), blank=True)

    objects = OfCaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        permissions = [("export_document", "Can export documents")]

    def __str__(self) -> str:
        return str(self.type)


class Note(CrmModel):
    """A dated note. Entries that came from the older CRM's change and step logs are read-only (`kind`)."""

    client_path = "case__client"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="notes", verbose_name=_("case"))
    kind = models.CharField(_("kind"), max_length=10, choices=NoteKind, default=NoteKind.NOTE, editable=False)
    text = EncryptedTextField(_("text"))
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("author"),
    )
    author_name = models.CharField(_("author's name"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("written"), default=timezone.now, editable=False)
    visible_to_client = models.BooleanField(_("visible to the client"), default=False)
    legacy_id = models.CharField(max_length=60, unique=True, null=True, blank=True, editable=False)

    objects = OfCaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("note")
        verbose_name_plural = _("notes")
        permissions = [("export_note", "Can export notes")]
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk or ''}".strip()

    @property
    def is_read_only(self) -> bool:
        return self.kind != NoteKind.NOTE
