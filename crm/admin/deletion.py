"""Deletions: nothing goes that another changed since the page that asks was opened."""

from django.contrib import messages
from django.contrib.admin.actions import delete_selected
from django.db import models, transaction
from django.http import HttpResponseRedirect
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from crm.exceptions import ClientRestricted, CrmError
from crm.models import Notice, SearchToken
from crm.models.history import is_tracked

SEEN = "seen"
UNSEEN = (Notice, SearchToken)


class ChangedSincePage(CrmError):
    message = _("Something of what would go was changed since this page was opened. Look at it once more.")


class AsSeenDeletion:
    """Of the admin of a record with a history."""

    def render_delete_form(self, request, context):
        context[SEEN] = newest_of(self._to_go([context["object"].pk]))
        return super().render_delete_form(request, context)

    def delete_view(self, request, object_id, extra_context=None):
        try:
            return super().delete_view(request, object_id, extra_context)
        except ChangedSincePage as error:
            messages.warning(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request, obj):
        self.hold_as_seen(request, self._to_go([obj.pk]))
        super().delete_model(request, obj)

    def get_actions(self, request):
        found = super().get_actions(request)
        if "delete_selected" in found:
            _function, *rest = found["delete_selected"]
            found["delete_selected"] = (_delete_selected, *rest)
        return found

    def hold_as_seen(self, request, rows) -> None:
        """Nobody writes to these records any more, nor a new row that would go with them."""
        _lock(rows)
        for model, column in _goes_with(rows.model):
            _lock(model._base_manager.filter(**{f"{column}__in": rows.values("pk")}))
        if request.POST.get(SEEN) != newest_of(rows):
            raise ChangedSincePage()

    def _to_go(self, keys):
        return self.model._base_manager.filter(pk__in=keys)


def records_only(shown: list, counts: dict) -> tuple[list, dict]:
    """What a page of a deletion lists, without the rows that no person ever wrote."""
    prefixes = tuple(f"{capfirst(model._meta.verbose_name)}: " for model in UNSEEN)
    names = {model._meta.verbose_name_plural for model in UNSEEN}

    def of_people(rows: list) -> list:
        kept = [of_people(row) if isinstance(row, list) else row for row in rows]
        return [row for row in kept if row and (isinstance(row, list) or not row.startswith(prefixes))]

    return of_people(shown), {name: count for name, count in counts.items() if name not in names}


def _delete_selected(model_admin, request, queryset):
    rows = model_admin._to_go(list(queryset.values_list("pk", flat=True)))
    if hasattr(rows, "restricted") and rows.restricted().exists():
        messages.error(request, str(ClientRestricted()))
        return None
    try:
        with transaction.atomic():
            if request.POST.get("post"):
                model_admin.hold_as_seen(request, rows)
            answer = delete_selected(model_admin, request, queryset)
    except ChangedSincePage as error:
        messages.warning(request, str(error))
        request.POST = request.POST.copy()
        del request.POST["post"]
        answer = delete_selected(model_admin, request, queryset)
    if answer is not None:
        answer.context_data[SEEN] = newest_of(rows)
    return answer


def newest_of(rows) -> str:
    """Another one as soon as anybody has written to these records or to what goes with them. A query a model."""
    keys = rows.values("pk")
    newest = (
        model.history.filter(**{f"{column}__in": keys}).aggregate(models.Max("history_id"), models.Count("history_id"))
        for model, column in [(rows.model, rows.model._meta.pk.attname), *_goes_with(rows.model)]
    )
    # The number too: of two who write at once, the one with the smaller id may be seen later.
    return ",".join("-".join(map(str, each.values())) for each in newest)


def _goes_with(model) -> list[tuple[type[models.Model], str]]:
    return [
        (relation.related_model, relation.field.attname)
        for relation in model._meta.related_objects
        if relation.on_delete is models.CASCADE and is_tracked(relation.related_model)
    ]


def _lock(rows) -> None:
    list(rows.select_for_update().order_by("pk").values_list("pk"))
