"""What the forms and the actions of the office say to a row. Each of these rules lives where they ask it too."""

import datetime
from collections.abc import Iterator

from django.utils.translation import gettext as _

from crm import bulk_edit, workflow
from crm.audit.plans import OF_THE_WORKFLOW
from crm.exceptions import CannotTakeCase, ClientRestricted, CrmError, DayToCome, NotAllowed, ReasonMissing
from crm.models import Case, Client, User


class Rules:
    """For an import of `user` (None: nobody's rights are asked). A list of people, `is_history`, comes from elsewhere: it
    need not know on which day a case was decided. One query."""

    def __init__(self, user: User | None, *, is_history: bool):
        self.user, self.is_history = user, is_history
        self.takers = set(workflow.takers().values_list("pk", flat=True))
        self._refusals: dict[tuple[str, ...], str] = {}

    def refusal(self, *codes: str) -> str:
        """Why he may not write what takes these rights; empty if he may."""
        if codes not in self._refusals:  # asked for every row
            may = self.user is None or self.user.has_perms([f"crm.{code}" for code in codes])
            self._refusals[codes] = "" if may else str(NotAllowed())
        return self._refusals[codes]

    def of_change(self, target: Client | Case, name: str, value: object) -> str:
        """Why this field of a stored record does not change; empty if it may."""
        if refusal := self.of_client(target if isinstance(target, Client) else target.client):
            return refusal
        if name in OF_THE_WORKFLOW.get(type(target), ()):
            return _("This changes by an action on the case, not by an import.")
        if value is None and not bulk_edit.may_be_emptied(type(target), name):
            return _("This value may not be empty.")
        return self.of_person(name, value) or (self.refusal("hand_over_case") if name == "adviser" else "")

    def of_client(self, client: Client) -> str:
        """Why nothing is written of him or of his cases; empty if it may be."""
        return str(ClientRestricted()) if client.is_restricted else ""

    def of_person(self, name: str, value: object) -> str:
        is_given = name in workflow.GIVEN_TO and value is not None
        return str(CannotTakeCase()) if is_given and value.pk not in self.takers else ""

    def of_new_case(self, status: str, fields: dict[str, object], on: datetime.date) -> Iterator[tuple[str, str]]:
        """Field and reason of whatever a new case may not begin with. `status` is open or one of workflow.ENDED_BY."""
        for name in workflow.GIVEN_TO:
            if refusal := self.of_person(name, fields.get(name)):
                yield name, refusal
        reason, day = fields.get("rejection_reason", ""), fields.get("decided_on")
        if status not in workflow.ENDED_BY:
            if reason:
                yield "rejection_reason", _("Only a case that was declined or withdrawn has such a reason.")
            if day and not self.is_history:
                yield "decided_on", _("A new case is open, so it was not decided yet.")
            return
        try:
            workflow.require_ending(status, by=self.user, reason=reason)
        except ReasonMissing as missing:
            yield "rejection_reason", str(missing)
        except CrmError as refusal:
            yield "status", str(refusal)
        if day is None and not self.is_history:
            yield "decided_on", _("Say on which day the case was decided.")
        elif day and day > on:
            yield "decided_on", str(DayToCome())
