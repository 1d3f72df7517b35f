"""The blind index: how values are folded and cut, what a search finds, and that every way of writing keeps it in step."""

import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import IntegrityError, NotSupportedError, connection, transaction
from django.test.utils import CaptureQueriesContext
from simple_history.utils import bulk_create_with_history

from crm import search
from crm.encryption import encrypted_names
from crm.models import Client, SearchToken
from crm.search import Kind, fold, fold_value, name_key, prefixes, words
from crm.tests.raw import tamper


def found(text: str) -> list[str]:
    return [client.full_name for client in Client.objects.search(text).order_by("pk")]


def in_step(client) -> bool:
    """Whether the stored tokens are those of the row as it stands."""
    row = Client.objects.get(pk=client.pk)
    held = [(token.kind, bytes(token.digest)) for token in SearchToken.objects.filter(client=row)]
    values = {name: getattr(row, name) for name in search.INDEXED_FIELDS}
    return sorted(held) == sorted(search.tokens(values))


# --- Folding ---


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Nováková", "novakova"),
        ("NOVÁKOVÁ", "novakova"),
        ("Nova\u0301kova\u0301", "novakova"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "prilis zlutoucky kun upel dabelske ody"),
        ("Đỗ", "do"),
        ("Łukasz", "lukasz"),
        ("Bjørn Æther", "bjorn aether"),
        ("Straße", "strasse"),
        ("İstanbul ılık", "istanbul ilik"),
        ("ＦＵＬＬ", "full"),
        ("ﬁala", "fiala"),
        ("Иванов", "иванов"),
        ("", ""),
    ],
)
def test_accents_and_case_are_folded_away(text, folded):
    assert fold(text) == folded


def test_words_are_letters_and_digits_only():
    assert words("O'Brien-Kovářová,  Ph.D. _x_ 🐎") == ["o", "brien", "kovarova", "ph", "d", "x"]


@pytest.mark.parametrize(
    "name", ["Jan Novák", "NOVÁK Jan", "Ing. Jan Novák, Ph.D.", "  jan   NOVAK ", "Novák, Jan", "JUDr. Mgr. Novák Jan"]
)
def test_one_name_written_in_many_ways_has_one_key(name):
    assert name_key(name) == "jan novak"


def test_a_name_of_titles_only_keeps_them():
    assert name_key("Doc. Bc.") == "bc doc"
    assert name_key("Jan Novák") != name_key("Jana Nováková")


@pytest.mark.parametrize(
    ("kind", "value", "folded"),
    [
        (Kind.PHONE, "+420 777 123 456", "777123456"),
        (Kind.PHONE, "00420777123456", "777123456"),
        (Kind.PHONE, "420777123456", "777123456"),
        (Kind.PHONE, "777-123-456", "777123456"),
        (Kind.PHONE, "+421 905 123 456", "421905123456"),
        (Kind.PHONE, "420", "420"),
        (Kind.PHONE, "no number", ""),
        (Kind.BIRTH_NUMBER, "905506/0003", "9055060003"),
        (Kind.BIRTH_NUMBER, " 905506 0003 ", "9055060003"),
        (Kind.BUSINESS_ID, "27074358", "27074358"),
        (Kind.BUSINESS_ID, "123456", "00123456"),
        (Kind.BUSINESS_ID, "", ""),
        (Kind.EMAIL, " Alice@Example.COM ", "alice@example.com"),
        (Kind.ID_DOCUMENT, "AB 123-456", "ab123456"),
    ],
)
def test_whole_values_are_folded_by_their_kind(kind, value, folded):
    assert fold_value(kind, value) == folded


def test_prefixes_have_from_three_to_twenty_letters():
    assert prefixes("ab") == {"ab"}
    assert prefixes("abc") == {"abc"}
    assert prefixes("abcd") == {"abc", "abcd"}
    long = "abcdefghijklmnopqrstuvwxyz"
    assert prefixes(long) == {long[:length] for length in range(3, 21)}


# --- Digests ---


