"""Two people, one record: a form knows the version it was opened at, and merges field by field with what stands now.

What I did not touch takes the other's value; what only I touched is mine; where both of us changed one field, I choose.
Until I have chosen, nothing is saved and all I typed stays in the form."""

import json
from itertools import pairwise

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import OuterRef, Subquery
from django.forms.formsets import DELETION_FIELD_NAME
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from crm import values
from crm.admin.ui import PaginationInlineFormSet
from crm.audit.changes import readable, told_fields
from crm.encryption import Unreadable
from crm.models.history import is_tracked, tracked_names

VERSIONS = "_versions"
MINE, THEIRS = "mine", "theirs"
MOST = 2**63
READ = 100  # of what others wrote meanwhile, to name who it was


def with_version(rows: models.QuerySet) -> models.QuerySet:
    """Each row with the id of its newest history row, read in the same statement."""
    if not is_tracked(rows.model):
        return rows
    key = rows.model._meta.pk.attname
    newest = rows.model.history.model.objects.filter(**{key: OuterRef("pk")}).order_by("-history_id")
    return rows.annotate(history_version=Subquery(newest.values("history_id")[:1]))


def versions(forms) -> str:
    """What the page carries: `{"client:12": 345}`."""
    known = {_name(form.instance): form.opened_at for form in forms if getattr(form, "opened_at", None)}
    return json.dumps(known)


def _name(row) -> str:
    return f"{row._meta.model_name}:{row.pk}"


