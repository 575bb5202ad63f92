"""Backups of the whole lakehouse: catalog, marts and ledger at one moment, and every file that this catalog names.

files/<path in the lake's storage>.<sha256>     Parquet never changes, so each file is copied once, for all backups
backups/<id>/catalog.zip, marts.zip             see include.lake.database_dump
backups/<id>/ledger.jsonl                       `lake verify --file` checks it anywhere
backups/<id>/manifest.json                      written last: what has none is no backup
backups/<id>/drill.json                         what the last restore drill of it found
erasures/<domain>-<hash>.json                   whom older backups hold that must not come back; a restore reads it
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from include.connections import Postgres, Storage
from include.errors import LakehouseError
from include.lake import catalog, database_dump, locks
from include.lake.attach import Lake
from include.lake.catalog import Metadata
from include.lake.erasures import Erasure, to_json
from include.lake.files import Files, fetch, require_space
from include.layers import MARTS_SCHEMA
from include.release import ledger

DATA, BACKUPS, ERASURES = "files/", "backups/", "erasures/"
MANIFEST, DRILL = "manifest.json", "drill.json"
CATALOG, MARTS, LEDGER = "catalog.zip", "marts.zip", "ledger.jsonl"
LEDGER_SCHEMA = "ledger"
FORMAT = 1
_ID = "%Y%m%dT%H%M%SZ"
WORKERS = 8  # mostly waiting for the disk or the store

# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


class BackupError(LakehouseError):
    """A backup could not be made, found or trusted."""


@dataclass(frozen=True)
class Stored:
    """A file: bytes and the hash of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that a backup is made of. `files` are those of the lake, by their path in its storage.

    Args:
        snapshot_id: the lake's last snapshot in it.
        releases: release id, domain and snapshot of each release whose snapshot the lake still had.
        ledger_head: hash of the ledger's last entry; None before the first release.
        copied: files and bytes that were new with this backup.
    """

    backup_id: str
    created_at: str
    snapshot_id: int
    metadata_schema: str
    data_path: str
    releases: list[dict[str, Any]]
    ledger_entries: int
    ledger_head: str | None
    versions: dict[str, str]
    dumps: dict[str, Stored]
    files: dict[str, Stored]
    copied: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that restoring it reads."""
        return sum(each.size for each in (*self.files.values(), *self.dumps.values()))

    @property
    def stored(self) -> dict[str, Stored]:
        """Every file of it in the backup's place."""
        dumps = {f"{BACKUPS}{self.backup_id}/{name}": each for name, each in self.dumps.items()}
        return dumps | {kept_as(path, each): each for path, each in self.files.items()}

    def holds(self, release_id: int) -> bool:
        return any(each["release_id"] == release_id for each in self.releases)

    def as_json(self) -> bytes:
        """With a hash of itself."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps({**content, "sha256": _digest(content)}, indent=1, sort_keys=True).encode()

    @classmethod
    def of_json(cls, text: bytes) -> "Manifest":
        """Read what `as_json` wrote.

        Raises:
            BackupError: it was changed or cut.
        """
        try:
            content = json.loads(text)
            intact = content.pop("sha256") == _digest(content)
            version = content.pop("format")
        except (ValueError, KeyError, AttributeError):
            raise BackupError("it is not a manifest") from None
        if not intact:
            raise BackupError("it does not have the hash that it states")
        if version != FORMAT:
            raise BackupError(f"it is of format {version} and this code reads {FORMAT}")
        for name in ("dumps", "files"):
            content[name] = {path: Stored(**each) for path, each in content[name].items()}
        return cls(**content)


@dataclass(frozen=True)
class Pruning:
    """Backups that go, and files that no kept backup needs."""

    backups: tuple[str, ...]
    files: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Plan:
    """What a backup would do now."""

    snapshot_id: int
    files: int
    new_files: int
    new_size: int
    pruning: Pruning


@dataclass(frozen=True)
class Listed:
    """One backup as `lake backups` shows it: `problem` if its manifest cannot be trusted; the last drill if any."""

    backup_id: str
    manifest: Manifest | None
    problem: str = ""
    drill: Mapping[str, Any] | None = None


class Location:
    """The place that backups are in."""

    def __init__(self, storage: Storage, temp: Path) -> None:
        self.storage = storage
        self.files = Files.of(storage, temp)

    def ids(self) -> list[str]:
        """Backups, oldest first."""
        found = self.files.sizes(BACKUPS)
        return sorted(path.split("/")[1] for path in found if path.endswith(f"/{MANIFEST}"))

    def manifest(self, backup_id: str) -> Manifest:
        """The manifest of a backup.

        Raises:
            BackupError: there is no such backup, or its manifest was changed.
        """
        try:
            return Manifest.of_json(self.files.read(f"{BACKUPS}{backup_id}/{MANIFEST}"))
        except FileNotFoundError:
            raise BackupError(f"{self.storage.url} has no backup {backup_id}; see `lake backups`.") from None
        except BackupError as error:
            raise BackupError(
                f"The manifest of backup {backup_id} in {self.storage.url} is damaged: {error}. Use another backup; "
                f"delete {BACKUPS}{backup_id} there once you have looked at it."
            ) from None

    def listed(self) -> list[Listed]:
        """Every backup, the newest first."""
        found = []
        for backup_id in reversed(self.ids()):
            try:
                found.append(Listed(backup_id, self.manifest(backup_id), drill=self.drill(backup_id)))
            except BackupError as error:
                found.append(Listed(backup_id, None, problem=str(error)))
        return found

    def drill(self, backup_id: str) -> dict[str, Any] | None:
        """What the last drill of a backup found."""
        try:
            return json.loads(self.files.read(f"{BACKUPS}{backup_id}/{DRILL}"))
        except FileNotFoundError:
            return None

    def erasures(self) -> list[bytes]:
        """The records of people who were erased; see `include.lake.erasures.to_json`."""
        return [self.files.read(path) for path in sorted(self.files.sizes(ERASURES))]

    def remember_erasure(self, erasure: Erasure) -> None:
        """Keep the record of an erasure, whatever becomes of the lake."""
        self.files.write(f"{ERASURES}{erasure.domain}-{erasure.subject_hash}.json", to_json(erasure))

    def copies(self) -> dict[str, Stored]:
        """The lake's files that are here, by their path in its storage; each got its name when it was whole."""
        found = {}
        for name, size in self.files.sizes(DATA).items():
            path, _, sha256 = name[len(DATA) :].rpartition(".")
            found[path] = Stored(size, sha256)
        return found


