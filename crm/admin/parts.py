"""The parts of a case that are edited on its page: steps, parties, property, documents, notes, commission."""

from django.utils.translation import gettext_lazy as _

from crm import values, workflow
from crm.admin import badges, step_actions
from crm.admin.base import CrmStackedInline, CrmTabularInline
from crm.admin.forms import CrmModelForm
from crm.admin.ui import ExpandableTextareaWidget, display
from crm.models import Case, CaseParty, CaseStep, Commission, Document, Note, Property, operation


class StepForm(CrmModelForm):
    """The deadline of a settled step is history."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance.pk and self.instance.is_settled and "deadline" in self.fields:
            self.fields["deadline"].disabled = True


class LightCaseMixin:
    """For pages of a case's parts: of the case only its name, its client's, and what buttons depend on."""

    def get_object(self, request, object_id, from_field=None):
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            cases = Case.objects.select_related("client")
            names = ("reference", "status", "current_step", "client__reference", "client__full_name")
            found.case = cases.only(*names).get(pk=found.case_id)
        return found


def save_step(step: CaseStep, changed: list[str], by) -> None:
    """What a form may change of a step. Its deadline moves the case's, so that goes through crm.workflow."""
    if "deadline" in changed:
        workflow.set_deadline(step, step.deadline, by=by, note=step.note if "note" in changed else None)
    elif "note" in changed:
        fresh = CaseStep.objects.get(pk=step.pk)
        fresh.note = step.note
        with operation(user=by):
            fresh.save(update_fields=["note"])


class StepInline(CrmTabularInline):
    model = CaseStep
    form = StepForm
    fields = ("step_name", "state_badge", "deadline", "finished", "note", "actions")
    readonly_fields = ("step_name", "state_badge", "finished", "actions")
    can_delete = False
    verbose_name_plural = _("steps")

    def has_add_permission(self, request, obj=None):
        return False

    def get_formset(self, request, obj=None, **kwargs):
        self.request, self.case = request, obj  # an inline lives for one request only
        kwargs["widgets"] = {"note": ExpandableTextareaWidget({"rows": 1})}
        return super().get_formset(request, obj, **kwargs)

    def get_queryset(self, request):
        steps = super().get_queryset(request).select_related("step", "completed_by", "case")
        hidden = (
            f"case__{field.name}"
            for field in CaseStep._meta.get_field("case").related_model._meta.concrete_fields
            if field.name not in ("id", "status", "current_step", "reference")
        )
        return steps.defer(*hidden).order_by("step__number", "step")

    @display(description=_("step"))
    def step_name(self, step):
        return str(step.step)

    @display(description=_("state"))
    def state_badge(self, step):
        return badges.choice(step.state, step.get_state_display())

    @display(description=_("completed"))
    def finished(self, step):
        if not step.completed_on:
            return ""
        return f"{values.date(step.completed_on)} {step.completed_by or ''}".strip()

    @display(description=_("actions"))
    def actions(self, step):
        back = f"{self.request.path}#steps" if step.pk else ""
        return step_actions.buttons(step, self.request.user, back) if step.pk and not self.case.is_restricted else ""


class PartyInline(CrmTabularInline):
    model = CaseParty
    fields = ("client", "role")


class PropertyInline(CrmStackedInline):
    model = Property
    fields = (("kind", "cadastral_reference"), "address", ("valuation_czk", "valued_on", "valid_until"))


class DocumentInline(CrmTabularInline):
    model = Document
    fields = ("type", "status", "received_on", "expires_on", "note")


class CommissionInline(CrmTabularInline):
    model = Commission
    fields = ("expected_czk", "invoiced_on", "paid_on", "paid_czk", "clawback_until")


class NoteForm(CrmModelForm):
    """What came from the older CRM's logs is read-only. (That it is not deleted either, CaseAdmin sees to: Django
    validates no form that is marked for deletion.)"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance.pk and self.instance.is_read_only:
            for field in self.fields.values():
                field.disabled = True


class NoteInline(CrmTabularInline):
    model = Note
    form = NoteForm
    fields = ("text", "visible_to_client", "written", "kind_badge")
    readonly_fields = ("written", "kind_badge")
    per_page = 10

    def get_formset(self, request, obj=None, **kwargs):
        kwargs["widgets"] = {"text": ExpandableTextareaWidget({"rows": 2})}
        return super().get_formset(request, obj, **kwargs)

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("author")

    @display(description=_("written"))
    def written(self, note):
        if not note.pk:
            return ""
        author = note.author or note.author_name
        return f"{values.date(note.created_at.date())} {author or ''}".strip()

    @display(description=_("kind"))
    def kind_badge(self, note):
        return badges.badge(note.get_kind_display()) if note.is_read_only else ""


def save_note(note: Note, by) -> None:
    if note.pk is None:
        note.author, note.author_name = by, by.get_display_name()
    note.save()
