"""The columns of a table, read from the database that a domain will read: by a session that may only read."""

from dataclasses import dataclass

import psycopg

from include.connections import Connection, Postgres
from include.errors import first_line
from include.scaffold.kinds import postgres_type
from include.scaffold.names import ScaffoldError
from include.scaffold.spec import Column

COLUMNS = """
    select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute a
    where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
KEY = """
    select a.attname::text from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = to_regclass(%s) and i.indisprimary order by array_position(i.indkey::int2[], a.attnum)
"""


@dataclass(frozen=True)
class Table:
    """A table as the database describes it; `key` are the columns of its primary key, if it has one."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]


def read_table(connection: Connection, schema: str, name: str) -> Table:
    """A table of a PostgreSQL database.

    Raises:
        ScaffoldError: the database does not answer, or has no such table that the role may see.
    """
    server = Postgres.of(connection)
    table = ".".join(f'"{part}"' for part in (schema, name))
    options = "-c default_transaction_read_only=on -c statement_timeout=20000"
    try:
        with psycopg.connect(server.conninfo(), password=server.password, options=options) as session:
            found = session.execute(COLUMNS, [table]).fetchall()
            key = tuple(column for (column,) in session.execute(KEY, [table]).fetchall())
    except psycopg.Error as error:
        raise ScaffoldError(
            f"The database of connection {connection.conn_id} could not be read: {first_line(error)}. Correct the "
            "connection, or say the columns yourself (--columns)."
        ) from error
    if not found:
        raise ScaffoldError(
            f"The database of connection {connection.conn_id} has no table {schema}.{name}, or the role may not see "
            "it. Say which schema (--schema), or grant select on it."
        )
    columns = tuple(Column(name, kind, postgres_type(kind, known_only=False) or "varchar") for name, kind in found)
    return Table(columns, key)
