"""Keeping the lake small and quick: each step says what is due, does it alone, and proves that no row has changed.

A step that was due and did nothing is an error, and so is a table whose rows differ afterwards. Rows are compared by
DuckDB's own row hash, which neither sorts nor writes text as `content_hash` does and needs no key; within one process
it is the same for the same row. What releases pin is compared with the ledger, by the ledger's hash.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg

from include.connections import Postgres
from include.errors import LakehouseError
from include.lake import catalog, locks, savepoint
from include.lake.attach import ALIAS, Lake, identifier
from include.lake.catalog import DATA, DELETE, Catalog, File
from include.lake.listing import stored
from include.lake.passfile import left_behind
from include.lake.writers import maintaining
from include.layers import Layer

if TYPE_CHECKING:
    from include.settings import Settings

# A reader that began before a file was replaced, or a writer that has not committed yet, may be about to need it.
FILE_AGE = timedelta(days=2)
REWRITE_SHARE = 0.2
DEFAULT_FILE_BYTES = 512_000_000  # DuckLake's own target_file_size

Progress = Callable[[str], None]


class MaintenanceError(LakehouseError):
    """A step did not do what was due, or changed what it must not."""


class Step(StrEnum):
    """The steps, in the order in which they belong."""

    FLUSH = "flush"
    REWRITE = "rewrite"
    MERGE = "merge"
    EXPIRE = "expire"
    CLEANUP = "cleanup"
    ORPHANS = "orphans"
    LEFTOVERS = "leftovers"


@dataclass(frozen=True)
class Keep:
    """How long things are kept. Snapshots that a retained release pins stay, and so does the newest."""

    snapshots: timedelta = timedelta(days=30)
    releases: timedelta = timedelta(days=365)
    files: timedelta = FILE_AGE

    @classmethod
    def of(cls, settings: "Settings") -> "Keep":
        return cls(timedelta(days=settings.snapshot_days), timedelta(days=settings.release_days))


@dataclass(frozen=True)
class Size:
    """Files and bytes: those that tables are read from now, and all that lie in storage."""

    live_files: int
    live_bytes: int
    stored_files: int
    stored_bytes: int


@dataclass(frozen=True)
class StepReport:
    """What a step found due and did. `due` counts by table, or by the one thing that the step removes.

    `verified` is how many tables and pinned marts were compared; 0 where nothing was due or it was a dry run.
    """

    step: Step
    dry_run: bool
    due: dict[str, int]
    unit: str
    before: Size
    after: Size
    verified: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Work:
    """What all steps get."""

    lake: Lake
    connection: duckdb.DuckDBPyConnection
    known: Catalog
    keep: Keep
    now: datetime
    pinned: frozenset[int]
    home: Path | None


def maintain(
    lake: Lake,
    marts: Postgres | None,
    *,
    steps: Sequence[Step] = tuple(Step),
    dry_run: bool = False,
    keep: Keep | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    progress: Progress = lambda text: None,
) -> list[StepReport]:
    """Run steps one after another, alone with the lake.

    Args:
        marts: the database of the ledger, whose releases pin snapshots; None only for a lake that has released nothing.
        dry_run: say what is due, change nothing.
        home: where processes leave temporary files.
        now: what ages count from.

    Raises:
        MaintenanceError: a step was due and did nothing, or rows differ afterwards; the steps before it are done.
        BusyError: somebody writes, or keeps files in place.
    """
    with maintaining(lake):
        savepoint.put_back(lake)
        with lake.open() as connection:
            return [_run(step, lake, connection, marts, dry_run, keep or Keep(), home, now, progress) for step in steps]


def pinned(connection: duckdb.DuckDBPyConnection, marts: Postgres | None, keep: Keep, now: datetime) -> frozenset[int]:
    """Snapshots that retained releases pin, and those that the lake's views show whatever the ledger says."""
    from include.release import ledger
    from include.release.certify import pinned_views

    shown = {snapshot for snapshot, _ in pinned_views(connection).values()}
    if marts is None:
        if shown:
            raise MaintenanceError("Views pin releases, but no ledger was given that says which others are retained.")
        return frozenset()
    return frozenset(shown | ledger.pinned_snapshots(marts, since=now - keep.releases))


