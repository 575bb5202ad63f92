"""A read-only SQLAlchemy dialect for one snapshot of the lake, which is what Great Expectations speaks through.

A URL holds no secret: `ducklake://<handle>/?snapshot=42`. The handle names a connection that `engine_url` lent; a URL
whose handle nobody lent (validation results that are opened again later) opens the configured lake at that snapshot.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from duckdb_engine import ConnectionWrapper, Dialect
from sqlalchemy import pool
from sqlalchemy.dialects import registry
from sqlalchemy.engine.url import URL

from include.errors import SetupError

_lent: dict[str, duckdb.DuckDBPyConnection] = {}

registry.register("ducklake", __name__, "DuckLakeDialect")


class DuckLakeDialect(Dialect):
    """DuckDB's dialect without transactions: closing a cursor rolls back, and DuckDB then drops the rows not yet read.

    The lake is attached read-only at one snapshot, so every statement sees the same state without a transaction.
    """

    name = "ducklake"
    driver = "duckdb"
    supports_statement_cache = False

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        return pool.StaticPool

    def create_connect_args(self, url: URL) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"handle": url.host, "snapshot": url.query.get("snapshot")}

    def connect(self, *_: Any, handle: str | None = None, snapshot: str | None = None, **__: Any) -> ConnectionWrapper:
        if handle in _lent:
            return _Lent(_lent[handle])
        if snapshot is None:
            raise SetupError("A ducklake URL names no snapshot; expected ducklake:///?snapshot=<id>.")
        from include import runtime

        return ConnectionWrapper(runtime.lake().open(snapshot=int(snapshot)))

    def do_begin(self, dbapi_connection: Any) -> None:
        return None

    def do_commit(self, dbapi_connection: Any) -> None:
        return None

    def do_rollback(self, dbapi_connection: Any) -> None:
        return None


class _Lent(ConnectionWrapper):
    """A connection that its lender closes."""

    def close(self) -> None:
        return None


@contextmanager
def engine_url(connection: duckdb.DuckDBPyConnection, snapshot: int) -> Iterator[str]:
    """Lend a connection whose lake is attached read-only at `snapshot`; yields the URL by which SQLAlchemy gets it."""
    handle = secrets.token_hex(4)
    _lent[handle] = connection
    try:
        yield f"ducklake://{handle}/?snapshot={snapshot}"
    finally:
        del _lent[handle]
