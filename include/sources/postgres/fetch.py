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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import identifier, literal, one_row
from include.lake.erasures import Erased, hash_sql, subject_sql
from include.sources.bronze import LINEAGE, Bronze
from include.sources.errors import SchemaError
from include.sources.postgres.client import Column, DatabaseClient
from include.sources.postgres.databases import Database
from include.sources.postgres.streams import Reconcile, Stream

log = logging.getLogger(__name__)

TOMBSTONE = "source_deleted_at"
OWN = ("record_id", "interval_date", TOMBSTONE)
KEYS_OF_A_PAGE = 5  # times as many keys as rows
KEYS_AT_ONCE = 1_000
FEW = 100  # rows that may always be gone, whatever their share

Progress = Callable[[str, int], None]
"""Called with a database's id and how many of its rows have come in so far."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """All that a database answered for one load.

    Attributes:
        relation: the temporary table of rows to land: OWN columns, then the payload.
        payload: DuckDB's types by column.
        windows: records changed by UTC day: each of the interval, and each that a record has moved away from.
        unchanged: rows of the overlap that bronze has already.
        deleted: tombstones.
        found: rows that no question by time had brought: committed too late, or back after they were deleted.
        undated: site, record id and the row as JSON of those without a day.
    """

    database: Database
    relation: str
    payload: Mapping[str, str]
    windows: Mapping[date, int]
    records: int
    unchanged: int
    deleted: int
    found: int
    moved: tuple[date, ...]
    undated: tuple[tuple[str, str, str], ...]
    fetched_at: datetime


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
        self._progress, self._erased = progress, erased
        self._source = f"{identifier(client.database.schema)}.{identifier(stream.name)}"
        number = next(_numbers)
        self._rows, self._keys = f"rows_{number}", f"keys_{number}"
        self._columns: dict[str, Column] = {}
        self._count = 0

    def run(self, whole: bool, accept_deletes: bool) -> Answer:
        self._columns = self._client.columns(self._stream)
        payload = self._make_rows()
        asked_to = self._asked_to()
        since = None if whole or asked_to is None else min(self._interval.start, asked_to) - self._overlap
        latest = self._interval.end if asked_to is None else max(self._interval.end, asked_to)
        self._fetch_changed(since)
        self._drop_erased()
        unchanged = deleted = found = 0
        fetched_at = datetime.now(UTC)
        if asked_to is not None:
            unchanged = 0 if whole else self._drop_unchanged()
            self._fetch_keys(since, latest)
            found = self._fetch_found() - self._drop_erased()
        windows = dict.fromkeys(self._interval.days(), 0) | self._changed_by_day()
        if asked_to is not None:
            deleted = self._add_tombstones(since, fetched_at, accept_deletes)
        self._check_unique()
        undated = self._take_undated()
        moved = self._moved() if asked_to is not None else {}
        (records,) = self._row(f"select count(*) from {self._rows}")
        return Answer(
            database=self._client.database,
            relation=self._rows,
            payload=payload,
            windows=moved | windows,
            records=records,
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
        kept = {
            name: kind
            for name, kind in self._bronze.columns.items()
            if name not in self._columns and name not in LINEAGE and name != TOMBSTONE
        }
        if clash := sorted({*LINEAGE, TOMBSTONE} & set(self._columns)):
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
        described = self._connection.execute(f"describe {self._rows}").fetchall()
        payload = {name: kind for name, kind, *_ in described if name not in OWN}
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
            last = self._row(f"select {self._key_texts()} from {self._rows} where rowid = {self._count - 1}")

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
        listed_so_far = 0
        while True:
            page = self._query(select, conditions, last, size)
            keys = f"select {self._record_id()}, is_due, {listed} from {self._client.remote(page)}"
            statement = f"insert into {self._keys} {keys}"
            (count,) = self._client.ask(statement, what=f"list the keys of {self._source}").fetchone()
            if count < size:
                return
            listed_so_far += count
            last = self._row(f"select {listed} from {self._keys} where rowid = {listed_so_far - 1}")

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

    def _drop_unchanged(self) -> int:
        changed = identifier(self._stream.updated_at)
        (count,) = self._row(
            f"delete from {self._rows} as r where {changed} < ? and exists (select 1 from {self._bronze.name} as b "
            f"where b.site = ? and b.record_id = r.record_id and b.{changed} is not distinct from r.{changed} "
            f"and b.{TOMBSTONE} is null)",
            self._interval.start,
            self._site,
        )
        return count

    def _drop_erased(self) -> int:
        subject = self._stream.subject
        if self._erased is None or subject is None or not subject.columns:
            return 0
        whose = hash_sql(subject_sql(subject.columns, site="$site"))
        (count,) = one_row(
            self._connection,
            f"delete from {self._rows} where {whose} in (select unnest($hashes))",
            {"key": self._erased.key, "site": self._site, "hashes": list(self._erased.hashes)},
        )
        return count

    def _add_tombstones(self, since: datetime | None, now: datetime, accept_deletes: bool) -> int:
        days = self._of_days("interval_date", lambda moment: f"date '{moment.date()}'", since)
        live = " and ".join(["site = ?", "record_id is not null", f"{TOMBSTONE} is null", *days])
        gone = f"select record_id from {self._bronze.name} where {live} and record_id not in (from keys)"
        keys = f"with keys as materialized (select record_id from {self._keys})"
        held, count = self._row(
            f"{keys} select (select count(*) from {self._bronze.name} where {live}), (select count(*) from ({gone}))",
            self._site,
            self._site,
        )
        if count > max(FEW, self._stream.most_gone * held) and not accept_deletes:
            raise SourceError(
                f"{self._client}: {count:,} of {held:,} rows of {self._bronze.table} are gone from {self._source}; "
                f"expected at most {self._stream.most_gone:.0%} at once, as a table that was emptied by mistake looks "
                "the same. Nothing of it was loaded. If they were meant to go, run `python -m include.sources."
                f"{self._stream.domain} load {self._stream.name} --accept-deletes`.",
                retryable=False,
            )
        if not count:
            return 0
        columns = [identifier(name) for name in self._bronze.columns if name not in LINEAGE and name != TOMBSTONE]
        self._connection.execute(
            f"create or replace temp table gone as {keys} from ({gone})",
            [self._site],
        )
        self._connection.execute(f"delete from {self._rows} where record_id in (from gone)")
        self._connection.execute(
            f"insert into {self._rows} by name select record_id, interval_date, ?::timestamptz as {TOMBSTONE}, "
            f"{', '.join(columns)} from {self._bronze.name} where site = ? and record_id in (from gone)",
            [now, self._site],
        )
        return count

    def _moved(self) -> dict[date, int]:
        """Days that records have moved away from, which must be rebuilt, with what their window row says."""
        held = self._bronze.name
        return dict(
            self._connection.execute(
                f"with moved as (select distinct b.interval_date as day from {held} as b join {self._rows} as r "
                "on b.record_id = r.record_id where b.site = $1 and b.interval_date <> r.interval_date) "
                f"select moved.day, coalesce(max(b.window_records), 0) from moved left join {held} as b "
                "on b.site = $1 and b.record_id is null and b.interval_date = moved.day group by all",
                [self._site],
            ).fetchall()
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

    def _take_undated(self) -> tuple[tuple[str, str, str], ...]:
        undated = self._connection.execute(
            f"select record_id, to_json(r) from {self._rows} as r where interval_date is null"
        ).fetchall()
        if undated:
            self._connection.execute(f"delete from {self._rows} where interval_date is null")
        return tuple((self._site, record_id, payload) for record_id, payload in undated)

    def _row(self, sql: str, *values: object) -> tuple:
        return one_row(self._connection, sql, values)


def _moment(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"


def _parts(items: Sequence[tuple], size: int) -> Iterator[Sequence[tuple]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
