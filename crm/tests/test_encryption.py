"""The strict encrypted fields: what is stored, what comes back, and what they refuse."""

import base64
import copy
import datetime
import json
import pickle

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.db import transaction
from django.db.models import Case, Count, F, Max, OuterRef, Subquery, TextField, Value, When
from django.db.models.functions import Cast, Concat, Upper
from django.forms import modelform_factory
from django.utils import translation
from django.utils.translation import gettext_lazy
from encrypted_model_fields.fields import decrypt_str, encrypt_str

from crm import encryption
from crm.encryption import EncryptedCharField, Unreadable, encrypted_names, looks_encrypted, reaches_encrypted
from crm.exceptions import CiphertextRefused, EncryptedFieldError, ImpossibleValue
from crm.models import Case as MortgageCase
from crm.models import Client, MessageLog
from crm.tests import raw
from crm.tests.raw import stored, tamper

VALUES = {
    "full_name": "Alice Nováková",
    "email": "alice@example.com",
    "phone": "+420 777 123 456",
    "birth_number": "905506/0003",
    "birth_date": datetime.date(1990, 5, 6),
    "birth_place": "Žďár nad Sázavou",
    "street": "Dlouhá 12/3",
    "city": "Ústí nad Labem",
    "postal_code": "400 01",
    "mailing_address": "P. O. Box 5\nÚstí nad Labem",
    "id_document_number": "123456789",
    "id_document_issuer": "Magistrát",
    "bank_account": "19-2000145399/0800",
    "employer": "Pekárna U Lípy",
    "business_id": "27074358",
    "note": "Volat po 17. hodině 📞",
}


@pytest.fixture
def alice(db):
    return Client.objects.create(**VALUES)


@pytest.fixture
def form_class():
    return modelform_factory(Client, fields=["full_name", "email", "birth_date", "note"])


def reloaded(client):
    return Client.objects.get(pk=client.pk)


# --- What is stored and what comes back ---


def test_the_sixteen_fields_of_the_design_are_encrypted():
    assert encrypted_names(Client) == VALUES.keys()


@pytest.mark.parametrize("name", VALUES)
def test_every_field_comes_back_as_it_went_in_and_is_stored_as_a_token(alice, name):
    assert getattr(reloaded(alice), name) == VALUES[name]
    token = stored(alice, name)
    assert looks_encrypted(token)
    assert str(VALUES[name]) not in token
    assert decrypt_str(token) == str(VALUES[name])


def test_a_date_comes_back_as_a_date(alice):
    assert type(reloaded(alice).birth_date) is datetime.date


def test_a_date_may_be_given_as_text(db):
    client = Client.objects.create(full_name="Alice", birth_date="1990-05-06")
    assert reloaded(client).birth_date == datetime.date(1990, 5, 6)


def test_an_impossible_date_is_refused(db):
    with pytest.raises(ValidationError):
        Client.objects.create(full_name="Alice", birth_date="1990-02-30")


@pytest.mark.parametrize(
    "text",
    [
        "x",
        " ",
        "  padded  ",
        "0",
        "None",
        "🧑‍🚀 Zoë",
        "Đỗ Thị Hồng",
        "a" * 200,
        "ž" * 200,
        "'; DROP TABLE crm_client; --",
        "%s {}",
    ],
)
def test_any_text_comes_back_unchanged(db, text):
    assert reloaded(Client.objects.create(full_name=text)).full_name == text


def test_a_long_text_comes_back_unchanged(db):
    text = "Příliš žluťoučký kůň 🐎\n" * 5000
    assert reloaded(Client.objects.create(full_name="Alice", note=text)).note == text


def test_empty_text_stays_empty_and_is_not_encrypted(db):
    client = Client.objects.create(full_name="Alice", email="")
    assert stored(client, "email") == ""
    assert reloaded(client).email == ""


def test_no_date_stays_null(db):
    client = Client.objects.create(full_name="Alice", birth_date=None)
    assert stored(client, "birth_date") is None
    assert reloaded(client).birth_date is None


