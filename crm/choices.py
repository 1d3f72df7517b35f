"""The words of the domain that are fixed in code. What an office may change (steps, lenders, document types) is data."""

from enum import StrEnum

from django.db.models import IntegerChoices, TextChoices
from django.utils.translation import gettext_lazy as _

# What stands where a stored value is shown that no key opens.
UNREADABLE_MARK = "⚠ unreadable"


class Language(TextChoices):
    CZECH = "cs", "Čeština"
    ENGLISH = "en", "English"


class CaseStatus(TextChoices):
    OPEN = "open", _("Open")
    APPROVED = "approved", _("Approved")
    DECLINED = "declined", _("Declined")
    WITHDRAWN = "withdrawn", _("Withdrawn")
    COMPLETED = "completed", _("Completed")


ACTIVE_STATUSES = (CaseStatus.OPEN, CaseStatus.APPROVED)


class StepState(TextChoices):
    PENDING = "pending", _("Pending")
    DONE = "done", _("Done")
    NOT_APPLICABLE = "not_applicable", _("Not applicable")


class PurposeKind(TextChoices):
    PURCHASE = "purchase", _("Purchase")
    CONSTRUCTION = "construction", _("Construction")
    RECONSTRUCTION = "reconstruction", _("Reconstruction")
    REFINANCING = "refinancing", _("Refinancing")
    SETTLEMENT = "settlement", _("Property settlement")
    INVESTMENT = "investment", _("Investment home")
    NON_PURPOSE = "non_purpose", _("Non-purpose loan")


class PartyRole(TextChoices):
    APPLICANT = "applicant", _("Applicant")
    CO_APPLICANT = "co_applicant", _("Co-applicant")
    GUARANTOR = "guarantor", _("Guarantor")
    SPOUSE = "spouse", _("Spouse")


class FinanceKind(TextChoices):
    EMPLOYMENT = "employment", _("Income from employment")
    BUSINESS = "business", _("Income from business")
    RENT = "rent", _("Rental income")
    BENEFITS = "benefits", _("Benefits and pensions")
    OTHER_INCOME = "other_income", _("Other income")
    MORTGAGE = "mortgage", _("Mortgage")
    CONSUMER_LOAN = "consumer_loan", _("Consumer loan")
    CREDIT_CARD = "credit_card", _("Credit card or overdraft")
    LEASING = "leasing", _("Leasing")
    MAINTENANCE = "maintenance", _("Maintenance payments")
    OTHER_EXPENSE = "other_expense", _("Other regular expense")


INCOME_KINDS = (
    FinanceKind.EMPLOYMENT,
    FinanceKind.BUSINESS,
    FinanceKind.RENT,
    FinanceKind.BENEFITS,
    FinanceKind.OTHER_INCOME,
)
DEBT_KINDS = (FinanceKind.MORTGAGE, FinanceKind.CONSUMER_LOAN, FinanceKind.CREDIT_CARD, FinanceKind.LEASING)


class PropertyKind(TextChoices):
    FLAT = "flat", _("Flat")
    HOUSE = "house", _("House")
    LAND = "land", _("Land")
    COOPERATIVE_FLAT = "cooperative_flat", _("Cooperative flat")
    RECREATIONAL = "recreational", _("Recreational building")
    OTHER = "other", _("Other")


class DocumentStatus(TextChoices):
    REQUESTED = "requested", _("Requested")
    RECEIVED = "received", _("Received")
    CHECKED = "checked", _("Checked")
    REFUSED = "refused", _("Refused")


class NoteKind(TextChoices):
    NOTE = "note", _("Note")
    CHANGE = "change", _("Change in the older CRM")
    STEP_LOG = "step_log", _("Step log of the older CRM")


class LimitMetric(TextChoices):
    LTV = "ltv", "LTV"
    DTI = "dti", "DTI"
    DSTI = "dsti", "DSTI"


class LimitAudience(TextChoices):
    ALL = "all", _("All applicants")
    UNDER_36 = "under_36", _("Applicants under 36")
    INVESTMENT = "investment", _("Investment homes")


class ConsentPurpose(TextChoices):
    PROCESSING = "processing", _("Processing of personal data")
    CREDIT_REGISTER = "credit_register", _("Credit register enquiry")
    MESSAGES = "messages", _("Messages about the case")
    MARKETING = "marketing", _("Marketing")


class IdentificationMethod(TextChoices):
    IN_PERSON = "in_person", _("In person")
    REMOTE = "remote", _("Remote")
    BANK_IDENTITY = "bank_identity", _("Bank identity")
    NOTARY = "notary", _("Notary or public office")


class RiskLevel(TextChoices):
    LOW = "low", _("Low")
    MEDIUM = "medium", _("Medium")
    HIGH = "high", _("High")


class ErasureScope(TextChoices):
    """Of what the erasure ledger tells."""

    CLIENT = "client", _("Client")


class Source(TextChoices):
    ADMIN = "admin", _("Admin")
    IMPORT = "import", _("Import")
    API = "api", "API"
    PORTAL = "portal", _("Portal")
    JOB = "job", _("Job")
    COMMAND = "command", _("Command")
    SHELL = "shell", _("Shell")


class AuditKind(TextChoices):
    """What a line of the audit trail is about: first an operation that changed rows, then what else is worth knowing."""

    CHANGE = "change", _("Change")
    IMPORT = "import", _("Import")
    BULK_EDIT = "bulk_edit", _("Bulk edit")
    REVERT = "revert", _("Put back")
    UNDO = "undo", _("Undo")
    RESTORE = "restore", _("Taken from the recycle bin")
    EXPORT = "export", _("Export")
    LOGIN = "login", _("Login")
    LOGOUT = "logout", _("Logout")
    LOGIN_FAILED = "login_failed", _("Failed login")
    LOCKOUT = "lockout", _("Lockout")
    PASSWORD = "password", _("Password set")
    PERMISSIONS = "permissions", _("Permissions changed")
    REFUSED = "refused", _("Access refused")
    ERASURE = "erasure", _("Erasure")
    DOWNLOAD = "download", _("Backup downloaded")


