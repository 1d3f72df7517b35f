import pytest

from crm.choices import ImportPart
from crm.imports import pieces
from crm.models import ImportRun


@pytest.fixture
def run(db, monkeypatch) -> ImportRun:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3)
    monkeypatch.setattr(pieces, "LARGE_AT_ONCE", 2)
    return ImportRun.objects.create(file_name="x.csv")


@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 12, 13])
def test_a_file_comes_back_whole_whatever_number_of_pieces_it_takes(run, length):
    content = bytes(range(length))
    pieces.store_bytes(run, ImportPart.FILE, content)
    for _twice in range(2):
        assert b"".join(pieces.stream_bytes(run, ImportPart.FILE)) == content


def test_its_beginning_alone_costs_one_query(run, django_assert_num_queries):
    pieces.store_bytes(run, ImportPart.FILE, bytes(30))
    with django_assert_num_queries(1):
        assert next(pieces.stream_bytes(run, ImportPart.FILE)) == bytes(3)
