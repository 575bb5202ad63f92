"""Restoring a backup: into the lake's own place after a loss, or aside, to look at it or to prove that it works.

Every file of the backup is read and compared with its hash before anything is touched, and what was restored is
compared with the ledger afterwards: a mart that does not hash to what was certified is an error.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from include.connections import Postgres, Storage
from include.dbt_project import Model
from include.errors import LakehouseError
from include.lake import database_dump, locks
from include.lake.attach import Lake, identifier
from include.lake.backup import (
    BACKUPS,
    CATALOG,
    DRILL,
    LEDGER,
    LEDGER_SCHEMA,
    MARTS,
    BackupError,
    Location,
    Manifest,
    Progress,
    each_of,
    kept_as,
    verify_stored,
)
from include.lake.erasures import begin_again
from include.lake.files import Files, fetch, require_space
from include.lake.writers import maintaining
from include.layers import MARTS_SCHEMA
from include.release import ledger
from include.release.content_hash import ContentHash, content_hash, select_list
from include.release.ledger import Entry
from include.release.publish import Mart
from include.release.reproduce import published_differences, read_content
from include.release.rollback import rollback
from include.release.transaction import Transaction, attach_marts

LATEST = "latest"
DRILL_NAME = "restore_drill"
LOCK_SECONDS = 60


class RestoreError(LakehouseError):
    """A restore was refused, or what it restored is not what was certified."""


@dataclass(frozen=True)
class Plan:
    """What a restore would do. `loses` says what is there now and would be gone; `roll_back_to` a release or None."""

    manifest: Manifest
    loses: tuple[str, ...]
    new_files: int
    new_size: int
    roll_back_to: int | None


@dataclass(frozen=True)
class Compared:
    """What was compared with the ledger after a restore."""

    marts: int
    rows: int


@dataclass(frozen=True)
class Restored:
    """What a restore did. `release_id` is the ledger's entry of the rollback, if there had to be one.

    `erased` are the keyed hashes of people who were erased since, and whom the backup brought back.
    """

    manifest: Manifest
    files: int
    compared: Compared
    release_id: int | None = None
    erased: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aside:
    """A backup restored beside the lake: a lake of its own, and its marts and ledger under other names."""

    lake: Lake
    marts_schema: str
    ledger_schema: str


def choose(location: Location, at: str) -> Manifest:
    """The backup that `at` means: its id, `latest`, or a release, of which the newest backup that holds it.

    Raises:
        BackupError: there is none, or its manifest is damaged.
    """
    ids = location.ids()
    if not ids:
        raise BackupError(f"{location.storage.url} holds no backup; `lake backup` makes one.")
    if at == LATEST:
        return location.manifest(ids[-1])
    if not at.isdigit():
        return location.manifest(at)
    known: set[int] = set()
    for backup_id in reversed(ids):
        manifest = location.manifest(backup_id)
        if manifest.holds(int(at)):
            return manifest
        known |= {each["release_id"] for each in manifest.releases}
    listed = f"they hold releases {min(known)} to {max(known)}" if known else "they hold no release"
    raise BackupError(f"No backup in {location.storage.url} holds release {at}; {listed}. See `lake backups`.")


def plan(lake: Lake, marts: Postgres, backups: Storage, at: str = LATEST) -> Plan:
    """What `restore` would do; reads no more of the backup than its manifest, and changes nothing."""
    location = Location(backups, lake.temp_directory)
    manifest = choose(location, at)
    there = Files.of(lake.storage, lake.temp_directory).sizes()
    new = {path: each.size for path, each in manifest.files.items() if there.get(path) != each.size}
    return Plan(manifest, _loses(lake, marts, manifest), len(new), sum(new.values()), _behind(manifest, at))


def restore(
    lake: Lake,
    marts: Postgres,
    backups: Storage,
    at: str = LATEST,
    *,
    overwrite: bool = False,
    models_of: Callable[[str], Sequence[Model]] = lambda domain: (),
    code_version: str,
    progress: Progress = lambda what, done, of: None,
) -> Restored:
    """Bring files, catalog, marts and ledger back to a backup, or with a release's id to what it published.

    Files that are there with the right content stay, and no file is deleted: those that the restored catalog does not
    name are orphans, which maintenance removes. Catalog and marts are each replaced in one transaction.

    Args:
        overwrite: a lake or marts that hold something may be lost.
        models_of: a domain's models, for the descriptions of columns; see `include.release.rollback`.

    Raises:
        BackupError: the backup is incomplete or damaged; nothing was touched.
        BusyError: somebody is writing the lake.
        RestoreError: there is something to lose, somebody is using it, or the ledger says something else than what was
            restored.
    """
    location = Location(backups, lake.temp_directory)
    with locks.one_backup(lake.catalog), maintaining(lake), locks.cleanup(lake.catalog):
        manifest = choose(location, at)
        loses = _loses(lake, marts, manifest)
        if loses and not overwrite:
            raise RestoreError(
                f"Restoring backup {manifest.backup_id} would delete: {'; '.join(loses)}. Nothing was touched; say "
                "--replace if that is what you want."
            )
        verify_stored(location, manifest, progress)
        with _dumps(location, manifest, lake.temp_directory) as dumps:
            _refuse_to_break(lake, marts, dumps)
            files = _restore_files(location, manifest, lake.storage, lake.temp_directory, progress)
            progress("restoring the databases", 0, 1)
            _restore_databases(lake, marts, manifest, dumps)
            progress("restoring the databases", 1, 1)
        compared = _compare(lake, marts, manifest, progress)
        erased = begin_again(lake, location.erasures())
    release_id = None
    target = _behind(manifest, at)
    if target is not None:
        domain = ledger.entry(marts, target).domain
        done = rollback(lake, marts, domain, target, models=models_of(domain), code_version=code_version)
        release_id = done.release_id
    return Restored(manifest, files, compared, release_id, tuple(each.subject_hash for each in erased))


def restore_aside(
    lake: Lake,
    marts: Postgres,
    backups: Storage,
    storage: Storage,
    at: str = LATEST,
    *,
    progress: Progress = lambda what, done, of: None,
) -> tuple[Manifest, Aside, Compared]:
    """Restore a backup beside the lake, which is not touched, and compare it with its own ledger.

    Args:
        storage: where the files go; must be empty. The catalog gets a schema of its own in its database,
            `restored_<backup>`, and the marts database `restored_<backup>_marts` and `…_ledger`, tables only.

    Raises:
        BackupError: the backup is incomplete or damaged.
        RestoreError: the place is taken, or what was restored is not what the ledger says.
    """
    location = Location(backups, lake.temp_directory)
    with locks.one_backup(lake.catalog):
        manifest = choose(location, at)
        aside = _aside(lake, storage, f"restored_{manifest.backup_id.lower()}")
        return manifest, aside, _restore_aside(location, manifest, aside, marts, progress)


def _aside(lake: Lake, storage: Storage, name: str) -> Aside:
    return Aside(replace(lake, storage=storage, metadata_schema=name), f"{name}_marts", f"{name}_ledger")


def _restore_aside(
    location: Location, manifest: Manifest, aside: Aside, marts: Postgres, progress: Progress
) -> Compared:
    storage, temp = aside.lake.storage, aside.lake.temp_directory
    _require_free(aside, marts)
    verify_stored(location, manifest, progress)
    with _dumps(location, manifest, temp) as dumps:
        _restore_files(location, manifest, storage, temp, progress)
        progress("restoring the databases", 0, 1)
        with database_dump.session(aside.lake.catalog) as catalog, catalog.transaction():
            _fill_catalog(catalog, dumps / CATALOG, manifest, aside.lake)
        with database_dump.session(marts) as published, published.transaction():
            names = {MARTS_SCHEMA: aside.marts_schema, LEDGER_SCHEMA: aside.ledger_schema}
            database_dump.restore(published, dumps / MARTS, names)
        progress("restoring the databases", 1, 1)
        return _compare_aside(aside, marts, dumps / LEDGER, manifest, progress)


def forget_aside(aside: Aside, marts: Postgres) -> None:
    """Remove what `restore_aside` restored; its files if they are in a folder."""
    for server, schemas in (
        (aside.lake.catalog, [aside.lake.metadata_schema]),
        (marts, [aside.marts_schema, aside.ledger_schema]),
    ):
        with database_dump.session(server) as connection, connection.transaction():
            _drop(connection, schemas)
    if not aside.lake.storage.is_s3:
        shutil.rmtree(aside.lake.storage.url, ignore_errors=True)


def drill(
    lake: Lake,
    marts: Postgres,
    backups: Storage,
    *,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, object]:
    """Restore the newest backup aside, compare every mart with the ledger, clean up; what is recorded beside it.

    Raises:
        LakehouseError: it does not restore, or it holds no mart that could be compared; recorded too.
    """
    location = Location(backups, lake.temp_directory)
    scratch = _aside(lake, Storage(str(lake.temp_directory / DRILL_NAME)), DRILL_NAME)
    started, clock = datetime.now(UTC), time.monotonic()
    with locks.one_backup(lake.catalog):
        manifest = choose(location, LATEST)
        record: dict[str, object] = {
            "backup_id": manifest.backup_id,
            "started_at": started.isoformat(),
            "success": False,
        }
        try:
            forget_aside(scratch, marts)  # what a killed drill left
            compared = _restore_aside(location, manifest, scratch, marts, progress)
            if not compared.marts:
                raise RestoreError(
                    f"Backup {manifest.backup_id} holds no certified mart, so the drill compared nothing, which proves "
                    "nothing; release first, then back up."
                )
            record |= {"success": True, "marts": compared.marts, "rows": compared.rows}
        except (LakehouseError, psycopg.Error, OSError) as error:
            record["error"] = str(error).strip()
            raise
        finally:
            record |= {"files": len(manifest.files), "bytes": manifest.size}
            record["seconds"] = round(time.monotonic() - clock, 1)
            content = json.dumps(record, indent=1).encode()
            location.files.write(f"{BACKUPS}{manifest.backup_id}/{DRILL}", content)
            forget_aside(scratch, marts)
    return record


# --- before -----------------------------------------------------------------------------------------------------------


def _loses(lake: Lake, marts: Postgres, manifest: Manifest) -> tuple[str, ...]:
    """What is there and would be gone, in words; nothing for a lake that was just set up."""
    found = []
    with database_dump.reading(lake.catalog) as connection:
        schema = lake.metadata_schema
        if _exists(connection, f"{identifier(schema)}.ducklake_table"):
            query = "select count(*), (select max(snapshot_id) from {0}.ducklake_snapshot) from {0}.ducklake_table "
            query += "where end_snapshot is null"
            ((tables, snapshot),) = connection.execute(sql.SQL(query).format(sql.Identifier(schema))).fetchall()
            if tables:
                found.append(
                    f"the catalog {schema} in database {lake.catalog.database}: {tables} tables at snapshot {snapshot} "
                    f"(the backup: {manifest.snapshot_id})"
                )
    with database_dump.reading(marts) as connection:
        releases = ledger.read_from(connection)
        if releases:
            later = [str(entry["release_id"]) for entry in releases[manifest.ledger_entries :]]
            more = f", of which {', '.join(later)} came after the backup" if later else ""
            found.append(f"the ledger in database {marts.database}: {len(releases)} entries{more}")
        query = "select count(*) from pg_class where relnamespace = to_regnamespace(%s) and relkind in ('r', 'p', 'v')"
        ((tables,),) = connection.execute(query, [MARTS_SCHEMA]).fetchall()
        if tables:
            found.append(f"schema {MARTS_SCHEMA} in database {marts.database}: {tables} tables and views")
    return tuple(found)


def _behind(manifest: Manifest, at: str) -> int | None:
    """The release to roll back to once the backup is restored, if readers of it were on a later one."""
    if not at.isdigit():
        return None
    wanted = next(each for each in manifest.releases if each["release_id"] == int(at))
    later = [
        each
        for each in manifest.releases
        if each["domain"] == wanted["domain"] and each["release_id"] > wanted["release_id"]
    ]
    return wanted["release_id"] if later and later[-1]["snapshot_id"] != wanted["snapshot_id"] else None


def _refuse_to_break(lake: Lake, marts: Postgres, dumps: Path) -> None:
    """What would fail in the middle fails here: missing roles, and views of others that stand on what is replaced."""
    for server, schemas, archive in (
        (lake.catalog, [lake.metadata_schema], CATALOG),
        (marts, [MARTS_SCHEMA, LEDGER_SCHEMA], MARTS),
    ):
        with database_dump.reading(server) as connection:
            database_dump.require_roles(connection, database_dump.definitions(dumps / archive))
            others = database_dump.outside_dependents(connection, schemas)
        if others:
            raise RestoreError(
                f"{', '.join(others)} in database {server.database} depend on what would be replaced, and the backup "
                "does not hold them. Nothing was touched; save their definitions and drop them, then restore again."
            )


def _require_free(aside: Aside, marts: Postgres) -> None:
    for server, schemas in (
        (aside.lake.catalog, [aside.lake.metadata_schema]),
        (marts, [aside.marts_schema, aside.ledger_schema]),
    ):
        with database_dump.reading(server) as connection:
            taken = database_dump.existing(connection, schemas)
        if taken:
            raise RestoreError(
                f"Database {server.database} has {', '.join(taken)} already, from an earlier restore; drop it first."
            )
    if Files.of(aside.lake.storage, aside.lake.temp_directory).sizes():
        raise RestoreError(f"{aside.lake.storage.url} is not empty; name an empty place.")


# --- restoring --------------------------------------------------------------------------------------------------------


@contextmanager
def _dumps(location: Location, manifest: Manifest, temp: Path) -> Iterator[Path]:
    """The databases' archives in a local folder."""
    temp.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="restore-", dir=temp) as name:
        folder = Path(name)
        for file, stored in manifest.dumps.items():
            _, sha256 = fetch(location.files, f"{BACKUPS}{manifest.backup_id}/{file}", folder / file)
            if sha256 != stored.sha256:
                raise BackupError(f"{file} of backup {manifest.backup_id} changed while it was restored.")
        yield folder


