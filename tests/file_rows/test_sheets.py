"""Spreadsheets as other programs' libraries write them, read by the rules of uploads."""

from __future__ import annotations

import io
import string
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backdrop.file_rows import BadFile, CsvTypes, cell_value, read_rows, sheet_rows
from backdrop.file_rows.sheet_rows import column_letters
from tests.sheets import MAKERS, PICTURE, Wrong, bomb, ods, xls, xlsx

FORMATS = pytest.mark.parametrize("kind", MAKERS)


def rows(data: bytes, kind: Any, csv_types: CsvTypes = "auto") -> list[tuple[int, dict[str, Any]]]:
    return list(sheet_rows(kind, io.BytesIO(data), None, csv_types, lambda _: None))


def values(data: bytes, kind: Any, csv_types: CsvTypes = "auto") -> list[dict[str, Any]]:
    return [row for _, row in rows(data, kind, csv_types)]


def refused(data: bytes, kind: Any) -> BadFile:
    with pytest.raises(BadFile) as caught:
        rows(data, kind)
    return caught.value


def remarks(data: bytes, kind: Any) -> list[str]:
    found: list[str] = []
    list(sheet_rows(kind, io.BytesIO(data), None, "auto", found.append))
    return found


@FORMATS
def test_rows_with_nothing_but_a_remark_are_left_out(kind: str) -> None:
    """As such lines of CSV are, before the names too; and the page says how many."""
    table = [["# fees"], ["kind", "fee"], ["#a", 1], ["# until 2013"], ["a", "# one"], ["", "#b"]]
    data = MAKERS[kind](table)
    assert rows(data, kind) == [
        (3, {"kind": "#a", "fee": 1}),
        (5, {"kind": "a", "fee": "# one"}),
        (6, {"fee": "#b"}),
    ]
    assert remarks(data, kind) == ["2 rows left out: nothing but a text that begins with #"]


@FORMATS
def test_cells_become_values(kind: str) -> None:
    table = [
        ["_timestamp", " name ", "amount", "comment", "paid", "at_time"],
        [None, "", None, None, None, None],
        [date(2013, 1, 31), "  Camden\t", 27.0, "why", True, time(9, 30)],
        [datetime(2013, 1, 31, 9, 30, 15), "007", 1.5, None, False, None],  # noqa: DTZ001
        [None, None, None, "only a comment", None, None],
        ["2013-02-01", "27", -3, None, None, None],
        [datetime(2013, 2, 1), "é😀 <b>", 2**53, None, None, "x"],  # noqa: DTZ001
    ]
    assert rows(MAKERS[kind](table), kind) == [
        (3, {"_timestamp": "2013-01-31", "name": "Camden", "amount": 27, "paid": True,
             "at_time": "09:30:00"}),
        (4, {"_timestamp": "2013-01-31T09:30:15", "name": "007", "amount": 1.5, "paid": False}),
        (6, {"_timestamp": "2013-02-01", "name": 27, "amount": -3}),
        (7, {"_timestamp": "2013-02-01", "name": "é😀 <b>", "amount": 2**53, "at_time": "x"}),
    ]  # fmt: skip


@FORMATS
def test_reserved_fields_are_texts_and_so_is_all_where_the_bucket_says_so(kind: str) -> None:
    data = MAKERS[kind]([["_id", "_timestamp", "when", "paid"], [27.0, 2013, 1.5, True]])
    assert values(data, kind) == [{"_id": "27", "_timestamp": "2013", "when": 1.5, "paid": True}]
    assert values(data, kind, "text") == [
        {"_id": "27", "_timestamp": "2013", "when": "1.5", "paid": "true"}
    ]


@FORMATS
def test_an_error_is_named_with_its_cell(kind: str) -> None:
    bad = refused(MAKERS[kind]([["aa", "bb"], [1, 2], [3, Wrong()]]), kind)
    assert (bad.line, bad.column) == (3, "B")
    assert "the cell B3 holds the error #DIV/0!" in bad.message


