import logging

import pytest
from django.core.management import call_command
from django.utils.safestring import mark_safe

from crm import texts
from crm.choices import Language, MessageKind
from crm.exceptions import BrokenText
from crm.models import MessageText
from crm.texts.language import FILTERS, compiled, rendered

pytestmark = pytest.mark.django_db
EACH = [(kind, language) for kind in MessageKind.values for language in Language.values]
ADDRESS = "https://testserver/admin/crm/case/1/change/"


def event(**parts) -> dict:
    return {"moment": "2026-11-18 10:42", "reference": "H-000012", "what": "Step completed", "step": "", "by": "Bob",
            "url": ADDRESS, **parts}  # fmt: skip


def news(*lines) -> dict:
    return {"count": len(lines), "count_text": f"{len(lines)} events", "lines": list(lines)}


def write(kind="notices", language="en", **fields) -> None:
    MessageText.objects.update_or_create(kind=kind, language=language, defaults=fields)


def refusal(source: str, *, kind="notices", name="body") -> str:
    with pytest.raises(BrokenText) as refused:
        texts.check(kind, "en", name, source)
    return str(refused.value)


# --- What ships ---


@pytest.mark.parametrize(("kind", "language"), EACH)
def test_each_shipped_text_says_its_sample_in_whole_words(kind, language):
    wording = texts.shipped(kind, language)
    for name in texts.FIELDS:
        if source := getattr(wording, name):
            texts.check(kind, language, name, source)
    text = wording.render(texts.sample(kind, language))
    for written in (text.subject, text.body, text.html):
        assert written.strip() and "{{" not in written and "{%" not in written and "None" not in written
    assert {type(each) for each in (text.subject, text.body, text.html)} == {str}
    assert "\n" not in text.subject and "\n\n\n" not in text.body and f'<html lang="{language}">' in text.html


@pytest.mark.parametrize(("kind", "language"), EACH)
def test_no_mail_fetches_or_tells_anything_when_it_is_opened(kind, language):
    html = texts.render(kind, language, texts.sample(kind, language)).html
    assert not any(each in html for each in ("<img", "<link", "<script", "url(", "src="))


def test_a_line_of_tags_leaves_no_empty_line():
    body = texts.render("notices", "en", news(event(), event(step="8. Valuation", by=""))).body
    assert body == (
        f"- 2026-11-18 10:42  H-000012: Step completed, Bob\n  {ADDRESS}\n"
        f"- 2026-11-18 10:42  H-000012: Step completed (8. Valuation)\n  {ADDRESS}\n"
    )


@pytest.mark.parametrize(("days", "words"), [(1, "1 den"), (2, "2 dny"), (5, "5 dní")])
def test_days_are_counted_in_good_czech(days, words):
    context = {"username": "anna", "link": "…", "days_valid": days}
    assert f"platí {words}. " in texts.render("password_reset", "cs", context).body


# --- HTML ---


def test_html_is_made_of_the_text_with_lists_and_links():
    html = texts.render("notices", "en", news(event())).html
    assert f'<br>\n<a href="{ADDRESS}">{ADDRESS}</a></li>' in html and "<ul" in html


def test_the_placeholder_of_a_link_is_a_link_whatever_it_looks_like():
    html = texts.render("password_reset", "en", {"username": "anna", "link": "[[link]]", "days_valid": 3}).html
    assert '<a href="[[link]]">[[link]]</a>' in html


@pytest.mark.parametrize("office", [{}, {"html": "<p>{% for line in lines %}{{ line.what }}{% endfor %}</p>"}])
def test_what_somebody_typed_is_words_in_the_html(office):
    write(**office)
    text = texts.render("notices", "en", news(event(what="<script>alert('1')</script>")))
    assert "<script>" in text.body
    assert "<script>" not in text.html and "&lt;script&gt;alert(&#x27;1&#x27;)" in text.html


@pytest.mark.parametrize("first", sorted(FILTERS))
def test_no_filter_and_no_two_make_markup_of_what_somebody_typed(first):
    typed = news(event(what="<script>alert('1')</script>\n\n<b onclick=x>"))
    for second in sorted(FILTERS):
        source = f"{{{{ lines.0.what|{_with_argument(first)}|{_with_argument(second)} }}}}"
        try:
            template = compiled("notices", source, is_html=True)
        except BrokenText:
            continue
        made = rendered(template, typed).lower()
        assert "<s" not in made and "<b " not in made and "alert('" not in made, source


def _with_argument(name: str) -> str:
    arguments = {"default": "'<i>'", "slice": "'1:30'", "truncatechars": "30", "truncatewords": "2", "yesno": "'a,b'"}
    return f"{name}:{arguments[name]}" if name in arguments else name


def test_the_offices_html_stands_in_the_layout_unless_it_is_a_whole_page():
    write(html="<p>{{ count_text }}</p>")
    assert "max-width:600px" in texts.render("notices", "en", news()).html
    write(html="<!DOCTYPE html><p>{{ count_text }}</p>")
    assert texts.render("notices", "en", news()).html == "<!DOCTYPE html><p>0 events</p>"


