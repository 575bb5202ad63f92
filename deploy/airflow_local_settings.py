"""Airflow imports this when each of its components starts; it lies in a `config` folder of AIRFLOW_HOME."""

from include.orchestration.preload import preload

preload()
