"""From one published row back to the bronze rows and the requests that it came from.

Everything is read at the snapshot that the release pins, so an old release explains itself as it was. The way upstream
is dbt's lineage: from a row to the rows of a parent that have the row's key, or those that the model's
`config.meta.explained_by` selects, down to the sources.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb

from include.connections import Postgres
from include.dbt_project import MANIFEST, Node, lineage
from include.errors import ReleaseError, first_line
from include.lake.attach import Lake, columns_of, identifier
from include.layers import QUARANTINE_SCHEMA, Layer
from include.release import ledger
from include.release.ledger import Entry
from include.release.transaction import require_snapshot

Row = dict[str, Any]
MOST_ROWS = 20


@dataclass(frozen=True)
class Upstream:
    """Rows of one table that the explained row was computed from.

    Args:
        table: `schema.table`.
        through: the tables of the rows that led here.
        sample: of a source, some of the rows, whole.
    """

    table: str
    rows: int
    through: tuple[str, ...]
    sample: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Request:
    """What was asked of a source, the columns by which it tells requests apart, and the rows that came of it."""

    table: str
    request: str
    columns: Row
    rows: int


@dataclass(frozen=True)
class Explanation:
    """A published row and where it came from.

    Args:
        upstream: from the mart's parents down to bronze.
        requests: what the bronze rows were fetched by.
        quarantined: rows of the same loads and days that were set aside, so that they are not in it.
    """

    mart: str
    row: Row
    entry: Entry
    upstream: tuple[Upstream, ...]
    requests: tuple[Request, ...]
    quarantined: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, once dates are text."""
        entry = self.entry.as_dict()
        released = ("release_id", "kind", "domain", "interval_start", "interval_end", "released_at", "rolled_back_to")
        return {
            "mart": self.mart,
            "row": self.row,
            "release": {name: entry[name] for name in (*released, "dag_run_id", "code_version", "entry_hash")},
            "snapshot_id": self.entry.snapshot_id,
            "gates": self.entry.gates,
            "upstream": [vars(each) for each in self.upstream],
            "requests": [vars(each) for each in self.requests],
            "quarantined": list(self.quarantined),
        }


def parse_where(texts: Sequence[str]) -> dict[str, str]:
    """`site=amber,local_date=2026-11-01` as columns and values; several texts add up.

    Raises:
        ReleaseError: a part is not `column=value`, or names a column twice.
    """
    wanted: dict[str, str] = {}
    for part in (part for text in texts for part in re.split(r",(?=\s*\w+\s*=)", text)):
        column, separator, value = part.partition("=")
        if not separator or not column.strip():
            raise ReleaseError(
                f"{part!r} is not column=value; write for example --where site=amber,local_date=2026-11-01."
            )
        if column.strip() in wanted:
            raise ReleaseError(f"--where names {column.strip()} twice.")
        wanted[column.strip()] = value.strip()
    return wanted


def explain(
    lake: Lake,
    marts: Postgres,
    mart: str,
    where: Mapping[str, str],
    release_id: int | None = None,
    manifest: Path = MANIFEST,
) -> Explanation:
    """Explain the one row of a mart that has these values.

    Args:
        release_id: by default the release that readers of the mart are on.

    Raises:
        ReleaseError: no such release, mart or column; no row matches, or several do; the snapshot is gone.
    """
    entry = _entry(marts, mart, release_id)
    key = tuple(entry.marts[mart]["key"])
    with lake.open(read_only=True) as connection:
        require_snapshot(connection, entry.snapshot_id)
    with lake.open(snapshot=entry.snapshot_id) as connection:
        _keep_row(connection, mart, key, where, entry)
        (row,) = _rows(connection, f"from {_found(mart)}")
        nodes = lineage(entry.domain, manifest)
        edges = _edges(nodes, mart)
        upstream = tuple(_keep_upstream(connection, nodes[name], through) for name, through in edges)
        sources = [nodes[name] for name, _ in edges if nodes[name].is_source]
        requests = tuple(request for source in sources for request in _requests(connection, source))
        quarantined = tuple(row for source in sources for row in _quarantined(connection, source))
    return Explanation(mart, row, entry, upstream, requests, quarantined)


def upstreams(node: Node, nodes: Mapping[str, Node]) -> dict[str, str]:
    """The tables that a row of the node leads to, each with the condition on `this` (the row) and `upstream`.

    By default the parents that have every key column of the node; what the node states itself replaces that.

    Raises:
        ReleaseError: it names a table that is not among its ancestors.
    """
    if node.is_source:
        return {}
    if node.explained_by:
        strangers = sorted(set(node.explained_by) - _ancestors(node, nodes))
        if strangers:
            raise ReleaseError(f"{node.name} says that {', '.join(strangers)} explains it, which dbt's lineage lacks.")
        return dict(node.explained_by)
    same = " and ".join(f"upstream.{identifier(column)} = this.{identifier(column)}" for column in node.key)
    parents = [nodes[parent] for parent in node.parents]
    return {parent.name: same for parent in parents if node.key and set(node.key) <= set(parent.columns)}


def _ancestors(node: Node, nodes: Mapping[str, Node]) -> set[str]:
    return set(node.parents).union(*(_ancestors(nodes[parent], nodes) for parent in node.parents))


