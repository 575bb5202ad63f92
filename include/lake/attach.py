"""How everybody here opens the lake: one DuckDB, one attach, the same options."""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from include.connections import Postgres, Storage
from include.errors import SetupError
from include.lake.passfile import use_passwords
from include.lake.writers import hold

ALIAS = "dl"
log = logging.getLogger(__name__)
# Of a commit that another has overtaken. DuckLake's own 10 tries run out when several writers commit at once, and its
# own waits (0.1 s, each half as long again) keep who lost a few times waiting until the others have ended.
RETRY_SQL = "set ducklake_max_retry_count = 100; set ducklake_retry_wait_ms = 20; set ducklake_retry_backoff = 1.05"


class Column(NamedTuple):
    """A column of a table of the lake, with DuckDB's name of its type."""

    name: str
    kind: str
    nullable: bool


@dataclass(frozen=True)
class Lake:
    """Where the lake is and how much of the machine one process may use. Opening it needs nothing else."""

    catalog: Postgres
    storage: Storage
    extensions: Path
    temp_directory: Path
    metadata_schema: str = "ducklake"
    memory_limit: str = "4GB"
    threads: int | None = field(default=None)

    def config(self) -> dict[str, str | bool | int]:
        """DuckDB's options, for any client that opens the lake (dlt, dbt and GX have their own connections)."""
        options: dict[str, str | bool | int] = {
            "extension_directory": str(self.extensions),
            "autoinstall_known_extensions": False,
            # Verifying signatures costs 0.3 s an open; the lock's hashes have verified the wheels that these come from.
            "allow_unsigned_extensions": True,
            "temp_directory": self.spill_directory(),
            "memory_limit": self.memory_limit,
        }
        if self.threads:
            options["threads"] = self.threads
        return options

    def spill_directory(self) -> str:
        """A folder that no other DuckDB has: all name their temporary files alike, and would read each other's.

        DuckDB makes it when it first spills and takes it away when it closes; `lake maintain` clears what a killed
        process left.
        """
        return str(self.temp_directory / f"duckdb-{uuid.uuid4().hex[:12]}")

    def attach_sql(self, *, snapshot: int | None = None, read_only: bool = False) -> str:
        """The ATTACH statement; holds no secret."""
        options = [f"data_path {literal(self.storage.root)}"]
        options.append(f"metadata_schema {literal(self.metadata_schema)}")
        if snapshot is not None:
            options.append(f"snapshot_version {int(snapshot)}")
        if read_only or snapshot is not None:
            options.append("read_only")
        target = literal(f"ducklake:postgres:{self.catalog.conninfo()}")
        return f"attach {target} as {ALIAS} ({', '.join(options)})"

    def prepare(
        self, connection: duckdb.DuckDBPyConnection, *, snapshot: int | None = None, read_only: bool = False
    ) -> None:
        """Load extensions and secrets into an open DuckDB and attach the lake as `dl`.

        Raises:
            SetupError: the catalog belongs to another storage.
            duckdb.Error: the catalog does not answer. The storage is first asked when rows are read or written.
        """
        use_passwords(self.catalog)
        connection.execute("load ducklake; load postgres_scanner; set TimeZone = 'UTC'")
        connection.execute(RETRY_SQL)
        if self.storage.is_s3:
            connection.execute("load httpfs")
            connection.execute(s3_secret_sql(self.storage))
        try:
            connection.execute(self.attach_sql(snapshot=snapshot, read_only=read_only))
        except duckdb.Error as error:
            if "does not match existing data path" in str(error):
                raise SetupError(
                    f"The catalog in database {self.catalog.database} was made for another place than "
                    f"{self.storage.url}, which connection lake_storage names; correct the connection, or use the "
                    "catalog that belongs to this place."
                ) from error
            raise
        connection.execute(f"use {ALIAS}")

    def open(self, *, snapshot: int | None = None, read_only: bool = False) -> duckdb.DuckDBPyConnection:
        """A new in-memory DuckDB with the lake attached as `dl` and made the default database.

        Args:
            snapshot: read the lake as it was at this snapshot; implies read_only.
            read_only: refuse every write to the lake.

        Raises:
            BusyError: opened for writing while maintenance runs; see `include.lake.writers`.
        """
        self.temp_directory.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(":memory:", config=self.config())
        try:
            if snapshot is None and not read_only:
                hold(self, connection)
            self.prepare(connection, snapshot=snapshot, read_only=read_only)
        except BaseException:
            connection.close()
            raise
        return connection


def table_exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    """Whether the attached lake has the table or view, at the snapshot that the connection reads.

    Asked by binding it, which takes a tenth of what DuckDB takes to list all tables of the lake.
    """
    try:
        connection.execute(f"select 1 from {ALIAS}.{identifier(schema)}.{identifier(table)} limit 0")
    except duckdb.CatalogException:
        return False
    return True


def columns_of(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[Column]:
    """The table's columns, in order, at the snapshot that the connection reads; none if there is no such table."""
    query = (
        "select column_name, data_type, is_nullable from duckdb_columns() "
        "where database_name = ? and schema_name = ? and table_name = ? order by column_index"
    )
    return [Column(*row) for row in connection.execute(query, [ALIAS, str(schema), table]).fetchall()]


def one_row(
    connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | Mapping[str, Any] = ()
) -> tuple[Any, ...]:
    """The row of a query that gives one, such as an aggregate over a table."""
    row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return row


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """End a transaction that failed, without hiding why it did."""
    try:
        connection.rollback()
    except duckdb.Error as error:
        # The first error is the one to report; closing the connection ends what is left.
        log.debug("Rolling back: %s", error)


@contextmanager
def one_transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A transaction: committed at the end, rolled back on any error, which is the one that is raised."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        roll_back(connection)
        raise


def s3_secret_sql(storage: Storage) -> str:
    """A DuckDB secret scoped to the lake's bucket."""
    fields = [f"region {literal(storage.region)}", f"scope {literal(storage.root)}"]
    if storage.key_id:
        fields += [f"key_id {literal(storage.key_id)}", f"secret {literal(storage.secret or '')}"]
    if storage.session_token:
        fields.append(f"session_token {literal(storage.session_token)}")
    if storage.endpoint:
        scheme, _, host = storage.endpoint.rstrip("/").rpartition("://")
        use_ssl = "true" if scheme == "https" else "false"
        fields += [f"endpoint {literal(host)}", "url_style 'path'", f"use_ssl {use_ssl}"]
    return f"create or replace secret lake_storage (type s3, {', '.join(fields)})"


def literal(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