def backup(
    lake: Lake,
    marts: Postgres,
    storage: Storage,
    *,
    keep: int,
    code_version: str,
    progress: Progress = lambda what, done, of: None,
) -> Manifest:
    """Make a backup, then let go of those that are too old. Repeatable: what a killed one copied is not copied again.

    Writers may go on meanwhile; what they commit after the first moment is in the next backup.

    Args:
        storage: where backups are; not the lake's own.
        keep: days whose last backup is kept; of the newest day every one is.

    Raises:
        BackupError: a file that the catalog names is missing or has another size; there is no backup then.
        LockError: another backup or a cleanup runs for too long.
    """
    _require_another_place(lake.storage, storage)
    location = Location(storage, lake.temp_directory)
    with locks.one_backup(lake.catalog), locks.no_cleanup(lake.catalog) as held:
        _forget_unfinished(location)
        manifest = _dump(lake, marts, location, code_version, progress)
        manifest = _copy_files(lake, location, manifest, progress)
        held.check()
        location.files.write(f"{BACKUPS}{manifest.backup_id}/{MANIFEST}", manifest.as_json())
        prune(location, keep)
    return manifest


def plan(lake: Lake, storage: Storage, *, keep: int) -> Plan:
    """What `backup` would copy and let go; changes nothing."""
    _require_another_place(lake.storage, storage)
    location = Location(storage, lake.temp_directory)
    with database_dump.reading(lake.catalog) as connection:
        opened = Metadata(connection, lake)
        snapshot_id = _snapshots(opened, lake)[-1]
        wanted = _lake_files(opened, lake)
    new = _missing(wanted, location.copies())
    pruning = _pruning(location, keep, coming=(_id(datetime.now(UTC)), wanted))
    return Plan(snapshot_id, len(wanted), len(new), sum(new.values()), pruning)


def prune(location: Location, keep: int) -> Pruning:
    """Delete backups that are too old (see `backup`), and files that only they needed.

    The caller holds `locks.one_backup`.
    """
    pruning = _pruning(location, keep)
    for backup_id in pruning.backups:
        # First what makes it a backup: killed now, the rest is an unfinished one.
        location.files.delete([f"{BACKUPS}{backup_id}/{MANIFEST}"])
        location.files.delete(location.files.sizes(f"{BACKUPS}{backup_id}/"))
    location.files.delete(pruning.files)
    return pruning


