"""Erasing a client, by administrators: a page that says what would happen and asks for the reason; and the ledger of erasures."""

from django.contrib import admin, messages
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import privacy, values
from crm.admin import badges
from crm.admin.base import ReadOnlyAdmin
from crm.admin.forms import ReasonForm
from crm.admin.pages import form_page, of_held_record
from crm.admin.ui import ActionVariant, action, display
from crm.audit import past
from crm.choices import ErasureScope
from crm.exceptions import StillActive
from crm.models import Client, Erasure


class ErasureMixin:
    """Of the client's admin."""

    def has_erase_permission(self, request, object_id=None):
        return request.user.has_perm(privacy.RIGHT)

    def get_actions_detail(self, request, object_id):
        """Nobody is erased twice."""
        found = super().get_actions_detail(request, object_id)
        erased = Client.objects.exclude(anonymised_at=None)
        if not str(object_id).isdecimal() or not erased.filter(pk=object_id).exists():
            return found
        return [each for each in found if each.action_name != "crm_client_erase"]

    @action(description=_("Erase …"), url_path="erase", permissions=["erase"], variant=ActionVariant.DANGER)
    @of_held_record(ReasonForm)
    def erase(self, request, object_id):
        client, back = _found(self, request, object_id)

        def acted(form):
            done = privacy.erase(client, by=request.user, now=timezone.now(), reason=form.cleaned_data["reason"])
            messages.success(request, _said(client, done))
            return HttpResponseRedirect(back)

        def prepare(form):
            form.fields["reason"].help_text = _foreseen(client)

        return form_page(
            self,
            request,
            ReasonForm,
            acted,
            title=gettext("Erase"),
            about=client.display_name,
            back=back,
            submit=gettext("Erase"),
            danger=True,
            prepare=prepare,
        )


def _found(model_admin, request, object_id) -> tuple[Client, str]:
    """Also one of the recycle bin; and where the page leads back to."""
    try:
        client = model_admin.visible_or_404(request, object_id)
    except Http404:
        may_look = request.user.has_perm("crm.view_all_cases") and str(object_id).isdecimal()
        for row in past.newest(Client, [object_id] if may_look else []).values():
            return row.instance, f"{reverse('admin:crm_recycle_bin')}?kind=client"
        raise
    return client, reverse("admin:crm_client_change", args=[client.pk])


def erase_url(user, row) -> str:
    """Of a version of a deleted client; empty where there is nothing to erase any more, or this person may not."""
    may = user.has_perm(privacy.RIGHT) and row.instance_type is Client and not row.anonymised_at
    return reverse("admin:crm_client_erase", args=[row.id]) if may else ""


def _foreseen(client: Client) -> str:
    try:
        until = privacy.refuse_active(client.pk)
    except StillActive as refusal:
        return str(refusal)
    if until and until >= timezone.localdate():
        told = gettext(
            "Until %(day)s the law wants the record kept: it is restricted, so nobody writes into it or to the client, and "
            "after that day it is erased by itself."
        ) % {"day": values.date(until)}
    else:
        told = gettext(
            "Everything personal goes now: from the record, its cases and their parts, messages, search and history. The "
            "office's figures stay under the reference. Notes on cases of others, where this client is a party, stay too."
        )
    return f"{told} {gettext('This cannot be undone. Write the reason without names.')}"


def _said(client: Client, done: Erasure) -> str:
    if done.erased_at:
        return gettext("Client %(client)s was erased.") % {"client": client.reference}
    told = gettext("Client %(client)s is restricted, and is erased after %(day)s.")
    return told % {"client": client.reference, "day": values.date(done.kept_until)}


@admin.register(Erasure)
class ErasureAdmin(ReadOnlyAdmin):
    """Of who is not here under this number the ledger knows no more than that."""

    list_display = ("asked", "what", "state", "kept_until", "erased")
    fields = ("asked", "what", "state", "kept_until", "erased")
    readonly_fields = fields
    list_display_links = ("asked",)
    ordering = ("-asked_at", "-pk")

    def get_queryset(self, request):
        same = Client.objects.filter(pk=OuterRef("object_id"), created_at=OuterRef("made_at")).order_by()
        return super().get_queryset(request).annotate(reference=Subquery(same.values("reference")[:1]))

    @display(description=_("asked for"), ordering="asked_at")
    def asked(self, erasure):
        return values.moment(erasure.asked_at)

    @display(description=_("of what"))
    def what(self, erasure):
        if erasure.scope != ErasureScope.CLIENT or not erasure.reference:
            return f"{erasure.get_scope_display()} #{erasure.object_id}"
        url = reverse("admin:crm_client_change", args=[erasure.object_id])
        return format_html('<a class="hd-link" href="{}">{}</a>', url, erasure.reference)

    @display(description=_("state"))
    def state(self, erasure):
        return badges.badge(*((_("erased"), "ok") if erasure.erased_at else (_("restricted"), "today")))

    @display(description=_("erased"), ordering="erased_at")
    def erased(self, erasure):
        return values.moment(erasure.erased_at) or "–"
