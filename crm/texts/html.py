"""HTML of a message: the office's own inside the one layout, or made of the text."""

import re
from collections.abc import Iterator
from html import escape

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

_ADDRESS = re.compile(r"https?://[^\s<>\"']+")
_ENDS_SENTENCE = ".,;:!?)"
_WHOLE_PAGE = ("<!doctype", "<html")
_P, _UL, _LI = "margin:0 0 16px", "margin:0 0 16px;padding:0 0 0 20px", "margin:0 0 8px"


def page(content: str, *, language: str, title: str) -> str:
    """`content` is HTML already. A whole page stays as it is."""
    if content.lstrip().lower().startswith(_WHOLE_PAGE):
        return content
    context = {"content": mark_safe(content), "language": language, "title": title}  # noqa: S308
    return render_to_string("mail/layout.html", context)


def from_text(text: str, link: str = "") -> str:
    """Paragraphs, lists of the lines that begin with a dash, links; what stands right above a list is its heading. `link`
    is made a link too, whatever it looks like."""
    blocks = (block.split("\n") for block in re.split(r"\n\s*\n", text.strip("\n")))
    return "\n".join(part for lines in blocks for part in _parts(lines, link))


def _parts(lines: list[str], link: str) -> Iterator[str]:
    plain: list[str] = []
    items: list[list[str]] = []
    for line in lines:
        if line.startswith("- "):
            items.append([line[2:]])
        elif items and line.startswith(" "):
            items[-1].append(line.strip())
        else:
            yield from _written(plain if items else [], items, link)
            plain, items = ([line], []) if items else ([*plain, line], [])
    yield from _written(plain, items, link)


def _written(plain: list[str], items: list[list[str]], link: str) -> Iterator[str]:
    if plain:
        lines = _lines(plain, link)
        yield f'<p style="{_P}">{f"<strong>{lines}</strong>" if items else lines}</p>'
    if items:
        yield f'<ul style="{_UL}">'
        yield from (f'<li style="{_LI}">{_lines(item, link)}</li>' for item in items)
        yield "</ul>"


def _lines(lines: list[str], link: str) -> str:
    return "<br>\n".join(_linked(line, link) for line in lines)


def _linked(line: str, link: str) -> str:
    """Escaped: whatever comes from here is markup already."""
    found, end = [], 0
    for match in re.finditer(f"{re.escape(link)}|{_ADDRESS.pattern}" if link else _ADDRESS.pattern, line):
        address = match[0] if match[0] == link else match[0].rstrip(_ENDS_SENTENCE)
        shown = escape(address)
        found += [escape(line[end : match.start()]), f'<a href="{shown}">{shown}</a>']
        end = match.start() + len(address)
    return "".join([*found, escape(line[end:])])
