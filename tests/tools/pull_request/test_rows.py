"""Rows of two states of a table, by key and column."""

from pathlib import Path

import duckdb
import pytest

from tools.pull_request.rows import Difference, Example, differences

KEY = {"gold.m": ("site", "day")}
ROWS = "(values ('a', 1, 0.5, null), ('a', 2, 1.5, 'x'), ('b', 1, 2.5, 'y'))"


@pytest.fixture
def table(tmp_path: Path):
    def write(name: str, query: str) -> dict[str, Path]:
        path = tmp_path / f"{name}.parquet"
        duckdb.sql(f"from {query}").write_parquet(str(path))
        return {"gold.m": path}

    return write


def state(rows: str, columns: str = "site, day, mean, note") -> str:
    return f"(select * from {rows} as t ({columns}))"


def compare(before: dict[str, Path], after: dict[str, Path], keys=KEY) -> Difference:
    return differences(before, after, keys)["gold.m"]


def test_the_same_rows_in_another_order_do_not_differ(table) -> None:
    found = compare(table("before", state(ROWS)), table("after", f"(from {state(ROWS)} order by mean desc)"))
    assert not found
    assert (found.before, found.after) == (3, 3)


def test_rows_are_told_apart_by_key_and_values_by_column(table) -> None:
    after = "(values ('a', 1, 0.5, 'n'), ('a', 2, 1.75, 'x'), ('c', 1, 2.5, 'y'), ('c', 2, 2.5, 'y'))"
    found = compare(table("before", state(ROWS)), table("after", state(after)))
    assert (found.added, found.gone, found.changed) == (2, 1, 2)
    assert found.columns == {"mean": 1, "note": 1}
    first, second = found.examples
    assert first == Example({"site": "a", "day": 1}, {"note": (None, "n")})
    assert {name: tuple(map(float, pair)) for name, pair in second.values.items()} == {"mean": (1.5, 1.75)}


def test_columns_that_come_go_or_change_type_differ_though_no_row_does(table) -> None:
    after = "(select site, day, mean::double as mean, 1 as extra from " + state(ROWS) + ")"
    found = compare(table("before", state(ROWS)), table("after", after))
    assert found
    assert (found.columns_added, found.columns_gone) == (("extra",), ("note",))
    assert found.retyped == ("mean: DECIMAL(2,1) → DOUBLE",)
    assert (found.added, found.gone, found.changed) == (0, 0, 0)


@pytest.mark.parametrize("keys", [{}, {"gold.m": ("no_such_column",)}, {"gold.m": ("site",)}])
def test_without_a_key_that_identifies_rows_are_compared_as_a_bag(table, keys) -> None:
    after = "(values ('a', 1, 0.5, null), ('a', 1, 0.5, null), ('b', 1, 9.5, 'y'))"
    found = compare(table("before", state(ROWS)), table("after", state(after)), keys)
    assert (found.added, found.gone, found.changed) == (2, 2, 0)


def test_a_table_of_one_side_alone_differs_by_all_of_its_rows(table) -> None:
    only = table("only", state(ROWS))
    new, gone = compare({}, only), compare(only, {})
    assert new and (new.before, new.after, new.added) == (None, 3, 3)
    assert gone and (gone.before, gone.after, gone.gone) == (3, None, 3)


def test_an_empty_table_that_stays_empty_does_not_differ(table) -> None:
    empty = f"(from {state(ROWS)} where false)"
    assert not compare(table("before", empty), table("after", empty))
