"""Import once in the scheduler what tasks would each import again.

LocalExecutor forks its workers from the scheduler and a task is a fork of its worker, so modules that the scheduler
holds cost a task nothing. Other executors and components are left alone: they would pay for it and not gain.
"""

import importlib
import logging
import os
import sys

MODULES = (
    "cosmos.operators.local",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "include.sources.nightscout.pipeline",
    "include.quality.preload",
    "include.release.certify",
)


def preload() -> None:
    """Import the tasks' modules if this is a scheduler with LocalExecutor."""
    executor = os.environ.get("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    if "scheduler" not in sys.argv[1:2] or executor != "LocalExecutor":
        return
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            # The task that needs it will fail with the full story; the scheduler must start.
            logging.getLogger(__name__).warning("Could not preload %s: %s", module, error)
