"""Ingest: from the drops into bronze. One stream is one dlt pipeline, and its table changes in one transaction."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.erasures import Erased
from include.lake.files import Files
from include.sources import keyed
from include.sources.bronze import Bronze
from include.sources.files.drops import storage_of
from include.sources.files.fetch import fetch
from include.sources.files.streams import Stream
from include.sources.ingest import GetConnection, Progress
from include.sources.listing import Listed
from include.sources.results import IngestResult


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    drops: Sequence[Listed],
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    settle: float = 5.0,
    progress: Progress | None = None,
) -> IngestResult:
    """Take the files of the interval's days from every drop, each once, and replace the rows of their keys in bronze.

    Again gives the same rows, and intervals may come in any order: see `fetch`. A drop that fails keeps its rows.

    Args:
        connections: gives the connection of an id.
        pipelines_dir: where dlt works; one process at a time per stream and folder.
        settle: seconds that a file of a folder must have been left alone for.
        progress: called with a site's id and its rows so far.

    Raises:
        SitesError: a drop that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: two drops have a new column with different types; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
        SourceError: there is no drop.
    """

    def fetch_one(
        drop: Listed, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> keyed.Answer:
        files = open_drop(drop, connections, lake.temp_directory)
        return fetch(
            files,
            connection,
            drop,
            stream,
            interval,
            before,
            temp=lake.temp_directory,
            settle=settle,
            erased=erased,
            progress=progress,
        )

    return keyed.ingest(lake, stream, interval, drops, fetch_one, connections, pipelines_dir=pipelines_dir, what="drop")


def open_drop(drop: Listed, connections: GetConnection, temp: Path) -> Files:
    """The files of a drop.

    Raises:
        SetupError: nothing says where it is.
        SourceError: it is a folder that is not there.
    """
    storage = storage_of(drop, connections)
    if not storage.is_s3 and not Path(storage.url).is_dir():
        raise SourceError(
            f"Drop {drop.site} is {storage.url}, where there is no folder; mount or make it, or correct the drops file "
            f"or connection {drop.connection_id}.",
            retryable=True,
        )
    return Files.of(storage, temp)
