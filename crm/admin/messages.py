"""Messages that left the office, or wait to: seen, searched, and sent again. Nothing here speaks to a mail server."""

from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from crm import outbox, search
from crm.admin import badges
from crm.admin.base import ReadOnlyAdmin, back_to, require
from crm.admin.exports import ExportAdminMixin
from crm.admin.ui import ChoicesDropdownFilter, display
from crm.models import MessageLog
from crm.models.messages import error_label, kind_label
from crm.models.operations import current_user

RESEND = "crm.resend_message"


@admin.register(MessageLog)
class MessageLogAdmin(ExportAdminMixin, ReadOnlyAdmin):
    list_display = ("created_at", "subject", "about", "case", "state_badge", "sent_at", "attempts", "said", "buttons")
    list_display_links = ("created_at", "subject")
    list_select_related = ("case",)
    list_after_template = "admin/crm/post_form.html"
    list_filter = (("state", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter), "created_at")
    search_fields = ("subject", "case__reference")
    search_help_text = _("Subject, reference of a case, or the recipient's whole address")
    fields = (
        "created_at", "about", "case", "recipient", "subject", "text", "state_badge", "attempts", "next_try_at", "expires_at",
        "sent_at", "said",
    )  # fmt: skip

    def get_urls(self):
        resend = self.admin_site.admin_view(self.resend_view)
        return [path("<int:pk>/resend/", resend, name="crm_messagelog_resend"), *super().get_urls()]

    def get_search_results(self, request, queryset, search_term):
        if "@" in search_term:
            folded = search.fold_value(search.Kind.EMAIL, search.clean(search_term))
            return queryset.filter(recipient_digest=search.digest(search.Kind.EMAIL, folded)), False
        return super().get_search_results(request, queryset, search_term)

    @method_decorator(require_POST)
    def resend_view(self, request, pk):
        require(request.user.has_perm(RESEND))
        message = self.visible_or_404(request, str(pk))
        if outbox.resend(message):
            messages.success(request, gettext("The message will be sent again."))
        else:
            messages.error(request, gettext("The message has arrived, or waits to be sent anyway."))
        return HttpResponseRedirect(back_to(request, reverse("admin:crm_messagelog_changelist")))

    @display(description=_("kind"), ordering="kind")
    def about(self, message):
        return kind_label(message.kind)

    @display(description=_("state"), ordering="state")
    def state_badge(self, message):
        return badges.choice(message.state, message.get_state_display())

    @display(description=_("text"))
    def text(self, message):
        return str(message.body).replace(outbox.LINK, gettext("[one-time link]"))

    @display(description=_("reason"), ordering="error")
    def said(self, message):
        return error_label(message.error)

    @display(description=_("actions"))
    def buttons(self, message):
        user = current_user()
        if not outbox.may_resend(message) or user is None or not user.has_perm(RESEND):
            return ""
        return format_html(
            '<button type="submit" form="crm-post" formaction="{}" class="hd-button">{}</button>',
            reverse("admin:crm_messagelog_resend", args=[message.pk]),
            gettext("Send again"),
        )
