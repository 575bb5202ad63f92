"""Ways in which any table goes bad, and whether a suite sees it.

A mutation is made and judged on a copy in memory, inside one transaction that is rolled back, and the checks are asked
as plain SQL, the same that the gate hands to Great Expectations: hundreds of mutations take seconds.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from include.interval import Interval
from include.lake.attach import ALIAS, Lake
from include.quality import gate, quarantine
from include.quality.checks import Check, Core, Measure, Query, Rows, Scope, Severity, Suite

NOW = datetime(2026, 3, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Mutation:
    """One way in which a table goes bad; `kind` is what a suite's `lets_pass` names it by."""

    table: str
    kind: str
    sql: str


def keys(manifest: Path) -> dict[str, tuple[str, ...]]:
    """The key of each table by `schema.table`, as config.meta states it."""
    content = json.loads(manifest.read_bytes())
    nodes = [*content["nodes"].values(), *content["sources"].values()]
    return {
        f"{node['schema']}.{node.get('identifier') or node['name']}": tuple(node["config"]["meta"]["key"])
        for node in nodes
        if (node.get("config", {}).get("meta") or {}).get("key")
    }


def in_memory(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A copy of every table of the lake, NOT NULL included, in a database that is called as the lake is."""
    copy = duckdb.connect(":memory:", config={"threads": 1})
    copy.execute(f"set TimeZone = 'UTC'; attach ':memory:' as {ALIAS}; use {ALIAS}")
    with lake.open(read_only=True) as connection:
        listed = "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'dl' order by all"
        for (table,) in connection.execute(listed).fetchall():
            copy.execute(f"create schema if not exists {table.partition('.')[0]}")
            rows = connection.execute(f"from {table}").to_arrow_table()
            copy.execute(f"create table {table} ({spelled_columns(connection, table)})")
            copy.execute(f"insert into {table} from rows")
            assert rows.num_rows == copy.execute(f"select count(*) from {table}").fetchall()[0][0]
    return copy


def spelled_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The columns of a table as `create table` takes them."""
    columns = connection.execute(f"describe {table}").fetchall()
    return ", ".join(f'"{name}" {kind}{" not null" if null == "NO" else ""}' for name, kind, null, *_ in columns)


def mutations(
    connection: duckdb.DuckDBPyConnection, suite: Suite, table: str, key: Iterable[str], interval: Interval
) -> Iterator[Mutation]:
    """Every generated mutation of one table of a suite, on a lake that is sound."""
    columns = _columns(connection, table)
    yield Mutation(table, "empty", f"delete from {table}")
    yield Mutation(table, "drop table", f"drop table {table}")
    for column in columns:
        if _uses(connection, suite, table, column):
            yield Mutation(table, f"drop column {column}", f'alter table {table} drop column "{column}"')
    for column in key:
        yield Mutation(table, f"null {column}", f'update {table} set "{column}" = null')
    day = _day(connection, table, columns, interval)
    if day:
        yield Mutation(table, "double a day", f"insert into {table} select * from {table} where {day}")
        yield Mutation(table, "drop a day", f"delete from {table} where {day}")


def seen_by(connection: duckdb.DuckDBPyConnection, suite: Suite, mutation: Mutation, interval: Interval) -> str:
    """What turns red: a check, or the lake itself, which refuses the mutation. Empty if nothing does."""
    connection.execute("begin")
    try:
        try:
            connection.execute(mutation.sql)
        except duckdb.Error as error:
            return f"the lake refuses it: {str(error).splitlines()[0]}"
        return next(red(connection, suite, interval, mutation.table), "")
    finally:
        connection.execute("rollback")


def red(connection: duckdb.DuckDBPyConnection, suite: Suite, interval: Interval, table: str) -> Iterator[str]:
    """The checks that fail the gate, of those that read the table."""
    there = gate._tables(connection)
    try:
        days = quarantine.answered_days(connection, suite.landed, interval, None)
    except duckdb.Error as error:
        yield f"the gate cannot tell which days landed: {error}"
        return
    run = gate._Run(suite, suite.layer.gate, Scope(interval, NOW.isoformat(), days), "run", 0, NOW, Path())
    for check in suite.checks:
        if table not in check.reads or check.severity is not Severity.FAIL:
            continue
        if not set(check.reads) <= there or not _holds(connection, check, run):
            yield check.name


def _holds(connection: duckdb.DuckDBPyConnection, check: Check, run: gate._Run) -> bool:
    test = check.test
    try:
        if isinstance(test, Query):
            return connection.execute(f"from ({run.scope.fill(test.sql)}) limit 1").fetchone() is None
        if isinstance(test, Core):
            assert test.expectation == "ExpectTableRowCountToBeBetween", "teach mutations.py this expectation"
            sql = f"select count(*) >= {test.arguments['min_value']} from {run.rows_of(check.table)}"
            return bool(_value(connection, sql))
        value = _value(connection, f"select {gate._aggregate(check, run)} from {run.rows_of(check.table)}")
    except duckdb.Error:
        return False  # what raises is red
    if isinstance(test, Rows):
        return value["broken"] == 0
    assert isinstance(test, Measure)
    above = test.minimum is None or value >= test.minimum
    return value is not None and above and (test.maximum is None or value <= test.maximum)


def _uses(connection: duckdb.DuckDBPyConnection, suite: Suite, table: str, column: str) -> bool:
    """Whether a check that fails the gate needs the column: not where a query may mean another table's."""
    for check in suite.checks:
        if table not in check.reads or check.severity is not Severity.FAIL:
            continue
        others = {other for other in check.reads if other != table}
        if re.search(rf"\b{column}\b", _sql(check)) and not any(column in _columns(connection, o) for o in others):
            return True
    return False


def _sql(check: Check) -> str:
    test = check.test
    return " ".join(str(getattr(test, name, "")) for name in ("sql", "predicate", "where", "expression", "arguments"))


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in connection.execute(f"describe {table}").fetchall()}


def _day(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str], interval: Interval) -> str | None:
    """A condition that selects the rows of the interval's first day, by the first column that has some."""
    first: date = interval.start.date()
    times = {"DATE": "{}", "TIMESTAMP WITH TIME ZONE": "{}::date"}
    for kind, expression in times.items():
        for column in [name for name, found in columns.items() if found == kind]:
            condition = f"{expression.format(column)} = date '{first}'"
            if _value(connection, f"select count(*) from {table} where {condition}"):
                return condition
    return None


def _value(connection: duckdb.DuckDBPyConnection, sql: str):
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]
