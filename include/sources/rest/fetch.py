"""What one API holds for an interval, as a temporary table of the DuckDB that has the lake attached.

Records that were last changed in the interval, or in the overlap before it, by `updated_at`; whatever else the API
answers is left out. Those of the interval always land, so that a load repeated is a load; those of the overlap only if
bronze has not this version. A record that comes twice, as when it moved between two pages, lands as changed last.

If a record's day is that of its last change, as with events, the API is taken to answer all of the days that it is
asked for: a record that bronze has on one of them, and that it answers no more, lands as a tombstone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Found:
    """A record, and what it is found by; `typed` is without times that are none, and then `day` is None."""

    record_id: str
    changed_at: datetime | None
    day: date | None
    record: Record
    typed: Record

    def or_later(self, other: "_Found | None") -> "_Found":
        """Whichever was changed last; of two, this one."""
        if other is None or other.changed_at is None:
            return self
        return self if self.changed_at is not None and self.changed_at >= other.changed_at else other


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
    found: dict[str, _Found] = {}
    count = 0
    for page in client.pages(stream, span.start - MARGIN, span.end):
        for record in _found(client, stream, page):
            if record.changed_at is None or span.start <= record.changed_at < span.end:
                found[record.record_id] = record.or_later(found.get(record.record_id))
                count += 1
        if progress:
            progress(client.api.site, count)
    fetched_at = datetime.now(UTC)
    rows = Rows(connection, stream, bronze, client.api.site, erased)
    payload = _make(rows, connection, client, stream, list(found.values()))
    connection.execute(f"create temp table {rows.name}_keys as select record_id from {rows.name}")
    rows.drop_erased()
    undated = tuple((site, record_id, dump(found[record_id].record)) for site, record_id, _ in rows.take_undated())
    cursor = identifier(stream.updated_at)
    changed = connection.execute(
        f"select {cursor}::date, count(*) from {rows.name} where {cursor} >= ? group by all",
        [interval.start],
    ).fetchall()
    unchanged = deleted = 0
    if bronze.columns:
        unchanged = rows.drop_unchanged(stream.updated_at, interval.start)
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


def _found(client: ApiClient, stream: Stream, page: Sequence[Record]) -> Iterator[_Found]:
    """The records of a page, and what they are found by.

    Raises:
        SourceError: one lacks its key.
    """
    fields = {column_of(field): field for record in page for field in record}
    key = [fields.get(name, name) for name in stream.key]
    changed_at, day = fields.get(stream.updated_at, stream.updated_at), fields.get(stream.day, stream.day)
    for record in page:
        values = [record.get(name) for name in key]
        if any(value is None or isinstance(value, dict | list | bool) for value in values):
            raise SourceError(
                f"{client} answered a record of {stream.name} without ({', '.join(stream.key)}), by which records are "
                "told apart. Nothing of it was loaded. Correct key of the stream.",
                retryable=False,
            )
        moments = {name: moment_of(record.get(name), stream.epoch) for name in (changed_at, day)}
        odd = [name for name, moment in moments.items() if moment is None]
        yield _Found(
            "-".join(stored(value) if isinstance(value, str) else str(value) for value in values),
            moments[changed_at],
            None if odd else moments[day].date(),  # type: ignore[union-attr]
            record,
            # A time that is none would be refused as a type; it is the record that is set aside.
            {**record, **dict.fromkeys(odd)} if odd else record,
        )


def _make(
    rows: Rows,
    connection: duckdb.DuckDBPyConnection,
    client: ApiClient,
    stream: Stream,
    found: Sequence[_Found],
) -> dict[str, str]:
    """The temporary table; returns the types of its payload."""
    rows.check_declared(stream.types)
    columns = Columns(
        stream.name,
        stream.types,
        rows.kept_columns({}),
        stream.epoch,
        declared_in(stream),
        frozenset(stream.key) | frozenset(stream.subject.columns if stream.subject else ()),
    )
    (table,), kinds = columns.tables([[each.typed for each in found]], str(client))
    own = {
        "record_id": pa.array([each.record_id for each in found], pa.string()),
        "interval_date": pa.array([each.day for each in found], pa.date32()),
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