@pytest.mark.parametrize("kind", ["xls", "ods"])  # openpyxl would write an error
def test_the_text_of_an_error_is_a_text(kind: str) -> None:
    """Where nothing was calculated."""
    table = [["aa", "bb"], ["", "#DIV/0!"]]
    assert values(MAKERS[kind](table), kind) == [{"bb": "#DIV/0!"}]


def test_every_error_is_told_and_the_good_rows_go_on() -> None:
    found: list[tuple[int | None, str | None]] = []
    data = xlsx([["aa", "bb"], [Wrong(), Wrong()], [1, 2], [Wrong(), 3]])
    read = sheet_rows(
        "xlsx",
        io.BytesIO(data),
        None,
        "auto",
        lambda _: None,
        lambda b: found.append((b.line, b.column)),
    )
    assert list(read) == [(3, {"aa": 1, "bb": 2})]
    assert found == [(2, "A"), (2, "B"), (4, "A")]


def test_a_formula_that_was_never_worked_out_is_an_error() -> None:
    bad = refused(xlsx([["aa", "bb"], [1, "=A2+1"]]), "xlsx")
    assert (bad.line, bad.column) == (2, "B")
    assert "formula without its value" in bad.message


@FORMATS
def test_the_first_sheet_counts_and_the_others_are_named(kind: str) -> None:
    data = MAKERS[kind]([["aa"], [1]], ("more", [["bb"], [2]]), ("last", [[Wrong()]]))
    assert values(data, kind) == [{"aa": 1}]
    assert remarks(data, kind) == [
        "only the sheet 'Sheet' is read; 2 sheets are left out: 'more', 'last'"
    ]


@FORMATS
def test_a_sheet_that_is_hidden_does_not_count(kind: str) -> None:
    """Nor do its errors, while those of the sheet that is read do."""
    make = MAKERS[kind]
    data = make([["aa"], [Wrong()]], ("shown", [["bb"], [2]]), hidden=True)
    assert values(data, kind) == [{"bb": 2}]
    bad = refused(make([["aa"], [1]], ("shown", [["bb"], [2], [Wrong()]]), hidden=True), kind)
    assert (bad.line, bad.column) == (3, "A")


def with_part(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with one part of it changed."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    return changed.getvalue()


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("xl/workbook.xml", b"<sheets>", b"<sheets>&nothing;"),
        ("xl/worksheets/sheet1.xml", b"<sheetData>", b"<sheetData>&nothing;"),
        ("xl/worksheets/sheet1.xml", b'<row r="2"', b'<row r="two"'),
    ],
)
def test_a_sheet_that_one_library_can_read_is_refused_in_words(
    part: str, old: bytes, new: bytes
) -> None:
    """What is wrong with a file is never a fault of ours, whichever parser meets it."""
    data = with_part(xlsx([["aa"], [Wrong()]]), part, lambda xml: xml.replace(old, new))
    assert refused(data, "xlsx")


@FORMATS
@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ([], None, "empty"),
        ([[None], [""]], None, "empty"),
        ([["aa", "bb"], [1, 2], [1, 2, None, 3]], 3, "4 cells, where the first row names 2"),
        ([["aa", None, "bb"], [1, 2, 3]], 1, "column 2 can't be a field"),
        ([["aa", "a-b"]], 1, "column 2 can't be a field"),
        ([[None], ["aa", "aa"]], 2, "two columns are named 'aa'"),
    ],
)
def test_a_bad_table_is_refused_with_its_row(
    kind: str, table: Sequence[Sequence[Any]], line: int | None, message: str
) -> None:
    bad = refused(MAKERS[kind](table), kind)
    assert bad.line == line
    assert message in bad.message


@FORMATS
def test_fewer_cells_are_empty_ones(kind: str) -> None:
    assert values(MAKERS[kind]([["aa", "bb"], [1]]), kind) == [{"aa": 1}]


