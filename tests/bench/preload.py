"""What Airflow's scheduler has imported when it forks a task: the processes of the bench are forked like tasks."""

import gc
import importlib

from include.orchestration.preload import MODULES, _fill_caches
from include.quality.gx_import import great_expectations

great_expectations()
for _module in (*MODULES, "psutil"):
    importlib.import_module(_module)
_fill_caches()
gc.freeze()  # as LocalExecutor does before it forks a worker: collections in tasks pass over all of this