def verify_stored(location: Location, manifest: Manifest, progress: Progress = lambda what, done, of: None) -> None:
    """Read every file of a backup and compare its hash with the manifest.

    Raises:
        BackupError: files are missing or damaged; it names the first of them.
    """
    wanted = manifest.stored
    wrong = []
    for path, found in each_of(lambda name: _sha256(location.files, name), wanted, "verifying the backup", progress):
        if found != wanted[path].sha256:
            wrong.append(f"{path} {'is missing' if found is None else 'is damaged'}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BackupError(
            f"Backup {manifest.backup_id} in {location.storage.url} cannot be trusted: "
            f"{'; '.join(sorted(wrong)[:5])}{more}. Nothing was touched. Restore another one, see `lake backups`."
        )


def each_of(
    work: Callable[[str], Any], names: Collection[str], what: str, progress: Progress
) -> Iterator[tuple[str, Any]]:
    """Do something for each name, several at a time; the first error ends it."""
    progress(what, 0, len(names))
    with ThreadPoolExecutor(WORKERS) as pool:
        started = {pool.submit(work, name): name for name in names}
        try:
            for done, future in enumerate(as_completed(started), start=1):
                yield started[future], future.result()
                progress(what, done, len(names))
        finally:
            pool.shutdown(cancel_futures=True)


# --- one moment -------------------------------------------------------------------------------------------------------


@contextmanager
def _one_moment(lake: Lake, marts: Postgres) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Both databases as they were at a moment when no release was between its two transactions."""
    with ExitStack() as stack:
        with ledger.lock(marts):
            published = stack.enter_context(database_dump.reading(marts))
            opened = stack.enter_context(database_dump.reading(lake.catalog))
        yield opened, published


def _dump(lake: Lake, marts: Postgres, location: Location, code_version: str, progress: Progress) -> Manifest:
    """The databases' part of a backup, its files still without hashes."""
    now = _free_moment(location)
    with _one_moment(lake, marts) as (connection, published):
        opened = Metadata(connection, lake)
        snapshots = _snapshots(opened, lake)
        about = dict(opened.execute("select key, value from {ducklake}.ducklake_metadata where scope is null"))
        chain = ledger.read_from(published)
        kept = set(snapshots)
        manifest = Manifest(
            backup_id=_id(now),
            created_at=now.isoformat(),
            snapshot_id=snapshots[-1],
            metadata_schema=lake.metadata_schema,
            data_path=about["data_path"],
            releases=[
                {name: entry[name] for name in ("release_id", "kind", "domain", "snapshot_id")}
                for entry in chain
                if entry["snapshot_id"] in kept
            ],
            ledger_entries=len(chain),
            ledger_head=chain[-1]["entry_hash"] if chain else None,
            versions={
                "code": code_version,
                "duckdb": duckdb.__version__,
                "ducklake": about["version"],
                "postgres": str(connection.info.server_version),
            },
            dumps={},
            files={path: Stored(size, "") for path, size in _lake_files(opened, lake).items()},
        )
        writers: dict[str, Callable[[Path], Any]] = {
            CATALOG: lambda file: database_dump.dump(connection, [lake.metadata_schema], file),
            MARTS: lambda file: database_dump.dump(published, [MARTS_SCHEMA, LEDGER_SCHEMA], file),
            LEDGER: lambda file: ledger.write_file(chain, file),
        }
        for done, (name, write) in enumerate(writers.items()):
            progress("dumping the databases", done, len(writers))
            manifest.dumps[name] = _put_new(location.files, f"{BACKUPS}{manifest.backup_id}/{name}", write)
        progress("dumping the databases", len(writers), len(writers))
    return manifest


