"""What a history costs: a save with it beside one without, and the bytes of a history row."""

from collections.abc import Iterator
from itertools import count

from django.db import connection

from crm.bench.measuring import Measured, best_ms
from crm.models import Case, CaseStep, Client, operation
from crm.models.history import by_hand

TIMES = 100
GOAL = "2x"


def run(size: int) -> Iterator[Measured]:
    case = Case.objects.order_by("pk").first()
    amounts = count(1_000_000)

    def save():
        case.loan_amount_czk = next(amounts)
        with operation():
            case.save()

    def save_without():
        with by_hand():
            save()

    without, taken = best_ms(save_without, times=TIMES), best_ms(save, times=TIMES)
    yield Measured("save of a case without history", without, f"{without:.2f} ms")
    yield Measured("save of a case", taken, f"{taken:.2f} ms, {taken / without:.2f} times without", GOAL)
    for model in (Client, Case, CaseStep):
        yield _bytes(model)


def _bytes(model) -> Measured:
    history = model.history.model
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [history._meta.db_table])
        [total] = cursor.fetchone()
    each = total / max(1, history.objects.count())
    return Measured(f"history of a {model.__name__}", each, f"{each:,.0f} bytes a row, with its indexes")
