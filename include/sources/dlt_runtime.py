"""dlt as every source here uses it: no files of the developer's, no telemetry, one lake, one DuckDB.

dlt opens DuckDB and attaches the lake anew for each step of a load, with credentials of its own making. Here its
destination borrows the connection that `Lake.open` made: the same attach for everybody, no secret in dlt's
configuration, and a third of the time.

dlt is given the columns of a load (it holds them to the contract, evolves the table and keeps the record of loads), and
its load job takes the rows from that connection, in one transaction: through dlt's files and staging table they would
be written four times (docs/decisions/0021).
"""

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import chain
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any

import duckdb

from include.errors import is_connection_lost
from include.lake import fsck
from include.lake.attach import ALIAS, RETRY_SQL, Lake, literal, one_row, one_transaction
from include.sources.errors import LoadError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

DATASET = "bronze"
CONFLICT_ATTEMPTS = 8
CONFLICTS = ("conflict", "concurrent", "already exists", "failed to commit ducklake")

SETTINGS: dict[str, Any] = {
    # What is loaded is a function of the source's answer and of the lake: dlt keeps no state between runs.
    "restore_from_destination": False,
    "enable_runtime_trace": False,
    "runtime": {"dlthub_telemetry": False, "log_level": "WARNING", "intercept_signals": False},
    "providers": {"enable_airflow_secrets": False},
    "extract": {"workers": 1},
    "normalize": {"workers": 1, "parquet_normalizer": {"add_dlt_load_id": True}},
    # One worker: dlt then loads in this thread, and the connection is shared safely.
    "load": {"workers": 1, "raise_on_max_retries": 1, "delete_completed_jobs": True},
}


# What a load replaces: whole windows (site, UTC day).
BY_WINDOW = "(site, interval_date)"
# What a load replaces: the rows of the keys that it brings, wherever they are, and its window rows.
BY_KEY = "(site, coalesce('r' || record_id, 'w' || interval_date))"


# Of a load that is given as a query, which does not say.
NEVER_NULL = ("site", "interval_date", "load_seq")
LANDING = "landing"


@dataclass(frozen=True)
class Source:
    """A load of one bronze table; see `source`."""

    table: str
    rows: "Callable[[], Iterable[Any]] | str"
    replaces: str
    local_times: tuple[str, ...] = ()


