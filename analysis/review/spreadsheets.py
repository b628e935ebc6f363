"""Text that people typed, in cells of a CSV file that spreadsheets open."""

import re
import unicodedata

_SIGNS = frozenset("=+-@\u2212")
"""What begins a formula, also in its full width, small or raised forms."""
_CELL_ENDS = re.compile("([;\t\r\n])")
"""Where a spreadsheet that splits at other places than commas begins another cell."""


def guarded(text: str) -> str:
    """A text with a ' wherever a spreadsheet would take what follows for a formula."""
    cells = "".join(f"'{cell}" if _is_formula(cell) else cell for cell in _CELL_ENDS.split(text))
    # The first sign behind an end of a line, or a tabulator, is computed by some.
    return f"'{cells}" if cells[:1] in ("\t", "\r", "\n") else cells


def _is_formula(cell: str) -> bool:
    seen = (each for each in cell if not each.isspace() and unicodedata.category(each) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFKC", next(seen, ""))[:1] in _SIGNS if cell else False