def _restore_files(location: Location, manifest: Manifest, storage: Storage, temp: Path, progress: Progress) -> int:
    """Bring each file of the lake that is missing or damaged back; how many."""
    target = Files.of(storage, temp)
    there = target.sizes()
    missing = sum(each.size for path, each in manifest.files.items() if there.get(path) != each.size)
    require_space(storage, missing)

    def bring(path: str) -> bool:
        stored = manifest.files[path]
        if there.get(path) == stored.size and target.sha256(path) == stored.sha256:
            return False
        with target.incoming() as incoming:
            _, sha256 = fetch(location.files, kept_as(path, stored), incoming)
            if sha256 != stored.sha256:
                raise BackupError(f"{path} of backup {manifest.backup_id} changed while it was restored.")
            target.put(path, incoming)
        return True

    brought = sum(done for _, done in each_of(bring, manifest.files, "restoring files", progress))
    target.forget_incoming()
    return brought


def _restore_databases(lake: Lake, marts: Postgres, manifest: Manifest, dumps: Path) -> None:
    with (
        database_dump.session(lake.catalog) as catalog,
        database_dump.session(marts) as published,
        catalog.transaction(),
        published.transaction(),
    ):
        for connection, schemas in ((catalog, [lake.metadata_schema]), (published, [MARTS_SCHEMA, LEDGER_SCHEMA])):
            connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
            try:
                _drop(connection, schemas)
            except psycopg.errors.LockNotAvailable:
                raise RestoreError(
                    f"Somebody has been using {', '.join(schemas)} in database {connection.info.dbname} for "
                    f"{LOCK_SECONDS} s; the databases were not touched. Pause the DAGs, let queries end, and restore "
                    "again."
                ) from None
        _fill_catalog(catalog, dumps / CATALOG, manifest, lake)
        database_dump.restore(published, dumps / MARTS)