def test_a_digest_depends_on_kind_value_and_key(settings):
    digest = search.digest(Kind.NAME, "novak")
    assert len(digest) == 16
    assert digest == search.digest(Kind.NAME, "novak")
    assert digest != search.digest(Kind.EMAIL, "novak")
    assert digest != search.digest(Kind.NAME, "novakova")
    settings.SEARCH_KEY = "another-search-key-another-search-key-another"
    assert digest != search.digest(Kind.NAME, "novak")


def test_nothing_is_indexed_with_a_throw_away_key(db, settings):
    settings.MISSING_SECRETS = ["SEARCH_KEY"]
    with pytest.raises(ImproperlyConfigured):
        Client.objects.create(full_name="Alice")
    assert not Client.objects.exists()


def test_the_index_holds_no_word_in_the_clear(db):
    Client.objects.create(full_name="Alice Nováková", email="alice@example.com")
    held = b"".join(bytes(token.digest) for token in SearchToken.objects.all())
    assert b"ali" not in held.lower()
    assert b"nov" not in held.lower()


# --- Finding ---


@pytest.fixture
def office(db):
    for name, fields in {
        "Alice Nováková": {
            "email": "alice@example.com",
            "phone": "+420 777 123 456",
            "birth_number": "905506/0003",
            "id_document_number": "AB 123456",
            "business_id": "27074358",
        },
        "Bob Novák": {"email": "bob@example.com", "phone": "608 111 222"},
        "O'Brien-Kovářová Charlie": {},
        "Đỗ Thị Hồng": {"business_id": "123456"},
        "Xabcdefghijklmnopqrstuvwxyz Dlouhý": {},
    }.items():
        Client.objects.create(full_name=name, **fields)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("novak", ["Alice Nováková", "Bob Novák"]),
        ("nov", ["Alice Nováková", "Bob Novák"]),
        ("NOVÁKOVÁ", ["Alice Nováková"]),
        ("no", []),
        ("ovak", []),
        ("nov ali", ["Alice Nováková"]),
        ("alice novakova", ["Alice Nováková"]),
        ("alice bob", []),
        ("alice alice", ["Alice Nováková"]),
        ("brien", ["O'Brien-Kovářová Charlie"]),
        ("o'brien", ["O'Brien-Kovářová Charlie"]),
        ("obrien", ["O'Brien-Kovářová Charlie"]),
        ("kovarova", ["O'Brien-Kovářová Charlie"]),
        ("Brien-Kov", ["O'Brien-Kovářová Charlie"]),
        ("do", ["Đỗ Thị Hồng"]),
        ("đỗ", ["Đỗ Thị Hồng"]),
        ("do thi hong", ["Đỗ Thị Hồng"]),
        ("do thi x", []),
        ("xabcdefghijklmnopqrs", ["Xabcdefghijklmnopqrstuvwxyz Dlouhý"]),
        ("xabcdefghijklmnopqrst", ["Xabcdefghijklmnopqrstuvwxyz Dlouhý"]),
        ("xabcdefghijklmnopqrstuvwxyz", ["Xabcdefghijklmnopqrstuvwxyz Dlouhý"]),
        ("xabcdefghijklmnopqrX", []),
        ("alice@example.com", ["Alice Nováková"]),
        (" ALICE@example.COM ", ["Alice Nováková"]),
        ("alice@example", []),
        ("777123456", ["Alice Nováková"]),
        ("+420777123456", ["Alice Nováková"]),
        ("00420 777 123 456", ["Alice Nováková"]),
        ("77712345", []),
        ("608111222", ["Bob Novák"]),
        ("9055060003", ["Alice Nováková"]),
        ("905506/0003", ["Alice Nováková"]),
        ("905506", []),
        ("ab123456", ["Alice Nováková"]),
        ("27074358", ["Alice Nováková"]),
        ("00123456", ["Đỗ Thị Hồng"]),
        ("c-00000", ["Alice Nováková", "Bob Novák", "O'Brien-Kovářová Charlie", "Đỗ Thị Hồng",
                     "Xabcdefghijklmnopqrstuvwxyz Dlouhý"]),
        ("C-000002", ["Bob Novák"]),
        ("%", []),
        ("_", []),
        ("!!!", []),
        ("x\0y\ud800", []),
    ],
)  # fmt: skip
def test_a_search_finds(office, text, names):
    assert found(text) == names


@pytest.mark.parametrize("text", ["", "   ", "\0"])
def test_an_empty_search_shows_everybody(office, text):
    assert len(found(text)) == 5


