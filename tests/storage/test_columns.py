"""How records become the columns that DuckDB takes, and how those are inserted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdrop.domain.table import ABSENT, Records
from backdrop.domain.times import Instants, parse_instants
from backdrop.storage.duckdb.columns import to_columns
from backdrop.storage.duckdb.inserts import Inserts
from backdrop.storage.duckdb.opening import CONFIG

_FORMS = st.sampled_from(
    ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]
)
_MOMENTS = st.lists(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001  an offset is added
    min_size=1,
    max_size=4,
)


@given(_MOMENTS, _FORMS, st.sampled_from(["", "Z", "+00:00", "-0130", "+14:00"]))
def test_instants_are_the_same_by_their_texts(
    moments: list[datetime], form: str, offset: str
) -> None:
    """What Arrow reads of a text is what Python reads: to the microsecond, from year 1 to 9999."""
    ending = offset if "%H" in form else ""
    # Years before 1000 come without their zeros on some systems.
    texts = [f"{one.year:04}{one.strftime(form.removeprefix('%Y'))}{ending}" for one in moments]
    instants = parse_instants(texts)
    assert isinstance(instants, Instants)
    by_text = to_columns(_records(instants))["_timestamp", "time"]
    assert by_text.equals(to_columns(_records(list(instants)))["_timestamp", "time"])


@pytest.mark.parametrize("decimals", [3, 7, 9])
def test_decimals_past_the_microsecond_are_cut_in_a_column(decimals: int) -> None:
    """Arrow refuses them: then the instants themselves are taken."""
    instants = parse_instants([f"2013-01-31T09:30:15.{'123456789'[:decimals]}Z"] * 2)
    column = to_columns(_records(instants))["_timestamp", "time"]
    microseconds = int("123456"[:decimals].ljust(6, "0"))
    expected = datetime(2013, 1, 31, 9, 30, 15, microseconds)  # noqa: DTZ001  naive UTC
    assert column.to_pylist() == [expected] * 2


def test_a_column_of_texts_with_anything_else_is_parted_by_kinds() -> None:
    moment = datetime(2013, 1, 31, tzinfo=UTC)
    given_values = ["a", 1, ABSENT, None, 1.5, True]
    columns = to_columns(Records({"_id": list("abcdef"), "aa": given_values}, 6))
    assert {key: column.to_pylist() for key, column in columns.items()} == {
        ("_id", "string"): list("abcdef"),
        ("aa", "string"): ["a", None, None, None, None, None],
        ("aa", "integer"): [None, 1, None, None, None, None],
        ("aa", "null"): [None, None, None, True, None, None],
        ("aa", "float"): [None, None, None, None, 1.5, None],
        ("aa", "boolean"): [None, None, None, None, None, True],
    }
    mixed = [moment, ABSENT, moment + timedelta(microseconds=1)]
    column = to_columns(_records(mixed))["_timestamp", "time"]
    assert column.null_count == 1


def _records(times: list[datetime] | list[object]) -> Records:
    return Records({"_id": [str(n) for n in range(len(times))], "_timestamp": times}, len(times))


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config=CONFIG) as made:
        made.execute("CREATE TABLE things (aa BIGINT, bb VARCHAR)")
        yield made


def _things(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    return connection.execute("FROM things ORDER BY aa").fetchall()


def test_an_insert_is_planned_once_for_its_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Also where the table has been changed meanwhile, and where only some columns are given."""
    inserts = Inserts(connection)
    inserts.run("things", {"aa": pa.array([1, 2]), "bb": pa.array(["x", None])})
    inserts.run("things", {"bb": pa.array(["y"]), "aa": pa.array([3])})
    assert _views(connection) == 1
    connection.execute("ALTER TABLE things ADD COLUMN cc DOUBLE")
    inserts.run("things", {"aa": pa.array([4]), "bb": pa.array(["z"])})
    inserts.run("things", {"cc": pa.array([1.5]), "aa": pa.array([5])})
    assert _things(connection) == [
        (1, "x", None), (2, None, None), (3, "y", None), (4, "z", None), (5, None, 1.5),
    ]  # fmt: skip


def test_an_insert_is_planned_anew_after_a_rollback(connection: duckdb.DuckDBPyConnection) -> None:
    """Whether it was planned in the transaction or before."""
    inserts = Inserts(connection)
    for number in range(6):
        connection.begin()
        inserts.run("things", {"aa": pa.array([number])})
        inserts.run("things", {"aa": pa.array([number])})
        connection.rollback()
        inserts.forget()
        inserts.run("things", {"aa": pa.array([number])})
    assert _things(connection) == [(number, None) for number in range(6)]
    assert _views(connection) == 1


def test_no_more_inserts_are_kept_than_some(connection: duckdb.DuckDBPyConnection) -> None:
    """A program that sends ever other fields takes no ever more memory, nor is it refused."""
    inserts = Inserts(connection)
    for number in range(300):
        connection.execute(f"CREATE TABLE more_{number} (aa BIGINT)")
    for _ in range(7):
        for number in range(300):
            inserts.make_room()
            inserts.run(f"more_{number}", {"aa": pa.array([number])})
    assert 0 < _views(connection) <= 256
    assert connection.execute("SELECT sum(aa) FROM more_299").fetchall() == [(7 * 299,)]
    inserts.forget()
    assert _views(connection) == 0


def _views(connection: duckdb.DuckDBPyConnection) -> int:
    """How many sources are registered."""
    select = "SELECT count(*) FROM duckdb_views() WHERE NOT internal"
    return int(connection.execute(select).fetchall()[0][0])