def _fill_catalog(connection: psycopg.Connection, archive: Path, manifest: Manifest, lake: Lake) -> None:
    """The catalog's tables, told where the files are now."""
    moved = {} if manifest.metadata_schema == lake.metadata_schema else {manifest.metadata_schema: lake.metadata_schema}
    database_dump.restore(connection, archive, moved)
    schema = sql.Identifier(lake.metadata_schema)
    update = sql.SQL("update {}.ducklake_metadata set value = %s where key = 'data_path' and scope is null")
    connection.execute(update.format(schema), [lake.storage.root])
    # Backups hold no file that was only waiting for its deletion.
    connection.execute(sql.SQL("delete from {}.ducklake_files_scheduled_for_deletion").format(schema))


def _drop(connection: psycopg.Connection, schemas: Sequence[str]) -> None:
    for schema in schemas:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


# --- after ------------------------------------------------------------------------------------------------------------


def _compare(lake: Lake, marts: Postgres, manifest: Manifest, progress: Progress) -> Compared:
    """Compare what readers see, in the lake and in Postgres, with the ledger.

    Raises:
        RestoreError: something differs.
    """
    progress("comparing with the ledger", 0, 1)
    entries = ledger.entries(marts)
    _require_head(manifest, [entry.entry_hash for entry in entries])
    if not entries:
        return Compared(0, 0)
    ledger.verify(marts, lake)
    compared = _compare_lake(lake, entries)
    problems = published_differences(lake, marts)
    if problems:
        raise RestoreError(f"What was restored is not what was certified: {' '.join(problems)}")
    progress("comparing with the ledger", 1, 1)
    return compared


