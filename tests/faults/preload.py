"""What the steps of a flow import, once for all processes that are forked."""

import gc
import importlib

from include.orchestration.preload import _fill_caches
from include.quality.gx_import import great_expectations
from tests.pipeline.flow import dbt_runner

great_expectations()
for _module in (
    "dbt.adapters.duckdb",
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.task.test",
    "dlt.destinations.impl.ducklake.ducklake",
    "dlt.pipeline.pipeline",
    "httpx",
    "include.orchestration.retry",
    "pyarrow.compute",
    "pyarrow.parquet",
    "tests.faults.bench",
):
    importlib.import_module(_module)
dbt_runner()
_fill_caches()
gc.freeze()  # as LocalExecutor does before it forks a worker
