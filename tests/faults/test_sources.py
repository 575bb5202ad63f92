"""A source that dies while it answers, or whose clock is wrong."""

import pytest

from include.local.nightscout import Fault
from include.sources.http import Patience
from include.sources.nightscout.pipeline import ingest as ingest_stream
from include.sources.nightscout.streams import STREAMS
from tests.faults.judge import compare
from tests.faults.matrix import Outcome
from tests.faults.watch import Readers
from tests.faults.world import INTERVAL, RELEASED, World, attempt, bronze_rows, build, ingest, release
from tests.pipeline.flow import Flow

RETRY = "Airflow's retry"
HASTY = Patience(attempts=2, first_wait=0.05, longest_wait=0.1)
pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("world")]


def hasty_ingest(flow: Flow) -> None:
    """An ingest that does not wait long for a site that is away."""
    for stream in STREAMS.values():
        ingest_stream(
            flow.lake,
            stream,
            INTERVAL,
            flow.sites,
            flow.connection,
            pipelines_dir=flow.home / "dlt",
            patience=HASTY,
        )


@pytest.mark.fault("Source dies mid-page", "connection closed in the body, reset, JSON that ends too early, 502")
def test_site_that_dies_keeps_what_it_had_and_lands_whole_on_the_retry(world: World, outcome: Outcome) -> None:
    site = world.sites[0]
    for kind in ("cut", "reset", "truncated", "502"):
        with world.copy(RELEASED) as flow:
            before = bronze_rows(flow)
            with Readers(flow, lake=False) as readers:
                site.fail(Fault(kind, count=None, path="entries"))
                try:
                    failure = attempt(flow, hasty_ingest)
                finally:
                    site.heal()
                assert failure is not None and failure.action == "RETRY", failure
                assert site.site in failure.message
                ours = [row for row in bronze_rows(flow)["bronze.entries"] if row[0] == site.site]
                assert ours == [row for row in before["bronze.entries"] if row[0] == site.site]
                assert attempt(flow, ingest) is None
            outcome.record(world.compare(flow, "bronze"), readers.seen, message=failure.message, mended_by=RETRY)


@pytest.mark.fault("Clock skew", "the worker that built the first day was a day ahead; the next one's clock is right")
def test_worker_whose_clock_was_ahead_hides_no_later_load(world: World, outcome: Outcome) -> None:
    with world.copy(RELEASED) as flow:
        for table in ("watermarks", "quarantine_applied"):
            flow.write(f"update meta.{table} set recorded_at = recorded_at + interval 1 day")
        with Readers(flow) as readers:
            for step in (ingest, build, release):
                assert attempt(flow, step) is None
        outcome.record(
            compare(flow, world.clean),
            readers.seen,
            message="nothing: no clock decides what was read",
            mended_by="nothing",
        )
