"""Somebody who adds a field or a model has to say what an erasure makes of it."""

import pytest
from django.apps import apps

from crm.audit.changes import tracked_models
from crm.encryption import is_encrypted
from crm.models import Client
from crm.models.history import is_tracked
from crm.privacy import fields
from crm.privacy.fields import ACCOUNT, HISTORY, OTHERS, RECORDS

TREATED = RECORDS | OTHERS
ELSEWHERE = fields.CATALOGUES | fields.OF_COLLEAGUES | fields.OF_MACHINES


def own_models():
    histories = {model.history.model for model in tracked_models()}
    return [model for model in apps.get_app_config("crm").get_models() if model not in histories and not is_copy(model)]


def is_copy(model) -> bool:
    """Of the many-to-many rows of a history row."""
    return model.__name__.startswith("Historical")


def names(treatment) -> list[str]:
    return [*treatment.keep, *treatment.blank, *treatment.replaced]


def test_every_model_is_told():
    assert {model.__name__ for model in own_models()} == {model.__name__ for model in [*TREATED, *ELSEWHERE]}
    assert not TREATED.keys() & ELSEWHERE


@pytest.mark.parametrize("model", [each for each in TREATED if not TREATED[each].goes], ids=lambda each: each.__name__)
def test_every_field_is_told_once(model):
    told = names(TREATED[model])
    gone_with_the_row = {"password", "last_login"} if TREATED[model] is ACCOUNT else set()
    assert sorted(told) == sorted({field.name for field in model._meta.concrete_fields} - gone_with_the_row)


@pytest.mark.parametrize("model", tracked_models(), ids=lambda each: each.__name__)
def test_every_column_of_a_history_is_told(model):
    history = model.history.model
    tracked = {field.name for field in history.tracked_fields}
    extra = {field.name for field in history._meta.concrete_fields} - tracked
    assert sorted(names(HISTORY)) == sorted(extra)
    if model in TREATED:
        assert tracked <= set(names(TREATED[model]))


@pytest.mark.parametrize("model", TREATED, ids=lambda each: each.__name__)
def test_no_encrypted_value_is_kept(model):
    assert not {name for name in TREATED[model].keep if is_encrypted(model._meta.get_field(name))}


def test_whatever_hangs_on_a_client_is_treated():
    """By the database's own relations, from the client downwards."""
    reached, waiting = {Client}, [Client]
    while waiting:
        for relation in waiting.pop()._meta.get_fields(include_hidden=True):
            below = relation.related_model if relation.auto_created and not relation.concrete else None
            if below is not None and below not in reached and not is_copy(below):
                reached.add(below)
                waiting.append(below)
    assert reached <= set(TREATED)
    assert {model for model in reached if is_tracked(model)} == set(RECORDS)


@pytest.mark.parametrize("model", RECORDS, ids=lambda each: each.__name__)
def test_whose_a_record_is_stands_in_columns_that_it_has(model):
    columns = {field.attname for field in model._meta.concrete_fields}
    assert RECORDS[model].owners and set(RECORDS[model].owners) <= columns
    owners = {field.attname for field in model._meta.concrete_fields if field.related_model in RECORDS}
    assert owners <= set(RECORDS[model].owners)
