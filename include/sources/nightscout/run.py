"""What a task of a DAG calls: one stream of the configured sites, for one interval."""

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import Lake
from include.settings import settings
from include.sources.ingest import GetConnection
from include.sources.nightscout.pipeline import ingest
from include.sources.nightscout.sites import read_sites
from include.sources.nightscout.streams import STREAMS
from include.sources.results import IngestResult


def ingest_stream(lake: Lake, stream: str, interval: Interval, connections: GetConnection) -> IngestResult:
    """Load a stream by its name from every site of the sites file; see `pipeline.ingest`."""
    if stream not in STREAMS:
        raise SourceError(f"There is no stream {stream}; expected one of {', '.join(STREAMS)}.")
    return ingest(
        lake,
        STREAMS[stream],
        interval,
        read_sites(settings().sites_file),
        connections,
        pipelines_dir=settings().home / "dlt",
        lookback_days=settings().nightscout_lookback_days,
    )
