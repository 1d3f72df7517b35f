"""Walks the admin in Czech, link by link, and looks for English that came through."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from django.urls import Resolver404, resolve, reverse

from crm import roles, translations
from crm.tests import factories

VOID = {"input", "br", "img", "link", "meta", "hr", "path", "source", "col"}
SPOKEN = ("title", "placeholder", "aria-label", "alt")


class Page(HTMLParser):
    """What a person reads or hears on a page, and where its links go."""

    def __init__(self, html: str):
        super().__init__()
        self.said, self.links, self._open = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self._open.append((tag, attrs.get("class") or ""))
        self.said.update(" ".join(attrs[name].split()) for name in SPOKEN if attrs.get(name))
        if tag == "input" and attrs.get("type") in {"submit", "button"}:
            self.said.add(attrs.get("value") or "")
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, classes = self._open[-1] if self._open else ("", "")
        if tag not in {"script", "style"} and "material-symbols" not in classes:
            self.said.add(" ".join(data.split()))


def pages(client, start: str):
    """One page of every kind that the links of the admin reach."""
    waiting, kinds = [start], set()
    while waiting:
        address = waiting.pop(0)
        try:
            kind = resolve(urlsplit(address).path).view_name
        except Resolver404:
            continue
        if kind in kinds or kind.endswith("logout"):
            continue
        kinds.add(kind)
        response = client.get(address)
        if response.status_code == 200 and "text/html" in response.headers.get("content-type", ""):
            page = Page(response.content.decode())
            yield kind, page
            waiting += [urljoin(address, link) for link in page.links]


@pytest.mark.slow
def test_no_page_of_the_admin_shows_english_to_a_czech_reader(client, administrator):
    administrator.language = "cs"
    administrator.save()
    factories.make_case(adviser=administrator, loan_amount_czk=2_000_000, property_price_czk=2_500_000)
    client.force_login(administrator)
    english = {entry.msgid for entry in translations.read() if entry.msgid != entry.msgstr}
    found = {}
    for kind, page in pages(client, reverse("admin:index")):
        # The pages of one role and the history of a user name the group itself.
        known = {*roles.ROLES} if kind.startswith(("admin:auth_group_", "admin:crm_user_simple")) else set()
        found[kind] = page.said & english - known
    assert len(found) > 40
    assert {kind: words for kind, words in found.items() if words} == {}
