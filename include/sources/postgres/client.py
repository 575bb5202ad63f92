"""One source database through DuckDB's postgres extension: read only, a short transaction for each question.

Measured against dlt's `sql_database` (docs/decisions/0018): several times as fast, with numeric and timestamptz exact.
`postgres_query` runs its text at the source as one `COPY` inside `begin ... read only`; in autocommit the transaction
ends with the statement.
"""

import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import uniform
from typing import Any, TypeVar

import duckdb

from include.connections import Connection, Postgres
from include.errors import SourceError, is_connection_lost
from include.lake.attach import identifier, literal
from include.lake.passfile import use_passwords
from include.sources.errors import AccessError, SchemaError
from include.sources.postgres.databases import Database
from include.sources.postgres.streams import Stream

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_numbers = itertools.count(1)
REFUSED = (
    "authentication failed",
    "no password supplied",
    "permission denied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
)
MISSING = ("does not exist",)
NAME = re.compile(r"[a-z_][a-z0-9_]*")
# PostgreSQL's types that DuckDB reads exactly; every other is read as its text.
EXACT = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "double precision": "DOUBLE",
    "date": "DATE",
    "bytea": "BLOB",
}


@dataclass(frozen=True)
class Patience:
    """How long a database is waited for, in seconds, and how often a question is asked again."""

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0
    statement_timeout: float = 120.0


@dataclass(frozen=True)
class Column:
    """A column of a source table: its type there, its type in bronze, and what reads the one as the other."""

    name: str
    kind: str
    duckdb_type: str
    select: str

    @classmethod
    def of(cls, name: str, kind: str, cast: str | None = None) -> "Column":
        """A column as it is read; `cast` is a PostgreSQL type to read it as."""
        if cast is None and kind == "real":
            cast = "double precision"
        value = identifier(name) if cast is None else f"({identifier(name)})::{cast}"
        duckdb_type = _duckdb_type(cast or kind)
        if duckdb_type is None:
            return cls(name, kind, "VARCHAR", f"({value})::text")
        return cls(name, kind, duckdb_type, value)