def _run(
    step: Step,
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    marts: Postgres | None,
    dry_run: bool,
    keep: Keep,
    home: Path | None,
    now: datetime | None,
    progress: Progress,
) -> StepReport:
    started, moment = perf_counter(), now or datetime.now(UTC)
    known = catalog.read(lake)
    work = _Work(lake, connection, known, keep, moment, pinned(connection, marts, keep, moment), home)
    find, do, unit = _STEPS[step]
    progress(f"{step}: looking")
    due = find(work)
    before = after = size(work, known)
    verified = 0
    if due and not dry_run:
        progress(f"{step}: reading every table")
        rows = {} if step is Step.LEFTOVERS else fingerprints(connection, known)
        progress(f"{step}: at work")
        do(work, due)
        then = catalog.read(lake)
        still = find(replace(work, known=then))
        # How DuckLake divides files into merged ones is its own affair; a table that it left alone is not.
        allowed = {name: count - 1 if step is Step.MERGE else 0 for name, count in due.items()}
        left = {name: still[name] for name in due if still.get(name, 0) > allowed[name]}
        if left:
            raise MaintenanceError(
                f"{step} left {sum(left.values())} {unit} undone that were due, of {', '.join(sorted(left))}; nothing "
                "was lost. Run `lake fsck`, and look for this version of DuckLake in its issues."
            )
        progress(f"{step}: reading every table again")
        if step is not Step.LEFTOVERS:
            verified = _verify(step, connection, marts, known, then, rows, work.pinned)
        after = size(work, then)
    return StepReport(step, dry_run, due, unit, before, after, verified, perf_counter() - started)


def size(work: _Work, known: Catalog) -> Size:
    live = known.live()
    there = stored(work.lake, work.connection).values()
    return Size(len(live), sum(f.size for f in live), len(there), sum(f.size for f in there))


# --- proof ------------------------------------------------------------------------------------------------------


def fingerprints(connection: duckdb.DuckDBPyConnection, known: Catalog) -> dict[str, tuple[int, int]]:
    """By table, its rows and a sum over their hashes: the same rows in any order give the same pair.

    Raises:
        MaintenanceError: the count that the catalog gives is not that of a scan.
    """
    found = {}
    for table in known.tables:
        name = f"{ALIAS}.{identifier(table.schema)}.{identifier(table.table)}"
        counted = _one(connection, f"select count(*) from {name}")
        rows, hashes = _one(
            connection, f"select count(__row), coalesce(sum(hash(__row)::hugeint), 0) from {name} as __row", whole=True
        )
        if counted != rows:
            raise MaintenanceError(
                f"{table.name}: the catalog counts {counted:,} rows and a scan finds {rows:,}; run `lake fsck`."
            )
        found[table.name] = (rows, hashes)
    return found


def _verify(
    step: Step,
    connection: duckdb.DuckDBPyConnection,
    marts: Postgres | None,
    before: Catalog,
    after: Catalog,
    rows: dict[str, tuple[int, int]],
    pins: frozenset[int],
) -> int:
    changed = [name for name, found in fingerprints(connection, after).items() if found != rows.get(name)]
    changed += sorted(rows.keys() - {table.name for table in after.tables})
    if changed:
        raise MaintenanceError(
            f"{step} changed the rows of {', '.join(changed)}. Stop the pipelines; the table as it was is at snapshot "
            f"{before.newest} if that can still be read, else in a backup."
        )
    gone = [
        snapshot for snapshot in {*pins, before.newest} & before.snapshots.keys() if snapshot not in after.snapshots
    ]
    if gone:
        raise MaintenanceError(f"{step} took away snapshots {sorted(gone)} that releases pin; restore a backup.")
    return len(rows) + (_verify_releases(connection, marts, before, after, pins) if marts else 0)


def _verify_releases(
    connection: duckdb.DuckDBPyConnection, marts: Postgres, before: Catalog, after: Catalog, pins: frozenset[int]
) -> int:
    """Read every pinned mart whose files are others now, and compare it with the ledger."""
    from include.release import ledger
    from include.release.reproduce import read_content

    compared = set()
    for entry in ledger.entries(marts):
        if entry.snapshot_id not in pins or entry.snapshot_id not in before.snapshots:
            continue
        for mart in entry.marts:
            name = f"{Layer.GOLD}.{mart}"
            same = before.state(name, entry.snapshot_id) == after.state(name, entry.snapshot_id)
            if not same and (name, entry.snapshot_id) not in compared:
                read_content(connection, entry, mart)
                compared.add((name, entry.snapshot_id))
    return len(compared)


