"""The words of messages, as the office edits them: shown as they are in force, checked before they are saved, tried on a
real case and in one's own mailbox. The rules of a text are crm.texts'."""

import dataclasses
import hashlib

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from crm import outbox, previews, texts
from crm.admin.base import STYLES, CrmAdmin, require
from crm.admin.forms import CrmForm, CrmModelForm
from crm.admin.pages import form_page
from crm.admin.ui import ChoicesDropdownFilter, TextareaWidget, TextInputWidget, action, display
from crm.admin.users import is_administrator
from crm.exceptions import BrokenText
from crm.models import Case, MessageText
from crm.models.messages import TEST
from crm.texts.language import FILTERS, TAGS

TEXT_STYLES = {"all": (*STYLES["all"], "crm/texts.css")}
CODE = {"spellcheck": "false", "class": "crm-code"}


class SourceField(forms.CharField):
    def to_python(self, value):
        return super().to_python(value).replace("\r\n", "\n")


class MessageTextForm(CrmModelForm):
    """Of the words in force. What is typed like the shipped text is stored empty, so that it follows later versions."""

    subject = SourceField(label=_("Subject"), max_length=200, widget=TextInputWidget(CODE), required=False)
    body = SourceField(label=_("Text"), widget=TextareaWidget({**CODE, "rows": 16}), required=False)
    html = SourceField(
        label="HTML",
        widget=TextareaWidget({**CODE, "rows": 8}),
        required=False,
        help_text=_("Empty: it is made of the text. What stands here is put into the common layout."),
    )

    class Meta:
        model = MessageText
        fields = texts.FIELDS

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        kind, language = self.instance.kind, self.instance.language
        self.shipped = texts.shipped(kind, language) if kind in texts.KINDS else texts.Wording(kind, language, "", "")
        for name in texts.FIELDS:
            self.initial[name] = self.value_in(self.instance, name)
        if self.shipped.html:
            self.fields["html"].help_text = _("What stands here is put into the common layout.")

    def value_in(self, row, name: str) -> str:
        return getattr(row, name) or getattr(self.shipped, name)

    def stored(self, name: str) -> str:
        return self.value_in(self.instance, name)

    def clean_subject(self) -> str:
        return self._checked("subject")

    def clean_body(self) -> str:
        return self._checked("body")

    def clean_html(self) -> str:
        return self._checked("html")

    def _checked(self, name: str) -> str:
        source = self.cleaned_data[name] or getattr(self.shipped, name)
        if source:
            try:
                texts.check(self.shipped.kind, self.shipped.language, name, source)
            except BrokenText as error:
                raise ValidationError(str(error), code="broken") from None
        return source

    def clean(self):
        cleaned = super().clean()
        for name in cleaned.keys() & set(texts.FIELDS):
            if cleaned[name] == getattr(self.shipped, name):
                cleaned[name] = ""
        return cleaned

    def wording(self) -> texts.Wording:
        """What is typed, once it is valid."""
        own = {name: self.cleaned_data[name] for name in texts.FIELDS if self.cleaned_data[name]}
        return dataclasses.replace(self.shipped, **own)


class CaseForm(CrmForm):
    """On what a text is tried."""

    reference = forms.CharField(
        label=_("Reference of a case"), max_length=20, required=False, widget=TextInputWidget({"autocomplete": "off"})
    )

    def __init__(self, data, user):
        super().__init__(data)
        self.user = user
        self.case = None

    def clean_reference(self) -> str:
        reference = self.cleaned_data["reference"]
        if reference:
            seen = Case.objects.visible_to(self.user) if self.user.has_perm("crm.view_case") else Case.objects.none()
            self.case = seen.select_related("client").filter(reference__iexact=reference).first()
            if self.case is None:
                raise ValidationError(_("There is no such case, or you may not see it."), code="unknown")
        return reference


