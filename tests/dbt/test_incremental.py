"""Incremental builds: any order, repeat or split of loads ends in the tables that one full build makes."""

import itertools
import json
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from include.lake.attach import Lake
from tests.dbt.bronze import Record, create_bronze, entry, load, set_aside, treatment, utc_day
from tests.dbt.conftest import BUILT_DAYS, NIGHTSCOUT, Dbt, at

FIRST = date(2024, 3, 29)  # Berlin's clocks change on the third day
DAYS = [FIRST + timedelta(days=i) for i in range(6)]
ZONES = {"auckland": "Pacific/Auckland", "berlin": "Europe/Berlin", "hawaii": "Pacific/Honolulu"}
SITES = sorted(ZONES)
STREAMS = ("entries", "profile", "treatments")
INCREMENTAL = ("--select", "path:models/*/nightscout,config.materialized:incremental")
REST = ("--select", "path:models/*/nightscout,config.materialized:table")


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.torture)])
def test_any_order_of_loads_ends_in_the_same_tables(lake: Lake, dbt: Dbt, seed: int) -> None:
    chance = random.Random(seed)
    history = _history(chance)
    create_bronze(lake)
    dbt(lake, "run", "--select", "path:models/bronze/nightscout", *INCREMENTAL[1:])

    for _ in range(4):  # not the last word: rows that come late, rows that will be deleted, other values
        stream, sites, days = chance.choice(STREAMS), chance.sample(SITES, 2), chance.sample(DAYS, 3)
        records = [
            record | {"sgv": 111.1} if stream == "entries" and chance.random() < 0.1 else record
            for record in _windows(history[stream], sites, days)
            if chance.random() < 0.7
        ] + [_stray(stream, site, day) for site in sites for day in days]
        load(lake, stream, days, records, sites=sites, zone=ZONES)
        of_window = [record["record_id"] for record in _windows(records, sites[:1], days[:1])]
        set_aside(lake, stream, sites[0], days[0], of_window[::20])
        dbt(lake, "run", *INCREMENTAL)
        set_aside(lake, stream, sites[0], days[0], [])
    shuffled = chance.sample(DAYS, len(DAYS))
    for days in (shuffled[:3], shuffled[3:]):
        for stream in STREAMS:
            load(lake, stream, days, _windows(history[stream], SITES, days), sites=SITES, zone=ZONES)
        dbt(lake, "run", *INCREMENTAL)
    dbt(lake, "run", *REST)
    piecemeal = _contents(lake)

    for stream in STREAMS:
        load(lake, stream, DAYS, history[stream], sites=SITES, zone=ZONES)
    dbt(lake, "run", "--full-refresh", *NIGHTSCOUT, "--exclude", "path:models/bronze")

    whole = _contents(lake)
    assert piecemeal.keys() == whole.keys()
    for table, rows in whole.items():
        assert rows, f"{table} is empty"
        assert piecemeal[table] == rows, f"{table} differs"


def test_a_build_with_nothing_new_changes_nothing(built_lake: Lake, dbt: Dbt) -> None:
    before = _snapshot(built_lake)

    dbt(built_lake, "run", *INCREMENTAL)

    assert _snapshot(built_lake) == before


def test_a_model_that_is_built_anew_is_one_snapshot(built_lake: Lake, dbt: Dbt) -> None:
    before = _snapshot(built_lake)
    run = dbt(built_lake, "run", "--full-refresh", *NIGHTSCOUT)
    models = [name for name in run.statuses if not name.startswith("lakehouse-on-run")]
    assert len(models) > 10
    assert _snapshot(built_lake) - before == len(models)
    with built_lake.open(read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_tables() where database_name = 'dl' union all "
            "select view_name from duckdb_views() where database_name = 'dl'"
        ).fetchall()
    assert [name for (name,) in tables if "__dbt_" in name] == []


def test_a_rebuild_is_one_snapshot_with_its_watermark(built_lake: Lake, dbt: Dbt) -> None:
    load(built_lake, "entries", [FIRST], [entry(at(FIRST, 1), 100)])
    before = _snapshot(built_lake)
    dbt(built_lake, "run", "--select", "fct_cgm_reading")
    assert _in_one_snapshot(built_lake, before) == (288 * 3 + 1, 2)

    load(built_lake, "entries", [FIRST], [])
    before = _snapshot(built_lake)
    dbt(built_lake, "run", "--select", "fct_cgm_reading", "--full-refresh")
    assert _in_one_snapshot(built_lake, before) == (288 * 3, 3)

    with built_lake.open() as connection:
        connection.execute("drop table silver.fct_cgm_reading; delete from meta.watermarks")
    before = _snapshot(built_lake)
    dbt(built_lake, "run", "--select", "fct_cgm_reading")
    assert _in_one_snapshot(built_lake, before) == (288 * 3, 3)


