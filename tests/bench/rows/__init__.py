"""Every row, in the order of the table."""

from tests.bench.rows import dags, gates, ingest, release, transform
from tests.bench.spec import Row

ROWS: tuple[Row, ...] = (
    ingest.HTTP,
    ingest.POSTGRES,
    transform.SILVER,
    transform.GOLD,
    *gates.ROWS,
    *release.ROWS,
    transform.INCREMENTAL,
    transform.FULL_REFRESH,
    *dags.ROWS,
)
