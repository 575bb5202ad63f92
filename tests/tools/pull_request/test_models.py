"""Models that differ between two manifests: this checkout's, and one in which something was changed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tools.pull_request.models import ModelChange, Project, compare

MART = "model.lakehouse.mrt_glucose_readings"


@pytest.fixture(scope="module")
def before(manifest: Path) -> dict[str, Any]:
    return json.loads(manifest.read_bytes())


@pytest.fixture
def after(before: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(before)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, ModelChange]:
    return {change.table: change for change in compare(Project(before), Project(after))}


def test_two_parses_of_the_same_files_do_not_differ(before, after) -> None:
    assert changes(before, after) == {}


def test_a_models_sql(before, after) -> None:
    after["nodes"][MART]["checksum"]["checksum"] = "other"
    assert changes(before, after) == {
        "gold.mrt_glucose_readings": ModelChange("gold.mrt_glucose_readings", "nightscout", "changed", ("SQL",))
    }


def test_a_macro_counts_for_each_model_that_uses_it_through_others_too(before, after) -> None:
    after["macros"]["macro.lakehouse.risk"]["macro_sql"] += " "  # which only the macro glycaemia uses
    found = changes(before, after)
    assert found["gold.mrt_daily_glycaemia"].why == ("macro risk",)
    assert "gold.mrt_glucose_readings" not in found


def test_a_hook_and_a_strategy_count_for_the_models_that_run_them(before, after) -> None:
    after["macros"]["macro.lakehouse.record_rebuild"]["macro_sql"] += " "
    after["macros"]["macro.lakehouse.get_incremental_rebuild_days_sql"]["macro_sql"] += " "
    found = changes(before, after)
    assert found["silver.fct_cgm_reading"].why == ("macro get_incremental_rebuild_days_sql", "macro record_rebuild")
    assert not [table for table in found if table.startswith("bronze.")]


def test_words_and_checks_differ_and_rows_do_not(before, after) -> None:
    node = after["nodes"][MART]
    node["description"] = "Other words."
    node["columns"]["site"]["description"] = "Other words."
    owned = [key for key, each in after["nodes"].items() if each.get("attached_node") == MART]
    assert owned
    for key in owned:
        del after["nodes"][key]
    change = changes(before, after)["gold.mrt_glucose_readings"]
    assert {"words or constraints of site", "description", "check -key_is_unique"} <= set(change.why)
    assert not change.rows_may_differ


def test_columns_and_settings(before, after) -> None:
    node = after["nodes"][MART]
    node["columns"]["extra"] = {"name": "extra", "data_type": "bigint"}
    node["columns"]["site"]["data_type"] = "text"
    node["config"]["materialized"] = "view"
    change = changes(before, after)["gold.mrt_glucose_readings"]
    assert change.why == ("setting materialized", "column +extra", "column site: varchar → text")
    assert change.rows_may_differ


def test_models_that_come_and_go_with_the_domain_of_their_side(before, after) -> None:
    node = after["nodes"].pop(MART)
    node = node | {"name": "mrt_new", "alias": "mrt_new", "fqn": ["lakehouse", "gold", "shop", "mrt_new"]}
    after["nodes"]["model.lakehouse.mrt_new"] = node
    found = changes(before, after)
    assert (found["gold.mrt_new"].kind, found["gold.mrt_new"].domain) == ("added", "shop")
    assert (found["gold.mrt_glucose_readings"].kind, found["gold.mrt_glucose_readings"].domain) == (
        "gone",
        "nightscout",
    )


def test_downstream_is_everything_that_reads_a_table_however_far(before) -> None:
    project = Project(before)
    found = project.downstream({"bronze.stg_nightscout__profile"})
    assert "silver.dim_profile_scd" in found
    assert "gold.mrt_glucose_readings" not in found
    order = project.in_order()
    assert all(order.index(parent) < order.index(table) for table in order for parent in project.parents(table))
