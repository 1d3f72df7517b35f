"""History at the level of models: who, when, as part of what, from where and why; and what never gets into it."""

import asyncio
import datetime
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from crm import roles
from crm.choices import Source
from crm.encryption import looks_encrypted
from crm.models import AuditEntry, Case, Client, CrmModel, Lender, User, operation
from crm.models.history import one_row
from crm.models.operations import current_operation
from crm.tests.raw import stored

PASSWORD = "a long enough password"


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice", first_name="Alice", last_name="Nováková", password=PASSWORD)


@pytest.fixture
def bob(db):
    return User.objects.create_user("bob", first_name="Bob", last_name="Malý")


@pytest.fixture
def charlie(db):
    return Client.objects.create(full_name="Charlie", email="charlie@example.com")


def change(client):
    client.note = f"{client.note}x"
    client.save()


@pytest.mark.parametrize("model", [*CrmModel.__subclasses__(), User], ids=lambda model: model.__name__)
def test_a_history_has_columns_of_its_own(model):
    """Django writes an update of another model's field into the table of that one."""
    history = model.history.model
    assert {field.model for field in history._meta.concrete_fields} == {history}


# --- Who ---


def test_a_row_names_who_wrote_it_for_ever(alice, charlie):
    with operation(Source.ADMIN, user=alice):
        change(charlie)
    number = alice.pk
    alice.first_name = "Alena"
    alice.save()
    row = charlie.history.first()
    assert (row.history_user_id, row.history_user_name) == (number, "Alice Nováková")
    alice.delete()
    row = charlie.history.first()
    assert (row.history_user_id, row.history_user_name) == (number, "Alice Nováková")


def test_a_very_long_name_is_cut_and_never_stops_a_write(charlie):
    user = User.objects.create_user("x", first_name="a" * 150, last_name="b" * 150)
    with operation(user=user):
        change(charlie)
    assert len(charlie.history.first().history_user_name) == 200


def test_nobody_known_is_nobody(charlie):
    with operation(Source.ADMIN, user=AnonymousUser()):
        change(charlie)
    row = charlie.history.first()
    assert (row.history_user_id, row.history_user_name) == (None, "")


def test_simple_historys_own_way_to_name_a_user_gives_id_and_name_alike(alice, bob, charlie):
    with operation(user=alice):
        charlie._history_user = bob
        change(charlie)
    row = charlie.history.first()
    assert (row.history_user_id, row.history_user_name) == (bob.pk, "Bob Malý")


# --- As part of what ---


def test_all_rows_of_one_operation_share_its_id(alice, charlie):
    with operation(Source.COMMAND, user=alice) as active:
        change(charlie)
        Client.objects.bulk_create([Client(full_name="Dana"), Client(full_name="Eva")])
        Lender.objects.create(name="Banka Pod Lipou")
        charlie.note = "y"
        Client.objects.bulk_update([charlie], ["note"])
        Client.objects.filter(pk=charlie.pk).delete()
    rows = [*Client.history.filter(operation_id=active.id), *Lender.history.filter(operation_id=active.id)]
    assert sorted(row.history_type for row in rows) == ["+", "+", "+", "-", "~", "~"]
    assert {(row.history_user_id, row.history_user_name, row.source) for row in rows} == {
        (alice.pk, "Alice Nováková", "command")
    }


def test_outside_of_an_operation_every_row_has_an_id_of_its_own(charlie):
    change(charlie)
    rows = charlie.history.all()
    assert len({row.operation_id for row in rows}) == 2
    assert {row.source for row in rows} == {Source.SHELL}


def test_an_inner_operation_keeps_the_outer_ones_id_and_what_it_does_not_say(alice, bob):
    with operation(Source.JOB, user=alice, reason="night") as outer:
        with operation() as inner:
            assert (inner.id, inner.source, inner.user, inner.reason) == (outer.id, Source.JOB, alice, "night")
        with operation(Source.IMPORT, user=bob, reason="file") as inner:
            assert (inner.id, inner.source, inner.user, inner.reason) == (outer.id, Source.IMPORT, bob, "file")
        assert current_operation() is outer
    assert current_operation() is None


