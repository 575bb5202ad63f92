"""Ingest: from the databases into bronze. One stream is one dlt pipeline, and its table changes in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.connections import Connection
from include.errors import LakehouseError, SourceError
from include.interval import Interval
from include.lake.attach import Lake, identifier, literal
from include.lake.erasures import erased_subjects
from include.quality.quarantine import keep_undated
from include.sources import bronze, dlt_runtime
from include.sources.bronze import Bronze
from include.sources.errors import SchemaError
from include.sources.postgres.client import DatabaseClient, Patience
from include.sources.postgres.databases import Database
from include.sources.postgres.fetch import TOMBSTONE, Answer, Progress, fetch
from include.sources.postgres.streams import Stream
from include.sources.results import IngestResult, SiteFailure, SiteLoad

GetConnection = Callable[[str], Connection]


@dataclass(frozen=True)
class DatabaseLoad(SiteLoad):
    """What one database brought. Beside `windows` and `records` (tombstones included):

    Attributes:
        unchanged: rows of the overlap that bronze had already.
        deleted: rows that the source has no more.
        found: rows that no question by time had brought.
        moved: days that records have moved away from.
    """

    unchanged: int
    deleted: int
    found: int
    moved: tuple[str, ...]


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    databases: Sequence[Database],
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    overlap_days: int = 1,
    whole: bool = False,
    accept_deletes: bool = False,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> IngestResult:
    """Fetch what was changed in the interval from every database, and replace the rows of these keys in bronze.

    Again gives the same rows, and intervals may come in any order: see `fetch`. A database that fails keeps its rows.

    Args:
        connections: gives the connection of an id.
        pipelines_dir: where dlt works; one process at a time per stream and folder.
        overlap_days: days before the interval that are asked again, for rows committed late.
        whole: ask for every row again, as the first time.
        accept_deletes: however many rows are gone at a source.
        progress: called with a database's id and its rows so far.

    Raises:
        SitesError: a database that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: two databases have a new field with different types; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
        SourceError: there is no database.
    """
    if not databases:
        raise SourceError(f"No database to ingest {stream.name} from; expected at least one.", retryable=False)
    answers: list[Answer] = []
    failed: list[SiteFailure] = []
    with (
        dlt_runtime.working_folder(pipelines_dir, stream.table) as folder,
        dlt_runtime.open_lake(lake, stream.table) as connection,
    ):
        before = bronze.find(connection, stream.table)
        erased = erased_subjects(connection, stream.domain, connections)
        for database in databases:
            try:
                client = DatabaseClient(database, connections(database.connection_id), patience)
                with client.attached(connection):
                    answers.append(
                        fetch(
                            client,
                            connection,
                            stream,
                            interval,
                            overlap_days,
                            before,
                            whole=whole,
                            accept_deletes=accept_deletes,
                            erased=erased,
                            progress=progress,
                        )
                    )
            except LakehouseError as error:
                failed.append(SiteFailure.of(database.database, error, optional=database.optional))
        load_id = snapshot_id = load_seq = None
        if answers:
            load_seq = before.load_seq + 1
            load_id = _load(lake, connection, stream, answers, interval, load_seq, before, folder)
            snapshot_id = _check(connection, before, answers, load_seq)
            undated = [row for answer in answers for row in answer.undated]
            keep_undated(connection, stream.table, load_seq, undated)
    return IngestResult(
        stream=stream.name,
        table=stream.table,
        interval_start=interval.start.isoformat(),
        interval_end=interval.end.isoformat(),
        load_seq=load_seq,
        load_id=load_id,
        snapshot_id=snapshot_id,
        sites=tuple(_database_load(answer) for answer in answers),
        failed=tuple(failed),
    ).or_raise()


def _load(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    stream: Stream,
    answers: Sequence[Answer],
    interval: Interval,
    load_seq: int,
    before: Bronze,
    folder: Path,
) -> str:
    payload = _payload(stream, answers)
    query = " union all by name ".join(_landing_sql(answer, interval, load_seq, payload) for answer in answers)
    local = [name for name, kind in payload.items() if kind == "TIMESTAMP"]
    dlt_runtime.use_settings(folder)
    source = dlt_runtime.source(stream.table, query, dlt_runtime.BY_KEY, local)
    return dlt_runtime.load(lake, connection, stream.table, source, folder, {stream.table: bronze.PARTITION})


def _payload(stream: Stream, answers: Sequence[Answer]) -> dict[str, str]:
    payload: dict[str, str] = {}
    for answer in answers:
        for name, kind in answer.payload.items():
            if payload.setdefault(name, kind) != kind:
                raise SchemaError(
                    f"Field {name!r} of {stream.table} is {kind} in database {answer.database.database} and "
                    f"{payload[name]} in another. Nothing was loaded. Name the type to read it as in casts of stream "
                    f"{stream.name}."
                )
    return payload


def _landing_sql(answer: Answer, interval: Interval, load_seq: int, payload: dict[str, str]) -> str:
    """The rows of one database with every column of bronze, window rows included."""
    first, end = (f"timestamptz '{moment.isoformat()}'" for moment in (interval.start, interval.end))
    lineage = (
        f"{literal(answer.database.database)} as site, interval_date, record_id, {load_seq}::bigint as load_seq, "
        f"{first} as interval_start, {end} as interval_end, timestamptz '{answer.fetched_at.isoformat()}' as fetched_at"
    )
    columns = ", ".join(
        identifier(name) if name in answer.payload else f"cast(null as {kind}) as {identifier(name)}"
        for name, kind in payload.items()
    )
    nulls = ", ".join(f"cast(null as {kind}) as {identifier(name)}" for name, kind in payload.items())
    windows = ", ".join(f"(date '{day}', {count}::bigint)" for day, count in answer.windows.items())
    return (
        f"select {lineage}, cast(null as bigint) as window_records, {columns}, {TOMBSTONE} from {answer.relation} "
        f"union all select {lineage}, window_records, {nulls}, cast(null as timestamptz) as {TOMBSTONE} from "
        f"(select interval_date, cast(null as varchar) as record_id, window_records from (values {windows}) "
        "as windows (interval_date, window_records))"
    )


def _check(connection: duckdb.DuckDBPyConnection, before: Bronze, answers: Sequence[Answer], load_seq: int) -> int:
    sent = {
        answer.database.database: bronze.Sent(len(answer.windows), answer.records, sum(answer.windows.values()))
        for answer in answers
    }
    key = ("site", "coalesce(record_id, interval_date::varchar)", "record_id")
    loaded = f"select coalesce('r' || record_id, 'w' || interval_date) from {before.name} where load_seq = {load_seq}"
    among = f"coalesce('r' || record_id, 'w' || interval_date) in ({loaded})" if before.load_seq else "true"
    return bronze.check_load(connection, before.table, load_seq, sent, key=key, among=among)


def _database_load(answer: Answer) -> DatabaseLoad:
    return DatabaseLoad(
        site=answer.database.database,
        windows=len(answer.windows),
        records=answer.records,
        undated=len(answer.undated),
        unchanged=answer.unchanged,
        deleted=answer.deleted,
        found=answer.found,
        moved=tuple(day.isoformat() for day in answer.moved),
    )
