"""The bell, the inbox, each one's own choices and the office's table of who is told of what."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import roles
from crm.admin import navigation
from crm.admin.notices import flags_without_sense
from crm.choices import NoticeKind
from crm.models import Notice, NoticeChoice, NoticeRule, Step
from crm.tests import factories
from crm.tests.test_no_gap import filled

pytestmark = pytest.mark.django_db
INBOX, READ, CHOICES = (reverse(f"admin:crm_{name}") for name in ("inbox", "inbox_read", "my_notices"))
STAFF = [role for role in roles.ROLES if role != roles.CLIENT]


@pytest.fixture
def alice(db):
    return factories.make_user(roles.ADVISER, language="en")


@pytest.fixture
def bob(db):
    return factories.make_user(roles.MANAGER, language="en")


@pytest.fixture
def rules(db):
    factories.make_catalogue()


def tell(user, kind="new_case", case=None, **fields):
    return Notice.objects.create(user=user, kind=kind, case=case, in_inbox=True, **fields)


def case_of(adviser):
    """With nothing told of it."""
    case = factories.make_case(adviser=adviser)
    Notice.objects.filter(case=case).delete()
    return case


def open_url(notice):
    return reverse("admin:crm_inbox_open", args=[notice.pk])


def bell(client, path="/admin/") -> str:
    return re.search(r'hd-bell" aria-label="([^"]*)"', client.get(path).content.decode())[1]


# --- The bell ---


def test_the_bell_counts_what_is_unread_of_ones_own(client, alice, bob):
    client.force_login(alice)
    assert bell(client) == "Inbox, nothing unread"
    tell(alice), tell(bob)
    Notice.objects.create(user=alice, kind="new_case", in_inbox=False, wants_mail=True)
    assert bell(client) == "Inbox, unread: 1"


def test_the_bell_stops_counting(client, alice, monkeypatch):
    monkeypatch.setattr(navigation, "MOST_COUNTED", 2)
    for expected in ("1", "2", "2+"):
        tell(alice)
        client.force_login(alice)
        assert bell(client) == f"Inbox, unread: {expected}"


def test_the_bell_asks_once_a_page_and_its_own_index_only(client, alice):
    client.force_login(alice)
    with CaptureQueriesContext(connection) as caught:
        client.get("/admin/")
    [asked] = [query["sql"] for query in caught if "crm_notice" in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + asked)
        assert "notice_unread" in str(cursor.fetchall())


def test_no_popup_and_no_login_asks_for_the_bell(client, alice):
    assert "hd-bell" not in client.get("/admin/login/").content.decode()
    client.force_login(alice)
    with CaptureQueriesContext(connection) as caught:
        assert "hd-bell" not in client.get("/admin/crm/client/?_popup=1").content.decode()
    assert not [query for query in caught if "crm_notice" in query["sql"]]


# --- The inbox ---


@pytest.mark.parametrize("role", STAFF)
def test_everybody_who_works_here_has_an_inbox_and_choices(client, role):
    client.force_login(factories.make_user(role, language="en"))
    assert "Nothing has been told you yet" in client.get(INBOX).content.decode()
    assert client.get(CHOICES).status_code == 200


def test_a_clients_login_has_none(client):
    client.force_login(factories.make_user(roles.CLIENT))
    assert {client.get(path).status_code for path in (INBOX, CHOICES)} == {302}
    assert {client.post(path).status_code for path in (READ, CHOICES)} == {302}


def test_it_shows_ones_own_with_case_step_who_and_when(client, alice, bob):
    case = case_of(alice)
    step = Step.objects.first()
    tell(alice, "step_completed", case, step=step, by_name="Jana Malá")
    tell(bob, "declined", case)
    client.force_login(alice)
    page = client.get(INBOX).content.decode()
    assert f"Step completed: {step}" in page and case.reference in page and "Jana Malá" in page
    assert "Case declined</span>" not in page


def test_opening_marks_as_read_and_leads_to_the_case(client, alice):
    case = case_of(alice)
    notice = tell(alice, case=case)
    client.force_login(alice)
    assert client.get(open_url(notice)).status_code == 405
    assert Notice.objects.get().read_at is None
    answer = client.post(open_url(notice))
    assert answer["Location"] == reverse("admin:crm_case_change", args=[case.pk])
    read_at = Notice.objects.get().read_at
    assert read_at
    client.post(open_url(notice))
    assert Notice.objects.get().read_at == read_at


def test_anothers_notice_is_not_found(client, alice, bob):
    notice = tell(bob)
    client.force_login(alice)
    assert client.post(open_url(notice)).status_code == 404
    assert Notice.objects.get().read_at is None


@pytest.mark.parametrize("scope", ["own", "all"])
def test_of_a_case_that_is_not_his_any_more_he_reads_that_there_was_something(client, alice, bob, settings, scope):
    settings.ADVISER_SCOPE = scope
    case = case_of(bob)
    notice = tell(alice, "handed_over", case)
    client.force_login(alice)
    page = client.get(INBOX).content.decode()
    assert "Case handed over" in page
    assert (case.reference in page) is (scope == "all")
    assert ("of what you may not see any more" in page) is (scope == "own")
    notice.detail = {"whose": "before"}
    notice.save()
    assert case.reference in client.get(INBOX).content.decode()  # that it was his he knows
    answer = client.post(open_url(notice), {"next": "https://example.com/"})
    assert answer["Location"] == (INBOX if scope == "own" else reverse("admin:crm_case_change", args=[case.pk]))
    assert Notice.objects.get().read_at


def test_of_a_client_that_he_may_not_see_too(client, alice, bob, settings):
    settings.ADVISER_SCOPE = "own"
    person = case_of(bob).client
    tell(alice, "new_client", client=person)
    client.force_login(alice)
    assert person.reference not in client.get(INBOX).content.decode()
    alice.groups.clear()
    settings.ADVISER_SCOPE = "all"
    assert person.reference not in client.get(INBOX).content.decode()


def test_all_is_marked_as_read_up_to_what_the_page_showed(client, alice, bob):
    first, foreign, second = tell(alice), tell(bob), tell(alice)
    client.force_login(alice)
    newest = client.get(INBOX).context["newest"]
    late = tell(alice)
    assert newest == second.pk
    assert client.get(READ).status_code == 405
    assert "2 notices were marked" in client.post(READ, {"newest": newest}, follow=True).content.decode()
    assert set(Notice.objects.filter(read_at=None)) == {foreign, late}
    assert Notice.objects.get(pk=first.pk).read_at


def test_of_one_kind_only_that_kind_is_marked(client, alice):
    kept, read = tell(alice, "approved"), tell(alice, "declined")
    client.force_login(alice)
    client.post(READ, {"newest": read.pk, "kind": "declined"})
    assert list(Notice.objects.filter(read_at=None)) == [kept]


@pytest.mark.parametrize("newest", ["", "x", "9" * 30])
def test_a_page_that_does_not_say_what_it_showed_marks_nothing(client, alice, newest):
    tell(alice)
    client.force_login(alice)
    assert client.post(READ, {"newest": newest}).status_code == 400
    assert Notice.objects.get().read_at is None


def test_it_is_filtered_by_unread_and_kind(client, alice):
    read = tell(alice, "approved")
    client.force_login(alice)
    client.post(open_url(read))
    unread = [tell(alice, "approved"), tell(alice, "declined")]

    def shown(query):
        return {each["notice"].pk for each in client.get(INBOX + query).context["items"]}

    assert shown("") == {each.pk for each in [read, *unread]}
    assert shown("?show=unread") == {each.pk for each in unread}
    assert shown("?show=unread&kind=approved") == {unread[0].pk}
    assert shown("?kind=nonsense&show=nonsense&p=x") == shown("")


def test_it_has_pages_of_fifty_the_newest_first(client, alice):
    told = [tell(alice, "approved") for _ in range(51)]
    client.force_login(alice)
    first = client.get(INBOX, {"kind": "approved"})
    assert [each["notice"] for each in first.context["items"]] == told[:0:-1]
    assert 'href="?kind=approved&amp;p=2"' in first.content.decode()
    second = client.get(INBOX, {"kind": "approved", "p": 2})
    assert [each["notice"] for each in second.context["items"]] == told[:1]


def test_it_costs_the_same_queries_for_ten_and_for_twenty_and_decrypts_nothing(client, alice, settings):
    settings.ADVISER_SCOPE = "own"
    step = Step.objects.first()

    def more():
        for _ in range(10):
            case = case_of(alice)
            tell(alice, case=case, step=step), tell(alice, "new_client", client=case.client)

    def asked():
        with CaptureQueriesContext(connection) as caught:
            client.get(INBOX)
        return [query["sql"] for query in caught]

    client.force_login(alice)
    more()
    ten = asked()
    more()
    assert len(asked()) == len(ten) <= 12
    assert not [sql for sql in ten if '"full_name"' in sql or '"note"' in sql]


# --- One's own choices ---


def sent_back(client) -> dict:
    """What a browser would send of the page that nobody touched."""
    form = client.get(CHOICES).context["form"]
    fields = [field for field in form if not field.field.disabled]
    return {field.html_name: "on" if field.value() is True else field.value() for field in fields if field.value()}


def test_nobody_needs_to_choose(client, alice, rules):
    client.force_login(alice)
    data = sent_back(client)
    assert data["approved-channel"] == "both" and "approved-all" not in data
    assert client.post(CHOICES, data).status_code == 302
    assert not NoticeChoice.objects.exists()


def test_ones_choices_ask_for_ones_roles_once(client, bob, rules):
    client.force_login(bob)
    with CaptureQueriesContext(connection) as caught:
        assert "by your role" in client.get(CHOICES).content.decode()
    assert len(caught) <= 12


def test_what_is_chosen_is_kept_in_one_operation_with_its_history(client, alice, bob, rules):
    client.force_login(alice)
    changed = {"approved-channel": "inbox", "new_client-all": "on", "weekly_report-channel": "none"}
    client.post(CHOICES, sent_back(client) | changed)
    stored = {each.kind: (each.channel, each.is_subscribed) for each in alice.notice_choices.all()}
    expected = {"approved": ("inbox", False), "new_client": ("both", True), "weekly_report": ("none", False)}
    assert stored == expected and NoticeChoice.objects.count() == 3
    rows = NoticeChoice.history.all()
    assert len({row.operation_id for row in rows}) == 1
    assert {(row.history_user_id, row.source) for row in rows} == {(alice.pk, "admin")}
    client.post(CHOICES, sent_back(client))
    assert NoticeChoice.history.count() == 3
    client.post(CHOICES, sent_back(client) | {"approved-channel": "both"})
    assert NoticeChoice.history.count() == 4
    client.force_login(bob)
    assert sent_back(client)["approved-channel"] == "both"


def test_what_is_no_channel_is_refused_whole(client, alice, rules):
    client.force_login(alice)
    answer = client.post(CHOICES, sent_back(client) | {"approved-channel": "fax", "declined-channel": "none"})
    assert answer.status_code == 200 and "crm-cell__error" in answer.content.decode()
    assert not NoticeChoice.objects.exists()


def given(client) -> dict[str, str]:
    return {row.label: row.given for row in client.get(CHOICES).context["rows"]}


def test_it_says_what_the_office_tells_by_itself(client, alice, bob, rules):
    client.force_login(alice)
    told = given(client)
    assert told["New case"].startswith("Of your own cases")
    assert told["New client"].startswith("Nothing")
    client.force_login(bob)
    assert given(client)["Case approved"] == "Of all, by your role: Manager"


def test_who_is_told_of_all_anyway_has_nothing_to_tick(client, bob, rules):
    client.force_login(bob)
    client.post(CHOICES, sent_back(client) | {"approved-channel": "mail"})
    assert [(each.kind, each.is_subscribed) for each in NoticeChoice.objects.all()] == [("approved", False)]
    NoticeRule.objects.filter(kind="approved").update(to_managers=False)
    assert "approved-all" not in sent_back(client)


def test_kinds_of_what_one_may_not_look_at_are_left_out(client, alice, rules):
    alice.groups.clear()
    client.force_login(alice)
    page = client.get(CHOICES)
    assert page.context["rows"] == [] and "has no role" in page.content.decode()


def test_without_an_address_it_says_that_no_mail_is_sent(client, alice):
    client.force_login(alice)
    assert f"Mails go to {alice.email}." in client.get(CHOICES).content.decode()
    alice.email = ""
    alice.save()
    assert "no mail is sent" in client.get(CHOICES).content.decode()


def test_the_persons_menu_and_the_inbox_lead_to_the_choices(client, alice):
    client.force_login(alice)
    page = client.get("/admin/").content.decode()
    assert f'href="{CHOICES}"' in page and f'href="{reverse("admin:password_change")}"' in page
    alice.set_unusable_password()
    alice.save()
    client.force_login(alice)
    assert reverse("admin:password_change") not in client.get("/admin/").content.decode()
    assert f'href="{CHOICES}"' in client.get(INBOX).content.decode()


def test_the_operation_of_a_choice_has_its_page(client, alice, administrator, rules):
    client.force_login(alice)
    client.post(CHOICES, sent_back(client) | {"approved-channel": "none"})
    client.force_login(administrator)
    page = client.get(reverse("admin:crm_operation", args=[NoticeChoice.history.get().operation_id]))
    assert page.status_code == 200


# --- Who is told of what ---

LIST = reverse("admin:crm_noticerule_changelist")


def rule_url(kind: str) -> str:
    return reverse("admin:crm_noticerule_change", args=[NoticeRule.objects.get(kind=kind).pk])


def test_every_kind_has_its_row_and_no_flag_without_sense_is_set(rules):
    assert {rule.kind for rule in NoticeRule.objects.all()} == set(NoticeKind)
    for rule in NoticeRule.objects.all():
        assert not [flag for flag in flags_without_sense(rule.kind) if getattr(rule, flag)], rule.kind


@pytest.mark.parametrize(
    ("role", "sees", "changes"),
    [
        (roles.ADMINISTRATOR, 200, 302), (roles.MANAGER, 200, 302), (roles.AUDITOR, 200, 403), (roles.ADVISER, 403, 403),
        (roles.ASSISTANT, 403, 403),
    ],
)  # fmt: skip
def test_managers_and_administrators_change_it_and_the_auditor_looks(client, rules, administrator, role, sees, changes):
    page = rule_url("declined")
    client.force_login(administrator)
    form = filled(client.get(page)) | {"to_administrators": "on"}
    client.force_login(factories.make_user(role))
    assert client.get(LIST).status_code == client.get(page).status_code == sees
    assert client.post(page, form).status_code == changes
    assert NoticeRule.objects.get(kind="declined").to_administrators is (changes == 302)


def test_nobody_adds_or_deletes_a_kind(client, rules, administrator):
    client.force_login(administrator)
    assert client.get(reverse("admin:crm_noticerule_add")).status_code == 403
    pk = NoticeRule.objects.first().pk
    assert client.post(reverse("admin:crm_noticerule_delete", args=[pk]), {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
    client.post(LIST, data)
    assert NoticeRule.objects.filter(pk=pk).exists()


@pytest.mark.parametrize(
    ("kind", "flag", "takes"),
    [
        ("new_client", "to_adviser", False), ("new_client", "to_client", False), ("radar", "to_client", False),
        ("weekly_report", "to_client", False), ("deadlines", "to_client", True), ("declined", "to_client", True),
        ("new_client", "to_managers", True),
    ],
)  # fmt: skip
def test_a_flag_without_sense_cannot_be_posted(client, rules, administrator, kind, flag, takes):
    NoticeRule.objects.filter(kind=kind).update(**{flag: False})
    client.force_login(administrator)
    answer = client.post(rule_url(kind), filled(client.get(rule_url(kind))) | {flag: "on"})
    assert answer.status_code == (302 if takes else 200)
    assert getattr(NoticeRule.objects.get(kind=kind), flag) is takes
