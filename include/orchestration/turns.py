"""Each step of a pipeline makes sure that its run has the domain, or comes back later."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from include.orchestration.connections import airflow_connection

WAIT = timedelta(seconds=30)

log = logging.getLogger(__name__)


def lake_in_turn(context: dict[str, Any], domain: str) -> Any:
    """The lake, if the domain is this run's turn; it stays so until the run has ended.

    Raises:
        AirflowRescheduleException: another run has it. The task gives up its slot, keeps its tries, and comes back.
    """
    from include import runtime
    from include.lake.turns import Run, take_turn

    lake = runtime.lake(airflow_connection)
    dag_run, instance = context["dag_run"], context["ti"]

    def is_running(run: Run) -> bool:
        # Not one that is queued: with max_active_runs it may be waiting for us.
        return instance.get_dr_count(dag_id=run.dag_id, run_ids=[run.run_id], states=["running"]) > 0

    mine = Run(dag_run.dag_id, dag_run.run_id)
    holder = take_turn(lake.catalog, domain, mine, is_running)
    if holder != mine:
        log.info("It is the turn of run %s in the domain %s; this task comes back in %s.", holder, domain, WAIT)
        raise AirflowRescheduleException(datetime.now(UTC) + WAIT)
    return lake
