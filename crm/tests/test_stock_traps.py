"""The silent failures of the plain packages that this foundation closes: each is shown failing with the plain package
on a throw-away table, and right with ours beside it. When an upgrade repairs one, its first half fails here and says so.

The numbers are those of the design's table. Queue, import/export and history-admin traps stand with their rooms."""

import datetime

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.test.utils import isolate_apps
from encrypted_model_fields import fields as plain
from import_export import resources
from simple_history.models import HistoricalRecords
from simple_history.utils import bulk_update_with_history
from tablib import Dataset

from crm import checks
from crm.encryption import Unreadable
from crm.exceptions import CiphertextRefused, EncryptedFieldError
from crm.models import Client
from crm.tests import raw
from crm.tests.raw import stored, tamper

PRAGUE_NOON = datetime.datetime.fromisoformat("2026-07-01T12:00:00+02:00")


@pytest.fixture
def make_table(transactional_db):
    """Tables for models that no migration knows. SQLite changes a schema outside of transactions only."""
    made = []

    def make(*tables):
        with connection.schema_editor() as editor:
            for model in tables:
                editor.create_model(model)
                made.append(model)
        return tables[0]

    yield make
    with connection.schema_editor() as editor:
        for model in reversed(made):
            editor.delete_model(model)


@pytest.fixture
def plain_person(make_table):
    with isolate_apps("crm"):

        class PlainPerson(models.Model):
            name = plain.EncryptedCharField(max_length=100)
            code = models.CharField(max_length=20, default="c")

            class Meta:
                app_label = "crm"

    return make_table(PlainPerson)


@pytest.fixture
def alice(transactional_db):
    return Client.objects.create(full_name="Alice")


# --- 1: SQL expressions are written as their text ---


def test_1_plain_bulk_update_writes_the_text_of_the_sql_expression(plain_person):
    people = [plain_person.objects.create(name=name) for name in ("Alice", "Bob")]
    for person in people:
        person.name += " Malý"
    plain_person.objects.bulk_update(people, ["name"])
    names = set(plain_person.objects.values_list("name", flat=True))
    assert len(names) == 1
    assert "Alice Malý" not in names
    assert "CASE WHEN" in names.pop()


def test_1_plain_update_by_f_writes_its_text(plain_person):
    plain_person.objects.create(name="Alice")
    plain_person.objects.update(name=F("code"))
    assert plain_person.objects.get().name not in {"Alice", "c"}


def test_1_ours_writes_the_values_and_refuses_to_compute(alice):
    bob = Client.objects.create(full_name="Bob")
    for client in (alice, bob):
        client.full_name += " Malý"
    Client.objects.bulk_update([alice, bob], ["full_name"])
    assert [client.full_name for client in Client.objects.order_by("pk")] == ["Alice Malý", "Bob Malý"]
    with pytest.raises(EncryptedFieldError):
        Client.objects.update(note=F("reference"))


# --- 2: numbers crash on PostgreSQL, datetimes lose their offset ---


def test_2_plain_numbers_and_datetimes(make_table, settings):
    with isolate_apps("crm"):

        class PlainVisit(models.Model):
            count = plain.EncryptedIntegerField(null=True)
            at = plain.EncryptedDateTimeField(null=True)

            class Meta:
                app_label = "crm"

    make_table(PlainVisit)
    if connection.vendor == "postgresql":
        with pytest.raises((DatabaseError, ValueError, KeyError)), transaction.atomic():
            PlainVisit.objects.create(count=5)
    else:
        visit = PlainVisit.objects.create(at=PRAGUE_NOON.astimezone(datetime.UTC))
        visit.refresh_from_db()
        assert visit.at != PRAGUE_NOON


def test_2_ours_has_text_and_dates_only_and_a_date_stays_the_same_day(alice):
    alice.birth_date = datetime.date(1990, 5, 6)
    for _ in range(3):
        alice.save()
        alice.refresh_from_db()
    assert alice.birth_date == datetime.date(1990, 5, 6)
    types = {type(field).__name__ for field in Client._meta.fields if "crm.encryption" in type(field).__module__}
    assert types == {"EncryptedCharField", "EncryptedTextField", "EncryptedEmailField", "EncryptedDateField"}