def test_one_value_twice_gives_two_tokens(db):
    first, second = (Client.objects.create(full_name="Alice") for _ in range(2))
    assert stored(first, "full_name") != stored(second, "full_name")


def test_a_lazily_translated_text_is_stored_in_the_language_of_the_moment(db):
    with translation.override("en"):
        client = Client.objects.create(full_name=gettext_lazy("Open"))
    assert reloaded(client).full_name == "Open"


def test_a_length_over_the_limit_is_refused_by_full_clean(db):
    Client(full_name="a" * 200).full_clean()
    with pytest.raises(ValidationError) as refused:
        Client(full_name="a" * 201).full_clean()
    assert set(refused.value.message_dict) == {"full_name"}


@pytest.mark.parametrize("text", ["Ali\0ce", "Ali\ud800ce"])
def test_what_cannot_be_stored_is_refused_by_full_clean(db, text):
    with pytest.raises(ValidationError) as refused:
        Client(full_name=text).full_clean()
    assert set(refused.value.message_dict) == {"full_name"}


def test_half_a_character_is_refused_by_save_with_an_error_of_ours(db):
    with pytest.raises(ImpossibleValue):
        Client.objects.create(full_name="Alice", note="\ud83d")


# --- Writes in bulk and by expression ---


def test_bulk_create_encrypts(db):
    clients = Client.objects.bulk_create([Client(full_name="Alice"), Client(full_name="Bob")])
    assert [reloaded(client).full_name for client in clients] == ["Alice", "Bob"]
    assert all(looks_encrypted(stored(client, "full_name")) for client in clients)


def test_bulk_update_writes_each_row_its_own_value(db):
    clients = [Client.objects.create(full_name=name) for name in ("Alice", "Bob", "Charlie")]
    for client in clients:
        client.note = f"about {client.full_name}"
        client.birth_date = datetime.date(1990, 1, client.pk % 28 + 1)
    clients[2].note = ""
    Client.objects.bulk_update(clients, ["note", "birth_date"])
    assert [reloaded(client).note for client in clients] == ["about Alice", "about Bob", ""]
    assert [reloaded(client).birth_date for client in clients] == [client.birth_date for client in clients]
    assert looks_encrypted(stored(clients[0], "note"))


def test_bulk_update_writes_null(alice):
    alice.birth_date = None
    Client.objects.bulk_update([alice], ["birth_date"])
    assert stored(alice, "birth_date") is None


def test_bulk_update_by_an_expression_is_refused(alice):
    alice.note = F("email")
    with pytest.raises(EncryptedFieldError):
        Client.objects.bulk_update([alice], ["note"])


def test_update_of_the_queryset_encrypts_a_value(alice):
    Client.objects.filter(pk=alice.pk).update(note="new", birth_date=datetime.date(2000, 1, 1))
    assert reloaded(alice).note == "new"
    assert looks_encrypted(stored(alice, "note"))
    assert reloaded(alice).birth_date == datetime.date(2000, 1, 1)


def test_update_or_create_and_get_or_create_encrypt(db):
    client, _ = Client.objects.update_or_create(reference="C-000900", defaults={"full_name": "Alice"})
    Client.objects.update_or_create(reference="C-000900", defaults={"full_name": "Alena"})
    assert reloaded(client).full_name == "Alena"
    other, _ = Client.objects.get_or_create(reference="C-000901", defaults={"full_name": "Bob"})
    assert looks_encrypted(stored(other, "full_name"))


