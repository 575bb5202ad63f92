"""Ingest: from the databases into bronze. One stream is one dlt pipeline, and its table changes in one transaction."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from include.interval import Interval
from include.lake.attach import Lake
from include.lake.erasures import Erased
from include.sources import keyed
from include.sources.bronze import Bronze
from include.sources.ingest import GetConnection, Progress
from include.sources.postgres.client import DatabaseClient, Patience
from include.sources.postgres.databases import Database
from include.sources.postgres.fetch import fetch
from include.sources.postgres.streams import Stream
from include.sources.results import IngestResult


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

    def fetch_one(
        database: Database, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> keyed.Answer:
        client = DatabaseClient(database, connections(database.connection_id), patience)
        with client.attached(connection):
            return fetch(
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

    return keyed.ingest(
        lake, stream, interval, databases, fetch_one, connections, pipelines_dir=pipelines_dir, what="database"
    )
