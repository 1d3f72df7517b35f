from crm.models.audit import AuditCheck, AuditEntry, AuditSeal, ExportedClient, SealBlock
from crm.models.backups import BackupRun, BackupWatch, StagedFiles
from crm.models.base import Counter, CrmModel, CrmQuerySet
from crm.models.calendars import CalendarFeed
from crm.models.cases import Case, CaseParty, Commission, FinanceItem, Property
from crm.models.clients import Client, SearchToken
from crm.models.documents import Document, DocumentType, Note
from crm.models.history import History
from crm.models.jobs import Heartbeat, JobRun, JobSchedule
from crm.models.messages import MessageLog, MessageText
from crm.models.notices import Notice, NoticeChoice, NoticeRule
from crm.models.operations import operation
from crm.models.presets import ExportChoice, ExportPreset, ExportSchedule
from crm.models.privacy import Consent, Erasure, Identification
from crm.models.reference import Lender, RegulatoryLimit
from crm.models.runs import ExportPiece, ExportRun, ImportMapping, ImportPiece, ImportRun, KeyCanary, UndoRun
from crm.models.steps import CaseStep, Step
from crm.models.users import User

__all__ = [
    "AuditCheck", "AuditEntry", "AuditSeal", "BackupRun", "BackupWatch", "CalendarFeed", "Case", "CaseParty", "CaseStep", "Client", "Commission", "Consent",
    "Counter", "CrmModel", "CrmQuerySet", "Document", "DocumentType", "Erasure", "ExportChoice", "ExportPiece", "ExportPreset", "ExportRun", "ExportSchedule", "ExportedClient", "FinanceItem", "Heartbeat", "History",
    "Identification", "ImportMapping", "ImportPiece", "ImportRun", "JobRun", "JobSchedule", "KeyCanary", "Lender", "MessageLog", "MessageText", "Note", "Notice", "NoticeChoice",
    "NoticeRule", "Property", "RegulatoryLimit", "SealBlock", "SearchToken", "StagedFiles", "Step", "UndoRun", "User", "operation",
]  # fmt: skip
