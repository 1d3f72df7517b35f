"""What an erasure makes of every field of every model: the one place that says it. A field or a model that is not told here
fails crm/tests/privacy/test_fields.py. The history of a model is treated as the model is."""

import dataclasses
from collections.abc import Mapping

from django.db import models
from django.db.models import Value
from django.db.models.functions import Cast, Concat

from crm.choices import RiskLevel
from crm.encryption import Unreadable, is_encrypted
from crm.models import (
    AuditCheck,
    AuditEntry,
    AuditSeal,
    BackupRun,
    BackupWatch,
    CalendarFeed,
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Counter,
    Document,
    DocumentType,
    Erasure,
    ExportChoice,
    ExportedClient,
    ExportPiece,
    ExportPreset,
    ExportRun,
    ExportSchedule,
    FinanceItem,
    Heartbeat,
    Identification,
    ImportMapping,
    ImportPiece,
    ImportRun,
    JobRun,
    JobSchedule,
    KeyCanary,
    Lender,
    MessageLog,
    MessageText,
    Note,
    Notice,
    NoticeChoice,
    NoticeRule,
    Property,
    RegulatoryLimit,
    SealBlock,
    SearchToken,
    StagedFiles,
    Step,
    UndoRun,
    User,
)

# Stands for what the office calls a client without naming him.
REFERENCE = object()
NUMBER = Concat(Value("erased-"), Cast("id", models.CharField()), output_field=models.CharField())


@dataclasses.dataclass(frozen=True)
class Treatment:
    """`keep` stays, `blank` becomes empty, `replaced` what it says. `owners` are the columns that say whose a row is.
    `goes`: its rows are deleted."""

    keep: frozenset[str] = frozenset()
    blank: frozenset[str] = frozenset()
    replaced: Mapping[str, object] = dataclasses.field(default_factory=dict)
    owners: tuple[str, ...] = ()
    goes: bool = False


def _treat(*owners: str, keep: str = "", blank: str = "", replaced: Mapping[str, object] | None = None, goes=False):
    return Treatment(frozenset(keep.split()), frozenset(blank.split()), replaced or {}, owners, goes)


CLIENT, CASE = "client_id", "case_id"

