"""After damage in every layer, repair and what it names to do bring the same rows back; upkeep changes none."""

import gc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from include.interval import Interval
from include.lake import catalog, fsck
from include.lake.attach import Lake
from include.lake.maintenance import Step, maintain
from include.layers import Layer
from include.local.nightscout import demo_sites
from include.sources.nightscout.pipeline import ingest
from include.sources.nightscout.streams import STREAMS
from tests.pipeline.conftest import MakeFlow

FIRST, END = date(2026, 3, 2), date(2026, 3, 5)
DAMAGED = ("bronze.nightscout_entries", "silver.fct_cgm_reading", "gold.mrt_daily_glycaemia")


def largest(lake: Lake, table: str) -> Path:
    files = [file for file in catalog.read(lake).live() if file.name == table and file.kind == "data"]
    return Path(max(files, key=lambda file: file.size).path)


@pytest.mark.torture
def test_upkeep_and_repair_leave_a_pipeline_that_ends_in_the_same_rows(make_flow: MakeFlow) -> None:
    flow = make_flow(demo_sites(FIRST - timedelta(days=3), END, secret_seed="test")[:2])
    flow.run(FIRST, END - timedelta(days=1))
    flow.run(END - timedelta(days=1), END)
    expected, published = flow.lake_rows(), flow.published_rows()
    close_dbt()

    reports = maintain(flow.lake, flow.marts, now=datetime.now(UTC) + timedelta(days=40))
    assert {Step.FLUSH, Step.EXPIRE, Step.CLEANUP} <= {report.step for report in reports if report.due}
    assert (flow.lake_rows(), flow.published_rows()) == (expected, published)

    for table in DAMAGED:
        largest(flow.lake, table).unlink()
    report = fsck.check(flow.lake, marts=flow.marts)
    assert {item.file.name for item in report.current} == set(DAMAGED)
    repairs = {repair.table: repair for repair in fsck.repair(flow.lake, report)}
    assert fsck.check(flow.lake).current == []

    days = repairs[DAMAGED[0]].days
    assert days is not None
    ingest(
        flow.lake,
        STREAMS["entries"],
        Interval.of_days(*days),
        flow.sites,
        flow.connection,
        pipelines_dir=flow.home / "dlt",
        lookback_days=0,  # days before the first that was lost would be new
    )
    flow.gate(Layer.BRONZE, Interval.of_days(*days), "after damage")
    flow.dbt(Layer.BRONZE, Layer.SILVER)
    flow.dbt(Layer.GOLD)
    assert flow.lake_rows() == expected
    assert flow.run(END - timedelta(days=1), END).created
    assert (flow.lake_rows(), flow.published_rows()) == (expected, published)


def close_dbt() -> None:
    """dbt in this process keeps its connection for the next run; as a task it would have ended."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()
    gc.collect()