# Of these an operation has one line, and history rows.
OPERATION_KINDS = (
    AuditKind.CHANGE,
    AuditKind.IMPORT,
    AuditKind.BULK_EDIT,
    AuditKind.REVERT,
    AuditKind.UNDO,
    AuditKind.RESTORE,
)


class SealKind(TextChoices):
    ROWS = "rows", _("New rows")
    AMENDMENT = "amendment", _("Lawful change of sealed rows")
    PRUNING = "pruning", _("Old rows pruned")


class RunState(TextChoices):
    CHECKED = "checked", _("Checked")
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    MISSED = "missed", _("Missed")


class ImportState(TextChoices):
    """Of the other states of a run an import knows no queue: its job says whether it waits or works."""

    UPLOADED = "uploaded", _("Waits for its columns")
    CHECKING = "checking", _("Being checked")
    CHECKED = "checked", _("Checked")
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    MISSED = "missed", _("Missed")


class ImportPart(StrEnum):
    """What the pieces of an import hold: its bytes, its columns with samples, its rows in order, what each becomes, in which
    conflicts its value is taken."""

    FILE = "file"
    COLUMNS = "columns"
    ROWS = "rows"
    INDEX = "index"
    TAKEN = "taken"


class BackupKind(TextChoices):
    """As it stands in the names of files."""

    NIGHTLY = "nightly", _("Nightly")
    WEEKLY = "weekly", _("Weekly archive")
    HOURLY = "hourly", _("Of the day")
    BY_HAND = "by-hand", _("By hand")
    BEFORE_MIGRATE = "before-migrate", _("Before an update")
    SAFETY = "safety", _("Before a restore")


class BackupProof(TextChoices):
    """How far a backup was verified; of one that never was, nothing is known."""

    DIGESTS = "digests", _("Whole, but not restored")
    RESTORED = "restored", _("Restored and compared")
    BAD = "bad", _("Damaged")


class QueueName(TextChoices):
    """Two long jobs never delay a mail."""

    QUICK = "quick", _("Quick")
    LONG = "long", _("Long")


class Weekday(IntegerChoices):
    """As ISO counts them."""

    MONDAY = 1, _("Monday")
    TUESDAY = 2, _("Tuesday")
    WEDNESDAY = 3, _("Wednesday")
    THURSDAY = 4, _("Thursday")
    FRIDAY = 5, _("Friday")
    SATURDAY = 6, _("Saturday")
    SUNDAY = 7, _("Sunday")


class MessageState(TextChoices):
    WAITING = "waiting", _("Waiting")
    SENT = "sent", _("Sent")
    FAILED = "failed", _("Failed")
    REFUSED = "refused", _("Refused")
    EXPIRED = "expired", _("Too late")
    WITHHELD = "withheld", _("Withheld")


class Withheld(TextChoices):
    """Why a message that was written is not sent after all."""

    CLIENT = "client", _("The client does not want messages, or may not be written to.")
    CASE = "case", _("The case is over or was deleted.")
    USER = "user", _("The user is gone or may not log in.")
    RIGHTS = "rights", _("The user may not see any more what it tells.")
    ADDRESS = "address", _("The address has changed since.")
    PUT_BACK = (
        "put back",
        _("It waited when the backup was made from which the office was put back; it may have left then."),
    )


class SendingTrouble(TextChoices):
    """What stopped a message on its way, where the server's numbers do not tell."""

    UNANSWERED = "unanswered", _("The server took the text and did not answer: it may have arrived.")


class MessageKind(TextChoices):
    """What a message is about: each has its text in each language."""

    DEADLINES = "deadlines", _("Deadlines")
    RADAR = "radar", _("What runs out")
    WEEKLY_REPORT = "weekly_report", _("Weekly report")
    NOTICES = "notices", _("News of cases")
    CLIENT_DEADLINES = "client_deadlines", _("Deadlines, to the client")
    CLIENT_NOTICES = "client_notices", _("News of the case, to the client")
    WELCOME = "welcome", _("Welcome")
    PASSWORD_RESET = "password_reset", _("New password")


class NoticeKind(TextChoices):
    """What people are told of. Who, the office says in its table."""

    NEW_CLIENT = "new_client", _("New client")
    NEW_CASE = "new_case", _("New case")
    STEP_COMPLETED = "step_completed", _("Step completed")
    STEP_REOPENED = "step_reopened", _("Step reopened")
    APPROVED = "approved", _("Case approved")
    DECLINED = "declined", _("Case declined")
    WITHDRAWN = "withdrawn", _("Case withdrawn")
    REOPENED = "reopened", _("Case reopened")
    HANDED_OVER = "handed_over", _("Case handed over")
    DEADLINES = "deadlines", _("Deadlines")
    RADAR = "radar", _("What runs out")
    WEEKLY_REPORT = "weekly_report", _("Weekly report")


class OwnNotice(TextChoices):
    """What only who asked for it is told, whatever the office's table says."""

    EXPORT_READY = "export_ready", _("Regular export is ready")
    EXPORT_FAILED = "export_failed", _("Regular export failed")


class Rhythm(TextChoices):
    WEEKLY = "weekly", _("Weekly")
    MONTHLY = "monthly", _("Monthly")


class NoticeChannel(TextChoices):
    BOTH = "both", _("E-mail and inbox")
    MAIL = "mail", _("E-mail")
    INBOX = "inbox", _("Inbox")
    NONE = "none", _("Nothing")
