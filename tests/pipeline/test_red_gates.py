"""A red gate at any layer, a failed release: readers keep the release before, whole, and the next run completes."""

from datetime import date, timedelta

import pytest

from include.errors import GateError, ReleaseError
from include.interval import Interval
from include.layers import Layer
from include.local.nightscout import demo_sites
from include.release import certify, ledger, reproduce, rollback
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.flow import DOMAIN, Flow

FIRST = date(2026, 5, 4)
DAY = timedelta(days=1)

DAMAGE = {
    Layer.BRONZE: "delete from bronze.nightscout_entries where record_id is null and site = 'amber'",
    Layer.SILVER: "update silver.fct_cgm_reading set glucose_mg_dl = 5000 where site = 'amber'",
    Layer.GOLD: "update gold.mrt_daily_glycaemia set gmi_pct = 99 where site = 'amber'",
}


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    made = make_flow(demo_sites(FIRST - 3 * DAY, FIRST + 3 * DAY, secret_seed="test"))
    made.run(FIRST, FIRST + DAY)
    return made


def test_red_gate_at_each_layer_changes_nothing_that_readers_see(flow: Flow) -> None:
    published, views = flow.published_rows(), flow.view_rows()
    interval = Interval.of_days(FIRST, FIRST + DAY)
    passed = [flow.gate(layer, interval, "older") for layer in Layer]
    older = {**passed[-1], "snapshot_id": passed[-1]["snapshot_id"] - 1, "success": False}
    with pytest.raises(ReleaseError, match="gate_gold"):
        flow.release(interval, "older", [*passed[:-1], older])
    for layer, damage in DAMAGE.items():
        flow.write(damage)
        with pytest.raises(GateError, match=layer.gate):
            flow.gate(layer, interval, f"damaged_{layer}")
        assert flow.published_rows() == published
        assert flow.view_rows() == views
    repaired = flow.run(FIRST, FIRST + 2 * DAY, full_refresh=True)
    assert repaired.created
    assert flow.published_rows() == flow.view_rows() != published


@pytest.mark.torture
def test_crash_between_postgres_and_views_is_completed_by_the_next_run(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = flow.view_rows()
    with monkeypatch.context() as broken:
        broken.setattr(certify, "repoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            flow.run(FIRST + DAY, FIRST + 2 * DAY)
    assert flow.view_rows() == views
    flow.run(FIRST + 2 * DAY, FIRST + 3 * DAY)
    assert flow.view_rows() == flow.published_rows() != views


@pytest.mark.torture
def test_rollback_then_reproduce_is_byte_for_byte(flow: Flow) -> None:
    first, published = ledger.last(flow.marts, DOMAIN), flow.published_rows()
    assert first is not None
    before = flow.home / "before.parquet"
    reproduce.reproduce(flow.lake, flow.marts, "mrt_daily_glycaemia", first.release_id, before)
    second = flow.run(FIRST + DAY, FIRST + 2 * DAY)
    assert flow.published_rows() != published
    rollback.rollback(flow.lake, flow.marts, DOMAIN, first.release_id, code_version="test")
    assert flow.published_rows() == flow.view_rows() == published
    after = flow.home / "after.parquet"
    reproduce.reproduce(flow.lake, flow.marts, "mrt_daily_glycaemia", first.release_id, after)
    assert before.read_bytes() == after.read_bytes()
    newest = ledger.last(flow.marts, DOMAIN)
    assert newest is not None
    assert (newest.kind, newest.rolled_back_to) == ("rollback", first.release_id)
    assert newest.release_id == second.release_id + 1
    assert ledger.verify(flow.marts, flow.lake).entries == 3


@pytest.mark.torture
def test_a_day_that_failed_its_gate_is_not_published_by_the_next_run(flow: Flow) -> None:
    published = flow.published_rows()
    bad, following = Interval.of_days(FIRST + DAY, FIRST + 2 * DAY), Interval.of_days(FIRST + 2 * DAY, FIRST + 3 * DAY)
    flow.ingest(bad)
    flow.write(
        "update bronze.nightscout_entries set sgv = 5000 "
        f"where site = 'amber' and interval_date = date '{FIRST + DAY}' and record_id is not null"
    )
    with pytest.raises(GateError, match=f"set_aside.*interval_date={FIRST + DAY}"):
        flow.gate(Layer.BRONZE, bad, "bad")
    # The look-back would fetch the day again and mend it; take it away.
    flow.ingest(following, lookback_days=0)
    with pytest.raises(GateError, match=f"set_aside.*interval_date={FIRST + DAY}"):
        flow.gate(Layer.BRONZE, following, "following")
    assert flow.published_rows() == published
    flow.run(FIRST + DAY, FIRST + 3 * DAY)
    assert flow.published_rows() != published
