"""Unfold's own classes, imported here and nowhere else (but for the site in site.py): it breaks between minor versions."""

from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    MultipleChoicesDropdownFilter,
    RangeDateFilter,
    RangeNumericFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, PaginationInlineFormSet, UserChangeForm, UserCreationForm
from unfold.views import ChangeList
from unfold.widgets import (
    CHECKBOX_CLASSES,
    INPUT_CLASSES,
    RADIO_CLASSES,
    UnfoldAdminAutocompleteModelChoiceFieldWidget,
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

__all__ = [
    "CHECKBOX_CLASSES", "INPUT_CLASSES", "RADIO_CLASSES", "ActionVariant", "AdminPasswordChangeForm", "AutocompleteWidget",
    "ChangeList", "ChoicesDropdownFilter", "DateWidget", "DropdownFilter", "ExpandableTextareaWidget",
    "FileWidget", "ModelAdmin", "MultipleChoicesDropdownFilter", "PaginationInlineFormSet", "PasswordWidget", "RangeDateFilter",
    "RangeNumericFilter", "RelatedDropdownFilter", "SelectWidget", "StackedInline", "TabularInline", "TextInputWidget",
    "TextareaWidget", "UserChangeForm", "UserCreationForm", "action", "display",
]  # fmt: skip

AutocompleteWidget = UnfoldAdminAutocompleteModelChoiceFieldWidget
DateWidget = UnfoldAdminSingleDateWidget
ExpandableTextareaWidget = UnfoldAdminExpandableTextareaWidget
FileWidget = UnfoldAdminFileFieldWidget
PasswordWidget = UnfoldAdminPasswordWidget
SelectWidget = UnfoldAdminSelectWidget
TextInputWidget = UnfoldAdminTextInputWidget
TextareaWidget = UnfoldAdminTextareaWidget
