"""A look at a database before it is read: needs no lake and changes nothing."""

from collections.abc import Iterable, Iterator

import duckdb

from include.connections import Connection
from include.lake.attach import Lake, identifier, literal
from include.sources.postgres.client import DatabaseClient
from include.sources.postgres.databases import Database
from include.sources.postgres.streams import Stream


def look(
    lake: Lake, database: Database, connection: Connection, streams: Iterable[Stream]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Each stream's name, columns, estimated rows, newest change and whether an index finds changes.

    Args:
        lake: for DuckDB's options only; it is not opened.

    Raises:
        SourceError: the database does not answer, or lacks what a stream relies on.
    """
    with duckdb.connect(":memory:", config=lake.config()) as duck:
        duck.execute("load postgres_scanner; set TimeZone = 'UTC'")
        with DatabaseClient(database, connection).attached(duck) as client:
            for stream in streams:
                columns = client.columns(stream)
                table = f"{identifier(database.schema)}.{identifier(stream.name)}"
                sql = f"""
                    select (select max({identifier(stream.updated_at)}) from {table}) as newest,
                        (select reltuples::bigint from pg_class where oid = {literal(table)}::regclass) as rows,
                        exists (
                            select from pg_index i join pg_attribute a on a.attrelid = i.indrelid
                            and a.attnum = i.indkey[0]
                            where i.indrelid = {literal(table)}::regclass and a.attname = {literal(stream.updated_at)}
                        ) as is_indexed
                """
                newest, rows, is_indexed = client.ask(f"from {client.remote(sql)}", what=f"read {table}").fetchone()
                moment = f"{newest:%Y-%m-%d %H:%M} UTC" if newest else "none"
                yield stream.name, str(len(columns)), f"{rows:,}", moment, "yes" if is_indexed else "no"
