"""Does the storage hold what the catalog says? Damage by table and file, the last whole version, and the way back.

The quick form lists the storage once and reads each Parquet file's footer: it finds files that are missing, cut or not
Parquet. In a bucket a footer costs requests, so one that was read is not read again until its object is replaced. The
deep form reads every byte: it compares each file with its sha256 as of the first deep check, and decodes a file that it
sees for the first time.

`settle` is what a writer does before it begins. When the catalog's COMMIT succeeds and its reply is lost, DuckLake
believes that it failed and deletes the files of a commit that stuck. The writer was told so too and comes again.
"""

import io
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from time import perf_counter
from typing import Any

import duckdb
import psycopg

from include.connections import Postgres
from include.errors import LakehouseError, first_line
from include.lake import catalog, locks, savepoint
from include.lake.attach import ALIAS, Lake, identifier, literal, one_transaction, table_exists
from include.lake.catalog import Catalog, File
from include.lake.listing import Stored, footer_rows, open_storage, stored
from include.lake.writers import maintaining
from include.layers import META_SCHEMA, QUARANTINE_SCHEMA, Layer

# A writer puts files into storage before the catalog names them.
YOUNG = timedelta(days=1)
# Written in the transaction that writes a model.
BOOKKEEPING = (f"{META_SCHEMA}.watermarks", f"{META_SCHEMA}.quarantine_applied")
DEEP_BATCH_BYTES = 256 * 1024**2
REBUILT = (Layer.SILVER.value, Layer.GOLD.value)

# The column of a delete file that says which snapshot deleted each row, if they were several.
_WRITTEN_BY = "_ducklake_internal_snapshot_id"
_NARROW = """
update {ducklake}.ducklake_delete_file
set path = %(path)s, path_is_relative = true, delete_count = %(rows)s, file_size_bytes = %(size)s,
    footer_size = %(footer)s, partial_max = %(newest)s
where delete_file_id = %(delete_file_id)s
"""

log = logging.getLogger(__name__)

_DIGESTS = """
create schema if not exists lakehouse;
create table if not exists lakehouse.file_digests (
    path text primary key, sha256 text not null, seen_at timestamptz not null default now()
)
"""
_FOOTERS = """
create schema if not exists lakehouse;
create table if not exists lakehouse.file_footers (
    path text primary key, size bigint not null, written_at timestamptz not null, rows bigint not null
)
"""
_REMEMBER = """
insert into lakehouse.file_footers (path, size, written_at, rows) values (%s, %s, %s, %s)
on conflict (path) do update set (size, written_at, rows) = (excluded.size, excluded.written_at, excluded.rows)
"""
# Within it a store may give two versions of an object the same time.
SETTLED = timedelta(minutes=1)


class Reach(StrEnum):
    """Who reads a damaged file."""

    CURRENT = "current"
    RELEASE = "release"
    HISTORY = "history"


class DamageError(LakehouseError):
    """Tables cannot be read whole."""


@dataclass(frozen=True)
class Damage:
    """One file that is not as the catalog says.

    Attributes:
        problem: what was found against what was expected.
        reach: whether the table as it is now, only a retained release, or only older snapshots read it.
        last_whole: the newest kept snapshot at which the whole table can be read; None if there is none.
        releases: retained releases whose mart is read from it.
    """

    file: File
    problem: str
    reach: Reach
    last_whole: int | None
    releases: tuple[int, ...] = ()

    def __str__(self) -> str:
        whole = (
            f"last whole at snapshot {self.last_whole}" if self.last_whole is not None else "no whole version is kept"
        )
        return f"{self.file.name}: {self.file.path} {self.problem}; {whole}"


