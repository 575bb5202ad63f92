"""Lakes with every layer built, one a domain, for the tests of gates and of what is explained.

Every check and every table of a domain's suites is broken on its fixture `built_<domain>`, or without one on the lake
that `built_from_sample` makes.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from include.connections import Connection
from include.local import saas
from include.local.postgres import LocalPostgres
from include.quality.quarantine import set_aside
from include.sources.postgres.databases import Database
from include.sources.postgres.pipeline import ingest
from include.sources.saas.streams import STREAMS
from tests.conftest import fresh_database, lake_in
from tests.dbt import bronze
from tests.dbt.conftest import NIGHTSCOUT, SAAS, Dbt, built_from_sample, dbt, parsed_project
from tests.include.quality.conftest import DAYS, INTERVAL, ONE_DAY, Built, at, load_days, readings

__all__ = ["built_from_sample", "dbt", "parsed_project"]


@pytest.fixture(scope="session")
def built_nightscout(built: Built) -> Built:
    """The lake that every check of the domain is broken on."""
    return built


@pytest.fixture(scope="session")
def built(
    server: LocalPostgres,
    extensions: Path,
    dbt: Dbt,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Built]:
    """All layers, as loads, the bronze gate and dbt leave them. Whoever changes it puts it back."""
    folder = tmp_path_factory.mktemp("built")
    with fresh_database(server, "lake") as catalog:
        lake = lake_in(folder, catalog, extensions)
        bronze.create_bronze(lake)
        load_days(lake, DAYS)
        # One impossible value, to be set aside, so that quarantine is not empty.
        odd = readings("bob", DAYS[0], [*([100.0] * 287), 5000.0])
        bronze.load(lake, "entries", DAYS[:1], odd, sites=["bob"], fetched_at=at(DAYS[-1] + ONE_DAY, 60))
        set_aside(lake, "nightscout", "fixture", INTERVAL)
        dbt(lake, "run", *NIGHTSCOUT)
        with lake.open() as connection:
            snapshot = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0][0]
        yield Built(lake, snapshot)


@pytest.fixture(scope="session")
def built_saas(
    server: LocalPostgres, extensions: Path, dbt: Dbt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    """All layers of the subscription business: the demo's database, made small and loaded as ingest does."""
    folder = tmp_path_factory.mktemp("built_saas")
    with fresh_database(server, "lake") as catalog, fresh_database(server, "saas_owner") as source:
        lake = lake_in(folder, catalog, extensions)
        saas.build(source, extensions, saas.State.of(0.05, 1, date(2026, 3, 4), date(2024, 12, 1)))
        there = Connection("saas_demo_app", host=source.host, login=source.user, schema=source.database)
        for stream in STREAMS.values():
            ingest(
                lake,
                stream,
                INTERVAL,
                [Database("demo_app", "saas_demo_app")],
                lambda _: there,
                pipelines_dir=folder / "dlt",
            )
        set_aside(lake, "saas", "fixture", INTERVAL)
        dbt(lake, "run", *SAAS)
        with lake.open() as connection:
            snapshot = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0][0]
        yield Built(lake, snapshot)