class MergingFormMixin:
    """Of a model form. It merges where its instance came from `with_version`."""

    # The version that the page shows, which its next POST is compared with.
    opened_at: int | None = None
    # Who -> the fields of another's that stay, for the message after the save.
    told: dict[str, list[str]]
    # Of a row whose deletion is ticked: another changed it since, and nobody has looked at that yet.
    is_deletion_asked: bool = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.opened_at = getattr(self.instance, "history_version", None)
        self.told = {}

    def _clean_fields(self):
        super()._clean_fields()
        if self.instance.pk and hasattr(self.instance, "history_version"):
            self._merge()

    # --- What is compared; a form with a field that is no column of its own says more ---

    def merged_names(self) -> set[str]:
        return self.fields.keys() & tracked_names(type(self.instance))

    def value_in(self, row, name: str):
        """Of the record or of one of its history rows."""
        return getattr(row, self.instance._meta.get_field(name).attname)

    def shown(self, value, name: str) -> str:
        column = self.instance._meta.get_field(name)
        if column.is_relation and value is not None:
            found = column.related_model._base_manager.filter(pk=value).first()
            return str(found or f"#{value}")
        return readable(value, column)

    # --- The merge ---

    def _merge(self) -> None:
        rows, is_known = self._since_opened()
        if self.cleaned_data.get(DELETION_FIELD_NAME):
            self._decide_deletion(rows, is_known=is_known)
            return
        base = rows[0] if rows else self.instance
        mine_only, decided = [], set()
        for name in [name for name in self.fields if name in self.merged_names() & self.cleaned_data.keys()]:
            then, theirs = self.value_in(base, name), self.value_in(self.instance, name)
            if self.fields[name].disabled:
                self._give_back(name, then, theirs)
                continue
            mine = self.cleaned_data[name]
            mine = mine.pk if isinstance(mine, models.Model) else mine
            if _same(mine, theirs) or _same(mine, then) or isinstance(then, Unreadable):
                self._take(name, theirs)
            elif _same(theirs, then):
                mine_only.append(name)
            else:
                decided.add(name)
                self._decide(name, then, theirs, rows)
        if mine_only and not is_known:
            self._refuse_unknown(mine_only)
        self._tell(rows, decided)

    def _since_opened(self) -> tuple[list, bool]:
        """The history from the version that the form was opened at, oldest first; nothing where nobody wrote since.
        And whether that version is known: a page from long ago, or one that was never ours, does not say."""
        try:
            given = json.loads(self.data.get(VERSIONS) or "{}").get(_name(self.instance))
        except (ValueError, AttributeError, RecursionError):
            given = None
        now = self.instance.history_version
        if given == now:
            return [], True
        if type(given) is int and 0 < given < MOST:
            rows = list(self.instance.history.filter(history_id__gte=given).order_by("-history_id")[:READ])[::-1]
            base = rows[0] if rows and rows[0].history_id == given else self._version(given)
            if base is not None:
                self.opened_at = given
                return [base, *(row for row in rows if row.history_id != given)], True
        return [], False

    def _version(self, given: int):
        return self.instance.history.filter(history_id=given).first()

    def _refuse_unknown(self, names: list[str]) -> None:
        stored = [f"{self._label(name)}: “{self.shown(self.value_in(self.instance, name), name)}”" for name in names]
        self.add_error(
            None,
            ValidationError(
                _(
                    "This page does not say when it was opened, so nobody can tell what others changed since. Stored "
                    "now is %(fields)s. Nothing was saved; save again to write what stands here."
                )
                % {"fields": ", ".join(stored)},
                code="unknown_version",
            ),
        )

    def _take(self, name: str, theirs) -> None:
        mine = self.cleaned_data[name]
        if not isinstance(mine, models.Model) or mine.pk != theirs:
            self.cleaned_data[name] = self.stored(name)

    def stored(self, name: str):
        """As `cleaned_data` would hold what stands in the table."""
        return getattr(self.instance, name)

    def _give_back(self, name: str, then, theirs) -> None:
        """A field that could be typed into when the page was opened and cannot any more."""
        typed = self.fields[name].widget.value_from_datadict(self.data, self.files, self.add_prefix(name))
        if not typed or isinstance(theirs, Unreadable):
            return
        try:
            is_typed = not _same(self.fields[name].to_python(typed), then)
        except ValidationError:
            is_typed = True
        if is_typed:
            text = _("Meanwhile this cannot be changed any more. You typed “%(typed)s”: copy it, and save again.")
            self.add_error(name, ValidationError(text % {"typed": typed}, code="closed"))

    def _decide(self, name: str, then, theirs, rows: list) -> None:
        """Both changed it: as was answered in the form that asked, else it asks."""
        version = self.instance.history_version
        asked = f"_decide-{self.add_prefix(name)}"
        answer = self.data.get(asked)
        if answer == f"{MINE}:{version}":
            return
        if answer == THEIRS:
            self._take(name, theirs)
            return
        row = self._last_change(name, rows)
        self.add_error(
            name,
            ValidationError(
                format_html(
                    '<span class="crm-conflict">{} <label><input type="radio" name="{}" value="{}"> {}</label> '
                    '<label><input type="radio" name="{}" value="{}"> {}</label></span>',
                    _("%(who)s changed this on %(when)s from “%(old)s” to “%(new)s”.")
                    % {
                        "who": row.history_user_name or _("Somebody"),
                        "when": values.moment(row.history_date),
                        "old": self.shown(then, name),
                        "new": self.shown(theirs, name),
                    },
                    asked,
                    f"{MINE}:{version}",
                    _("Keep what I typed"),
                    asked,
                    THEIRS,
                    _("Take the other value"),
                ),
                code="conflict",
            ),
        )

    def _decide_deletion(self, rows: list, *, is_known: bool) -> None:
        """What another wrote meanwhile goes with a deleted row: whoever ticked it looks at that, and ticks again."""
        changes = [
            _("%(who)s changed %(field)s from “%(old)s” to “%(new)s”.")
            % {
                "who": self._last_change(name, rows).history_user_name or _("Somebody"),
                "field": self._label(name),
                "old": self.shown(self.value_in(rows[0], name), name),
                "new": self.shown(self.value_in(rows[-1], name), name),
            }
            for name in self._changed_since(rows)
        ]
        if not is_known:
            changes = [_("This page does not say when it was opened, so nobody can tell what others changed since.")]
        asked, answer = f"_decide-{self.add_prefix(DELETION_FIELD_NAME)}", f"{MINE}:{self.instance.history_version}"
        self.is_deletion_asked = bool(changes) and self.data.get(asked) != answer
        if self.is_deletion_asked:
            self.add_error(
                None,
                ValidationError(
                    format_html(
                        '<span class="crm-conflict">{} <label><input type="checkbox" name="{}" value="{}"> {}</label>'
                        "</span>",
                        " ".join(changes),
                        asked,
                        answer,
                        _("Delete this row all the same"),
                    ),
                    code="conflict",
                ),
            )

    def _last_change(self, name: str, rows: list):
        """Who gave the field the value that it has now."""
        for before, after in reversed(list(pairwise(rows))):
            if not _same(self.value_in(before, name), self.value_in(after, name)):
                return after
        return rows[-1]

    def _tell(self, rows: list, decided: set[str]) -> None:
        for name in self._changed_since(rows):
            if name not in decided:
                who = self._last_change(name, rows).history_user_name or _("Somebody")
                self.told.setdefault(who, []).append(self._label(name))

    def _changed_since(self, rows: list) -> list[str]:
        names = [field.name for field in told_fields(type(self.instance))] if rows else []
        names += [name for name in self.merged_names() if name not in names] if rows else []
        return [name for name in names if not _same(self.value_in(rows[0], name), self.value_in(rows[-1], name))]

    def _label(self, name: str) -> str:
        if name in self.fields:
            label = self.fields[name].label
        else:
            label = self.instance._meta.get_field(name).verbose_name
        own = capfirst(str(label))
        return f"{capfirst(str(self.instance._meta.verbose_name))} – {own}" if self.prefix else own


def _same(one, other) -> bool:
    """A browser sends every line break as two characters, and nothing for nothing."""
    if isinstance(one, str) and isinstance(other, str):
        return one.replace("\r\n", "\n") == other.replace("\r\n", "\n")
    return one == other or (one in (None, "") and other in (None, ""))


class MergingInlineFormSet(PaginationInlineFormSet):
    """Says what became of a row that somebody deleted while it was being edited here, and deletes none that somebody
    edited meanwhile."""

    def _should_delete_form(self, form):
        return super()._should_delete_form(form) and not getattr(form, "is_deletion_asked", False)

    def _existing_object(self, pk):
        found = super()._existing_object(pk)
        if found is None:  # new rows of others moved it to another page meanwhile
            found = self._object_dict[pk] = self.queryset.filter(pk=pk).first()
        return found

    def clean(self):
        super().clean()
        for form in self.initial_forms:
            if form.instance.pk is None and not self._should_delete_form(form):
                form.add_error(
                    None,
                    _("Somebody deleted this row meanwhile. Tick its deletion, or copy what you typed into a new row."),
                )