@dataclass(frozen=True)
class Report:
    """What a check found. `unknown` are files that nothing names and that are no longer young."""

    files: int
    bytes: int
    tables: int
    damage: tuple[Damage, ...]
    unknown: tuple[str, ...]
    seconds: float
    deep: bool = False

    @property
    def ok(self) -> bool:
        """Nobody who reads a table as it is now, or a retained release, meets damage."""
        return all(item.reach is Reach.HISTORY for item in self.damage)

    @property
    def current(self) -> list[Damage]:
        return [item for item in self.damage if item.reach is Reach.CURRENT]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}

    def summary(self) -> dict[str, Any]:
        """JSON-serialisable and short, for an XCom."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "tables": self.tables,
            "damage": [str(item) for item in self.damage],
            "unknown": len(self.unknown),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Repair:
    """What was done to one table, and what is left to do. `days` are half open."""

    table: str
    done: str
    next_step: str
    days: tuple[date, date] | None = field(default=None)


def check(
    lake: Lake,
    *,
    marts: Postgres | None = None,
    tables: Collection[str] | None = None,
    snapshot: int | None = None,
    deep: bool = False,
    now: datetime | None = None,
) -> Report:
    """Compare catalog and storage. No cleanup runs meanwhile; writers may.

    Args:
        marts: the database of the ledger, to know which snapshots releases pin.
        tables: look at these alone (`schema.table`); files that nobody knows are not looked for then.
        snapshot: look at the files of this snapshot alone.
        deep: read every byte; see above.
        now: what the age of unknown files counts from.
    """
    started = perf_counter()
    pins = _pins(marts) if marts else {}
    with locks.no_cleanup(lake.catalog) as held, open_storage(lake) as connection:
        known = catalog.read(lake)
        wanted = [
            file
            for file in known.files
            if (tables is None or file.name in tables)
            and (file.seen_at(snapshot) if snapshot is not None else known.seen(file))
        ]
        folders = None if tables is None else sorted({_folder(lake, file) for file in wanted})
        there = stored(lake, connection, folders)
        problems = _problems(lake, connection, known, wanted, there, now or datetime.now(UTC), afresh=deep)
        if deep:
            whole = [file for file in wanted if file.path not in problems]
            problems |= _deep_problems(lake, connection, whole)
        held.check()
    unknown = () if tables is not None else _unknown(known, there, now or datetime.now(UTC))
    return Report(
        files=len(wanted),
        bytes=sum(file.size for file in wanted),
        tables=len({file.name for file in wanted}),
        damage=_damage(known, wanted, problems, pins),
        unknown=unknown,
        seconds=perf_counter() - started,
        deep=deep,
    )


def require_whole(report: Report) -> None:
    """Refuse to go on where a table, as it is now, is damaged.

    Raises:
        DamageError: one is; it names each file.
    """
    if report.current:
        raise DamageError(told(report.current))


def told(damage: Collection[Damage]) -> str:
    """What an error says of damage."""
    found = "\n".join(f"- {item}" for item in damage)
    return f"{len(damage)} files are damaged; `lake fsck --repair` makes their tables readable again.\n{found}"


def repair(lake: Lake, report: Report) -> list[Repair]:
    """Make every damaged table readable again, each in one snapshot; empty if none is damaged as it is now.

    A silver or gold table goes back to its last whole version, and forgets what it has read, so that its next build is
    a full one. Of any other table, and where no whole version is left, the rows of the damaged files alone are lost:
    going back would lose good loads with them. Older snapshots stay as they are: what read a lost file fails loudly.

    Raises:
        BusyError: somebody writes.
    """
    if not report.current:
        return []
    with maintaining(lake):
        if savepoint.put_back(lake):
            report = check(lake, deep=report.deep)
        return _repair_tables(lake, report.current)


def missing(lake: Lake, tables: Collection[str]) -> list[Damage]:
    """Files that the tables (`schema.table`) are read from now and that are not in storage; quick, for every writer."""
    files = catalog.live_files(lake, tables)
    if not files:
        return []
    with open_storage(lake) as connection:
        there = stored(lake, connection, sorted({_folder(lake, file) for file in files}))
    gone = [file for file in files if file.path not in there]
    if not gone:
        return []
    return list(_damage(catalog.read(lake), gone, {file.path: "is missing" for file in gone}, {}))


def settle(lake: Lake, tables: Collection[str]) -> None:
    """Make tables readable again that their only writer is about to build; quick where no file is missing.

    As `repair` does, of which the build that follows makes up for all that went. No build does for bronze, which is
    left alone.
    """
    damage = missing(lake, [name for name in tables if not name.startswith(f"{Layer.BRONZE}.")])
    for each in _repair_tables(lake, damage):
        first = next(item for item in damage if item.file.name == each.table)
        log.warning("Files of %s were missing (%s); it %s.", each.table, first, each.done)


def take_back(lake: Lake, damage: Sequence[Damage]) -> int:
    """Undo the last commit to a table whose files are gone, in a new snapshot: what it wrote ends, what it ended lives.

    The caller knows that this commit's writer believes it failed. Returns the snapshot that is undone.

    Raises:
        DamageError: the damage is not that of the table's last commit; nothing was changed.
    """
    file = damage[0].file
    with catalog.metadata(lake) as opened, open_storage(lake) as storage:
        opened.execute("lock table {ducklake}.ducklake_snapshot in exclusive mode")
        inlined = opened.inlined_tables(file.table_id)
        versions = {
            "ducklake_data_file": "table_id = %(table_id)s",
            "ducklake_delete_file": "table_id = %(table_id)s",
            **dict.fromkeys(inlined, "true"),
        }
        changes = [
            f"select begin_snapshot, end_snapshot from {{ducklake}}.{name} where {of}" for name, of in versions.items()
        ]
        changes.append("select partial_max, null from {ducklake}.ducklake_delete_file where table_id = %(table_id)s")
        deletes = opened.inlined_deletes(file.table_id)
        if deletes:
            changes.append(f"select begin_snapshot, null from {{ducklake}}.{deletes}")
        ((last,),) = opened.execute(
            f"select max(greatest(begin_snapshot, end_snapshot)) from ({' union all '.join(changes)}) as changes",
            table_id=file.table_id,
        )
        widened = dict(
            opened.execute(
                "select delete_file_id, data_file_id from {ducklake}.ducklake_delete_file "
                "where table_id = %(table_id)s and end_snapshot is null and begin_snapshot < %(last)s "
                "and partial_max = %(last)s",
                table_id=file.table_id,
                last=last,
            )
        )
        before = _before_widened(lake, opened, storage, file.table_id, last)
        of_last = all(item.file.begin == last or item.file.file_id in widened for item in damage)
        if not of_last or not before.keys() >= set(widened.values()):
            raise DamageError(told(damage))
        undone = _new_snapshot(
            opened,
            f"inserted_into_table:{file.table_id},deleted_from_table:{file.table_id}",
            f"snapshot {last} of {file.name} taken back: its files are gone",
        )
        for delete_file_id, data_file_id in widened.items():
            opened.execute(_NARROW, delete_file_id=delete_file_id, **before[data_file_id])
            opened.execute(
                "delete from {ducklake}.ducklake_files_scheduled_for_deletion where data_file_id = %(scheduled_id)s",
                scheduled_id=before[data_file_id]["scheduled_id"],
            )
        for name, of in versions.items():
            opened.execute(
                f"update {{ducklake}}.{name} "
                "set end_snapshot = case when begin_snapshot = %(last)s then %(undone)s::bigint end "
                f"where {of} and ((begin_snapshot = %(last)s and end_snapshot is null) or end_snapshot = %(last)s)",
                table_id=file.table_id,
                last=last,
                undone=undone,
            )
        if deletes:
            opened.execute(f"delete from {{ducklake}}.{deletes} where begin_snapshot = %(last)s", last=last)
    return last


def take_out(lake: Lake, damage: list[Damage]) -> int:
    """End damaged files of one table in a new snapshot, as DuckLake does when every row of a file is deleted.

    No DuckLake statement can: each would read the file first. Returns the rows that go.
    """
    table_id = damage[0].file.table_id
    ids = sorted({item.file.data_file_id for item in damage})
    with catalog.metadata(lake) as opened:
        opened.execute("lock table {ducklake}.ducklake_snapshot in exclusive mode")
        snapshot = _new_snapshot(
            opened,
            f"deleted_from_table:{table_id}",
            f"{len(ids)} damaged files taken out of {damage[0].file.name}",
        )
        rows = opened.execute(
            "update {ducklake}.ducklake_data_file set end_snapshot = %(snapshot)s "
            "where data_file_id = any(%(ids)s) and end_snapshot is null returning record_count",
            snapshot=snapshot,
            ids=ids,
        )
        deleted = opened.execute(
            "update {ducklake}.ducklake_delete_file set end_snapshot = %(snapshot)s "
            "where data_file_id = any(%(ids)s) and end_snapshot is null returning delete_count",
            snapshot=snapshot,
            ids=ids,
        )
        inlined = opened.inlined_deletes(table_id)
        if inlined:
            deleted += opened.execute(
                f"delete from {{ducklake}}.{inlined} where file_id = any(%(ids)s) returning 1", ids=ids
            )
    return sum(row[0] for row in rows) - sum(row[0] for row in deleted)


# --- looking ----------------------------------------------------------------------------------------------------


def _problems(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    known: Catalog,
    files: Iterable[File],
    there: Mapping[str, Stored],
    now: datetime,
    *,
    afresh: bool,
) -> dict[str, str]:
    problems, sized = {}, {}
    for file in files:
        found = there.get(file.path)
        if found is None:
            problems[file.path] = "is missing"
        elif found.size != file.size:
            problems[file.path] = f"has {found.size:,} bytes, the catalog says {file.size:,}"
        else:
            sized[file.path] = file.rows
    footers = _footers(lake, connection, known, {path: there[path] for path in sized}, now, afresh=afresh)
    for path, rows in footers.items():
        if isinstance(rows, str):
            problems[path] = f"cannot be read: {rows}"
        elif rows != sized[path]:
            problems[path] = f"holds {rows:,} rows, the catalog says {sized[path]:,}"
    return problems


def _footers(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    known: Catalog,
    wanted: Mapping[str, Stored],
    now: datetime,
    *,
    afresh: bool,
) -> dict[str, int | str]:
    """Rows by each file's footer, or why it cannot be read; of a bucket's objects, as it was when last read."""
    if not lake.storage.is_s3:
        return footer_rows(lake, connection, list(wanted))
    beginning = len(lake.storage.root)
    with psycopg.connect(lake.catalog.conninfo()) as ledger:
        ledger.execute(_FOOTERS)
        before = ledger.execute("select path, size, written_at, rows from lakehouse.file_footers").fetchall()
        unchanged = {
            path: rows
            for name, size, written_at, rows in (() if afresh else before)
            if wanted.get(path := lake.storage.root + name) == Stored(size, written_at)
        }
        read = footer_rows(lake, connection, [path for path in wanted if path not in unchanged])
        new = [
            (path[beginning:], wanted[path].size, wanted[path].written_at, rows)
            for path, rows in read.items()
            if not isinstance(rows, str) and wanted[path].written_at < now - SETTLED
        ]
        with ledger.cursor() as cursor:
            cursor.executemany(_REMEMBER, new)
            gone = {name for name, *_ in before} - {file.path[beginning:] for file in known.files}
            cursor.execute("delete from lakehouse.file_footers where path = any(%s)", [list(gone)])
    return unchanged | read


def _deep_problems(lake: Lake, connection: duckdb.DuckDBPyConnection, files: list[File]) -> dict[str, str]:
    beginning = len(lake.storage.root)
    with psycopg.connect(lake.catalog.conninfo()) as ledger:
        ledger.execute(_DIGESTS)
        known = dict(ledger.execute("select path, sha256 from lakehouse.file_digests").fetchall())
        problems, new = {}, []
        for batch in _batches(files):
            query = "select filename, sha256(content) from read_blob(?)"
            for path, digest in connection.execute(query, [[file.path for file in batch]]).fetchall():
                before = known.get(path[beginning:])
                if before is None:
                    reason = _undecodable(connection, path)
                    if reason:
                        problems[path] = f"cannot be read: {reason}"
                    else:
                        new.append((path[beginning:], digest))
                elif before != digest:
                    problems[path] = (
                        f"has other content than when it was first checked (sha256 {digest[:12]}, was {before[:12]})"
                    )
        with ledger.cursor() as cursor:
            cursor.executemany("insert into lakehouse.file_digests (path, sha256) values (%s, %s)", new)
            gone = list(known.keys() - {file.path[beginning:] for file in catalog.read(lake).files})
            cursor.execute("delete from lakehouse.file_digests where path = any(%s)", [gone])
    return problems


def _batches(files: list[File]) -> Iterable[list[File]]:
    # DuckDB holds the content of a batch in memory.
    batch: list[File] = []
    for file in files:
        if batch and sum(each.size for each in batch) + file.size > DEEP_BATCH_BYTES:
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _undecodable(connection: duckdb.DuckDBPyConnection, path: str) -> str | None:
    try:
        connection.execute(
            f"select sum(hash(__row)::hugeint) from read_parquet({literal(path)}, hive_partitioning => false) as __row"
        ).fetchone()
    except duckdb.Error as error:
        return first_line(error)
    return None


def _damage(
    known: Catalog, files: Iterable[File], problems: Mapping[str, str], pins: Mapping[str, Mapping[int, int]]
) -> tuple[Damage, ...]:
    bad = [file for file in files if file.path in problems]
    whole = {
        name: _last_whole(known, name, [file for file in bad if file.name == name]) for name in {f.name for f in bad}
    }
    found = []
    for file in bad:
        releases = sorted(release for snapshot, release in pins.get(file.name, {}).items() if file.seen_at(snapshot))
        reach = Reach.CURRENT if file.seen_at(known.newest) else Reach.RELEASE if releases else Reach.HISTORY
        found.append(Damage(file, problems[file.path], reach, whole[file.name], tuple(releases)))
    return tuple(found)


def _last_whole(known: Catalog, name: str, bad: list[File]) -> int | None:
    for snapshot in sorted(known.snapshots, reverse=True):
        if known.exists(name, snapshot) and not any(file.seen_at(snapshot) for file in bad):
            return snapshot
    return None


def _unknown(known: Catalog, there: Mapping[str, Stored], now: datetime) -> tuple[str, ...]:
    named = {file.path for file in known.files} | known.scheduled.keys()
    return tuple(sorted(path for path, file in there.items() if path not in named and now - file.written_at > YOUNG))


def _folder(lake: Lake, file: File) -> str:
    """The folder of the file's table: below it lie its partitions."""
    parts = file.path.removeprefix(lake.storage.root).split("/")
    if file.path.startswith(lake.storage.root) and len(parts) > 2:
        return f"{lake.storage.root}{parts[0]}/{parts[1]}"
    return file.path.rpartition("/")[0]


