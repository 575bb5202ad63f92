"""The lake on S3, through DuckDB's httpfs and an S3 server over HTTP that checks signatures."""

import time
from dataclasses import replace
from urllib.parse import urlsplit

import duckdb
import pytest

from include.connections import Storage
from include.errors import SetupError
from include.lake.attach import Lake, s3_secret_sql
from tests.conftest import objects

ROWS = 20_000  # enough for Parquet files: the catalog itself holds a few rows
WRITE = f"create schema if not exists gold; create table gold.t as select range as i from range({ROWS})"


def test_rows_written_to_the_bucket_are_read_by_another_process_of_the_lake(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
    with s3_lake.open(read_only=True) as reader:
        assert reader.execute("select count(*), sum(i) from gold.t").fetchone() == (ROWS, ROWS * (ROWS - 1) // 2)
    files = objects(s3_lake.storage)
    assert files
    assert all(name.startswith("warehouse/gold/t/") and name.endswith(".parquet") for name in files)
    assert not any(s3_lake.temp_directory.rglob("*.parquet"))


def test_snapshot_in_the_bucket_shows_the_table_before_a_delete(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
        before = writer.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()
        writer.execute(f"delete from gold.t where i >= {ROWS // 2}")
        writer.execute("update gold.t set i = -1 where i = 0")
        assert writer.execute("select count(*), min(i) from gold.t").fetchone() == (ROWS // 2, -1)
    assert before is not None
    with s3_lake.open(snapshot=before[0]) as reader:
        assert reader.execute("select count(*), min(i) from gold.t").fetchone() == (ROWS, 0)


def test_read_only_lake_in_a_bucket_refuses_writes_and_leaves_no_object(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
    before = objects(s3_lake.storage)
    with s3_lake.open(read_only=True) as reader:
        for write in ("delete from gold.t", "drop table gold.t", "create table gold.u as select 1 as i"):
            with pytest.raises(duckdb.Error, match="read-only"):
                reader.execute(write)
    assert objects(s3_lake.storage) == before


def test_expired_rows_leave_the_bucket(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
        (first,) = objects(s3_lake.storage)
        writer.execute(f"create or replace table gold.t as select range as i from range({ROWS}, {2 * ROWS})")
        writer.execute("call ducklake_expire_snapshots('dl', older_than => now())")
        writer.execute("call ducklake_cleanup_old_files('dl', cleanup_all => true)")
        assert writer.execute("select min(i) from gold.t").fetchone() == (ROWS,)
    assert first not in objects(s3_lake.storage)


def test_failed_transaction_changes_nothing_in_a_bucket(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
        with pytest.raises(duckdb.Error):
            writer.execute("begin; delete from gold.t; insert into gold.t select i / 0, i from gold.t; commit")
        writer.execute("rollback")
    with s3_lake.open(read_only=True) as reader:
        assert reader.execute("select count(*) from gold.t").fetchone() == (ROWS,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"secret": "wrong-secret-of-somebody"}, "403.*SignatureDoesNotMatch"),
        ({"key_id": "UNKNOWNKEY", "secret": "wrong-secret-of-somebody"}, "403.*InvalidAccessKeyId"),
    ],
)
def test_refused_key_names_the_place_and_the_reason_but_no_secret(
    s3_lake: Lake, change: dict[str, str], says: str
) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
    assert s3_lake.storage.secret
    refused = replace(s3_lake, storage=replace(s3_lake.storage, **change))
    bucket = urlsplit(s3_lake.storage.url).netloc
    for statement in ("select sum(i) from gold.t", f"insert into gold.t from range({ROWS})"):
        with refused.open() as connection, pytest.raises(duckdb.Error, match=f"(?s){says}") as raised:
            connection.execute(statement)
        assert bucket in str(raised.value)
        for secret in (s3_lake.storage.secret, change["secret"]):
            assert secret not in str(raised.value)


def test_missing_bucket_is_named_when_the_first_file_is_written(s3_lake: Lake) -> None:
    lost = replace(s3_lake, storage=replace(s3_lake.storage, url="s3://no-such-bucket/warehouse"))
    with lost.open() as connection, pytest.raises(duckdb.Error, match=r"(?s)no-such-bucket.*404") as raised:
        connection.execute(WRITE)
    assert str(s3_lake.storage.secret) not in str(raised.value)


def test_store_that_is_down_fails_within_seconds_and_is_named(s3_lake: Lake) -> None:
    with s3_lake.open() as writer:
        writer.execute(WRITE)
    down = replace(s3_lake, storage=replace(s3_lake.storage, endpoint="http://127.0.0.1:9"))
    started = time.monotonic()
    with down.open() as connection, pytest.raises(duckdb.Error, match=r"(?i)could not connect.*127\.0\.0\.1:9"):
        connection.execute("select sum(i) from gold.t")
    assert time.monotonic() - started < 20


def test_catalog_of_another_bucket_is_refused_with_a_next_step(s3_lake: Lake) -> None:
    s3_lake.open().close()
    moved = replace(s3_lake, storage=replace(s3_lake.storage, url="s3://another/warehouse"))
    with pytest.raises(SetupError, match="made for another place than s3://another/warehouse"):
        moved.open()


def test_secret_shows_in_nothing_that_duckdb_or_python_prints(s3_lake: Lake) -> None:
    secret = s3_lake.storage.secret
    assert secret
    with s3_lake.open() as connection:
        shown = "".join(
            str(connection.execute(f"select * from {source}()").fetchall())
            for source in ("duckdb_secrets", "duckdb_settings", "duckdb_databases")
        )
    assert "lake_storage" in shown
    assert secret not in shown
    assert secret not in repr(s3_lake)


def test_key_of_the_lake_is_not_offered_to_a_bucket_whose_name_only_begins_alike() -> None:
    statement = s3_secret_sql(Storage("s3://lake", key_id="id", secret="secret"))
    assert "scope 's3://lake/'" in statement


def test_own_endpoint_is_asked_by_path_and_over_the_scheme_it_names() -> None:
    plain = s3_secret_sql(Storage("s3://lake/", endpoint="http://seaweedfs:8333/"))
    assert "endpoint 'seaweedfs:8333'" in plain
    assert "use_ssl false" in plain
    assert "url_style 'path'" in plain
    assert "use_ssl true" in s3_secret_sql(Storage("s3://lake/", endpoint="https://s3.example.org"))
    assert "endpoint" not in s3_secret_sql(Storage("s3://lake/"))
