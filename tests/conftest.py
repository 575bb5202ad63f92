"""Real engines for every test: one embedded PostgreSQL a session; a fresh catalog, folder and marts database a test."""

import atexit
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from include.connections import Postgres, Storage
from include.lake.attach import Lake
from include.lake.extensions import link_extensions
from include.lake.files import s3_client
from include.lake.passfile import use_passwords
from include.local import postgres, stack
from include.local.postgres import LocalPostgres

# Before anything imports Airflow, which reads it once.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="lake-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Of DuckDB. The tables of tests are small: on two cores, three workers with a thread each need a fifth less CPU.
THREADS = 1

# The longest files start first, or a worker ends the suite alone with one of them.
LONGEST = ("test_scheduler.py", "test_repeatable.py", "test_red_gates.py", "test_bad_input.py", "test_pipeline.py")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    os.environ.setdefault("LAKE_THREADS", str(THREADS))  # for what tests start; not where the bench imports this file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for the session, short enough for a Unix socket and open to PostgreSQL's own user."""
    folder = Path(tempfile.mkdtemp(prefix="lake-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(scratch: Path) -> Iterator[LocalPostgres]:
    """The embedded PostgreSQL, with its roles."""
    running = postgres.start(scratch / "pg", postgres.THROWAWAY)
    use_passwords(*running.servers)
    yield running
    postgres.stop(scratch / "pg")


@pytest.fixture(scope="session")
def extensions(scratch: Path) -> Path:
    directory = scratch / "extensions"
    link_extensions(directory)
    return directory


def lake_in(folder: Path, catalog: Postgres, extensions: Path, storage: Storage | None = None) -> Lake:
    """A lake whose files are in a folder, or in a bucket."""
    return Lake(
        catalog=catalog,
        storage=storage or Storage(str(folder / "lake")),
        extensions=extensions,
        temp_directory=folder / "duckdb",
        memory_limit="2GB",
        threads=THREADS,
    )


@pytest.fixture
def lake(server: LocalPostgres, extensions: Path, tmp_path: Path) -> Iterator[Lake]:
    """An empty lake of its own: a catalog database and a folder."""
    with fresh_database(server, "lake") as catalog:
        yield lake_in(tmp_path, catalog, extensions)


@pytest.fixture
def marts_server(server: LocalPostgres) -> Iterator[Postgres]:
    """An empty marts database, as the publishing role; the reading role may connect."""
    with fresh_database(server, "marts_publisher") as database:
        with _superuser(server) as connection:
            grant = sql.SQL("grant connect on database {} to marts_reader")
            connection.execute(grant.format(sql.Identifier(database.database)))
        use_passwords(
            Postgres(database.host, database.port, database.database, "marts_reader", server.passwords["marts_reader"])
        )
        yield database


class fresh_database:
    """A database that its role owns and that is dropped afterwards."""

    def __init__(self, server: LocalPostgres, role: str) -> None:
        self._server, self._role, self._name = server, role, f"t_{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> Postgres:
        with _superuser(self._server) as connection:
            create = sql.SQL("create database {} owner {}")
            connection.execute(create.format(sql.Identifier(self._name), sql.Identifier(self._role)))
        database = self._server.as_role(self._role, self._name)
        use_passwords(database)
        return database

    def __exit__(self, *_: object) -> None:
        with _superuser(self._server) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self._name)))


def _superuser(server: LocalPostgres) -> psycopg.Connection:
    return psycopg.connect(server.as_role("postgres", "postgres").conninfo(), autocommit=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a test that needs it is skipped where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data in {SHARED_DATA}, which is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def _quiet_environment() -> None:
    """No test speaks to the outside, and none reads the developer's own stack."""
    os.environ.update(stack.NO_TELEMETRY)


@pytest.fixture(scope="session")
def manifest() -> Path:
    """The dbt manifest of this checkout, parsed anew if a file of the project is newer."""
    from include.dbt_project import MANIFEST

    stack.build_manifest()
    return MANIFEST


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Storage]:
    """An S3 server over HTTP that checks signatures, and the key of somebody who may do everything in it."""
    import logging

    import boto3
    from moto import settings as moto_settings
    from moto.core.authorization import ActionAuthenticatorMixin
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    endpoint, region = f"http://{host}:{port}", "us-east-1"
    nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nobody"}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name=region, **nobody)
    iam.create_user(UserName="lake")
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="lake", PolicyName="s3", PolicyDocument=json.dumps(everything))
    key = iam.create_access_key(UserName="lake")["AccessKey"]
    unchecked = moto_settings.INITIAL_NO_AUTH_ACTION_COUNT
    moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count = 0
    yield Storage("s3://none", endpoint, region, key["AccessKeyId"], key["SecretAccessKey"])
    moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = unchecked
    running.stop()


@pytest.fixture
def s3_lake(lake: Lake, s3_server: Storage) -> Lake:
    """An empty lake whose files are in a bucket of its own; its catalog is that of `lake`."""
    import dataclasses

    bucket = f"lake-{uuid.uuid4().hex[:12]}"
    s3_client(s3_server).create_bucket(Bucket=bucket)
    return dataclasses.replace(lake, storage=dataclasses.replace(s3_server, url=f"s3://{bucket}/warehouse"))


def connection_to(storage: Storage) -> str:
    """A bucket as the value of an AIRFLOW_CONN_ variable."""
    extra = {"url": storage.url, "endpoint_url": storage.endpoint, "region_name": storage.region}
    return json.dumps({"conn_type": "aws", "login": storage.key_id, "password": storage.secret, "extra": extra})


def objects(storage: Storage) -> list[str]:
    """Every key in the storage's bucket."""
    listed = s3_client(storage).list_objects_v2(Bucket=storage.url.removeprefix("s3://").partition("/")[0])
    return [item["Key"] for item in listed.get("Contents", [])]