# The records of a client, with their history. `legacy_id` and `import_digest` stay because they keep the older CRM's dump
# and a list that was imported before from bringing him back.
RECORDS: dict[type[models.Model], Treatment] = {
    Client: _treat(
        "id",
        keep="id reference legacy_id retention_until restricted_at anonymised_at created_at updated_at",
        blank="email phone birth_number birth_date birth_place street city postal_code mailing_address "
        "id_document_number id_document_issuer id_document_valid_until bank_account employer business_id note "
        "citizenship portal_user",
        replaced={"full_name": REFERENCE},
    ),
    # What the office's figures are made of stays: amounts, rates, lender, adviser, days and status.
    Case: _treat(
        CLIENT,
        keep="id reference client adviser stand_in opened_on status current_step next_deadline purpose_kind "
        "property_price_czk loan_amount_czk own_funds_czk ltv_percent lender approved_amount_czk "
        "approved_own_funds_czk approved_ltv_percent decided_on interest_rate_percent term_months fixation_years "
        "monthly_payment_czk dti dsti_percent legacy_id import_digest created_at updated_at",
        # The end of a fixation is there to write to him in time.
        blank="loan_purpose proposed_terms approved_terms rejection_reason contract_number fixation_until",
    ),
    CaseStep: _treat(CASE, keep="id case step deadline completed_on completed_by state", blank="note"),
    CaseParty: _treat(CASE, CLIENT, keep="id case client role"),
    Property: _treat(
        CASE, keep="id case kind valuation_czk valued_on valid_until", blank="address cadastral_reference"
    ),
    Document: _treat(
        CASE, keep="id case type status received_on expires_on created_at updated_at", blank="note"
    ),
    Note: _treat(
        CASE, keep="id case kind author author_name created_at visible_to_client legacy_id", blank="text"
    ),
    Commission: _treat(
        CASE, keep="id case expected_czk invoiced_on paid_on paid_czk clawback_until created_at updated_at"
    ),
    FinanceItem: _treat(CLIENT, keep="id client kind", blank="monthly_czk balance_czk proof note"),
    Consent: _treat(CLIENT, keep="id client purpose text_version given_on withdrawn_on"),
    Identification: _treat(
        CLIENT,
        keep="id client method done_on done_by sanctions_checked_on",
        replaced={"is_pep": False, "risk": RiskLevel.LOW},
    ),
}  # fmt: skip
# His own account goes, and this is what its history keeps.
ACCOUNT = _treat(
    "id",
    keep="id language absent_from absent_until is_demo is_active is_staff is_superuser date_joined",
    blank="first_name last_name email",
    replaced={"username": NUMBER},
)
# Of every history row: who, when and as part of what stays.
HISTORY = _treat(
    keep="history_id history_date history_type history_user_id history_user_name operation_id source",
    blank="history_change_reason",
)
# Internal tables, which have no history.
MESSAGE = _treat(
    CASE,
    keep="id kind case user language subject state attempts next_try_at needs_all_cases message_id expires_at sent_at "
    "error created_at updated_at",
    blank="recipient recipient_digest body html attachments",
    replaced={"claim_key": NUMBER},
)
# Of one to a colleague only what it said: who was told stays.
MESSAGE_TO_STAFF = frozenset({"body", "html", "attachments"})
# Of an operation that changed nobody else's records; of others the reason is about nobody in particular.
ENTRY = _treat(
    keep="id operation_id kind at user_id user_name source model object_id counts undoes", blank="reason detail"
)
# Of one that took nobody else's data out.
EXPORT = _treat(
    keep="id user user_name state created_at finished_at operation_id message model format filter columns rows sha256 "
    "job claim schedule slot told_at kept_until saw_all_cases",
    blank="reason source",
)
# Of one that wrote any of his records; the file's name only where it wrote nobody else's.
IMPORT = _treat(
    keep="id user user_name state created_at finished_at operation_id message token model sha256 rows created_count "
    "updated_count skipped_count error_count duplicate_count options fingerprint job",
    blank="file_name problems mapping corrections",
)
# Of one of an operation that changed nobody else's records; of one that was done the reason stands in the trail alone.
UNDO = _treat(
    keep="id user user_name state created_at finished_at operation_id message undoes put_back_count touched_count "
    "blocked_count left job",
    blank="reason",
)
OTHERS: dict[type[models.Model], Treatment] = {
    User: ACCOUNT,
    MessageLog: MESSAGE,
    AuditEntry: ENTRY,
    ExportRun: EXPORT,
    ImportRun: IMPORT,
    SearchToken: _treat(CLIENT, goes=True),
    # The waiting files of an export with him in it, or of an import of nobody else.
    ExportPiece: _treat(goes=True),
    ImportPiece: _treat(goes=True),
    ExportedClient: _treat(CLIENT, keep="id run client_id"),
    UndoRun: UNDO,
    # References and numbers: crm.notices writes no name.
    Notice: _treat(
        keep="id user kind case client step count detail by_name created_at in_inbox read_at wants_mail mailed_at"
    ),
    Erasure: _treat(keep="id scope object_id made_at asked_at kept_until erased_at"),
}

# Nothing of a client is in them.
CATALOGUES = {Step, Lender, DocumentType, RegulatoryLimit, MessageText, NoticeRule}
OF_COLLEAGUES = {NoticeChoice, CalendarFeed, ExportPreset, ExportChoice, ExportSchedule, ImportMapping}
OF_MACHINES = {
    JobRun, JobSchedule, Heartbeat, Counter, KeyCanary, BackupRun, BackupWatch, StagedFiles, AuditSeal, SealBlock,
    AuditCheck,
}  # fmt: skip


def erased_values(model: type[models.Model], treatment: Treatment, reference: str = "") -> dict[str, object]:
    """What a queryset's `update` writes. An encrypted value is one token for all rows, so that no version of a record
    differs from another where nothing was changed."""
    values = {name: _empty(model._meta.get_field(name)) for name in treatment.blank}
    for name, value in treatment.replaced.items():
        field = model._meta.get_field(name)
        value = reference if value is REFERENCE else value
        values[name] = Unreadable(field.get_prep_value(value)) if is_encrypted(field) else value
    return values


def _empty(field: models.Field) -> object:
    return None if field.null else ""
