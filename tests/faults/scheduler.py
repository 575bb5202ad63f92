"""A stack whose tasks are killed while the real scheduler runs them."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg.rows import dict_row

from include.connections import Connection, Postgres, Storage
from include.lake.attach import Lake
from include.local.airflow_api import Airflow, _error_text
from include.local.nightscout import SiteServer
from include.local.postgres import SUPERUSER
from tests.pipeline.flow import Flow
from tests.pipeline.own_stack import Stack

DAG = "nightscout_daily"
SECONDS = 900


def flow_of(stack: Stack, server: SiteServer) -> Flow:
    """The stack's lake and marts, to run steps and to read without Airflow."""

    def connection(conn_id: str) -> Connection:
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        return Connection.parse(conn_id, stack.environment.get(name) or stack.variable(name))

    lake = Lake(
        Postgres.of(connection("lake_catalog")),
        Storage.of(connection("lake_storage")),
        stack.home / "extensions",
        stack.home / "tmp",
        memory_limit="2GB",
        threads=1,
    )
    reader = Postgres.of(connection("marts_reader"))
    return Flow(lake, Postgres.of(connection("marts")), stack.home, server, reader)


@contextmanager
def metadata(stack: Stack, database: str = "airflow") -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A database of the stack's server, as its administrator."""
    password = json.loads((stack.home / "passwords.json").read_text())[SUPERUSER]
    with psycopg.connect(
        host=str(stack.home / "pg"),
        dbname=database,
        user=SUPERUSER,
        password=password,
        autocommit=True,
        row_factory=dict_row,
    ) as connection:
        yield connection


@dataclass(frozen=True)
class Kill:
    """A task's process that was killed: which, and what Airflow made of it."""

    point: str
    run_id: str
    task_id: str
    try_number: int


@dataclass
class Reaper:
    """Kills a task's process for each point, once, at a random moment of its work.

    Args:
        points: by a name, the pattern that SQL's `like` finds in a task id.
        then: called right after each kill.
    """

    stack: Stack
    points: dict[str, str]
    then: Callable[[], None] = lambda: None
    kills: list[Kill] = field(default_factory=list)

    def look(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        """Kill what is at one of the points that are left, in the run whose turn it is."""
        holder = self._holder()
        for name in [name for name in self.points if name not in {kill.point for kill in self.kills}]:
            found = connection.execute(
                "select run_id, task_id, try_number, pid from task_instance where dag_id = %s and state = 'running' "
                "and pid is not null and run_id = %s and task_id like %s limit 1",
                [DAG, holder, self.points[name]],
            ).fetchone()
            if found is None:
                continue
            time.sleep(random.uniform(0, 0.6))
            if self._kill(found["pid"]):
                self.kills.append(Kill(name, found["run_id"], found["task_id"], found["try_number"]))
                self.then()

    def _holder(self) -> str | None:
        with metadata(self.stack, "lake_catalog") as catalog:
            if catalog.execute("select to_regclass('lakehouse.turns') as there").fetchone() == {"there": None}:
                return None
            row = catalog.execute("select run_id from lakehouse.turns").fetchone()
            return row["run_id"] if row else None

    def _kill(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            if not process.cmdline()[0].startswith("airflow worker"):
                return False
            process.kill()
        except (psutil.NoSuchProcess, IndexError):
            return False  # it was quicker; later runs have such a task too
        return True


def what_airflow_says(airflow: Airflow, run_id: str, task_id: str, try_number: int) -> str:
    """The last error in the log of a task's try."""
    path = f"/api/v2/dags/{DAG}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
    entries = airflow._get(path, full_content="true")["content"]
    lines = [entry for entry in entries if isinstance(entry, dict) and entry.get("level") in ("error", "critical")]
    return _error_text(lines[-1]) if lines else ""


def wait_for(
    connection: psycopg.Connection[dict[str, Any]],
    run_ids: list[str],
    each: Callable[[], None] = lambda: None,
    at_least: int | None = None,
) -> dict[str, str]:
    """Until the runs, or so many of them, have ended; their states. `each` is called meanwhile."""
    deadline = time.monotonic() + SECONDS
    while True:
        each()
        query = "select run_id, state from dag_run where run_id = any(%s)"
        states = {row["run_id"]: row["state"] for row in connection.execute(query, [run_ids])}
        ended = [run_id for run_id, state in states.items() if state in ("success", "failed")]
        if len(ended) >= (at_least or len(run_ids)):
            return states
        assert time.monotonic() < deadline, f"{states} after {SECONDS} s"
        time.sleep(0.05)


def wait_until(connection: psycopg.Connection[dict[str, Any]], query: str) -> None:
    """Until a query has a row."""
    deadline = time.monotonic() + SECONDS
    while connection.execute(query).fetchone() is None:  # type: ignore[arg-type]
        assert time.monotonic() < deadline, f"no row after {SECONDS} s: {query}"
        time.sleep(0.05)


def kill_worker(connection: psycopg.Connection[dict[str, Any]], run_id: str, task: str) -> str:
    """kill -9 of the executor's process that watches over a task of a run, as soon as one runs; which task it was."""
    query = (
        "select task_id, pid from task_instance where run_id = %s and task_id like %s and state = 'running' "
        "and pid is not null limit 1"
    )
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = connection.execute(query, [run_id, task]).fetchone()
        try:
            worker = psutil.Process(found["pid"]).parent() if found else None
            if found and worker and "LocalExecutor" in worker.cmdline()[0]:
                worker.kill()
                return found["task_id"]
        except (psutil.NoSuchProcess, IndexError):
            pass  # it was quicker; another task comes
        time.sleep(0.05)
    raise AssertionError(f"no task like {task} ran within {SECONDS} s")


def kill_scheduler(stack: Stack) -> int:
    """kill -9 of the scheduler alone; returns its number, which its workers have as their session."""
    pid = _leader(stack.home / "run" / "scheduler.json")
    os.kill(pid, signal.SIGKILL)
    return pid


def stop_scheduler(stack: Stack) -> int:
    """SIGSTOP: it lives and does nothing. Returns its number."""
    pid = _leader(stack.home / "run" / "scheduler.json")
    os.kill(pid, signal.SIGSTOP)
    return pid


def leaders(stack: Stack) -> list[int]:
    """The processes that `lake up` started; what they start is in their session."""
    return [_leader(path) for path in (stack.home / "run").glob("*.json")]


def _leader(file: Path) -> int:
    return json.loads(file.read_text())["pid"]


def in_session(leader: int) -> list[psutil.Process]:
    """What lives in a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
