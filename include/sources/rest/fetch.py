"""What one API holds for an interval, as a temporary table of the DuckDB that has the lake attached.

Records that were last changed in the interval, or in the overlap before it, by the cursor; whatever else the API
answers is left out. Those of the interval always land, so that a load repeated is a load; those of the overlap only if
bronze has not this version. A record that comes twice, as when it moved between two pages, lands as changed last.

If a record's day follows from the cursor, as with events, the API is taken to answer all of the days that it is asked
for: a record that bronze has on one of them, and that it answers no more, lands as a tombstone.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import identifier
from include.lake.erasures import Erased
from include.sources.bronze import Bronze
from include.sources.ingest import Progress
from include.sources.json_records import Columns, Record, column_of, dump, moment_of, stored
from include.sources.keyed import TOMBSTONE, Answer, Rows, declared_in
from include.sources.rest.client import ApiClient
from include.sources.rest.streams import Stream

# An API may leave out what lies on its lower bound.
MARGIN = timedelta(seconds=1)


def fetch(
    client: ApiClient,
    connection: duckdb.DuckDBPyConnection,
    stream: Stream,
    interval: Interval,
    bronze: Bronze,
    *,
    accept_deletes: bool = False,
    erased: Erased | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Fetch what one API holds for an interval.

    Args:
        bronze: the stream's table in the lake.
        accept_deletes: however many records are gone.
        erased: whose records must not come back.

    Raises:
        SourceError: see `ApiClient`; or records without a key, or more are gone than can be believed.
        SchemaError: a field is not of the type that is declared or that bronze holds.
    """
    span = interval.widened(days_before=stream.overlap_days)
    pages: list[list[Record]] = []
    count = 0
    for page in client.pages(stream, span.start - MARGIN, span.end):
        pages.append([record for record in page if _belongs(record, stream, span)])
        count += len(pages[-1])
        if progress:
            progress(client.api.site, count)
    fetched_at = datetime.now(UTC)
    rows = Rows(connection, stream, bronze, client.api.site, erased)
    records = _latest(client, stream, pages)
    payload = _make(rows, connection, client, stream, records)
    connection.execute(f"create temp table {rows.name}_keys as select record_id from {rows.name}")
    rows.drop_erased()
    undated = tuple((site, record_id, dump(records[record_id])) for site, record_id, _ in rows.take_undated())
    cursor = column_of(stream.cursor)
    changed = connection.execute(
        f"select {identifier(cursor)}::date, count(*) from {rows.name} where {identifier(cursor)} >= ? group by all",
        [interval.start],
    ).fetchall()
    unchanged = deleted = 0
    if bronze.columns:
        unchanged = rows.drop_unchanged(cursor, interval.start)
        if stream.answers_whole_days:
            deleted = _bury(rows, client, stream, span, fetched_at, accept_deletes)
    moved = rows.moved()
    windows = dict.fromkeys(interval.days(), 0) | dict(changed)
    return Answer(
        site=client.api.site,
        relation=rows.name,
        payload=payload,
        windows=moved | windows,
        records=rows.count(),
        fetched_at=fetched_at,
        unchanged=unchanged,
        deleted=deleted,
        moved=tuple(sorted(set(moved) - set(windows))),
        undated=undated,
    )


def _belongs(record: Record, stream: Stream, span: Interval) -> bool:
    """Whether a record was changed in the span; one that does not say when is kept apart later."""
    moment = moment_of(record.get(stream.cursor), stream.epoch)
    return moment is None or span.start <= moment < span.end


def _latest(client: ApiClient, stream: Stream, pages: Sequence[Sequence[Record]]) -> dict[str, Record]:
    """Each record once, by its id."""
    found: dict[str, tuple[datetime | None, Record]] = {}
    keyless = 0
    for record in (record for page in pages for record in page):
        values = [record.get(name) for name in stream.key]
        if any(value is None or isinstance(value, dict | list | bool) for value in values):
            keyless += 1
            continue
        record_id = "-".join(stored(value) if isinstance(value, str) else str(value) for value in values)
        moment = moment_of(record.get(stream.cursor), stream.epoch)
        before = found.get(record_id, (None, record))[0]
        if before is None or (moment is not None and moment >= before):
            found[record_id] = (moment, record)
    if keyless:
        raise SourceError(
            f"{client} answered {keyless} records of {stream.name} without ({', '.join(stream.key)}), by which they "
            "are told apart. Nothing of it was loaded. Correct key of the stream.",
            retryable=False,
        )
    return {record_id: record for record_id, (_, record) in found.items()}


def _make(
    rows: Rows,
    connection: duckdb.DuckDBPyConnection,
    client: ApiClient,
    stream: Stream,
    records: dict[str, Record],
) -> dict[str, str]:
    """The temporary table; returns the types of its payload."""
    rows.check_declared(stream.types)
    columns = Columns(
        stream.name,
        stream.types,
        rows.kept_columns({}),
        stream.epoch,
        declared_in(stream),
        frozenset(map(column_of, stream.key)) | frozenset(stream.subject.columns if stream.subject else ()),
    )
    # A cursor that is no time would be refused as a type; it is the record that is set aside.
    whole = [_without_odd_times(record, stream) for record in records.values()]
    (table,), kinds = columns.tables([whole], str(client))
    own = {
        "record_id": pa.array(list(records), pa.string()),
        "interval_date": pa.array([_day(record, stream) for record in records.values()], pa.date32()),
    }
    for name, values in own.items():
        table = table.append_column(name, values)
    kept = "".join(f", cast(null as {kind}) as {identifier(name)}" for name, kind in rows.kept_columns(kinds).items())
    payload = ", ".join(identifier(name) for name in kinds)
    connection.register("answered", table)
    connection.execute(
        f"create temp table {rows.name} as select record_id, interval_date, cast(null as timestamptz) as {TOMBSTONE}, "
        f"{payload}{kept} from answered"
    )
    connection.unregister("answered")
    return rows.payload()


def _without_odd_times(record: Record, stream: Stream) -> Record:
    odd = [name for name in {stream.cursor, stream.day_field} if moment_of(record.get(name), stream.epoch) is None]
    return {**record, **dict.fromkeys(odd)} if odd else record


def _day(record: Record, stream: Stream) -> date | None:
    """The UTC day that a record belongs to; None if it does not say, or not when it was changed."""
    moments = [moment_of(record.get(name), stream.epoch) for name in (stream.cursor, stream.day_field)]
    return None if None in moments else moments[1].date()  # type: ignore[union-attr]


def _bury(
    rows: Rows,
    client: ApiClient,
    stream: Stream,
    span: Interval,
    now: datetime,
    accept_deletes: bool,
) -> int:
    def refused(gone: int, held: int) -> SourceError:
        return SourceError(
            f"{client} answers {gone:,} of {held:,} records of {stream.name} no more that bronze has of {span}; "
            f"expected at most {stream.most_gone:.0%} at once. Nothing of it was loaded. If they were meant to go, run "
            f"`python -m include.sources.{stream.domain} load {stream.name} --accept-deletes`.",
            retryable=False,
        )

    days = [f"interval_date >= date '{span.start.date()}'", f"interval_date < date '{span.end.date()}'"]
    return rows.add_tombstones(
        f"{rows.name}_keys", days, now, most_gone=stream.most_gone, refused=None if accept_deletes else refused
    )
