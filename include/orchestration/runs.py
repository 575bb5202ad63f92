"""From an Airflow run of any kind to its interval, in one place."""

from typing import Any

from airflow.sdk import Param

from include.interval import Interval
from include.layers import Layer
from include.quality.suites import suite

RUN_PARAMS = {
    "interval_start": Param(
        None,
        type=["null", "string"],
        format="date",
        title="From (UTC day)",
        description="First day to ingest and rebuild. Leave both days empty for the last complete day.",
    ),
    "interval_end": Param(
        None,
        type=["null", "string"],
        format="date",
        title="To (UTC day, exclusive)",
        description="The day after the last one.",
    ),
    "full_refresh": Param(
        False,
        type="boolean",
        title="Full refresh",
        description="Rebuild silver and gold from all of bronze rather than only the days that changed.",
    ),
}


def replay_params(domain: str) -> dict[str, Param]:
    """The trigger form of a replay."""
    tables = list(suite(domain, Layer.BRONZE).row_rules)
    day = {"type": ["null", "string"], "format": "date"}
    return {
        "interval_start": Param(
            None,
            **day,
            title="From (UTC day)",
            description="First day to judge again. Leave both empty for all days on which rows are set aside.",
        ),
        "interval_end": Param(None, **day, title="To (UTC day, exclusive)", description="The day after the last one."),
        "tables": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "enum": tables},
            examples=tables,
            title="Tables",
            description="Bronze tables whose quarantined rows choose the days; by default all. Of a chosen day every "
            "table is judged.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only say, in the log of `replay_plan`, what would change.",
        ),
    }


def run_interval(context: dict[str, Any]) -> Interval:
    """The interval of the run that `context` belongs to: scheduled, backfill, manual or asset-triggered."""
    dag_run = context["dag_run"]
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    return Interval.for_run(
        params=context["params"],
        data_interval=(start, end) if start is not None and end is not None else None,
        run_after=dag_run.run_after,
        assets=[event.extra or {} for event in _asset_events(context)],
    )


def _asset_events(context: dict[str, Any]) -> list[Any]:
    events = context.get("triggering_asset_events") or {}
    return [event for asset in events for event in events[asset]]
