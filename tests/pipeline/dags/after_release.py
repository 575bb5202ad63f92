"""Somebody else's DAG, which runs after each release of Nightscout's marts."""

from airflow.sdk import dag, task

from include.orchestration.dags import release_asset
from include.orchestration.runs import run_interval


@task
def what_was_released(**context):
    interval = run_interval(context)
    return {"interval_start": interval.start.isoformat(), "interval_end": interval.end.isoformat()}


@dag(schedule=[release_asset("nightscout")], is_paused_upon_creation=False)
def after_release():
    what_was_released()


after_release()
