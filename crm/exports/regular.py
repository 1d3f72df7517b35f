"""Presets that are exported by the calendar: each once a week or a month for its person, with his rights and his rows of
that day. He is told in his inbox or by mail, with a link to the run's page; what failed is told too."""

import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from crm import exports
from crm.choices import NoticeChannel, OwnNotice, Rhythm, RunState
from crm.exceptions import CrmError, NotAllowed
from crm.exports import presets, waiting
from crm.models import ExportPreset, ExportRun, ExportSchedule, Notice

FROM = datetime.time(6)
# What the record says of a list's address; the list alone understands it, and is an edge.
FILTERS_OF = "crm.admin.exports.filters_of"


def send(now: datetime.datetime, progress=lambda done: None) -> dict[str, int]:
    """Orders what is due, each slot once, and tells what has ended since."""
    local, ordered = timezone.localtime(now), 0
    if local.time() >= FROM:
        active = ExportSchedule.objects.filter(is_paused=False, user__is_active=True, user__is_staff=True)
        for number, schedule in enumerate(active.select_related("preset", "user").order_by("pk"), 1):
            progress(number)
            ordered += _order(schedule, local.date())
    return {"ordered": ordered, "told": _tell(now)}


def due_on(schedule: ExportSchedule, on: datetime.date) -> datetime.date:
    """The day of the week or month in which `on` is."""
    if schedule.rhythm == Rhythm.WEEKLY:
        return on - datetime.timedelta(days=on.isoweekday() - schedule.day)
    return on.replace(day=schedule.day)


def _order(schedule: ExportSchedule, on: datetime.date) -> bool:
    due = due_on(schedule, on)
    if not schedule.since <= due <= on or ExportRun.objects.filter(schedule=schedule, slot=str(due)).exists():
        return False
    try:
        with transaction.atomic(), translation.override(schedule.user.language):
            _put(schedule, str(due))
    except (waiting.TooManyAtOnce, IntegrityError):
        return False  # tried again in some minutes, or somebody else did it
    return True


def _put(schedule: ExportSchedule, slot: str) -> None:
    user, preset = schedule.user, schedule.preset
    try:
        run = plan(preset, user, schedule.reason)
    except CrmError as error:
        ExportRun.objects.create(
            user=user, user_name=user.get_display_name(), state=RunState.FAILED, finished_at=timezone.now(),
            model=preset.model, format=preset.format, message=str(error), schedule=schedule, slot=slot,
        )  # fmt: skip
    else:
        run.schedule, run.slot = schedule, slot
        waiting.order(run, query=preset.query, selected="")


def plan(preset: ExportPreset, user, reason: str) -> ExportRun:
    """Not saved yet. Raises NotAllowed where he may not use the preset or have all of its columns, and ReasonMissing."""
    if not ExportPreset.objects.visible_to(user).filter(pk=preset.pk).exists():
        raise NotAllowed()
    filtered_by = import_string(FILTERS_OF)(preset.query)
    return exports.planned(presets.model_of(preset), preset.format, user, preset.columns, filtered_by, reason)


def _tell(now: datetime.datetime) -> int:
    """Also of what a killed worker left."""
    waiting.settle(now)
    ended = ExportRun.objects.filter(schedule__isnull=False, told_at=None).exclude(state__in=waiting.IN_WORK)
    return sum(_tell_of(run, now) for run in ended.select_related("schedule__preset").order_by("pk"))


def _tell_of(run: ExportRun, now: datetime.datetime) -> bool:
    channel, is_ready = run.schedule.channel, run.state == RunState.DONE
    with transaction.atomic():
        if not ExportRun.objects.filter(pk=run.pk, told_at=None).update(told_at=now):
            return False
        Notice.objects.create(
            user_id=run.user_id,
            kind=OwnNotice.EXPORT_READY if is_ready else OwnNotice.EXPORT_FAILED,
            detail={"export": run.pk, "name": run.schedule.preset.name},
            in_inbox=not is_ready or channel != NoticeChannel.MAIL,
            wants_mail=channel != NoticeChannel.INBOX,
        )
    return True
