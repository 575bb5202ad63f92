"""Ingest: from the sites into bronze. One stream is one dlt pipeline, and its table changes in one lake transaction."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import orjson

from include.connections import Connection
from include.errors import LakehouseError, SourceError
from include.interval import Interval
from include.lake.attach import ALIAS, Lake, roll_back
from include.quality.quarantine import keep_undated
from include.sources import dlt_runtime
from include.sources.errors import AccessError, LoadError, SchemaError, SitesError
from include.sources.nightscout.client import Patience, SiteClient, record_id
from include.sources.nightscout.fetch import Progress, SiteAnswer, fetch_site
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import Stream

log = logging.getLogger(__name__)

MOST_SITES_AT_ONCE = 16
PARTITION = "year(interval_date), month(interval_date)"
GetConnection = Callable[[str], Connection]


@dataclass(frozen=True)
class SiteLoad:
    """What one site brought.

    Attributes:
        windows: UTC days that were replaced.
        records: records in them.
        touched: days among them that only v3's history, or an earlier document, led to.
        outside: records that the site answered of days that nobody asked for.
        undated: records that state no day; they are in quarantine.
    """

    site: str
    api_version: str
    windows: int
    records: int
    touched: tuple[str, ...]
    outside: int
    undated: int = 0


@dataclass(frozen=True)
class SiteFailure:
    """A site that brought nothing, and why."""

    site: str
    reason: str
    optional: bool
    retryable: bool


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did. `load_seq`, `load_id` and `snapshot_id` are None when nothing was loaded.

    The lake at `snapshot_id` holds the load, whole.
    """

    stream: str
    table: str
    interval_start: str
    interval_end: str
    load_seq: int | None
    load_id: str | None
    snapshot_id: int | None
    sites: tuple[SiteLoad, ...]
    failed: tuple[SiteFailure, ...]

    @property
    def records(self) -> int:
        return sum(site.records for site in self.sites)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Bronze:
    """The stream's bronze table as it is before the load: columns with DuckDB's types, none if it does not exist."""

    columns: Mapping[str, str]
    load_seq: int


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    sites: Sequence[Site],
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    lookback_days: int = 2,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> IngestResult:
    """Fetch the interval from every site and replace its (site, UTC day) windows in bronze.

    Again gives the same rows, and intervals may come in any order. Which days are replaced: see `fetch`. A site that
    fails, or whose connection is missing or wrong, keeps the rows that it had.

    Args:
        connections: gives the connection of an id; called in this thread.
        pipelines_dir: where dlt works; one process at a time per stream and folder.
        lookback_days: days before the interval that are fetched again.
        progress: called from several threads with a site's id and its records so far.

    Raises:
        SitesError: a site that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: a field changed its type; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
        SourceError: there is no site.
    """
    if not sites:
        raise SourceError(f"No site to ingest {stream.name} from; expected at least one.")
    clients: list[SiteClient] = []
    failed: list[SiteFailure] = []
    for site in sites:
        try:
            clients.append(SiteClient(site, connections(site.connection_id), patience))
        except LakehouseError as error:
            failed.append(_failure(site, error))
    with (
        dlt_runtime.working_folder(pipelines_dir, stream.table) as folder,
        dlt_runtime.open_lake(lake, stream.table) as connection,
    ):
        before = _bronze(connection, stream)
        answers, unanswered = _fetch_all(clients, stream, interval, lookback_days, before, connection, progress)
        failed += unanswered
        load_id = snapshot_id = load_seq = None
        if answers:
            load_seq = before.load_seq + 1
            load_id = _load(lake, connection, stream, answers, interval, load_seq, before, folder)
            snapshot_id = _check(connection, stream, answers, load_seq)
            keep_undated(connection, stream.table, load_seq, _undated(answers))
    result = IngestResult(
        stream=stream.name,
        table=stream.table,
        interval_start=interval.start.isoformat(),
        interval_end=interval.end.isoformat(),
        load_seq=load_seq,
        load_id=load_id,
        snapshot_id=snapshot_id,
        sites=tuple(_site_load(answer) for answer in answers),
        failed=tuple(failed),
    )
    red = [failure for failure in failed if not failure.optional]
    if red or not answers:
        raise _sites_error(result, red or failed)
    for failure in failed:
        log.warning("Optional site %s is missing from %s: %s", failure.site, stream.table, failure.reason)
    return result


def _fetch_all(
    clients: Sequence[SiteClient],
    stream: Stream,
    interval: Interval,
    lookback_days: int,
    before: _Bronze,
    connection: duckdb.DuckDBPyConnection,
    progress: Progress | None,
) -> tuple[list[SiteAnswer], list[SiteFailure]]:
    lock = threading.Lock()

    def days_in_bronze(site: str, record_ids: Sequence[str] | None) -> set[date]:
        if not before.columns:
            return set()
        query = f"select distinct interval_date from {_name(stream)} where site = ? and record_id is not null"
        values: list[Any] = [site]
        if record_ids is not None:
            query += " and record_id in (select unnest(?))"
            values.append(list(record_ids))
        with lock:
            return {row[0] for row in connection.execute(query, values).fetchall()}

    def fetch(client: SiteClient) -> SiteAnswer:
        with client:
            return fetch_site(
                client,
                stream,
                interval,
                lookback_days,
                bronze=before.columns,
                days_in_bronze=days_in_bronze,
                progress=progress,
            )

    answers, failed = [], []
    with ThreadPoolExecutor(max(1, min(len(clients), MOST_SITES_AT_ONCE)), thread_name_prefix="site") as pool:
        futures = [(client.site, pool.submit(fetch, client)) for client in clients]
        import dlt  # noqa: F401  takes as long as the sites do

        for site, future in futures:
            try:
                answers.append(future.result())
            except LakehouseError as error:
                failed.append(_failure(site, error))
    return answers, failed


