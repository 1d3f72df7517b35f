import pytest
from django.core.management import call_command

from crm import search
from crm.models import Client, SearchToken
from crm.tests import factories

pytestmark = pytest.mark.django_db


def stored(client: Client) -> set:
    return {(kind, bytes(digest)) for kind, digest in client.search_tokens.values_list("kind", "digest")}


def reindex(capsys) -> str:
    call_command("reindex_search")
    return capsys.readouterr().out


def test_it_brings_back_tokens_that_were_lost(capsys):
    alice = factories.make_client("Alice Nováková", email="alice@example.com")
    before = stored(alice)
    SearchToken.objects.all().delete()
    reindex(capsys)
    assert stored(alice) == before
    assert list(Client.objects.search("nov")) == [alice]


def test_it_removes_tokens_that_do_not_belong_to_the_client(capsys):
    alice = factories.make_client("Alice Nováková")
    wrong = search.digest(search.Kind.NAME, "bob")
    SearchToken.objects.create(client=alice, kind=search.Kind.NAME, digest=wrong)
    reindex(capsys)
    assert not Client.objects.search("bob").exists()
    assert Client.objects.search("alice").exists()


def test_running_it_twice_changes_no_token(capsys):
    alice = factories.make_client("Alice Nováková", phone="601 234 567", birth_number="855512/0007")
    before = stored(alice)
    reindex(capsys)
    reindex(capsys)
    assert stored(alice) == before
    assert alice.search_tokens.count() == len(before)


def test_it_indexes_more_clients_than_one_batch(capsys, monkeypatch):
    monkeypatch.setattr("crm.models.clients.BATCH", 2)
    clients = [factories.make_client(f"Klient Číslo{number}abc") for number in range(5)]
    SearchToken.objects.all().delete()
    assert "5" in reindex(capsys)
    assert all(stored(client) for client in clients)


def test_it_works_in_an_empty_office(capsys):
    assert "0" in reindex(capsys)


def test_a_name_that_no_key_opens_gets_no_tokens_and_stops_nobody_else(capsys):
    alice, bob = factories.make_client("Alice Nováková"), factories.make_client("Bob Starý")
    broken = "gAAAAABm" + "A" * 90
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE crm_client SET full_name = %s WHERE id = %s", [broken, alice.pk])
    reindex(capsys)
    assert stored(alice) == set()
    assert list(Client.objects.search("bob")) == [bob]
