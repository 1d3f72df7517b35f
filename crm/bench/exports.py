"""All clients and cases into files, as `crm.exports` writes them for a manager."""

import tempfile
import time
from collections.abc import Iterator

from django.contrib.auth import get_user_model

from crm import exports
from crm.bench.measuring import Measured, rows_per_second
from crm.models import Case, Client


def run(size: int) -> Iterator[Measured]:
    manager = get_user_model().objects.get(username="manager")
    for model in (Client, Case):
        for file_format in (exports.XLSX, exports.CSV):
            with tempfile.TemporaryFile() as target:
                start = time.perf_counter()
                written = exports.write(model.objects.all(), target, file_format=file_format, user=manager, reason="bench")
                taken = time.perf_counter() - start
            yield rows_per_second(f"export {model._meta.model_name}s, {file_format}", written.rows, taken)