def _load(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    stream: Stream,
    answers: Sequence[SiteAnswer],
    interval: Interval,
    load_seq: int,
    before: _Bronze,
    folder: Path,
) -> str:
    from include.sources.nightscout.source import nightscout

    dlt_runtime.use_settings(folder)
    source = nightscout(stream, answers, interval, load_seq, before.columns)
    return dlt_runtime.load(lake, connection, stream.table, source, folder, {stream.table: PARTITION})


def _bronze(connection: duckdb.DuckDBPyConnection, stream: Stream) -> _Bronze:
    columns = dict(
        connection.execute(
            "select column_name, data_type from duckdb_columns() "
            "where database_name = ? and schema_name = ? and table_name = ? order by column_index",
            [ALIAS, dlt_runtime.DATASET, stream.table],
        ).fetchall()
    )
    if not columns:
        return _Bronze({}, 0)
    row = connection.execute(f"select coalesce(max(load_seq), 0) from {_name(stream)}").fetchone()
    assert row is not None
    return _Bronze(columns, row[0])


def _check(connection: duckdb.DuckDBPyConnection, stream: Stream, answers: Sequence[SiteAnswer], load_seq: int) -> int:
    """Compare what the lake holds of this load with what was sent, by scanning it; returns the snapshot looked at."""
    with _transaction(connection):
        snapshot = connection.execute(f"select id from ducklake_current_snapshot('{ALIAS}')").fetchone()
        found = connection.execute(
            "select site, count(*) filter (record_id is null), count(record_id), sum(window_records)::bigint "
            f"from {_name(stream)} where load_seq = ? group by all",
            [load_seq],
        ).fetchall()
        days = sorted({day for answer in answers for day in answer.windows})
        _check_table(connection, stream, days)
    assert snapshot is not None
    held = {site: (windows, records, stated) for site, windows, records, stated in found}
    sent = {answer.site.site: (len(answer.windows), answer.records, answer.records) for answer in answers}
    if held != sent:
        raise LoadError(
            f"{stream.table}: load {load_seq} holds {held} as (windows, records, records stated) by site, "
            f"but {sent} was sent; run it again."
        )
    return snapshot[0]


def _check_table(connection: duckdb.DuckDBPyConnection, stream: Stream, days: Sequence[date]) -> None:
    """Known bugs of DuckLake show as counts that a scan does not confirm, and as rows that came back.

    Raises:
        LoadError: they do.
    """
    name = _name(stream)
    # Every row has a load_seq above 0: a condition that the statistics do not answer, so the rows are read.
    row = connection.execute(
        f"select (select count(*) from {name}), count(*) filter (load_seq > 0) from {name}"
    ).fetchone()
    assert row is not None
    counted, scanned = row
    if counted != scanned:
        raise LoadError(
            f"{stream.table}: the catalog counts {counted:,} rows and a scan finds {scanned:,}; run `lake fsck --deep`."
        )
    listed = ", ".join(f"date '{day}'" for day in days)
    twice = connection.execute(
        f"select site, interval_date, record_id, count(*) from {name} where interval_date in ({listed}) "
        "group by all having count(*) > 1 order by all limit 3"
    ).fetchall()
    if twice:
        rows = "; ".join(
            f"{site}, {day}, {record or 'its window row'}: {count} times" for site, day, record, count in twice
        )
        raise LoadError(f"{stream.table} holds rows twice ({rows}); ingest these days again.")


def _undated(answers: Sequence[SiteAnswer]) -> list[tuple[str, str, str]]:
    # History names a record before a page holds it whole: the later one stays.
    kept = {(answer.site.site, record_id(record)): record for answer in answers for record in answer.undated}
    return [(site, identity, orjson.dumps(record).decode()) for (site, identity), record in kept.items()]


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("begin")
    try:
        yield
    finally:
        roll_back(connection)


def _failure(site: Site, error: LakehouseError) -> SiteFailure:
    retryable = isinstance(error, SourceError) and not isinstance(error, AccessError | SchemaError)
    return SiteFailure(site.site, str(error), site.optional, retryable)


def _site_load(answer: SiteAnswer) -> SiteLoad:
    return SiteLoad(
        site=answer.site.site,
        api_version=answer.api_version,
        windows=len(answer.windows),
        records=answer.records,
        touched=tuple(day.isoformat() for day in answer.touched),
        outside=answer.outside,
        undated=len(answer.undated),
    )


def _sites_error(result: IngestResult, failures: Sequence[SiteFailure]) -> SitesError:
    reasons = "\n".join(f"- {failure.reason}" for failure in failures)
    landed = (
        f"The other {len(result.sites)} landed in load {result.load_seq}." if result.sites else "Nothing was loaded."
    )
    return SitesError(
        f"{len(failures)} of {len(result.sites) + len(result.failed)} sites failed for {result.table}. {landed}\n"
        f"{reasons}",
        result,
        retryable=any(failure.retryable for failure in failures),
    )


def _name(stream: Stream) -> str:
    return f"{ALIAS}.{dlt_runtime.DATASET}.{stream.table}"