# --- steps ------------------------------------------------------------------------------------------------------

Due = dict[str, int]


def _inlined(work: _Work) -> Due:
    return {table.name: table.inlined for table in work.known.tables if table.inlined}


def _flush(work: _Work, due: Due) -> None:
    savepoint.keep(work.lake)
    try:
        # Its answer leaves out tables of which it only wrote deletions; the catalog is looked at again instead.
        work.connection.execute(f"call ducklake_flush_inlined_data('{ALIAS}')").fetchall()
    except duckdb.Error:
        with suppress(psycopg.Error):  # the catalog is away; the next maintenance does it
            savepoint.put_back(work.lake)
        raise
    savepoint.forget(work.lake)


def _often_deleted(work: _Work) -> Due:
    files = {file.file_id: file for file in work.known.live() if file.kind == DATA}
    due: Due = {}
    for delete in work.known.live():
        data = files.get(delete.data_file_id)
        if delete.kind == DELETE and data is not None and delete.rows > REWRITE_SHARE * data.rows:
            due[data.name] = due.get(data.name, 0) + 1
    return due


def _rewrite(work: _Work, due: Due) -> None:
    work.connection.execute(
        f"call ducklake_rewrite_data_files('{ALIAS}', delete_threshold => {REWRITE_SHARE})"
    ).fetchall()


def _small(work: _Work) -> Due:
    """Neighbours that DuckLake may merge: same partition and columns, nothing deleted, together below its target."""
    target = _target_bytes(work.connection)
    deleted = {file.data_file_id for file in work.known.live() if file.kind == DELETE} | _inlined_deletes(work)
    groups: dict[tuple, list[File]] = {}
    kinds = _kinds(work)
    for file in work.known.live():
        if file.kind == DATA and file.file_id not in deleted:
            groups.setdefault((file.name, *kinds[file.file_id]), []).append(file)
    due: Due = {}
    for files in groups.values():
        files.sort(key=lambda file: (file.begin, file.file_id))
        if any(one.size + other.size <= target for one, other in pairwise(files)):
            due[files[0].name] = due.get(files[0].name, 0) + len(files)
    return due


def _merge(work: _Work, due: Due) -> None:
    work.connection.execute(f"call ducklake_merge_adjacent_files('{ALIAS}')").fetchall()


def _kinds(work: _Work) -> dict[int, tuple]:
    """By data file, the version of its table's columns and its partition."""
    with catalog.metadata(work.lake) as opened:
        rows = opened.execute(
            "select f.data_file_id, f.partition_id, "
            "(select max(v.schema_version) from {ducklake}.ducklake_schema_versions v "
            " where v.table_id = f.table_id and v.begin_snapshot <= f.begin_snapshot), "
            "(select string_agg(p.partition_key_index || '=' || coalesce(p.partition_value, ''), ',' "
            " order by p.partition_key_index) from {ducklake}.ducklake_file_partition_value p "
            " where p.data_file_id = f.data_file_id) "
            "from {ducklake}.ducklake_data_file f where f.end_snapshot is null"
        )
    return {file_id: tuple(rest) for file_id, *rest in rows}


def _inlined_deletes(work: _Work) -> set[int]:
    found: set[int] = set()
    with catalog.metadata(work.lake) as opened:
        for table in work.known.tables:
            name = opened.inlined_deletes(table.table_id)
            if name:
                found |= {file_id for (file_id,) in opened.execute(f"select distinct file_id from {{ducklake}}.{name}")}
    return found


def _target_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    found = connection.execute(
        f"select value from ducklake_options('{ALIAS}') where option_name = 'target_file_size' order by scope limit 1"
    ).fetchone()
    return int(found[0]) if found else DEFAULT_FILE_BYTES