def test_an_operation_ends_with_an_error_too():
    with pytest.raises(RuntimeError), operation():
        raise RuntimeError
    assert current_operation() is None


@pytest.mark.parametrize("source", Source.values)
def test_every_source_fits(charlie, source):
    with operation(source):
        change(charlie)
    assert charlie.history.first().source == source


# --- Why ---


def test_the_reason_is_kept_and_encrypted(charlie):
    with operation(reason="Client asked by phone"):
        change(charlie)
        charlie.note = "other"
        Client.objects.bulk_update([charlie], ["note"])
    one, other = charlie.history.all()[:2]
    for row in (one, other):
        assert row.history_change_reason == "Client asked by phone"
        assert looks_encrypted(stored(row, "history_change_reason"))


def test_a_reason_of_the_object_goes_before_the_operations(charlie):
    charlie._change_reason = "its own"
    with operation(reason="the operation's"):
        change(charlie)
    assert charlie.history.first().history_change_reason == "its own"


def test_no_reason_is_null(charlie):
    assert stored(charlie.history.first(), "history_change_reason") is None


# --- What ---


def test_every_model_that_people_edit_has_a_history_with_our_columns():
    for model in [*CrmModel.__subclasses__(), User]:
        names = {field.name for field in model.history.model._meta.get_fields()}
        assert {"history_user_id", "history_user_name", "operation_id", "source", "history_change_reason"} <= names, (
            model
        )
    assert {Client, Case, Lender} <= set(CrmModel.__subclasses__())


def test_encrypted_fields_are_encrypted_in_the_history_too():
    for model in CrmModel.__subclasses__():
        for field in model.history.model._meta.concrete_fields:
            original = {own.attname: own for own in model._meta.concrete_fields}.get(field.attname)
            if (
                original is not None
                and hasattr(original, "save_form_data")
                and "crm.encryption" in type(original).__module__
            ):
                assert type(field) is type(original)


def test_deleting_keeps_the_history(charlie):
    number = charlie.pk
    charlie.delete()
    rows = list(Client.history.filter(id=number))
    assert [row.history_type for row in rows] == ["-", "+"]
    assert rows[0].full_name == "Charlie"


def test_deleting_a_client_loaded_without_his_encrypted_fields_keeps_them_in_the_history(charlie):
    number = charlie.pk
    Client.objects.defer_encrypted().filter(pk=number).delete()
    row = Client.history.filter(id=number).first()
    assert (row.history_type, row.full_name, row.email) == ("-", "Charlie", "charlie@example.com")


def test_deleting_a_user_loaded_in_part_is_no_error(alice):
    number = alice.pk
    User.objects.only("username").get(pk=number).delete()
    assert User.history.filter(id=number).first().history_type == "-"


def test_saving_a_client_loaded_in_part_writes_a_whole_history_row(charlie, django_assert_max_num_queries):
    client = Client.objects.defer_encrypted().get(pk=charlie.pk)
    client.citizenship = "CZ"
    with django_assert_max_num_queries(6):
        client.save()
    row = charlie.history.first()
    assert (row.citizenship, row.full_name, row.email) == ("CZ", "Charlie", "charlie@example.com")


def test_a_bulk_update_invents_no_change_of_what_it_did_not_write(charlie):
    stale = Client.objects.get(pk=charlie.pk)
    charlie.email = "new@example.com"
    change(charlie)
    stale.phone = "unwritten"
    stale.note = "written"
    Client.objects.bulk_update([stale], ["note"])
    row = charlie.history.first()
    assert (row.email, row.phone, row.note) == ("new@example.com", "", "written")


def test_a_bulk_update_of_objects_loaded_in_part_writes_whole_rows(charlie):
    client = Client.objects.only("note").get(pk=charlie.pk)
    client.note = "written"
    Client.objects.bulk_update([client], ["note"])
    assert charlie.history.first().full_name == "Charlie"


def test_bulk_writes_give_one_row_for_each_object(db):
    clients = Client.objects.bulk_create([Client(full_name=f"Client {number}") for number in range(7)])
    assert Client.history.filter(history_type="+").count() == 7
    for client in clients:
        client.birth_date = datetime.date(1990, 1, 1)
    Client.objects.bulk_update(clients[:3], ["birth_date"])
    assert Client.history.filter(history_type="~").count() == 3
    assert Client.history.filter(history_type="~").first().birth_date == datetime.date(1990, 1, 1)
    assert Client.objects.bulk_create([]) == []
    assert not Client.objects.bulk_update([], ["note"])


