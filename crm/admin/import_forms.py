"""What the import pages ask for: a file or pasted rows, and what the columns are that nobody knows."""

from decimal import Decimal

from django import forms
from django.conf import settings
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import values
from crm.admin import ui
from crm.admin.forms import CrmForm
from crm.imports import columns, mappings
from crm.imports.columns import folded


class UploadForm(CrmForm):
    file = forms.FileField(
        label=_("File"),
        help_text=_(
            "XLSX or CSV, with the names of the columns in the first row; or the older CRM's whole dump, the JSON of its "
            "dumpdata command."
        ),
        widget=ui.FileWidget({"accept": ".csv,.txt,.xlsx,.json"}),
        allow_empty_file=True,  # the reader says what to do about it
        required=False,
    )
    text = forms.CharField(
        label=_("Or rows copied from a spreadsheet"),
        help_text=_("Copy them in Excel with the row of headers, and paste them here."),
        widget=ui.TextareaWidget({"rows": 5, "spellcheck": "false"}),
        required=False,
        strip=False,
    )
    empty_deletes = forms.BooleanField(
        label=_("Empty cells delete values"),
        help_text=_("Of records that the file changes. Otherwise an empty cell leaves what is stored."),
        required=False,
    )

    def clean_file(self):
        file = self.cleaned_data["file"]
        if file and file.size > settings.UPLOAD_LIMIT_MB * 1024 * 1024:
            raise forms.ValidationError(too_large())
        return file

    def clean(self):
        data = super().clean()
        file, text = data.get("file"), (data.get("text") or "").strip("\r\n\ufeff ")
        if not self.errors and file is None and not text:
            self.add_error("file", self.fields["file"].error_messages["required"])
        elif file is not None and text:
            self.add_error("text", _("Choose a file or paste rows, not both."))
        return data

    def content(self) -> tuple[bytes, str]:
        """Bytes and a name for them; one without an ending for what was pasted (see crm.imports.reading)."""
        if file := self.cleaned_data["file"]:
            return file.read(), file.name
        return self.cleaned_data["text"].encode(), gettext("pasted rows")


class ColumnsForm(CrmForm):
    """A choice for each column that nobody knows."""

    def __init__(self, data=None, *, kind: str, asked: list, said: dict[str, str], held: dict[str, str]):
        """`said` is by folded header; `held` are the headers of the file's other columns, by what they hold."""
        super().__init__(data)
        self.kind, self.said, self.held = kind, said, held
        self.headers = {f"column-{index}": header for index, header, _samples in asked}
        choices = [("", _("Leave out")), *mappings.choices_of(kind)]
        for name, header in self.headers.items():
            self.fields[name] = forms.ChoiceField(
                label=header,
                choices=choices,
                required=False,
                widget=ui.SelectWidget(),
                initial=said.get(folded(header)),
            )

    def clean(self):
        data = super().clean()
        taken = dict(self.held)
        for name in self.headers:
            if (target := data.get(name)) and taken.setdefault(target, name) != name:
                self.add_error(name, _("Another column is to hold this already."))
        return data

    def clashes(self) -> list[str]:
        """What was said of two columns before."""
        said = _("Columns “%(first)s” and “%(second)s” mean the same. Leave one of them.")
        same = columns.clashes(self.kind, self.headers.values(), self.said, self.held)
        return [said % {"first": first, "second": second} for first, second in same]

    def chosen(self) -> dict[str, str]:
        return {header: self.cleaned_data[name] for name, header in self.headers.items()}


def too_large() -> str:
    return _("The file is too large: at most %(limit)s MB.") % {"limit": settings.UPLOAD_LIMIT_MB}


def too_much_pasted() -> str:
    most = values.number(Decimal(settings.DATA_UPLOAD_MAX_MEMORY_SIZE) / 1024 / 1024, 1)
    return _("At most %(limit)s MB can be pasted. Save the rows as XLSX or CSV, and choose that file.") % {
        "limit": most
    }