def test_a_search_of_very_many_words_is_answered(office):
    assert found("alice " * 500) == ["Alice Nováková"]
    assert found(" ".join(f"word{number}" for number in range(500))) == []


def test_a_client_is_found_once_however_many_of_his_tokens_match(db):
    Client.objects.create(full_name="Novák Novák Nováková", email="novak@example.com")
    assert Client.objects.search("novak").count() == 1


# --- In step with every way of writing ---


@pytest.fixture
def alice(db):
    return Client.objects.create(full_name="Alice Nováková", email="alice@example.com", phone="777 123 456")


def test_save_changes_only_the_tokens_that_differ(alice):
    before = set(SearchToken.objects.filter(kind=Kind.NAME).values_list("pk", flat=True))
    alice.email = "new@example.com"
    alice.save()
    assert set(SearchToken.objects.filter(kind=Kind.NAME).values_list("pk", flat=True)) == before
    assert found("new@example.com")
    assert not found("alice@example.com")


def test_an_emptied_value_is_no_longer_found(alice):
    alice.phone = ""
    alice.save()
    assert not found("777123456")
    assert in_step(alice)


def test_save_of_some_fields_indexes_those_and_no_others(alice):
    alice.email = "written@example.com"
    alice.phone = "608 000 000"
    alice.save(update_fields=["email"])
    assert in_step(alice)
    assert found("777123456")
    assert not found("608000000")


def test_save_of_a_field_that_is_not_indexed_leaves_the_index_alone(alice):
    alice.full_name = "Bob"
    alice.save(update_fields=["citizenship"])
    assert in_step(alice)
    assert found("alice")


def test_a_stale_object_does_not_bring_old_tokens_back(alice):
    stale = Client.objects.get(pk=alice.pk)
    alice.email = "new@example.com"
    alice.save()
    stale.phone = "608 111 222"
    stale.save(update_fields=["phone"])
    assert in_step(alice)
    assert found("new@example.com")


def test_save_of_a_client_loaded_without_his_encrypted_fields_keeps_the_index(alice):
    client = Client.objects.defer_encrypted().get(pk=alice.pk)
    client.citizenship = "CZ"
    client.save()
    assert in_step(alice)
    client = Client.objects.only("email").get(pk=alice.pk)
    client.email = "new@example.com"
    client.save()
    assert in_step(alice)


