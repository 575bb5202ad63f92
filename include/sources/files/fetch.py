"""What one drop holds for an interval, as a temporary table of the DuckDB that has the lake attached.

Looked at are the files whose day lies in the interval or in the overlap before it. Taken are those whose content was
not taken before (see `ledger`), each as a copy that nobody writes to:
- a file of the same name and other content replaces the rows that it brought: those that it has no more land as
  tombstones;
- of two files with a key, the later counts (day, then name), whatever came first;
- a file that is still being written is left for the next load: by its name (`.part`), because its size or time changes
  while we look, or because it ends too early. The last two make the load red, after what is whole has landed.
A file that is gone from the drop changes nothing: drops are cleared.
"""

import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import identifier, literal
from include.lake.erasures import Erased
from include.lake.files import Entry, Files
from include.lake.files import fetch as copy
from include.sources.bronze import Bronze
from include.sources.errors import SchemaError
from include.sources.files.ledger import Ledger, Taken
from include.sources.files.read import FILE_COLUMNS, ROW, Part, is_whole, read
from include.sources.files.streams import Dated, Due, Stream, date_in, is_unfinished
from include.sources.ingest import Progress
from include.sources.keyed import TOMBSTONE, Answer, Rows
from include.sources.listing import Listed

TOLD = 5  # names of files in an error
LATER = "(b.file_date, b.file_name) > (r.file_date, r.file_name)"


