"""The whole flow with the lake's files on an S3 server: dlt, dbt, Great Expectations and the release go through it."""

from datetime import date, timedelta

from include.lake.attach import Lake
from include.local.nightscout import demo_sites
from include.release.reproduce import reproduce
from tests.conftest import objects
from tests.pipeline.conftest import MakeFlow

FIRST = date(2026, 5, 4)
DAY = timedelta(days=1)


def test_the_whole_flow_on_s3(make_flow: MakeFlow, s3_lake: Lake) -> None:
    sites = demo_sites(FIRST - 3 * DAY, FIRST + 2 * DAY, secret_seed="test")
    flow = make_flow(sites, storage=s3_lake.storage)
    first = flow.run(FIRST - DAY, FIRST)
    flow.run(FIRST, FIRST + DAY)
    published = flow.published_rows()
    assert published == flow.view_rows()
    assert all(published.values())
    again = reproduce(flow.lake, flow.marts, "mrt_daily_glycaemia", first.entry.release_id, flow.home / "first.parquet")
    assert again.content.rows > 0
    keys = objects(s3_lake.storage)
    assert {key.split("/")[1] for key in keys} >= {"bronze", "silver", "gold"}
    assert not [path for path in flow.home.rglob("*.parquet") if path.name != "first.parquet"]
