"""Sources whose records land by key: a record lies on the day of its creation, and a load replaces what it brings.

A fetch makes a temporary table of one site's rows in the DuckDB that has the lake attached (`Rows`) and says what it is
(`Answer`); what is the same for all of them, whatever the source, is here.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb

from include.errors import LakehouseError, SourceError
from include.interval import Interval
from include.lake.attach import Lake, identifier, literal, one_row
from include.lake.erasures import Erased, hash_sql, subject_sql
from include.sources import bronze, dlt_runtime
from include.sources.bronze import LINEAGE, Bronze
from include.sources.errors import SchemaError
from include.sources.ingest import GetConnection
from include.sources.ingest import ingest as ingest_any
from include.sources.results import IngestResult, SiteFailure, SiteLoad
from include.sources.subjects import Subject

TOMBSTONE = "source_deleted_at"
FILES = "window_files"
OWN = ("record_id", "interval_date", TOMBSTONE)
RESERVED = (*LINEAGE, TOMBSTONE, FILES)
FEW = 100  # rows that may always be gone, whatever their share

_numbers = itertools.count(1)


class Stream(Protocol):
    """What any stream says of itself."""

    @property
    def domain(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def subject(self) -> Subject | None: ...


@dataclass(frozen=True)
class Answer:
    """All that a site answered for one load.

    Attributes:
        relation: the temporary table of rows to land: OWN columns, then the payload.
        payload: DuckDB's types by column.
        windows: records by UTC day: each of the interval, and each that a record has moved away from.
        unchanged: rows that bronze has already.
        deleted: tombstones.
        found: rows that no question by time had brought.
        undated: site, record id and the row as JSON of those without a day.
        files: of a source of files, by window, which files bronze holds; see `include.sources.files.ledger`.
        taken: files that were taken now.
        incomplete: what was due and is not whole yet: what is whole lands, and the load is red all the same.
    """

    site: str
    relation: str
    payload: Mapping[str, str]
    windows: Mapping[date, int]
    records: int
    fetched_at: datetime
    unchanged: int = 0
    deleted: int = 0
    found: int = 0
    moved: tuple[date, ...] = ()
    undated: tuple[tuple[str, str, str], ...] = ()
    files: Mapping[date, str] = field(default_factory=dict)
    taken: int = 0
    incomplete: SourceError | None = None


@dataclass(frozen=True)
class KeyedLoad(SiteLoad):
    """What one site brought. Beside `windows` and `records` (tombstones included):

    Attributes:
        unchanged: rows that bronze had already.
        deleted: rows that the source has no more.
        found: rows that no question by time had brought.
        moved: days that records have moved away from.
        files: of a source of files, how many were taken.
    """

    unchanged: int
    deleted: int
    found: int
    moved: tuple[str, ...]
    files: int = 0


class Site(Protocol):
    """An entry of the file that lists what is read."""

    @property
    def site(self) -> str: ...
    @property
    def optional(self) -> bool: ...


Fetch = Callable[[Any, duckdb.DuckDBPyConnection, Bronze, Erased | None], Answer]
"""What one site answers; raises SourceError if it does not."""


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    sites: Sequence[Site],
    fetch: Fetch,
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    what: str = "site",
) -> IngestResult:
    """Fetch a stream from every site, and replace the rows of the keys that come in bronze.

    Args:
        what: what a site is called.

    Raises:
        SourceError: there is no site; and see `include.sources.ingest`.
    """
    if not sites:
        raise SourceError(f"No {what} to ingest {stream.name} from; expected at least one.", retryable=False)
    source = _Keyed(lake, stream, interval, sites, fetch)
    return ingest_any(lake, stream, interval, source, connections, domain=stream.domain, pipelines_dir=pipelines_dir)


@dataclass(frozen=True)
class _Keyed:
    lake: Lake
    stream: Stream
    interval: Interval
    sites: Sequence[Site]
    fetch_site: Fetch

    def fetch(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> tuple[list[Answer], list[SiteFailure]]:
        answers, failed = [], []
        for site in self.sites:
            try:
                answer = self.fetch_site(site, connection, before, erased)
            except LakehouseError as error:
                failed.append(SiteFailure.of(site.site, error, optional=site.optional))
                continue
            answers.append(answer)
            if answer.incomplete is not None:
                failed.append(SiteFailure.of(site.site, answer.incomplete, optional=site.optional))
        return answers, failed

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        answers: Sequence[Answer],
        load_seq: int,
        before: Bronze,
        folder: Path,
    ) -> str:
        payload = _payload(self.stream, answers)
        query = " union all by name ".join(_landing_sql(each, self.interval, load_seq, payload) for each in answers)
        local = [name for name, kind in payload.items() if kind == "TIMESTAMP"]
        table = self.stream.table
        dlt_runtime.use_settings(folder)
        source = dlt_runtime.source(table, query, dlt_runtime.BY_KEY, local)
        return dlt_runtime.load(self.lake, connection, table, source, folder, {table: bronze.PARTITION})

    def check(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, answers: Sequence[Answer], load_seq: int
    ) -> int:
        sent = {
            answer.site: bronze.Sent(len(answer.windows), answer.records, sum(answer.windows.values()))
            for answer in answers
        }
        key = ("site", "coalesce(record_id, interval_date::varchar)", "record_id")
        name = "coalesce('r' || record_id, 'w' || interval_date)"
        loaded = f"select {name} from {before.name} where load_seq = {load_seq}"
        among = f"{name} in ({loaded})" if before.load_seq else "true"
        return bronze.check_load(connection, before.table, load_seq, sent, key=key, among=among)

    def undated(self, answers: Sequence[Answer]) -> list[tuple[str, str, str]]:
        return [row for answer in answers for row in answer.undated]

    def loaded(self, answer: Answer) -> KeyedLoad:
        return KeyedLoad(
            site=answer.site,
            windows=len(answer.windows),
            records=answer.records,
            undated=len(answer.undated),
            unchanged=answer.unchanged,
            deleted=answer.deleted,
            found=answer.found,
            moved=tuple(day.isoformat() for day in answer.moved),
            files=answer.taken,
        )


def _payload(stream: Stream, answers: Sequence[Answer]) -> dict[str, str]:
    payload: dict[str, str] = {}
    for answer in answers:
        for name, kind in answer.payload.items():
            if payload.setdefault(name, kind) != kind:
                raise SchemaError(
                    f"Field {name!r} of {stream.table} is {kind} at {answer.site} and {payload[name]} at another. "
                    f"Nothing was loaded. Name the type to read it as in stream {stream.name}."
                )
    return payload


def _landing_sql(answer: Answer, interval: Interval, load_seq: int, payload: Mapping[str, str]) -> str:
    """The rows of one site with every column of bronze, window rows included."""
    first, end = (f"timestamptz '{moment.isoformat()}'" for moment in (interval.start, interval.end))
    lineage = (
        f"{literal(answer.site)} as site, interval_date, record_id, {load_seq}::bigint as load_seq, "
        f"{first} as interval_start, {end} as interval_end, timestamptz '{answer.fetched_at.isoformat()}' as fetched_at"
    )
    columns = ", ".join(
        identifier(name) if name in answer.payload else f"cast(null as {kind}) as {identifier(name)}"
        for name, kind in payload.items()
    )
    nulls = ", ".join(f"cast(null as {kind}) as {identifier(name)}" for name, kind in payload.items())
    files = [", cast(null as varchar) as " + FILES, f", {FILES}"] if answer.files else ["", ""]
    windows = ", ".join(
        f"(date '{day}', {count}::bigint, {literal(answer.files.get(day, '[]'))})"
        for day, count in answer.windows.items()
    )
    return (
        f"select {lineage}, cast(null as bigint) as window_records{files[0]}, {columns}, {TOMBSTONE} "
        f"from {answer.relation} union all select {lineage}, window_records{files[1]}, {nulls}, "
        f"cast(null as timestamptz) as {TOMBSTONE} from (select interval_date, cast(null as varchar) as record_id, "
        f"window_records, {FILES} from (values {windows}) as windows (interval_date, window_records, {FILES}))"
    )


def declared_in(stream: Stream) -> str:
    """The file that holds a stream."""
    return f"include/sources/{stream.domain}/streams.py"


class Rows:
    """The rows of one site that are to land: a temporary table with OWN columns, then the payload."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        stream: Stream,
        held: Bronze,
        site: str,
        erased: Erased | None,
    ) -> None:
        self.name = f"rows_{next(_numbers)}"
        self._connection, self._stream, self._bronze = connection, stream, held
        self._site, self._erased = site, erased

    def payload(self) -> dict[str, str]:
        """The types of its payload, in DuckDB's names."""
        described = self._connection.execute(f"describe {self.name}").fetchall()
        return {name: kind for name, kind, *_ in described if name not in OWN}

    def kept_columns(self, known: Mapping[str, Any]) -> dict[str, str]:
        """Columns of bronze that the source does not have, or not any more: they stay, null."""
        return {name: kind for name, kind in self._bronze.columns.items() if name not in known and name not in RESERVED}

    def check_declared(self, types: Mapping[str, str]) -> None:
        """That bronze holds each column as the stream declares it.

        Raises:
            SchemaError: it does not.
        """
        for column, kind in types.items():
            if (held := self._bronze.columns.get(column, kind)) != kind:
                raise SchemaError(
                    f"Column {column} of {self._bronze.name} is {held}, but stream {self._stream.name} declares it as "
                    f"{kind}. Nothing was loaded. Rename the old column (alter table … rename column …), or declare it "
                    f"as it is in {declared_in(self._stream)}."
                )

    def count(self) -> int:
        (count,) = self.row(f"select count(*) from {self.name}")
        return count

    def drop_erased(self) -> int:
        """Drop the rows of people who were erased."""
        subject = self._stream.subject
        if self._erased is None or subject is None or not subject.columns:
            return 0
        whose = hash_sql(subject_sql(subject.columns, site="$site"))
        (count,) = one_row(
            self._connection,
            f"delete from {self.name} where {whose} in (select unnest($hashes))",
            {"key": self._erased.key, "site": self._site, "hashes": list(self._erased.hashes)},
        )
        return count

    def drop_unchanged(self, version: str, before: datetime) -> int:
        """Drop rows that were changed before a moment, of which bronze has this version."""
        changed = identifier(version)
        (count,) = self.row(
            f"delete from {self.name} as r where {changed} < ? and exists (select 1 from {self._bronze.name} as b "
            f"where b.site = ? and b.record_id = r.record_id and b.{changed} is not distinct from r.{changed} "
            f"and b.{TOMBSTONE} is null)",
            before,
            self._site,
        )
        return count

    def add_tombstones(
        self,
        there: str,
        among: Sequence[str],
        now: datetime,
        *,
        most_gone: float,
        refused: Callable[[int, int], SourceError] | None,
    ) -> int:
        """Add a tombstone of each row of bronze that the source has no more: as it was, with `source_deleted_at`.

        Args:
            there: a table or query with the `record_id` of all that the source has.
            among: SQL conditions of the rows of bronze that are compared.
            most_gone: share of these that may be gone at once.
            refused: the error, of how many are gone and how many there are, when it is more; None takes it in.
        """
        live = " and ".join(["site = ?", "record_id is not null", f"{TOMBSTONE} is null", *among])
        gone = f"select record_id from {self._bronze.name} where {live} and record_id not in (from keys)"
        keys = f"with keys as materialized (select record_id from {there} where record_id is not null)"
        held, count = self.row(
            f"{keys} select (select count(*) from {self._bronze.name} where {live}), (select count(*) from ({gone}))",
            self._site,
            self._site,
        )
        if count > max(FEW, most_gone * held) and refused is not None:
            raise refused(count, held)
        if not count:
            return 0
        columns = [identifier(name) for name in self._bronze.columns if name not in RESERVED]
        self._connection.execute(f"create or replace temp table gone as {keys} from ({gone})", [self._site])
        self._connection.execute(f"delete from {self.name} where record_id in (from gone)")
        self._connection.execute(
            f"insert into {self.name} by name select record_id, interval_date, ?::timestamptz as {TOMBSTONE}, "
            f"{', '.join(columns)} from {self._bronze.name} where site = ? and record_id in (from gone)",
            [now, self._site],
        )
        return count

    def moved(self) -> dict[date, int]:
        """Days that records have moved away from, which must be rebuilt, with what their window row says."""
        if not self._bronze.columns:
            return {}
        held = self._bronze.name
        return dict(
            self._connection.execute(
                f"with moved as (select distinct b.interval_date as day from {held} as b join {self.name} as r "
                "on b.record_id = r.record_id where b.site = $1 and b.interval_date <> r.interval_date) "
                f"select moved.day, coalesce(max(b.window_records), 0) from moved left join {held} as b "
                "on b.site = $1 and b.record_id is null and b.interval_date = moved.day group by all",
                [self._site],
            ).fetchall()
        )

    def take_undated(self) -> tuple[tuple[str, str, str], ...]:
        """Take out the rows that state no day; each as site, record id and JSON."""
        undated = self._connection.execute(
            f"select record_id, to_json(r) from {self.name} as r where interval_date is null"
        ).fetchall()
        if undated:
            self._connection.execute(f"delete from {self.name} where interval_date is null")
        return tuple((self._site, record_id, payload) for record_id, payload in undated)

    def row(self, sql: str, *values: object) -> tuple[Any, ...]:
        return one_row(self._connection, sql, values)