def _edges(nodes: Mapping[str, Node], mart: str) -> list[tuple[str, dict[str, str]]]:
    """Every table upstream of the mart, children first, each with the conditions by table that lead to it."""
    if mart not in nodes:
        raise ReleaseError(f"The dbt project has no model {mart} any more, so its lineage is not known.")
    leading: dict[str, dict[str, str]] = {}
    order, open_ = TopologicalSorter[str](), [mart]
    while open_:
        name = open_.pop()
        for parent, condition in upstreams(nodes[name], nodes).items():
            order.add(parent, name)
            if parent not in leading:
                open_.append(parent)
            leading.setdefault(parent, {})[name] = condition
    if not any(nodes[name].is_source for name in leading):
        raise ReleaseError(
            f"The lineage of {mart} ends before any source; give the last model `explained_by` in its config.meta."
        )
    return [(name, leading[name]) for name in order.static_order() if name in leading]


def _entry(marts: Postgres, mart: str, release_id: int | None) -> Entry:
    if release_id is not None:
        entry = ledger.entry(marts, release_id)
        if mart not in entry.marts:
            raise ReleaseError(f"Release {release_id} has no mart {mart}; it has {', '.join(sorted(entry.marts))}.")
        return entry
    known = ledger.entries(marts)
    holding = [entry for entry in known if mart in entry.marts]
    if not holding:
        names = sorted({name for entry in known for name in entry.marts})
        raise ReleaseError(f"No release holds a mart {mart}; released are {', '.join(names) or 'none yet'}.")
    return holding[-1]


def _keep_row(
    connection: duckdb.DuckDBPyConnection, mart: str, key: tuple[str, ...], where: Mapping[str, str], entry: Entry
) -> None:
    types = dict(entry.marts[mart]["columns"])
    unknown = sorted(set(where) - set(types))
    if unknown or not where:
        what = f"has no column {', '.join(unknown)}" if unknown else "needs a row to explain"
        raise ReleaseError(f"Mart {mart} {what}; say --where with its key: {', '.join(key)}.")
    conditions = " and ".join(f"{identifier(column)} = cast(? as {types[column]})" for column in where)
    try:
        connection.execute(
            f"create temp table {_found(mart)} as from {Layer.GOLD}.{identifier(mart)} where {conditions}",
            list(where.values()),
        )
    except duckdb.ConversionException as error:
        raise ReleaseError(f"A value in --where does not fit its column: {first_line(error)}") from None
    except duckdb.Error as error:
        raise ReleaseError(
            f"Mart {mart} of release {entry.release_id} cannot be read at snapshot {entry.snapshot_id}: "
            f"{first_line(error)}"
        ) from error
    found = connection.execute(f"select count(*) from {_found(mart)}").fetchall()[0][0]
    said = ", ".join(f"{column} = {value}" for column, value in where.items())
    if found == 0:
        raise ReleaseError(f"Mart {mart} of release {entry.release_id} has no row where {said}.")
    if found > 1:
        missing = ", ".join(column for column in key if column not in where)
        raise ReleaseError(
            f"{found:,} rows of {mart} in release {entry.release_id} have {said}; add {missing} to tell one row."
        )


def _keep_upstream(connection: duckdb.DuckDBPyConnection, node: Node, through: Mapping[str, str]) -> Upstream:
    leads = " or ".join(f"exists (select 1 from {_found(name)} as this where {sql})" for name, sql in through.items())
    try:
        connection.execute(
            f"create temp table {_found(node.name)} as "
            f"select upstream.* from {node.schema}.{identifier(node.name)} as upstream where {leads}"
        )
    except duckdb.Error as error:
        raise ReleaseError(
            f"{node.schema}.{node.name} cannot be read as `explained_by` of {' and '.join(through)} says, or had "
            f"another shape at that release: {first_line(error)}"
        ) from error
    rows = connection.execute(f"select count(*) from {_found(node.name)}").fetchall()[0][0]
    key = ", ".join(identifier(column) for column in node.key) or "all"
    shown = f"from {_found(node.name)} order by {key} limit {MOST_ROWS}"
    sample = tuple(_rows(connection, shown)) if node.is_source else ()
    return Upstream(f"{node.schema}.{node.name}", rows, tuple(through), sample)


def _requests(connection: duckdb.DuckDBPyConnection, source: Node) -> list[Request]:
    columns = source.meta.get("request_columns") or []
    listed = ", ".join(identifier(column) for column in columns)
    grouped = f"{listed}, " if listed else ""
    by = f"group by {listed} order by {listed}" if listed else ""
    rows = _rows(connection, f"select {grouped}count(*) as _rows from {_found(source.name)} {by}")
    made = []
    for row in rows:
        count = row.pop("_rows")
        if count:
            text = str(source.meta.get("request", "")).format_map(row)
            made.append(Request(f"{source.schema}.{source.name}", text, row, count))
    return made


def _quarantined(connection: duckdb.DuckDBPyConnection, source: Node) -> list[Row]:
    held = columns_of(connection, QUARANTINE_SCHEMA, source.name)
    shared = [column.name for column in held if column.name in (source.meta.get("request_columns") or [])]
    if not shared:
        return []
    same = " and ".join(f"this.{identifier(name)} = aside.{identifier(name)}" for name in shared)
    table = f"{QUARANTINE_SCHEMA}.{identifier(source.name)}"
    exists = f"exists (select 1 from {_found(source.name)} as this where {same})"
    rows = _rows(connection, f"from {table} as aside where {exists} order by all")
    return [{"table": f"{QUARANTINE_SCHEMA}.{source.name}", **row} for row in rows]


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> list[Row]:
    found = connection.execute(sql, list(values))
    names = [column[0] for column in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _found(name: str) -> str:
    return f"temp.main.{identifier(f'found in {name}')}"
