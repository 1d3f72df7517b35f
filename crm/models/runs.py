"""What was taken in and out, by whom, from what, with what result; and the canaries of the keys. Internal: no history."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from crm.choices import ImportState, RunState
from crm.encryption import EncryptedCharField, EncryptedTextField
from crm.models.base import CrmQuerySet
from crm.models.operations import history_operation_id


class RunQuerySet(CrmQuerySet):
    def visible_to(self, user):
        """One's own runs; all of them for whoever sees all cases."""
        return self if user.has_perm("crm.view_all_cases") else self.filter(user=user)


class Run(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("by"),
    )
    user_name = models.CharField(_("name"), max_length=200, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=RunState, default=RunState.QUEUED)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    operation_id = models.UUIDField(default=history_operation_id, editable=False, db_index=True)
    message = models.TextField(_("message"), blank=True, help_text=_("Without personal data."))

    objects = RunQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


class ImportRun(Run):
    state = models.CharField(_("state"), max_length=10, choices=ImportState, default=ImportState.UPLOADED)
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # The list on whose pages it began.
    model = models.CharField(_("list"), max_length=40, default="client", editable=False)
    file_name = models.CharField(_("file"), max_length=255)
    sha256 = models.CharField("SHA-256", max_length=64)
    rows = models.PositiveIntegerField(_("rows"), default=0)
    created_count = models.PositiveIntegerField(_("rows created"), default=0)
    updated_count = models.PositiveIntegerField(_("rows updated"), default=0)
    skipped_count = models.PositiveIntegerField(_("rows skipped"), default=0)
    error_count = models.PositiveIntegerField(_("rows with errors"), default=0)
    duplicate_count = models.PositiveIntegerField(_("probable duplicates"), default=0)
    problems = EncryptedTextField(_("problems"), blank=True, editable=False)
    # What the person chose: which rows to write, and whether an empty cell deletes.
    options = models.JSONField(_("options"), default=dict, blank=True, editable=False)
    # As JSON: the field of each column that was named by hand, and the cells that were put right. Headers and cells may
    # hold anything.
    mapping = EncryptedTextField(_("columns"), blank=True, editable=False)
    corrections = EncryptedTextField(blank=True, editable=False)
    # Of what the preview showed: what is written later is that, or it is shown again.
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    job = models.ForeignKey(
        "crm.JobRun", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )

    class Meta(Run.Meta):
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        indexes = [models.Index(fields=["sha256"], name="import_run_sha256")]

    @property
    def decisions(self) -> dict[int, str]:
        """What the person chose for rows that are probably about somebody known."""
        return {int(row): choice for row, choice in self.options.get("decisions", {}).items()}


class ImportPiece(models.Model):
    """Of an import's file, or of what its check found, encrypted: web and worker may share no disk."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="pieces")
    part = models.CharField(max_length=10)  # one of ImportPart
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "part", "number"], name="import_piece_unique")]


class ImportMapping(models.Model):
    """What a person said a column means: `owner.field`, or nothing where it is to be left out. Headers of somebody's file
    may be anything, so they are encrypted; one person's are few."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="import_mappings", verbose_name=_("user")
    )
    header = EncryptedTextField(_("column"))
    field = models.CharField(_("field"), max_length=60, blank=True)

    class Meta:
        verbose_name = _("remembered column")
        verbose_name_plural = _("remembered columns")
        ordering = ["pk"]


class ExportRun(Run):
    model = models.CharField(_("list"), max_length=40)
    format = models.CharField(_("format"), max_length=10)
    filter = models.JSONField(_("filter"), default=dict, blank=True)
    columns = models.JSONField(_("columns"), default=list, blank=True)
    rows = models.PositiveIntegerField(_("rows"), default=0)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    reason = EncryptedCharField(_("reason"), max_length=200, blank=True)
    # Of one that is made by a job: which list, as JSON of the address's query and the ticked keys. What was searched for
    # may be a name.
    source = EncryptedTextField(blank=True, editable=False)
    job = models.ForeignKey(
        "crm.JobRun", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    # Whose pieces the file is made of: of a job that was begun again only the last one's count.
    claim = models.UUIDField(null=True, blank=True, editable=False)
    schedule = models.ForeignKey(
        "crm.ExportSchedule", on_delete=models.SET_NULL, null=True, blank=True, related_name="runs", editable=False
    )
    # Of one that was scheduled: the day that it was due, and when its person was told what became of it.
    slot = models.CharField(max_length=10, blank=True, editable=False)
    told_at = models.DateTimeField(null=True, blank=True, editable=False)
    kept_until = models.DateTimeField(_("file kept until"), null=True, blank=True)
    # Of one made for who saw every case then: who sees fewer today is not given the file.
    saw_all_cases = models.BooleanField(default=True, editable=False)

    class Meta(Run.Meta):
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        permissions = [("export_sensitive", "Can export sensitive columns")]
        constraints = [models.UniqueConstraint(fields=["schedule", "slot"], name="export_run_slot_unique")]


class ExportPiece(models.Model):
    """Of a finished export's bytes, encrypted: web and worker may share no disk."""

    run = models.ForeignKey(ExportRun, on_delete=models.CASCADE, related_name="pieces")
    claim = models.UUIDField()
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "claim", "number"], name="export_piece_unique")]


class UndoRun(Run):
    """The undo of a large operation by a job."""

    undoes = models.UUIDField(null=True, editable=False, db_index=True)
    reason = EncryptedTextField(_("reason"), blank=True)
    put_back_count = models.PositiveIntegerField(default=0, editable=False)
    touched_count = models.PositiveIntegerField(default=0, editable=False)
    blocked_count = models.PositiveIntegerField(default=0, editable=False)
    # Of the records that were left those that a page shows, in portions: model name -> keys.
    left = models.JSONField(default=list, blank=True, editable=False)
    job = models.ForeignKey(
        "crm.JobRun", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )

    class Meta(Run.Meta):
        verbose_name = _("undo")
        verbose_name_plural = _("undos")
        default_permissions = ()


class KeyCanary(models.Model):
    """A known text under each key, written by the first migration: a wrong key is found before anything is written."""

    kind = models.CharField(max_length=10, primary_key=True)
    token = models.TextField()
    fingerprint = models.CharField(max_length=8)
    created_at = models.DateTimeField(auto_now_add=True)
