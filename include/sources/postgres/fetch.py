"""What one database holds for an interval, as a temporary table of the DuckDB that has the lake attached.

Which rows are fetched, of those that were changed before the interval's end:
- the first time, all of them;
- then those changed in the interval, and in whatever lies between it and the newest day that any load has asked for,
  with the overlap before the earlier of the two (a transaction that began earlier may have committed since). So a table
  always holds all that was changed before the newest end, whatever the order of intervals;
- those whose key the source has and bronze has not, or not any more.
Rows of people who were erased are dropped before anything is made of them.
Rows of the interval itself always land, so that a load repeated is a load; others only if bronze has not this version.
A row that bronze has and the source has no more lands as a tombstone: as it was, with `source_deleted_at`.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import identifier, literal
from include.lake.erasures import Erased
from include.sources.bronze import Bronze
from include.sources.errors import SchemaError
from include.sources.ingest import Progress
from include.sources.keyed import RESERVED, TOMBSTONE, Answer, Rows
from include.sources.postgres.client import Column, DatabaseClient
from include.sources.postgres.streams import Reconcile, Stream

log = logging.getLogger(__name__)

KEYS_OF_A_PAGE = 5  # times as many keys as rows
KEYS_AT_ONCE = 1_000

_numbers = itertools.count(1)


def fetch(
    client: DatabaseClient,
    connection: duckdb.DuckDBPyConnection,
    stream: Stream,
    interval: Interval,
    overlap_days: int,
    bronze: Bronze,
    *,
    whole: bool = False,
    accept_deletes: bool = False,
    erased: Erased | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Fetch what one database holds for an interval; its client is attached to the connection.

    Args:
        bronze: the stream's table in the lake.
        whole: ask for everything again, as the first time.
        accept_deletes: however many rows are gone at the source.
        erased: whose rows must not come back.

    Raises:
        SourceError: see `DatabaseClient`; or more rows are gone than can be believed.
        SchemaError: a column has another type than bronze holds.
    """
    return _Fetch(client, connection, stream, interval, overlap_days, bronze, erased, progress).run(
        whole, accept_deletes
    )


