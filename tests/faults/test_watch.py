"""A watcher that cannot see a half proves nothing: halves are made here by hand."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.connections import Postgres
from include.lake.attach import Lake
from include.local.nightscout import serve
from include.local.postgres import LocalPostgres
from tests.faults.watch import Readers
from tests.include.release.building import Releasing, build, lake_connection
from tests.pipeline.flow import Flow


@pytest.fixture
def releasing(lake: Lake, marts_server: Postgres) -> Iterator[Releasing]:
    made = Releasing(lake, marts_server)
    made.release(build(lake, 1))
    yield made
    lake_connection(lake).close()
    lake_connection.cache_clear()


@pytest.fixture
def flow(releasing: Releasing, server: LocalPostgres, tmp_path: Path) -> Iterator[Flow]:
    reader = server.as_role("marts_reader", releasing.marts.database)
    with serve([]) as sites:
        yield Flow(releasing.lake, releasing.marts, tmp_path, sites, reader)


def test_readers_see_each_release_whole_and_the_next_one_after_it(flow: Flow, releasing: Releasing) -> None:
    with Readers(flow) as readers:
        releasing.release(build(releasing.lake, 2))
    readers.seen.require_whole()
    assert set(readers.seen.releases) == {1, 2}
    assert readers.seen.refused == {}


def test_half_in_postgres_is_seen(flow: Flow, releasing: Releasing) -> None:
    with psycopg.connect(releasing.marts.conninfo()) as publisher:
        publisher.execute("delete from marts.mrt_daily where day = '2026-11-02'")
    with Readers(flow, lake=False) as readers:
        pass
    assert readers.seen.halves[0] == "postgres: release 1, but mrt_daily differs"
    assert not readers.seen.releases


def test_views_of_two_releases_are_seen(flow: Flow, releasing: Releasing) -> None:
    (before,) = releasing.view("select sql from duckdb_views() where view_name = 'mrt_hourly'")[0]
    releasing.release(build(releasing.lake, 2))
    lake_connection(releasing.lake).execute(before.replace("CREATE VIEW ", "create or replace view dl.marts."))
    with Readers(flow) as readers:
        pass
    assert [half for half in readers.seen.halves if half.startswith("lake: ")], (before, readers.seen)
    assert set(readers.seen.releases) == {2}  # PostgreSQL's


def test_refused_reader_comes_back_and_is_no_half(flow: Flow, releasing: Releasing) -> None:
    with psycopg.connect(releasing.marts.conninfo(), autocommit=True) as publisher, Readers(flow) as readers:
        publisher.execute("revoke usage on schema ledger from marts_reader")
        deadline = time.monotonic() + 30
        while not readers.seen.refused and time.monotonic() < deadline:
            time.sleep(0.05)
        publisher.execute("grant usage on schema ledger to marts_reader")
    assert readers.seen.halves == []
    assert [refusal for refusal in readers.seen.refused if "permission denied" in refusal]
    assert readers.seen.releases.total() >= 2
