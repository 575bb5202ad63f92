"""What Airflow's scheduler has imported when it forks a task, once for all processes that are forked."""

import gc
import importlib

from include.orchestration.preload import MODULES, _fill_caches
from include.quality.gx_import import great_expectations
from tests.pipeline.flow import dbt_runner

great_expectations()
for _module in (*MODULES, "include.orchestration.retry", "tests.faults.bench"):
    importlib.import_module(_module)
dbt_runner()
_fill_caches()
gc.freeze()  # as LocalExecutor does before it forks a worker
