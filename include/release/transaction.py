"""One Postgres transaction that DuckDB drives, so that rows travel as binary COPY and are read back before commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import psycopg

from include.connections import Postgres
from include.errors import ReleaseError, first_line, is_connection_lost
from include.lake.attach import ALIAS, literal, one_transaction
from include.lake.passfile import use_passwords

ATTACHED = "pg"


@dataclass(frozen=True)
class Transaction:
    """A DuckDB with the lake as `dl` and the marts database as `pg`, inside a transaction.

    Everything sent through it to Postgres runs on one connection there, at repeatable read.
    """

    connection: duckdb.DuckDBPyConnection

    def execute(self, statement: str) -> None:
        """Run a Postgres statement."""
        self.connection.execute(f"call postgres_execute('{ATTACHED}', {literal(statement)})")

    def query(self, statement: str) -> list[tuple]:
        """The rows of a Postgres query, as it sees its own uncommitted changes."""
        return self.connection.execute(f"from {self.relation(statement)}").fetchall()

    def relation(self, statement: str) -> str:
        """A Postgres query as something that may follow FROM in DuckDB."""
        return f"postgres_query('{ATTACHED}', {literal(statement)})"

    def forget_catalog(self) -> None:
        """Make DuckDB see tables that `execute` made or changed."""
        self.connection.execute("call pg_clear_cache()")


def attach_marts(connection: duckdb.DuckDBPyConnection, marts: Postgres, *, read_only: bool = False) -> None:
    """Attach the marts database to an open DuckDB as `pg`."""
    use_passwords(marts)
    options = "type postgres, read_only" if read_only else "type postgres"
    connection.execute(f"attach {literal(marts.conninfo())} as {ATTACHED} ({options})")


def require_snapshot(connection: duckdb.DuckDBPyConnection, snapshot_id: int) -> None:
    """Check that the lake has a snapshot: without it, reading a table says something else in other words.

    Raises:
        ReleaseError: it never existed or was expired.
    """
    query = f"select true from ducklake_snapshots('{ALIAS}') where snapshot_id = ?"
    if connection.execute(query, [snapshot_id]).fetchone() is None:
        raise ReleaseError(
            f"The lake has no snapshot {snapshot_id}: it never existed or was expired. `lake releases` lists the "
            "snapshots that releases are made of."
        )


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, marts: Postgres) -> Iterator[Transaction]:
    """A transaction on the marts database in a DuckDB that has the lake; commit at the end, roll back on any error."""
    attach_marts(connection, marts)
    with one_transaction(connection):
        opened = Transaction(connection)
        # While DuckDB hashes a big mart this connection has nothing to do.
        opened.execute("set local idle_in_transaction_session_timeout = 0")
        opened.execute("set local statement_timeout = 0")
        # A lock before the first query, so that the snapshot of this transaction is taken once it holds it: a killed
        # release may still be committing. Readers are not blocked.
        opened.execute("lock table ledger.releases in share row exclusive mode")
        yield opened


@contextmanager
def lost_connections_told() -> Iterator[None]:
    """Say what a lost connection means for a release, and what to do.

    Raises:
        ReleaseError: the connection to a database was lost; whether the last commit stuck is not known.
    """
    try:
        yield
    except (duckdb.Error, psycopg.Error) as error:
        if not is_connection_lost(error):
            raise
        raise ReleaseError(
            f"The connection to PostgreSQL was lost while releasing ({first_line(error)}); whether it was made "
            "is not known. Readers have the release before or this one, whole. Release again: what was made is not "
            "made twice, and views that lag are repointed.",
            retryable=True,
        ) from error
