"""What the operator hears when a run fails: which gate, which checks, which run, and where to look."""

import logging
from typing import Any
from urllib.parse import quote

from include.errors import GateError
from include.settings import settings

log = logging.getLogger(__name__)


def run_url(dag_id: str, run_id: str) -> str:
    """The page of a DAG run in Airflow."""
    base = settings().base_url or f"http://127.0.0.1:{settings().port}"
    return f"{base.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def failure_message(context: dict[str, Any]) -> str:
    """One message from the context of a failed task."""
    instance, dag_run = context["task_instance"], context["dag_run"]
    error = context.get("exception")
    what = "is red" if isinstance(error, GateError) else "failed"
    reason = str(error).strip() if error else "no reason was given; see the task's log"
    link = run_url(dag_run.dag_id, dag_run.run_id)
    return f"{dag_run.dag_id}: {instance.task_id} {what} in run {dag_run.run_id}. {reason} {link}"


def on_failure(context: dict[str, Any]) -> None:
    """Log the failure and, where LAKE_ALERT_CONNECTION names a webhook, send it there."""
    message = failure_message(context)
    log.error(message)
    conn_id = settings().alert_connection
    if conn_id:
        _post(conn_id, message)


def _post(conn_id: str, message: str) -> None:
    import httpx

    from include.orchestration.connections import airflow_connection

    connection = airflow_connection(conn_id)
    response = httpx.post(connection.password or connection.host or "", json={"text": message}, timeout=10)
    if response.is_error:
        log.error("The alert webhook of connection %s answered %s.", conn_id, response.status_code)
