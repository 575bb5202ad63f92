import duckdb
import pytest

from include.lake.attach import Lake


def test_lake_written_in_one_process_is_read_in_another(lake: Lake) -> None:
    with lake.open() as writer:
        writer.execute("create schema gold; create table gold.t as select 42 as answer")
    with lake.open(read_only=True) as reader:
        assert reader.execute("select answer from gold.t").fetchone() == (42,)


def test_read_only_lake_refuses_a_write(lake: Lake) -> None:
    lake.open().close()
    with lake.open(read_only=True) as reader, pytest.raises(duckdb.Error, match="read-only"):
        reader.execute("create schema gold")


def test_snapshot_shows_the_lake_as_it_was(lake: Lake) -> None:
    with lake.open() as writer:
        writer.execute("create schema gold; create table gold.t as select 1 as version")
        row = writer.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()
        writer.execute("update gold.t set version = 2")
    assert row is not None
    with lake.open(snapshot=row[0]) as reader:
        assert reader.execute("select version from gold.t").fetchone() == (1,)


def test_no_password_shows_in_what_duckdb_knows_of_the_catalog(lake: Lake) -> None:
    assert lake.catalog.password
    with lake.open() as connection:
        shown = str(connection.execute("select * from duckdb_databases()").fetchall())
    assert lake.catalog.host in shown
    assert lake.catalog.password not in shown
    assert lake.catalog.password not in repr(lake)