@contextmanager
def open_lake(lake: Lake, table: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake, open for writing `table`, with bronze's schema in it.

    Several processes may be the first to open it: what DuckLake makes then (its catalog, a schema) only one can make.

    Raises:
        DamageError: files of the table are missing.
    """

    def schemas() -> duckdb.DuckDBPyConnection:
        connection = lake.open()
        try:
            connection.execute(f"create schema if not exists {ALIAS}.{DATASET}")
        except BaseException:
            connection.close()
            raise
        return connection

    for attempt in range(1, CONFLICT_ATTEMPTS + 1):
        try:
            connection = schemas()
        except duckdb.Error as error:
            if attempt == CONFLICT_ATTEMPTS or not _is_conflict(error):
                raise
            _back_off(attempt)
        else:
            break
    try:
        _settle(lake, connection, table)
        yield connection
    finally:
        connection.close()


def _settle(lake: Lake, connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Undo a load whose commit stuck while its reply, and so its files, were lost; see `include.lake.fsck`."""
    bronze, staging = f"{DATASET}.{table}", f"{DATASET}_staging.{table}"
    missing = fsck.missing(lake, [bronze, staging])
    staged = [item for item in missing if item.file.name == staging]
    landed = [item for item in missing if item.file.name == bronze]
    if staged:
        log.warning("The load before left %s without its files; its rows are let go.", staging)
        fsck.take_out(lake, staged)
    if landed:
        (done,) = connection.execute(
            f"select count(*) from {ALIAS}.{DATASET}._dlt_loads where schema_name = ? and snapshot_id > ?",
            [table, min(item.file.begin for item in landed)],
        ).fetchall()
        if done != (0,):
            raise fsck.DamageError(fsck.told(landed))
        snapshot = fsck.take_back(lake, landed)
        log.warning(
            "The load before failed at snapshot %d, yet its commit stuck; %s is as before it.", snapshot, bronze
        )


@contextmanager
def working_folder(root: Path, pipeline: str) -> Iterator[Path]:
    """A fresh folder for one run of a pipeline, removed afterwards.

    What a killed run left behind is thrown away: dlt would load that old package and skip the new data.

    Raises:
        LoadError: the pipeline is running already with this root folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{pipeline}.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise LoadError(f"{pipeline} is being loaded by another process; wait for it to end.") from None
        folder = root / pipeline
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def source(
    table: str, rows: Callable[[], Iterable[Any]] | str, replaces: str, local_times: Iterable[str] = ()
) -> Source:
    """What one load brings to a bronze table: every column but `_dlt_load_id`.

    Args:
        rows: Arrow tables or record batches, called anew for each attempt; or a query for the load's own connection,
            which is quicker: rows that DuckDB has do not leave it.
        replaces: BY_WINDOW or BY_KEY.
        local_times: columns that are timestamps without a time zone, which dlt would take for UTC.
    """
    return Source(table, rows, replaces, tuple(local_times))


def load(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    pipeline: str,
    source: Source,
    folder: Path,
    partitions: Mapping[str, str],
) -> str:
    """Load a source into bronze, whose table changes in one lake transaction. Returns dlt's load id.

    A conflict with another writer of the lake (dlt's own tables are shared) is tried again.

    Args:
        partitions: how a table is partitioned when it is made, by its name: a list of expressions. dlt itself knows
            only whole columns, and a file a day makes a year twelve times slower to write than a file a month.

    Raises:
        LoadError: dlt did not load everything, or there are no rows.
    """
    import dlt
    from dlt.pipeline.exceptions import PipelineStepFailed

    for attempt in range(1, CONFLICT_ATTEMPTS + 1):
        shutil.rmtree(folder / pipeline, ignore_errors=True)
        rows = _Rows.of(connection, source)
        try:
            info = dlt.pipeline(
                pipeline,
                pipelines_dir=str(folder),
                destination=_destination(lake, connection, source, rows, partitions),
                dataset_name=DATASET,
            ).run(_columns(source, rows.schema))
        except PipelineStepFailed as failure:
            reason = failure.exception
            if attempt == CONFLICT_ATTEMPTS or not _is_conflict(reason):
                raise LoadError(f"{pipeline} could not be loaded: {_in_words(reason)}") from failure
            log.info("%s met another writer (attempt %d): %s", pipeline, attempt, reason)
            _back_off(attempt)
            continue
        if info is None or len(info.loads_ids) != 1 or info.has_failed_jobs:
            raise LoadError(f"{pipeline} loaded nothing, or not everything: {info}")
        return info.loads_ids[0]
    raise AssertionError("unreachable")


@dataclass
class _Rows:
    """The rows of one attempt: their columns, and what gives them once."""

    schema: "pa.Schema"
    query: str
    reader: "pa.RecordBatchReader | None" = None

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, source: Source) -> "_Rows":
        import pyarrow as pa

        if isinstance(source.rows, str):
            found = connection.execute(f"from ({source.rows}) limit 0").to_arrow_table().schema
            return cls(pa.schema([field.with_nullable(field.name not in NEVER_NULL) for field in found]), source.rows)
        given = iter(source.rows())
        first = next(given, None)
        if first is None:
            raise LoadError(f"{source.table} was given no rows, not even of its windows; nothing was loaded.")
        parts = (
            batch
            for part in chain([first], given)
            for batch in (part.to_batches() if isinstance(part, pa.Table) else [part])
        )
        return cls(first.schema, f"from {LANDING}", pa.RecordBatchReader.from_batches(first.schema, parts))


def _columns(source: Source, schema: "pa.Schema") -> Any:
    """A dlt source with one resource, a bronze table: its columns, for the load job to fill."""
    import dlt

    @dlt.resource(
        name=source.table,
        columns={name: {"data_type": "timestamp", "timezone": False} for name in source.local_times},
        schema_contract={"tables": "evolve", "columns": "evolve", "data_type": "freeze"},
        write_disposition="append",
    )
    def records() -> Iterator[Any]:
        yield schema.empty_table()

    @dlt.source(name=source.table)
    def one_table() -> Any:
        return records

    return one_table()


def use_settings(folder: Path) -> None:
    """Make dlt take its configuration from here alone: not from the environment, TOML files or Airflow's variables."""
    from dlt.common.configuration.container import Container
    from dlt.common.configuration.providers import CustomLoaderDocProvider
    from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
    from dlt.common.runtime.run_context import RunContext

    class Context(RunContext):
        @property
        def run_dir(self) -> str:
            return str(folder)

        local_dir = data_dir = global_dir = run_dir

        def initial_providers(self) -> list[Any]:
            return [CustomLoaderDocProvider("lakehouse", lambda: SETTINGS)]

    Container()[PluggableRunContext] = PluggableRunContext(Context(str(folder)))


def _is_conflict(error: BaseException) -> bool:
    # A commit whose reply was lost may have stuck: only the next attempt's look at the catalog tells.
    return not is_connection_lost(error) and any(word in str(error).lower() for word in CONFLICTS)


def _in_words(error: BaseException) -> str:
    # dlt puts a traceback into its message; what was raised is at its end.
    text = " ".join(re.split(r"^[\w.]+(?:Exception|Error): ", str(error), flags=re.MULTILINE)[-1].split())
    if is_connection_lost(error):
        text += " Whether the load stuck is not known; the next attempt looks before it begins."
    return text


def _back_off(attempt: int) -> None:
    time.sleep(uniform(0.1, 0.4) * attempt)  # noqa: S311


def _destination(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source, rows: _Rows, partitions: Mapping[str, str]
) -> Any:
    from dlt.common.configuration.specs import AwsCredentials
    from dlt.common.destination.client import HasFollowupJobs, RunnableLoadJob
    from dlt.common.storages.configuration import FilesystemConfiguration
    from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials
    from dlt.destinations.impl.ducklake.ducklake import DuckLakeClient
    from dlt.destinations.impl.ducklake.factory import ducklake
    from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient

    class Borrowed(DuckLakeSqlClient):
        def open_connection(self) -> duckdb.DuckDBPyConnection:
            self._conn = _like_it(connection.cursor())
            return self._conn

        def close_connection(self) -> None:
            if self._conn:
                self._conn.close()  # rolls back what is open
                self._conn = None

    class Replace(RunnableLoadJob, HasFollowupJobs):
        """What the load brings instead of what it replaces, in one transaction. The file holds no rows."""

        def __init__(self, file_path: str, load_id: str) -> None:
            super().__init__(file_path)
            self._load_id = load_id

        def run(self) -> None:
            try:
                name = self._job_client.sql_client.make_qualified_table_name(source.table)
                _replace(connection, name, source, rows, self._load_id)
            except duckdb.Error as error:
                raise DuckLakeSqlClient._make_database_exception(error) from error

    class Client(DuckLakeClient):
        def __init__(self, schema: Any, config: Any, capabilities: Any) -> None:
            super().__init__(schema, config, capabilities)
            made = self.sql_client
            self.sql_client = Borrowed(made.dataset_name, made.staging_dataset_name, made.credentials, capabilities)

        def _get_table_update_sql(self, table_name: str, new_columns: Any, generate_alter: bool) -> list[str]:
            statements = super()._get_table_update_sql(table_name, new_columns, generate_alter)
            if table_name in partitions and not generate_alter:
                table = self.sql_client.make_qualified_table_name(table_name)
                statements.append(f"alter table {table} set partitioned by ({partitions[table_name]})")
            return statements

        def create_load_job(self, prepared: Any, file_path: str, load_id: str, restore: bool = False) -> Any:
            if prepared["name"] == source.table:
                return Replace(file_path, load_id)
            return super().create_load_job(prepared, file_path, load_id, restore)

    class Destination(ducklake):
        @property
        def client_class(self) -> type:
            return Client

    storage = FilesystemConfiguration(bucket_url=lake.storage.root)
    if lake.storage.is_s3:
        # Never used, as the connection has its secret; without them dlt would look for the machine's own.
        storage.credentials = AwsCredentials(aws_access_key_id="-", aws_secret_access_key="-", region_name="-")  # noqa: S106
    credentials = DuckLakeCredentials(
        ducklake_name=ALIAS,
        metadata_schema=lake.metadata_schema,
        catalog="postgresql://-@-/-",
        storage=storage,
    )
    return Destination(credentials=credentials)


def _replace(connection: duckdb.DuckDBPyConnection, name: str, source: Source, rows: _Rows, load_id: str) -> None:
    """Land the rows and take out those that they replace, in one transaction."""
    if rows.reader is None:
        _write(connection, name, source.replaces, rows.query, load_id)
        return
    # A cursor: the reader may be a result of the connection itself, which another statement there would end.
    with closing(_like_it(connection.cursor())) as cursor:
        cursor.register(LANDING, rows.reader)
        _write(cursor, name, source.replaces, rows.query, load_id)


def _write(connection: duckdb.DuckDBPyConnection, name: str, replaces: str, query: str, load_id: str) -> None:
    mine = f"_dlt_load_id = {literal(load_id)}"
    with one_transaction(connection):
        held = connection.execute(f"select 1 from {name} limit 1").fetchone()
        connection.execute(f"insert into {name} by name select *, {literal(load_id)} as _dlt_load_id from ({query})")
        if not held:
            return
        within = "true"
        if replaces == BY_WINDOW:  # whose days say which files can hold what is replaced
            first, last = one_row(connection, f"select min(interval_date), max(interval_date) from {name} where {mine}")
            within = f"interval_date between date '{first}' and date '{last}'"
        brought = f"select {replaces} from {name} where {within} and {mine}"
        connection.execute(f"delete from {name} where {within} and not ({mine}) and {replaces} in ({brought})")


def _like_it(cursor: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A cursor with the settings of the connection that it is of, which it does not take over."""
    cursor.execute("set TimeZone = 'UTC'")
    cursor.execute(RETRY_SQL)
    cursor.execute(f"use {ALIAS}")
    return cursor
