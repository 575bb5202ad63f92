"""What every ingest does around its own fetching: the lake opened, one load, a check, what came of it."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb

from include.connections import Connection
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.erasures import Erased, erased_subjects
from include.quality.quarantine import keep_undated
from include.sources import bronze, dlt_runtime
from include.sources.bronze import Bronze
from include.sources.results import IngestResult, SiteFailure, SiteLoad

GetConnection = Callable[[str], Connection]
Progress = Callable[[str, int], None]
"""Called with a site's id and how many of its records have come in so far."""

Answer = TypeVar("Answer")


class Source(Protocol[Answer]):
    """What differs between sources. An answer is all that one site brought for one load."""

    def fetch(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> tuple[list[Answer], list[SiteFailure]]:
        """What each site answers, and which failed."""

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        answers: Sequence[Answer],
        load_seq: int,
        before: Bronze,
        folder: Path,
    ) -> str:
        """Load the answers in one lake transaction; dlt's load id."""

    def check(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, answers: Sequence[Answer], load_seq: int
    ) -> int:
        """Compare what the lake holds with what was sent; the snapshot that was looked at."""

    def undated(self, answers: Sequence[Answer]) -> Iterable[tuple[str, str, str]]:
        """Site, record id and JSON of each record that states no day."""

    def loaded(self, answer: Answer) -> SiteLoad:
        """What is said of an answer that landed."""


def ingest(
    lake: Lake,
    stream: Any,
    interval: Interval,
    source: Source[Any],
    connections: GetConnection,
    *,
    domain: str,
    pipelines_dir: Path,
) -> IngestResult:
    """Fetch a stream from every site and load what they answer; a site that fails keeps the rows that it had.

    Args:
        stream: has a `name` and a `table`.
        connections: gives the connection of an id.
        pipelines_dir: where dlt works; one process at a time per stream and folder.

    Raises:
        SitesError: a site that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: sites have a field with different types; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
    """
    with (
        dlt_runtime.working_folder(pipelines_dir, stream.table) as folder,
        dlt_runtime.open_lake(lake, stream.table) as connection,
    ):
        before = bronze.find(connection, stream.table)
        answers, failed = source.fetch(connection, before, erased_subjects(connection, domain, connections))
        load_id = snapshot_id = load_seq = None
        if answers:
            load_seq = before.load_seq + 1
            load_id = source.load(connection, answers, load_seq, before, folder)
            snapshot_id = source.check(connection, before, answers, load_seq)
            keep_undated(connection, stream.table, load_seq, source.undated(answers))
    return IngestResult(
        stream=stream.name,
        table=stream.table,
        interval_start=interval.start.isoformat(),
        interval_end=interval.end.isoformat(),
        load_seq=load_seq,
        load_id=load_id,
        snapshot_id=snapshot_id,
        sites=tuple(map(source.loaded, answers)),
        failed=tuple(failed),
    ).or_raise()
