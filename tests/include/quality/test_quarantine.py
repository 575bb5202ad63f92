"""Rows that break a row rule: set aside once, whatever the order of loads and gates, and never in silence."""

from pathlib import Path
from typing import Any

import pytest

from include.errors import GateError
from include.interval import Interval
from include.lake.attach import Lake
from include.layers import Layer
from include.quality.checks import RowRule, Suite
from include.quality.gate import run_gate
from include.quality.quarantine import SetAside, ensure_tables, set_aside
from include.quality.results import read_result
from tests.dbt import bronze
from tests.include.quality.conftest import DAYS, INTERVAL, ONE_DAY, at, meals, readings

ENTRIES = "nightscout_entries"


def query(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with lake.open(read_only=True) as connection:
        return connection.execute(sql).fetchall()


def content(lake: Lake) -> list[tuple[Any, ...]]:
    """Quarantine without what tells runs and loads apart."""
    return query(
        lake,
        "select site, interval_date, record_id, rules, json_extract_string(payload, '$.sgv') "
        f"from quarantine.{ENTRIES} order by all",
    )


def load(lake: Lake, day: int, values: list[float | None], site: str = "ada") -> None:
    records = readings(site, DAYS[day], values)
    bronze.load(lake, "entries", [DAYS[day]], records, sites=[site], fetched_at=at(DAYS[day] + ONE_DAY, 60))


def test_a_broken_row_is_set_aside_with_every_rule_and_all_of_itself(lake: Lake) -> None:
    bronze.create_bronze(lake, ["entries"])
    records = readings("ada", DAYS[0], [100.0, None, 601.0])
    records[2] |= {"date": 1, "date_string": None, "interval_date": DAYS[0], "noise": 3.0}
    bronze.load(lake, "entries", DAYS[:1], records, sites=["ada"], fetched_at=at(DAYS[1], 60))
    assert set_aside(lake, "nightscout", "run 1") == {ENTRIES: SetAside(windows=1, landed=3, broken=2)}
    found = query(
        lake,
        "select record_id, rules, load_seq, dag_run_id, snapshot_id, quarantined_at is not null, "
        f"payload->>'noise', payload->>'site_time_zone' from quarantine.{ENTRIES} order by record_id",
    )
    judged_at = found[0][4]
    assert found == [
        (f"ada-{DAYS[0]}-1", ["sgv_in_range"], 1, "run 1", judged_at, True, None, "UTC"),
        (f"ada-{DAYS[0]}-2", ["event_after_2000", "sgv_in_range"], 1, "run 1", judged_at, True, "3.0", "UTC"),
    ]
    assert query(lake, f"select count(*) from bronze.{ENTRIES} at (version => {judged_at})") == [(4,)]


def test_quarantine_is_the_same_in_whatever_order_days_are_loaded_and_judged(lake: Lake) -> None:
    bronze.create_bronze(lake, ["entries"])
    days: list[list[float | None]] = [[100.0, 5.0], [None, 100.0, 700.0], [100.0, 100.0]]
    for day in (0, 1, 2):
        load(lake, day, days[day])
    set_aside(lake, "nightscout", "run 1")
    whole = content(lake)
    assert [row[2] for row in whole] == [f"ada-{DAYS[0]}-1", f"ada-{DAYS[1]}-0", f"ada-{DAYS[1]}-2"]
    for day in (2, 0, 1, 0):
        load(lake, day, days[day])
        set_aside(lake, "nightscout", f"run of {day}", Interval.of_days(DAYS[day], DAYS[day] + ONE_DAY))
        assert content(lake) == whole
    set_aside(lake, "nightscout", "again", INTERVAL)
    assert content(lake) == whole


def test_a_row_that_was_mended_at_the_source_leaves_quarantine(lake: Lake) -> None:
    bronze.create_bronze(lake, ["entries"])
    load(lake, 0, [100.0, 5.0])
    set_aside(lake, "nightscout", "run 1")
    load(lake, 0, [100.0, 105.0])
    set_aside(lake, "nightscout", "run 2")
    assert content(lake) == []


def test_windows_already_judged_are_judged_again_only_when_they_are_asked_for(lake: Lake) -> None:
    bronze.create_bronze(lake, ["entries"])
    load(lake, 2, [100.0, 5.0])
    load(lake, 1, [100.0])
    suite = Suite("nightscout", Layer.BRONZE, (), row_rules={ENTRIES: (RowRule("low", "sgv >= 20", "x"),)})
    assert set_aside(lake, "nightscout", "run 1", suite=suite)[ENTRIES].windows == 2
    assert set_aside(lake, "nightscout", "run 2", suite=suite)[ENTRIES].windows == 0
    stricter = Suite("nightscout", Layer.BRONZE, (), row_rules={ENTRIES: (RowRule("high", "sgv < 20", "x"),)})
    assert set_aside(lake, "nightscout", "run 3", INTERVAL, stricter)[ENTRIES] == SetAside(1, 2, 1)
    assert [row[2:4] for row in content(lake)] == [(f"ada-{DAYS[2]}-0", ["high"])]


def test_a_table_made_anew_is_judged_although_its_loads_count_from_one_again(lake: Lake) -> None:
    bronze.create_bronze(lake, ["entries"])
    for _ in range(3):
        load(lake, 0, [100.0])
    set_aside(lake, "nightscout", "run 1")
    with lake.open() as connection:
        connection.execute(f"drop table bronze.{ENTRIES}")
    bronze.create_bronze(lake, ["entries"])
    load(lake, 0, [5.0])
    assert set_aside(lake, "nightscout", "run 2")[ENTRIES] == SetAside(1, 1, 1)


def test_making_the_tables_again_changes_nothing(lake: Lake) -> None:
    newest = "select max(snapshot_id) from dl.snapshots()"
    ensure_tables(lake, "nightscout")
    before = query(lake, newest)
    ensure_tables(lake, "nightscout")
    assert query(lake, newest) == before


def test_the_gate_lets_a_few_broken_rows_pass_and_says_how_many(landed: Lake, tmp_path: Path) -> None:
    load(landed, 2, [*([100.0] * 283), *([5.0] * 5)])
    result = run_gate(landed, "nightscout", Layer.BRONZE, INTERVAL, "run", tmp_path)
    assert result.success
    assert result.set_aside[f"bronze.{ENTRIES}"] == {"windows": 6, "landed": 6 * 288, "broken": 5}
    assert "<td" in (tmp_path / result.docs).read_text()


def test_the_gate_is_red_above_the_share_and_stays_red_when_it_runs_again(landed: Lake, tmp_path: Path) -> None:
    load(landed, 2, [*([100.0] * 200), *([5.0] * 88)])
    for run in ("run 1", "run 2"):
        with pytest.raises(GateError, match=r"entries_share_set_aside.*expected at most 5% of a day's records"):
            run_gate(landed, "nightscout", Layer.BRONZE, INTERVAL, run, tmp_path)
        failed = read_result(tmp_path, run, "gate_bronze").failed
        assert [finding.check for finding in failed] == ["entries_share_set_aside"]
        assert f"interval_date={DAYS[2]}, landed=576, set_aside=88" in failed[0].observed
    assert len(content(landed)) == 88  # there to be looked at


def test_one_silent_site_warns_and_silence_everywhere_is_red(landed: Lake, tmp_path: Path) -> None:
    load(landed, 2, [])
    result = run_gate(landed, "nightscout", Layer.BRONZE, INTERVAL, "run 1", tmp_path)
    assert [finding.check for finding in result.warned] == ["entries_some_readings_from_each_site"]
    assert "site=ada" in result.warned[0].observed
    load(landed, 2, [], site="bob")
    with pytest.raises(GateError, match="entries_some_readings_in_the_interval"):
        run_gate(landed, "nightscout", Layer.BRONZE, INTERVAL, "run 2", tmp_path)


def test_an_interval_that_nobody_loaded_is_red(landed: Lake, tmp_path: Path) -> None:
    later = Interval.of_days(DAYS[2] + ONE_DAY, DAYS[2] + 2 * ONE_DAY)
    with pytest.raises(GateError) as caught:
        run_gate(landed, "nightscout", Layer.BRONZE, later, "run", tmp_path)
    for stream in ("entries", "treatments", "devicestatus", "profile"):
        assert f"{stream}_windows_complete" in str(caught.value)


def test_a_rule_that_cannot_be_evaluated_is_red_and_written_down(landed: Lake, tmp_path: Path) -> None:
    with landed.open() as connection:
        connection.execute("alter table bronze.nightscout_treatments drop column carbs")
    with pytest.raises(
        GateError, match=r"row_rules_were_judged.*The row rules of bronze\.nightscout_treatments cannot"
    ):
        run_gate(landed, "nightscout", Layer.BRONZE, INTERVAL, "run", tmp_path)
    assert "row_rules_were_judged" in {f.check for f in read_result(tmp_path, "run", "gate_bronze").failed}
    assert content(landed) == []


@pytest.mark.parametrize(
    ("stream", "change", "rules"),
    [
        ("treatments", {"insulin": -1.0}, ["insulin_in_range"]),
        ("treatments", {"carbs": 1200.0, "duration": -5.0}, ["carbs_in_range", "duration_not_negative"]),
        ("treatments", {"glucose": 7.5, "units": "mmol"}, None),
        ("treatments", {"glucose": 7.5, "units": "mg/dl"}, ["glucose_in_range"]),
        ("treatments", {"created_at": "yesterday", "date": None}, ["event_after_2000", "event_not_in_future"]),
    ],
)
def test_row_rules_know_good_from_bad(
    ruled: Lake, stream: str, change: dict[str, Any], rules: list[str] | None
) -> None:
    record = meals("ada", DAYS[0])[0] | {"interval_date": DAYS[0]} | change
    bronze.load(ruled, stream, DAYS[:1], [record], sites=["ada"], fetched_at=at(DAYS[1]))
    set_aside(ruled, "nightscout", "run")
    assert query(ruled, f"select rules from quarantine.nightscout_{stream}") == ([(rules,)] if rules else [])


@pytest.fixture
def ruled(lake: Lake) -> Lake:
    bronze.create_bronze(lake, ["treatments"])
    return lake


def test_profiles_that_cannot_be_read_are_set_aside(lake: Lake) -> None:
    bronze.create_bronze(lake, ["profile"])
    stores = {"good": '{"Default": {}}', "cut": '{"Default": {', "other": '{"Night": {}}', "none": None}
    records = [
        {
            "record_id": name,
            "interval_date": DAYS[0],
            "start_date": at(DAYS[0]).isoformat(),
            "default_profile": "Default",
            "store": store,
        }
        for name, store in stores.items()
    ]
    bronze.load(lake, "profile", DAYS[:1], records, sites=["ada"], fetched_at=at(DAYS[1]))
    set_aside(lake, "nightscout", "run")
    assert query(lake, "select record_id, rules from quarantine.nightscout_profile order by all") == [
        ("cut", ["store_is_json", "default_profile_in_store"]),
        ("none", ["store_is_json", "default_profile_in_store"]),
        ("other", ["default_profile_in_store"]),
    ]
