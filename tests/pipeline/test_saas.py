"""The subscription business's whole flow on a source that goes on while it is read."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from include.connections import Connection, Postgres
from include.interval import Interval
from include.lake.attach import Lake
from include.local import saas
from include.local.postgres import LocalPostgres
from include.sources.postgres.databases import Database
from include.sources.postgres.pipeline import ingest
from include.sources.saas.streams import STREAMS
from tests.conftest import fresh_database, lake_in
from tests.dbt.conftest import KEYS
from tests.pipeline.flow import DomainFlow

START, LAST = date(2025, 3, 1), date(2026, 3, 4)
ONE_DAY = timedelta(days=1)


@dataclass
class SaasFlow(DomainFlow):
    domain = "saas"
    keys = KEYS

    lake: Lake
    marts: Postgres
    home: Path
    source: Postgres
    reader: Postgres | None = None
    runs: itertools.count = field(default_factory=lambda: itertools.count(1))

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        from include import dbt_project
        from include.layers import Layer

        return {
            layer: tuple(model.name for model in dbt_project.models(layer, self.domain))
            for layer in (Layer.SILVER, Layer.GOLD)
        }

    def ingest(self, interval: Interval) -> None:
        there = Connection("saas_demo_app", host=self.source.host, login="saas_owner", schema=self.source.database)
        key = Connection("saas_pseudonym", password=KEYS["saas"])
        for stream in STREAMS.values():
            ingest(
                self.lake,
                stream,
                interval,
                [Database("demo_app", "saas_demo_app")],
                lambda conn_id: key if conn_id == key.conn_id else there,
                pipelines_dir=self.home / "dlt",
            )


Make = Callable[[], SaasFlow]


@pytest.fixture
def source(server: LocalPostgres) -> Iterator[Postgres]:
    with fresh_database(server, "saas_owner") as database:
        yield database


@pytest.fixture
def make(server: LocalPostgres, extensions: Path, source: Postgres, manifest: Path, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def new() -> SaasFlow:
            catalog = stack.enter_context(fresh_database(server, "lake"))
            home = tmp_path / catalog.database
            home.mkdir()
            marts = stack.enter_context(fresh_database(server, "marts_publisher"))
            lake = lake_in(home, catalog, extensions)
            return SaasFlow(lake, marts, home, source)

        yield new


def until(source: Postgres, extensions: Path, end: date) -> None:
    saas.build(source, extensions, saas.State.of(0.02, 1, end, START))


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_days_as_they_come_end_in_the_rows_of_one_run_at_the_end(
    make: Make, source: Postgres, extensions: Path
) -> None:
    flow = make()
    for end in (LAST - 40 * ONE_DAY, LAST):
        until(source, extensions, end)
        flow.run(end - 2 * ONE_DAY, end)
    # What was corrected and what is gone for good, by hand.
    with psycopg.connect(source.conninfo(), autocommit=True) as connection:
        connection.execute(
            "update app.invoice_lines set updated_at = '2026-03-03 12:00' where invoice_line_id % 50 = 0"
        )
        connection.execute("delete from app.subscription_changes where change_id % 90 = 2")
        connection.execute("delete from app.product_events where occurred_at >= '2026-02-20' and event_id % 20 = 0")
    flow.run(date(2026, 2, 18), LAST - ONE_DAY)  # overlaps, and ends before the newest day
    flow.run(LAST - ONE_DAY, LAST)
    at_once = make()
    at_once.run(LAST - ONE_DAY, LAST)
    expected = at_once.lake_rows()
    assert sum(map(len, expected.values())) > 3_000
    found = flow.lake_rows()
    for table, rows in expected.items():
        assert found[table] == rows, table
    assert flow.published_rows() == at_once.published_rows() == flow.view_rows()
