"""Users and roles: only an administrator changes them, nobody promotes himself; lockouts and the queue are looked at."""

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.urls import reverse
from django_q.admin import ScheduleAdmin as PlainScheduleAdmin
from django_q.models import Schedule

from crm import models, roles
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db
LIST = "/admin/crm/user/"


def change(user) -> str:
    return reverse("admin:crm_user_change", args=[user.pk])


def typed(user, **fields) -> dict:
    shown = {"username": user.username, "language": user.language, "role": roles.role_of(user), "is_active": "on"}
    return {**shown, **as_now(user), **fields}


def role(user) -> str:
    return roles.role_of(models.User.objects.get(pk=user.pk))


def test_an_administrator_makes_a_colleague_with_one_role(administrator, client):
    client.force_login(administrator)
    data = {"username": "bob", "first_name": "Bob", "language": "cs", "role": roles.ADVISER, "usable_password": "true"}
    data |= {"password1": "a long enough password", "password2": "a long enough password"}
    answer = client.post(f"{LIST}add/", data)
    assert answer.status_code == 302
    bob = models.User.objects.get(username="bob")
    assert (role(bob), bob.is_staff, bob.is_superuser) == (roles.ADVISER, True, False)
    assert bob.check_password("a long enough password")


NEW = {"username": "bob", "first_name": "Bob", "language": "cs", "role": roles.ADVISER, "usable_password": "true"}


def test_a_new_colleague_is_welcomed_and_sets_his_password_himself(administrator, client):
    client.force_login(administrator)
    data = NEW | {"email": "bob@example.com", "wants_welcome": "on"}
    page = client.post(f"{LIST}add/", data, follow=True).content.decode()
    bob = models.User.objects.get(username="bob")
    assert "bob@example.com" in page and not bob.has_usable_password()
    message = models.MessageLog.objects.get()
    assert (message.kind, message.user, message.recipient) == ("welcome", bob, "bob@example.com")


@pytest.mark.parametrize(
    "fields", [{}, {"email": "", "wants_welcome": "on"}, {"role": roles.CLIENT, "wants_welcome": "on"}]
)
def test_without_a_welcome_a_password_is_needed(administrator, client, fields):
    client.force_login(administrator)
    data = NEW | {"email": "bob@example.com"} | fields
    assert client.post(f"{LIST}add/", data).context["adminform"].form.errors.keys() == {"password1", "password2"}
    data |= {"password1": "a long enough password", "password2": "a long enough password"}
    assert client.post(f"{LIST}add/", data).status_code == 302
    assert not models.MessageLog.objects.exists()


def test_one_password_of_two_is_a_mistake_also_with_a_welcome(administrator, client):
    client.force_login(administrator)
    data = NEW | {"email": "bob@example.com", "wants_welcome": "on", "password1": "a long enough password"}
    assert client.post(f"{LIST}add/", data).context["adminform"].form.errors.keys() == {"password2"}


def test_an_administrator_mails_a_link_again(administrator, adviser, client):
    client.force_login(administrator)
    path = reverse("admin:crm_user_mail_link", args=[adviser.pk])
    assert path in client.get(change(adviser)).content.decode()
    assert client.get(path).status_code == 200 and not models.MessageLog.objects.exists()
    assert client.post(path).status_code == 302
    assert models.MessageLog.objects.get().recipient == adviser.email
    client.post(path)
    assert models.MessageLog.objects.count() == 1


@pytest.mark.parametrize("fields", [{"is_active": False}, {"email": ""}, {"is_staff": False}])
def test_nobody_mails_a_link_that_would_be_of_no_use(administrator, adviser, client, fields):
    models.User.objects.filter(pk=adviser.pk).update(**fields)
    client.force_login(administrator)
    path = reverse("admin:crm_user_mail_link", args=[adviser.pk])
    assert path not in client.get(change(adviser)).content.decode()
    assert client.post(path).status_code == 403


def test_only_an_administrator_mails_a_link(manager, adviser, client):
    client.force_login(manager)
    path = reverse("admin:crm_user_mail_link", args=[adviser.pk])
    assert path not in client.get(change(adviser)).content.decode()
    assert client.post(path).status_code == 403
    root = models.User.objects.create_superuser("root", email="root@example.com", password="a long enough password")
    client.force_login(factories.make_user(roles.ADMINISTRATOR))
    assert client.post(reverse("admin:crm_user_mail_link", args=[root.pk])).status_code == 403
    assert not models.MessageLog.objects.exists()