class _Fetch:
    def __init__(
        self,
        client: DatabaseClient,
        connection: duckdb.DuckDBPyConnection,
        stream: Stream,
        interval: Interval,
        overlap_days: int,
        bronze: Bronze,
        erased: Erased | None,
        progress: Progress | None,
    ) -> None:
        self._client, self._connection, self._stream, self._bronze = client, connection, stream, bronze
        self._interval, self._overlap = interval, timedelta(days=overlap_days)
        self._site = client.database.database
        self._progress = progress
        self._source = f"{identifier(client.database.schema)}.{identifier(stream.name)}"
        self._landing = Rows(connection, stream, bronze, self._site, erased)
        self._rows, self._keys = self._landing.name, f"keys_{next(_numbers)}"
        self._columns: dict[str, Column] = {}
        self._count = 0

    def run(self, whole: bool, accept_deletes: bool) -> Answer:
        self._columns = self._client.columns(self._stream)
        payload = self._make_rows()
        asked_to = self._asked_to()
        since = None if whole or asked_to is None else min(self._interval.start, asked_to) - self._overlap
        latest = self._interval.end if asked_to is None else max(self._interval.end, asked_to)
        self._fetch_changed(since)
        self._landing.drop_erased()
        unchanged = deleted = found = 0
        fetched_at = datetime.now(UTC)
        if asked_to is not None:
            unchanged = 0 if whole else self._landing.drop_unchanged(self._stream.updated_at, self._interval.start)
            self._fetch_keys(since, latest)
            found = self._fetch_found() - self._landing.drop_erased()
        windows = dict.fromkeys(self._interval.days(), 0) | self._changed_by_day()
        if asked_to is not None:
            deleted = self._add_tombstones(since, fetched_at, accept_deletes)
        self._check_unique()
        undated = self._landing.take_undated()
        moved = self._landing.moved() if asked_to is not None else {}
        return Answer(
            site=self._site,
            relation=self._rows,
            payload=payload,
            windows=moved | windows,
            records=self._landing.count(),
            unchanged=unchanged,
            deleted=deleted,
            found=found,
            moved=tuple(sorted(set(moved) - set(windows))),
            undated=undated,
            fetched_at=fetched_at,
        )

    # --- questions to the source ---------------------------------------------------------------------------------

    def _make_rows(self) -> dict[str, str]:
        """The temporary table, empty; returns the types of its payload."""
        kept = self._landing.kept_columns(self._columns)
        if clash := sorted(set(RESERVED) & set(self._columns)):
            raise SchemaError(
                f"{self._client}: {self._source} has columns {', '.join(clash)}, which bronze uses for itself. Read a "
                "view that names them otherwise."
            )
        if kept and self._bronze.columns:
            log.warning("%s: %s has no column %s any more.", self._client, self._source, ", ".join(sorted(kept)))
        nulls = "".join(f", cast(null as {kind}) as {identifier(name)}" for name, kind in kept.items())
        self._client.ask(
            f"create temp table {self._rows} as {self._select(nulls)} from {self._client.remote(self._page(limit=0))}",
            what=f"read {self._source}",
        )
        payload = self._landing.payload()
        changed = [
            f"field {name!r} is {self._columns[name].kind} ({kind}), but bronze holds {self._bronze.columns[name]}"
            for name, kind in payload.items()
            if self._bronze.columns.get(name, kind) != kind
        ]
        if changed:
            raise SchemaError(
                f"{self._client}: {self._source} changed the type of a field: {'; '.join(changed)}. Nothing of it was "
                f"loaded. To keep the old type, name it in casts of stream {self._stream.name} in include/sources/"
                f"{self._stream.domain}/streams.py. To take the new one, rename bronze's column (alter table "
                f"{self._bronze.name} rename column … to …) and load with --whole."
            )
        return payload

    def _fetch_changed(self, since: datetime | None) -> None:
        changed = identifier(self._stream.updated_at)
        conditions = [f"{changed} < {_moment(self._interval.end)}"]
        if since is not None:
            conditions.append(f"{changed} >= {_moment(since)}")
        last: Sequence[str] | None = None
        while True:
            page = self._page(*conditions, after=last)
            if self._insert(page) < self._stream.page_rows:
                return
            # The last that came in: the source's order of texts may be another than DuckDB's.
            last = self._row(f"select {self._key_texts()} from {self._rows} order by rowid desc limit 1")

    def _fetch_keys(self, since: datetime | None, latest: datetime) -> None:
        names = [identifier(name) for name in self._stream.key]
        texts = ", ".join(f"{name}::text as k{i}" for i, name in enumerate(names))
        columns = "".join(f", k{i} varchar" for i in range(len(names)))
        self._connection.execute(f"create temp table {self._keys} (record_id varchar, is_due boolean{columns})")
        due = f"coalesce({identifier(self._stream.updated_at)} < {_moment(latest)}, false) as is_due"
        conditions = self._of_days(identifier(self._stream.day), _moment, since)
        size = self._stream.page_rows * KEYS_OF_A_PAGE
        select = f"select {', '.join(names)}, {texts}, {due}"
        listed = ", ".join(f"k{i}" for i in range(len(names)))
        last: Sequence[str] | None = None
        while True:
            page = self._query(select, conditions, last, size)
            keys = f"select {self._record_id()}, is_due, {listed} from {self._client.remote(page)}"
            statement = f"insert into {self._keys} {keys}"
            (count,) = self._client.ask(statement, what=f"list the keys of {self._source}").fetchone()
            if count < size:
                return
            last = self._row(f"select {listed} from {self._keys} order by rowid desc limit 1")

    def _fetch_found(self) -> int:
        listed = ", ".join(f"k{i}" for i in range(len(self._stream.key)))
        wanted = self._connection.execute(
            f"select {listed} from {self._keys} as keys where is_due "
            f"and not exists (select 1 from {self._rows} as r where r.record_id = keys.record_id) "
            f"and not exists (select 1 from {self._bronze.name} as b where b.site = ? "
            f"and b.record_id = keys.record_id and b.{TOMBSTONE} is null)",
            [self._site],
        ).fetchall()
        for some in _parts(wanted, KEYS_AT_ONCE):
            keys = ", ".join(self._key_values(values) for values in some)
            self._insert(self._page(f"({self._key_names()}) in ({keys})", limit=len(some)))
        return len(wanted)

    def _insert(self, page: str) -> int:
        statement = f"insert into {self._rows} by name {self._select()} from {self._client.remote(page)}"
        (count,) = self._client.ask(statement, what=f"read {self._source}").fetchone()
        self._count += count
        if self._progress:
            self._progress(self._site, self._count)
        return count

    def _page(self, *conditions: str, after: Sequence[str] | None = None, limit: int | None = None) -> str:
        columns = ", ".join(f"{column.select} as {identifier(name)}" for name, column in self._columns.items())
        size = self._stream.page_rows if limit is None else limit
        return self._query(f"select {columns}", conditions, after, size)

    def _query(self, select: str, conditions: Sequence[str], after: Sequence[str] | None, limit: int) -> str:
        conditions = [*conditions, *([f"({self._key_names()}) > {self._key_values(after)}"] if after else [])]
        where = f" where {' and '.join(conditions)}" if conditions else ""
        # Qualified: an output column of that name, such as its text, would be meant otherwise.
        order = ", ".join(f"t.{identifier(name)}" for name in self._stream.key)
        return f"{select} from {self._source} as t{where} order by {order} limit {limit}"

    def _key_names(self) -> str:
        return ", ".join(f"t.{identifier(name)}" for name in self._stream.key)

    def _key_values(self, values: Sequence[str]) -> str:
        kinds = [self._columns[name].kind for name in self._stream.key]
        typed = [f"{literal(value)}::{kind}" for value, kind in zip(values, kinds, strict=True)]
        return f"({', '.join(typed)})"

    def _key_texts(self) -> str:
        return ", ".join(f"{identifier(name)}::varchar" for name in self._stream.key)

    def _record_id(self) -> str:
        return f"concat_ws('-', {self._key_texts()})"

    def _select(self, more: str = "") -> str:
        return (
            f"select {self._record_id()} as record_id, {identifier(self._stream.day)}::date as interval_date, "
            f"cast(null as timestamptz) as {TOMBSTONE}, *{more}"
        )

    # --- comparisons with bronze ---------------------------------------------------------------------------------

    def _asked_to(self) -> datetime | None:
        """The end of the newest interval that any load has asked this database for."""
        if not self._bronze.columns:
            return None
        (end,) = self._row(
            f"select max(interval_end) from {self._bronze.name} where site = ? and record_id is null "
            "and interval_date >= interval_start::date and interval_date < interval_end::date",
            self._site,
        )
        return end

    def _changed_by_day(self) -> dict[date, int]:
        changed = identifier(self._stream.updated_at)
        return dict(
            self._connection.execute(
                f"select {changed}::date, count(*) from {self._rows} where {changed} >= ? group by all",
                [self._interval.start],
            ).fetchall()
        )

    def _add_tombstones(self, since: datetime | None, now: datetime, accept_deletes: bool) -> int:
        def refused(gone: int, held: int) -> SourceError:
            return SourceError(
                f"{self._client}: {gone:,} of {held:,} rows of {self._bronze.table} are gone from {self._source}; "
                f"expected at most {self._stream.most_gone:.0%} at once, as a table that was emptied by mistake looks "
                "the same. Nothing of it was loaded. If they were meant to go, run `python -m include.sources."
                f"{self._stream.domain} load {self._stream.name} --accept-deletes`.",
                retryable=False,
            )

        return self._landing.add_tombstones(
            self._keys,
            self._of_days("interval_date", lambda moment: f"date '{moment.date()}'", since),
            now,
            most_gone=self._stream.most_gone,
            refused=None if accept_deletes else refused,
        )

    def _of_days(self, column: str, spelled: Callable[[datetime], str], since: datetime | None) -> list[str]:
        """The condition that keys are compared within."""
        if self._stream.reconcile is Reconcile.ALL:
            return []
        first = self._interval.start - self._overlap if since is None else since
        return [f"{column} >= {spelled(first)}", f"{column} < {spelled(self._interval.end)}"]

    def _check_unique(self) -> None:
        rows, keys = self._row(f"select count(*), count(distinct record_id) from {self._rows}")
        if rows != keys:
            raise SourceError(
                f"{self._client}: {rows - keys} rows of {self._source} have the key of another row; "
                f"({', '.join(self._stream.key)}) is not its key. Correct key of stream {self._stream.name}.",
                retryable=False,
            )

    def _row(self, sql: str, *values: object) -> tuple:
        return self._landing.row(sql, *values)


def _moment(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"


def _parts(items: Sequence[tuple], size: int) -> Iterator[Sequence[tuple]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
