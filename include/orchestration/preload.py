"""Import once in the scheduler what tasks would each import again.

LocalExecutor forks its workers from the scheduler and a task is a fork of its worker, so modules that the scheduler
holds cost a task nothing. Only libraries: our own code must be read anew by each task, or an edit would wait for the
next start of the scheduler. Other executors and components are left alone: they would pay for it and not gain.
"""

import importlib
import os
import sys

MODULES = (
    "cosmos.operators.local",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dlt.destinations.impl.ducklake.ducklake",
    "dlt.pipeline.pipeline",
    "duckdb",
    "httpx",
    "orjson",
    "psycopg",
    "pyarrow.compute",
    "tenacity",
)


def preload() -> None:
    """Import the tasks' libraries if this is a scheduler with LocalExecutor."""
    executor = os.environ.get("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    if "scheduler" not in sys.argv[1:2] or executor != "LocalExecutor":
        return
    from include.quality.gx_import import great_expectations

    great_expectations()
    for module in MODULES:
        importlib.import_module(module)