@admin.register(MessageText)
class MessageTextAdmin(CrmAdmin):
    form = MessageTextForm
    list_display = ("kind", "language", "whose")
    list_display_links = ("kind", "language")
    list_filter = (("kind", ChoicesDropdownFilter), ("language", ChoicesDropdownFilter))
    ordering = ("kind", "language")
    actions_detail = ("as_shipped",)
    change_form_after_template = "admin/crm/text_beside.html"

    class Media:
        css = TEXT_STYLES

    def has_add_permission(self, request):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        """Of a kind that a later version dropped the row stays to be read. Mails with a link for the password are worded by
        administrators alone: another could have an administrator's link told to a server of his own."""
        may = super().has_change_permission(request, obj) and (obj is None or obj.kind in texts.KINDS)
        return may and (obj is None or obj.kind not in outbox.WITH_LINK or is_administrator(request.user))

    def get_fields(self, request, obj=None):
        if obj and obj.kind not in texts.KINDS:
            return texts.FIELDS
        return texts.FIELDS if self.has_change_permission(request, obj) else ("said_subject", "said_body", "said_html")

    def get_readonly_fields(self, request, obj=None):
        return () if self.has_change_permission(request, obj) else self.get_fields(request, obj)

    def get_urls(self):
        def url(name, view):
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"crm_messagetext_{name}")

        return [url("preview", self.preview_view), url("test", self.test_view), *super().get_urls()]

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj and obj.kind in texts.KINDS:
            context["variables"] = list(listed(texts.KINDS[obj.kind].variables))
            context["tags"], context["filters"] = TAGS, sorted(FILTERS)
            context["has_cases"] = obj.kind in previews.OF_CASES
        return super().render_change_form(request, context, add, change, form_url, obj)

    # --- Columns ---

    @display(description=_("words"))
    def whose(self, text):
        return gettext("The office's own") if text.subject or text.body or text.html else gettext("As shipped")

    @display(description=_("subject"))
    def said_subject(self, text):
        return texts.in_force(text.kind, text.language).subject

    @display(description=_("text"))
    def said_body(self, text):
        return texts.in_force(text.kind, text.language).body

    @display(description="HTML")
    def said_html(self, text):
        return texts.in_force(text.kind, text.language).html or "–"

    # --- Tried, not saved ---

    @method_decorator(require_POST)
    def preview_view(self, request, pk):
        return self._tried(request, pk)

    @method_decorator(require_POST)
    def test_view(self, request, pk):
        return self._tried(request, pk, act=send_test)

    def _tried(self, request, pk, act=None):
        row = get_object_or_404(self.get_queryset(request), pk=pk)
        require(self.has_change_permission(request, row))
        form = self.get_form(request, row)(request.POST, instance=row)
        on = CaseForm(request.POST, request.user)
        said = None
        if form.is_valid() & on.is_valid():
            try:
                said = form.wording().as_written(_context(row, on.case, request.user))
            except BrokenText as error:
                form.add_error(None, str(error))
            else:
                if act:
                    act(request, row, said)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Preview"),
            "about": row,
            "media": forms.Media(css=TEXT_STYLES),
            "typed": {name: request.POST.get(name, "") for name in texts.FIELDS},
            "errors": [
                f"{form.fields[name].label}: {error}" if name in form.fields else error
                for name, found in form.errors.items()
                for error in found
            ],
            "on": on,
            "said": said,
            "row": row,
            "has_cases": row.kind in previews.OF_CASES,
        }
        return render(request, "admin/crm/text_preview.html", context)

    # --- Back ---

    def has_as_shipped_permission(self, request, object_id=None):
        return self.has_change_permission(request)

    @action(description=_("Return to the shipped text"), url_path="as-shipped", permissions=["as_shipped"])
    def as_shipped(self, request, object_id):
        row = self.visible_or_404(request, object_id)
        require(self.has_change_permission(request, row))
        back = reverse("admin:crm_messagetext_change", args=[row.pk])

        def act(form):
            row.subject = row.body = row.html = ""
            row.save()
            messages.success(request, gettext("The text is as shipped. What stood there is in its history."))
            return HttpResponseRedirect(back)

        return form_page(
            self, request, CrmForm, act, title=gettext("Return to the shipped text"), about=str(row), back=back,
            submit=gettext("Return to the shipped text"), danger=True,
        )  # fmt: skip


def _context(row: MessageText, case: Case | None, user) -> dict:
    if case is None or row.kind not in previews.OF_CASES:
        return texts.sample(row.kind, row.language)
    return previews.context(row.kind, row.language, case, now=timezone.now(), by_name=str(user))


def send_test(request, row: MessageText, said: texts.Text) -> None:
    """One message to the person's own address, by way of the outbox; the same words once a minute."""
    user = request.user
    if not user.email:
        messages.error(request, gettext("Your user has no e-mail address, so there is nowhere to send a test."))
        return
    with translation.override(row.language):
        subject = gettext("Test: %(subject)s") % {"subject": said.subject}
    digest = hashlib.sha256("\0".join([said.subject, said.body, said.html]).encode()).hexdigest()
    message = outbox.message(
        TEST, to=user.email, user=user, subject=subject, body=said.body, html=said.html, language=row.language,
        about=[user.pk, digest, f"{timezone.now():%Y-%m-%d %H:%M}"],
    )  # fmt: skip
    if outbox.put([message]):
        messages.success(request, gettext("A test is in the outbox, to %(address)s.") % {"address": user.email})
    else:
        messages.info(request, gettext("This very test was put into the outbox a moment ago."))


def listed(variables: dict, owner: str = "", depth: int = 0):
    """Each variable as it is written, what it is, and how deep in loops it stands."""
    for name, about in variables.items():
        full = f"{owner}.{name}" if owner else name
        if isinstance(about, texts.Rows):
            row = name.removesuffix("s")
            yield f"{{% for {row} in {full} %}}", about.about, depth
            yield from listed(about.parts, row, depth + 1)
            yield "{% endfor %}", "", depth
        else:
            yield f"{{{{ {full} }}}}", about, depth
