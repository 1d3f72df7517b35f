"""The words of every message that leaves the office: subject, text and HTML, in the recipient's language. They ship as
files (`fixtures/texts/`); the office's own stand in MessageText, where an empty one is as shipped. No mail is lost over its
wording: what the office wrote and does not work after all gives way to what shipped."""

import dataclasses
import functools
import json
import logging
import re

from django.conf import settings
from django.utils.html import escape
from django.utils.translation import gettext as _
from django.utils.translation import override

from crm.choices import Language, MessageKind
from crm.exceptions import BrokenText
from crm.models import MessageText
from crm.texts import html as markup
from crm.texts.kinds import KINDS, Kind, Rows
from crm.texts.language import compiled, rendered

__all__ = ["KINDS", "Kind", "Rows", "Text", "Wording", "check", "in_force", "render", "sample", "shipped", "sync"]

logger = logging.getLogger(__name__)
FOLDER = settings.BASE_DIR / "fixtures" / "texts"
FIELDS = ("subject", "body", "html")
LONGEST_SUBJECT = 200
# What a real case may lack: empty, or nought, on many days.
MAY_BE_EMPTY = {
    MessageKind.DEADLINES: {"late", "late_text", "missed_since"},
    MessageKind.RADAR: {"missed_since"},
    MessageKind.WEEKLY_REPORT: {"lenders", "advisers", "days", "head"},
    MessageKind.NOTICES: {"reference", "step", "by", "url"},
    MessageKind.WELCOME: {"name"},
}
# Of what an office wrote, on a real case; what shipped may be as long as its list.
MOST_RENDERED = 1_000_000


@dataclasses.dataclass(frozen=True)
class Text:
    subject: str
    body: str
    html: str


@dataclasses.dataclass(frozen=True)
class Wording:
    """The templates of one kind in one language. Where `html` is empty it is made of the text."""

    kind: str
    language: str
    subject: str
    body: str
    html: str = ""

    def render(self, context: dict) -> Text:
        """`context` gives every variable of the kind, as plain words, numbers and lists."""
        _refuse_other_than_plain(context, KINDS[self.kind].variables)
        try:
            return self.as_written(context)
        except Exception as error:  # whatever it is, the message goes out
            own = shipped(self.kind, self.language)
            if own == self:
                raise
            logger.error("The office's text of %s (%s) failed: %s", self.kind, self.language, type(error).__name__)
            return own.as_written(context)

    def as_written(self, context: dict) -> Text:
        """Raises BrokenText where it cannot be, or where what the office wrote says nothing of this case."""
        own = shipped(self.kind, self.language)
        with override(self.language):
            subject = " ".join(rendered(compiled(self.kind, self.subject, is_subject=True), context).split())
            body = re.sub(r"\n{3,}", "\n\n", rendered(compiled(self.kind, self.body), context)).strip() + "\n"
            if self.html:
                content = rendered(compiled(self.kind, self.html, is_html=True), context)
            else:
                content = markup.from_text(body, context.get("link", ""))
            # Plain again: a page that shows it must not take it for its own markup.
            html = markup.page(content, language=self.language, title=subject)[:]
        for name, made in (("subject", subject), ("body", body), ("html", content)):
            if getattr(self, name) != getattr(own, name):
                _refuse_useless(self.kind, name, made, context)
        if len(body) + len(html) > MOST_RENDERED and self != own:
            raise BrokenText(_("What this text makes is too long."))
        return Text(subject[:LONGEST_SUBJECT], body, html)


def render(kind: str, language: str, context: dict) -> Text:
    """One query. For many messages at once keep what `in_force` returns."""
    return in_force(kind, language).render(context)


def in_force(kind: str, language: str) -> Wording:
    own = shipped(kind, language)
    row = MessageText.objects.filter(kind=kind, language=language).values(*FIELDS).first() or {}
    return dataclasses.replace(own, **{name: text for name, text in row.items() if text})


@functools.cache
def shipped(kind: str, language: str) -> Wording:
    """The first line of the file is the subject, then an empty one, then the text."""
    subject, body = _read(kind, language, "txt").split("\n\n", 1)
    return Wording(kind, language, subject, body.strip(), _read(kind, language, "html").strip())


@functools.cache
def _sample(kind: str, language: str) -> str:
    return _read(kind, language, "json")


def sample(kind: str, language: str) -> dict:
    """A made-up case."""
    return json.loads(_sample(kind, language))


def _read(kind: str, language: str, ending: str) -> str:
    file = FOLDER / f"{MessageKind(kind)}.{Language(language)}.{ending}"
    return file.read_text(encoding="utf-8") if ending != "html" or file.exists() else ""


def check(kind: str, language: str, name: str, source: str) -> None:
    """Raises BrokenText where `source` cannot be the subject, body or html of this kind."""
    if name == "subject" and len(source.splitlines()) > 1:
        raise BrokenText(_("A subject is one line."))
    template = compiled(kind, source, is_html=name == "html", is_subject=name == "subject")
    case = sample(kind, language)
    for context in (case, _bare(kind, case)):
        text = rendered(template, context)
        if name == "subject" and not 0 < len(text.strip()) <= LONGEST_SUBJECT:
            raise BrokenText(_("A subject has 1 to %(most)s characters."), most=LONGEST_SUBJECT)
        if len(text) > MOST_RENDERED:
            raise BrokenText(_("What this text makes is too long."))
        _refuse_useless(kind, name, text, context)


def _bare(kind: str, case: dict) -> dict:
    """The made-up case without what a real one may lack; what is needed has several words, as a stand-in for it may."""
    lacks = MAY_BE_EMPTY.get(kind, set())

    def emptied(value):
        if isinstance(value, list):
            return [emptied(row) for row in value]
        if isinstance(value, dict):
            return {name: type(each)() if name in lacks else emptied(each) for name, each in value.items()}
        return value

    return emptied(case) | {name: f"[one {name}]" for name in KINDS[kind].needed}


def _refuse_useless(kind: str, name: str, text: str, context: dict) -> None:
    """What is of no use to whoever gets it: empty, or without what it is about."""
    if not text.strip():
        raise BrokenText(_("On some cases this text makes an empty message."))
    for needed in KINDS[kind].needed:
        if name != "subject" and context[needed] not in text and escape(context[needed]) not in text:
            raise BrokenText(_("{{ %(name)s }} is missing, and without it the message is of no use."), name=needed)


def sync() -> None:
    """A row for each kind and language; what the office wrote stays."""
    known = set(MessageText.objects.values_list("kind", "language"))
    for kind in MessageKind.values:
        for language in Language.values:
            if (kind, language) not in known:
                MessageText.objects.get_or_create(kind=kind, language=language)


def _refuse_other_than_plain(value, shape, name: str = "context") -> None:
    """An object would bring along what a text may not know, and a string that calls itself safe would not be escaped."""
    if isinstance(shape, Rows):
        if type(value) is not list:
            raise TypeError(f"{name} is no list")
        for row in value:
            _refuse_other_than_plain(row, shape.parts, name)
    elif isinstance(shape, dict):
        if type(value) is not dict or value.keys() != shape.keys():
            raise TypeError(f"{name} has not the parts {', '.join(shape)}")
        for part, inner in shape.items():
            _refuse_other_than_plain(value[part], inner, part)
    elif type(value) not in (str, int, bool):
        raise TypeError(f"{name} is a {type(value).__name__}, not a plain word or number")
