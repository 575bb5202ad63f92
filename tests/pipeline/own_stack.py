"""A stack of its own, as `lake up` starts it, for tests that need the real scheduler."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from include.local.nightscout import SiteServer
from include.settings import ROOT

LAKE = Path(sys.executable).parent / "lake"


@dataclass(frozen=True)
class Stack:
    home: Path
    environment: dict[str, str]

    def lake(self, *arguments: str, timeout: float = 420) -> subprocess.CompletedProcess[str]:
        command = [str(LAKE), *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )

    def use_sites(self, server: SiteServer) -> None:
        """Let it read these sites, whose connections it was given, rather than the demo's."""
        file = self.home / "own-sites.yaml"
        file.write_text(server.sites_yaml())
        self.environment["LAKE_NIGHTSCOUT_SITES"] = str(file)

    def start_lake(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs beside the test and hears Ctrl-C, which a test in the background does not."""
        return subprocess.Popen(
            [str(LAKE), *arguments],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def airflow_command(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of Airflow's own, in the environment that set-up wrote."""
        return self.command(f"airflow {command}")

    def command(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of the virtual environment, in the environment that set-up wrote."""
        script = f'. "{self.home / "env"}" && exec {Path(sys.executable).parent}/{command}'
        return subprocess.run(
            ["sh", "-c", script],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def variable(self, name: str) -> str:
        """A value from the environment that set-up wrote."""
        script = f'. "{self.home / "env"}" && printf %s "${name}"'
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    def conninfo(self, connection: str) -> str:
        """An Airflow connection to PostgreSQL, as libpq takes it."""
        return self.variable(f"AIRFLOW_CONN_{connection.upper()}").replace("postgres://", "postgresql://")

    @contextmanager
    def airflow(self) -> Iterator["Airflow"]:
        """Its REST API, logged in."""
        password = json.loads((self.home / "keys.json").read_text())["admin"]
        with httpx.Client(base_url=f"http://127.0.0.1:{self.environment['LAKE_PORT']}", timeout=30) as client:
            token = client.post("/auth/token", json={"username": "admin", "password": password}).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield Airflow(client)


@contextmanager
def own_stack(dags: Iterable[Path], **variables: str) -> Iterator[Stack]:
    """A home, ports and DAGs of its own; nothing runs before the first command, nothing afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lake-e2e-"))
    home.chmod(0o755)
    folder = home / "dags"
    folder.mkdir()
    for file in dags:
        (folder / file.name).symlink_to(file)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LAKE_", "PG"))}
    ports = {"LAKE_PORT": str(free_port()), "LAKE_DEMO_PORT": str(free_port())}
    own = {"LAKE_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(folder), **ports, **variables}
    made = Stack(home, {**kept, **own})
    try:
        yield made
    finally:
        made.lake("down")
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class Airflow:
    client: httpx.Client

    def runs(self, dag_id: str, **filters: str) -> list[dict[str, Any]]:
        return self.client.get(f"/api/v2/dags/{dag_id}/dagRuns", params=filters).json()["dag_runs"]

    def wait_for(self, dag_id: str, run_type: str, count: int, states: tuple[str, ...]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 400
        while True:
            found = self.runs(dag_id, run_type=run_type)
            ended = [run for run in found if run["state"] in states]
            if len(ended) >= count:
                return ended
            assert time.monotonic() < deadline, f"{count} {run_type} runs expected, found {found}"
            time.sleep(1)

    def interval(self, dag_id: str, run: dict[str, Any], task_id: str) -> tuple[date, date]:
        """What the task returned of its interval."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self.client.get(path).raise_for_status().json()["value"]
        result = json.loads(value) if isinstance(value, str) else value
        return date.fromisoformat(result["interval_start"][:10]), date.fromisoformat(result["interval_end"][:10])

    def task_state(self, dag_id: str, run: dict[str, Any], task_id: str) -> str | None:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances/{task_id}"
        return self.client.get(path).raise_for_status().json()["state"]

    def errors(self, dag_id: str, run: dict[str, Any]) -> dict[str, list[Any]]:
        """What the logs of the run's failed tasks say of errors, for the message of a test."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = self.client.get(path, params={"limit": "100", "state": "failed"}).raise_for_status().json()
        said = {}
        for task in tasks["task_instances"]:
            log = self.client.get(
                f"{path}/{task['task_id']}/logs/{task['try_number']}",
                params={"full_content": "true"},
                headers={"Accept": "application/json"},
            ).json()
            said[task["task_id"]] = [line for line in log.get("content", []) if line.get("level") == "error"][-2:]
        return said

    def ends(self, dag_id: str, run: dict[str, Any]) -> tuple[str, str]:
        """When the first and the last of the run's tasks ended; one that waits for its run's turn starts before."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = self.client.get(path, params={"limit": "100"}).raise_for_status().json()["task_instances"]
        return min(task["end_date"] for task in tasks), max(task["end_date"] for task in tasks)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
