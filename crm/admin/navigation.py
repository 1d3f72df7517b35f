"""Sidebar, the command palette's client search, and what else Unfold asks by dotted name."""

from django.templatetags.static import static


def sidebar(request):
    return []


def stylesheet(request):
    return static("crm/admin.css")


def environment(request):
    return None


def search_clients(request, search_term):
    return []
