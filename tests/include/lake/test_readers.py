"""The role that reads the lake, for pages and people: it sees all that is made later, and changes nothing."""

from dataclasses import replace

import duckdb
import pytest

from include.lake import catalog
from include.lake.attach import Lake
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres


@pytest.fixture
def reader(lake: Lake, server: LocalPostgres) -> Lake:
    with lake.open() as connection:
        connection.execute("create schema gold")
    catalog.let_read(lake)
    read = replace(lake, catalog=server.as_role("lake_reader", lake.catalog.database))
    use_passwords(read.catalog)
    return read


def test_reader_sees_what_is_made_later(lake: Lake, reader: Lake) -> None:
    with lake.open() as connection:
        connection.execute("create schema marts; create table gold.few as select 7 as i")
        connection.execute("create table gold.many as select range as i from range(20_000)")
        connection.execute("delete from gold.many where i < 3; create view marts.v as select * from gold.few")
    with reader.open(read_only=True) as connection:
        found = "select (select i from marts.v), (select count(*) from gold.many)"
        assert connection.execute(found).fetchall() == [(7, 19_997)]
    with reader.open(snapshot=catalog.read(reader).newest - 1) as connection:
        assert connection.execute("select count(*) from gold.many").fetchone() is not None


@pytest.mark.parametrize(
    "statement", ["insert into gold.few values (8)", "drop table gold.few", "create table gold.more as select 1 as i"]
)
def test_reader_changes_nothing(lake: Lake, reader: Lake, statement: str) -> None:
    with lake.open() as connection:
        connection.execute("create table gold.few as select 7 as i")
    with reader.open() as connection, pytest.raises(duckdb.Error, match="permission denied"):
        connection.execute(statement)
    with lake.open(read_only=True) as connection:
        assert connection.execute("select table_name, i from gold.few, duckdb_tables()").fetchall() == [("few", 7)]
