"""Passwords by a link: asking for one on the login page, and the page that the link leads to. Addresses of their own, for
who is not logged in."""

from http import HTTPStatus

from axes.helpers import get_client_ip_address
from axes.utils import reset
from django import forms
from django.conf import settings
from django.contrib.auth import views as auth
from django.core.cache import cache
from django.urls import path, reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.generic import FormView, TemplateView

from crm import accounts

# From one address of the net; each web process counts its own.
MOST_AN_HOUR = 20
HOUR_S = 60 * 60


class AskForm(forms.Form):
    email = forms.EmailField(
        label=_("Your e-mail"), max_length=254, widget=forms.EmailInput({"autocomplete": "email", "autofocus": True})
    )


class AskView(FormView):
    form_class = AskForm
    template_name = "registration/password_reset_form.html"
    success_url = reverse_lazy("password_reset_done")
    extra_context = {"mail_is_set": lambda: settings.EMAIL_IS_SET}

    def form_valid(self, form):
        if _asked_too_often(self.request):
            form.add_error(None, _("Too many questions came from your network. Try again in an hour."))
            return self.render_to_response(self.get_context_data(form=form), status=HTTPStatus.TOO_MANY_REQUESTS)
        accounts.ask(form.cleaned_data["email"], timezone.now())
        return super().form_valid(form)


def _asked_too_often(request) -> bool:
    key = f"asked:{get_client_ip_address(request)}"
    cache.add(key, 0, timeout=HOUR_S)
    return cache.incr(key) > MOST_AN_HOUR


class SetView(auth.PasswordResetConfirmView):
    def get_user(self, uidb64):
        user = super().get_user(uidb64)
        return user if user and user.is_active else None

    def form_valid(self, form):
        """Whoever reads this person's mail is not one who guesses."""
        reset(username=self.user.username)
        return super().form_valid(form)


urlpatterns = [
    path("", AskView.as_view(), name="admin_password_reset"),
    path(
        "sent/",
        TemplateView.as_view(template_name="registration/password_reset_done.html"),
        name="password_reset_done",
    ),
    path("done/", auth.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("<uidb64>/<token>/", SetView.as_view(), name="password_reset_confirm"),
]