def fetch(
    files: Files,
    connection: duckdb.DuckDBPyConnection,
    drop: Listed,
    stream: Stream,
    interval: Interval,
    bronze: Bronze,
    *,
    temp: Path,
    settle: float = 5.0,
    erased: Erased | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Fetch what one drop holds for an interval.

    Args:
        bronze: the stream's table in the lake.
        temp: where copies of files wait; gone afterwards.
        settle: seconds that a file of a folder must have been left alone for.
        erased: whose rows must not come back.

    Raises:
        SourceError: no file where one is due; a file that cannot be read, or a cell of it; a key that is none.
        SchemaError: a file lacks a column, or has another type than bronze holds.
    """
    return _Fetch(files, connection, drop, stream, interval, bronze, erased, progress).run(temp, settle)


def listed(files: Files, drop: Listed, stream: Stream) -> dict[str, tuple[date, Entry]]:
    """The files of a stream that are not named as unfinished, each with its day, in order of day and name.

    Raises:
        SourceError: a file has no date in its name, though the stream says so.
    """
    found = {name: entry for name, entry in files.entries().items() if stream.takes(name) and not is_unfinished(name)}
    if stream.dated is Dated.MODIFIED:
        days = {name: entry.modified_at.date() for name, entry in found.items()}
    else:
        named = {name: date_in(name) for name in found}
        if dateless := sorted(name for name, day in named.items() if day is None):
            raise SourceError(
                f"Drop {drop.site}: {_names(dateless)} of stream {stream.name} without a date in the name, such as "
                "2026-11-01 or 20261101; rename them, narrow files of the stream, or date it by when files were "
                "written.",
                retryable=False,
            )
        days = {name: day for name, day in named.items() if day is not None}
    return {name: (days[name], found[name]) for name in sorted(found, key=lambda name: (days[name], name))}


class _Fetch:
    def __init__(
        self,
        files: Files,
        connection: duckdb.DuckDBPyConnection,
        drop: Listed,
        stream: Stream,
        interval: Interval,
        bronze: Bronze,
        erased: Erased | None,
        progress: Progress | None,
    ) -> None:
        self._files, self._connection, self._drop, self._stream = files, connection, drop, stream
        self._interval, self._bronze, self._progress = interval, bronze, progress
        self._span = set(interval.widened(days_before=stream.overlap_days).days())
        self._rows = Rows(connection, stream, bronze, drop.site, erased)
        self._ledger = Ledger.read(connection, bronze, drop.site)
        self._parts: list[tuple[Taken, Part]] = []
        self._changed: list[str] = []
        self._days: set[date] = set()  # that files are there for
        self._left: set[date] = set()  # that a changed file was of before
        self._waiting: list[str] = []

    def run(self, temp: Path, settle: float) -> Answer:
        self._rows.check_declared(self._stream.types)
        due = self._due(settle)
        with tempfile.TemporaryDirectory(prefix="drop-", dir=temp) as folder:
            for name, (day, entry) in due.items():
                self._take(name, day, entry, Path(folder) / "file")
        self._check_due()
        payload = self._make()
        for _, part in self._parts:
            self._connection.execute(f"drop table {part.relation}")
        fetched_at = datetime.now(UTC)
        self._check_unique()
        there = f"{self._rows.name}_there"
        self._connection.execute(f"create temp table {there} as select record_id from {self._rows.name}")
        self._keep_latest()
        self._rows.drop_erased()
        undated = self._rows.take_undated()
        deleted = self._bury(there, fetched_at)
        moved = self._rows.moved()
        asked = {*self._interval.days(), *(taken.day for taken, _ in self._parts), *self._left}
        windows = {day: self._ledger.rows(day) for day in sorted({*asked, *moved})}
        return Answer(
            site=self._drop.site,
            relation=self._rows.name,
            payload=payload,
            windows=windows,
            records=self._rows.count(),
            fetched_at=fetched_at,
            deleted=deleted,
            moved=tuple(sorted(set(moved) - asked)),
            undated=undated,
            files={day: self._ledger.to_json(day) for day in windows},
            taken=len(self._parts),
            incomplete=self._incomplete(),
        )

    # --- which files ---------------------------------------------------------------------------------------------

    def _due(self, settle: float) -> dict[str, tuple[date, Entry]]:
        """Files of the span that nobody writes to."""
        found = self._in_span()
        if self._files.storage.is_s3 or not found:
            return found  # an object is there whole or not at all
        youngest = max(entry.modified_at for _, entry in found.values())
        if datetime.now(UTC) - youngest < timedelta(seconds=settle):
            time.sleep(settle)
            later = self._in_span()
            self._waiting += [name for name in found if later.get(name) != found[name]]
            return {name: each for name, each in later.items() if found.get(name) == each}
        return found

    def _in_span(self) -> dict[str, tuple[date, Entry]]:
        files = listed(self._files, self._drop, self._stream)
        return {name: (day, entry) for name, (day, entry) in files.items() if day in self._span}

    def _take(self, name: str, day: date, entry: Entry, path: Path) -> None:
        """Read a file, unless its content was taken before."""
        try:
            size, sha256 = copy(self._files, name, path)
        except FileNotFoundError:
            return  # went while we looked
        if not is_whole(path, self._stream.format) or size != entry.size:
            self._waiting.append(name)
            return
        self._days.add(day)
        before = self._ledger.of(name)
        if (before and before.sha256 == sha256) or self._ledger.has_content(self._stream, sha256, day):
            return
        held = self._rows.kept_columns(dict.fromkeys(FILE_COLUMNS))
        part = read(self._connection, self._stream, path, f"File {name} of drop {self._drop.site}", held)
        rows = self._count(part.relation)
        taken = Taken(name, sha256, day, rows)
        if before:
            self._changed.append(name)
            self._left.add(before.day)
        self._ledger.add(taken)
        self._parts.append((taken, part))
        if self._progress:
            self._progress(self._drop.site, sum(each.rows for each, _ in self._parts))

    def _check_due(self) -> None:
        """Raises: SourceError: there is no file where one is due."""
        if self._stream.due is Due.NEVER:
            return
        days, there = self._interval.days(), self._ledger.days() | self._days
        missing = [day for day in days if day not in there]
        if not missing or (self._stream.due is Due.EVERY_INTERVAL and len(missing) < len(days)):
            return
        which = f"{missing[0]}" if len(missing) == 1 else f"{missing[0]} to {missing[-1]} ({len(missing)} days)"
        what = (
            f"{_names(self._waiting)} that is not whole yet"
            if self._waiting
            else f"no file like {self._stream.files} at {self._files.storage.url}"
        )
        raise SourceError(
            f"Drop {self._drop.site} has {what} for {which}; stream {self._stream.name} expects "
            f"{self._stream.due.value}. Nothing of it was loaded. Have the file sent, then run again; if none is due "
            "then, set due of the stream.",
            retryable=True,
        )

    def _incomplete(self) -> SourceError | None:
        if not self._waiting:
            return None
        return SourceError(
            f"Drop {self._drop.site} has {_names(self._waiting)} of stream {self._stream.name} that is not whole yet. "
            "It is taken when it is. Writers do best to write to a name that ends in .part, and to rename.",
            retryable=True,
        )

    # --- their rows ----------------------------------------------------------------------------------------------

    def _make(self) -> dict[str, str]:
        """The temporary table of all files' rows; returns the types of its payload."""
        kinds: dict[str, str] = {}
        for taken, part in self._parts:
            for column, kind in part.kinds.items():
                if kinds.setdefault(column, kind) != kind:
                    raise SchemaError(
                        f"Column {column} of stream {self._stream.name} is {kind} in {taken.name} and {kinds[column]} "
                        f"in another file of drop {self._drop.site}. Nothing of it was loaded. Declare its type."
                    )
        for column, kind in self._stream.types.items():
            kinds.setdefault(column, kind)
        own = {"file_name": "VARCHAR", "file_sha256": "VARCHAR", ROW: "BIGINT", "file_date": "DATE"}
        kept = self._rows.kept_columns({**kinds, **own})
        every = own | kinds | kept
        name = self._rows.name
        columns = ", ".join(f"{identifier(column)} {kind}" for column, kind in every.items())
        self._connection.execute(
            f"create temp table {name} (record_id varchar, interval_date date, {TOMBSTONE} timestamptz, {columns})"
        )
        for taken, part in self._parts:
            self._check_keys(taken, part)
            self._connection.execute(
                f"insert into {name} by name select {self._record_id()} as record_id, {self._day()} as interval_date, "
                f"* from (select {literal(taken.name)} as file_name, {literal(taken.sha256)} as file_sha256, "
                f"date '{taken.day}' as file_date, * from {part.relation})"
            )
        return self._rows.payload()

    def _record_id(self) -> str:
        if not self._stream.key:
            return f"file_name || ':' || {ROW}"
        return f"concat_ws('-', {', '.join(f'{identifier(name)}::varchar' for name in self._stream.key)})"

    def _day(self) -> str:
        return f"{identifier(self._stream.day)}::date"

    def _check_keys(self, taken: Taken, part: Part) -> None:
        """Raises: SourceError: a row has no key."""
        if not self._stream.key:
            return
        without = " or ".join(f"{identifier(name)} is null" for name in self._stream.key)
        found = self._connection.execute(
            f"select {ROW} from {part.relation} where {without} order by {ROW} limit {TOLD}"
        ).fetchall()
        if found:
            raise SourceError(
                f"File {taken.name} of drop {self._drop.site} lacks ({', '.join(self._stream.key)}) in row "
                f"{', '.join(str(row) for (row,) in found)}, by which rows are told apart. Nothing of this drop was "
                "loaded. Have the file written anew, or correct key of the stream.",
                retryable=False,
            )

    def _check_unique(self) -> None:
        """Raises: SourceError: rows of one file share a key."""
        found = self._connection.execute(
            f"select file_name, list({ROW} order by {ROW}) from {self._rows.name} group by file_name, record_id "
            "having count(*) > 1 order by all limit 1"
        ).fetchone()
        if found:
            name, rows = found
            raise SourceError(
                f"File {name} of drop {self._drop.site} has the same ({', '.join(self._stream.key)}) in rows "
                f"{', '.join(map(str, rows[:TOLD]))}; it is not the key of stream {self._stream.name}. Nothing of this "
                "drop was loaded. Correct key of the stream, or have the file written anew.",
                retryable=False,
            )

    def _keep_latest(self) -> None:
        """Of rows with a key keep that of the latest file, be it among these or in bronze."""
        name = self._rows.name
        self._connection.execute(
            f"delete from {name} as r where exists (select 1 from {name} as b where b.record_id = r.record_id "
            f"and {LATER})"
        )
        if "file_name" in self._bronze.columns:
            self._connection.execute(
                f"delete from {name} as r where exists (select 1 from {self._bronze.name} as b where b.site = ? "
                f"and b.record_id = r.record_id and b.{TOMBSTONE} is null and {LATER} "
                f"and b.file_name not in ({_texts(self._changed)}))",
                [self._drop.site],
            )

    def _bury(self, there: str, now: datetime) -> int:
        """Tombstones of the rows that changed files have no more."""
        if not self._changed:
            return 0
        among = [f"file_name in ({_texts(self._changed)})"]
        return self._rows.add_tombstones(there, among, now, most_gone=1.0, refused=None)

    def _count(self, relation: str) -> int:
        (count,) = self._rows.row(f"select count(*) from {relation}")
        return count


def _texts(values: list[str]) -> str:
    return ", ".join(map(literal, values)) or "''"  # as no file is called; `not in (null)` is never true


def _names(names: list[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"{'a file' if len(names) == 1 else 'files'} ({', '.join(names[:TOLD])}{more})"
