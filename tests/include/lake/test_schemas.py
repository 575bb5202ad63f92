"""What set-up makes of a lake's schemas: layers keep no rows in the catalog, bookkeeping does."""

import psycopg
import pytest

from include.lake import schemas
from include.lake.attach import Lake
from include.layers import Layer


def in_catalog(lake: Lake) -> set[str]:
    with psycopg.connect(lake.catalog.conninfo()) as connection:
        found = connection.execute(
            "select t.table_name from ducklake.ducklake_inlined_data_tables "
            "join ducklake.ducklake_table as t using (table_id)"
        )
        return {name for (name,) in found.fetchall()}


@pytest.mark.parametrize("schema", schemas.EVERY)
def test_a_table_of_a_layer_keeps_no_rows_in_the_catalog(lake: Lake, schema: str) -> None:
    with lake.open() as connection:
        schemas.ensure(connection)
        schemas.ensure(connection)
        connection.execute(f"create table dl.{schema}.few (day date, i bigint)")
        connection.execute(f"alter table dl.{schema}.few set partitioned by (month(day))")
        connection.execute(f"insert into dl.{schema}.few values ('2026-03-01', 1), ('2026-04-01', 2)")
        connection.execute(f"delete from dl.{schema}.few where i = 1")
        assert connection.execute(f"from dl.{schema}.few").fetchall() != []
    assert in_catalog(lake) == (set() if schema in list(Layer) else {"few"})


def test_rows_that_a_table_kept_in_the_catalog_before_are_still_its_rows(lake: Lake) -> None:
    with lake.open() as connection:
        connection.execute("create schema dl.bronze")
        connection.execute("create table dl.bronze.few as select 1 as i")
        assert in_catalog(lake) == {"few"}
        schemas.ensure(connection)
        connection.execute("insert into dl.bronze.few values (2)")
        assert sorted(connection.execute("from dl.bronze.few").fetchall()) == [(1,), (2,)]
        connection.execute("call ducklake_flush_inlined_data('dl')")
        assert sorted(connection.execute("from dl.bronze.few").fetchall()) == [(1,), (2,)]
