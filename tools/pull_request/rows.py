"""How the rows of two tables differ, by key and column; each is a Parquet file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from include.lake.attach import identifier, literal, one_row

EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    """A row, by its key, whose columns differ: before and after."""

    key: Mapping[str, Any]
    values: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Difference:
    """What differs between two states of a table.

    Args:
        before, after: rows; None where the table is not there.
        added, gone: rows whose key only one state has. Without a key a changed row counts as one gone and one added.
        changed: rows of the same key in which a column of both states differs.
        columns: in how many rows each column differs.
        columns_added, columns_gone, retyped: differences of the columns themselves.
        examples: the first rows that changed, in the key's order.
    """

    table: str
    before: int | None
    after: int | None
    added: int = 0
    gone: int = 0
    changed: int = 0
    columns: Mapping[str, int] | None = None
    columns_added: tuple[str, ...] = ()
    columns_gone: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    def __bool__(self) -> bool:
        rows = self.added or self.gone or self.changed
        return bool(
            rows or self.columns_added or self.columns_gone or self.retyped or None in (self.before, self.after)
        )

    @property
    def name(self) -> str:
        return self.table.partition(".")[2]


def differences(
    before: Mapping[str, Path], after: Mapping[str, Path], keys: Mapping[str, tuple[str, ...]]
) -> dict[str, Difference]:
    """Every table of either side, by name.

    Args:
        keys: by table, the columns that identify a row; a table without is compared as a bag of rows.
    """
    with duckdb.connect(":memory:") as connection:
        connection.execute("set TimeZone = 'UTC'")
        return {
            table: _difference(connection, table, before.get(table), after.get(table), keys.get(table, ()))
            for table in sorted({*before, *after})
        }


def _difference(
    connection: duckdb.DuckDBPyConnection, table: str, before: Path | None, after: Path | None, key: tuple[str, ...]
) -> Difference:
    if before is None or after is None:
        rows = _count(connection, _read(before or after))  # type: ignore[arg-type]
        return Difference(table, None, rows, added=rows) if before is None else Difference(table, rows, None, gone=rows)
    old, new = _read(before), _read(after)
    kinds = _types(connection, old), _types(connection, new)
    both = [name for name in kinds[1] if name in kinds[0]]
    shape = {
        "columns_added": tuple(name for name in kinds[1] if name not in kinds[0]),
        "columns_gone": tuple(name for name in kinds[0] if name not in kinds[1]),
        "retyped": tuple(
            f"{name}: {kinds[0][name]} → {kinds[1][name]}" for name in both if kinds[0][name] != kinds[1][name]
        ),
    }
    totals = _count(connection, old), _count(connection, new)
    if (
        not key
        or not set(key) <= set(both)
        or not (_is_unique(connection, old, key) and _is_unique(connection, new, key))
    ):
        names = ", ".join(map(identifier, both))
        gone, added = (
            _count(connection, f"(select {names} from {a} except all select {names} from {b})")
            for a, b in ((old, new), (new, old))
        )
        return Difference(table, *totals, added=added, gone=gone, columns={}, **shape)
    return Difference(table, *totals, **_by_key(connection, old, new, key, [n for n in both if n not in key]), **shape)


def _by_key(
    connection: duckdb.DuckDBPyConnection, old: str, new: str, key: tuple[str, ...], others: list[str]
) -> dict[str, Any]:
    joined = " and ".join(f"o.{identifier(name)} is not distinct from n.{identifier(name)}" for name in key)
    missing = "select count(*) from {} o where not exists (select 1 from {} n where " + joined + ")"
    differs = {name: f"o.{identifier(name)} is distinct from n.{identifier(name)}" for name in others}
    some = " or ".join(differs.values()) or "false"
    counts = ", ".join(f"count(*) filter (where {condition})" for condition in ["true", *differs.values()])
    pairs = f"from {old} o join {new} n on {joined} where {some}"
    changed, *by_column = one_row(connection, f"select {counts} {pairs}")
    columns = {name: count for name, count in zip(others, by_column, strict=True) if count}
    return {
        "gone": one_row(connection, missing.format(old, new))[0],
        "added": one_row(connection, missing.format(new, old))[0],
        "changed": changed,
        "columns": columns,
        "examples": _examples(connection, pairs, key, list(columns)),
    }


def _examples(
    connection: duckdb.DuckDBPyConnection, pairs: str, key: tuple[str, ...], columns: list[str]
) -> tuple[Example, ...]:
    if not columns:
        return ()
    chosen = [f"n.{identifier(name)}" for name in key]
    values = [f"{side}.{identifier(name)}" for name in columns for side in ("o", "n")]
    query = f"select {', '.join(chosen + values)} {pairs} order by {', '.join(chosen)} limit {EXAMPLES}"
    examples = []
    for row in connection.execute(query).fetchall():
        found = zip(columns, row[len(key) :: 2], row[len(key) + 1 :: 2], strict=True)
        differing = {name: (old, new) for name, old, new in found if old != new}
        examples.append(Example(dict(zip(key, row, strict=False)), differing))
    return tuple(examples)


def _read(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in connection.execute(f"describe from {relation}").fetchall()}


def _is_unique(connection: duckdb.DuckDBPyConnection, relation: str, key: tuple[str, ...]) -> bool:
    names = ", ".join(map(identifier, key))
    return _count(connection, f"(select distinct {names} from {relation})") == _count(connection, relation)


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    return int(one_row(connection, f"select count(*) from {relation}")[0])
