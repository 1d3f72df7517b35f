"""What the worker does and when: one JobRun a slot, the times that the office chose, and who is alive. crm.jobs and
crm.schedules work with them."""

import datetime

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import QueueName, RunState, Weekday
from crm.models.base import CrmModel
from crm.models.runs import Run, RunQuerySet


class JobRunQuerySet(RunQuerySet):
    def waiting(self):
        return self.filter(state=RunState.QUEUED)

    def running(self):
        return self.filter(state=RunState.RUNNING)

    def silent(self, since: datetime.datetime):
        """Running, but their process has said nothing since then: it is gone."""
        return self.running().filter(beat_at__lt=since)


class JobRun(Run):
    """`slot` is the moment of the schedule as its calendar writes it (`2026-03-02T08:00`), or what makes another run
    unique. `claim` is whoever runs it now; every write of a run asks for it."""

    name = models.CharField(_("job"), max_length=60)
    slot = models.CharField(_("slot"), max_length=60)
    queue = models.CharField(_("queue"), max_length=10, choices=QueueName, default=QueueName.QUICK)
    arguments = models.JSONField(default=dict, blank=True, editable=False)
    due_at = models.DateTimeField(_("due"), default=timezone.now)
    enqueued_at = models.DateTimeField(null=True, blank=True, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    beat_at = models.DateTimeField(_("last sign of life"), null=True, blank=True)
    progressed_at = models.DateTimeField(_("last progress"), null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    claim = models.UUIDField(null=True, blank=True, editable=False)
    worker = models.CharField(_("worker"), max_length=80, blank=True)
    is_cancelled = models.BooleanField(_("cancel"), default=False)
    done_count = models.PositiveIntegerField(_("done so far"), default=0)
    total_count = models.PositiveIntegerField(_("of"), default=0)
    counts = models.JSONField(_("result"), default=dict, blank=True)
    log = models.TextField(_("log"), blank=True)

    objects = JobRunQuerySet.as_manager()

    class Meta(Run.Meta):
        verbose_name = _("job run")
        verbose_name_plural = _("job runs")
        permissions = [("run_job", "Can run, cancel and retry jobs")]
        constraints = [models.UniqueConstraint(fields=["name", "slot"], name="job_run_slot_unique")]
        indexes = [
            models.Index(fields=["state", "due_at"], name="job_run_open", condition=Q(state__in=["queued", "running"])),
            models.Index(fields=["name", "-due_at"], name="job_run_of_job"),
            models.Index(fields=["-progressed_at"], name="job_run_progress"),
        ]

    @property
    def shown(self) -> dict:
        """Of the counts; what begins with an underscore is the job's own note for its next run."""
        return {name: count for name, count in self.counts.items() if not name.startswith("_")}


def is_http_url(value: str) -> None:
    URLValidator(schemes=["http", "https"])(value)


class JobSchedule(CrmModel):
    """What the office may change of a schedule in crm.schedules; an empty time or weekday is the shipped one. Slots before
    `since` are none of its own: it moves on when a pause ends."""

    name = models.CharField(_("job"), max_length=60, unique=True, editable=False)
    at = models.TimeField(_("time"), null=True, blank=True, help_text=_("Empty: the usual time."))
    weekday = models.PositiveSmallIntegerField(_("weekday"), choices=Weekday, null=True, blank=True)
    is_paused = models.BooleanField(_("paused"), default=False)
    ping_url = models.CharField(
        _("ping address"),
        max_length=300,
        blank=True,
        validators=[is_http_url],
        help_text=_("Called when the job is done; with /start at its beginning and /fail when it failed."),
    )
    since = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(CrmModel.Meta):
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, **kwargs):
        if not self.is_paused and JobSchedule.objects.filter(pk=self.pk, is_paused=True).exists():
            self.since = timezone.now()
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], "since"}
        super().save(**kwargs)

    def clean(self):
        if self.at and (self.at.second or self.at.microsecond):
            raise ValidationError({"at": _("Hours and minutes only.")})


class HeartbeatQuerySet(models.QuerySet):
    def beat(self, worker: str, at: datetime.datetime) -> None:
        if not self.filter(pk=worker).update(at=at):
            self.bulk_create([self.model(worker=worker, at=at, since=at)], ignore_conflicts=True)


class Heartbeat(models.Model):
    """A worker by the name that it gave itself, and when a task of ours last ran in it."""

    worker = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField(db_index=True)
    since = models.DateTimeField()

    objects = HeartbeatQuerySet.as_manager()
