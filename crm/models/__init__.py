from crm.models.base import Counter, CrmModel, CrmQuerySet, History, operation
from crm.models.cases import Case, CaseParty, Commission, FinanceItem, Property
from crm.models.clients import Client, SearchToken
from crm.models.documents import Document, DocumentType, Note
from crm.models.messages import MessageLog
from crm.models.privacy import Consent, Identification
from crm.models.reference import Lender, RegulatoryLimit
from crm.models.runs import BackupRun, ExportRun, ImportRun, JobRun, KeyCanary
from crm.models.steps import CaseStep, Step
from crm.models.users import User

__all__ = [
    "BackupRun", "Case", "CaseParty", "CaseStep", "Client", "Commission", "Consent", "Counter", "CrmModel",
    "CrmQuerySet", "Document", "DocumentType", "ExportRun", "FinanceItem", "History", "Identification", "ImportRun",
    "JobRun", "KeyCanary", "Lender", "MessageLog", "Note", "Property", "RegulatoryLimit", "SearchToken", "Step", "User",
    "operation",
]  # fmt: skip
