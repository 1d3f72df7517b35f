"""Undo, put back and the recycle bin: seen first, done by POST, by who may."""

import uuid

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import jobs, models, roles, tasks
from crm.audit import plans, undo, undo_runs
from crm.models import AuditEntry, Case, Client, JobRun, Lender, UndoRun, operation
from crm.tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, first_name="Jana", last_name="Malá", language="en")


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková", phone="601")


@pytest.fixture
def done(alice, jana):
    with operation("admin", user=jana) as made:
        Client.objects.filter(pk=alice.pk).update(phone="602", note="x")
    return reverse("admin:crm_operation_undo", args=[made.id])


def test_the_page_shows_what_would_happen_and_only_its_post_does_it(client, alice, jana, done):
    client.force_login(jana)
    assert done in client.get(done.replace("undo/", "")).content.decode()
    shown = client.get(done).content.decode()
    assert "<del>602</del>" in shown and "<ins>601</ins>" in shown
    alice.refresh_from_db()
    assert alice.phone == "602"
    answer = client.post(done, {"reason": "by mistake"}, follow=True)
    assert answer.redirect_chain[-1][0] == reverse(
        "admin:crm_operation", args=[AuditEntry.objects.get(kind="undo").operation_id]
    )
    assert "by mistake" in answer.content.decode()
    alice.refresh_from_db()
    assert (alice.phone, alice.note) == ("601", "")


def test_a_second_post_is_told_that_it_came_too_late(client, jana, done):
    client.force_login(jana)
    client.post(done)
    answer = client.post(done)
    assert answer.status_code == 200 and "undone already" in answer.content.decode()
    assert AuditEntry.objects.filter(kind="undo").count() == 1


def test_a_touched_record_is_listed_and_forced_with_a_reason_only(client, alice, jana, done):
    with operation("admin", user=jana):
        Client.objects.filter(pk=alice.pk).update(citizenship="CZ")
    client.force_login(jana)
    shown = client.get(done).content.decode()
    force = f"client:{alice.pk}:{alice.history.first().history_id}"
    assert f'value="{force}"' in shown and "Jana Malá" in shown
    assert "Give a reason" in client.post(done, {"force": force}).content.decode()
    for nonsense in ("client", "client:1", f"client:{'9' * 5000}:1", "client:²:1", "nobody:1:1"):
        assert client.post(done, {"force": nonsense, "reason": "asked"}).status_code == 200
    assert client.post(done, {"force": force, "reason": "asked"}).status_code == 302
    alice.refresh_from_db()
    assert (alice.phone, alice.citizenship) == ("601", "CZ")


def test_a_version_and_a_field_are_put_back_from_the_version_page(client, alice, jana, done):
    client.force_login(jana)
    newest, first = alice.history.all()[:2]
    page = reverse("admin:crm_client_simple_history", args=[alice.pk, newest.history_id])
    back = reverse("admin:crm_revert", args=["client", first.history_id])
    assert f"{back}?field=phone" in client.get(page).content.decode()
    shown = {"seen": client.get(back).context["seen"]}
    assert shown["seen"] == newest.history_id
    assert "look once more" in client.post(f"{back}?field=phone", {"seen": first.history_id}).content.decode()
    assert client.post(f"{back}?field=phone", shown).status_code == 302
    alice.refresh_from_db()
    assert (alice.phone, alice.note) == ("601", "x")
    assert "look once more" in client.post(back, shown).content.decode()
    assert client.post(back, {"seen": client.get(back).context["seen"]}).status_code == 302
    alice.refresh_from_db()
    assert alice.note == ""


def test_a_deleted_case_is_found_in_the_bin_and_comes_back_with_its_client(client, jana):
    case = factories.make_case(factories.make_client("Alice Nováková"))
    number, person, key = case.reference, case.client, case.pk
    with operation("admin", user=jana, reason="twice"):
        case.delete()
    with operation("admin", user=jana):
        person.delete()
    client.force_login(jana)
    bin_page = reverse("admin:crm_recycle_bin")
    shown = client.get(bin_page).content.decode()
    assert number in shown and "Jana Malá" in shown and "twice" in shown
    assert number not in client.get(bin_page, {"q": "H-999"}).content.decode()
    restore = reverse("admin:crm_restore", args=["case", key])
    assert person.reference in client.get(restore).content.decode()
    assert client.post(restore).status_code == 302
    assert Case.objects.get(pk=key).steps.count() == 15
    assert number not in client.get(bin_page).content.decode()


def test_a_part_whose_case_still_stands_is_in_the_bin_too(client, jana):
    home = models.Property.objects.create(case=factories.make_case(), kind="house")
    home.delete()
    client.force_login(jana)
    assert "House" in client.get(reverse("admin:crm_recycle_bin"), {"kind": "property"}).content.decode()


