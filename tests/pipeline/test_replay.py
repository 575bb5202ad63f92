"""Quarantined rows judged again: after a rule was mended, the marts are those of a lake that always had the mended rule."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from include.errors import GateError
from include.layers import Layer
from include.local.nightscout import NightscoutSite, demo_sites
from include.quality import replay
from include.quality.checks import RowRule
from include.quality.suites import nightscout as suites
from tests.pipeline.conftest import MakeFlow

ENTRIES = "nightscout_entries"
FIRST = date(2026, 5, 4)
END = FIRST + timedelta(days=2)
NOON = 1_777_896_060_000  # 2026-05-04T12:01Z


def sites() -> list[NightscoutSite]:
    made = demo_sites(FIRST - timedelta(days=3), END, secret_seed="test")[:1]
    for number in range(3):
        made[0].add("entries", {"type": "sgv", "date": NOON + number * 60_000, "sgv": 620, "device": "hi"})
    return made


def mend(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let sensor values up to `limit` pass."""
    bronze = suites.SUITES[Layer.BRONZE]
    rule = RowRule("sgv_in_range", f"coalesce(type, '') <> 'sgv' or sgv between 20 and {limit}", "mended")
    rules = tuple(rule if each.name == rule.name else each for each in bronze.row_rules[ENTRIES])
    monkeypatch.setattr(suites, "ROW_RULES", {**suites.ROW_RULES, ENTRIES: rules})
    monkeypatch.setitem(suites.SUITES, Layer.BRONZE, suites._bronze())


def test_replay_after_a_mended_rule_ends_as_if_the_rule_had_always_been_so(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, clean = make_flow(sites()), make_flow(sites())
    flow.run(FIRST, END)
    aside = flow.query(f"select count(*) from quarantine.{ENTRIES} where 'sgv_in_range' in rules")[0][0]
    assert aside >= 3
    before = flow.published_rows()

    mend(monkeypatch, 650)
    entries = {table.table: table for table in replay.plan(flow.lake, "nightscout").tables}[ENTRIES]
    assert (entries.freed, entries.newly, entries.days) == (3, 0, (str(FIRST),))
    assert flow.published_rows() == before  # a plan changes nothing

    released = flow.replay()
    assert released.created and released.entry.interval_start.date() == FIRST
    clean.run(FIRST, END)
    assert flow.lake_rows() == clean.lake_rows()
    assert flow.published_rows() == clean.published_rows() != before
    shown = "select landed_records - passed_records - quarantined_records, quarantined_records from gold.mrt_quality_coverage"
    assert flow.query(f"{shown} where reading_date = '{FIRST}'") == [(0, aside - 3)]


def test_replay_by_a_rule_that_sets_aside_too_much_is_red_and_readers_keep_the_release(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(sites())
    flow.run(FIRST, END)
    before = flow.published_rows()
    mend(monkeypatch, 100)
    with pytest.raises(GateError, match="entries_share_set_aside"):
        flow.replay(first=FIRST, end=END)
    assert flow.published_rows() == flow.view_rows() == before
    mend(monkeypatch, 600)
    flow.replay(first=FIRST, end=END)
    assert flow.published_rows() == before
