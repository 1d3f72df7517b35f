"""The small page behind an action: a form, one POST, and the rule's answer beside the fields."""

import functools

from django.db import transaction
from django.http import Http404
from django.shortcuts import render

from crm.admin.base import back_to, tell_merged
from crm.admin.merging import versions
from crm.exceptions import CrmError


def of_held_record(form_class):
    """Of a page that does something to one record. A POST holds the record before it is read, as the change form does,
    so that what is merged is what is saved; where the record is gone, what was typed into this form is given back."""

    def decorate(view):
        @functools.wraps(view)
        def page(model_admin, request, object_id):
            if request.method != "POST":
                return view(model_admin, request, object_id)
            with transaction.atomic():
                model_admin.hold_asked(request, object_id)
                try:
                    return view(model_admin, request, object_id)
                except Http404:
                    return model_admin.gone(request, object_id, form_class)

        return page

    return decorate


def form_page(model_admin, request, form_class, act, *, title, about, back, submit, danger=False, prepare=None):
    """`act(form)` does it and returns the response; a CrmError of it is shown on the form. Only a POST acts.

    `prepare(form)` may add fields or widgets that need the request."""
    form = form_class(request.POST if request.method == "POST" else None)
    if prepare:
        prepare(form)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                done = act(form)
        except CrmError as error:
            form.add_error(None, str(error))
        else:
            tell_merged(request, [form])
            return done
    request.current_app = model_admin.admin_site.name
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "model_admin": model_admin,
        "title": title,
        "about": about,
        "form": form,
        "media": model_admin.media + form.media,
        "versions": versions([form]),
        "submit": submit,
        "danger": danger,
        "back": back_to(request, back),
    }
    return render(request, "admin/crm/form_page.html", context)
