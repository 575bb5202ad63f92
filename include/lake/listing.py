"""What lies in the lake's storage: one listing, with sizes and ages, of a folder or a bucket."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from include.errors import first_line
from include.lake.attach import Lake, s3_secret_sql

FOOTER_QUERY = "select file_name, num_rows from parquet_file_metadata(?)"


@dataclass(frozen=True)
class Stored:
    """A file in storage: bytes, and when it was written."""

    size: int
    written_at: datetime


def stored(
    lake: Lake, connection: duckdb.DuckDBPyConnection, folders: Iterable[str] | None = None
) -> dict[str, Stored]:
    """Every file below the lake's storage, or below some folders of it, by its full path."""
    found: dict[str, Stored] = {}
    for folder in folders if folders is not None else [lake.storage.root]:
        if lake.storage.is_s3:
            try:
                rows = connection.execute(
                    "select filename, size, last_modified from read_blob(?)", [f"{folder.rstrip('/')}/**"]
                ).fetchall()
            except duckdb.IOException as error:
                if "No files found" not in str(error):
                    raise
                rows = []
            found |= {path: Stored(size, written_at) for path, size, written_at in rows}
        else:
            _walk(folder, found)
    return found


def footer_rows(lake: Lake, connection: duckdb.DuckDBPyConnection, paths: list[str]) -> dict[str, int | str]:
    """The row count in each Parquet file's footer, or why it cannot be read."""
    if lake.storage.is_s3:
        return _bucket_footers(connection, paths)
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, int | str] = {}
    for path in paths:
        try:
            found[path] = pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as error:
            found[path] = first_line(error)
    return found


def open_storage(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A DuckDB that reads the storage and nothing else."""
    connection = duckdb.connect(":memory:", config=lake.config())
    connection.execute("set TimeZone = 'UTC'")
    if lake.storage.is_s3:
        connection.execute("load httpfs")
        connection.execute(s3_secret_sql(lake.storage))
    return connection


def _walk(folder: str, found: dict[str, Stored]) -> None:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir():
                _walk(entry.path, found)
            else:
                try:
                    status = entry.stat()
                except FileNotFoundError:  # went while we looked
                    continue
                found[entry.path] = Stored(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _bucket_footers(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> dict[str, int | str]:
    """All in one query; a file that cannot be read makes it fail, so halves are asked until it stands alone."""
    if not paths:
        return {}
    try:
        return dict(connection.execute(FOOTER_QUERY, [paths]).fetchall())
    except duckdb.Error as error:
        if len(paths) == 1:
            return {paths[0]: first_line(error)}
    middle = len(paths) // 2
    return _bucket_footers(connection, paths[:middle]) | _bucket_footers(connection, paths[middle:])
