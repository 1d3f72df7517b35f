"""What the plain package lets by that our import pages refuse, shown by running it."""

import tablib
from django.contrib import admin
from django.test import override_settings
from import_export import resources
from import_export.admin import ImportMixin

from crm.models import Client, User
from crm.tests import factories


class PlainAdmin(ImportMixin, admin.ModelAdmin):
    pass


@override_settings(IMPORT_EXPORT_IMPORT_PERMISSION_CODE=None)
def test_the_plain_package_lets_staff_without_any_permission_import(rf, db):
    nobody = factories.make_user()
    nobody.groups.clear()
    request = rf.get("/")
    request.user = User.objects.get(pk=nobody.pk)
    assert not request.user.get_all_permissions()
    assert PlainAdmin(Client, admin.site).import_action(request).status_code == 200


class PlainResource(resources.ModelResource):
    class Meta:
        model = Client
        import_id_fields = ["reference"]
        fields = ["reference", "full_name"]


class PlainBulkResource(PlainResource):
    class Meta(PlainResource.Meta):
        use_bulk = True


def plain_import(resource, client) -> None:
    table = tablib.Dataset([client.reference, "Taken Over"], headers=["reference", "full_name"])
    assert not resource().import_data(table).has_errors()


@override_settings(ADVISER_SCOPE="own")
def test_the_plain_package_overwrites_a_foreign_row(adviser):
    foreign = factories.make_case(factories.make_client("Foreign Person"), adviser=factories.make_user()).client
    assert not Client.objects.visible_to(adviser).exists()
    plain_import(PlainResource, foreign)
    foreign.refresh_from_db()
    assert foreign.full_name == "Taken Over"


def test_even_the_plain_packages_bulk_leaves_its_history_row(db):
    client = factories.make_client("Alice Nováková")
    before = client.history.count()
    plain_import(PlainBulkResource, client)
    client.refresh_from_db()
    assert (client.full_name, client.history.count()) == ("Taken Over", before + 1)
