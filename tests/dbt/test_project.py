"""The dbt project as a whole: what it states of its models, where they land, and how it refuses."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from include.dbt_project import PROJECT_DIR
from include.domains import domains
from include.lake.attach import Lake
from tests.dbt.bronze import create_bronze, entry, load
from tests.dbt.conftest import BUILT_DAYS, NIGHTSCOUT, Dbt, at

DAY = date(2021, 1, 1)


def test_every_model_is_of_a_domain_and_lands_in_its_layer(models: list[Any]) -> None:
    assert {model.fqn[2] for model in models} == set(domains())
    for model in models:
        assert (model.database, model.schema) == ("dl", model.fqn[1]), model.name


def test_every_model_states_grain_key_units_and_owner(models: list[Any]) -> None:
    for model in models:
        stated = model.config.meta
        missing = {"grain", "key", "units", "owner"} - {name for name, value in stated.items() if value}
        assert not missing, f"{model.name} does not state {sorted(missing)}"
        assert set(stated["key"]) <= set(model.columns), f"{model.name} has no description of its key"
        assert model.description, model.name
        for column in model.columns.values():
            assert column.description, f"{model.name}.{column.name} is not described"


def test_silver_and_gold_have_contracts_and_tested_keys(models: list[Any], parsed_project: bytes) -> None:
    from dbt.contracts.graph.manifest import Manifest

    tests = [node for node in Manifest.from_msgpack(parsed_project).nodes.values() if node.resource_type == "test"]
    with_key = {node.attached_node for node in tests if node.name.startswith("key_is_unique")}
    for model in models:
        if model.schema != "bronze":
            assert model.config.contract.enforced, model.name
            assert model.unique_id in with_key, f"the key of {model.name} is not tested"


def test_no_mart_has_free_text(models: list[Any]) -> None:
    for model in (model for model in models if model.schema == "gold" or model.fqn[2] == "nightscout"):
        assert not {"notes", "reason", "entered_by", "enteredby", "payload"} & set(model.columns), model.name


def test_staging_describes_exactly_its_columns(built_lake: Lake, models: list[Any]) -> None:
    with built_lake.open() as connection:
        for model in (model for model in models if model.fqn[2] == "nightscout"):
            described = connection.execute(f"describe {model.schema}.{model.name}").fetchall()
            assert sorted(row[0] for row in described) == sorted(model.columns), model.name


def test_the_whole_build_passes_on_empty_bronze_with_every_unit_test(lake: Lake, dbt: Dbt) -> None:
    create_bronze(lake)

    run = dbt(lake, "build", *NIGHTSCOUT)

    assert set(run.statuses.values()) <= {"success", "pass"}
    assert len([name for name in run.statuses if name.startswith("a_")]) >= 10  # unit tests are sentences
    with lake.open() as connection:
        outside = connection.execute(
            "select distinct schema_name from duckdb_tables() where database_name = 'dl'"
        ).fetchall()
    assert {name for (name,) in outside} == {"bronze", "silver", "gold", "meta", "quarantine"}


def test_the_tests_of_keys_find_a_doubled_row(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("insert into gold.mrt_daily_glycaemia from gold.mrt_daily_glycaemia limit 1")
        connection.execute("update gold.mrt_glucose_overview set in_range_70_180_pct = 99.0")

    run = dbt(
        built_lake,
        "test",
        "--select",
        "mrt_daily_glycaemia",
        "mrt_glucose_overview",
        "--exclude",
        "test_type:unit",
        check=False,
    )

    failed = sorted(name for name, status in run.statuses.items() if status == "fail")
    assert [name.split("_mrt_")[0] for name in failed] == ["adds_up", "key_is_unique"]


def test_the_tests_of_keys_find_a_count_that_a_scan_does_not_confirm(built_lake: Lake, dbt: Dbt) -> None:
    with built_lake.open() as connection:
        connection.execute("call ducklake_flush_inlined_data('dl', schema_name => 'gold')")
        connection.execute(
            "update __ducklake_metadata_dl.ducklake.ducklake_data_file set record_count = record_count + 1"
        )

    run = dbt(built_lake, "test", "--select", "mrt_daily_glycaemia,test_name:key_is_unique", check=False)

    failed = [name for name, status in run.statuses.items() if status == "fail"]
    assert [name.split("_mrt_")[0] for name in failed] == ["key_is_unique"]


def test_a_lake_without_bronze_says_that_ingest_is_missing(lake: Lake, dbt: Dbt) -> None:
    for domain, table in (("nightscout", "entries"), ("saas", "accounts")):
        run = dbt(lake, "build", "--select", f"path:models/*/{domain}", check=False)

        assert not run.success
        said = run.error + "".join(run.messages.values())
        assert f"bronze.{domain}_{table}" in said
        assert f"lake run {domain}" in said


def test_a_broken_contract_and_a_model_outside_the_lake_fail_the_run(
    built_lake: Lake, dbt: Dbt, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns("target", "logs"))
    mart = project / "models/gold/nightscout/mrt_agp_hourly.sql"
    mart.write_text(mart.read_text().replace("as p50_mg_dl", "* 1.0 as p51_mg_dl"))
    stray = project / "models/bronze/nightscout/stray.sql"
    stray.write_text("{{ config(materialized='table', database='memory') }} select 1 as number")

    run = dbt(built_lake, "run", "--select", "mrt_agp_hourly", "stray", check=False, project=project)

    assert "enforced contract" in run.messages["mrt_agp_hourly"]
    assert run.statuses["stray"] == "success"
    assert "bronze.stray" in run.messages["lakehouse-on-run-end-0"]


def test_the_calendar_reaches_over_the_turn_of_the_year(lake: Lake, dbt: Dbt) -> None:
    create_bronze(lake)
    load(lake, "entries", [DAY], [entry(at(DAY, 0), 100)], zone="America/New_York")
    load(lake, "profile", [date(1970, 1, 1)], [])

    dbt(lake, "run", "--select", "stg_nightscout__windows", "dim_date")

    with lake.open() as connection:
        ends = connection.execute("select min(date_day), max(date_day), count(*) from silver.dim_date").fetchall()
        turn = connection.execute(
            "select iso_year, iso_week, week_start_date, iso_day_of_week, is_weekend from silver.dim_date "
            "where date_day = date '2021-01-02'"
        ).fetchall()
    assert ends == [(date(2020, 1, 1), date(2021, 12, 31), 366 + 365)]
    assert turn == [(2020, 53, date(2020, 12, 28), 6, True)]


def test_freshness_is_judged_by_when_sites_answered(built_lake: Lake, dbt: Dbt) -> None:
    entries = ("source", "freshness", "--select", "source:nightscout.entries")
    assert dbt(built_lake, *entries).statuses["entries"] == "pass"
    with built_lake.open() as connection:
        connection.execute("update bronze.nightscout_entries set fetched_at = fetched_at - interval 4 day")

    run = dbt(built_lake, *entries, check=False)

    assert run.statuses["entries"] == "error"


def test_the_lake_can_lie_on_s3(s3_lake: Lake, dbt: Dbt) -> None:
    create_bronze(s3_lake)
    load(s3_lake, "entries", BUILT_DAYS[:1], [entry(at(BUILT_DAYS[0], 5 * i), 100) for i in range(288)])

    dbt(s3_lake, "run", "--select", "path:models/bronze/nightscout", "fct_cgm_reading", "mrt_daily_glycaemia")

    with s3_lake.open() as connection:
        assert connection.execute("select readings from gold.mrt_daily_glycaemia").fetchall() == [(288,)]


def test_dbt_opens_the_lake_as_others_do(lake: Lake, dbt: Dbt) -> None:
    create_bronze(lake)
    as_others = replace(lake, threads=3, memory_limit="1GB")
    with as_others.open() as connection:
        settings = "current_setting('threads')::varchar || ' ' || current_setting('memory_limit')"
        (expected,) = connection.execute(f"select {settings}").fetchone()
    shown = '{% if execute %}{% set found = run_query("select ' + settings + '").rows[0][0] %}'
    shown += "{{ exceptions.raise_compiler_error(found) if found != '" + expected + "' }}{% endif %} select 1 as one"
    assert dbt(as_others, "show", "--inline", shown).success