@pytest.mark.parametrize("kind", [*MAKERS, "csv"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PICTURE, "a PNG picture"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"<html><table>", "a web page"),
        (xlsx([["aa"], [1]]), "an XLSX file"),
        (xls([["aa"], [1]]), "an XLS file"),
        (ods([["aa"], [1]]), "an ODS file"),
    ],
)
def test_a_file_is_what_its_name_says(kind: Any, data: bytes, words: str) -> None:
    if words == f"an {kind.upper()} file":
        assert values(data, kind) == [{"aa": 1}]
        return
    with pytest.raises(BadFile, match="this is not") as caught:
        list(read_rows(io.BufferedReader(io.BytesIO(data)), kind))  # type: ignore[arg-type]  # has all that it needs
    is_zip_as_csv = kind == "csv" and data.startswith(b"PK")
    assert ("zip archive" if is_zip_as_csv else words) in caught.value.message


@FORMATS
def test_broken_files_are_refused(kind: Any) -> None:
    data = MAKERS[kind]([["aa", "bb"], *([n, "x" * n] for n in range(300))])
    for broken in (data[: len(data) // 2], data[:-30], data[:600], b"a,b\n1,2\n"):
        with pytest.raises(BadFile):
            rows(broken, kind)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    assert "unpack to 300 MiB or more" in refused(bomb(300 * 2**20), "xlsx").message


def test_a_bomb_that_lies_is_refused() -> None:
    """What a zip archive says of its parts is checked against what they hold."""
    assert "too much" in refused(bomb(300 * 2**20, declared=100), "xlsx").message
    assert "does not have the length" in refused(bomb(2**20, declared=100), "xlsx").message


def test_sixteen_thousand_columns_are_refused() -> None:
    many = [[f"column_{n}" for n in range(16_384)], list(range(16_384))]
    assert "16,384 columns, and a bucket has at most 1,000" in refused(xlsx(many), "xlsx").message


def test_letters_are_those_of_spreadsheets() -> None:
    assert [column_letters(at) for at in (0, 25, 26, 701, 702, 16_383)] == [
        "A", "Z", "AA", "ZZ", "AAA", "XFD",
    ]  # fmt: skip


_TEXTS = st.text(string.ascii_letters + string.digits + " .-+#='éß漢😀,;\"", max_size=12)
_CELLS = st.one_of(
    st.none(),
    _TEXTS.filter(lambda text: not text.strip().startswith(("=", "#"))),
    st.integers(-(2**53), 2**53),
    st.floats(-1e9, 1e9).map(lambda one: round(one, 6)),
    st.booleans(),
    st.dates(date(1901, 1, 1), date(2200, 1, 1)),
    st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001  as sheets have them
        lambda one: one.replace(microsecond=0)
    ),
)


def expected(cell: Any) -> Any:
    """What the contract makes of a cell; None for nothing."""
    if isinstance(cell, bool) or cell is None:
        return cell
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, datetime):
        return cell.isoformat() if cell.time() != time() else cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    return cell.strip() if isinstance(cell, str) else cell


@FORMATS
@settings(max_examples=30)
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=6))
def test_what_is_written_is_read(kind: str, table: list[tuple[Any, Any]]) -> None:
    """Each cell comes back as the contract says, whichever program's library wrote it."""
    data = MAKERS[kind]([["one", "two"], *table])
    found = values(data, kind, "auto")
    wanted = []
    for row in table:
        cells = {n: expected(c) for n, c in zip(("one", "two"), row, strict=True)}
        kept = {name: value for name, value in cells.items() if value not in (None, "")}
        if kept:
            wanted.append({name: _as_auto(value) for name, value in kept.items()})
    assert [_close(row) for row in found] == [_close(row) for row in wanted]


def _as_auto(value: Any) -> Any:
    return cell_value(value) if isinstance(value, str) else value


def _close(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its floats as sheets keep them: to 15 digits."""
    return {n: float(f"{v:.12g}") if isinstance(v, float) else v for n, v in row.items()}
