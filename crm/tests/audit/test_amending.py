"""Lawful changes of sealed rows pass verification, and nothing that hides behind one does."""

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone
from encrypted_model_fields import fields as plain

from crm.audit import sealing
from crm.audit.amending import amend, ranges
from crm.audit.digests import canonical_json
from crm.choices import SealKind
from crm.encryption import encrypted_names
from crm.exceptions import SealBroken
from crm.models import AuditEntry, AuditSeal, Client
from crm.tests import factories, raw
from crm.tests.audit.sealed import CLIENTS, KEY, OTHER_KEY, history_ids, make_past, seal, tamper, verify

pytestmark = pytest.mark.django_db(transaction=True)
History = Client.history.model


@pytest.fixture(autouse=True)
def _key(settings):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = ""


@pytest.fixture
def ids():
    clients = make_past()
    seal()
    return history_ids(clients)


def erase(rows) -> None:
    rows.update(note="")


def lawfully(ids, change=erase, fields=("note",), user=None):
    return amend(History, ids, fields, change, user=user, reason="Alice asked for it.", now=timezone.now())


def test_an_erasure_is_a_seal_that_names_row_and_digests_and_verifies(ids, manager):
    before = Client.history.get(history_id=ids[4]).note
    assert before
    link = lawfully(ids[4:6], user=manager)
    assert (link.kind, link.number) == (SealKind.AMENDMENT, 2)
    assert verify().problems == []
    assert f'"{CLIENTS}",{ids[4]},' in link.content and '"note":["' in link.content
    assert before not in link.content
    entry = AuditEntry.objects.order_by("-pk").first()
    assert (entry.user_id, entry.reason, entry.operation_id.hex in link.content) == (
        manager.pk,
        "Alice asked for it.",
        True,
    )


def test_what_was_erased_cannot_come_back(ids):
    token = raw.stored(Client.history.get(history_id=ids[4]), "note")
    lawfully([ids[4]])
    tamper(f"UPDATE {CLIENTS} SET note = '{token}' WHERE history_id = {ids[4]}")
    assert verify().problems == [f"Row {ids[4]} of {CLIENTS} was changed: note."]


def test_another_row_of_the_same_block_is_still_watched(ids):
    lawfully([ids[4]])
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[5]}")
    assert verify().problems == [f"Row {ids[5]} of {CLIENTS} was changed: source."]


def test_a_forged_amendment_without_the_key_is_found(ids, settings):
    settings.AUDIT_KEYS = [OTHER_KEY, KEY]
    lawfully([ids[4]])
    settings.AUDIT_KEYS = [KEY]
    assert "Seal 2 was made with key" in verify().problems[0]


def test_a_row_amended_twice_counts_as_it_is_now(ids):
    lawfully([ids[4]])
    lawfully([ids[4]], lambda rows: rows.update(reference="X"), ["reference"])
    assert verify().problems == []


def test_rows_may_be_removed_lawfully_and_must_stay_away(ids):
    with_row = {
        field.attname: getattr(Client.history.get(history_id=ids[4]), field.attname) for field in History._meta.fields
    }
    lawfully([ids[4], ids[6]], lambda rows: rows.delete())
    assert verify().problems == []
    assert Client.history.filter(history_id=ids[5]).exists()
    History(**with_row).save(force_insert=True)
    [problem] = verify().problems
    assert problem == f"Row {ids[4]} of {CLIENTS} was removed with seal 2 and is there again."


def test_only_the_named_fields_may_change(ids):
    with pytest.raises(SealBroken):
        lawfully(ids[:1], lambda rows: rows.update(note="", reference="X"))
    assert Client.history.get(history_id=ids[0]).reference != "X"
    assert AuditSeal.objects.count() == 1


def test_a_lawful_change_never_covers_an_unlawful_one(ids):
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[4]}")
    with pytest.raises(SealBroken):
        lawfully([ids[4]])
    assert verify().problems == [f"Row {ids[4]} of {CLIENTS} was changed: source."]


def test_rows_that_are_not_sealed_yet_are_changed_too(ids):
    new = history_ids([factories.make_client("Dana Nová", note="x")])
    lawfully([ids[4], *new])
    seal()
    found = verify()
    assert found.problems == [] and found.unsealed == 0
    assert Client.history.get(history_id=new[0]).note == ""


def test_a_key_rotation_rewrites_every_token_and_verifies(ids):
    """Each row decrypted with the old key and encrypted with the new one, by its own field."""
    columns = {name: History._meta.get_field(name) for name in encrypted_names(History)}
    before = Client.history.in_bulk(ids, field_name="history_id")
    tokens = {number: raw.stored(row, "full_name") for number, row in before.items()}
    new = Fernet.generate_key()
    with raw.keys(new):

        def rotate(rows):
            for row in before.values():
                rows.filter(pk=row.pk).update(**{name: getattr(row, name) for name in columns})

        lawfully(ids, rotate, columns)
        after = Client.history.in_bulk(ids, field_name="history_id")
        assert {number: row.full_name for number, row in after.items()} == {
            number: row.full_name for number, row in before.items()
        }
        assert all(raw.stored(row, "full_name") != tokens[number] for number, row in after.items())
        assert verify().problems == []
    assert plain.CRYPTER is not None


def test_an_amendment_during_a_sealing_is_not_overtaken(ids, monkeypatch):
    """The sealer has read the rows, then they are amended, then it would write what it has read."""
    new = history_ids([factories.make_client("Dana Nová", note="x")])
    real, done = sealing.append, []

    def slow(kind, blocks, **given):
        if kind == SealKind.ROWS and not done:
            done.append(True)
            lawfully(new)
        return real(kind, blocks, **given)

    monkeypatch.setattr(sealing, "append", slow)
    seal()
    found = verify()
    assert found.problems == [] and found.unsealed == 1  # the amendment's own entry
    assert Client.history.get(history_id=new[0]).note == ""


def test_ranges_hold_nothing_between():
    assert ranges([5, 1, 2, 9, 3]) == [[1, 3], [5, 5], [9, 9]]
    assert canonical_json(ranges([])) == "[]"
