"""PostgreSQL stops and starts, or its connections break, while a step is at work."""

import re
import threading
from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from include.errors import first_line
from include.release import ledger
from tests.faults import children
from tests.faults.children import After, Before, Point, Step
from tests.faults.judge import compare, sweep
from tests.faults.matrix import Outcome
from tests.faults.postgres_proxy import Trap
from tests.faults.watch import PAUSE_SECONDS, Readers, Seen
from tests.faults.world import (
    BUILT,
    LANDED,
    RELEASED,
    Failure,
    World,
    attempt,
    attempt_during,
    gate_bronze,
    gold,
    ingest,
    last_gates,
    publish,
    record_all,
    release,
    silver,
)
from tests.pipeline.flow import TABLES, Flow

SNAPSHOT = rb'INSERT INTO "ducklake".ducklake_snapshot'
STOPPED = "PostgreSQL stops and starts"
RETRY = "Airflow's retry"
pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("world")]


class PlainReaders:
    """Readers of the marts by psycopg: DuckDB aborts the process when it closes a transaction on a server that is gone.

    Each read is one transaction; the marts of one release may only ever have one content.
    """

    def __init__(self, flow: Flow) -> None:
        assert flow.reader is not None
        self.seen = Seen()
        self._reader = flow.reader
        self._contents: dict[int, set[str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PlainReaders":
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._read()
        self.seen.halves += [f"release {each} has {len(found)} contents" for each, found in self._halves()]

    def _halves(self) -> list[tuple[int, set[str]]]:
        return [(release, found) for release, found in self._contents.items() if len(found) > 1]

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                self._read()
            except psycopg.Error as error:
                self.seen.refused[first_line(error)] += 1

    def _read(self) -> None:
        with psycopg.connect(self._reader.conninfo(), password=self._reader.password) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            (release,) = connection.execute("select max(release_id) from ledger.releases").fetchone() or (None,)
            marts = " union all ".join(f"select '{mart}' || t::text from marts.{mart} t" for mart in TABLES["gold"])
            query = f"select md5(string_agg(row, ',' order by row)) from ({marts}) as rows (row)"
            (content,) = connection.execute(query).fetchone() or (None,)  # type: ignore[arg-type]
        self._contents.setdefault(release, set()).add(content)
        self.seen.releases[release] += 1


def stopped_during(world: World, flow: Flow, step: Step, at: Point, stop: Callable[[], None]) -> Failure:
    """What a step says of a server that went away under it, and came back after it failed."""
    try:
        failure = attempt_during(flow, step, at, stop)
    finally:
        world.start()
    assert failure is not None and failure.action == "RETRY", failure
    return failure


@pytest.mark.fault(STOPPED, "an ingest, before it commits; while it is away, the first retry")
def test_ingest_lands_once_after_a_restart(world: World, outcome: Outcome) -> None:
    with world.copy(RELEASED) as flow:
        with PlainReaders(flow) as readers:
            for stop, at in ((world.crash, Before("commit", 1)), (world.shut_down, Before("commit", 2))):
                failure = stopped_during(world, flow, partial(ingest, streams=("entries",)), at, stop)
                outcome.record(message=failure.message, mended_by=RETRY)
            world.shut_down()
            try:
                away = attempt(flow, ingest)
            finally:
                world.start()
            assert away is not None and away.action == "RETRY", away
            assert attempt(flow, ingest) is None
        outcome.record(world.compare(flow, "bronze"), readers.seen, message=away.message, mended_by=RETRY)


@pytest.mark.fault(STOPPED, "dbt, while it writes a fact and a dimension")
def test_dbt_builds_the_same_after_a_restart(world: World, outcome: Outcome) -> None:
    with world.copy(LANDED) as flow:
        with PlainReaders(flow) as readers:
            assert attempt(flow, gate_bronze) is None
            for stop, at in ((world.crash, After("insert into", 2)), (world.shut_down, Before("commit", 3))):
                failure = stopped_during(world, flow, silver, at, stop)
                outcome.record(message=failure.message, mended_by=RETRY)
            assert attempt(flow, silver) is None
        outcome.record(world.compare(flow, "silver"), readers.seen, message=failure.message, mended_by=RETRY)
        sweep(flow)


@pytest.mark.fault(STOPPED, "a release: before the ledger's entry, before PostgreSQL commits, before the views")
def test_release_is_made_once_after_restarts(world: World, outcome: Outcome) -> None:
    with world.copy(BUILT) as flow:
        failures = []
        step = partial(publish, gates=children.run(flow, last_gates).value())
        with PlainReaders(flow) as readers:
            for stop, at in (
                (world.crash, Before("insert into ledger.releases")),
                (world.shut_down, After("insert into ledger.releases")),
                (world.crash, Before("create or replace view")),
            ):
                failures.append(stopped_during(world, flow, step, at, stop))
            assert attempt(flow, step) is None
        assert len(ledger.entries(flow.marts)) == 2
        found = compare(flow, world.clean)
        record_all(outcome, failures, found, readers.seen, mended_by=RETRY)
        sweep(flow)


@pytest.mark.fault("Connection to the catalog is cut", "statements of each step; then nobody gets in for a moment")
def test_cut_connections_cost_a_retry(world: World, outcome: Outcome) -> None:
    with world.copy(RELEASED) as flow, world.proxied(flow) as (proxied, proxy):
        failures = []
        with Readers(flow) as readers:
            for step, statements in (
                (ingest, (rb'COPY \(SELECT "data_file_id"', SNAPSHOT)),
                (gate_bronze, (rb"COPY ",)),
                (silver, (SNAPSHOT,)),
                (gold, (rb'COPY \(SELECT "data_file_id"',)),
                (release, (rb"COPY ", rb"insert into ledger.releases")),
            ):
                for statement in statements:
                    proxy.set(Trap(re.compile(statement), executed=False, away=600))
                    failure = attempt(proxied, step)
                    assert failure is not None and failure.action == "RETRY", (step, failure)
                    failures.append(failure)
                    proxy.let_in()
                assert attempt(proxied, step) is None
        found = compare(flow, world.clean)
        record_all(outcome, failures, found, readers.seen, mended_by=RETRY)
        sweep(flow)