WRITES = {
    "create": lambda: [Client.objects.create(full_name="Bob Malý", email="bob@example.com")],
    "bulk_create": lambda: Client.objects.bulk_create(
        [Client(full_name="Bob Malý"), Client(full_name="Charlie Malý", phone="608111222")]
    ),
    "simple_history's own": lambda: bulk_create_with_history([Client(full_name="Bob Malý")], Client),
    "get_or_create": lambda: [
        Client.objects.get_or_create(reference="C-000777", defaults={"full_name": "Bob Malý"})[0]
    ],
    "save of a number": lambda: [Client.objects.create(full_name="Bob Malý", phone=608111222)],
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_way_of_creating_indexes(db, write):
    clients = write()
    assert len(found("maly")) == len(clients)
    assert all(in_step(client) for client in clients)


def _bulk(client, method):
    client.full_name = "Bob Malý"
    client.email = "unwritten@example.com"
    getattr(Client.objects, method)([client], ["full_name"])


CHANGES = {
    "bulk_update": lambda client: _bulk(client, "bulk_update"),
    "update": lambda client: Client.objects.filter(pk=client.pk).update(full_name="Bob Malý"),
    "update by what changes": lambda client: Client.objects.search("alice").update(full_name="Bob Malý"),
    "update_or_create": lambda client: Client.objects.update_or_create(
        pk=client.pk, defaults={"full_name": "Bob Malý"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_way_of_changing_indexes(alice, change):
    change(alice)
    assert found("maly") == ["Bob Malý"]
    assert not found("alice")
    assert found("alice@example.com") == ["Bob Malý"]
    assert in_step(alice)


def test_update_of_other_columns_asks_nothing_about_the_index(alice):
    with CaptureQueriesContext(connection) as queries:
        Client.objects.filter(pk=alice.pk).update(citizenship="CZ")
    assert not [query for query in queries if "searchtoken" in query["sql"]]


def test_a_bulk_create_that_skips_or_overwrites_rows_is_refused(alice):
    with pytest.raises(NotSupportedError):
        Client.objects.bulk_create([Client(full_name="Bob")], ignore_conflicts=True)
    with pytest.raises(NotSupportedError):
        Client.objects.bulk_create(
            [Client(full_name="Bob")], update_conflicts=True, unique_fields=["reference"], update_fields=["full_name"]
        )


@pytest.mark.parametrize("delete", [lambda client: client.delete(), lambda client: Client.objects.all().delete()])
def test_deleting_a_client_deletes_his_tokens(alice, delete):
    delete(alice)
    assert not SearchToken.objects.exists()


def test_loaddata_indexes_what_it_loads_and_what_it_changes(alice, tmp_path):
    file = tmp_path / "clients.json"
    call_command("dumpdata", "crm.client", output=str(file))
    file.write_text(file.read_text().replace("alice@example.com", "loaded@example.com"))
    call_command("loaddata", str(file), verbosity=0)
    assert found("loaded@example.com") == ["Alice Nováková"]
    assert in_step(alice)
    Client.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    assert found("novakova") == ["Alice Nováková"]
    assert in_step(alice)


def test_tokens_that_are_loaded_meet_those_of_the_loaded_clients(alice, tmp_path):
    bob = Client.objects.create(full_name="Bob Malý", email="bob@example.com")
    tokens = set(SearchToken.objects.values_list("client", "kind", "digest"))
    file = tmp_path / "office.json"
    call_command("dumpdata", "crm.client", "crm.searchtoken", output=str(file))
    Client.objects.all().delete()
    Client.objects.create(full_name="Charlie Veselý").delete()  # so that new keys are not the old ones
    call_command("loaddata", str(file), verbosity=0)
    assert set(SearchToken.objects.values_list("client", "kind", "digest")) == tokens
    assert in_step(alice) and in_step(bob)


def test_a_write_that_fails_leaves_no_token(alice):
    before = SearchToken.objects.count()
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.create(full_name="Bob Malý", reference=alice.reference)
    assert SearchToken.objects.count() == before


def test_an_unreadable_value_has_no_tokens_and_the_others_keep_theirs(alice):
    tamper(alice, "email", "damaged")
    SearchToken.objects.refresh(Client.objects.get(pk=alice.pk))
    assert found("novakova")
    assert not SearchToken.objects.filter(client=alice, kind=Kind.EMAIL).exists()


def test_rebuild_writes_the_index_anew(alice):
    bob = Client.objects.create(full_name="Bob Malý")
    SearchToken.objects.filter(client=bob).delete()
    SearchToken.objects.filter(client=alice, kind=Kind.EMAIL).update(kind=Kind.PHONE)
    assert SearchToken.objects.rebuild(Client.objects.all()) == 2
    assert in_step(alice)
    assert in_step(bob)


def test_one_token_stands_once(alice):
    token = SearchToken.objects.filter(client=alice).first()
    with pytest.raises(IntegrityError), transaction.atomic():
        SearchToken.objects.create(client=alice, kind=token.kind, digest=token.digest)


def test_every_field_that_is_searched_is_encrypted():
    assert encrypted_names(Client) >= set(search.INDEXED_FIELDS)
    assert set(search.INDEXED_FIELDS) == {
        "full_name",
        "email",
        "phone",
        "birth_number",
        "id_document_number",
        "business_id",
    }


@pytest.mark.django_db(transaction=True)
def test_two_people_saving_and_a_rebuild_at_once_leave_the_index_in_step():
    client = Client.objects.create(full_name="Alice Nováková")
    failed = []

    def work(task):
        try:
            for number in range(8):
                task(number)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    def rename(letter):
        def once(number):
            row = Client.objects.get(pk=client.pk)
            row.full_name = f"{letter}{number:03d} Nováková"
            row.email = f"{letter}{number}@example.com"
            row.save()

        return once

    tasks = [rename("alice"), rename("bob"), lambda number: SearchToken.objects.rebuild(Client.objects.all())]
    threads = [threading.Thread(target=work, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert in_step(client)
