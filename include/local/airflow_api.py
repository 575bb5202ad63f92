"""Airflow's REST API, as far as the `lake` command needs it: trigger a run and watch it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from include.connections import Connection
from include.errors import LakehouseError, SetupError
from include.interval import Interval

FINISHED = {"success", "failed"}
SILENT_SECONDS = 30


@dataclass(frozen=True)
class Task:
    """A task instance of a run: `state` is None before it is scheduled."""

    task_id: str
    state: str | None
    seconds: float | None


class Airflow:
    """A session with the Airflow that a connection names (host, port, login, password)."""

    def __init__(self, connection: Connection) -> None:
        scheme = connection.extra.get("scheme", "http")
        port = f":{connection.port}" if connection.port else ""
        self.url = f"{scheme}://{connection.host}{port}"
        self._login = {"username": connection.login, "password": connection.password}
        self._client = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> "Airflow":
        answer = self._client.post("/auth/token", json=self._login)
        if answer.status_code in (401, 403):
            raise SetupError(f"Airflow at {self.url} refused the login of connection airflow_api.")
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def wait_for_dag(self, dag_id: str, seconds: float = 90) -> None:
        """Until Airflow has parsed the DAG; an import error ends the wait with its text."""
        deadline = time.monotonic() + seconds
        while self._client.get(f"/api/v2/dags/{dag_id}").status_code == 404:
            errors = self._get("/api/v2/importErrors")["import_errors"]
            if errors:
                last_line = errors[0]["stack_trace"].strip().splitlines()[-1]
                raise LakehouseError(f"Airflow cannot import {errors[0]['filename']}: {last_line}")
            if time.monotonic() > deadline:
                raise LakehouseError(f"Airflow knows no DAG {dag_id} after {seconds:.0f} s; see `airflow dags list`.")
            time.sleep(0.5)

    def parse_anew(self, dag_id: str, seconds: float = 90) -> None:
        """Until Airflow has parsed the DAG's file once more, since what it is drawn from has changed."""
        before = self._get(f"/api/v2/dags/{dag_id}")
        self._json("PUT", f"/api/v2/parseDagFile/{before['file_token']}")
        deadline = time.monotonic() + seconds
        while self._get(f"/api/v2/dags/{dag_id}")["last_parsed_time"] == before["last_parsed_time"]:
            if time.monotonic() > deadline:
                raise LakehouseError(f"Airflow has not parsed DAG {dag_id} for {seconds:.0f} s; see `lake status`.")
            time.sleep(0.5)

    def set_pools(self, pools: dict[str, tuple[int, str]]) -> None:
        """Make each pool exist with its slots; what an operator changed since is kept."""
        known = {pool["name"] for pool in self._get("/api/v2/pools", limit=1000)["pools"]}
        for name, (slots, description) in pools.items():
            if name not in known:
                self._post("/api/v2/pools", {"name": name, "slots": slots, "description": description})

    def unfinished_run(self, dag_id: str, interval: Interval) -> str | None:
        """A run of this interval that waits or runs already, if there is one."""
        for run in self.unfinished(dag_id):
            if _dates(run.get("conf") or {}) == (str(interval.start.date()), str(interval.end.date())):
                return run["dag_run_id"]
        return None

    def unfinished(self, dag_id: str) -> Iterator[dict[str, Any]]:
        """The runs of a DAG that run, then those that wait."""
        for state in ("running", "queued"):
            yield from self._get(f"/api/v2/dags/{dag_id}/dagRuns", state=state, limit=100)["dag_runs"]

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run with these parameters; returns its run id. The run goes before scheduled ones that wait."""
        first, end = (str(day or "all") for day in _dates(conf))
        now = datetime.now(UTC)
        body = {
            "dag_run_id": f"manual__{first}__{end}__{now:%Y%m%dT%H%M%S.%f}",
            "logical_date": None,
            "conf": conf,
            "run_after": (now if first == "all" else datetime.fromisoformat(first).replace(tzinfo=UTC)).isoformat(),
        }
        run = self._post(f"/api/v2/dags/{dag_id}/dagRuns", body)
        self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()
        return run["dag_run_id"]

    def run_state(self, dag_id: str, run_id: str) -> str:
        return self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]

    def tasks(self, dag_id: str, run_id: str) -> list[Task]:
        """The run's task instances, in the order in which they started."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(path, limit=100, offset=len(found), order_by="start_date")
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                break
        return [Task(each["task_id"], each["state"], each["duration"]) for each in found]

    def watch(self, dag_id: str, run_id: str, every: float = 1.0) -> Iterator[tuple[str, list[Task]]]:
        """The run's state and tasks again and again, until it is finished.

        Raises:
            LakehouseError: the scheduler gives no sign of life, so that the run would be watched for ever.
        """
        heard = time.monotonic()
        while True:
            state = self.run_state(dag_id, run_id)
            yield state, self.tasks(dag_id, run_id)
            if state in FINISHED:
                return
            if self._get("/api/v2/monitor/health")["scheduler"]["status"] == "healthy":
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENT_SECONDS:
                raise LakehouseError(
                    f"Airflow's scheduler gives no sign of life; run {run_id} goes on when it does (on a laptop "
                    "`lake up` starts it anew). Give the command again to watch."
                )
            time.sleep(every)

    def failure(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The last error line of a failed task's log."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        instance = self._get(path)
        content = self._get(f"{path}/logs/{instance['try_number']}", full_content="true")["content"]
        lines = [entry for entry in content if isinstance(entry, dict) and entry.get("level") == "error"]
        if not lines:
            return "its log holds no error"
        return _error_text(lines[-1])

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._json("GET", path, params=params, headers={"Accept": "application/json"})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", path, json=body)

    def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise LakehouseError(
                f"Airflow at {self.url} stopped answering ({type(error).__name__}). What it runs goes on without this "
                "command; give the command again to watch."
            ) from error
        if answer.is_error:
            raise LakehouseError(
                f"Airflow answered {answer.status_code} to {answer.request.url.path}: {answer.text[:300]}"
            )
        return answer.json() if answer.content else {}


def reachable(connection: Connection) -> bool:
    """Whether an Airflow answers there."""
    try:
        with Airflow(connection):
            return True
    except (httpx.HTTPError, LakehouseError):
        return False


ProgressCallback = Callable[[str, list[Task]], None]


def _dates(conf: dict[str, Any]) -> tuple[str | None, str | None]:
    return conf.get("interval_start"), conf.get("interval_end")


def _error_text(entry: dict[str, Any]) -> str:
    detail = entry.get("error_detail") or []
    if detail:
        return f"{detail[-1].get('exc_type', 'Error')}: {detail[-1].get('exc_value', '')}"
    return str(entry.get("event", ""))
