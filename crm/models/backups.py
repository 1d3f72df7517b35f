"""The backups: what each is, how far it is proven to be one, and where it lies. Internal: no history."""

from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import BackupKind, BackupProof, RunState
from crm.models.runs import Run, RunQuerySet

# That this office has made or read. What was only seen in the store may be another office's.
IS_OURS = ~Q(sha256="")


class BackupRunQuerySet(RunQuerySet):
    def visible_to(self, user):
        """Of nobody in particular: the permission to view them is all there is."""
        return self

    def kept(self):
        """That could be restored from, as far as is known."""
        return self.filter(state=RunState.DONE, removed_at=None)

    def proven(self):
        """That were restored once, to try."""
        return self.kept().filter(proof=BackupProof.RESTORED)


class BackupRun(Run):
    """Written when it has ended, so no backup holds itself as one that still runs. `created_at` is the moment that it is of;
    `proof` and the two times are of its newest verification."""

    kind = models.CharField(_("kind"), max_length=20, choices=BackupKind, default=BackupKind.BY_HAND)
    created_at = models.DateTimeField(_("made"), default=timezone.now)
    file_name = models.CharField(_("file"), max_length=255, blank=True)
    size_bytes = models.PositiveBigIntegerField(_("size (bytes)"), default=0)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    took_s = models.PositiveIntegerField(_("took (seconds)"), default=0)
    rows_total = models.PositiveBigIntegerField(_("rows"), default=0)
    files_total = models.PositiveIntegerField(_("files"), default=0)
    version = models.CharField(_("version of the program"), max_length=40, blank=True)
    engine = models.CharField(_("database"), max_length=60, blank=True)

    proof = models.CharField(_("proof"), max_length=10, choices=BackupProof, blank=True)
    verified_at = models.DateTimeField(_("verified"), null=True, blank=True)
    verify_took_s = models.PositiveIntegerField(_("verification took (seconds)"), default=0)
    verify_message = models.TextField(_("said by the verification"), blank=True)

    is_local = models.BooleanField(_("on the worker's disk"), default=True)
    offsite_key = models.CharField(_("off-site"), max_length=400, blank=True)
    offsite_etag = models.CharField(_("ETag"), max_length=100, blank=True)
    offsite_at = models.DateTimeField(_("off-site since"), null=True, blank=True)
    offsite_message = models.TextField(_("said by the store"), blank=True)
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)
    job = models.ForeignKey(
        "crm.JobRun", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )

    objects = BackupRunQuerySet.as_manager()

    class Meta(Run.Meta):
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        permissions = [("make_backup", "Can make backups"), ("download_backup", "Can download backups")]
        constraints = [
            models.UniqueConstraint(fields=["file_name"], condition=~Q(file_name=""), name="backup_run_file_unique")
        ]
        indexes = [
            models.Index(fields=["-created_at"], name="backup_run_newest"),
            # Those that are gone are many, and every page asks about the others.
            models.Index(fields=["created_at"], name="backup_run_kept", condition=Q(removed_at=None)),
        ]

    def __str__(self) -> str:
        return self.file_name or super().__str__()

    @property
    def path(self) -> Path:
        """Where it lies on this machine, if it does."""
        return Path(settings.BACKUP_DIR) / self.file_name


class BackupWatch(models.Model):
    """What the worker found about its own machine, for pages that another one serves: one row. `trouble` is what is wrong
    with the tools of the database, with its cure, or empty."""

    trouble = models.TextField(_("trouble"), blank=True)
    looked_at = models.DateTimeField(_("looked at"))


class StagedFiles(models.Model):
    """A folder among the stored files, whose files belong to this database and are not all in their places yet: committed
    with what a restore has loaded, and gone when the last file is placed."""

    folder = models.CharField(max_length=100, primary_key=True)