def _pins(marts: Postgres) -> dict[str, dict[int, int]]:
    """By gold table, the snapshots that releases pin and the release of each."""
    from include.release import ledger

    found: dict[str, dict[int, int]] = {}
    for entry in ledger.entries(marts):
        for mart in entry.marts:
            found.setdefault(f"{Layer.GOLD}.{mart}", {})[entry.snapshot_id] = entry.release_id
    return found


# --- mending ----------------------------------------------------------------------------------------------------


def _repair_tables(lake: Lake, damage: Iterable[Damage]) -> list[Repair]:
    damaged: dict[str, list[Damage]] = {}
    for item in damage:
        damaged.setdefault(item.file.name, []).append(item)
    if not damaged:
        return []
    # First what says how far the others have been read.
    names = sorted(damaged, key=lambda name: (not name.startswith(f"{META_SCHEMA}."), name))
    with lake.open() as connection:
        return [_repair(lake, connection, name, damaged[name]) for name in names]


def _repair(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, damage: list[Damage]) -> Repair:
    schema, table = name.split(".", 1)
    last_whole = damage[0].last_whole
    days = _days(lake, damage) if schema == Layer.BRONZE else None
    # Before the rows go: whoever dies in between has forgotten too much, and reads again.
    if schema in REBUILT:
        _forget(connection, f"model = {literal(table)}")
    elif schema == QUARANTINE_SCHEMA:
        _forget(connection, f"model = 'gate_bronze' and source_table = {literal(table)}")
    if schema in REBUILT and last_whole is not None:
        _put_back(lake, connection, damage[0].file, last_whole)
        done = f"is back at snapshot {last_whole}"
    else:
        lost = take_out(lake, damage)
        done = f"is without the {lost:,} rows of {len(damage)} damaged files"
    if schema in REBUILT:
        return Repair(
            name, done, f"rebuild it: `lake dbt build --full-refresh --select {table}+`, or a run with full refresh"
        )
    if schema == QUARANTINE_SCHEMA:
        return Repair(name, done, "the next gate_bronze judges all of the table again")
    if schema == META_SCHEMA:
        return Repair(name, done, "the next build reads again what it no longer remembers to have read")
    if days:
        domain = table.split("_", 1)[0]
        return Repair(name, done, f"ingest again: `lake run {domain} --from {days[0]} --to {days[1]}`", days)
    return Repair(name, done, "load it again from its source")


