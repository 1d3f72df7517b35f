"""Text that a spreadsheet would run as a formula, made harmless on the way out and made itself again on the way in.
Both directions stand here so that they stay each other's exact reverse. Strings only: numbers and dates are cells of
their own type."""

from crm.choices import UNREADABLE_MARK

# What Excel, LibreOffice or Google Sheets may take for the start of a formula; the full-width forms too.
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTE = "'"
_ESCAPED = (_QUOTE, *_STARTS_FORMULA)
# A text that starts with none of these goes out as it is.
MAY_BE_ESCAPED = frozenset(_ESCAPED)

# What a cell holds instead of a value that could not go into it. An import takes such a cell for an empty one, so that
# no mark ever replaces what is stored.
TOO_LONG_MARK = "⚠ too long for a cell"
LEFT_OUT = (UNREADABLE_MARK, TOO_LONG_MARK)
# Sheets that an export or the import's template adds to its data, in every language; an import passes them over.
BESIDE_DATA = ("Summary", "Souhrn", "Info", "Values", "Hodnoty")
# Whose row the template has as an example, whatever else it says: an import passes it over too.
EXAMPLE_NAMES = {"en": "[example] Jana Nováková", "cs": "[příklad] Jana Nováková"}


def escape_cell(text: str) -> str:
    """`=1+1` becomes `'=1+1`. A text that looks escaped already gets another quote, so that nothing is lost."""
    runs = text.startswith(_STARTS_FORMULA)
    looks_escaped = text.startswith(_QUOTE) and text[1:].startswith(_ESCAPED)
    return _QUOTE + text if runs or looks_escaped else text


def unescape_cell(text: str) -> str:
    """The reverse of escape_cell; any other text stays as it is."""
    return text[1:] if text.startswith(_QUOTE) and text[1:].startswith(_ESCAPED) else text
