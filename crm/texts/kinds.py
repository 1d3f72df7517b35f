"""What each kind of message can say: its variables, with a word on each, as whoever edits a text reads them."""

import dataclasses

from django.utils.translation import gettext_lazy as _

from crm.choices import MessageKind


@dataclasses.dataclass(frozen=True)
class Rows:
    """A list; each row of it has these parts."""

    about: str
    parts: dict[str, "str | Rows"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is `private`, a name or a secret, never stands in a subject, which is stored and shown in the clear. Without
    what is `needed` the message would be of no use."""

    variables: dict[str, str | Rows]
    private: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


_reference = _("reference of the case")
_url = _("link to the case")
_missed = _("first day whose reminders did not go out; empty where none was missed")
_valid = _("for how many days the link works")
_secret_link = _("link that works once; it is made when the message is sent")

KINDS = {
    MessageKind.DEADLINES: Kind(
        {
            "day": _("day of the message"),
            "count": _("how many deadlines, as a number"),
            "count_text": _("how many deadlines, in words"),
            "late": _("how many of them are overdue, as a number"),
            "late_text": _("how many of them are overdue, in words"),
            "missed_since": _missed,
            "groups": Rows(
                _("overdue, today, in the next days; only those that are not empty"),
                {
                    "title": _("name of the group"),
                    "lines": Rows(
                        _("the deadlines of the group"),
                        {"deadline": _("date"), "reference": _reference, "step": _("step"), "url": _url},
                    ),
                },
            ),
            "older": _("how many steps are overdue for longer than reminders go on; told once a week"),
            "older_text": _("how many steps are overdue for longer, in words; else empty"),
            "older_url": _("link to the list of overdue steps"),
        }
    ),
    MessageKind.RADAR: Kind(
        {
            "day": _("day of the message"),
            "count": _("how many things run out, as a number"),
            "count_text": _("how many things run out, in words"),
            "missed_since": _missed,
            "groups": Rows(
                _("fixations, identity documents, valuations; only those that are not empty"),
                {
                    "title": _("name of the group"),
                    "lines": Rows(_("what runs out"), {"date": _("last day"), "reference": _reference, "url": _url}),
                },
            ),
        }
    ),
    MessageKind.WEEKLY_REPORT: Kind(
        {
            "week": _("the week, such as 2026-W47"),
            "first": _("first day of the week"),
            "last": _("last day of the week"),
            "groups": Rows(
                _("new, moved on, approved, declined, withdrawn and overdue cases"),
                {
                    "title": _("name of the group"),
                    "count": _("how many cases"),
                    "listed": _("references of the cases"),
                },
            ),
            "lenders": Rows(
                _("what was approved, by lender"),
                {"name": _("lender"), "count": _("how many cases"), "amount": _("amount in CZK")},
            ),
            "advisers": Rows(
                _("what was approved, by adviser"),
                {"name": _("adviser"), "count": _("how many cases"), "amount": _("amount in CZK")},
            ),
            "total": _("approved amount in all, in CZK"),
            "days": Rows(
                _("how long the completed steps took"),
                {"step": _("step"), "median": _("median of the days"), "count": _("how many steps")},
            ),
            "url": _("link to the office"),
            "head": _("seal of the history, for who reads the audit trail; else empty"),
        },
        private=("advisers",),
    ),
    MessageKind.NOTICES: Kind(
        {
            "count": _("how many events, as a number"),
            "count_text": _("how many events, in words"),
            "lines": Rows(
                _("the events"),
                {
                    "moment": _("day and time"),
                    "reference": _("reference of the case or the client; empty where it is about many"),
                    "what": _("what happened"),
                    "step": _("step; empty where it is about none"),
                    "by": _("who did it; may be empty"),
                    "url": _("link to the case or the client; may be empty"),
                },
            ),
        },
        private=("by",),
    ),
    MessageKind.CLIENT_DEADLINES: Kind(
        {
            "reference": _reference,
            "late": Rows(_("the steps whose day has passed; may be empty"), {"deadline": _("date"), "step": _("step")}),
            "lines": Rows(_("the steps that come next; may be empty"), {"deadline": _("date"), "step": _("step")}),
        }
    ),
    MessageKind.CLIENT_NOTICES: Kind(
        {
            "reference": _reference,
            "lines": Rows(_("the events"), {"date": _("date"), "what": _("what happened")}),
        }
    ),
    MessageKind.WELCOME: Kind(
        {
            "name": _("first name of the user; may be empty"),
            "username": _("login name"),
            "link": _secret_link,
            "days_valid": _valid,
        },
        private=("name", "username", "link"),
        needed=("link",),
    ),
    MessageKind.PASSWORD_RESET: Kind(
        {"username": _("login name"), "link": _secret_link, "days_valid": _valid},
        private=("username", "link"),
        needed=("link",),
    ),
}