def test_a_bulk_write_that_fails_leaves_neither_row_nor_history(charlie):
    from django.db import IntegrityError

    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.bulk_create([Client(full_name="Dana"), Client(full_name="Eva", reference=charlie.reference)])
    assert Client.history.count() == 1


# --- What was rolled back ---


def test_a_save_after_a_rolled_back_one_writes_what_is_not_stored(charlie):
    charlie.note, charlie.phone, charlie.email = "kept", "601", "new@example.com"
    with pytest.raises(RuntimeError), transaction.atomic():
        charlie.save()
        charlie.phone = "602"
        charlie.save()
        raise RuntimeError
    before = charlie.history.count()
    charlie.save()
    stored = Client.objects.get(pk=charlie.pk)
    assert (stored.note, stored.phone) == ("kept", "602")
    assert list(Client.objects.search("new@example.com")) == [charlie]
    charlie.save()
    assert charlie.history.count() == before + 1


def test_a_save_before_the_one_that_was_rolled_back_stays_stored(charlie):
    charlie.note = "kept"
    charlie.save()
    Client.objects.filter(pk=charlie.pk).update(note="of another")
    charlie.phone = "601"
    with pytest.raises(RuntimeError), transaction.atomic():
        charlie.save()
        raise RuntimeError
    charlie.save()
    stored = Client.objects.get(pk=charlie.pk)
    assert (stored.note, stored.phone) == ("of another", "601")


@pytest.mark.parametrize("create", [lambda client: client.save(), lambda client: Client.objects.bulk_create([client])])
def test_a_record_that_was_rolled_back_is_made_again_and_is_no_others(db, create):
    dana = Client(full_name="Dana")
    with pytest.raises(RuntimeError), transaction.atomic():
        create(dana)
        raise RuntimeError
    eva = Client.objects.create(full_name="Eva", reference="C-000999")
    dana.save()
    assert Client.objects.get(pk=eva.pk).full_name == "Eva"
    assert Client.objects.get(pk=dana.pk).full_name == "Dana" and dana.pk != eva.pk
    assert Client.objects.create(full_name="Fanda").reference not in (dana.reference, eva.reference)


@pytest.mark.django_db(transaction=True)
def test_a_committed_save_takes_back_nobodys_change():
    client = Client.objects.create(full_name="Dana")
    with transaction.atomic():
        client.phone = "601"
        client.save()
    Client.objects.filter(pk=client.pk).update(phone="602")
    client.note = "mine"
    client.save()
    stored = Client.objects.get(pk=client.pk)
    assert (stored.phone, stored.note) == ("602", "mine")


def test_a_second_save_in_a_transaction_costs_no_more_than_the_first(charlie):
    with operation(), CaptureQueriesContext(connection) as first:
        change(charlie)
        with CaptureQueriesContext(connection) as second:
            change(charlie)
    assert len(second) * 2 + 1 == len(first)  # the operation's line in the audit trail


# --- Users ---


def test_a_login_is_no_change_of_the_record(alice, client):
    before = alice.history.count()
    client.force_login(alice)
    assert User.objects.get(pk=alice.pk).last_login
    alice.last_login = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC)
    alice.save(update_fields=["last_login"])
    assert alice.history.count() == before
    alice.last_login = None
    alice.language = "en"
    alice.save()
    assert alice.history.count() == before + 1


def test_no_password_gets_into_the_history(alice):
    alice.set_password("another long password")
    alice.save()
    names = {field.name for field in User.history.model._meta.get_fields()}
    assert not {"password", "last_login"} & names
    assert "md5" not in str(list(User.history.values()))


def test_a_change_of_groups_is_a_change_of_the_user(alice):
    before = alice.history.count()
    group = Group.objects.create(name="Own group")
    alice.groups.add(group)
    assert alice.history.count() == before + 1
    assert [row.group_id for row in alice.history.first().groups.all()] == [group.pk]


