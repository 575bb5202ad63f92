"""Erasing one person from every layer, from what is older, and from what lies beside it; see ADR 0019.

The person is taken out of bronze and quarantine by making these tables anew; silver, gold and the marts are built and
released anew from that. Then every earlier incarnation of the domain's tables is taken out of the catalog, with its
statistics and inlined rows, and files that nothing names any more are deleted. Each stage is recorded when it is done,
so a command that was killed goes on where it was.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from include import dbt_project
from include.connections import Postgres
from include.erasure.people import STAGING, Person, Place, SubjectError, look_up, places, recall
from include.erasure.search import Search, in_pages, search
from include.errors import GateError, LakehouseError
from include.interval import Interval
from include.lake import catalog, erasures, locks, savepoint
from include.lake.attach import ALIAS, Lake, columns_of, identifier, one_row, one_transaction
from include.lake.catalog import Metadata
from include.lake.erasures import Erasure
from include.lake.files import Files
from include.lake.listing import open_storage, stored
from include.lake.writers import maintaining
from include.layers import MARTS_SCHEMA, META_SCHEMA, QUARANTINE_SCHEMA, Layer
from include.release import ledger
from include.sources.subjects import Subject, subjects

RUN = "forget__"
MAKING = "__forget"
log = logging.getLogger(__name__)

Progress = Callable[[str], None]
Rebuild = Callable[[], None]


class ErasureError(LakehouseError):
    """An erasure could not end; what it did is recorded, and the same command goes on."""


@dataclass(frozen=True)
class Plan:
    """What an erasure would do. Nothing of it names the person.

    Attributes:
        rows: rows about the person by table, as the tables are now.
        snapshots: kept snapshots that hold tables of the domain, which lose them.
        releases: releases of the domain that can be reproduced now and could not be afterwards.
        pages: files of results of gates that may show the person; they would be deleted.
        rebuilt: tables that would be built anew.
    """

    domain: str
    hashed: str
    rows: dict[str, int]
    snapshots: tuple[int, ...]
    releases: tuple[int, ...]
    pages: int
    rebuilt: tuple[str, ...]


@dataclass(frozen=True)
class Forgotten:
    """An erasure that is done.

    Attributes:
        files: files that were deleted from the lake's storage.
        pages: files of results of gates that were deleted.
        given_up: releases that can no longer be reproduced.
    """

    erasure: Erasure
    files: int
    pages: int
    given_up: tuple[int, ...]
    search: Search


@dataclass(frozen=True)
class Domain:
    """What an erasure needs to know of a domain, and how its layers are built anew.

    Attributes:
        rebuild: builds silver and gold with a full refresh; the lake is this process's alone meanwhile.
        key: the password of the connection `<domain>_pseudonym`.
        home: where dlt works and an erasure keeps what it has to look for, until it is done.
    """

    name: str
    subjects: Mapping[str, Subject]
    key: str
    rebuild: Rebuild
    home: Path
    quality_dir: Path

    @classmethod
    def of(cls, name: str, key: str, rebuild: Rebuild, home: Path, quality_dir: Path) -> "Domain":
        return cls(name, subjects(name), key, rebuild, home, quality_dir)

    @property
    def columns(self) -> tuple[str, ...]:
        """What names a person, wherever a table has it."""
        return max((subject.columns for subject in self.subjects.values()), key=len)

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """Tables of silver and gold, by layer."""
        return {
            layer.value: tuple(model.name for model in dbt_project.models(layer, self.name))
            for layer in (Layer.SILVER, Layer.GOLD)
        }

    def owns(self, schema: str, table: str) -> bool:
        """Whether a table, of whatever time, is one that an erasure makes anew."""
        if schema in (Layer.SILVER.value, Layer.GOLD.value):
            return table.split("__dbt_")[0] in self.models[schema]
        name = table.removesuffix(MAKING)
        if schema in (Layer.BRONZE.value, STAGING, QUARANTINE_SCHEMA):
            return name in self.subjects and bool(self.subjects[name].columns)
        return schema == META_SCHEMA and name == "quarantine_applied" and self.columns == ("site",)


def plan(lake: Lake, marts: Postgres, domain: Domain, wanted: str) -> Plan:
    """What `forget` would do; changes nothing.

    Raises:
        SubjectError: the lake knows nobody like that.
    """
    person = _person(lake, domain, wanted)
    with lake.open(read_only=True) as connection:
        rows = {place.name: _count(connection, place, person) for place in places(connection, domain.subjects)}
        layers = domain.models
        built = [
            (schema, table)
            for schema, tables in layers.items()
            for table in tables
            if columns_of(connection, schema, table)
        ]
        for schema, table in built:
            if {column.name for column in columns_of(connection, schema, table)} >= set(domain.columns):
                place = Place(schema, table, erasures.subject_sql(domain.columns))
                rows[place.name] = _count(connection, place, person)
    known = catalog.read(lake)
    mine = [life for life in known.lives if domain.owns(*life[0].split(".", 1))]
    holding = tuple(
        snapshot
        for snapshot in known.snapshots
        if any(begin <= snapshot and (end is None or snapshot < end) for _, begin, end in mine)
    )
    releases = tuple(
        entry.release_id for entry in ledger.entries(marts, domain.name) if entry.snapshot_id in known.snapshots
    )
    _, pages = in_pages(domain.quality_dir, person, domain.columns)
    rebuilt = tuple(sorted(f"{schema}.{table}" for schema, table in built))
    return Plan(domain.name, person.hashed, rows, holding, releases, len(pages), rebuilt)


def begun(domain: Domain, wanted: str) -> bool:
    """Whether an erasure of the person was begun from this home and has not ended."""
    return _remembered(domain, wanted) is not None


def forget(
    lake: Lake,
    marts: Postgres,
    domain: Domain,
    wanted: str,
    *,
    by: str,
    code_version: str,
    progress: Progress = lambda text: None,
) -> Forgotten:
    """Erase a person, alone with the lake; begun before and not ended, it goes on where it was.

    Args:
        wanted: `site/id`, or the id alone where only one site has it.
        by: who asked; kept.

    Raises:
        SubjectError: the lake knows nobody like that, or it is not clear who is meant.
        GateError: a layer without the person does not pass its gate; readers have the release before. Mend it, and
            give the same command again.
        ErasureError: the person was found after all; it says where.
        BusyError: somebody writes.
    """
    with maintaining(lake):
        savepoint.put_back(lake)
        person = _remembered(domain, wanted) or _person(lake, domain, wanted)
        work = _Work(lake, marts, domain, person, code_version, progress)
        work.begin(by)
        work.take_out()
        work.rebuild()
        work.release()
        given_up = work.purge()
        files = work.delete_files()
        pages = work.delete_pages()
        return work.done(files, pages, given_up)


def _person(lake: Lake, domain: Domain, wanted: str) -> Person:
    person = look_up(lake, domain.subjects, wanted, domain.key)
    if person is not None:
        return person
    with lake.open(read_only=True) as connection:
        before = erasures.find(connection, domain.name, erasures.subject_hash(domain.key, wanted))
        recalled = recall(connection, domain.name, wanted, domain.key)
    if recalled is not None and before is not None and before.finished_at is None:
        return recalled
    when = f"; they were erased on {before.finished_at:%Y-%m-%d}" if before and before.finished_at else ""
    raise SubjectError(
        f"Nobody in {domain.name} is {wanted!r}{when}. Expected {'/'.join(domain.columns)} of a row in bronze or "
        "quarantine. Nothing was changed."
    )


# --- what is being looked for, kept until it is not found any more --------------------------------------------------


def _note(domain: Domain, hashed: str) -> Path:
    return domain.home / "forget" / f"{domain.name}-{hashed[:32]}.json"


def _remember(domain: Domain, person: Person) -> None:
    path = _note(domain, person.hashed)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(vars(person)))
    partial.replace(path)


def _remembered(domain: Domain, wanted: str) -> Person | None:
    """Who an unfinished erasure in this home is about, as bronze may have forgotten it."""
    for path in sorted((domain.home / "forget").glob(f"{domain.name}-*.json")):
        kept = json.loads(path.read_text())
        if kept["subject"] == wanted or kept["subject"].endswith(f"/{wanted}"):
            return Person(kept["subject"], kept["hashed"], tuple(kept["identifiers"]), kept["shared"])
    return None


# --- stages ---------------------------------------------------------------------------------------------------------


class _Work:
    """One erasure, stage by stage. Connections to the lake are short: dbt and the gates open their own."""

    def __init__(
        self, lake: Lake, marts: Postgres, domain: Domain, person: Person, code_version: str, progress: Progress
    ) -> None:
        self._lake, self._marts, self._domain, self._person = lake, marts, domain, person
        self._code_version, self._progress = code_version, progress
        self._erasure: Erasure

    @property
    def _run_id(self) -> str:
        return f"{RUN}{self._person.short}__{self._erasure.requested_at:%Y%m%dT%H%M%S}"

    def _advance(self, connection: duckdb.DuckDBPyConnection, stage: str, **values: Any) -> None:
        self._erasure = erasures.advance(connection, self._erasure, stage, **values)

    def begin(self, by: str) -> None:
        # First what ingest asks, so that nobody comes back from now on.
        _remember(self._domain, self._person)
        with self._lake.open() as connection:
            self._erasure = erasures.begin(connection, self._domain.name, self._person.hashed, by)

    def take_out(self) -> None:
        """Make every table that ingest and the bronze gate write anew, without the person."""
        if self._erasure.has(erasures.TAKEN_OUT):
            return
        with self._lake.open() as connection:
            found = places(connection, self._domain.subjects)
            if not self._erasure.counts:  # killed among the tables, the first of them would be found empty
                counts = {place.name: _count(connection, place, self._person) for place in found}
                self._advance(connection, erasures.REQUESTED, counts=counts)
            for place in found:
                self._progress(f"taking out of {place.name}")
                self._remake(connection, place)
            ((snapshot,),) = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()
            self._advance(connection, erasures.TAKEN_OUT, snapshot_id=snapshot)

    def _remake(self, connection: duckdb.DuckDBPyConnection, place: Place) -> None:
        """A new table in the place of the old: deleting rows would leave them in files, statistics and the catalog."""
        columns = columns_of(connection, place.schema, place.table)
        known = {table.name: table.table_id for table in catalog.read(self._lake).tables}
        with catalog.metadata(self._lake) as opened:
            keys = opened.partition_keys(known[place.name])
        new_name = f"{ALIAS}.{identifier(place.schema)}.{identifier(place.table + MAKING)}"
        spelled = ", ".join(
            f"{identifier(name)} {kind}{'' if nullable else ' not null'}" for name, kind, nullable in columns
        )
        stays = f"({place.subject}) is distinct from $subject"
        values = {"subject": self._person.subject}
        expected = _digest(connection, f"from {place.quoted} where {stays}", values)
        with one_transaction(connection):
            connection.execute(f"drop table if exists {new_name}")
            connection.execute(f"create table {new_name} ({spelled})")
            if keys:
                connection.execute(f"alter table {new_name} set partitioned by ({', '.join(keys)})")
            connection.execute(f"insert into {new_name} select * from {place.quoted} where {stays}", values)
            if _digest(connection, f"from {new_name}") != expected:
                raise ErasureError(
                    f"{place.name} would not hold the other people's rows as they are; it was left as it is. Run "
                    "`lake fsck --deep`, then give this command again."
                )
            connection.execute(f"drop table {place.quoted}")
            connection.execute(f"alter table {new_name} rename to {identifier(place.table)}")
            message = f"{self._person.short} taken out of {place.name}"
            connection.execute(f"call {ALIAS}.set_commit_message('lake forget', ?)", [message])

    def rebuild(self) -> None:
        """Silver and gold are what bronze says: built anew, they hold nothing of the person."""
        if self._erasure.has(erasures.REBUILT):
            return
        self._progress("building silver and gold anew")
        self._domain.rebuild()
        since = self._erasure.snapshot_id or 0
        with catalog.metadata(self._lake) as opened:
            rows = opened.execute(
                "select s.schema_name, t.table_name, min(all_of.begin_snapshot) from {ducklake}.ducklake_table t "
                "join {ducklake}.ducklake_table all_of using (table_id) "
                "join {ducklake}.ducklake_schema s on s.schema_id = t.schema_id "
                "where t.end_snapshot is null group by 1, 2"
            )
        layers = (Layer.SILVER, Layer.GOLD)
        stale = [
            f"{schema}.{table}"
            for schema, table, begin in rows
            if schema in layers and self._domain.owns(schema, table) and begin <= since
        ]
        if stale:
            raise ErasureError(
                f"{', '.join(sorted(stale))} were not built anew, so they may hold the person; build them with "
                "--full-refresh, and give this command again."
            )
        with self._lake.open() as connection:
            self._advance(connection, erasures.REBUILT)

    def release(self) -> None:
        """What readers see from now on, through the gates that every release passes."""
        if self._erasure.has(erasures.RELEASED):
            return
        last = ledger.last(self._marts, self._domain.name)
        made = last if last is not None and last.dag_run_id == self._run_id else None
        if last is not None and made is None:
            nobody_left = not any(self._rows_of_marts())
            made = self._withdraw() if nobody_left else self._certify(last.interval)
        with self._lake.open() as connection:
            values = {"release_id": made.release_id, "entry_hash": made.entry_hash} if made else {}
            self._advance(connection, erasures.RELEASED, **values)

    def _certify(self, interval: Interval) -> ledger.Entry:
        from include.quality.gate import run_gate
        from include.quality.suites import suite
        from include.release.certify import release

        domain, gates = self._domain, []
        for layer in Layer:
            self._progress(layer.gate)
            checks = suite(domain.name, layer)
            try:
                result = run_gate(
                    self._lake,
                    domain.name,
                    layer,
                    interval,
                    self._run_id,
                    domain.quality_dir,
                    suite=checks.without_load() if layer is Layer.BRONZE else checks,
                )
            except GateError as error:
                raise GateError(
                    f"{error} The person is out of bronze, silver and gold, but readers still have release "
                    f"{ledger.last(self._marts, domain.name).release_id}, which holds them, until this gate passes. "  # type: ignore[union-attr]
                    "Mend it and give this command again."
                ) from error
            gates.append(result.summary())
        self._progress("releasing")
        return release(
            lake=self._lake,
            marts=self._marts,
            models=dbt_project.marts(domain.name),
            domain=domain.name,
            interval=interval,
            dag_run_id=self._run_id,
            snapshot_id=gates[-1]["snapshot_id"],
            gates=gates,
            code_version=self._code_version,
            progress=self._progress,
        ).entry

    def _rows_of_marts(self) -> list[int]:
        with self._lake.open(read_only=True) as connection:
            marts = self._domain.models[Layer.GOLD]
            return [one_row(connection, f"select count(*) from {Layer.GOLD}.{identifier(mart)}")[0] for mart in marts]

    def _withdraw(self) -> ledger.Entry:
        """Readers get empty marts: the person was the only one, and gates cannot certify nothing."""
        from include.release.certify import withdraw

        self._progress("withdrawing the marts, which have no rows any more")
        return withdraw(
            lake=self._lake,
            marts=self._marts,
            models=dbt_project.marts(self._domain.name),
            domain=self._domain.name,
            dag_run_id=self._run_id,
            code_version=self._code_version,
            progress=self._progress,
        ).entry

    def purge(self) -> tuple[int, ...]:
        """Take earlier incarnations of the domain's tables out of the catalog, and the snapshots of its releases."""
        entries = ledger.entries(self._marts)
        mine = [entry for entry in entries if entry.domain == self._domain.name]
        current = mine[-1].snapshot_id if mine else None
        others = {entry.snapshot_id for entry in entries if entry.domain != self._domain.name}
        given_up = tuple(entry.release_id for entry in mine if entry.snapshot_id != current)
        if self._erasure.has(erasures.PURGED):
            return given_up
        self._progress("taking older versions out of the catalog")
        with catalog.metadata(self._lake) as opened:
            opened.execute("lock table {ducklake}.ducklake_snapshot in exclusive mode")
            ended = self._ended(opened)
            if ended:
                _take_out_of_catalog(opened, self._lake, ended)
        old = {entry.snapshot_id for entry in mine} - {current} - others
        with self._lake.open() as connection:
            known = catalog.read(self._lake)
            due = sorted(old & known.snapshots.keys() - {known.newest})
            if due:
                versions = ", ".join(map(str, due))
                connection.execute(f"call ducklake_expire_snapshots('{ALIAS}', versions => [{versions}])").fetchall()
            self._advance(connection, erasures.PURGED)
        return given_up

    def _ended(self, opened: Metadata) -> list[int]:
        rows = opened.execute(
            "select t.table_id, s.schema_name, t.table_name, t.end_snapshot is null from {ducklake}.ducklake_table t "
            "join {ducklake}.ducklake_schema s using (schema_id)"
        )
        live = {table_id for table_id, *_, is_live in rows if is_live}
        return sorted({row[0] for row in rows if row[0] not in live and self._domain.owns(row[1], row[2])})

    def delete_files(self) -> int:
        """Delete what no snapshot names any more; nobody writes meanwhile, so nothing is about to be named."""
        self._progress("deleting files")
        with locks.cleanup(self._lake.catalog) as held, open_storage(self._lake) as connection:
            named = {file.path for file in catalog.read(self._lake).files}
            root = self._lake.storage.root
            there = (path for path in stored(self._lake, connection) if path.endswith(".parquet"))
            gone = [path for path in there if path not in named]
            held.check()
            Files.of(self._lake.storage, self._lake.temp_directory).delete(path.removeprefix(root) for path in gone)
            with catalog.metadata(self._lake) as opened:
                opened.execute("delete from {ducklake}.ducklake_files_scheduled_for_deletion")
        return len(gone)

    def delete_pages(self) -> int:
        """Results of gates that may show the person, and what dlt and a killed erasure have left."""
        self._progress("deleting results that show the person")
        _, found = in_pages(self._domain.quality_dir, self._person, self._domain.columns)
        for path in found:
            path.unlink()
        for table in self._domain.subjects:
            shutil.rmtree(self._domain.home / "dlt" / table, ignore_errors=True)
        return len(found)

    def done(self, files: int, pages: int, given_up: Sequence[int]) -> Forgotten:
        """Look for the person everywhere; only then is it done."""
        self._progress("vacuuming PostgreSQL")
        _vacuum(self._lake.catalog, [self._lake.metadata_schema])
        _vacuum(self._marts, [MARTS_SCHEMA])
        self._progress("searching")
        domain, person = self._domain, self._person
        found = search(self._lake, self._marts, person, domain.columns, domain.quality_dir)
        if found.traces:
            raise ErasureError(
                f"{person.short} of {domain.name} is still in {'; '.join(map(str, found.traces[:10]))}. The erasure is "
                "not done: see docs/how-to/forget-a-person.md, and give this command again."
            )
        with self._lake.open() as connection:
            self._advance(connection, erasures.DONE, finished_at=datetime.now(UTC))
        _note(domain, person.hashed).unlink(missing_ok=True)
        return Forgotten(self._erasure, files, pages, tuple(given_up), found)


