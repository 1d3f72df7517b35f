"""What of old history goes, what stays, and that verification tells pruning from theft."""

import datetime
import io

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from crm import roles
from crm.audit import past, retention, timeline, undo
from crm.choices import AuditKind, SealKind, Source
from crm.models import AuditEntry, AuditSeal, Client, User, operation
from crm.tests import factories
from crm.tests.audit.sealed import CLIENTS, KEY, history_ids, make_past, seal, tamper, verify

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _settings(settings, tmp_path):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = str(tmp_path / "anchor")
    settings.AUDIT_KEEP_YEARS = 10


@pytest.fixture
def clients():
    """Three clients with three versions each, of twelve years ago; not sealed."""
    clients = make_past()
    old(*clients)
    return clients


def old(*records, years: int = 12) -> None:
    at = timezone.now() - datetime.timedelta(days=366 * years)
    for record in records:
        type(record).history.filter(id=record.pk).update(history_date=at)


def prune() -> str:
    out = io.StringIO()
    call_command("prune_audit", stdout=out)
    return out.getvalue()


def test_nothing_is_pruned_by_default(clients, settings):
    settings.AUDIT_KEEP_YEARS = 0
    seal()
    assert "nothing is pruned" in prune()
    assert len(history_ids(clients)) == 9


def test_the_first_and_the_last_of_a_living_record_stay(clients):
    seal()
    ids = history_ids(clients)
    assert prune().startswith("3 rows")
    assert history_ids(clients) == [*ids[:3], *ids[6:]]
    found = verify()
    assert found.problems == [] and found.is_anchored
    link = AuditSeal.objects.get(kind=SealKind.PRUNING)
    assert f'"removed":{{"{CLIENTS}":[[{ids[3]},{ids[5]}]]}}' in link.content
    assert prune().startswith("0 rows")


def test_of_a_deleted_record_all_that_is_old_goes(clients):
    gone = clients[0]
    key = gone.pk
    gone.delete()
    Client.history.filter(id=key).update(history_date=timezone.now() - datetime.timedelta(days=5000))
    seal()
    prune()
    assert not Client.history.filter(id=key).exists()
    assert verify().problems == []


def test_a_row_of_the_last_years_stays(clients):
    old(clients[0], years=9)
    seal()
    assert prune().startswith("2 rows")
    assert len(history_ids(clients[:1])) == 3


@pytest.fixture
def changed_again(clients, manager):
    """Alice, whose last change is of today and all others of twelve years ago; pruned."""
    alice = clients[0]
    with operation(Source.ADMIN, user=manager) as today:
        alice.city = "Brno"
        alice.save()
    seal()
    assert prune().startswith("3 rows")
    assert verify().problems == []
    return alice, today


def test_undo_after_pruning_puts_back_only_what_the_operation_changed(changed_again, manager):
    alice, today = changed_again
    undo.undo(today.id, manager, reason="by mistake")
    alice.refresh_from_db()
    assert (alice.city, alice.note) == ("", "met")


def test_the_timeline_after_pruning_says_what_the_last_person_changed(changed_again, manager):
    alice, _today = changed_again
    newest = timeline.page_of(alice.pk, manager).entries[0]
    assert (newest.by, [line.name for line in newest.change.lines]) == (str(manager), ["city"])


def test_the_past_within_the_years_kept_is_as_it_was_after_pruning(changed_again):
    alice, _today = changed_again
    assert past.version(Client, alice.pk, timezone.now() - datetime.timedelta(days=366 * 9)).note == "met"


def test_of_a_record_deleted_lately_the_last_old_row_stays(clients):
    key = clients[0].pk
    clients[0].delete()
    seal()
    prune()
    kept = Client.history.filter(id=key).order_by("history_id")
    assert [row.history_type for row in kept] == ["~", "-"]
    assert past.version(Client, key, timezone.now() - datetime.timedelta(days=366)).note == "met"


def test_rows_that_are_not_sealed_stay(clients):
    assert prune().startswith("0 rows")
    assert len(history_ids(clients)) == 9


def test_a_pruned_row_that_comes_back_is_named(clients):
    seal()
    ids = history_ids(clients)
    kept = Client.history.get(history_id=ids[4])
    prune()
    kept.save(force_insert=True)
    assert verify().problems == [f"Row {ids[4]} of {CLIENTS} was removed with seal 2 and is there again."]


def test_a_row_that_is_removed_beside_the_pruning_is_named(clients):
    seal()
    ids = history_ids(clients)
    prune()
    tamper(f"DELETE FROM {CLIENTS} WHERE history_id = {ids[0]}")
    assert verify().problems == [f"Row {ids[0]} of {CLIENTS} was removed."]


def test_a_changed_row_is_not_pruned_away(clients):
    seal()
    ids = history_ids(clients)
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[4]}")
    with pytest.raises(CommandError, match=f"Row {ids[4]} of {CLIENTS} is not what was sealed"):
        prune()
    assert len(history_ids(clients)) == 9


def test_a_persons_roles_go_with_the_row_they_belong_to():
    alice = factories.make_user(roles.ADVISER)
    for role in (roles.MANAGER, roles.ADVISER):
        roles.assign(alice, role)
    old(alice)
    seal()
    before = User.history.filter(id=alice.pk).count()
    prune()
    assert before > 2 and User.history.filter(id=alice.pk).count() == 2
    assert verify().problems == []


def test_old_logins_go_and_entries_with_history_stay(clients):
    at = timezone.now() - datetime.timedelta(days=366 * 12)
    login = AuditEntry.objects.create(operation_id="00000000000000000000000000000001", kind=AuditKind.LOGIN, at=at)
    AuditEntry.objects.update(at=at)
    seal()
    prune()
    assert not AuditEntry.objects.filter(pk=login.pk).exists()
    first = Client.history.filter(id=clients[0].pk).order_by("history_id").first()
    assert AuditEntry.objects.filter(operation_id=first.operation_id).exists()
    assert verify().problems == []


def test_what_was_counted_of_an_operation_is_counted_anew_after_pruning(clients):
    change = Client.history.filter(id=clients[0].pk).order_by("history_id")[1]
    entry = AuditEntry.objects.get(operation_id=change.operation_id)
    AuditEntry.objects.filter(pk=entry.pk).update(counts={"client": {"~": 1}})
    seal()
    assert verify().problems == []
    prune()
    entry.refresh_from_db()
    assert entry.counts == {}
    assert verify().problems == []


def test_years_count_back_from_a_leap_day():
    now = datetime.datetime(2028, 2, 29, 12, tzinfo=datetime.UTC)
    assert retention.years_before(now, 1) == datetime.datetime(2027, 2, 28, 12, tzinfo=datetime.UTC)
    assert retention.years_before(now, 4).day == 29
