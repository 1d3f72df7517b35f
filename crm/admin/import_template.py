"""The workbook to fill in, for whoever may import."""

import io

from django.http import HttpResponse
from django.utils.translation import gettext as _

from crm.exports import template

_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def download(admin, request) -> HttpResponse:
    admin._require_import(request)
    target = io.BytesIO()
    template.write(target)
    return workbook(target.getvalue(), _("import-template"))


def workbook(content: bytes, name: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.xlsx"'}
    return HttpResponse(content, content_type=_TYPE, headers=headers)
