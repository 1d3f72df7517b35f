"""The migration that makes all tables at once, and those that it replaces, end in the same state."""

from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ProjectState


def test_a_database_is_the_same_whichever_way_it_came():
    loader = MigrationLoader(None, ignore_no_migrations=True)
    at_once = [key for key, migration in loader.disk_migrations.items() if key[0] == "crm" and migration.replaces]
    assert len(at_once) == 1
    replaced = loader.disk_migrations[at_once[0]].replaces
    assert not set(replaced) - loader.disk_migrations.keys()
    others = loader.project_state([("auth", "0012_alter_user_first_name_max_length")])
    one_by_one, together = others.clone(), others.clone()
    for key in replaced:
        loader.disk_migrations[key].mutate_state(one_by_one, preserve=False)
    loader.disk_migrations[at_once[0]].mutate_state(together, preserve=False)
    assert not changes(one_by_one, together)
    assert not changes(together, one_by_one)


def changes(one: ProjectState, other: ProjectState) -> dict:
    return MigrationAutodetector(one, other, MigrationQuestioner(specified_apps=set())).changes(
        graph=MigrationLoader(None).graph
    )