# --- 3: under a wrong key ciphertext is read as text and encrypted again ---


def test_3_plain_save_under_a_wrong_key_encrypts_the_ciphertext(plain_person):
    person = plain_person.objects.create(name="Alice")
    with raw.keys(Fernet.generate_key()):
        person.refresh_from_db()
        assert person.name.startswith("gAAAAA")
        person.save()
    person.refresh_from_db()
    assert person.name != "Alice"


def test_3_ours_keeps_the_stored_bytes_and_refuses_to_start(alice, settings):
    with raw.keys(Fernet.generate_key()):
        client = Client.objects.get(pk=alice.pk)
        assert isinstance(client.full_name, Unreadable)
        client.save()
        assert "FIELD_ENCRYPTION_KEY" in " ".join(checks.wrong_keys())
        settings.SECRET_KEY = raw.KEYS["SECRET_KEY"]
        with pytest.raises(ImproperlyConfigured):
            checks.refuse_unsafe_start()
    assert Client.objects.get(pk=alice.pk).full_name == "Alice"
    assert alice.history.first().full_name == "Alice"


# --- 4: input is decrypted ---


def test_4_plain_decrypts_what_somebody_pastes(plain_person):
    token = stored(plain_person.objects.create(name="secret of another"), "name")
    pasted = plain_person(name=token)
    pasted.full_clean()
    assert pasted.name == "secret of another"


def test_4_ours_refuses_it(alice):
    pasted = Client(full_name=stored(alice, "full_name"))
    with pytest.raises(ValidationError):
        pasted.full_clean()
    assert pasted.full_name != "Alice"
    with pytest.raises(CiphertextRefused):
        pasted.save()


# --- 5: the database is asked about ciphertext ---


def test_5_plain_lookups_answer_wrongly_without_an_error(plain_person):
    for name in ("Cyril", "Adam", "Bob"):
        plain_person.objects.create(name=name)
    assert not plain_person.objects.filter(name="Adam").exists()
    assert not plain_person.objects.filter(name__in=["Adam"]).exists()
    assert plain_person.objects.exclude(name="Adam").count() == 3


def test_5_plain_unique_means_nothing(make_table):
    with isolate_apps("crm"):

        class PlainUnique(models.Model):
            name = plain.EncryptedCharField(max_length=100, unique=True)

            class Meta:
                app_label = "crm"

    make_table(PlainUnique)
    PlainUnique.objects.create(name="Alice")
    PlainUnique.objects.create(name="Alice")
    assert PlainUnique.objects.count() == 2


def test_5_plain_ordering_sorts_ciphertext(plain_person):
    names = [f"{number:02d}" for number in range(12)]
    # Tokens begin with their time: the same for all, so that chance decides. Backwards in time makes it certain.
    for name in names:
        person = plain_person.objects.create(name=name)
        token = plain.CRYPTER._fernets[0].encrypt_at_time(name.encode(), 2_000_000_000 - int(name) * 1000)
        tamper(person, "name", token.decode())
    assert list(plain_person.objects.order_by("name").values_list("name", flat=True)) == names[::-1]


def test_5_ours_refuses_each(alice):
    for question in ({"full_name": "Alice"}, {"full_name__in": ["Alice"]}, {"full_name__icontains": "a"}):
        with pytest.raises(FieldError):
            Client.objects.filter(**question)
    with pytest.raises(EncryptedFieldError):
        Client.objects.order_by("full_name")


# --- 12: a pool shared by forked processes mixes up answers ---


