import datetime

import pytest
from django.utils import timezone

from crm import previews, texts
from crm.choices import Language
from crm.models import Client, Property
from crm.tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(db):
    case = factories.make_case(factories.make_client("Alice Nováková"), fixation_until="2030-05-01")
    Client.objects.filter(pk=case.client_id).update(id_document_valid_until="2031-05-01")
    Property.objects.create(case=case, valid_until="2029-05-01")
    case.refresh_from_db()
    return case


@pytest.mark.parametrize("language", Language.values)
@pytest.mark.parametrize("kind", previews.OF_CASES)
def test_every_text_about_a_case_says_a_real_one_and_no_name(case, kind, language):
    context = previews.context(kind, language, case, now=timezone.now(), by_name="Bob")
    text = texts.render(kind, language, context)
    assert case.reference in text.subject + text.body and "Nováková" not in text.subject + text.body + text.html
    assert ("Hello" in text.body) is (kind.startswith("client") and language == "en")


def test_the_radar_names_all_that_runs_out_one_day(case):
    context = previews.context("radar", "en", case, now=timezone.now(), by_name="")
    dates = [line["date"] for group in context["groups"] for line in group["lines"]]
    assert dates == ["2030-05-01", "2031-05-01", "2029-05-01"]


def test_a_case_with_nothing_to_say_still_makes_a_text(case):
    case.steps.update(deadline=None)
    now = datetime.datetime(2026, 4, 15, tzinfo=datetime.UTC)
    context = previews.context("deadlines", "en", case, now=now, by_name="")
    assert context["count"] == 0 and texts.render("deadlines", "en", context).subject == "2026-04-15: 0 deadlines"
