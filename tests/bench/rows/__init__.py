"""Every row, in the order of the table."""

from tests.bench.rows import dags, gate_peers, gates, ingest, peers, release, scheduler, transform
from tests.bench.spec import Row

ROWS: tuple[Row, ...] = (
    ingest.HTTP,
    ingest.POSTGRES,
    *peers.ROWS,
    transform.SILVER,
    transform.GOLD,
    scheduler.LAYER,
    scheduler.DAY,
    scheduler.BY_HAND,
    *gates.ROWS,
    *gate_peers.ROWS,
    *release.ROWS,
    transform.INCREMENTAL,
    transform.FULL_REFRESH,
    scheduler.BACKFILL,
    scheduler.BACKFILL_MONTHS,
    *dags.ROWS,
    scheduler.FRESH,
)
