"""The catalog's COMMIT succeeds and its reply is lost: each writer's, and what its next try makes of it."""

from functools import partial
from pathlib import Path

import pytest

from include.interval import Interval
from include.lake import catalog, fsck
from include.release import ledger
from tests.faults import children
from tests.faults.children import Step
from tests.faults.judge import Difference, compare, difference, sweep
from tests.faults.matrix import Outcome
from tests.faults.postgres_proxy import ADDS_FILES, ADDS_SNAPSHOT, PostgresProxy
from tests.faults.watch import Readers
from tests.faults.world import (
    LANDED,
    RELEASED,
    Failure,
    World,
    attempt,
    bronze_rows,
    gate_bronze,
    gold,
    ingest,
    last_gates,
    publish,
    record_all,
    silver,
)
from tests.pipeline.flow import Flow

FAULT = "COMMIT sticks, its reply is lost"
pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("world")]

RETRY = "Airflow's retry, which first settles what the lost reply left"


def lost(flow: Flow, proxy: PostgresProxy, step: Step, within: bytes, after: int = 0) -> Failure:
    """Fail a step by a lost reply."""
    before = len(proxy.sprung)
    proxy.lose_reply(within, after=after)
    failure = attempt(flow, step)
    assert len(proxy.sprung) == before + 1, "no reply was lost"
    assert failure is not None and failure.action == "RETRY", failure
    return failure


def entries(world: World, flow: Flow) -> Difference:
    table = "bronze.entries"
    return difference({table: bronze_rows(flow)[table]}, {table: world.clean_bronze[table]})


@pytest.mark.fault(FAULT, "each commit of an ingest in turn: bronze, dlt's own record")
def test_ingest_lands_once_though_no_writer_knew_that_its_commit_stuck(world: World, outcome: Outcome) -> None:
    step = partial(ingest, streams=("entries",))
    damaged = 0
    for commit in range(2):
        with world.copy(RELEASED) as flow, world.proxied(flow) as (proxied, proxy):
            failure = lost(proxied, proxy, step, ADDS_SNAPSHOT, commit)
            damaged += len(fsck.check(flow.lake).current)
            assert attempt(proxied, step) is None
            assert fsck.check(flow.lake, deep=True).current == []
            outcome.record(entries(world, flow), message=failure.message, mended_by=RETRY)
    assert damaged, "DuckLake deleted no file of a commit that stuck: this test no longer shows anything"


@pytest.mark.fault(
    FAULT, "gate_bronze sets rows aside, dbt writes silver and gold, release publishes and repoints views"
)
def test_run_ends_in_the_same_marts_though_every_writer_lost_a_reply(world: World, outcome: Outcome) -> None:
    with world.copy(LANDED) as flow, world.proxied(flow) as (proxied, proxy):
        failures, damaged = [], 0
        with Readers(flow) as readers:
            for step, within, after in (
                (gate_bronze, ADDS_SNAPSHOT, 0),
                (silver, ADDS_FILES, 0),  # a fact and its bookkeeping
                (gold, ADDS_FILES, 1),
            ):
                failures.append(lost(proxied, proxy, step, within, after))
                damaged += len(fsck.check(flow.lake).current)
                assert attempt(proxied, step) is None
            step = partial(publish, gates=children.run(flow, last_gates).value())
            for within in (b"lock table ledger.releases", b'INTO "ducklake".ducklake_view'):
                failures.append(lost(proxied, proxy, step, within))
            assert attempt(proxied, step) is None
        assert damaged, "DuckLake deleted no file of a commit that stuck: this test no longer shows anything"
        assert fsck.check(flow.lake, deep=True, marts=flow.marts).ok
        assert len(ledger.entries(flow.marts)) == 2, "a release was made twice"
        found = compare(flow, world.clean)
        record_all(outcome, failures, found, readers.seen, mended_by=RETRY)
        sweep(flow)


@pytest.mark.fault(FAULT, "an ingest, and its file is deleted by hand after the load was told to have landed")
def test_load_that_was_told_to_have_landed_is_not_taken_back(world: World, outcome: Outcome) -> None:
    """The same damage, another cause: nobody would bring the load again, so it must not go quietly."""
    step = partial(ingest, streams=("entries",))
    with world.copy(RELEASED) as flow:
        assert attempt(flow, step) is None
        newest = max(
            (file for file in catalog.read(flow.lake).live() if file.name == "bronze.nightscout_entries"),
            key=lambda file: file.begin,
        )
        Path(newest.path).unlink()
        failure = attempt(flow, step)
        assert failure is not None and failure.action == "FAIL" and newest.path in failure.message, failure
        (repair,) = fsck.repair(flow.lake, fsck.check(flow.lake))
        assert repair.days is not None and "lake run nightscout" in repair.next_step
        flow.ingest(Interval.of_days(*repair.days), ("entries",), lookback_days=0)
        assert fsck.check(flow.lake).current == []
        outcome.record(
            entries(world, flow),
            message=failure.message,
            mended_by="`lake fsck --repair`, then the `lake run` that it names",
        )
