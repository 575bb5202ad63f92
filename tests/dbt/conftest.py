"""dbt in this process, on a test's own lake; the project is parsed once a session, and one lake is built once."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.connections import Storage
from include.dbt_project import PROJECT_DIR
from include.domains import domains
from include.lake.attach import Lake
from include.lake.dbt_environment import dbt_environment, parse_environment
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.quality.quarantine import set_aside
from tests.conftest import fresh_database, lake_in
from tests.dbt.bronze import create_bronze, entry, load, treatment
from tests.include.quality.conftest import Built
from tests.sampled import ingest_all, sampled

Dbt = Callable[..., "DbtRun"]
BuildSample = Callable[[str], Built]
KEYS = dict.fromkeys(domains(), "the key of the tests, long enough")
NIGHTSCOUT = ("--select", "path:models/*/nightscout")
SAAS = ("--select", "path:models/*/saas")
BUILT_DAYS = [date(2024, 3, 29) + timedelta(days=i) for i in range(4)]


@dataclass(frozen=True)
class DbtRun:
    """How a dbt command ended: status and message per node name, and the error that ended it early."""

    success: bool
    statuses: dict[str, str]
    messages: dict[str, str]
    error: str


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The project's manifest, packed."""
    folder = tmp_path_factory.mktemp("dbt-parse")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in parse_environment().items():
            patch.setenv(name, value)
        result = invoke(["parse"], folder)
    assert result.success, result.exception
    return (folder / "partial_parse.msgpack").read_bytes()


@pytest.fixture(scope="session")
def models(parsed_project: bytes) -> list[Any]:
    """Every model of the project."""
    from dbt.contracts.graph.manifest import Manifest

    nodes = Manifest.from_msgpack(parsed_project).nodes.values()
    return [node for node in nodes if node.resource_type == "model"]


def models_of(domain: str, models: list[Any]) -> list[str]:
    """The models of a domain as `<layer>.<model>`, in order."""
    return sorted(f"{model.schema}.{model.name}" for model in models if model.fqn[2] == domain)


@pytest.fixture(scope="session")
def dbt(parsed_project: bytes, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """`dbt(lake, "run", "--select", ...)`; raises on failure unless told `check=False`."""
    from dbt.contracts.graph.manifest import Manifest

    def run(lake: Lake, *arguments: str, check: bool = True, project: Path = PROJECT_DIR) -> DbtRun:
        manifest = None
        if project == PROJECT_DIR:
            manifest = Manifest.from_msgpack(parsed_project)
            manifest.build_flat_graph()  # what a parse does last, and macros read
        with pytest.MonkeyPatch.context() as patch:
            for name, value in dbt_environment(lake, KEYS).items():
                patch.setenv(name, value)
            result = invoke(list(arguments), tmp_path_factory.mktemp("dbt"), manifest, project)
        results = getattr(result.result, "results", result.result) or ()
        run = DbtRun(
            success=result.success,
            statuses={r.node.name: str(r.status) for r in results},
            messages={r.node.name: r.message or "" for r in results},
            error=str(result.exception or ""),
        )
        if check and not run.success:
            bad = {name: run.messages[name] for name, status in run.statuses.items() if status in ("error", "fail")}
            raise AssertionError(f"dbt {' '.join(arguments)} failed: {run.error} {bad}")
        return run

    return run


@pytest.fixture(scope="session")
def built_from_sample(
    server: LocalPostgres, extensions: Path, dbt: Dbt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuildSample]:
    """`built_from_sample(domain)`: a lake with all layers of a domain, made from its sample, once a session."""
    with ExitStack() as stack:

        @lru_cache
        def build(domain: str) -> Built:
            folder = tmp_path_factory.mktemp(f"built_{domain}")
            catalog = stack.enter_context(fresh_database(server, "lake"))
            lake = lake_in(folder, catalog, extensions)
            with sampled(domain, server, extensions, folder / "source") as sample:
                ingest_all(lake, domain, sample.interval)
            set_aside(lake, domain, "fixture", sample.interval)
            dbt(lake, "run", "--select", f"path:models/*/{domain}")
            with lake.open() as connection:
                snapshot = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0][0]
            return Built(lake, snapshot, sample.interval)

        yield build


def invoke(arguments: list[str], folder: Path, manifest: Any = None, project: Path = PROJECT_DIR) -> Any:
    from dbt.cli.main import dbtRunner

    places = ["--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(folder)]
    places += ["--log-path", str(folder / "logs"), "--log-level", "none"]
    if manifest is not None:
        places.append("--no-write-json")
    return dbtRunner(manifest=manifest).invoke([*arguments, *places])


@pytest.fixture(scope="session")
def finished_lake(
    server: LocalPostgres, extensions: Path, dbt: Dbt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("finished")
    with fresh_database(server, "lake") as catalog:
        lake = lake_in(folder, catalog, extensions)
        create_bronze(lake)
        readings = [entry(at(day, 5 * slot), 100 + slot % 7) for day in BUILT_DAYS for slot in range(288)]
        load(lake, "entries", BUILT_DAYS, readings)
        load(lake, "treatments", BUILT_DAYS, [treatment(at(day, 600), insulin=1.0) for day in BUILT_DAYS])
        dbt(lake, "run", *NIGHTSCOUT)
        yield lake


@pytest.fixture
def built_lake(finished_lake: Lake, server: LocalPostgres, tmp_path: Path) -> Iterator[Lake]:
    """A lake of its own in which everything is built from one load: 288 readings and a bolus on each of BUILT_DAYS."""
    with copy_of(finished_lake, server, tmp_path / "lake") as lake:
        yield lake


@contextmanager
def copy_of(finished: Lake, server: LocalPostgres, data: Path) -> Iterator[Lake]:
    """A copy of a lake, catalog and files, which takes a moment where building it takes long; dropped afterwards."""
    template, copy = finished.catalog.database, f"t_{uuid.uuid4().hex[:12]}"
    shutil.copytree(finished.storage.url, data, copy_function=os.link)  # nobody writes into a file that is there
    with psycopg.connect(server.as_role("postgres", "postgres").conninfo(), autocommit=True) as connection:
        # The last dbt of this process still holds the template open.
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [template])
        create = sql.SQL("create database {} template {} owner lake")
        connection.execute(create.format(sql.Identifier(copy), sql.Identifier(template)))
    catalog = replace(finished.catalog, database=copy)
    use_passwords(catalog)
    with psycopg.connect(catalog.conninfo()) as connection:
        connection.execute("update ducklake.ducklake_metadata set value = %s where key = 'data_path'", [f"{data}/"])
    try:
        yield replace(finished, catalog=catalog, storage=Storage(str(data)))
    finally:
        with psycopg.connect(server.as_role("postgres", "postgres").conninfo(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(copy)))


def at(day: date, minute: int) -> datetime:
    """A minute of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
