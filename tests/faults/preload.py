"""What Airflow's scheduler has imported when it forks a task, and what steps need: once for all that are forked."""

import gc

import include.orchestration.retry  # noqa: F401
import tests.faults.bench  # noqa: F401
from include.orchestration.preload import load
from tests.pipeline.flow import dbt_runner

load()
dbt_runner()
gc.freeze()  # as LocalExecutor does before it forks a worker