# --- What the office writes ---


def test_the_offices_words_go_before_the_shipped_ones_field_by_field_and_language_by_language():
    write(subject="It happened: {{ count }}")
    text = texts.render("notices", "en", news(event(), event()))
    assert text.subject == "It happened: 2" and "Step completed" in text.body
    assert "Novinky" in texts.render("notices", "cs", news(event(), event())).subject


def test_one_query_a_wording_and_none_a_message(django_assert_num_queries):
    with django_assert_num_queries(1):
        wording = texts.in_force("notices", "en")
        for _ in range(3):
            wording.render(news(event()))


def test_a_subject_is_one_line_of_at_most_200_characters():
    write(subject="{{ lines.0.what }}")
    text = texts.render("notices", "en", news(event(what="one\r\nBcc: eve@example.com\n" + "x" * 300)))
    assert text.subject.startswith("one Bcc: ") and len(text.subject) == 200


@pytest.mark.parametrize(
    "source",
    ["{% include 'admin/base.html' %}", "{{ lines.0.__class__ }}", "{{ lines.pop }}", "{{ settings.SECRET_KEY }}",
     "{% if count %}", "{{ count|safe }}"],
)  # fmt: skip
def test_no_mail_is_lost_over_a_text_that_came_past_the_check(source, caplog):
    write(body=source, subject="Office")
    with caplog.at_level(logging.ERROR):
        text = texts.render("notices", "en", news(event(what="for Alice")))
    assert "for Alice" in text.body and text.subject != "Office"
    assert "notices (en) failed: BrokenText" in caplog.text and "Alice" not in caplog.text


def test_what_the_office_wrote_gives_way_where_it_grows_too_long(caplog):
    write(body="{% for line in lines %}" + "x" * 20_000 + "{% endfor %}")
    assert "x" * 20_000 in texts.render("notices", "en", news(event())).body
    assert "x" * 20_000 not in texts.render("notices", "en", news(*[event()] * 60)).body


