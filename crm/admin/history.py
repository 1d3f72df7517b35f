"""The history pages: a paged list that loads no encrypted column of the record, and one version beside the one before.

Nothing is reverted here: a version is looked at, and put right in the form, so that the correction has a name and a time.
"""

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.http import Http404
from django.shortcuts import render
from django.utils.translation import gettext as _

from crm import values
from crm.admin.paging import CappedPaginator
from crm.audit.changes import describe, told_fields, whole
from crm.encryption import encrypted_names
from crm.models.base import sees_all_cases

PER_PAGE = 50
REASON = "history_change_reason"


def changed_labels(record, before, fields) -> list[str]:
    return [
        str(field.verbose_name) for field in fields if getattr(record, field.attname) != getattr(before, field.attname)
    ]


class HistoryPages:
    object_history_list_template = "admin/crm/history.html"
    object_history_form_template = "admin/crm/version.html"

    def _history_owner(self, request, object_id):
        """The record, or None for one that was deleted; 404 for a foreign one, 403 without permission."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        found = self.get_object(request, object_id)
        if found is not None:
            return found
        try:
            key = self.opts.pk.to_python(object_id)
        except (ValidationError, ValueError) as error:
            raise Http404 from error
        # Whose a deleted record was cannot be asked any more, so only who sees everything sees its history.
        stands = self.model._default_manager.filter(pk=key).exists()
        if stands or not sees_all_cases(request.user):
            raise Http404
        if not self.model.history.filter(**{self.opts.pk.attname: key}).exists():
            raise Http404
        return None

    def _history_rows(self, object_id):
        return self.model.history.filter(**{self.opts.pk.attname: object_id}).order_by("-history_date", "-history_id")

    def history_view(self, request, object_id, extra_context=None):
        owner = self._history_owner(request, object_id)
        rows = self._history_rows(object_id)
        plain = [field for field in told_fields(self.model) if field.name not in encrypted_names(self.model)]
        rows = rows.defer(*(encrypted_names(rows.model) - {REASON}))
        page = CappedPaginator(rows, PER_PAGE).get_page(request.GET.get("p"))
        start = (page.number - 1) * PER_PAGE
        # One more than the page shows: the last one's changes are against it.
        records = list(rows[start : start + PER_PAGE + 1])
        entries = []
        for record, before in zip(records, [*records[1:], None], strict=True):
            changes = changed_labels(record, before, plain) if before and record.history_type == "~" else []
            entries.append({"record": record, "when": values.moment(record.history_date), "changes": changes})
        context = {
            **self._history_context(request, object_id, owner),
            "title": _("History of %(name)s") % {"name": owner or f"{self.opts.verbose_name} {object_id}"},
            "entries": entries[:PER_PAGE],
            "page": page,
            **(extra_context or {}),
        }
        return render(request, self.object_history_list_template, context)

    def history_form_view(self, request, object_id, version_id, extra_context=None):
        owner = self._history_owner(request, object_id)
        if request.method == "POST":
            raise PermissionDenied
        rows = self._history_rows(object_id)
        try:
            record = rows.get(history_id=version_id)
        except (ObjectDoesNotExist, ValueError) as error:
            raise Http404 from error
        [change] = describe([record], request.user)
        changed = change.lines if change.before else []
        names = {line.name for line in changed}
        context = {
            **self._history_context(request, object_id, owner),
            "title": _("One version of %(name)s") % {"name": owner or f"{self.opts.verbose_name} {object_id}"},
            "record": record,
            "when": values.moment(record.history_date),
            "before": change.before,
            "changed": changed,
            "same": [line for line in whole(record, request.user) if line.name not in names],
            **(extra_context or {}),
        }
        return render(request, self.object_history_form_template, context)

    def _history_context(self, request, object_id, owner) -> dict:
        request.current_app = self.admin_site.name
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": owner,
            "object_id": object_id,
            "model_admin": self,
            "media": self.media,
        }
