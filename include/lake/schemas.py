"""The lake's schemas, and which tables may keep rows in the catalog.

DuckLake puts a write of a few rows into the catalog instead of a file. Where a model or a gate writes two or three rows
at a time, that spares many small files. A table of a layer is written by the day: there it spares little, and whoever
reads the table pays: DuckLake loads the whole catalog once more for each version at which the table could have such
rows, 13 ms each for 80 tables, before the first row is read; and the catalog gets a table for each that is created.
"""

from collections.abc import Iterable

import duckdb

from include.lake.attach import ALIAS
from include.layers import MARTS_SCHEMA, META_SCHEMA, QUARANTINE_SCHEMA, Layer

EVERY = (*Layer, MARTS_SCHEMA, QUARANTINE_SCHEMA, META_SCHEMA)


def ensure(connection: duckdb.DuckDBPyConnection, schemas: Iterable[str] = EVERY) -> None:
    """Create what is missing; repeatable. Tables that are there keep the rows that they have in the catalog."""
    for schema in schemas:
        connection.execute(f"create schema if not exists {ALIAS}.{schema}")
        if schema in list(Layer):
            connection.execute(f"call {ALIAS}.set_option('data_inlining_row_limit', 0, schema => '{schema}')")