# --- What is refused ---


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% include 'x' %}", "{% include %} is not possible here. Possible are: comment, for, if, with."),
        ("{% extends 'x' %}", "{% extends %} is not possible"),
        ("{% load i18n %}", "{% load %} is not possible"),
        ("{% debug %}", "{% debug %} is not possible"),
        ("{% autoescape off %}{% endautoescape %}", "{% autoescape %} is not possible"),
        ("{% filter upper %}{% endfilter %}", "{% filter %} is not possible"),
        ("{% url 'admin:index' %}", "{% url %} is not possible"),
        ("one\n{% foo %}", "Line 2: {% foo %}"),
        ("{% if count %}\n\n{% debug %}{% endif %}", "Line 3: {% debug %}"),
        ("{% if count %}", "{% if %} is never closed. Close it with {% endif %}."),
        ("{% endif %}", "{% endif %} closes nothing"),
        ("a\n\n{{ count", "Line 3: {{ is not closed on its line."),
        ("{{ count|safe }}", "The filter |safe is not possible here. Possible are: capfirst"),
        ("{{ count|add:'9' }}", "The filter |add"),
        ("{{ count|ljust:'999999999' }}", "The filter |ljust"),
        ("{{ count|stringformat:'999999999d' }}", "The filter |stringformat"),
        ("{{ count|default:lines }}", "What follows |default: stands in quotes."),
        ("{{ lines|upper }}", "|upper does not fit here."),
        ("{{ settings.SECRET_KEY }}", "settings is not known here. Known are: count, count_text, lines."),
        ("{% if request %}{% endif %}", "request is not known"),
        ("{% with all=cases %}{% endwith %}", "cases is not known"),
        ("{{ count.__class__ }}", "Line 1: This cannot be read: count.__class__"),
        ("{{ count bla }}", "This cannot be read: count bla"),
        ("{{ }}", "This cannot be read: "),
        ("{% %}", "This cannot be read: "),
        ("{% with %}{% endwith %}", "This cannot be read: with"),
        ("{% for x in %}{% endfor %}", "This cannot be read: for x in"),
        ("{% if count == %}{% endif %}", "This cannot be read: if count =="),
        ("{% if _(' %}x{% endif %}", "This cannot be read: if _('"),
        ("{{ count|default }}", "This cannot be read: count|default"),
        ("{{ count.real }}", "count has no part real."),
        ("{% for line in lines %}{{ line.nam }}{% endfor %}", "line has no part nam. Known are: moment, reference"),
        ("{% for line in lines %}{{ line.by.upper }}{% endfor %}", "line.by has no part upper."),
        ("{% for line in lines %}{% endfor %}{{ line.by }}", "line is not known here"),
        ("{{ lines }}", "lines is a list. Go through it: {% for line in lines %}"),
        ("{{ lines.0 }}", "lines.0 has parts; write one of them: lines.0.moment"),
        ("{{ lines.pop }}", "lines has no part pop."),
        ("{{ lines.clear }}", "lines has no part clear."),
        ("{% for each in count %}{% endfor %}", "count is no list"),
        ("{% for each in 'aaaa' %}{% endfor %}", "is no list"),
        ("{% for a, b in lines %}{% endfor %}", "A loop has one name for its row"),
        ("{% for a in lines %}{% for b in lines %}x{% endfor %}{% endfor %}", "A loop inside a loop"),
        ("{% with l=lines %}{% for a in l %}{% for b in l %}x{% endfor %}{% endfor %}{% endwith %}", "A loop inside"),
        ("{% if count %}" * 4000, "longer than 30"),
        ("{% if count %}" * 2000, "Too many tags inside one another."),
        ("{% if " + "not " * 5000 + "count %}{% endif %}", "Too many tags inside one another."),
        ("{{ " + "1" * 6000 + " }}", "is not known here"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_what_no_text_may_hold_is_refused_with_its_line_and_a_cure(source, said):
    assert said in refusal(source)


def test_loops_through_parts_of_a_row_are_possible():
    source = "{% for group in groups %}{% for line in group.lines %}{{ forloop.counter }}{{ line.url }}{% endfor %}{% endfor %}"
    texts.check("deadlines", "en", "body", source)
    assert "is none" in refusal(source.replace("group.lines", "groups.0.lines"), kind="deadlines")


@pytest.mark.parametrize("source", ["one\ntwo", "", "{% if count > 9 %}x{% endif %}", "x" * 201, "{{ lines.0.step }}"])
def test_a_subject_that_is_none_is_refused(source):
    assert "subject" in refusal(source, name="subject").lower()


@pytest.mark.parametrize("name", ["body", "html"])
@pytest.mark.parametrize("source", [" ", "{% if missed_since %}x{% endif %}{% if late %}{{ late }}{% endif %}"])
def test_a_text_that_says_nothing_on_some_days_is_refused(source, name):
    assert "empty" in refusal(source, kind="deadlines", name=name)


@pytest.mark.parametrize(
    "fields",
    [{"subject": "{% if count > 1 %}x{% endif %}"}, {"body": "{% if count > 1 %}x{% endif %}"},
     {"html": "{% if count > 1 %}x{% endif %}"}],
)  # fmt: skip
def test_what_comes_to_nothing_on_a_real_case_gives_way(fields):
    write(**fields)
    text = texts.render("notices", "en", news(event(step="8. Valuation")))
    assert text.subject and all("8. Valuation" in each for each in (text.body, text.html))


@pytest.mark.parametrize("name", ["body", "html"])
@pytest.mark.parametrize("source", ["{% if days_valid == 3 %}{{ link }}{% endif %}!", "{{ link|truncatechars:'4' }}"])
def test_no_welcome_leaves_without_its_link(source, name):
    write(kind="welcome", **{name: source})
    context = {"name": "", "username": "bob", "link": "[one-time link]", "days_valid": 2}
    text = texts.render("welcome", "en", context)
    assert all("[one-time link]" in each for each in (text.body, text.html))


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("welcome", "Hello {{ name }}"),
        ("welcome", "{% if link %}{{ link }}{% endif %}"),
        ("password_reset", "{{ username }}"),
        ("notices", "{{ lines.0.by }}"),
        ("notices", "{% for line in lines %}{{ line.by|upper }}{% endfor %}"),
        ("notices", "{% with first=lines.0 %}{{ first.by }}{% endwith %}"),
        ("weekly_report", "{% for each in advisers %}{{ each.name }}{% endfor %}"),
    ],
)
def test_no_subject_names_a_person_or_gives_a_link_away(kind, source):
    assert "cannot stand in a subject" in refusal(source, kind=kind, name="subject")


@pytest.mark.parametrize("name", ["body", "html"])
def test_a_text_without_the_link_that_it_is_about_is_refused(name):
    texts.check("welcome", "en", name, "Here: {{ link }}")
    for source in (
        "Hello {% if username == 'x' %}{{ link }}{% endif %}",
        "Hello {% if name %}{{ link }}{% endif %}",
        "Here: {{ link|truncatewords:'1' }}",
        "Here: {{ link|truncatechars:'30' }}",
    ):
        assert "{{ link }} is missing" in refusal(source, kind="welcome", name=name)


class Sly(str):
    pass


@pytest.mark.parametrize("value", [mark_safe("<b>"), Sly("x"), None, 1.5, MessageText(), ["x"], {"x": "y"}])
def test_a_message_is_given_plain_words_alone(value):
    with pytest.raises(TypeError):
        texts.render("notices", "en", news(event(what=value)))


def test_a_message_is_given_every_variable_of_its_kind():
    with pytest.raises(TypeError, match="has not the parts count, count_text, lines"):
        texts.render("notices", "en", {"count": 1, "lines": []})


# --- Rows of the office ---


def test_a_release_makes_a_row_for_each_kind_and_language_and_leaves_what_is_there():
    write(subject="Ours")
    for _ in range(2):
        call_command("release", verbosity=0)
    assert sorted(MessageText.objects.values_list("kind", "language")) == sorted(EACH)
    assert MessageText.objects.get(kind="notices", language="en").subject == "Ours"
