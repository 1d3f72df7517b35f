"""The audit trail's list, its filters, the page of one operation and the file: who sees what, and what it costs."""

import datetime
import io
import json
import uuid

import openpyxl
import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import bulk_edit, imports, jobs, models, roles, tasks
from crm.admin import exports as pages
from crm.audit import events, trail, verifying
from crm.choices import AuditKind, BackupProof, RunState, Source
from crm.exports.columns import columns_of
from crm.models import AuditEntry, BackupRun, Case, Client, ExportRun, Heartbeat, Note, User, operation
from crm.models.bulk import insert_rows, stored
from crm.tests import factories
from crm.tests.exports.reading import xlsx_rows

pytestmark = pytest.mark.django_db
LIST = reverse("admin:crm_auditentry_changelist")
EXPORT = reverse("admin:crm_auditentry_export")
BACKEND = "django.contrib.auth.backends.ModelBackend"
MAY, MAY_NOT = (roles.ADMINISTRATOR, roles.MANAGER, roles.AUDITOR), (roles.ADVISER, roles.ASSISTANT)
EARLY = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)


@pytest.fixture
def catalogue(db):
    return factories.make_catalogue()


@pytest.fixture
def browse(client):
    def as_user(user):
        User.objects.filter(pk=user.pk).update(language="en")
        client.force_login(user, backend=BACKEND)
        return client

    return as_user


@pytest.fixture
def bob(db):
    return factories.make_user(username="bob", first_name="Bob", last_name="Novák")


def page(operation_id) -> str:
    return reverse("admin:crm_operation", args=[operation_id])


def listed(browser, **query) -> list[AuditEntry]:
    return list(browser.get(LIST, query).context["cl"].result_list)


def work(user=None, source=Source.ADMIN, reason="", **fields):
    """One operation: a case of a new client, with its 15 steps."""
    with operation(source, user=user, reason=reason) as done:
        case = factories.make_case(factories.make_client(fields.pop("full_name", "Alice Nováková")), **fields)
    return done, case


# --- Who may open it ---


@pytest.mark.parametrize("role", MAY)
def test_who_may_see_the_trail_finds_it_in_the_sidebar(browse, catalogue, role):
    done, _case = work()
    browser = browse(factories.make_user(role))
    assert LIST in browser.get(reverse("admin:index")).content.decode()
    assert browser.get(LIST).status_code == 200
    assert browser.get(page(done.id)).status_code == 200


@pytest.mark.parametrize("role", MAY_NOT)
def test_who_may_not_sees_neither_the_list_nor_that_an_operation_is_there(browse, catalogue, role):
    done, _case = work()
    browser = browse(factories.make_user(role))
    assert LIST not in browser.get(reverse("admin:index")).content.decode()
    answers = [browser.get(path) for path in (LIST, EXPORT, page(done.id), page(uuid.uuid4()))]
    answers += [browser.post(EXPORT, {"format": "xlsx", "columns": ["detail"]}), browser.post(page(done.id))]
    assert {answer.status_code for answer in answers} == {403}
    assert not any("Alice" in answer.content.decode() for answer in answers)


def test_an_operation_that_never_was_is_not_found(browse, manager):
    assert browse(manager).get(page(uuid.uuid4())).status_code == 404
    assert browse(manager).get("/admin/audit/nonsense/").status_code == 404


