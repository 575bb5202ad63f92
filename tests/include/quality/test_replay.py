"""What a replay would judge, and what quarantine holds, without writing anything."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from include.errors import GateError, LakehouseError
from include.interval import Interval
from include.lake.attach import Lake
from include.layers import Layer
from include.quality.checks import RowRule, Suite
from include.quality.quarantine import ensure_tables, keep_undated, set_aside
from include.quality.replay import Judgement, interval_of, listing, plan
from include.quality.suites import suite
from tests.dbt import bronze
from tests.include.quality.conftest import DAYS, ONE_DAY, meals, readings
from tests.include.quality.test_quarantine import load, query

ENTRIES, TREATMENTS = "nightscout_entries", "nightscout_treatments"


@pytest.fixture
def judged(lake: Lake) -> Lake:
    """Readings below 20 set aside on the first and third day, and a record without a day."""
    bronze.create_bronze(lake, ["entries", "treatments"])
    for number, values in enumerate(([100.0, 5.0, 15.0], [100.0, 100.0], [100.0, 15.0])):
        load(lake, number, values)
    bronze.load(lake, "treatments", DAYS, [each for day in DAYS for each in meals("ada", day)], sites=["ada"])
    with lake.open() as connection:
        keep_undated(connection, ENTRIES, 3, [("ada", "lost", json.dumps({"sgv": 90}))])
    set_aside(lake, "nightscout", "run 1")
    return lake


def rules(predicate: str) -> Suite:
    whole = suite("nightscout", Layer.BRONZE)
    return replace(whole, row_rules={**whole.row_rules, ENTRIES: (RowRule("sgv_in_range", predicate, "x"),)})


def entries(found: Any) -> Judgement:
    return {table.table: table for table in found.tables}[ENTRIES]


def test_plan_covers_the_days_that_hold_quarantined_rows_and_writes_nothing(judged: Lake) -> None:
    newest = query(judged, "select max(snapshot_id) from dl.snapshots()")
    found = plan(judged, "nightscout", suite=rules("sgv >= 10"))
    assert (
        found.interval
        == interval_of(json.loads(json.dumps(found.as_dict())))
        == Interval.of_days(DAYS[0], DAYS[2] + ONE_DAY)
    )
    assert entries(found) == Judgement(ENTRIES, 7, 3, 2, 0, (str(DAYS[0]), str(DAYS[2])))
    assert found.undated == 1
    assert query(judged, "select max(snapshot_id) from dl.snapshots()") == newest


def test_plan_of_chosen_days_finds_what_a_stricter_rule_would_set_aside(judged: Lake) -> None:
    found = plan(judged, "nightscout", first=DAYS[1], end=DAYS[2], suite=rules("sgv > 100"))
    assert entries(found) == Judgement(ENTRIES, 2, 0, 0, 2, (str(DAYS[1]),))


def test_tables_choose_the_days_and_a_lake_without_quarantined_rows_has_none(judged: Lake) -> None:
    found = plan(judged, "nightscout", tables=[TREATMENTS])
    assert (found.interval_start, found.tables) == (None, ())
    with pytest.raises(LakehouseError, match="nothing is or was set aside"):
        _ = found.interval


def test_days_whose_rows_left_quarantine_are_due_until_silver_was_built_without_them(judged: Lake) -> None:
    with judged.open() as connection:
        connection.execute(
            "insert into meta.quarantine_applied values "
            f"('fct', '{TREATMENTS}', 'ada', date '{DAYS[1]}', 'some', timestamptz '2026-03-05 00:00:00+00')"
        )
    assert plan(judged, "nightscout", tables=[TREATMENTS]).interval_start == str(DAYS[1])
    with judged.open() as connection:
        connection.execute(
            "insert into meta.quarantine_applied values "
            f"('fct', '{TREATMENTS}', 'ada', date '{DAYS[1]}', '', timestamptz '2026-03-06 00:00:00+00')"
        )
    assert plan(judged, "nightscout", tables=[TREATMENTS]).interval_start is None


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"first": DAYS[0]}, "needs both days or neither"),
        ({"tables": ["nightscout_moods"]}, "no row rules for nightscout_moods; expected some of nightscout_entries"),
        ({"first": date(2020, 1, 1), "end": date(2020, 2, 1)}, "holds no record of nightscout from 2020-01-01"),
    ],
)
def test_a_choice_that_cannot_be_is_one_sentence(judged: Lake, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        plan(judged, "nightscout", **chosen)


def test_a_rule_that_cannot_be_evaluated_is_named(judged: Lake) -> None:
    with pytest.raises(GateError, match=r"row rules of bronze\.nightscout_entries cannot be evaluated"):
        plan(judged, "nightscout", suite=rules("no_such_column > 1"))


def test_listing_groups_by_table_rule_and_day_with_an_example(judged: Lake) -> None:
    found = listing(judged, "nightscout")
    assert [(each.table, each.rule, each.day, each.rows, each.sites, each.dag_run_id) for each in found] == [
        (ENTRIES, "sgv_in_range", DAYS[0], 2, ("ada",), "run 1"),
        (ENTRIES, "sgv_in_range", DAYS[2], 1, ("ada",), "run 1"),
        (ENTRIES, "states_a_day", None, 1, ("ada",), "run 1"),  # the gate that came next answers for it
    ]
    record_id, payload = found[0].example
    assert record_id == f"ada-{DAYS[0]}-1" and json.loads(payload)["sgv"] == 5.0
    assert [each.rule for each in listing(judged, "nightscout", rule="states_a_day")] == ["states_a_day"]
    assert [each.day for each in listing(judged, "nightscout", first=DAYS[1])] == [DAYS[2]]
    assert listing(judged, "nightscout", tables=[TREATMENTS]) == []


def test_a_record_that_has_its_day_now_is_no_longer_kept_without_one(judged: Lake) -> None:
    record = readings("ada", DAYS[1], [90.0])[0] | {"record_id": "lost"}
    load_seq = bronze.load(judged, "entries", [DAYS[1]], [record], sites=["ada"])
    with judged.open() as connection:
        keep_undated(connection, ENTRIES, load_seq, [])
    assert listing(judged, "nightscout", rule="states_a_day") == []


def test_the_tables_that_dbt_writes_beside_quarantine_are_made_as_dbt_makes_them(lake: Lake, dbt: Any) -> None:
    columns = (
        "select table_schema, table_name, column_name, data_type, is_nullable from information_schema.columns "
        "where table_catalog = 'dl' and table_schema in ('meta', 'quarantine') order by all"
    )
    bronze.create_bronze(lake)
    ensure_tables(lake, "nightscout")
    ours = query(lake, columns)
    with lake.open() as connection:
        for schema, table in {row[:2] for row in ours}:
            connection.execute(f"drop table {schema}.{table}")
    dbt(lake, "run", "--select", "stg_nightscout__windows")
    assert query(lake, columns) == ours
    assert ("meta", "quarantine_applied") in {row[:2] for row in ours}
