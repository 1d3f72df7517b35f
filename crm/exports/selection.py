"""Which columns and rows of the clients' list a shell or a schedule asks for, in words: `status=open`, `full_name`. A name
that only a case has needs no `case.` before it."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from crm.exceptions import CrmError
from crm.exports import offered
from crm.exports.columns import CASES, Column, Kind, columns_of, is_own
from crm.exports.tables import with_cases
from crm.models import Case, Client, Lender, Step, User

_LOOKUPS = ("exact", "gt", "gte", "lt", "lte")
# What people write of a record.
_WRITTEN = {User: "username", Lender: "name", Step: "code"}


class UnknownColumn(CrmError):
    message = _("There is no column %(name)s.")


class UnknownFilter(CrmError):
    message = _("Write a filter as NAME=VALUE, not %(written)s.")


class NotAChoice(CrmError):
    message = _("%(name)s is none of: %(allowed)s.")


class UnknownRecord(CrmError):
    message = _("%(column)s: there is no %(name)s.")


def column(name: str) -> Column:
    known = {each.name: each for each in columns_of(Client)}
    found = known.get(name) or known.get(f"case.{name}")
    if found is None:
        raise UnknownColumn(name=name)
    return found


def names(wanted: Iterable[str], user) -> list[str]:
    """For none all that the person may have (None: all of them)."""
    return [column(each.strip()).name for each in wanted] or [each.name for each in offered(user, Client)]


def rows(conditions: Iterable[str], user, names: Iterable[str]) -> tuple[QuerySet, dict]:
    """A row a case where one of the columns `names` is of cases, else a row a client; and what the record says of the
    filter. Raises FieldError for an encrypted column, ValidationError for an impossible value, CrmError for an unknown one."""
    asked, told = [], {}
    for written in conditions:
        name, equals, value = written.partition("=")
        if not equals:
            raise UnknownFilter(written=written)
        path, value = _condition(name.strip(), value.strip())
        asked.append(Q((path, value)))
        told.setdefault(name.strip(), []).append(str(value))
    # In one call, or each would be met by another case of the client.
    found = with_cases(Client.objects.all(), user).filter(*asked)
    told = {name: said[0] if len(said) == 1 else said for name, said in told.items()}
    if all(is_own(column(name)) for name in names):
        return Client.objects.filter(pk__in=found.values("pk")).order_by("pk"), told
    return found.order_by("pk", f"{CASES}__pk"), told


def _condition(name: str, value: str) -> tuple[str, object]:
    name, _separator, lookup = name.partition("__")
    if lookup and lookup not in _LOOKUPS:
        raise UnknownFilter(written=f"{name}__{lookup}")
    asked = column(name)
    if asked.kind == Kind.VERSION:
        raise UnknownColumn(name=name)
    path = f"{CASES}__{asked.field.name}" if asked.owner is Case else asked.field.name
    if not value:
        return (f"{path}__isnull", True) if asked.field.null else (path, "")
    if asked.field.choices and value not in dict(asked.field.flatchoices):
        raise NotAChoice(name=value, allowed=", ".join(dict(asked.field.flatchoices)))
    if written := _WRITTEN.get(asked.field.related_model):
        if not lookup and not asked.field.related_model.objects.filter(**{written: value}).exists():
            raise UnknownRecord(column=asked.label, name=value)
        path = f"{path}__{written}"
    return f"{path}__{lookup or 'exact'}", value
