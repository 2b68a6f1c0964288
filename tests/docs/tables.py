"""The tables in the documentation that are made from the code's own.

`python -m tests.docs.tables` writes them into the pages, between the comments that mark them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from backdrop.api.errors import CODE_STATUSES
from backdrop.errors import CODES
from tests.docs.examples import ROOT


def codes_table() -> str:
    rows = [f"| `{code}` | {CODE_STATUSES[code]} | {CODES[code]} |" for code in CODES]
    return "\n".join(["| code | status | meaning |", "|---|---|---|", *rows])


TABLES: Mapping[str, tuple[Path, Callable[[], str]]] = {
    "codes": (ROOT / "docs" / "errors.md", codes_table),
}
"""Name in the marks -> the page, and what makes the table."""


def with_table(text: str, name: str, table: str) -> str:
    """The page's text with the table between its marks. Raises ValueError where there are none."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    written, count = marked.subn(lambda _: begin + table + end, text)
    if count != 1:
        raise ValueError(f"the page has {count} places for the table {name!r}; expected one")
    return written


if __name__ == "__main__":
    for name, (page, make) in TABLES.items():
        page.write_text(with_table(page.read_text(), name, make()))