def test_an_administrator_changes_role_language_and_absence(administrator, adviser, client):
    client.force_login(administrator)
    data = typed(adviser, role=roles.MANAGER, language="en", absent_from="1. 7. 2026", absent_until="2026-07-14")
    assert client.post(change(adviser), data).status_code == 302
    adviser.refresh_from_db()
    assert (role(adviser), adviser.language, adviser.absent_from.day) == (roles.MANAGER, "en", 1)
    assert list(adviser.groups.values_list("name", flat=True)) == [roles.MANAGER]


@pytest.mark.parametrize("fields", [{"role": roles.ADVISER}, {"is_active": ""}])
def test_the_last_administrator_stays_one(administrator, client, fields):
    client.force_login(administrator)
    assert client.post(change(administrator), typed(administrator, **fields)).status_code == 200
    administrator.refresh_from_db()
    assert (role(administrator), administrator.is_active) == (roles.ADMINISTRATOR, True)
    assert client.post(f"{LIST}{administrator.pk}/delete/", {"post": "yes"}).status_code == 403


def test_one_administrator_of_two_may_become_an_adviser(administrator, client):
    other = factories.make_user(roles.ADMINISTRATOR)
    client.force_login(administrator)
    assert client.post(change(other), typed(other, role=roles.ADVISER)).status_code == 302
    assert role(other) == roles.ADVISER


def test_a_new_colleagues_role_is_chosen_and_not_given(administrator, client):
    client.force_login(administrator)
    data = {"username": "bob", "language": "cs", "role": "", "usable_password": "true"}
    data |= {"password1": "a long enough password", "password2": "a long enough password"}
    assert client.post(f"{LIST}add/", data).status_code == 200
    assert not models.User.objects.filter(username="bob").exists()


def test_an_absence_that_ends_before_it_begins_is_an_error(administrator, adviser, client):
    client.force_login(administrator)
    data = typed(adviser, absent_from="14. 7. 2026", absent_until="1. 7. 2026")
    assert client.post(change(adviser), data).status_code == 200


def test_an_absence_without_a_beginning_is_an_error(adviser, client):
    client.force_login(factories.make_user(roles.ADMINISTRATOR, language="en"))
    page = client.post(change(adviser), typed(adviser, absent_from="", absent_until="14. 7. 2026"))
    assert "Say since when" in page.content.decode()
    adviser.refresh_from_db()
    assert adviser.absent_until is None


@pytest.mark.parametrize("maker", [roles.MANAGER, roles.ADVISER, roles.ASSISTANT, roles.AUDITOR])
def test_nobody_else_changes_users_nor_himself(maker, client):
    user = factories.make_user(maker)
    client.force_login(user)
    assert client.post(change(user), typed(user, role=roles.ADMINISTRATOR, is_superuser="on")).status_code == 403
    assert client.post(f"{change(user).removesuffix('change/')}password/", {}).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    assert role(user) == maker


def test_a_permission_alone_makes_no_administrator(manager, client):
    """An office may give a manager the permission by hand; the role is still not his to choose."""
    manager.user_permissions.set(Permission.objects.filter(codename__in=["change_user", "add_user", "delete_user"]))
    client.force_login(models.User.objects.get(pk=manager.pk))
    assert client.post(change(manager), typed(manager, role=roles.ADMINISTRATOR)).status_code == 403
    assert role(manager) == roles.MANAGER


def test_an_administrator_does_not_take_over_a_superuser(administrator, client):
    root = models.User.objects.create_superuser("root", password="a long enough password")
    client.force_login(administrator)
    path = f"{change(root).removesuffix('change/')}password/"
    new = {"password1": "another long password", "password2": "another long password", "usable_password": "true"}
    assert client.post(path, new).status_code == 403
    assert client.post(change(root), typed(root, role=roles.CLIENT)).status_code == 403


