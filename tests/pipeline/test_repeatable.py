"""Runs may repeat, overlap and come in any order; the tables end the same, row by row."""

from collections.abc import Callable
from datetime import date, timedelta

from include.local.nightscout import NightscoutSite, demo_sites
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.flow import Flow

FIRST = date(2026, 3, 27)  # clocks change in Berlin within these days
DAYS = 3
END = FIRST + timedelta(days=DAYS)


def sites() -> list[NightscoutSite]:
    return demo_sites(FIRST - timedelta(days=3), END, secret_seed="test")


def day(number: int) -> tuple[date, date]:
    return FIRST + timedelta(days=number), FIRST + timedelta(days=number + 1)


HISTORIES: dict[str, Callable[[Flow], object]] = {
    "a day twice": lambda flow: [flow.run(FIRST, END), flow.run(*day(1))],
    "days out of order": lambda flow: [flow.run(*day(number)) for number in (2, 0, 1)],
    "split, with a full refresh": lambda flow: [
        flow.run(*day(2)),
        flow.run(FIRST, FIRST + timedelta(days=2), full_refresh=True),
    ],
}


def test_any_history_of_runs_ends_in_the_same_tables(make_flow: MakeFlow) -> None:
    clean = make_flow(sites())
    clean.run(FIRST, END)
    expected, published = clean.lake_rows(), clean.published_rows()
    assert all(expected.values()), [table for table, rows in expected.items() if not rows]
    assert all(published.values())
    for name, history in HISTORIES.items():
        flow = make_flow(sites())
        history(flow)
        _assert_same(name, flow.lake_rows(), expected)
        _assert_same(name, flow.published_rows(), published)
        _assert_same(name, flow.view_rows(), clean.view_rows())


def _assert_same(history: str, ours: dict[str, list], expected: dict[str, list]) -> None:
    for table, rows in expected.items():
        missing = [row for row in rows if row not in ours[table]][:3]
        extra = [row for row in ours[table] if row not in rows][:3]
        assert ours[table] == rows, f"{history}: {table} lacks {missing} and has {extra}"


def test_edits_deletions_and_late_uploads_reach_the_marts(make_flow: MakeFlow) -> None:
    site = NightscoutSite("amber", time_zone="Europe/Berlin")
    midnight = 1_774_569_600_000  # 2026-03-27T00:00Z
    readings = [
        site.add("entries", {"type": "sgv", "date": midnight + slot * 300_000, "sgv": 110, "device": "share2"})
        for slot in range(288)
    ]
    flow = make_flow([site])
    flow.run(*day(0))
    before = dict(flow.query("select local_date, readings from gold.mrt_daily_glycaemia where readings > 0"))
    site.delete("entries", readings[0])
    site.edit("entries", readings[1], {"sgv": 250})
    site.add("entries", {"type": "sgv", "date": midnight + 288 * 300_000, "sgv": 90, "device": "share2"})
    flow.run(*day(1))
    after = dict(flow.query("select local_date, readings from gold.mrt_daily_glycaemia where readings > 0"))
    assert sum(before.values()) == 288
    assert sum(after.values()) == 288  # one deleted, one late
    assert flow.query("select max(glucose_mg_dl) from silver.fct_cgm_reading") == [(250.0,)]
    assert flow.published_rows() == flow.view_rows()
