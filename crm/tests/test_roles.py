import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from crm import roles
from crm.models import Step, User
from crm.tests.factories import make_user

pytestmark = pytest.mark.django_db

MAY = {
    roles.MANAGER: [
        "import_client",
        "export_case",
        "hand_over_case",
        "override_step_order",
        "change_lender",
        "reject_case",
        "export_messagelog",
        "export_commission",
    ],
    roles.ADVISER: [
        "change_case",
        "delete_note",
        "export_client",
        "export_casestep",
        "export_identification",
        "reject_case",
        "withdraw_case",
        "approve_case",
    ],
    roles.ASSISTANT: ["change_case", "add_client", "change_casestep", "add_note"],
    roles.AUDITOR: ["view_client", "view_importrun", "view_all_cases"],
}
MAY_NOT = {
    roles.MANAGER: ["change_user", "add_user"],
    roles.ADVISER: [
        "import_client",
        "import_case",
        "override_step_order",
        "hand_over_case",
        "change_step",
        "view_all_cases",
        "export_messagelog",
    ],
    roles.ASSISTANT: [
        "delete_client",
        "delete_note",
        "export_client",
        "export_note",
        "reject_case",
        "withdraw_case",
        "approve_case",
    ],
    roles.AUDITOR: [
        "change_client",
        "add_note",
        "export_client",
        "export_messagelog",
        "change_casestep",
        "delete_case",
    ],
    roles.CLIENT: ["view_client", "view_case"],
}


@pytest.mark.parametrize(("role", "code"), [(role, code) for role, codes in MAY.items() for code in codes])
def test_a_role_may(role, code):
    assert make_user(role).has_perm(f"crm.{code}")


@pytest.mark.parametrize(("role", "code"), [(role, code) for role, codes in MAY_NOT.items() for code in codes])
def test_a_role_may_not(role, code):
    assert not make_user(role).has_perm(f"crm.{code}")


def test_an_administrator_may_everything(administrator):
    assert set(Group.objects.get(name=roles.ADMINISTRATOR).permissions.all()) == set(Permission.objects.all())


def test_sync_gives_back_what_was_taken_from_a_role():
    Group.objects.get(name=roles.ADVISER).permissions.clear()
    roles.sync()
    assert make_user(roles.ADVISER).has_perm("crm.change_case")


def test_sync_leaves_an_offices_own_group_alone():
    own = Group.objects.create(name="Trainees")
    own.permissions.add(Permission.objects.get(codename="view_case"))
    roles.sync()
    assert own.permissions.count() == 1


def test_a_login_changes_no_role(client):
    adviser = make_user(roles.ADVISER)
    client.force_login(adviser)
    assert roles.role_of(User.objects.get(pk=adviser.pk)) == roles.ADVISER


def test_a_clients_login_does_not_reach_the_admin():
    assert make_user(roles.CLIENT).is_staff is False


def test_release_makes_the_first_administrator_once_and_prints_a_link_until_the_password_is_set(settings, capsys):
    settings.ADMIN_EMAIL = "boss@example.com"
    call_command("release", verbosity=0)
    call_command("release", verbosity=0)
    boss = User.objects.get(is_superuser=True)
    assert roles.role_of(boss) == roles.ADMINISTRATOR
    assert capsys.readouterr().out.count("https://testserver/password/") == 2
    boss.set_password("a long enough password")
    boss.save()
    call_command("release", verbosity=0)
    assert "https://" not in capsys.readouterr().out


def test_the_link_sets_the_password_once(settings, client):
    settings.ADMIN_EMAIL = "boss@example.com"
    boss = roles.first_administrator("boss@example.com")
    path = roles.set_password_link(boss).removeprefix("https://testserver")
    form = client.get(path, follow=True)
    new = {"new_password1": "a long enough password", "new_password2": "a long enough password"}
    assert client.post(form.redirect_chain[-1][0], new).status_code == 302
    boss.refresh_from_db()
    assert boss.check_password("a long enough password")
    client.session.flush()
    assert b"new_password1" not in client.get(path, follow=True).content


def test_release_keeps_what_an_office_changed_in_the_catalogue():
    call_command("release", verbosity=0)
    Step.objects.filter(number=1).update(default_days=3, name_cs="Jinak")
    call_command("release", verbosity=0)
    assert Step.objects.get(number=1).default_days == 3
    assert Step.objects.count() == 15