def test_a_superuser_is_not_made_by_a_form(administrator, adviser, client):
    client.force_login(administrator)
    client.post(change(adviser), typed(adviser, is_superuser="on", is_staff="on"))
    assert not models.User.objects.get(pk=adviser.pk).is_superuser


def test_an_administrator_sets_a_password_and_history_does_not_keep_it(administrator, adviser, client):
    client.force_login(administrator)
    path = f"{change(adviser).removesuffix('change/')}password/"
    new = {"password1": "another long password", "password2": "another long password", "usable_password": "true"}
    assert client.get(path).status_code == 200
    assert client.post(path, new).status_code == 302
    adviser.refresh_from_db()
    assert adviser.check_password("another long password")
    assert not hasattr(adviser.history.first(), "password")


def test_a_manager_looks_at_users_without_their_hashes(manager, adviser, client):
    client.force_login(manager)
    page = client.get(change(adviser)).content.decode()
    assert adviser.password not in page
    assert "md5" not in page


def test_an_adviser_has_no_list_of_users_but_picks_one(adviser, client):
    factories.make_user(roles.MANAGER, first_name="Marie", last_name="Svobodová")
    models.User.objects.create_user("svobodova-client", last_name="Svobodová")
    client.force_login(adviser)
    assert client.get(LIST).status_code == 403
    asked = {"term": "svob", "app_label": "crm", "model_name": "case", "field_name": "stand_in"}
    found = client.get(reverse("admin:autocomplete"), asked).json()["results"]
    assert [choice["text"] for choice in found] == ["Marie Svobodová"]


def test_a_clients_login_picks_nobody(client):
    user = factories.make_user(roles.CLIENT)
    client.force_login(user)
    asked = {"term": "", "app_label": "crm", "model_name": "case", "field_name": "stand_in"}
    assert client.get(reverse("admin:autocomplete"), asked).status_code == 302


def test_roles_are_looked_at_only(administrator, client):
    client.force_login(administrator)
    group = Group.objects.get(name=roles.MANAGER)
    path = reverse("admin:auth_group_change", args=[group.pk])
    assert client.get(path).status_code == 200
    assert client.post(path, {"name": "Manager"}).status_code == 403


def test_an_administrator_lifts_a_lock(administrator, client):
    attempt = AccessAttempt.objects.create(username="bob", ip_address="127.0.0.1", failures_since_start=10)
    client.force_login(administrator)
    data = {"action": "unlock", "_selected_action": [attempt.pk]}
    assert client.post("/admin/axes/accessattempt/", data).status_code == 302
    assert not AccessAttempt.objects.exists()


def test_nobody_else_lifts_a_lock(manager, client):
    attempt = AccessAttempt.objects.create(username="bob", ip_address="127.0.0.1", failures_since_start=10)
    manager.user_permissions.add(Permission.objects.get(codename="view_accessattempt"))
    client.force_login(models.User.objects.get(pk=manager.pk))
    client.post("/admin/axes/accessattempt/", {"action": "unlock", "_selected_action": [attempt.pk]})
    assert AccessAttempt.objects.exists()


def test_a_lockout_does_not_show_what_was_typed(administrator, client):
    attempt = AccessAttempt.objects.create(
        username="bob", ip_address="127.0.0.1", failures_since_start=10, post_data="password=hunter2"
    )
    client.force_login(administrator)
    page = client.get(reverse("admin:axes_accessattempt_change", args=[attempt.pk])).content.decode()
    assert "hunter2" not in page


def test_a_schedule_cannot_be_written(rf, client):
    """stack.md 13: the function is free text that the worker runs; the plain page takes any."""
    root = models.User.objects.create_superuser("root", password="a long enough password")
    request = rf.get("/")
    request.user = root
    assert PlainScheduleAdmin(Schedule, admin.site).has_add_permission(request)
    schedule = Schedule.objects.create(name="night", func="crm.tasks.x")
    client.force_login(root)
    evil = {"name": "night", "func": "os.system", "args": "'true'", "schedule_type": "O", "repeats": 1}
    assert client.post("/admin/django_q/schedule/add/", evil).status_code == 404
    assert client.post(f"/admin/django_q/schedule/{schedule.pk}/change/", evil).status_code == 404
    schedule.refresh_from_db()
    assert schedule.func == "crm.tasks.x"
