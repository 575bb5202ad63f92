"""What Airflow's scheduler has imported when it forks a task: the processes of the bench are forked like tasks."""

import gc

import psutil  # noqa: F401

from include.orchestration.preload import load

load()
gc.freeze()  # as LocalExecutor does before it forks a worker: collections in tasks pass over all of this
