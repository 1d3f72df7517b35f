"""Lists that cost the same at a thousand and at a million rows: a capped count, and only the columns that are shown."""

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.utils.functional import cached_property

from crm import values
from crm.admin.ui import ChangeList
from crm.encryption import encrypted_names

COUNTED = 10_000


class AtLeast(int):
    """A count that was stopped: compares as the number, reads `10 000+`."""

    def __str__(self) -> str:
        return f"{values.number(int(self))}+"

    __html__ = __str__


class CappedPaginator(Paginator):
    """Counts to COUNTED and no further. What lies behind is reached by search and filters, not by page numbers."""

    @cached_property
    def count(self) -> int:
        if not hasattr(self.object_list, "order_by"):
            return len(self.object_list)
        found = self.object_list.order_by()[: COUNTED + 1].count()
        return AtLeast(COUNTED) if found > COUNTED else found


class CrmChangeList(ChangeList):
    def get_queryset(self, request, exclude_parameters=None):
        # Django hands what was ticked to the database as it came.
        if any(values.key(each) is None for each in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest("What is selected are no rows")
        return super().get_queryset(request, exclude_parameters)

    def get_results(self, request):
        # Only the page is read without the hidden columns: actions and exports take the whole rows from get_queryset.
        whole = self.queryset
        self.queryset = self.model_admin.for_list(request, whole)
        try:
            super().get_results(request)
        finally:
            self.queryset = whole

    def get_ordering_field(self, field_name):
        return None if field_name in encrypted_names(self.model) else super().get_ordering_field(field_name)

    @property
    def quick_links(self) -> list[dict]:
        """The choices of the list's quick filter as links that keep the other filters and the search."""
        found = []
        for spec in self.filter_specs:
            if getattr(spec, "quick", False):
                chosen = spec.value() or spec.default
                found += [
                    {
                        "title": title,
                        "active": key == chosen,
                        "url": self.get_query_string({spec.parameter_name: key}, [self.page_var]),
                    }
                    for key, title in spec.lookup_choices
                ]
        return found

    @property
    def page_var(self) -> str:
        return "p"