def _put_back(lake: Lake, connection: duckdb.DuckDBPyConnection, file: File, snapshot: int) -> None:
    """Give the file's table the rows that it had at a snapshot; it stays partitioned as it is."""
    target = f"{ALIAS}.{identifier(file.schema)}.{identifier(file.table)}"
    with catalog.metadata(lake) as opened:
        keys = opened.partition_keys(file.table_id)
    with one_transaction(connection):
        connection.execute(f"create or replace table {target} as from {target} at (version => {snapshot})")
        if keys:
            connection.execute(f"alter table {target} set partitioned by ({', '.join(keys)})")


def _before_widened(
    lake: Lake, opened: catalog.Metadata, storage: duckdb.DuckDBPyConnection, table_id: int, snapshot: int
) -> dict[int, dict[str, Any]]:
    """By data file, the delete file that a commit replaced by one that holds its own deletions too.

    DuckLake takes the old one out of the catalog and schedules it for deletion in the same transaction; it names the
    data file inside.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as parquet

    folder = opened.folder(table_id)
    scheduled = opened.execute(
        "select case when path_is_relative then %(root)s || path else path end, data_file_id "
        "from {ducklake}.ducklake_files_scheduled_for_deletion "
        "join {ducklake}.ducklake_snapshot on schedule_start = snapshot_time where snapshot_id = %(snapshot)s",
        snapshot=snapshot,
    )
    data_files = {
        path.rpartition("/")[2]: file_id
        for path, file_id in opened.execute(
            "select path, data_file_id from {ducklake}.ducklake_data_file where table_id = %(id)s", id=table_id
        )
    }
    found: dict[int, dict[str, Any]] = {}
    for path, scheduled_id in scheduled:
        if not path.startswith(folder) or not path.endswith("-delete.parquet"):
            continue
        try:
            ((content,),) = storage.execute("select content from read_blob(?)", [path]).fetchall()
        except duckdb.IOException:  # not there any more
            continue
        deletions = parquet.read_table(io.BytesIO(content))
        data_file = data_files.get(deletions["file_path"][0].as_py().rpartition("/")[2])
        if data_file is not None:
            found[data_file] = {
                "scheduled_id": scheduled_id,
                "path": path.removeprefix(folder),
                "rows": deletions.num_rows,
                "size": len(content),
                "footer": int.from_bytes(content[-8:-4], "little"),
                "newest": pc.max(deletions[_WRITTEN_BY]).as_py() if _WRITTEN_BY in deletions.column_names else None,
            }
    return found


def _new_snapshot(opened: catalog.Metadata, changes: str, message: str) -> int:
    """A snapshot of ours in the catalog; the caller holds the lock on snapshots."""
    ((snapshot,),) = opened.execute(
        "insert into {ducklake}.ducklake_snapshot "
        "select snapshot_id + 1, now(), schema_version, next_catalog_id, next_file_id "
        "from {ducklake}.ducklake_snapshot order by snapshot_id desc limit 1 returning snapshot_id"
    )
    opened.execute(
        "insert into {ducklake}.ducklake_snapshot_changes (snapshot_id, changes_made, author, commit_message) "
        "values (%(snapshot)s, %(changes)s, 'lake fsck', %(message)s)",
        snapshot=snapshot,
        changes=changes,
        message=message,
    )
    return snapshot


def _forget(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Remove watermarks, so that everything is read again."""
    for name in BOOKKEEPING:
        if table_exists(connection, *name.split(".")):
            connection.execute(f"delete from {ALIAS}.{name} where {condition}")


def _days(lake: Lake, damage: list[Damage]) -> tuple[date, date] | None:
    """The days of the rows in the damaged files, by the catalog's statistics; None if it has none."""
    ids = [item.file.data_file_id for item in damage]
    with catalog.metadata(lake) as opened:
        ((first, last),) = opened.execute(
            "select min(min_value), max(max_value) from {ducklake}.ducklake_file_column_stats s "
            "where data_file_id = any(%(ids)s) and exists (select from {ducklake}.ducklake_column c "
            "where c.table_id = s.table_id and c.column_id = s.column_id and c.column_name = 'interval_date')",
            ids=ids,
        )
    if first is None:
        return None
    return date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1)
