"""What the DuckLake catalog says of the lake's files, read from its tables in PostgreSQL in one transaction."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from include.lake.attach import Lake, identifier
from include.lake.passfile import use_passwords
from include.roles import require_role

READER = "lake_reader"

DATA, DELETE = "data", "delete"

_PATHS = """
tables as (
    select distinct on (t.table_id)
        t.table_id, s.schema_name, t.table_name, t.end_snapshot,
        case when t.path_is_relative
            then case when s.path_is_relative then %(root)s || s.path else s.path end || t.path
            else t.path end as folder
    from {ducklake}.ducklake_table t join {ducklake}.ducklake_schema s using (schema_id)
    order by t.table_id, t.begin_snapshot desc, s.begin_snapshot desc
)
"""
_FILES = f"""
with {_PATHS}
select 'data', f.data_file_id, f.data_file_id, t.table_id, t.schema_name, t.table_name,
    case when f.path_is_relative then t.folder || f.path else f.path end,
    f.begin_snapshot, f.end_snapshot, f.record_count, f.file_size_bytes
from {{ducklake}}.ducklake_data_file f join tables t using (table_id)
union all
select 'delete', f.delete_file_id, f.data_file_id, t.table_id, t.schema_name, t.table_name,
    case when f.path_is_relative then t.folder || f.path else f.path end,
    f.begin_snapshot, f.end_snapshot, f.delete_count, f.file_size_bytes
from {{ducklake}}.ducklake_delete_file f join tables t using (table_id)
order by 5, 6, 2
"""
_LIVE_FILES = f"""
select * from ({_FILES}) as files (
    kind, file_id, data_file_id, table_id, schema_name, table_name, path, begin_snapshot, end_snapshot, rows, size
)
where end_snapshot is null and schema_name || '.' || table_name = any(%(names)s)
"""
_TABLES = f"""
with {_PATHS}
select table_id, schema_name, table_name, folder from tables where end_snapshot is null order by 2, 3
"""
_LIVES = """
select s.schema_name || '.' || t.table_name, t.begin_snapshot, t.end_snapshot
from {ducklake}.ducklake_table t join {ducklake}.ducklake_schema s using (schema_id)
"""
_SCHEDULED = """
select case when path_is_relative then %(root)s || path else path end, schedule_start
from {ducklake}.ducklake_files_scheduled_for_deletion
"""
_INLINED = """
select table_name from information_schema.tables
where table_schema = %(schema)s and (table_name like 'ducklake\\_inlined\\_data\\_%%\\_%%'
    or table_name like 'ducklake\\_inlined\\_delete\\_%%')