def test_a_build_that_cannot_remember_leaves_the_table_as_it_was(built_lake: Lake, dbt: Dbt) -> None:
    load(built_lake, "entries", [FIRST], [])
    with built_lake.open() as connection:
        connection.execute("create table meta.demanding as select *, '' as reason from meta.watermarks")
        connection.execute("alter table meta.demanding alter reason set not null")
        connection.execute("alter table meta.watermarks rename to spared")
        connection.execute("alter table meta.demanding rename to watermarks")

    run = dbt(built_lake, "run", "--select", "fct_cgm_reading", check=False)

    assert "NOT NULL" in run.messages["fct_cgm_reading"]
    assert _readings(built_lake) == (288, 288)
    with built_lake.open() as connection:
        connection.execute("drop table meta.watermarks; alter table meta.spared rename to watermarks")
    dbt(built_lake, "run", "--select", "fct_cgm_reading")
    assert _readings(built_lake) == (0, 288)


def test_only_days_around_the_change_are_rebuilt(built_lake: Lake, dbt: Dbt) -> None:
    day = BUILT_DAYS[0]
    load(built_lake, "treatments", [day], [treatment(at(day, 600), insulin=2.0, carbs=10.0)])
    before = _snapshot(built_lake)

    dbt(built_lake, "run", *INCREMENTAL)

    assert {
        model: _changed_days(built_lake, model, column, before)
        for model, column in (
            ("fct_bolus_event", "bolus_date"),
            ("fct_carb_event", "carb_date"),
            ("fct_cgm_reading", "reading_date"),
        )
    } == {"fct_bolus_event": BUILT_DAYS[:2], "fct_carb_event": [day], "fct_cgm_reading": []}


def test_a_judgement_of_the_gate_rebuilds_without_a_load(built_lake: Lake, dbt: Dbt) -> None:
    midnight = round(at(FIRST, 0).timestamp() * 1000)
    set_aside(built_lake, "entries", "site-a", FIRST, [f"e{midnight}", f"e{midnight + 300_000}"])
    dbt(built_lake, "run", *INCREMENTAL)
    assert _readings(built_lake) == (286, 286)

    set_aside(built_lake, "entries", "site-a", FIRST, [])
    dbt(built_lake, "run", *INCREMENTAL)
    assert _readings(built_lake) == (288, 288)


def test_gold_never_reads_further_than_silver(built_lake: Lake, dbt: Dbt) -> None:
    load(built_lake, "entries", [FIRST], [])

    dbt(built_lake, "run", "--select", "mrt_daily_glycaemia")
    assert _readings(built_lake) == (288, 288)

    dbt(built_lake, "run", "--select", "fct_cgm_reading", "mrt_daily_glycaemia")
    assert _readings(built_lake) == (0, None)


