"""Who is told of what: the office's table (NoticeRule) and each one's own choice (NoticeChoice) decide. Verbs `tell` in their
transaction; what is told on a day of its own, deadlines and reports, asks `readers` or `people` and `leave`s a notice. In
what words is `words`', the mail of what waits `mails`'."""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.conf import settings
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet, Subquery, Value
from django.utils import timezone

from crm import roles
from crm.choices import NoticeChannel, NoticeKind
from crm.encryption import Unreadable
from crm.models import Case, Client, Notice, NoticeChoice, NoticeRule, User
from crm.models.operations import NAME_LENGTH
from crm.notices.words import BEFORE, CLIENT_WORDS, NOW, OF_CLIENTS, Line, line

__all__ = [
    "Line", "Reader", "addresses", "at_work", "by_mail", "leave", "line", "people", "readers", "rule_of", "seen",
    "staff", "tell", "tell_of_many",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reader:
    """One of `people`, and the rows that he is told of. `whose` they are to him is said of handed over ones."""

    user: User
    rows: Sequence
    whose: str


# --- Who ---


def rule_of(kind: str) -> NoticeRule:
    return NoticeRule.objects.filter(kind=kind).first() or NoticeRule(kind=kind)


def readers(
    rule: NoticeRule,
    rows: Sequence,
    *,
    on: datetime.date,
    had: Mapping[int, Sequence] | None = None,
    nobodys: Sequence = (),
) -> Iterator[Reader]:
    """`rows` are cases, or whatever else has an adviser_id and a stand_in_id, or clients; `had` are those that were
    somebody's before, `nobodys` those of which the managers are told in their adviser's stead. Only who works here and
    may look at them. One query, however many rows, and one more where some are nobody's."""
    kind, had = rule.kind, had or {}
    belonging: dict[int, list] = {}
    if kind not in OF_CLIENTS:
        for row in rows:
            for key in {row.adviser_id, row.stand_in_id} - {None}:
                belonging.setdefault(key, []).append(row)
    heirs = managers() if nobodys and rule.to_adviser else set()
    found = {user.pk: user for user in people(rule, {*belonging, *had, *heirs})}
    here = at_work(found.values(), on)
    for user in found.values():
        told, lost, own = [], [], belonging.get(user.pk, [])
        if user.hears_of_all:
            told = rows if user.sees_all or kind in OF_CLIENTS else own
        elif rule.to_adviser:
            told = [row for row in own if row.adviser_id == user.pk or row.adviser_id not in here]
            told += nobodys if user.pk in heirs else []
            lost = had.get(user.pk, [])
        is_his = bool(had) and all(row.adviser_id == user.pk for row in told)
        for some, whose in ((told, NOW if is_his else ""), (lost, BEFORE)):
            if some and (user.by_mail or user.in_inbox):
                yield Reader(user, some, whose)


def by_mail(readers: Iterable[Reader]) -> Iterator[tuple[User, Sequence]]:
    return ((each.user, each.rows) for each in readers if each.user.by_mail)


def people(rule: NoticeRule, keys: Iterable[int] | None = None) -> Iterator[User]:
    """Who works here and may look at such records: those of the `keys` (all, if there are none), and whoever `hears_of_all`
    that he may see, by the rule for his role or because he subscribed. Each says whether he is told `by_mail` and
    `in_inbox`, if at all; who wants mail and has no address reads it in his inbox. One query."""
    chosen = NoticeChoice.objects.filter(user=OuterRef("pk"), kind=rule.kind)
    all_of_it = Exists(chosen.filter(is_subscribed=True))
    names = [roles.MANAGER] * rule.to_managers + [roles.ADMINISTRATOR] * rule.to_administrators
    if names:
        all_of_it |= Q(pk__in=User.groups.through.objects.filter(group__name__in=names).values("user"))
    if rule.to_administrators:
        all_of_it |= Q(is_superuser=True)
    sees_all = roles.holders("view_all_cases") if settings.ADVISER_SCOPE == "own" else Value(True)
    found = staff().annotate(
        hears_of_all=ExpressionWrapper(Q(all_of_it), BooleanField()),
        sees_all=ExpressionWrapper(sees_all, BooleanField()),
        channel=Subquery(chosen.values("channel")[:1]),
    )
    found = found.filter(roles.holders("view_client" if rule.kind in OF_CLIENTS else "view_case"))
    if keys is not None:
        found = found.filter(Q(pk__in=keys) | Q(hears_of_all=True))
    for user in found.order_by("pk"):
        channel = user.channel or NoticeChannel.BOTH
        user.by_mail = bool(user.email) and channel in (NoticeChannel.BOTH, NoticeChannel.MAIL)
        user.in_inbox = channel != NoticeChannel.NONE and (channel != NoticeChannel.MAIL or not user.by_mail)
        yield user


def staff() -> QuerySet[User]:
    return User.objects.filter(is_active=True, is_staff=True)


def managers() -> set[int]:
    """Where there is none, the administrators."""
    found = staff().filter(groups__name=roles.MANAGER) or staff().filter(groups__name=roles.ADMINISTRATOR)
    return {user.pk for user in found}


def at_work(users: Iterable[User], day: datetime.date) -> set[int]:
    """Of those who work here: for whom nobody stands in on the day."""
    return {user.pk for user in users if not user.is_absent(day)}


def seen(user: User, notices: Iterable[Notice]) -> set[int]:
    """The keys of those whose case or client he may still look at; a notice of neither names nobody. Two queries at most,
    beside his permissions."""
    cases = _visible(Case, {each.case_id for each in notices if each.case_id}, user)
    clients = _visible(Client, {each.client_id for each in notices if each.client_id and not each.case_id}, user)
    return {
        each.pk
        for each in notices
        if (each.case_id in cases if each.case_id else not each.client_id or each.client_id in clients)
    }


def _visible(model, keys: set[int], user: User) -> set[int]:
    if not keys or not user.has_perm(f"crm.view_{model._meta.model_name}"):
        return set()
    return set(model.objects.visible_to(user).filter(pk__in=keys).values_list("pk", flat=True))


def addresses(clients: Iterable[int]) -> dict[int, str]:
    """Of those clients who may be written to and have an e-mail. One query."""
    may = Client.objects.may_be_written_to().filter(pk__in=clients).values_list("pk", "email")
    return {key: email for key, email in may if email and not isinstance(email, Unreadable)}


# --- Telling ---


def tell(kind: str, *, case: Case | None = None, client: Client | None = None, step=None, by=None, had_by=None) -> None:
    """Of one case or client, in the transaction of what is told: both are there or neither, and a savepoint would cost
    as much as the telling. `by` is not told; `had_by` is the key of him whose the case was. Three queries, and one more
    where the client may be told."""
    rule = rule_of(kind)
    told = _notices(rule, [case or client], by, {had_by: [case]} if kind == NoticeKind.HANDED_OVER else {})
    for notice in told:
        notice.step = step
    for_client = case and rule.to_client and kind in CLIENT_WORDS and (step is None or step.tell_client)
    if for_client and addresses([case.client_id]):
        to_client = {"client_id": case.client_id, "in_inbox": False, "wants_mail": True}
        told.append(Notice(kind=kind, case=case, step=step, **to_client))
    Notice.objects.bulk_create(told)


def tell_of_many(kind: str, rows: Sequence, *, by=None, had: Mapping[int, Sequence] | None = None) -> None:
    """One notice a person, however many cases or clients (an import, a bulk edit), or whatever stands for them with a pk
    and the keys of whose they are; clients are told nothing. In the caller's transaction, three queries."""
    if rows:
        Notice.objects.bulk_create(_notices(rule_of(kind), rows, by, had or {}))


def _notices(rule: NoticeRule, rows: Sequence, by, had: Mapping[int, Sequence]) -> list[Notice]:
    name = by.get_display_name()[:NAME_LENGTH] if by else ""
    of = "client" if rule.kind in OF_CLIENTS else "case"
    return [
        Notice(
            **({f"{of}_id": each.rows[0].pk} if len(each.rows) == 1 else {}),
            user=each.user,
            kind=rule.kind,
            count=len(each.rows),
            detail={"whose": each.whose} if each.whose else {},
            by_name=name,
            in_inbox=each.user.in_inbox,
            wants_mail=each.user.by_mail,
        )
        for each in readers(rule, rows, on=timezone.localdate(), had=had)
        if by is None or each.user.pk != by.pk
    ]


def leave(kind: str, counts: Mapping[User, int], **detail: str) -> None:
    """In the inboxes of those of `people` who want it there; of one day or week, as `detail` says, each once. Their mail is
    the caller's."""
    wanted = {user.pk: count for user, count in counts.items() if user.in_inbox}
    known = Notice.objects.filter(kind=kind, user__in=wanted, detail=detail).values_list("user", flat=True)
    left = wanted.keys() - set(known)
    Notice.objects.bulk_create([Notice(user_id=key, kind=kind, count=wanted[key], detail=detail) for key in left])
