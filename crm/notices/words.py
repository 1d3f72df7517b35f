"""A notice in words: one line for whoever works here, and what a client is told."""

import dataclasses

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from crm import values
from crm.choices import NoticeKind, OwnNotice
from crm.models import Notice

OF_CLIENTS = (NoticeKind.NEW_CLIENT,)
# Whose a handed over case is to him who is told.
NOW, BEFORE = "now", "before"
SEVERAL = {
    NoticeKind.NEW_CLIENT: ngettext_lazy("%(count)s new client", "%(count)s new clients", "count"),
    NoticeKind.NEW_CASE: ngettext_lazy("%(count)s new case", "%(count)s new cases", "count"),
    NoticeKind.HANDED_OVER: ngettext_lazy("%(count)s case handed over", "%(count)s cases handed over", "count"),
    NoticeKind.DEADLINES: ngettext_lazy("%(count)s deadline", "%(count)s deadlines", "count"),
    NoticeKind.RADAR: ngettext_lazy("%(count)s thing runs out", "%(count)s things run out", "count"),
}
ALWAYS_COUNTED = (NoticeKind.DEADLINES, NoticeKind.RADAR)
HANDED_OVER = {
    NOW: (
        gettext_lazy("Case handed over to you"),
        ngettext_lazy("%(count)s case handed over to you", "%(count)s cases handed over to you", "count"),
    ),
    BEFORE: (
        gettext_lazy("Your case was handed over"),
        ngettext_lazy("%(count)s case of yours was handed over", "%(count)s cases of yours were handed over", "count"),
    ),
}
CLIENT_WORDS = {
    NoticeKind.NEW_CASE: gettext_lazy("We have opened your case"),
    NoticeKind.STEP_COMPLETED: gettext_lazy("%(step)s: completed"),
    NoticeKind.STEP_REOPENED: gettext_lazy("%(step)s: we are working on it again"),
    NoticeKind.APPROVED: gettext_lazy("Your mortgage was approved"),
    NoticeKind.DECLINED: gettext_lazy("Your application was declined"),
    NoticeKind.WITHDRAWN: gettext_lazy("Your application was withdrawn"),
    NoticeKind.REOPENED: gettext_lazy("We are working on your case again"),
    NoticeKind.HANDED_OVER: gettext_lazy("Your case has a new adviser"),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A notice in the reader's language."""

    moment: str
    reference: str
    what: str
    step: str
    by: str
    path: str

    def as_row(self) -> dict[str, str]:
        """Of a mail."""
        row = dataclasses.asdict(self) | {"url": self.url}
        del row["path"]
        return row

    @property
    def url(self) -> str:
        return settings.SITE_URL + self.path


def line(notice: Notice) -> Line:
    """No query where the notice was read `with_words`."""
    about = notice.case or notice.client
    return Line(
        moment=values.moment(notice.created_at),
        reference=about.reference if about else "",
        what=_what(notice),
        step=str(notice.step or ""),
        by=notice.by_name,
        path=_path(notice),
    )


def _what(notice: Notice) -> str:
    if notice.kind in OwnNotice:
        return f"{OwnNotice(notice.kind).label}: {notice.detail.get('name', '')}"
    count = {"count": notice.count}
    one, many = HANDED_OVER.get(notice.detail.get("whose"), (NoticeKind(notice.kind).label, SEVERAL.get(notice.kind)))
    if notice.kind == NoticeKind.WEEKLY_REPORT:
        return _("Weekly report %(week)s") % {"week": notice.detail.get("week", "")}
    if many and (notice.kind in ALWAYS_COUNTED or not (notice.case_id or notice.client_id)):
        return str(many % count)
    return str(one)


def _path(notice: Notice) -> str:
    if notice.kind in OwnNotice:
        return reverse("admin:crm_exportrun_change", args=[notice.detail["export"]])
    if notice.case_id:
        return reverse("admin:crm_case_change", args=[notice.case_id])
    if notice.client_id:
        return reverse("admin:crm_client_change", args=[notice.client_id])
    if notice.kind in (NoticeKind.DEADLINES, NoticeKind.WEEKLY_REPORT):
        return reverse("admin:index")
    return reverse("admin:crm_client_changelist" if notice.kind in OF_CLIENTS else "admin:crm_case_changelist")
