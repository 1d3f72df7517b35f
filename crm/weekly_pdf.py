"""The weekly report as pages to read and print: the figures of crm.reports, and the cases of each group by their references."""

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import reports, values
from crm.exports import pdf_file
from crm.exports.pdf_file import Column, Table

# Of a group: what somebody reads. After an import a group may be the whole office.
SHOWN = 200
# The date that a group is about; of the others it is the next deadline.
DECIDED = (gettext_lazy("Decided on"), "decided_on")
DATES = {
    reports.NEW: (gettext_lazy("Opened on"), "opened_on"),
    reports.APPROVED: DECIDED,
    reports.DECLINED: DECIDED,
    reports.WITHDRAWN: DECIDED,
}


def pages(week: reports.Week, titles: dict[str, str]) -> bytes:
    """In the active language; `titles` are the groups' names, in their order."""
    subtitle = f"{values.date(week.first)} – {values.date(week.last)}"
    return pdf_file.write(f"{_('Weekly report')} {week.first:%G-W%V}", subtitle, _tables(week, titles))


def _tables(week: reports.Week, titles: dict[str, str]) -> Iterator[Table]:
    counts = [[str(title), values.number(len(week.cases[what]))] for what, title in titles.items()]
    yield Table(_("Cases"), [Column(_("What happened"), 5), _count(_("Cases"))], counts)
    if week.by_lender:
        yield _volumes(_("Approved by lender"), _("Lender"), week.by_lender)
        yield _volumes(_("Approved by adviser"), _("Adviser"), week.by_adviser)
    if week.days:
        columns = [Column(_("Step"), 3), _count(_("Completed")), Column(_("Days (median)"), 2, is_number=True)]
        rows = [[each.step, values.number(each.count), values.number(round(each.median, 1), 1)] for each in week.days]
        yield Table(_("How long steps took"), columns, rows)
    for what, title in titles.items():
        if week.cases[what]:
            yield _group(what, str(title), week.cases[what])


def _count(label: str) -> Column:
    return Column(label, 1, is_number=True)


def _volumes(title: str, label: str, volumes: list[reports.Volume]) -> Table:
    columns = [Column(label, 3), _count(_("Cases")), Column(_("Amount (CZK)"), 2, is_number=True)]
    rows = [[each.name or "–", values.number(each.count), values.money(each.amount_czk)] for each in volumes]
    count = values.number(sum(each.count for each in volumes))
    return Table(title, columns, rows, total=[_("Total"), count, values.money(reports.total(volumes))])


def _group(what: str, title: str, rows: list[reports.Row]) -> Table:
    label, date = DATES.get(what, (_("Next deadline"), "next_deadline"))
    amount = "approved_amount_czk" if what == reports.APPROVED else "loan_amount_czk"
    columns = [
        Column(_("Reference"), 5), Column(_("Status"), 5), Column(_("Adviser"), 9), Column(_("Lender"), 9),
        Column(str(label), 6), Column(_("Amount (CZK)"), 6, is_number=True),
    ]  # fmt: skip
    shown = [
        [row.reference, row.status, row.adviser or "–", row.lender or "–", values.date(getattr(row, date)),
         values.money(getattr(row, amount))]
        for row in rows[:SHOWN]
    ]  # fmt: skip
    more = len(rows) - SHOWN
    note = _("%(count)s more stand in the spreadsheet.") % {"count": values.number(more)} if more > 0 else ""
    return Table(f"{title} ({values.number(len(rows))})", columns, shown, note=note)