def helper(*codes: str):
    """Somebody with these rights and no role."""
    user = factories.make_user(language="en")
    user.groups.clear()
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    return user


def test_the_bin_has_only_what_its_reader_may_view(client, jana):
    with operation("admin", user=jana, reason="secret reason"):
        factories.make_case().delete()
    client.force_login(helper("undo_operation", "view_all_cases", "view_lender"))
    bin_page = reverse("admin:crm_recycle_bin")
    assert "secret reason" not in client.get(bin_page).content.decode()
    assert client.get(bin_page, {"kind": "case"}).status_code == 403
    assert client.get(reverse("admin:crm_restore", args=["case", 1])).status_code == 403


def test_the_page_tells_nothing_of_a_record_that_is_somebody_elses_now(client, settings, jana):
    settings.ADVISER_SCOPE = "own"
    me, otto = helper("undo_operation", "change_case", "view_case", "view_auditentry"), factories.make_user()
    case = factories.make_case(adviser=me)
    with operation("admin", user=me) as made:
        Case.objects.filter(pk=case.pk).update(loan_amount_czk=5)
    Case.objects.filter(pk=case.pk).update(adviser=otto)
    client.force_login(me)
    answer = client.get(reverse("admin:crm_operation_undo", args=[made.id]))
    assert case.reference not in answer.content.decode()


@pytest.mark.parametrize("role", [roles.ADVISER, roles.ASSISTANT, roles.AUDITOR])
def test_others_get_none_of_these_pages(client, alice, done, role):
    client.force_login(factories.make_user(role))
    version = alice.history.first().history_id
    for page in (
        done,
        reverse("admin:crm_recycle_bin"),
        reverse("admin:crm_revert", args=["client", version]),
        reverse("admin:crm_restore", args=["client", alice.pk]),
    ):
        assert client.get(page).status_code == client.post(page).status_code == 403
    assert "recycle-bin" not in client.get(reverse("admin:index")).content.decode()
    alice.refresh_from_db()
    assert alice.phone == "602"


def test_what_never_was_is_not_found(client, jana):
    client.force_login(jana)
    for page in (
        reverse("admin:crm_operation_undo", args=[uuid.uuid4()]),
        reverse("admin:crm_revert", args=["client", 999999]),
        reverse("admin:crm_revert", args=["user", 1]),
        reverse("admin:crm_restore", args=["nonsense", 1]),
        f"{reverse('admin:crm_recycle_bin')}?kind=user",
    ):
        assert client.get(page).status_code == 404
    assert client.post(reverse("admin:crm_restore", args=["client", 999999])).status_code == 200


def test_the_pages_cost_the_same_for_twenty_records_as_for_ten(client, jana):
    client.force_login(jana)
    counts = []
    for _ in range(2):
        clients = [factories.make_client(str(number)) for number in range(10)]
        with operation("admin", user=jana) as made:
            Client.objects.filter(pk__in=[each.pk for each in clients]).update(note="x")
        with operation("admin", user=jana):
            for each in clients[:5]:
                Client.objects.get(pk=each.pk).delete()
        page = reverse("admin:crm_operation_undo", args=[made.id])
        client.get(page)
        with CaptureQueriesContext(connection) as queries:
            client.get(page)
            client.get(reverse("admin:crm_recycle_bin"), {"kind": "client"})
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- A large operation ---


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(undo_runs, "ROWS_AT_ONCE", 2)


@pytest.fixture
def many(jana):
    """The address of the undo of an operation that changed three clients."""
    clients = [factories.make_client(f"Klient {number}") for number in range(3)]
    with operation("admin", user=jana) as made:
        Client.objects.filter(pk__in=[each.pk for each in clients]).update(note="x")
    return reverse("admin:crm_operation_undo", args=[made.id])


def work() -> UndoRun:
    run = UndoRun.objects.latest("pk")
    jobs.carry_out(run.job_id, tasks.JOBS)
    return UndoRun.objects.get(pk=run.pk)


def test_a_large_operation_is_told_from_the_trail_and_undone_by_a_job(client, jana, many, large, monkeypatch):
    client.force_login(jana)
    monkeypatch.setattr(plans, "plan", None)  # no page may plan
    shown = client.get(many).content.decode()
    assert "3 changed" in shown and "in the background" in shown and 'name="reason"' in shown
    assert client.post(many, {"order": "1", "reason": "by mistake"})["Location"] == many
    assert UndoRun.objects.get().reason == "by mistake"
    shown = client.get(many).content.decode()
    assert "waits for a worker" in shown and f'hx-get="{many}progress/"' in shown
    assert "No worker runs" in shown
    told = client.get(f"{many}progress/")
    assert "HX-Refresh" not in told.headers and "waits for a worker" in told.content.decode()
    for page in (many, many.replace("undo/", "")):
        assert many.replace("undo/", "undo/") in client.get(page).content.decode()
    assert "Is being undone in the background" in client.get(many.replace("undo/", "")).content.decode()
    monkeypatch.undo()