def _take_out_of_catalog(opened: Metadata, lake: Lake, table_ids: Sequence[int]) -> None:
    """As expiry does for tables that no snapshot reads; these go for all snapshots that still do.

    DuckLake has no statement for that: it expires snapshots whole, and other domains' releases pin some of them.
    """
    ids = list(table_ids)
    for table_id in ids:
        for name in opened.inlined_tables(table_id):
            opened.execute(f"drop table if exists {{ducklake}}.{identifier(name)}")
        deletes = opened.inlined_deletes(table_id)
        if deletes:
            opened.execute(f"drop table {{ducklake}}.{identifier(deletes)}")
    about = opened.execute(
        "select c.table_name, c.column_name from information_schema.columns c "
        "join information_schema.tables t using (table_schema, table_name) where table_schema = %(schema)s "
        "and t.table_type = 'BASE TABLE' and ((c.column_name = 'table_id' and c.table_name not like "
        "'ducklake\\_inlined\\_%%\\_%%\\_%%') or (c.table_name = 'ducklake_tag' and c.column_name = 'object_id'))",
        schema=lake.metadata_schema,
    )
    for table, column in about:
        opened.execute(f"delete from {{ducklake}}.{identifier(table)} where {column} = any(%(ids)s)", ids=ids)


def _vacuum(server: Postgres, schemas: Sequence[str]) -> None:
    """Give back the room of deleted rows; their bytes are overwritten by and by."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        rows = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname = any(%s) and tableowner = current_user",
            [list(schemas)],
        ).fetchall()
        for schema, table in rows:
            connection.execute(sql.SQL("vacuum {}").format(sql.Identifier(schema, table)))


def _count(connection: duckdb.DuckDBPyConnection, place: Place, person: Person) -> int:
    (count,) = one_row(
        connection, f"select count(*) from {place.quoted} where {place.subject} = $subject", {"subject": person.subject}
    )
    return count


def _digest(connection: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any] | None = None) -> tuple:
    query = f"select count(*), coalesce(sum(hash(__row)::hugeint), 0) from ({rows}) as __row"
    return one_row(connection, query, values or {})
