"""A bronze table as a load finds it and as it leaves it, whatever the source."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from include.lake.attach import ALIAS, columns_of, identifier, one_row, roll_back
from include.sources.dlt_runtime import DATASET
from include.sources.errors import LoadError

# What every row of every bronze table says of where it came from; `_dlt_load_id` comes last of all columns.
# `record_id` is null in a window row, which says that the site was asked for the day, and `window_records` in others.
LINEAGE = (
    "site",
    "interval_date",
    "record_id",
    "load_seq",
    "interval_start",
    "interval_end",
    "fetched_at",
    "window_records",
    "_dlt_load_id",
)
# How a table is partitioned when it is made: a file a day makes a year twelve times slower to write than one a month.
PARTITION = "year(interval_date), month(interval_date)"


@dataclass(frozen=True)
class Bronze:
    """A table before a load: columns with DuckDB's types (none if it does not exist), and the load before."""

    table: str
    columns: Mapping[str, str]
    load_seq: int

    @property
    def name(self) -> str:
        return name_of(self.table)


@dataclass(frozen=True)
class Sent:
    """What one site's part of a load holds: window rows, records, and the sum of `window_records`."""

    windows: int
    records: int
    stated: int


def name_of(table: str) -> str:
    """The table as SQL."""
    return f"{ALIAS}.{DATASET}.{identifier(table)}"


def find(connection: duckdb.DuckDBPyConnection, table: str) -> Bronze:
    """The table as it is now."""
    columns = {column.name: column.kind for column in columns_of(connection, DATASET, table)}
    if not columns:
        return Bronze(table, {}, 0)
    (load_seq,) = one_row(connection, f"select coalesce(max(load_seq), 0) from {name_of(table)}")
    return Bronze(table, columns, load_seq)


def check_load(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    load_seq: int,
    sent: Mapping[str, Sent],
    *,
    key: Sequence[str],
    among: str,
) -> int:
    """Compare what the lake holds of a load with what was sent, by scanning it; returns the snapshot looked at.

    Args:
        sent: by site.
        key: columns of which no two rows may have the same values.
        among: SQL condition of the rows that are looked at for that.

    Raises:
        LoadError: the lake holds something else.
    """
    with _looking(connection):
        (snapshot,) = one_row(connection, f"select id from ducklake_current_snapshot('{ALIAS}')")
        found = connection.execute(
            "select site, count(*) filter (record_id is null), count(record_id), sum(window_records)::bigint "
            f"from {name_of(table)} where load_seq = ? group by all",
            [load_seq],
        ).fetchall()
        _check_scan(connection, table)
        _check_once(connection, table, key, among)
    held = {site: Sent(windows, records, stated or 0) for site, windows, records, stated in found}
    if held != dict(sent):
        raise LoadError(f"{table}: load {load_seq} holds {held}, but {dict(sent)} was sent; run it again.")
    return snapshot


def _check_scan(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Known bugs of DuckLake show as counts that a scan does not confirm."""
    name = name_of(table)
    # Every row has a load_seq above 0: a condition that the statistics do not answer, so the rows are read.
    counted, scanned = one_row(
        connection, f"select (select count(*) from {name}), count(*) filter (load_seq > 0) from {name}"
    )
    if counted != scanned:
        raise LoadError(
            f"{table}: the catalog counts {counted:,} rows and a scan finds {scanned:,}; run `lake fsck --deep`."
        )


def _check_once(connection: duckdb.DuckDBPyConnection, table: str, key: Sequence[str], among: str) -> None:
    """And as rows that came back."""
    columns = ", ".join(key)
    # As many hashes as rows: no two are alike. Fewer may be chance, so the keys themselves are then compared.
    rows, hashes = one_row(
        connection, f"select count(*), count(distinct hash({columns})) from {name_of(table)} where {among}"
    )
    if rows == hashes:
        return
    twice = connection.execute(
        f"select {columns}, count(*) from {name_of(table)} where {among} "
        "group by all having count(*) > 1 order by all limit 3"
    ).fetchall()
    if twice:
        rows = "; ".join(
            f"{', '.join('its window row' if value is None else str(value) for value in values)}: {count} times"
            for *values, count in twice
        )
        raise LoadError(f"{table} holds rows twice ({rows}); ingest these days again.")


@contextmanager
def _looking(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("begin")
    try:
        yield
    finally:
        roll_back(connection)
