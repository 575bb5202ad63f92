"""The catalog as it was before a step that cannot be repeated: `flush` moves rows out of the catalog into files.

When the COMMIT of such a step sticks and its reply is lost, DuckLake deletes the files, and the rows are nowhere. So
the catalog's tables are copied beside it first, for as long as the step takes, by somebody who is alone with the lake.
"""

import logging

import psycopg
from psycopg import sql

from include.lake import catalog
from include.lake.attach import Lake
from include.lake.listing import open_storage, stored
from include.lake.passfile import use_passwords

log = logging.getLogger(__name__)

_TABLES = "select table_name::text from information_schema.tables where table_schema = %s"


def keep(lake: Lake) -> None:
    """Copy the catalog."""
    with _open(lake) as connection:
        _drop(lake, connection)
        connection.execute(sql.SQL("create schema {}").format(_aside(lake)))
        for table in _tables(connection, lake.metadata_schema):
            connection.execute(
                sql.SQL("create table {}.{} as table {}.{}").format(
                    _aside(lake), sql.Identifier(table), sql.Identifier(lake.metadata_schema), sql.Identifier(table)
                )
            )


def forget(lake: Lake) -> None:
    """Drop the copy."""
    with _open(lake) as connection:
        _drop(lake, connection)


def put_back(lake: Lake) -> bool:
    """If there is a copy: give the catalog back what it had, should the step's commit have stuck without its files.

    Returns whether it did. The copy is gone afterwards.
    """
    with _open(lake) as connection:
        kept = _tables(connection, _name(lake))
        if not kept:
            return False
        newest = sql.SQL("select max(snapshot_id) from {}.ducklake_snapshot")
        schema = sql.Identifier(lake.metadata_schema)
        connection.execute(sql.SQL("lock table {}.ducklake_snapshot in exclusive mode").format(schema))
        ((now,),) = connection.execute(newest.format(schema)).fetchall()
        ((then,),) = connection.execute(newest.format(_aside(lake))).fetchall()
        lost = _lacks_files(lake)
        if lost and now == then + 1:
            for table in {*_tables(connection, lake.metadata_schema)} - {*kept}:
                connection.execute(sql.SQL("drop table {}.{}").format(schema, sql.Identifier(table)))
            there = _tables(connection, lake.metadata_schema)
            for table in kept:
                names = schema, sql.Identifier(table), _aside(lake), sql.Identifier(table)
                if table in there:
                    connection.execute(sql.SQL("truncate {}.{}").format(*names[:2]))
                    connection.execute(sql.SQL("insert into {}.{} table {}.{}").format(*names))
                else:
                    connection.execute(sql.SQL("create table {}.{} as table {}.{}").format(*names))
            log.warning("A flush had stuck without its files; the catalog is back at snapshot %d.", then)
        elif lost:
            log.warning("Files are missing, and others have written since the flush; `lake fsck` says which.")
        _drop(lake, connection)
        return lost and now == then + 1


def _lacks_files(lake: Lake) -> bool:
    with open_storage(lake) as connection:
        there = stored(lake, connection)
    return any(file.path not in there for file in catalog.read(lake).live())


def _open(lake: Lake) -> psycopg.Connection:
    use_passwords(lake.catalog)
    return psycopg.connect(lake.catalog.conninfo())


def _tables(connection: psycopg.Connection, schema: str) -> list[str]:
    return [name for (name,) in connection.execute(_TABLES, [schema]).fetchall()]


def _drop(lake: Lake, connection: psycopg.Connection) -> None:
    connection.execute("set local client_min_messages = warning")
    connection.execute(sql.SQL("drop schema if exists {} cascade").format(_aside(lake)))


def _name(lake: Lake) -> str:
    return f"{lake.metadata_schema}_before_flush"


def _aside(lake: Lake) -> sql.Identifier:
    return sql.Identifier(_name(lake))
