import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.spreadsheet import escape_cell, unescape_cell

RISKY = "'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20 aK\u010d1"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+420777123456", "-5", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "'=1"],
)
def test_a_text_that_a_spreadsheet_would_run_gets_a_quote(text):
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Novák", "O'Brien", "'t Hooft", "1+1", "'"])
def test_other_text_stays_as_it_is_both_ways(text):
    assert (escape_cell(text), unescape_cell(text)) == (text, text)


@given(st.text(alphabet=RISKY, max_size=6) | st.text(max_size=12))
def test_what_was_escaped_comes_back_exactly(text):
    assert unescape_cell(escape_cell(text)) == text


@given(st.text(alphabet=RISKY, max_size=6))
def test_no_escaped_cell_starts_a_formula(text):
    assert not escape_cell(text).startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
