"""What a task of a DAG calls: one stream of the configured databases, for one interval."""

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import Lake
from include.settings import settings
from include.sources.ingest import GetConnection
from include.sources.postgres.databases import read_databases
from include.sources.postgres.pipeline import ingest
from include.sources.results import IngestResult
from include.sources.saas.streams import DOMAIN, STREAMS


def ingest_stream(lake: Lake, stream: str, interval: Interval, connections: GetConnection) -> IngestResult:
    """Load a stream by its name from every database of the databases file; see `pipeline.ingest`."""
    if stream not in STREAMS:
        raise SourceError(f"There is no stream {stream}; expected one of {', '.join(STREAMS)}.")
    return ingest(
        lake,
        STREAMS[stream],
        interval,
        read_databases(settings().databases_file, DOMAIN),
        connections,
        pipelines_dir=settings().home / "dlt",
        overlap_days=settings().saas_overlap_days,
    )
