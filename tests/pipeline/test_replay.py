"""Quarantined rows judged again: the marts end as those of a lake that always had the mended rule."""

from datetime import date, timedelta

import pytest

from include.errors import GateError
from include.layers import Layer
from include.local.nightscout import NightscoutSite
from include.quality import replay
from include.quality.checks import RowRule
from include.quality.suites import nightscout as suites
from tests.pipeline.conftest import MakeFlow

ENTRIES = "nightscout_entries"
FIRST = date(2026, 5, 4)
END = FIRST + timedelta(days=2)
START = 1_777_852_800_000  # 2026-05-04T00:00Z


def site() -> NightscoutSite:
    """Two whole days, with three readings of 320 on the first."""
    made = NightscoutSite("amber", time_zone="Europe/Berlin")
    for slot in range(2 * 288):
        value = 320 if 144 <= slot < 147 else 100 + slot % 50
        made.add("entries", {"type": "sgv", "date": START + slot * 300_000, "sgv": value, "device": "share2"})
    return made


def limit_readings(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let sensor values up to `limit` pass."""
    bronze = suites.SUITES[Layer.BRONZE]
    rule = RowRule("sgv_in_range", f"coalesce(type, '') <> 'sgv' or sgv between 20 and {limit}", "for the test")
    rules = tuple(rule if each.name == rule.name else each for each in bronze.row_rules[ENTRIES])
    monkeypatch.setattr(suites, "ROW_RULES", {**suites.ROW_RULES, ENTRIES: rules})
    monkeypatch.setitem(suites.SUITES, Layer.BRONZE, suites._bronze())


@pytest.mark.torture
def test_a_replay_rebuilds_the_days_of_freed_rows_and_a_red_one_changes_nothing(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow([site()])
    limit_readings(monkeypatch, 300)
    flow.run(FIRST, END)
    before, built = flow.published_rows(), flow.lake_rows()

    limit_readings(monkeypatch, 100)
    with pytest.raises(GateError, match="entries_share_set_aside"):
        flow.replay(first=FIRST, end=END)
    assert flow.published_rows() == flow.view_rows() == before
    assert flow.lake_rows() == built

    limit_readings(monkeypatch, 600)
    entries = {table.table: table for table in replay.plan(flow.lake, "nightscout").tables}[ENTRIES]
    assert entries.set_aside == entries.freed > 288 and entries.newly == 0
    assert flow.replay().created
    assert flow.query("select count(*), max(reading_date) from silver.fct_cgm_reading where glucose_mg_dl = 320") == [
        (3, FIRST)
    ]
    shown = "select landed_records, passed_records, quarantined_records from gold.mrt_quality_coverage"
    assert flow.query(f"{shown} where reading_date = '{FIRST}'") == [(288, 288, 0)]
    changed = [mart for mart, rows in flow.published_rows().items() if rows != before[mart]]
    assert "mrt_daily_glycaemia" in changed and flow.published_rows() == flow.view_rows()
    days = {row[1] for row in set(flow.published_rows()["mrt_daily_glycaemia"]) ^ set(before["mrt_daily_glycaemia"])}
    assert days == {FIRST}