def test_gold_without_silver_says_what_to_build(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("delete from meta.watermarks where model = 'fct_cgm_reading'")

    run = dbt(built_lake, "run", "--select", "mrt_daily_glycaemia", check=False)

    assert "Build fct_cgm_reading first" in run.messages["mrt_daily_glycaemia"]


def test_a_table_that_lost_its_watermark_is_built_whole(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("delete from meta.watermarks")
        connection.execute("delete from silver.fct_cgm_reading where local_hour < 12")
    before = _snapshot(built_lake)

    dbt(built_lake, "run", "--select", "fct_cgm_reading")

    assert _in_one_snapshot(built_lake, before) == (288 * 4, 1)


def test_bronze_that_went_back_asks_for_a_full_refresh(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("update bronze.nightscout_entries set load_seq = 0")

    run = dbt(built_lake, "run", "--select", "fct_cgm_reading", check=False)

    assert "up to load 1, but that table only has 0" in run.messages["fct_cgm_reading"]
    assert "--full-refresh" in run.messages["fct_cgm_reading"]
    dbt(built_lake, "run", "--select", "fct_cgm_reading", "--full-refresh")
    dbt(built_lake, "run", "--select", "fct_cgm_reading")


def test_a_changed_column_list_asks_for_a_full_refresh(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("alter table silver.fct_cgm_reading drop column trend")

    run = dbt(built_lake, "run", "--select", "fct_cgm_reading", check=False)

    assert "out of sync" in run.messages["fct_cgm_reading"]
    assert "full_refresh" in run.messages["fct_cgm_reading"]


def test_tables_are_partitioned_by_month_also_after_a_full_refresh(built_lake: Lake, dbt: Dbt) -> None:
    assert _months(built_lake) == {"month=3", "month=4"}

    dbt(built_lake, "run", "--select", "fct_cgm_reading", "--full-refresh")

    assert _months(built_lake) == {"month=3", "month=4"}


def _history(chance: random.Random) -> dict[str, list[Record]]:
    """What the sites hold in the end: drifting sensors, two uploaders, gaps, values that are no whole numbers."""
    entries, treatments = [], []
    for site in SITES:
        at = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
        end = at + timedelta(days=len(DAYS))
        while at < end:
            moment = at + timedelta(seconds=chance.choice((0, 0, 0, 1, 298)))
            glucose = round(chance.uniform(40, 320), 3)
            if moment < end:
                entries.append(_of(site, entry(moment, glucose, record_id=f"e{len(entries):05}")))
            if chance.random() < 0.1 and moment + timedelta(seconds=20) < end:
                twin = entry(
                    moment + timedelta(seconds=20), glucose + 1, record_id=f"e{len(entries):05}", device="other"
                )
                entries.append(_of(site, twin))
            if chance.random() < 0.05:
                when = moment if moment < end else at
                event = treatment(
                    when, record_id=f"t{len(treatments):05}", insulin=chance.random(), carbs=chance.random()
                )
                treatments.append(_of(site, event))
            at += timedelta(seconds=chance.choice((299, 300, 300, 300, 900)))
    store = json.dumps({"Default": {"basal": [{"time": "00:00", "value": 1}]}})
    profiles = [
        {
            "site": site,
            "record_id": f"p-{site}-{day}",
            "interval_date": day,
            "start_date": f"{day}T00:00:00Z",
            "default_profile": "Default",
            "store": store,
        }
        for site in SITES
        for day in DAYS[::2]
    ]
    return {"entries": entries, "treatments": treatments, "profile": profiles}


def _stray(stream: str, site: str, day: date) -> Record:
    if stream == "entries":
        return _of(site, entry(at(day, 719), 99.9, record_id=f"stray-{site}-{day}"))
    if stream == "treatments":
        return _of(site, treatment(at(day, 719), record_id=f"stray-{site}-{day}", insulin=9.9, carbs=9.9))
    return {"site": site, "record_id": "stray", "interval_date": day, "start_date": f"{day}T12:00:00Z", "store": "{}"}


def _windows(records: list[Record], sites: list[str], days: list[date]) -> list[Record]:
    return [record for record in records if record["site"] in sites and record["interval_date"] in days]


def _of(site: str, record: Record) -> Record:
    return {
        "site": site,
        "interval_date": utc_day(record["date"]),
        "srv_created": record["date"] + (3 * 86_400_000 if record["date"] % 7 == 0 else 0),
    } | record


def _contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    with lake.open() as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'dl' "
            "and schema_name in ('silver', 'gold')"
        ).fetchall()
        return {
            f"{schema}.{table}": connection.execute(f"select * from {schema}.{table} order by all").fetchall()
            for schema, table in tables
        }


def _snapshot(lake: Lake) -> int:
    with lake.open() as connection:
        return connection.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchall()[0][0]


def _changed_days(lake: Lake, model: str, day: str, since: int) -> list[date]:
    with lake.open() as connection:
        changes = f"ducklake_table_changes('dl', 'silver', '{model}', {since + 1}, {_snapshot(lake)})"
        return [row[0] for row in connection.execute(f"select distinct {day} from {changes} order by 1").fetchall()]


def _in_one_snapshot(lake: Lake, since: int) -> tuple[int, int]:
    """Readings and watermark of fct_cgm_reading now; between snapshot `since` and now both changed once, together."""
    with lake.open() as connection:

        def state(version: int) -> tuple[Any, ...]:
            rows = f"select count(*) from silver.fct_cgm_reading at (version => {version})"
            mark = f"select max_by(load_seq, recorded_at), count(*) from meta.watermarks at (version => {version})"
            try:
                return *connection.execute(rows).fetchall()[0], *connection.execute(mark).fetchall()[0]
            except duckdb.CatalogException:  # not there yet
                return (None, None, None)

        states = [state(version) for version in range(since, _snapshot(lake) + 1)]
    distinct = [after for before, after in itertools.pairwise(states) if before != after and any(after)]
    assert len(distinct) == 1, f"rows and watermark changed in separate snapshots: {states}"
    return distinct[0][:2]


def _readings(lake: Lake) -> tuple[int, int | None]:
    """Readings of the first day: in silver, and as the daily mart has them."""
    with lake.open() as connection:
        return connection.execute(
            """
            select
                (select count(*) from silver.fct_cgm_reading where reading_date = ?),
                (select readings from gold.mrt_daily_glycaemia where local_date = ?)
            """,
            [FIRST, FIRST],
        ).fetchall()[0]


def _months(lake: Lake) -> set[str]:
    with lake.open() as connection:
        files = connection.execute(
            "select data_file from ducklake_list_files('dl', 'fct_cgm_reading', schema => 'silver')"
        ).fetchall()
    return {part for (file,) in files for part in file.split("/") if part.startswith("month=")}
