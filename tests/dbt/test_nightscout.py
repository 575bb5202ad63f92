"""The models of Nightscout; what they compute is in `test_reference` and `test_incremental`."""

from typing import Any

from tests.dbt.conftest import models_of

MODELS = {
    "bronze.stg_nightscout__devicestatus",
    "bronze.stg_nightscout__entries",
    "bronze.stg_nightscout__profile",
    "bronze.stg_nightscout__treatments",
    "bronze.stg_nightscout__windows",
    "gold.mrt_agp_hourly",
    "gold.mrt_daily_glycaemia",
    "gold.mrt_glucose_hourly_patterns",
    "gold.mrt_glucose_overview",
    "gold.mrt_glucose_readings",
    "gold.mrt_quality_coverage",
    "silver.dim_date",
    "silver.dim_device",
    "silver.dim_profile_scd",
    "silver.fct_bolus_event",
    "silver.fct_carb_event",
    "silver.fct_cgm_reading",
}


def test_the_models_are_these(models: list[Any]) -> None:
    assert set(models_of("nightscout", models)) == MODELS