def test_the_page_of_a_large_undo_goes_on_and_says_what_was_done(client, jana, many, large):
    client.force_login(jana)
    client.post(many, {"order": "1", "reason": "by mistake"})
    JobRun.objects.update(state="running", done_count=2, total_count=6)
    assert 'value="33"' in client.get(f"{many}progress/").content.decode()
    JobRun.objects.update(state="queued")
    run = work()
    assert client.get(f"{many}progress/").headers["HX-Refresh"] == "true"
    shown = client.get(many).content.decode()
    assert "3 records were put back" in shown and "Jana Malá" in shown
    assert reverse("admin:crm_operation", args=[run.operation_id]) in shown
    assert not Client.objects.filter(updated_at=None).exists() and {each.note for each in Client.objects.all()} == {""}


def test_what_a_large_undo_has_left_is_forced_on_its_page(client, jana, many, large):
    touched = Client.objects.order_by("pk").first()
    with operation("admin", user=jana):
        Client.objects.filter(pk=touched.pk).update(citizenship="CZ")
    client.force_login(jana)
    client.post(many, {"order": "1"})
    work()
    shown = client.get(many).content.decode()
    force = f"client:{touched.pk}:{touched.history.first().history_id}"
    assert "2 records were put back" in shown and f'value="{force}"' in shown and touched.reference in shown
    assert "Give a reason" in client.post(many, {"force": force}).content.decode()
    assert client.post(many, {"force": force, "reason": "asked"}).status_code == 302
    touched.refresh_from_db()
    assert (touched.note, touched.citizenship) == ("", "CZ")
    assert "undone already" in client.get(many).content.decode()


def test_an_undo_that_was_undone_can_be_asked_for_again(client, jana, many, large):
    client.force_login(jana)
    client.post(many, {"order": "1"})
    run = work()
    undo.undo(run.operation_id, jana)
    shown = client.get(many).content.decode()
    assert "were put back" not in shown and "undone already" not in shown
    client.post(many, {"order": "1"})
    assert work().put_back_count == 3


def test_a_large_undo_is_cancelled_and_says_that_nothing_was_put_back(client, jana, many, large):
    client.force_login(jana)
    client.post(many, {"order": "1"})
    other = factories.make_user(roles.ADVISER)
    other.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    client.force_login(other)
    assert f"{many}cancel/" not in client.get(many).content.decode()
    assert client.post(f"{many}cancel/").status_code == 403
    client.force_login(jana)
    assert client.get(f"{many}cancel/").status_code == 405
    assert client.post(f"{many}cancel/", follow=True).status_code == 200
    shown = client.get(many).content.decode()
    assert "Nothing was put back." in shown and "Cancelled." in shown and 'name="order"' in shown
    assert {each.note for each in Client.objects.all()} == {"x"}


def test_a_form_of_a_page_that_is_over_puts_nothing_back(client, jana, many, large):
    client.force_login(jana)
    assert client.post(many, {"force": "client:1:1", "reason": "x"})["Location"] == many
    assert not UndoRun.objects.exists()
    assert client.post(f"{many}cancel/").status_code == client.get(f"{many}progress/").status_code == 404


def test_a_large_operation_of_somebody_else_is_not_found_where_one_sees_his_own(client, many, large, settings, adviser):
    settings.ADVISER_SCOPE = "own"
    client.force_login(adviser)
    assert client.get(many).status_code == 403
    adviser.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    assert [client.get(page).status_code for page in (many, f"{many}progress/")] == [404, 404]
    assert [client.post(page, {"order": "1"}).status_code for page in (many, f"{many}cancel/")] == [404, 404]


def test_the_page_of_a_large_operation_costs_the_same_whatever_its_size(client, jana, large):
    client.force_login(jana)
    found = []
    for size in (10, 20):
        with operation("admin", user=jana) as made:
            Lender.objects.bulk_create([Lender(name=f"Banka {size} {number}") for number in range(size)])
        AuditEntry.objects.filter(operation_id=made.id).update(counts={"lender": {"+": size}})  # as a commit keeps it
        page = reverse("admin:crm_operation_undo", args=[made.id])
        client.get(page)
        with CaptureQueriesContext(connection) as queries:
            client.get(page)
        found.append(len(queries))
        assert not any("crm_historical" in query["sql"] for query in queries.captured_queries)
    assert found[0] == found[1]


def test_a_small_operation_is_not_put_into_the_queue(client, jana, done):
    client.force_login(jana)
    client.post(done, {"order": "1", "reason": "by mistake"})
    assert not UndoRun.objects.exists() and AuditEntry.objects.filter(kind="undo").exists()