def _old_snapshots(work: _Work) -> list[int]:
    limit = work.now - work.keep.snapshots
    return [
        snapshot
        for snapshot, made_at in work.known.snapshots.items()
        if made_at < limit and snapshot not in work.pinned and snapshot != work.known.newest
    ]


def _expirable(work: _Work) -> Due:
    old = _old_snapshots(work)
    return {"snapshots": len(old)} if old else {}


def _expire(work: _Work, due: Due) -> None:
    versions = ", ".join(str(snapshot) for snapshot in _old_snapshots(work))
    work.connection.execute(f"call ducklake_expire_snapshots('{ALIAS}', versions => [{versions}])").fetchall()


def _replaced(work: _Work) -> Due:
    limit = work.now - work.keep.files
    old = [path for path, since in work.known.scheduled.items() if since < limit]
    return {"files": len(old)} if old else {}


def _cleanup(work: _Work, due: Due) -> None:
    limit = work.now - work.keep.files
    with locks.cleanup(work.lake.catalog) as held:
        held.check()
        work.connection.execute(
            f"call ducklake_cleanup_old_files('{ALIAS}', older_than => ?::timestamptz)", [limit]
        ).fetchall()
        there = stored(work.lake, work.connection)
    kept = [path for path, since in work.known.scheduled.items() if since < limit and path in there]
    if kept:
        raise MaintenanceError(f"cleanup left {len(kept)} files in storage, the first {kept[0]}; may its key delete?")


def _nameless(work: _Work) -> Due:
    paths = _orphan_paths(work)
    return {"files": len(paths)} if paths else {}


def _orphan_paths(work: _Work) -> list[str]:
    named = {file.path for file in work.known.files} | work.known.scheduled.keys()
    limit = work.now - work.keep.files
    there = stored(work.lake, work.connection)
    return [path for path, file in there.items() if path not in named and file.written_at < limit]


def _orphans(work: _Work, due: Due) -> None:
    limit = work.now - work.keep.files
    call = f"call ducklake_delete_orphaned_files('{ALIAS}', older_than => ?::timestamptz"
    with locks.cleanup(work.lake.catalog) as held:
        ours = set(_orphan_paths(work))
        theirs = {path for (path,) in work.connection.execute(f"{call}, dry_run => true)", [limit]).fetchall()}
        if not theirs <= ours:
            raise MaintenanceError(
                f"DuckLake would delete {len(theirs - ours)} files that the catalog names, the first "
                f"{min(theirs - ours)}; nothing was deleted. Run `lake fsck`."
            )
        held.check()
        work.connection.execute(f"{call})", [limit]).fetchall()


def _stale(work: _Work) -> list[Path]:
    """What killed processes left: DuckDB's spilled blocks, dlt's working folders, files of passwords.

    A running process keeps its own, by its number or because they are young.
    """
    if work.home is None:
        return []
    limit = time() - work.keep.files.total_seconds()
    places = [work.lake.temp_directory, work.home / "dlt"]
    entries = [entry for place in places if place.is_dir() for entry in place.iterdir() if entry.suffix != ".lock"]
    entries += left_behind()
    return [entry for entry in entries if _newest(entry) < limit]


def _newest(entry: Path) -> float:
    inside: Iterable[Path] = entry.rglob("*") if entry.is_dir() else ()
    return max(path.lstat().st_mtime for path in (entry, *inside))


def _left(work: _Work) -> Due:
    stale = _stale(work)
    return {"leftovers": len(stale)} if stale else {}


def _remove(work: _Work, due: Due) -> None:
    for entry in _stale(work):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


_STEPS: dict[Step, tuple[Callable[[_Work], Due], Callable[[_Work, Due], None], str]] = {
    Step.FLUSH: (_inlined, _flush, "rows"),
    Step.REWRITE: (_often_deleted, _rewrite, "files"),
    Step.MERGE: (_small, _merge, "files"),
    Step.EXPIRE: (_expirable, _expire, "snapshots"),
    Step.CLEANUP: (_replaced, _cleanup, "files"),
    Step.ORPHANS: (_nameless, _orphans, "files"),
    Step.LEFTOVERS: (_left, _remove, "leftovers"),
}


def _one(connection: duckdb.DuckDBPyConnection, query: str, *, whole: bool = False) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row if whole else row[0]
