"""What somebody wants to see in his exports of a list: the columns that he chose last, and presets under a name, his own or
shared. What his role does not allow is left out of what he is offered, and said."""

from django.apps import apps
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import IntegrityError, transaction
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from crm import exports
from crm.exceptions import CrmError, NotAllowed
from crm.models import ExportChoice, ExportPreset, ExportRun

SHARE_RIGHT = "crm.share_exportpreset"


class NameTaken(CrmError):
    message = _("You have a preset of this name already.")


class SentRegularly(CrmError):
    message = _("This preset is sent regularly. End that first.")


class SearchIsPrivate(CrmError):
    message = _(
        "What this list is searched for may be a name, which everybody would read. Share it without the search, or keep it "
        "to yourself."
    )


def remember(run: ExportRun) -> None:
    wanted = {"format": run.format, "columns": run.columns}
    ExportChoice.objects.update_or_create(user=run.user, model=run.model, defaults=wanted)


def last_choice(user, model) -> ExportChoice | None:
    return ExportChoice.objects.filter(user=user, model=model._meta.model_name).first()


def of_list(user, model):
    """His own first; of others none that says what was searched for."""
    found = ExportPreset.objects.visible_to(user).filter(model=model._meta.model_name).select_related("user")
    shown = [preset for preset in found if preset.user_id == user.pk or not is_searched(preset)]
    return sorted(shown, key=lambda preset: preset.user_id != user.pk)


def is_searched(preset: ExportPreset) -> bool:
    return bool(QueryDict(preset.query).get(SEARCH_VAR))


def usable(user, model, columns: list[str]) -> tuple[list[str], list[str]]:
    """Those that he is offered, and the labels of those that he is not."""
    known = {each.name: each.label for each in exports.columns_of(model)}
    may = {each.name for each in exports.offered(user, model)}
    return [name for name in columns if name in may], [known.get(name, name) for name in columns if name not in may]


def model_of(preset: ExportPreset):
    return apps.get_model("crm", preset.model)


def save(preset: ExportPreset, *, by, is_shared: bool) -> ExportPreset:
    """A new one, or what its owner changed. Raises NotAllowed, SearchIsPrivate and NameTaken."""
    if preset.user_id != by.pk or (is_shared and not preset.is_shared and not by.has_perm(SHARE_RIGHT)):
        raise NotAllowed()
    if is_shared and is_searched(preset):
        raise SearchIsPrivate()
    preset.is_shared = is_shared
    try:
        with transaction.atomic():
            preset.save()
    except IntegrityError as error:
        raise NameTaken() from error
    return preset


def delete(preset: ExportPreset, *, by) -> None:
    """Raises NotAllowed, and SentRegularly while somebody gets it by the calendar."""
    if preset.user_id != by.pk:
        raise NotAllowed()
    if preset.schedules.exists():
        raise SentRegularly()
    preset.delete()
