"""What the init service does, against a real S3 server and a real PostgreSQL."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest

from include.connections import Postgres, Storage
from include.errors import SetupError
from include.lake.attach import Lake
from include.settings import ROOT
from tests.conftest import connection_to


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "deploy" / "airflow" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def admin(s3_server: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The admin's key in the environment, as the init service has it."""
    monkeypatch.setenv("S3_ADMIN_ACCESS_KEY", str(s3_server.key_id))
    monkeypatch.setenv("S3_ADMIN_SECRET_KEY", str(s3_server.secret))
    return s3_server


def test_bucket_is_made_and_making_it_again_changes_nothing(prepare: ModuleType, admin: Storage) -> None:
    storage = replace(admin, url="s3://first-start/warehouse")
    prepare.ready_bucket(storage)
    prepare.ready_bucket(storage)
    client = prepare._client(storage, storage.key_id, storage.secret)
    assert client.list_objects_v2(Bucket="first-start")["KeyCount"] == 0


def test_bucket_of_another_store_needs_no_admin(
    prepare: ModuleType, s3_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S3_ADMIN_ACCESS_KEY", raising=False)
    prepare.ready_bucket(s3_lake.storage)


def test_missing_bucket_without_an_admin_says_what_must_exist(
    prepare: ModuleType, s3_server: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S3_ADMIN_ACCESS_KEY", raising=False)
    with pytest.raises(SetupError, match=r"s3://nowhere.*NoSuchBucket.*lake_storage"):
        prepare.ready_bucket(replace(s3_server, url="s3://nowhere"))


def test_refused_keys_are_reported_with_the_codes_of_both_and_no_secret(
    prepare: ModuleType, s3_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ADMIN_ACCESS_KEY", "NOBODY")
    monkeypatch.setenv("S3_ADMIN_SECRET_KEY", "secret-of-nobody")
    wrong = replace(s3_lake.storage, secret="secret-of-somebody-else")
    with pytest.raises(SetupError, match=r"SignatureDoesNotMatch.*InvalidAccessKeyId") as raised:
        prepare.ready_bucket(wrong)
    assert "secret-of" not in str(raised.value)


def test_store_that_is_not_there_is_tried_again_and_then_reported(
    prepare: ModuleType, admin: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "ATTEMPTS", 2)
    away = replace(admin, url="s3://lake", endpoint="http://127.0.0.1:9")
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9.*EndpointConnectionError"):
        prepare.ready_bucket(away, pause=0)


@pytest.fixture
def server_environment(
    s3_lake: Lake, marts_server: Postgres, admin: Storage, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The init service's environment, in which the bucket is still to be made."""
    import json

    from include import settings as environment

    storage = replace(s3_lake.storage, url="s3://of-the-server/")
    for conn_id, database in (("LAKE_CATALOG", s3_lake.catalog), ("MARTS", marts_server)):
        value = {
            "conn_type": "postgres",
            "host": database.host,
            "port": database.port,
            "schema": database.database,
            "login": database.user,
            "password": database.password,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", json.dumps(value))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_STORAGE", connection_to(storage))
    monkeypatch.setenv("LAKE_EXTENSION_DIR", str(s3_lake.extensions))
    monkeypatch.setenv("LAKE_HOME", str(s3_lake.temp_directory))
    environment.settings.cache_clear()
    yield
    environment.settings.cache_clear()


@pytest.mark.usefixtures("server_environment")
def test_first_start_makes_bucket_schemas_and_ledger_and_a_second_changes_nothing(
    prepare: ModuleType, marts_server: Postgres
) -> None:
    import psycopg

    from include import runtime

    prepare.main()
    prepare.main()
    with runtime.lake().open(read_only=True) as lake:
        schemas = lake.execute("select schema_name from duckdb_schemas() where database_name = 'dl'").fetchall()
    assert {"bronze", "silver", "gold", "marts", "quarantine", "meta"} <= {name for (name,) in schemas}
    with psycopg.connect(marts_server.conninfo()) as connection:
        assert connection.execute("select count(*) from ledger.releases").fetchone() == (0,)