"""


@dataclass(frozen=True)
class File:
    """A Parquet file that the catalog names: seen by the snapshots `begin` to `end`, the end exclusive; None is now.

    `rows` are records of a data file, or positions in a delete file, which belongs to data file `data_file_id`.
    """

    kind: str
    file_id: int
    data_file_id: int
    table_id: int
    schema: str
    table: str
    path: str
    begin: int
    end: int | None
    rows: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    def seen_at(self, snapshot: int) -> bool:
        return self.begin <= snapshot and (self.end is None or snapshot < self.end)


@dataclass(frozen=True)
class Table:
    """A table that exists now; `inlined` are rows and deletions that the catalog itself still holds."""

    table_id: int
    schema: str
    table: str
    folder: str
    inlined: int = 0

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Catalog:
    """The catalog at one moment. Snapshots map id to time, the oldest first."""

    snapshots: dict[int, datetime]
    tables: tuple[Table, ...]
    files: tuple[File, ...]
    scheduled: dict[str, datetime] = field(default_factory=dict)
    lives: tuple[tuple[str, int, int | None], ...] = ()

    @property
    def newest(self) -> int:
        return max(self.snapshots)

    def seen(self, file: File) -> list[int]:
        """The kept snapshots that read the file."""
        return [snapshot for snapshot in self.snapshots if file.seen_at(snapshot)]

    def exists(self, name: str, snapshot: int) -> bool:
        """Whether there is a table of that name at a snapshot."""
        return any(
            life == name and begin <= snapshot and (end is None or snapshot < end) for life, begin, end in self.lives
        )

    def live(self) -> list[File]:
        return [file for file in self.files if file.end is None]

    def state(self, name: str, snapshot: int) -> frozenset[tuple[str, int, int]]:
        """The files that a table is read from at a snapshot; the same files hold the same rows."""
        return frozenset(
            (file.path, file.begin, file.rows) for file in self.files if file.name == name and file.seen_at(snapshot)
        )


@contextmanager
def metadata(lake: Lake) -> Iterator["Metadata"]:
    """A transaction on the catalog's own tables; committed at the end."""
    use_passwords(lake.catalog)
    with psycopg.connect(lake.catalog.conninfo()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield Metadata(connection, lake)


def let_read(lake: Lake) -> None:
    """Let the reading role read the catalog, with what will be made in it; repeatable.

    Raises:
        SetupError: the role does not exist; only an administrator can make it.
    """
    use_passwords(lake.catalog)
    reader = sql.Identifier(READER)
    with psycopg.connect(lake.catalog.conninfo()) as connection:
        require_role(connection, READER)
        connection.execute(sql.SQL("alter default privileges grant usage on schemas to {}").format(reader))
        connection.execute(sql.SQL("alter default privileges grant select on tables to {}").format(reader))
        owned = "select nspname from pg_namespace where pg_get_userbyid(nspowner) = current_user"
        for (schema,) in connection.execute(owned).fetchall():
            there = sql.Identifier(schema)
            connection.execute(sql.SQL("grant usage on schema {} to {}").format(there, reader))
            connection.execute(sql.SQL("grant select on all tables in schema {} to {}").format(there, reader))


class Metadata:
    """Statements on the catalog's tables; `{ducklake}` in them is its schema."""

    def __init__(self, connection: psycopg.Connection, lake: Lake) -> None:
        self._connection, self._lake = connection, lake

    def execute(self, statement: str, **values: Any) -> list[tuple]:
        query = sql.SQL(statement).format(ducklake=sql.Identifier(self._lake.metadata_schema))
        done = self._connection.execute(query, {"root": self._lake.storage.root, **values})
        return done.fetchall() if done.description else []

    def inlined_tables(self, table_id: int) -> list[str]:
        """The catalog's tables of rows that it holds itself for a table of the lake: one per version of its columns."""
        return [
            name
            for (name,) in self.execute(
                "select table_name from {ducklake}.ducklake_inlined_data_tables where table_id = %(id)s", id=table_id
            )
        ]

    def folder(self, table_id: int) -> str:
        """Where a table's files lie; ends in a slash."""
        ((folder,),) = self.execute(f"with {_PATHS} select folder from tables where table_id = %(id)s", id=table_id)
        return folder

    def partition_keys(self, table_id: int) -> list[str]:
        """The expressions by which a table of the lake is partitioned now."""
        rows = self.execute(
            "select c.column_name, k.transform from {ducklake}.ducklake_partition_info i "
            "join {ducklake}.ducklake_partition_column k using (partition_id) "
            "join {ducklake}.ducklake_column c on c.table_id = k.table_id and c.column_id = k.column_id "
            "and c.end_snapshot is null "
            "where i.table_id = %(id)s and i.end_snapshot is null order by k.partition_key_index",
            id=table_id,
        )
        names = [(identifier(column), transform) for column, transform in rows]
        return [name if transform == "identity" else f"{transform}({name})" for name, transform in names]

    def inlined_deletes(self, table_id: int) -> str | None:
        """The catalog's table of the deletions that it holds itself for a table of the lake; None if it has none."""
        name = f"ducklake_inlined_delete_{table_id}"
        query = "select 1 from information_schema.tables where table_schema = %(schema)s and table_name = %(name)s"
        return name if self.execute(query, schema=self._lake.metadata_schema, name=name) else None


def read(lake: Lake) -> Catalog:
    """The catalog as it is now."""
    with metadata(lake) as opened:
        snapshots = opened.execute("select snapshot_id, snapshot_time from {ducklake}.ducklake_snapshot order by 1")
        inlined: dict[int, int] = {}
        for (name,) in opened.execute(_INLINED, schema=lake.metadata_schema):
            ((rows,),) = opened.execute(f"select count(*) from {{ducklake}}.{name}")
            table_id = int(name.split("_")[3])
            inlined[table_id] = inlined.get(table_id, 0) + rows
        return Catalog(
            dict(snapshots),
            tuple(Table(*row, inlined.get(row[0], 0)) for row in opened.execute(_TABLES)),
            files(opened),
            dict(opened.execute(_SCHEDULED)),
            tuple(opened.execute(_LIVES)),
        )


def files(opened: Metadata) -> tuple[File, ...]:
    """Every file that some snapshot needs; what is only scheduled for deletion is not among them."""
    return tuple(File(*row) for row in opened.execute(_FILES))


def live_files(lake: Lake, tables: Collection[str]) -> list[File]:
    """The files that some tables (`schema.table`) are read from now."""
    with metadata(lake) as opened:
        return [File(*row) for row in opened.execute(_LIVE_FILES, names=list(tables))]