def test_a_person_written_in_parts_leaves_one_row(alice):
    before = alice.history.count()
    with one_row():
        alice.first_name = "Alena"
        alice.save()
        roles.assign(alice, roles.MANAGER)
    row = alice.history.first()
    assert alice.history.count() == before + 1
    assert (row.first_name, row.is_staff, [each.group.name for each in row.groups.all()]) == (
        "Alena",
        True,
        ["Manager"],
    )


def test_a_person_made_in_parts_begins_with_one_row(db):
    root = roles.first_administrator("root@example.com")
    row = root.history.get()
    assert (row.history_type, [each.group.name for each in row.groups.all()]) == ("+", ["Administrator"])


def test_parts_that_fail_leave_no_row(alice):
    before = alice.history.count()
    with pytest.raises(RuntimeError), one_row():
        alice.first_name = "Alena"
        alice.save()
        raise RuntimeError
    assert alice.history.count() == before
    assert User.objects.get(pk=alice.pk).first_name == "Alice"


def test_who_loses_a_group_or_a_permission_that_is_deleted_has_a_row_that_says_so(alice, bob):
    group = Group.objects.create(name="Own group")
    permission = Permission.objects.first()
    for user in (alice, bob):
        user.groups.add(group)
        user.user_permissions.add(permission)
    before = User.history.count()
    with operation(Source.ADMIN) as active:
        Group.objects.filter(pk=group.pk).delete()
    assert User.history.count() == before + 2
    assert not any(user.history.first().groups.exists() for user in (alice, bob))
    assert User.history.filter(operation_id=active.id).count() == 2
    assert "deleted" in str(AuditEntry.objects.filter(kind="permissions").first().detail)
    permission.delete()
    assert User.history.count() == before + 4
    assert not alice.history.first().user_permissions.exists()


def test_a_change_of_groups_from_the_groups_side_is_one_too(alice):
    before = alice.history.count()
    group = Group.objects.create(name="Own group")
    group.user_set.add(alice)
    assert [row.group_id for row in alice.history.first().groups.all()] == [group.pk]
    group.user_set.remove(alice)
    assert alice.history.count() == before + 2
    assert not alice.history.first().groups.exists()
    group.user_set.add(alice)
    group.user_set.clear()
    assert alice.history.count() == before + 4
    assert not alice.history.first().groups.exists()


# --- Many at once ---


def rename(request, number):
    client = Client.objects.get(pk=number)
    client.note = request.user.username
    client.save()
    return HttpResponse(str(current_operation().id))


urlpatterns = [path("rename/<int:number>/", rename)]


@pytest.mark.django_db(transaction=True)
@override_settings(ROOT_URLCONF=__name__)
def test_sixty_saves_at_once_by_two_people_are_each_attributed_rightly():
    people = [User.objects.create_user(name) for name in ("alice", "bob")]
    clients = [Client.objects.create(full_name=f"Client {number}") for number in range(60)]

    async def browse(user, mine):
        browser = AsyncClient()
        await browser.aforce_login(user)
        return await asyncio.gather(*(browser.get(f"/rename/{client.pk}/") for client in mine))

    async def all_at_once():
        answers = await asyncio.gather(browse(people[0], clients[::2]), browse(people[1], clients[1::2]))
        await sync_to_async(connections.close_all)()  # in the thread of the views, which outlives the test
        return answers

    answers = [answer for one in asyncio.run(all_at_once()) for answer in one]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 60
    rows = Client.history.filter(history_type="~")
    assert len(rows) == 60
    assert all(row.note == row.history_user_name for row in rows)
    assert all(row.history_user_id == people[row.history_user_name == "bob"].pk for row in rows)
    assert {str(row.operation_id).encode() for row in rows} == {answer.content for answer in answers}


def test_operations_of_two_coroutines_do_not_mix():
    async def work(reason):
        with operation(Source.JOB, reason=reason) as mine:
            for _ in range(5):
                await asyncio.sleep(0)
                assert current_operation() is mine
                assert await sync_to_async(current_operation)() is mine
            return mine.id

    async def both():
        return await asyncio.gather(work("one"), work("other"))

    one, other = asyncio.run(both())
    assert isinstance(one, uuid.UUID)
    assert one != other