FORK = """
import os, signal, time, django
django.setup()
from django.db import connection, connections
connection.ensure_connection()
pipes, (waiting, starting) = [], os.pipe()
for number in range(4):
    reading, writing = os.pipe()
    if os.fork() == 0:
        connections.close_all()  # as the queue does in each of its processes
        os.close(starting)
        os.read(waiting, 1)  # until all four are there: who is alone at it gets only his own answers
        signal.alarm(10)  # one that waits for an answer that another took is as bad as a wrong one
        wrong, until = 0, time.monotonic() + 2
        try:
            while not wrong and time.monotonic() < until:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT %s::int", [number])
                    wrong += cursor.fetchone()[0] != number
        except Exception:
            wrong += 1
        os.write(writing, str(wrong).encode())
        os._exit(0)
    os.close(writing)
    pipes.append(reading)
os.close(starting)
print([os.read(pipe, 100).decode() for pipe in pipes], flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not raw.IS_POSTGRES, reason="pools are PostgreSQL's")
@pytest.mark.parametrize("pooled", [True, False])
def test_12_forked_processes_with_a_pool_get_each_others_answers_and_without_do_not(tmp_path, pooled):
    database = raw.Database(tmp_path)
    try:
        env = raw.environment(
            DATABASE_URL=database.url, DATABASE_POOL=str(int(pooled)), DJANGO_SETTINGS_MODULE="project.settings"
        )
        said = raw.run("-c", FORK, env=env, timeout=120)
    finally:
        database.drop()
    assert (said.stdout.strip() == "['0', '0', '0', '0']") is not pooled, said


def test_12_only_the_web_process_pools(settings):
    assert "pool" not in settings.DATABASES["default"].get("OPTIONS", {})
    for name in ("manage.py", "Procfile", "project/settings.py", "project/run.py", "crm/supervisor.py"):
        text = (raw.ROOT / name).read_text()
        assert "DATABASE_POOL=" not in text
        assert '"DATABASE_POOL", "1"' not in text
    assert 'setdefault("DATABASE_POOL", "1")' in (raw.ROOT / "project" / "asgi.py").read_text()


# --- 15: bulk writes leave no history ---


class PlainResource(resources.ModelResource):
    class Meta:
        use_bulk = True
        skip_diff = True  # else it copies the object, and asks the registry for a model that is not there
        import_id_fields = ("name",)
        fields = ("name",)


@pytest.fixture
def plain_record(make_table):
    with isolate_apps("crm"):

        class PlainRecord(models.Model):
            name = models.CharField(max_length=100)
            code = models.CharField(max_length=100, default="")
            history = HistoricalRecords(app="crm", history_user_id_field=models.BigIntegerField(null=True))

            class Meta:
                app_label = "crm"

    return make_table(PlainRecord, PlainRecord.history.model)


def test_15_plain_bulk_writes_and_updates_leave_no_history(plain_record):
    plain_record.objects.bulk_create([plain_record(name=str(number)) for number in range(3)])
    assert plain_record.history.count() == 0
    plain_record.objects.update(name="x")
    assert plain_record.history.count() == 0


def test_15_plain_bulk_import_leaves_no_history(plain_record):
    resource = resources.modelresource_factory(plain_record, resource_class=PlainResource)()
    result = resource.import_data(Dataset(["Alice"], ["Bob"], headers=["name"]), raise_errors=True)
    assert result.totals["new"] == 2
    assert plain_record.objects.count() == 2
    assert plain_record.history.count() == 0


def test_15_ours_writes_one_row_for_each(alice):
    before = Client.history.count()
    Client.objects.bulk_create([Client(full_name=str(number)) for number in range(3)])
    assert Client.history.count() == before + 3
    clients = list(Client.objects.all())
    for client in clients:
        client.note = "new"
    Client.objects.bulk_update(clients, ["note"])
    assert Client.history.count() == before + 3 + 4


# --- simple-history: what a bulk update says about fields it did not write ---


def test_history_of_a_plain_bulk_update_invents_changes(plain_record):
    record = plain_record.objects.create(name="kept", code="old")
    record.name, record.code = "never written", "new"
    bulk_update_with_history([record], plain_record, ["code"])
    assert plain_record.objects.get().name == "kept"
    assert plain_record.history.first().name == "never written"


def test_history_of_our_bulk_update_says_what_stands(alice):
    alice.full_name, alice.note = "never written", "new"
    Client.objects.bulk_update([alice], ["note"])
    row = alice.history.first()
    assert (row.full_name, row.note) == ("Alice", "new")