EXPRESSIONS = {
    "another column": F("reference"),
    "another encrypted column": F("email"),
    "itself": F("note"),
    "a bare value": Value("plain"),
    "a value of another type": Value("plain", output_field=TextField()),
    "a choice": Case(When(pk__gt=0, then=Value("plain")), default=Value("plain")),
    "a choice's default": Case(When(pk=0, then=None), default=Value("plain")),
    "a choice of columns": Case(When(pk__gt=0, then=F("reference"))),
    "a function": Upper("reference"),
    "a sum of texts": Concat("reference", Value("plain")),
    "a cast": Cast("reference", TextField()),
    "a subquery": Subquery(Client.objects.filter(pk=OuterRef("pk")).values("reference")[:1]),
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_update_by_an_expression_is_refused_and_changes_nothing(alice, expression):
    before = stored(alice, "note")
    with pytest.raises(EncryptedFieldError), transaction.atomic():
        Client.objects.filter(pk=alice.pk).update(note=expression)
    assert stored(alice, "note") == before


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_save_with_an_expression_is_refused_and_changes_nothing(alice, expression):
    before = stored(alice, "note")
    alice.note = expression
    with pytest.raises((EncryptedFieldError, FieldError)):
        alice.save()
    assert stored(alice, "note") == before


def test_history_and_plain_managers_refuse_expressions_too(alice):
    with pytest.raises(EncryptedFieldError), transaction.atomic():
        alice.history.update(note=F("reference"))
    with pytest.raises(EncryptedFieldError), transaction.atomic():
        Client._base_manager.update(note=Value("plain"))
    with pytest.raises(EncryptedFieldError):
        MessageLog.objects.update(recipient=F("claim_key"))


def test_an_expression_of_a_field_of_this_kind_is_encrypted(alice):
    Client.objects.filter(pk=alice.pk).update(note=Value("new", output_field=Client._meta.get_field("note")))
    assert reloaded(alice).note == "new"
    assert looks_encrypted(stored(alice, "note"))


# --- Questions to the database ---

LOOKUPS = [
    "exact", "iexact", "contains", "icontains", "in", "startswith", "istartswith", "endswith", "regex", "gt", "gte",
    "lt", "range", "year", "lower",
]  # fmt: skip


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("name", ["full_name", "note", "email", "birth_date"])
def test_every_lookup_but_isnull_is_refused(db, name, lookup):
    with pytest.raises(FieldError):
        Client.objects.filter(**{f"{name}__{lookup}": ["x"]}).exists()
    with pytest.raises(FieldError):
        MortgageCase.objects.filter(**{f"client__{name}__{lookup}": ["x"]}).exists()


def test_lookups_written_otherwise_are_refused(db):
    for question in (
        lambda: Client.objects.filter(full_name="Alice"),
        lambda: Client.objects.exclude(full_name="Alice"),
        lambda: Client.objects.filter(full_name=F("email")),
        lambda: Client.objects.get(full_name="Alice"),
        lambda: Client.objects.get_or_create(full_name="Alice"),
        lambda: Client.objects.annotate(x=Case(When(full_name="Alice", then=1), default=0)),
        lambda: Client.objects.annotate(x=F("full_name")).filter(x="Alice"),
        lambda: Client.history.filter(full_name="Alice"),
    ):
        with pytest.raises(FieldError):
            question()


def test_isnull_is_answered(alice):
    assert not Client.objects.filter(birth_date__isnull=True).exists()
    assert Client.objects.filter(birth_date__isnull=False).exists()


ORDERINGS = {
    "by name": lambda: Client.objects.order_by("full_name"),
    "backwards": lambda: Client.objects.order_by("-full_name"),
    "after another": lambda: Client.objects.order_by("reference", "birth_date"),
    "by F": lambda: Client.objects.order_by(F("full_name").desc(nulls_last=True)),
    "by a function": lambda: Client.objects.order_by(Upper("full_name")),
    "by an annotation": lambda: Client.objects.annotate(x=F("full_name")).order_by("-x"),
    "over a relation": lambda: MortgageCase.objects.order_by("client__full_name"),
    "latest": lambda: Client.objects.latest("full_name"),
    "earliest": lambda: Client.objects.earliest("full_name"),
    "distinct": lambda: Client.objects.distinct("full_name"),
    "greatest": lambda: Client.objects.aggregate(x=Max("full_name")),
    "count of different": lambda: Client.objects.aggregate(Count("full_name", distinct=True)),
}


@pytest.mark.parametrize("question", ORDERINGS.values(), ids=ORDERINGS)
def test_sorting_and_counting_ciphertext_is_refused(db, question):
    with pytest.raises(EncryptedFieldError):
        question()


def test_sorting_by_plain_columns_is_not_refused(alice):
    assert list(Client.objects.order_by("-reference", F("pk").desc(), "?")) == [alice]
    assert list(MortgageCase.objects.order_by("client__reference", "client")) == []
    assert Client.objects.latest("created_at") == alice
    assert Client.objects.aggregate(Count("pk"))["pk__count"] == 1


def test_values_and_annotations_are_decrypted(alice):
    assert Client.objects.values("full_name").get() == {"full_name": VALUES["full_name"]}
    assert Client.objects.values_list("birth_date", flat=True).get() == VALUES["birth_date"]
    assert Client.objects.annotate(x=F("full_name")).get().x == VALUES["full_name"]
    assert Client.objects.annotate(x=Upper("full_name")).get().x == encryption.UNREADABLE_MARK


def test_a_relation_path_is_followed_to_its_encrypted_end():
    assert reaches_encrypted(MortgageCase, "client__full_name")
    assert reaches_encrypted(MortgageCase, "client__full_name__lower")
    assert not reaches_encrypted(MortgageCase, "client__reference")
    assert not reaches_encrypted(MortgageCase, "nothing__full_name")


# --- Keys ---


def test_a_new_first_key_writes_and_the_older_one_still_reads(alice, settings):
    new, old = Fernet.generate_key(), settings.FIELD_ENCRYPTION_KEY[0].encode()
    with raw.keys(new, old):
        client = reloaded(alice)
        assert client.full_name == VALUES["full_name"]
        client.full_name, client.phone = "Alice Malá", "777"
        client.save()
    with raw.keys(new):
        assert (reloaded(alice).full_name, reloaded(alice).phone) == ("Alice Malá", "777")


def test_under_a_wrong_key_every_value_is_unreadable_and_saving_keeps_what_is_stored(alice):
    before = {name: stored(alice, name) for name in VALUES}
    with raw.keys(Fernet.generate_key()):
        client = reloaded(alice)
        assert all(isinstance(getattr(client, name), Unreadable) for name in VALUES)
        client.citizenship = "CZ"
        client.save()
    assert {name: stored(alice, name) for name in VALUES} == before
    assert reloaded(alice).full_name == VALUES["full_name"]
    assert alice.history.first().full_name == VALUES["full_name"]


def test_nothing_is_encrypted_with_a_throw_away_key(alice, settings):
    settings.MISSING_SECRETS = ["FIELD_ENCRYPTION_KEY"]
    before = stored(alice, "note")
    alice.note = "new"
    with pytest.raises(ImproperlyConfigured):
        alice.save()
    assert stored(alice, "note") == before


def test_a_fingerprint_names_a_key_without_telling_it():
    one, other = "a" * 43 + "=", "b" * 43 + "="
    assert encryption.fingerprint(one) == encryption.fingerprint(one)
    assert encryption.fingerprint(one) != encryption.fingerprint(other)
    assert len(encryption.fingerprint(one)) == 8
    assert encryption.fingerprint(one) not in one


# --- Token-shaped input ---

TOKENS = {
    "ours": lambda: encrypt_str("secret of another client").decode(),
    "foreign": lambda: Fernet(Fernet.generate_key()).encrypt(b"x").decode(),
    "cut": lambda: encrypt_str("secret").decode()[:40],
    "after blanks": lambda: " \n\t" + encrypt_str("secret").decode(),
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_is_refused_by_full_clean_form_and_save(db, token, form_class):
    with pytest.raises(ValidationError) as refused:
        Client(full_name=token()).full_clean()
    assert set(refused.value.message_dict) == {"full_name"}
    form = form_class({"full_name": token()})
    assert set(form.errors) == {"full_name"}
    assert "secret" not in str(form)
    for write in (
        lambda: Client.objects.create(full_name=token()),
        lambda: Client.objects.bulk_create([Client(full_name=token())]),
        lambda: Client.objects.update(note=token()),
    ):
        with pytest.raises(CiphertextRefused), transaction.atomic():
            write()
    assert not Client.objects.exists()


def test_a_token_set_on_an_object_is_never_decrypted(db):
    client = Client(full_name=encrypt_str("secret").decode())
    assert client.full_name != "secret"
    assert Client._meta.get_field("full_name").to_python(client.full_name) == client.full_name


def test_a_date_refuses_a_token(db):
    with pytest.raises(ValidationError):
        Client.objects.create(full_name="Alice", birth_date=encrypt_str("1990-05-06").decode())


@pytest.mark.parametrize("text", ["gAAAA", "g AAAAA", "Gaaaaa", "see gAAAAABmZ"])
def test_what_only_resembles_a_token_is_taken(db, text):
    assert reloaded(Client.objects.create(full_name=text)).full_name == text


# --- A tampered value ---

DAMAGE = {
    "plain text": "Alice Nováková",
    "a foreign token": Fernet(Fernet.generate_key()).encrypt(b"Alice").decode(),
    "a cut token": "gAAAAABmZ",
    "no ASCII": "ž" * 80,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["full_name", "email", "birth_date", "note"])
def test_a_tampered_value_is_unreadable_and_the_others_are_read(alice, name, damage):
    bob = Client.objects.create(full_name="Bob")
    tamper(alice, name, damage)
    found = {client.pk: client for client in Client.objects.all()}
    assert isinstance(getattr(found[alice.pk], name), Unreadable)
    assert all(getattr(found[alice.pk], other) == VALUES[other] for other in VALUES if other != name)
    assert found[bob.pk].full_name == "Bob"


def test_a_date_that_is_none_is_unreadable(alice):
    for text in ("yesterday", "1990-02-30"):
        tamper(alice, "birth_date", encrypt_str(text).decode())
        assert isinstance(reloaded(alice).birth_date, Unreadable)


@pytest.mark.skipif(raw.IS_POSTGRES, reason="a text column of PostgreSQL takes text only")
def test_bytes_in_a_text_column_are_unreadable_and_kept(alice):
    tamper(alice, "email", b"\x00\xff")
    client = reloaded(alice)
    assert isinstance(client.email, Unreadable)
    client.save()
    assert stored(alice, "email") == b"\x00\xff"


SAVES = {
    "save": lambda client: client.save(),
    "save of one field": lambda client: client.save(update_fields=["citizenship"]),
    "save of the field itself": lambda client: client.save(update_fields=["email", "birth_date", "citizenship"]),
    "bulk_update": lambda client: Client.objects.bulk_update([client], ["email", "birth_date", "citizenship"]),
    "update": lambda client: Client.objects.update(
        email=client.email, birth_date=client.birth_date, citizenship=client.citizenship
    ),
    "after pickling": lambda client: pickle.loads(pickle.dumps(client)).save(),
    "after a deep copy": lambda client: copy.deepcopy(client).save(),
    "after full_clean": lambda client: (client.full_clean(), client.save()),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_saving_other_fields_keeps_a_tampered_value_byte_for_byte(alice, save):
    damaged = {"email": "not a token", "birth_date": "gAAAAABmZ"}
    for name, value in damaged.items():
        tamper(alice, name, value)
    client = reloaded(alice)
    client.citizenship = "SK"
    save(client)
    assert {name: stored(alice, name) for name in damaged} == damaged
    assert reloaded(alice).citizenship == "SK"


def test_refreshing_reads_a_repaired_value_again(alice):
    good = stored(alice, "email")
    tamper(alice, "email", "damaged")
    alice.refresh_from_db(fields=["email"])
    assert isinstance(alice.email, Unreadable)
    tamper(alice, "email", good)
    alice.refresh_from_db()
    assert alice.email == VALUES["email"]


def test_a_tampered_value_can_be_replaced_by_a_typed_one(alice):
    tamper(alice, "email", "damaged")
    client = reloaded(alice)
    client.email = "new@example.com"
    client.full_clean()
    client.save()
    assert reloaded(alice).email == "new@example.com"


def test_the_history_of_a_tampered_value_holds_its_bytes_too(alice):
    tamper(alice, "email", "damaged")
    Client.objects.filter(pk=alice.pk).update(note="new")
    row = alice.history.first()
    assert isinstance(row.email, Unreadable)
    assert stored(row, "email") == "damaged"
    alice.email = ""
    alice.save()
    row.instance.save()
    assert stored(alice, "email") == "damaged"


def test_a_form_sent_back_with_the_mark_keeps_the_stored_bytes(alice, form_class):
    damaged = {"email": "damaged", "birth_date": "damaged too", "note": "and this"}
    for name, value in damaged.items():
        tamper(alice, name, value)
    # As text, which is all that a browser sends back.
    shown = {name: str(form_class(instance=reloaded(alice))[name].value()) for name in form_class.base_fields}
    assert shown["email"] == encryption.UNREADABLE_MARK
    form = form_class({**shown, "full_name": "Alice Malá"}, instance=reloaded(alice))
    assert form.is_valid(), form.errors
    form.save()
    assert {name: stored(alice, name) for name in damaged} == damaged
    assert reloaded(alice).full_name == "Alice Malá"


def test_a_form_replaces_a_tampered_value_by_a_typed_one(alice, form_class):
    tamper(alice, "email", "damaged")
    form = form_class({"full_name": "Alice", "email": "new@example.com"}, instance=reloaded(alice))
    form.save()
    assert reloaded(alice).email == "new@example.com"


def test_the_mark_typed_over_a_readable_value_is_a_value_like_any_other(alice, form_class):
    mark = encryption.UNREADABLE_MARK
    assert "email" in form_class({"full_name": "Alice", "email": mark}, instance=reloaded(alice)).errors
    form_class({"full_name": "Alice", "note": mark}, instance=reloaded(alice)).save()
    assert decrypt_str(stored(alice, "note")) == mark


def test_a_form_of_a_readable_client_validates_as_ever(form_class, db):
    assert set(form_class({"full_name": "", "email": "x", "birth_date": "31/31"}).errors) == {
        "full_name",
        "email",
        "birth_date",
    }


def test_dumpdata_and_loaddata_carry_readable_and_unreadable_values(alice, tmp_path):
    tamper(alice, "email", "damaged")
    tamper(alice, "birth_place", encrypt_str("x").decode()[:-4])
    before = {name: stored(alice, name) for name in ("email", "birth_place")}
    file = tmp_path / "clients.json"
    call_command("dumpdata", "crm.client", output=str(file))
    assert json.loads(file.read_text())[0]["fields"]["email"] == {"unreadable": "damaged"}
    Client.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    assert {name: stored(alice, name) for name in before} == before
    assert reloaded(alice).full_name == VALUES["full_name"]
    assert reloaded(alice).birth_date == VALUES["birth_date"]


# --- Declarations ---


@pytest.mark.parametrize("option", [{"unique": True}, {"db_index": True}, {"primary_key": True}])
def test_a_check_refuses_an_encrypted_field_that_is_unique_or_indexed(option):
    field = EncryptedCharField(max_length=10, **option)
    field.set_attributes_from_name("secret")
    field.model = Client
    assert "crm.E010" in {error.id for error in field.check()}


def test_the_column_is_text_whatever_the_fields_type():
    from django.db import connection

    assert {field.db_type(connection) for field in Client._meta.concrete_fields if field.name in VALUES} == {"text"}


def test_migrations_name_our_fields():
    for name in VALUES:
        assert Client._meta.get_field(name).deconstruct()[1].startswith("crm.encryption.")


# --- Many values at once ---

LENGTHS = [*range(50), 255, 256, 1023, 1024, 5000]


def test_tokens_of_many_texts_are_those_that_fernet_would_make():
    texts = [f"{'č' * (length % 3)}{'x' * length}" for length in LENGTHS]
    fernet = Fernet(settings.FIELD_ENCRYPTION_KEY[0])
    for text, token in zip(texts, encryption.encrypt_texts(texts), strict=True):
        iv = base64.urlsafe_b64decode(token)[9:25]
        made_at = fernet.extract_timestamp(token)
        assert token.encode() == fernet._encrypt_from_parts(text.encode(), made_at, iv)


def test_every_token_of_many_has_a_vector_of_its_own():
    tokens = encryption.encrypt_texts(["Alice"] * 100)
    assert len({base64.urlsafe_b64decode(token)[9:25] for token in tokens}) == 100


def test_half_a_character_among_many_texts_is_refused():
    with pytest.raises(ImpossibleValue):
        encryption.encrypt_texts(["Alice", "\ud800"])


def test_many_texts_are_not_encrypted_with_a_throw_away_key(settings):
    settings.MISSING_SECRETS = ["FIELD_ENCRYPTION_KEY"]
    with pytest.raises(ImproperlyConfigured):
        encryption.encrypt_texts(["Alice"])


def test_many_tokens_are_read_as_each_of_them_would_be():
    texts = [f"{'č' * (length % 3)}{'x' * length}" for length in LENGTHS]
    tokens = [encrypt_str(text).decode() for text in texts]
    assert encryption.decrypt_texts([*tokens, None, ""]) == [*texts, None, ""]


def test_of_many_tokens_each_that_no_key_opens_stays_as_it_is_stored():
    good, other = encrypt_str("Alice").decode(), Fernet(Fernet.generate_key()).encrypt(b"Alice").decode()
    turned = base64.urlsafe_b64encode(base64.urlsafe_b64decode(good)[:-1] + b"\0").decode()
    signed = Fernet(settings.FIELD_ENCRYPTION_KEY[0])
    broken = [turned, other, good[:-4], "gAAAAA", "plain", "č", b"\xff", signed.encrypt(b"\xff").decode()]
    found = encryption.decrypt_texts([good, *broken, good])
    assert (found[0], found[-1]) == ("Alice", "Alice")
    assert [(type(each), each.stored) for each in found[1:-1]] == [(Unreadable, token) for token in broken]


def test_of_many_tokens_those_of_every_length_that_are_none_stay_as_they_are_stored():
    plain = ["A" * length for length in range(1, 130) for _time in range(4)]
    assert [each.stored for each in encryption.decrypt_texts(plain)] == plain


def test_of_many_tokens_those_of_an_older_key_are_read(monkeypatch):
    token = encrypt_str("Alice").decode()
    new = encryption._primary_key.__wrapped__
    with monkeypatch.context() as later:
        later.setattr(
            settings, "FIELD_ENCRYPTION_KEY", [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEY]
        )
        key = new()
    monkeypatch.setattr(encryption, "_primary_key", lambda: key)
    assert encryption.decrypt_texts([token, token]) == ["Alice", "Alice"]


def test_many_values_are_read_as_each_of_them_would_be():
    day, text = encrypt_str("1990-05-06").decode(), encrypt_str("not a day").decode()
    found = Client._meta.get_field("birth_date").read_many([day, None, text])
    assert (found[:2], found[2].stored) == ([datetime.date(1990, 5, 6), None], text)
    assert Client._meta.get_field("note").read_many([text, ""]) == ["not a day", ""]


def test_many_values_are_prepared_as_each_of_them_would_be():
    field = Client._meta.get_field("birth_date")
    broken = Unreadable("gAAAAAbroken")
    day, nothing, kept, text = field.prepare_many([datetime.date(1990, 5, 6), None, broken, "1991-02-03"])
    assert (decrypt_str(day), nothing, kept, decrypt_str(text)) == ("1990-05-06", None, "gAAAAAbroken", "1991-02-03")
    assert Client._meta.get_field("note").prepare_many(["", None]) == ["", None]
    with pytest.raises(CiphertextRefused):
        Client._meta.get_field("note").prepare_many(["plain", encrypt_str("token").decode()])