def test_nothing_in_the_trail_is_added_changed_or_deleted(browse, administrator, catalogue):
    work()
    browser = browse(administrator)
    entry = AuditEntry.objects.order_by("pk").first()
    for name, args in (("add", []), ("delete", [entry.pk])):
        assert browser.post(reverse(f"admin:crm_auditentry_{name}", args=args), {"post": "yes"}).status_code == 403
    assert browser.post(reverse("admin:crm_auditentry_change", args=[entry.pk]), {"kind": "login"}).status_code == 403
    browser.post(LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert AuditEntry.objects.filter(pk=entry.pk, kind=entry.kind).exists()


# --- What a line says ---


def test_a_line_says_when_who_what_where_and_why(browse, manager, bob, catalogue):
    done, case = work(bob, reason="He called.")
    with operation(Source.ADMIN, user=bob) as later:
        Case.objects.filter(pk=case.pk).update(loan_amount_czk=5)
        Note.objects.create(case=case, text="Qzx").delete()
    answer = browse(manager).get(LIST)
    found = {entry.operation_id: entry for entry in answer.context["cl"].result_list}
    assert found[done.id].told == "+1× client, +1× case, +15× step of a case"
    assert found[later.id].told == "1× case, +1× note, −1× note"
    assert (found[done.id].user_name, found[done.id].reason) == ("Bob Novák", "He called.")
    content = answer.content.decode()
    for text in ("Bob Novák", "He called.", "Change", "Admin", page(done.id)):
        assert text in content
    assert "Qzx" not in content


def test_counts_that_an_operation_kept_are_told_without_counting(browse, manager, catalogue):
    done, _case = work()
    AuditEntry.objects.filter(operation_id=done.id).update(counts={"case": {"~": 1234}, "nonsense": {"+": 5}})
    assert {entry.operation_id: entry.told for entry in listed(browse(manager))}[done.id] == "1\u00a0234× case"


def test_every_kind_of_event_is_told_in_a_line(browse, manager, bob):
    told = {
        AuditKind.LOGIN: ({"address": "10.0.0.1"}, "10.0.0.1"),
        AuditKind.LOGIN_FAILED: ({"account": "bob", "address": "10.0.0.1"}, "bob · 10.0.0.1"),
        AuditKind.LOCKOUT: ({"account": "bob"}, "bob"),
        AuditKind.PASSWORD: ({"name": "Bob", "how": "other"}, "Bob · by somebody else"),
        AuditKind.PERMISSIONS: (
            {"name": "Bob", "flags": {"is_staff": False}, "groups": {"added": ["Manager"]}},
            "Bob · −staff +Manager",
        ),
        AuditKind.EXPORT: ({"list": "client", "rows": 1200, "format": "csv"}, "clients · 1\u00a0200 rows · CSV"),
        AuditKind.REFUSED: ({"path": "/admin/"}, "/admin/"),
        AuditKind.LOGOUT: ({}, ""),
    }
    for kind, (detail, _text) in told.items():
        events.enter(kind, user=bob, detail=detail)
    found = {entry.kind: entry.told for entry in listed(browse(manager), person=bob.pk)}
    assert {kind: found[kind] for kind in told} == {kind: text for kind, (_detail, text) in told.items()}


def test_many_permissions_are_told_in_a_line(manager):
    entry = AuditEntry(kind=AuditKind.PERMISSIONS)
    entry.detail = json.dumps({"name": "Trainees", "permissions": {"added": [f"view_{n}" for n in range(8)]}})
    assert trail.summary(entry, {}) == "Trainees · +view_0 +view_1 +view_2 +view_3 +view_4 … +3"


def test_a_detail_that_cannot_be_read_is_no_error(browse, manager):
    with connection.cursor() as cursor:
        events.enter(AuditKind.LOGIN, user=manager, detail={"address": "10.0.0.1"})
        cursor.execute("UPDATE crm_auditentry SET detail = 'gAAAAAbroken' WHERE kind = 'login'")
    assert browse(manager).get(LIST).status_code == 200


# --- Filters ---


def test_the_list_is_filtered_by_person_also_by_one_who_was_deleted(browse, manager, bob, catalogue):
    done, _case = work(bob)
    other, _case = work(manager)
    bob_id = bob.pk
    bob.delete()
    browser = browse(manager)
    choices = dict(browser.get(LIST).context["cl"].filter_specs[0].lookup_choices)
    assert choices[str(bob_id)] == "Bob Novák (deleted)"
    assert {entry.operation_id for entry in listed(browser, person=bob_id)} == {done.id}
    assert done.id not in {entry.operation_id for entry in listed(browser, person=manager.pk)}
    assert {entry.user_id for entry in listed(browser, person="none")} == {None}
    assert other.id in {entry.operation_id for entry in listed(browser, person="nonsense")}


@pytest.mark.parametrize(("name", "value"), [("kind", "export"), ("source", "job")])
def test_the_list_is_filtered_by_kind_and_by_source(browse, manager, catalogue, name, value):
    work(source=Source.JOB)
    work()
    events.enter(AuditKind.EXPORT, detail={"list": "client"})
    found = listed(browse(manager), **{f"{name}__exact": value})
    assert found
    assert {getattr(entry, name) for entry in found} == {value}


def test_the_list_is_filtered_by_what_was_changed(browse, manager, catalogue):
    done, case = work()
    with operation() as note:
        Note.objects.create(case=case, text="Called.")
    with operation() as event:
        events.enter(AuditKind.EXPORT)
    browser = browse(manager)
    assert {entry.operation_id for entry in listed(browser, changed="note")} == {note.id}
    cases = {entry.operation_id for entry in listed(browser, changed="case")}
    assert done.id in cases
    assert not {note.id, event.id} & cases
    assert len(listed(browser, changed="nonsense")) == len(listed(browser))


def test_the_list_is_filtered_by_day_of_the_offices_clock(browse, manager):
    def at(*moment):
        entry = AuditEntry.objects.create(operation_id=uuid.uuid4(), source="job")
        AuditEntry.objects.filter(pk=entry.pk).update(at=timezone.make_aware(datetime.datetime(*moment)))
        return entry

    before, first, last, after = at(2026, 1, 4, 23, 59), at(2026, 1, 5), at(2026, 1, 6, 23, 59), at(2026, 1, 7)
    browser = browse(manager)
    assert listed(browser, at_from="2026-01-05", at_to="2026-01-06") == [last, first]
    assert listed(browser, at_from="5. 1. 2026", at_to="5.1.2026") == [first]
    assert listed(browser, at_to="2026-01-04") == [before]
    assert after in listed(browser, at_from="2026-01-07")
    for nonsense in ("never", "9999-12-31", "0001-01-01"):
        assert browser.get(LIST, {"at_from": nonsense, "at_to": nonsense}).status_code == 200


def test_the_list_is_searched_by_an_operations_number_or_its_beginning(browse, manager, catalogue):
    done, _case = work()
    work()
    browser = browse(manager)
    for term in (str(done.id), done.id.hex.upper(), str(done.id)[:8], f" {str(done.id)[:13]} "):
        assert {entry.operation_id for entry in listed(browser, q=term)} == {done.id}, term
    for term in ("Alice", str(done.id)[:7], str(uuid.uuid4()), f"{done.id}0", "%"):
        assert listed(browser, q=term) == [], term


def test_the_lines_are_paged_newest_first_and_the_count_stops(browse, manager, monkeypatch):
    monkeypatch.setattr("crm.admin.paging.COUNTED", 60)
    make_entries(70)
    browser = browse(manager)
    first, second = listed(browser), listed(browser, p=2)
    assert len(first) == 50
    assert [entry.at for entry in first + second] == sorted((entry.at for entry in first + second), reverse=True)
    assert "60+" in browser.get(LIST).content.decode()


def make_entries(count: int) -> None:
    names = ["operation_id", "kind", "at", "user_name", "source", "reason", "model", "object_id", "detail", "counts"]
    convert = stored(AuditEntry, names)
    rows = (
        (uuid.uuid4(), "change", EARLY + datetime.timedelta(minutes=number), "Bob", "job", "", "", "", "", {})
        for number in range(count)
    )
    insert_rows(AuditEntry, names, ([convert(*pair) for pair in zip(names, row, strict=True)] for row in rows))


# --- What it costs ---


def queries_of(browser, path) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(path).status_code == 200
    return len(captured)


def test_the_list_costs_the_same_at_10_and_at_20_operations(browse, manager, catalogue, settings):
    settings.EMAIL_IS_SET = True
    Heartbeat.objects.beat("worker", timezone.now())
    BackupRun.objects.create(
        state=RunState.DONE, proof=BackupProof.RESTORED, file_name="a.hdbk", sha256="0" * 64, version="0.1.0"
    )
    browser = browse(manager)
    for number in range(10):
        work(full_name=f"Client {number}")
    listed(browser)
    ten = queries_of(browser, LIST)
    for number in range(10):
        work(full_name=f"Client {number}")
    # Of every page's: the banner's (is a worker alive, is there a proven backup?) and the bell's.
    assert queries_of(browser, LIST) == ten <= 14


def test_the_page_of_an_operation_costs_the_same_at_10_and_at_20_rows(browse, manager, catalogue):
    browser = browse(manager)
    costs = []
    for count in (10, 20):
        with operation() as done:
            for _ in range(count):
                case = factories.make_case(adviser=manager)
                Note.objects.create(case=case, text="Called.", author=manager)
        browser.get(page(done.id))
        costs.append(queries_of(browser, f"{page(done.id)}?model=note"))
    assert costs[0] == costs[1]


# --- The page of an operation ---


def test_the_page_shows_all_that_one_click_changed(browse, manager, bob, catalogue):
    _done, case = work(bob, reason="He called.")
    with operation(Source.ADMIN, user=bob, reason="Higher.") as later:
        case.loan_amount_czk = 1_500_000
        case.save()
        Note.objects.create(case=case, text="Asked for more.")
    answer = browse(manager).get(page(later.id))
    assert [(change.model, change.kind) for change in answer.context["changes"]] == [(Case, "~"), (Note, "+")]
    content = answer.content.decode().replace("\xa0", " ")
    for text in ("Bob Novák", "Higher.", "Admin", str(later.id), "1 500 000", "Asked for more.", case.reference):
        assert text in content
    assert reverse("admin:crm_case_change", args=[case.pk]) in content
    assert "He called." not in content


def test_the_page_is_paged_and_narrowed_to_a_kind_of_record(browse, manager, catalogue):
    with operation() as done:
        for number in range(4):
            factories.make_case(factories.make_client(f"Client {number}"))
    browser = browse(manager)
    first, second = browser.get(page(done.id)), browser.get(page(done.id), {"p": 2})
    kinds = [change.model._meta.model_name for change in [*first.context["changes"], *second.context["changes"]]]
    assert len(first.context["changes"]) == 50
    assert sorted(kinds) == sorted(["client"] * 4 + ["case"] * 4 + ["casestep"] * 60)
    assert [tab["count"] for tab in first.context["tabs"]] == ["68", "4", "4", "60"]
    only = browser.get(page(done.id), {"model": "case", "p": 7})
    assert [change.model for change in only.context["changes"]] == [Case] * 4
    assert len(browser.get(page(done.id), {"model": "nonsense", "p": "x"}).context["changes"]) == 50


def test_an_import_tells_its_file_and_everything_it_wrote(browse, manager):
    plan = imports.check(b"jmeno;email\nAlice Novakova;alice@example.com\n", "klienti.csv", manager)
    run = imports.write(plan, manager)
    answer = browse(manager).get(page(run.operation_id))
    assert "klienti.csv" in answer.content.decode()
    labels = [Client.objects.get().reference, Case.objects.get().reference]
    assert [change.label for change in answer.context["changes"]][:2] == labels


def test_an_operation_and_the_one_that_undid_it_point_at_each_other(browse, manager, catalogue):
    done, case = work()
    with operation(Source.ADMIN, user=manager, kind=AuditKind.UNDO, undoes=done.id) as undo:
        Case.objects.filter(pk=case.pk).update(term_months=12)
    browser = browse(manager)
    assert page(undo.id) in browser.get(page(done.id)).content.decode()
    assert page(done.id) in browser.get(page(undo.id)).content.decode()


def test_an_event_has_a_page_too(browse, manager, bob):
    with operation(Source.ADMIN, user=bob) as done:
        events.enter(AuditKind.EXPORT, detail={"list": "client", "rows": 3, "columns": ["email", "phone"]})
    content = browse(manager).get(page(done.id)).content.decode()
    for text in ("Export", "clients · 3 rows", "E-mail, Phone", "Bob Novák"):
        assert text in content


def test_an_exports_filter_and_columns_are_told_in_the_words_of_its_list(browse, manager, bob):
    filtered = {"adviser": str(bob.pk), "status__exact": "open", "search": True}
    with operation(Source.ADMIN, user=bob) as done:
        detail = {"list": "case", "filter": filtered, "columns": ["reference", "loan_amount_czk"]}
        events.enter(AuditKind.EXPORT, detail=detail)
    facts = dict(browse(manager).get(page(done.id)).context["facts"])
    assert facts["Filter"] == "Status: Open; Adviser: Bob Novák; search"
    assert facts["Columns"] == "Reference, Loan amount (CZK)"


def test_a_bulk_edits_filter_and_fields_are_told_in_the_words_of_its_list(browse, manager, bob, catalogue):
    case = factories.make_case(factories.make_client("Alice Nováková"), adviser=bob)
    rows, values = Case.objects.all(), {"term_months": 240}
    seen = bulk_edit.plan(rows, values, manager).seen
    address = f"adviser={bob.pk}&status__exact=open&q=Alice&p=2"
    bulk_edit.carry_out(rows, values, manager, seen=seen, now=timezone.now(), filtered_by=address)
    facts = dict(browse(manager).get(page(case.history.first().operation_id)).context["facts"])
    assert facts["Filter"] == "Status: Open; Adviser: Bob Novák; search: Alice"
    assert facts["Fields"] == "Term (months)"


@pytest.mark.parametrize("named", [{}, {"list": "gone"}])
def test_a_filter_of_no_list_is_told_as_it_is_kept(browse, manager, bob, named):
    with operation(Source.ADMIN, user=bob) as done:
        events.enter(AuditKind.EXPORT, detail={**named, "filter": {"status__exact": "open"}, "columns": ["email"]})
    facts = dict(browse(manager).get(page(done.id)).context["facts"])
    assert (facts["Filter"], facts["Columns"]) == ("status__exact = open", "email")


def test_more_events_than_a_page_holds_are_a_list_away(browse, manager, bob, monkeypatch):
    monkeypatch.setattr("crm.admin.audit.MOST_EVENTS", 2)
    browser = browse(manager)
    for count in (2, 3):
        with operation(Source.ADMIN, user=bob) as done:
            for number in range(count):
                events.enter(AuditKind.EXPORT, detail={"list": "client", "rows": number})
        answer = browser.get(page(done.id))
        assert len(answer.context["events"]) == 2
        assert (f"{LIST}?q={done.id}" in answer.content.decode()) == (count == 3)
        assert len(listed(browser, q=str(done.id))) == count


def test_rows_older_than_the_trail_have_a_page(browse, manager, bob, catalogue):
    done, _case = work(bob)
    AuditEntry.objects.all().delete()
    answer = browse(manager).get(page(done.id))
    assert (answer.status_code, len(answer.context["changes"])) == (200, 17)
    assert "Bob Novák" in answer.content.decode()


def test_a_record_deleted_since_is_told_without_a_link(browse, manager, catalogue):
    done, case = work()
    url = reverse("admin:crm_case_change", args=[case.pk])
    case.delete()
    content = browse(manager).get(page(done.id)).content.decode()
    assert case.reference in content
    assert url not in content


# --- Who sees a part only ---


@pytest.fixture
def narrow(settings):
    """A person who may look at the trail, and sees his own cases only."""
    settings.ADVISER_SCOPE = "own"
    user = factories.make_user(roles.ADVISER)
    for code in ("view_auditentry", "export_auditentry"):
        user.user_permissions.add(roles.Permission.objects.get(codename=code))
    return User.objects.get(pk=user.pk)


def test_whoever_sees_own_cases_only_sees_own_entries_and_of_them_visible_rows(browse, narrow, bob, catalogue):
    with operation(Source.ADMIN, user=narrow) as done:
        own = factories.make_case(factories.make_client("Own"), adviser=narrow)
        foreign = factories.make_case(factories.make_client("Foreign"), adviser=bob)
    by_bob, _case = work(bob, adviser=bob)
    browser = browse(narrow)
    found = {entry.operation_id: entry for entry in listed(browser)}
    assert found[done.id].told == "+1× client, +1× case, +15× step of a case"
    assert {entry.user_id for entry in found.values()} == {narrow.pk}
    assert browser.get(page(by_bob.id)).status_code == 404
    answer = browser.get(page(done.id))
    content = answer.content.decode()
    assert own.reference in content
    assert foreign.reference not in content
    assert len(answer.context["changes"]) == 17
    assert by_bob.id not in {entry.operation_id for entry in listed(browser, changed="case")}
    by_bob_rows = AuditEntry.objects.filter(operation_id=by_bob.id)
    by_bob_rows.delete()  # as if it were older than the trail
    assert browser.get(page(by_bob.id)).status_code == 404


def test_rows_of_a_model_that_one_may_not_view_are_neither_told_nor_counted(browse, db, catalogue):
    user = factories.make_user(roles.ASSISTANT)
    user.groups.clear()
    for code in ("view_auditentry", "view_case", "view_all_cases"):
        user.user_permissions.add(roles.Permission.objects.get(codename=code))
    done, _case = work(full_name="Alice Nováková")
    browser = browse(user)
    assert {entry.operation_id: entry.told for entry in listed(browser)}[done.id] == "+1× case"
    answer = browser.get(page(done.id))
    assert {change.model for change in answer.context["changes"]} == {Case}
    assert "Alice" not in answer.content.decode()
    assert "Clients" not in dict(browser.get(LIST).context["cl"].filter_specs[2].lookup_choices).values()


# --- The file ---


def export(browser, query="", **values):
    return browser.post(f"{EXPORT}{query}", {"format": "xlsx", "columns": ALL, **values})


ALL = [column.name for column in columns_of(AuditEntry) if not column.is_key]


@pytest.mark.parametrize("role", [roles.ADMINISTRATOR, roles.MANAGER])
def test_the_filtered_trail_is_exported_and_the_export_is_entered(browse, catalogue, bob, role):
    done, _case = work(bob, reason="=1+1")
    work()
    browser = browse(factories.make_user(role))
    assert EXPORT in browser.get(LIST).content.decode()
    answer = export(browser, f"?person={bob.pk}")
    [row] = xlsx_rows(answer.content)
    assert row["When"].date() == timezone.localdate()
    assert (row["By"], row["Kind"], row["Source"]) == ("Bob Novák", "Change", "Admin")
    assert row["Detail"] == "'+1× client, +1× case, +15× step of a case"
    assert (row["Operation"], row["Reason"]) == (str(done.id), "'=1+1")
    entry = AuditEntry.objects.filter(kind=AuditKind.EXPORT).latest("pk")
    assert json.loads(entry.detail)["list"] == "auditentry"
    assert json.loads(entry.detail)["filter"] == {"person": str(bob.pk)}
    assert ExportRun.objects.get().rows == 1


def test_no_formula_is_in_the_file(browse, manager, catalogue):
    events.enter(AuditKind.LOGIN_FAILED, detail={"account": "=HYPERLINK(1)"})
    answer = export(browse(manager), "?kind__exact=login_failed")
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
    assert [cell.value for cell in sheet[2] if cell.data_type == "f"] == []
    assert xlsx_rows(answer.content)[0]["Detail"] == "'=HYPERLINK(1)"


def test_an_auditor_looks_and_exports_nothing(browse, auditor):
    browser = browse(auditor)
    assert EXPORT not in browser.get(LIST).content.decode()
    assert browser.get(EXPORT).status_code == 403
    assert export(browser).status_code == 403
    assert not ExportRun.objects.exists()


def test_looking_at_the_page_of_the_export_writes_nothing(browse, manager):
    answer = browse(manager).get(EXPORT)
    assert answer.status_code == 200
    assert not ExportRun.objects.exists()


def test_the_file_holds_what_its_reader_may_see(browse, narrow, bob, catalogue):
    work(bob, adviser=bob)
    with operation(Source.ADMIN, user=narrow):
        factories.make_case(factories.make_client("Own"), adviser=narrow)
        factories.make_case(factories.make_client("Foreign"), adviser=bob)
    rows = [row for row in xlsx_rows(export(browse(narrow)).content) if row["Kind"] == "Change"]
    assert "'+1× client, +1× case, +15× step of a case" in [row["Detail"] for row in rows]
    assert {row["By"] for row in rows} == {narrow.get_display_name()}


def test_a_trail_too_long_for_a_page_is_made_by_a_job(browse, manager, monkeypatch):
    make_entries(3)
    monkeypatch.setattr(pages, "MOST_ROWS", 2)
    browse(manager).post(f"{EXPORT}?source__exact=job", {"format": "xlsx", "columns": ALL})
    run = ExportRun.objects.get()
    jobs.carry_out(run.job_id, tasks.JOBS)
    run.refresh_from_db()
    assert (run.state, run.rows, run.pieces.count()) == ("done", 3, 1)


def test_the_file_costs_two_queries_to_500_lines(browse, manager):
    browser = browse(manager)
    export(browser)
    costs = []
    for _ in range(2):
        make_entries(200)
        with CaptureQueriesContext(connection) as captured:
            export(browser, "?source__exact=job")
        costs.append(len(captured))
    assert costs[0] == costs[1]


# --- Seals ---


def check(minutes: int, **fields):
    return models.AuditCheck.objects.create(at=EARLY + datetime.timedelta(minutes=minutes), seals=7, **fields)


def proof_of(browser) -> str:
    return browser.get(LIST).context["proof"]["badge"]


def test_the_list_says_when_the_trail_was_last_verified_and_how(browse, manager):
    browser = browse(manager)
    assert "Never verified" in proof_of(browser)
    check(0, is_whole=False, message="crm_historicalcase 12 was changed")
    content = browser.get(LIST).content.decode()
    assert "Not whole" in content
    assert "crm_historicalcase 12 was changed" in content
    last = check(1, is_whole=True, is_anchored=True, rows=1234, unsealed_rows=5)
    content = browser.get(LIST).content.decode()
    for text in (
        "Whole",
        "2026-01-05 13:01",
        "compared with an anchor",
        "seals: 7",
        "rows: 1\u00a0234",
        "not sealed yet: 5",
    ):
        assert text in content
    assert "crm_historicalcase" not in content
    assert reverse("admin:crm_auditcheck_change", args=[last.pk]) in content


def test_a_check_of_the_newest_seals_covers_up_nothing(browse, manager):
    browser = browse(manager)
    check(0, is_whole=False, message="crm_historicalcase 12 was changed")
    check(1, is_whole=True, since=EARLY.date())
    assert "Not whole" in proof_of(browser)
    check(2, is_whole=True)
    check(3, is_whole=True, since=EARLY.date())
    answer = browser.get(LIST)
    assert "Not whole" not in answer.context["proof"]["badge"]
    assert "only seals since 2026-01-05" in answer.content.decode()


def test_a_verification_is_believed_where_its_key_is(browse, manager, settings):
    settings.AUDIT_KEYS = ["seal-key-for-tests-0123456789-abcdefghijklmn"]
    browser = browse(manager)
    verifying.verify(now=EARLY)
    assert ">Whole<" in proof_of(browser)
    settings.AUDIT_KEYS = []
    assert "Whole, not proven" in proof_of(browser)


def test_a_failed_verification_that_somebody_made_whole_stays_not_whole(browse, manager, settings):
    settings.AUDIT_KEYS = ["seal-key-for-tests-0123456789-abcdefghijklmn"]
    verifying.verify(now=EARLY)
    models.AuditCheck.objects.update(rows=99)
    answer = browse(manager).get(LIST)
    assert "Not whole" in answer.context["proof"]["badge"]
    assert "was rewritten, or made with a key" in answer.content.decode()


def test_whoever_may_not_view_verifications_is_told_nothing_of_them(browse, narrow):
    check(0, is_whole=False, message="crm_historicalcase 12 was changed")
    content = browse(narrow).get(LIST).content.decode()
    assert "crm_historicalcase" not in content
    assert "Not whole" not in content


def test_seals_and_verifications_are_lists_to_look_at(browse, auditor, adviser):
    models.AuditSeal.objects.create(number=1, rows=12, mac="0" * 64)
    models.AuditCheck.objects.create(is_whole=False, rows=12, message="case 3 was changed")
    paths = [reverse(f"admin:crm_{name}_changelist") for name in ("auditseal", "auditcheck")]
    content = "".join(browse(auditor).get(path).content.decode() for path in paths)
    assert "case 3 was changed" in content
    assert [browse(adviser).get(path).status_code for path in paths] == [403, 403]


def test_every_model_of_the_trail_is_read_only(rf, administrator):
    request = rf.get("/")
    request.user = administrator
    for model in (AuditEntry, models.AuditSeal, models.AuditCheck):
        page_of = admin.site.get_model_admin(model)
        assert not page_of.has_add_permission(request)
        assert not page_of.has_change_permission(request)
        assert not page_of.has_delete_permission(request)
