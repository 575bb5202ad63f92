"""Ingest: from the APIs into bronze. One stream is one dlt pipeline, and its table changes in one transaction."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from include.interval import Interval
from include.lake.attach import Lake
from include.lake.erasures import Erased
from include.sources import keyed
from include.sources.bronze import Bronze
from include.sources.http import Patience
from include.sources.ingest import GetConnection, Progress
from include.sources.listing import Listed
from include.sources.rest.client import ApiClient
from include.sources.rest.fetch import fetch
from include.sources.rest.streams import Stream
from include.sources.results import IngestResult


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    apis: Sequence[Listed],
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    accept_deletes: bool = False,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> IngestResult:
    """Fetch what was changed in the interval from every API, and replace the rows of these keys in bronze.

    Again gives the same rows, and intervals may come in any order: see `fetch`. An API that fails keeps its rows.

    Args:
        connections: gives the connection of an id.
        pipelines_dir: where dlt works; one process at a time per stream and folder.
        accept_deletes: however many records are gone at an API.
        progress: called with a site's id and its records so far.

    Raises:
        SitesError: an API that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: two APIs have a new field with different types; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
        SourceError: there is no API.
    """

    def fetch_one(
        api: Listed, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> keyed.Answer:
        with ApiClient(api, connections(api.connection_id), patience) as client:
            return fetch(
                client,
                connection,
                stream,
                interval,
                before,
                accept_deletes=accept_deletes,
                erased=erased,
                progress=progress,
            )

    return keyed.ingest(lake, stream, interval, apis, fetch_one, connections, pipelines_dir=pipelines_dir, what="API")
