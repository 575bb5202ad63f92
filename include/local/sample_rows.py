"""Made-up rows of a domain whose source is no database: what its `sample.py` says in SQL, as DuckDB makes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

# Of people who never were.
PSEUDONYM_KEY = "a key for people who never were"

Statements = Sequence[tuple[str, str]]
"""Stream and the query that gives its rows, of each stream."""


def rows_of(statements: Statements, stream: str) -> list[dict[str, Any]]:
    """The rows of a stream, times in UTC."""
    with _connection() as connection:
        found = connection.execute(dict(statements)[stream])
        columns = [column for column, *_ in found.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def write_rows(statements: Statements, stream: str, where: str, path: Path, options: str) -> None:
    """Those rows of a stream that a condition holds for, as a file.

    Args:
        options: of DuckDB's `copy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _connection() as connection:
        connection.execute(f"copy (from ({dict(statements)[stream]}) where {where}) to '{path}' ({options})")


def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("set TimeZone = 'UTC'")
    return connection