class DatabaseClient:
    """Questions to one database. Use as a context manager: it attaches the database to a DuckDB and detaches it."""

    def __init__(self, database: Database, connection: Connection, patience: Patience | None = None) -> None:
        """Raises: SetupError: the connection names no server, role or database."""
        self.database = database
        self._target = Postgres.of(connection)
        self._patience = patience or Patience()
        self._alias = f"source_{next(_numbers)}"
        self._duckdb: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def attached(self, connection: duckdb.DuckDBPyConnection) -> Iterator["DatabaseClient"]:
        """The database attached to a DuckDB.

        Raises:
            SourceError: it does not answer.
            AccessError: it refuses the role.
        """
        use_passwords(self._target)
        limit = round(self._patience.statement_timeout * 1000)
        options = f"-c statement_timeout={limit} -c default_transaction_read_only=on -c TimeZone=UTC"
        conninfo = f"{self._target.conninfo()} options='{options}' application_name=lakehouse"
        attach = f"attach {literal(conninfo)} as {self._alias} (type postgres, read_only)"
        self._duckdb = connection
        self._again("be reached", lambda: connection.execute(attach))
        try:
            yield self
        finally:
            self._duckdb = None
            with suppress(duckdb.Error):
                connection.execute(f"detach {self._alias}")

    def remote(self, sql: str) -> str:
        """What stands in a `from` for the answer to a query in PostgreSQL's SQL."""
        return f"postgres_query('{self._alias}', {literal(sql)})"

    def ask(self, sql: str, values: Sequence[Any] = (), *, what: str = "answer") -> Any:
        """Run DuckDB's SQL over `remote`; asked again if the connection was lost, so it must be safe to repeat.

        Raises:
            SourceError: see `attached`; a query that took too long says so.
        """
        assert self._duckdb is not None
        connection = self._duckdb
        return self._again(what, lambda: connection.execute(sql, list(values)))

    def columns(self, stream: Stream) -> dict[str, Column]:
        """The columns of a table as they are now, in order.

        Raises:
            SourceError: there is no such table, or it lacks what the stream relies on.
            SchemaError: a column's name cannot be bronze's.
        """
        table = f"{identifier(self.database.schema)}.{identifier(stream.name)}"
        sql = (
            "select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as kind from pg_attribute a "
            f"where a.attrelid = to_regclass({literal(table)}) and a.attnum > 0 and not a.attisdropped "
            "order by a.attnum"
        )
        found = self.ask(f"from {self.remote(sql)}", what=f"describe {table}").fetchall()
        if not found:
            raise SourceError(
                f"{self}: there is no table {table}, or the role may not see it; expected the table of stream "
                f"{stream.name}. Correct the schema in the databases file, or grant select on it.",
                retryable=False,
            )
        columns = {name: Column.of(name, kind, stream.casts.get(name)) for name, kind in found}
        needed = {*stream.key, stream.day, stream.updated_at, *stream.casts}
        if missing := sorted(needed - set(columns)):
            raise SourceError(
                f"{self}: {table} has no column {', '.join(missing)}, which stream {stream.name} relies on; correct "
                "the stream, or read a view that has it.",
                retryable=False,
            )
        if odd := sorted(name for name in columns if not NAME.fullmatch(name)):
            raise SchemaError(
                f"{self}: {table} has columns {', '.join(map(repr, odd))}; bronze takes lower case letters, digits "
                "and _ only. Read a view that names them so."
            )
        return columns

    def __str__(self) -> str:
        return (
            f"Database {self.database.database} ({self._target.database} at {self._target.host}, connection "
            f"{self.database.connection_id})"
        )

    def _again(self, what: str, ask: Callable[[], Answer]) -> Answer:
        patience, wait = self._patience, self._patience.first_wait
        for attempt in range(1, patience.attempts + 1):
            try:
                return ask()
            except duckdb.Error as error:
                reason = _reason(error)
                if not is_connection_lost(error) or _is_refused(reason):
                    raise self._told(what, reason) from error
                if attempt == patience.attempts:
                    raise SourceError(
                        f"{self} could not {what} in {attempt} attempts: {reason}", retryable=True
                    ) from error
                log.warning("%s was lost (attempt %d): %s", self, attempt, reason)
                time.sleep(wait * uniform(0.7, 1.3))  # noqa: S311
                wait = min(2 * wait, patience.longest_wait)
        raise AssertionError("unreachable")

    def _told(self, what: str, reason: str) -> SourceError:
        if _is_refused(reason):
            return AccessError(
                f"{self} refused role {self._target.user}: {reason} Correct the connection, or grant the role what it "
                "may read."
            )
        if "statement timeout" in reason:
            return SourceError(
                f"{self} could not {what} within {self._patience.statement_timeout:g} s (statement timeout). An index "
                "on the column that tells of changes makes it quick; smaller pages (`page_rows` of the stream) do too.",
                retryable=True,
            )
        return SourceError(f"{self} could not {what}: {reason}", retryable=not any(word in reason for word in MISSING))


def _duckdb_type(kind: str) -> str | None:
    """DuckDB's type of a PostgreSQL type that it reads exactly; None for one that is read as text."""
    if kind in EXACT:
        return EXACT[kind]
    if re.fullmatch(r"timestamp(\(\d\))? with time zone|timestamptz", kind):
        return "TIMESTAMP WITH TIME ZONE"
    if re.fullmatch(r"timestamp(\(\d\))?( without time zone)?", kind):
        return "TIMESTAMP"
    # Without a precision, or with more than 38 digits, no decimal of DuckDB holds it.
    if found := re.fullmatch(r"numeric\((\d+),\s*(\d+)\)", kind):
        digits, scale = int(found[1]), int(found[2])
        return f"DECIMAL({digits},{scale})" if scale <= digits <= 38 else None
    return None


def _is_refused(reason: str) -> bool:
    missing = re.search(r'(role|database) "[^"]*" does not exist', reason)
    return missing is not None or any(words in reason for words in REFUSED)


def _reason(error: duckdb.Error) -> str:
    """What PostgreSQL said, without DuckDB's words around it."""
    text = " ".join(str(error).split())
    text = re.split(r"(?:FATAL|ERROR): +", text)[-1]
    return text.rpartition("failed: ")[2].rstrip(".") + "."