def _compare_aside(aside: Aside, marts: Postgres, file: Path, manifest: Manifest, progress: Progress) -> Compared:
    progress("comparing with the ledger", 0, 1)
    chain = ledger.read_file(file)
    entries = [Entry.of(raw) for raw in chain]
    _require_head(manifest, [entry.entry_hash for entry in entries])
    if not entries:
        return Compared(0, 0)
    ledger.verify_chain(chain, ledger.anchors(aside.lake))
    compared = _compare_lake(aside.lake, entries)
    with aside.lake.open(read_only=True) as connection:
        attach_marts(connection, marts, read_only=True)
        opened = Transaction(connection)
        for name, entry in _newest(entries).items():
            mart, record = Mart.of_record(name, entry.marts[name]), entry.marts[name]
            columns = ", ".join(identifier(column.name) for column in mart.fields)
            table = f"{identifier(aside.marts_schema)}.{identifier(name)}"
            source = opened.relation(f"select {columns} from {table}")
            found = content_hash(
                connection, f"(select {select_list(mart.fields)} from {source})", mart.fields, mart.key
            )
            if found != ContentHash(record["rows"], record["sha256"]):
                raise RestoreError(
                    f"Mart {name} in the backup of PostgreSQL is not what release {entry.release_id} published: "
                    f"{found.rows} rows with sha256 {found.sha256[:16]}, the ledger says {record['rows']} with "
                    f"{record['sha256'][:16]}."
                )
    progress("comparing with the ledger", 1, 1)
    return compared


def _compare_lake(lake: Lake, entries: Sequence[Entry]) -> Compared:
    newest = _newest(entries)
    with lake.open(read_only=True) as connection:
        contents = [read_content(connection, entry, name) for name, entry in newest.items()]
    return Compared(len(contents), sum(content.rows for content in contents))


def _newest(entries: Sequence[Entry]) -> Mapping[str, Entry]:
    return {name: entry for entry in entries for name in entry.marts}


def _require_head(manifest: Manifest, hashes: Sequence[str]) -> None:
    if (len(hashes), hashes[-1] if hashes else None) != (manifest.ledger_entries, manifest.ledger_head):
        raise RestoreError(
            f"The restored ledger has {len(hashes)} entries and does not end as backup {manifest.backup_id} says."
        )


def _exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("select to_regclass(%s)", [name]).fetchone() != (None,)