def _put_new(files: Files, path: str, write: Callable[[Path], Any]) -> Stored:
    with files.incoming() as incoming:
        write(incoming)
        with incoming.open("rb") as file:
            stored = Stored(incoming.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
        files.put(path, incoming)
    return stored


def _snapshots(opened: Metadata, lake: Lake) -> list[int]:
    try:
        found = [row[0] for row in opened.execute("select snapshot_id from {ducklake}.ducklake_snapshot order by 1")]
    except psycopg.errors.UndefinedTable:
        found = []
    if not found:
        raise BackupError(
            f"Schema {lake.metadata_schema} of database {lake.catalog.database} holds no lake; look at connection "
            "lake_catalog and LAKE_METADATA_SCHEMA."
        )
    return found


def _lake_files(opened: Metadata, lake: Lake) -> dict[str, int]:
    """Size of every file that some snapshot needs, by its path in the storage.

    Raises:
        BackupError: one lies outside the lake's storage.
    """
    root = lake.storage.root
    found = {}
    for file in catalog.files(opened):
        if not file.path.startswith(root):
            raise BackupError(f"The lake's file {file.path} lies outside its storage {root}, which backups cover.")
        found[file.path[len(root) :]] = file.size
    return found


# --- files ------------------------------------------------------------------------------------------------------------


def _copy_files(lake: Lake, location: Location, manifest: Manifest, progress: Progress) -> Manifest:
    """Bring what is new to the backup's place; the manifest with every file's hash."""
    wanted = {path: each.size for path, each in manifest.files.items()}
    there = location.copies()
    new = _missing(wanted, there)
    require_space(location.storage, sum(new.values()))
    source = Files.of(lake.storage, lake.temp_directory)

    def copy(path: str) -> Stored:
        with location.files.incoming() as incoming:
            try:
                stored = Stored(*fetch(source, path, incoming))
            except FileNotFoundError:
                raise _unlike(lake, path, "is not there") from None
            if stored.size != new[path]:
                raise _unlike(lake, path, f"has {stored.size} bytes and the catalog says {new[path]}")
            location.files.put(kept_as(path, stored), incoming)
        return stored

    files = {path: there[path] for path in wanted if path not in new}
    files |= dict(each_of(copy, new, "copying files", progress))
    copied = {"files": len(new), "bytes": sum(new.values())}
    return replace(manifest, files=dict(sorted(files.items())), copied=copied)


def _unlike(lake: Lake, path: str, what: str) -> BackupError:
    return BackupError(
        f"File {path} in {lake.storage.url} {what}, so the lake is damaged and this backup would be; none was made. "
        "Restore it from the backup before (`lake backups`), or ingest again what it held."
    )


def _missing(wanted: Mapping[str, int], there: Mapping[str, Stored]) -> dict[str, int]:
    return {path: size for path, size in wanted.items() if path not in there or there[path].size != size}


def kept_as(path: str, stored: Stored) -> str:
    """Where a file of the lake is in the backup's place."""
    return f"{DATA}{path}.{stored.sha256}"


def _sha256(files: Files, path: str) -> str | None:
    try:
        return files.sha256(path)
    except FileNotFoundError:
        return None


# --- what goes --------------------------------------------------------------------------------------------------------


def _forget_unfinished(location: Location) -> None:
    """Delete what killed backups left, but for the lake's files, which the next one needs."""
    finished = set(location.ids())
    left = [path for path in location.files.sizes(BACKUPS) if path.split("/")[1] not in finished]
    location.files.delete(left)
    location.files.forget_incoming()


def _pruning(location: Location, keep: int, coming: tuple[str, Collection[str]] | None = None) -> Pruning:
    known = location.ids()
    kept = _kept([*known, *([coming[0]] if coming else [])], keep)
    gone = tuple(backup_id for backup_id in known if backup_id not in kept)
    # A damaged manifest stops this: nobody knows which files it needs.
    needed = {name for backup_id in known if backup_id in kept for name in location.manifest(backup_id).stored}
    stay = set(coming[1]) if coming else set()
    sizes = location.files.sizes(DATA)
    files = tuple(name for name in sizes if name not in needed and name[len(DATA) : -65] not in stay)
    return Pruning(gone, files, sum(sizes[name] for name in files))


def _kept(ids: Sequence[str], keep: int) -> set[str]:
    """All of the newest day, and the last of each day before it, `keep` days in all."""
    last_of_day = {backup_id[:8]: backup_id for backup_id in sorted(ids)}
    days = sorted(last_of_day)[-max(keep, 1) :]
    return {last_of_day[day] for day in days} | {each for each in ids if each[:8] == days[-1]}


def _id(moment: datetime) -> str:
    return f"{moment:{_ID}}"


def made_at(backup_id: str) -> datetime:
    """When a backup was begun, in UTC: it is named after that."""
    return datetime.strptime(backup_id, _ID).replace(tzinfo=UTC)


def _free_moment(location: Location) -> datetime:
    """Now, or the first second after it that no backup is named after."""
    moment = datetime.now(UTC).replace(microsecond=0)
    known = set(location.ids())
    while _id(moment) in known:
        moment += timedelta(seconds=1)
    return moment


def _require_another_place(lake: Storage, backups: Storage) -> None:
    inside = backups.root.startswith(lake.root)
    if inside and lake.endpoint == backups.endpoint:
        raise BackupError(
            f"Connection lake_backup names {backups.url}, which is inside the lake's own storage {lake.url}; backups "
            "must survive its loss: name another place, best on another machine."
        )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
