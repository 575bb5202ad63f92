"""The main job as a newcomer runs it: one command, a stack of its own, the real scheduler."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

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

    def variable(self, name: str) -> str:
        """A value from the environment that set-up wrote."""
        script = f'. "{self.home / "env"}" && printf %s "${name}"'
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="lake-e2e-"))
    home.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LAKE_", "PG"))}
    ports = {"LAKE_PORT": str(_free_port()), "LAKE_DEMO_PORT": str(_free_port())}
    made = Stack(home, {**kept, "LAKE_HOME": str(home), **ports})
    yield made
    made.lake("down")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def first_demo(stack: Stack) -> str:
    done = stack.lake("demo", "--weeks", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(500)
def test_demo_certifies_marts_and_says_where_to_look(stack: Stack, first_demo: str) -> None:
    assert "25 of 25 tasks" in first_demo
    assert "Release 1 certified" in first_demo
    with psycopg.connect(_libpq(stack.variable("AIRFLOW_CONN_MARTS_READER"))) as reader:
        days = dict(reader.execute("select site, count(*) from marts.mrt_daily_glycaemia group by site").fetchall())
        assert set(days) == {"amber", "birch", "cedar", "dune"}
        assert all(count >= 7 for count in days.values())
        assert reader.execute("select count(*) from ledger.releases").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("delete from marts.mrt_daily_glycaemia")


def test_demo_again_takes_up_where_it_was(stack: Stack, first_demo: str) -> None:
    started = time.monotonic()
    again = stack.lake("demo", "--weeks", "1", timeout=90)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "certified already" in again.stdout
    assert time.monotonic() - started < 90


def test_status_and_ledger_are_good_after_the_demo(stack: Stack, first_demo: str) -> None:
    status = stack.lake("status")
    assert status.returncode == 0, status.stdout
    verified = stack.lake("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_scheduled_run_ingests_the_day_before(stack: Stack, first_demo: str) -> None:
    port, password = stack.environment["LAKE_PORT"], json.loads((stack.home / "keys.json").read_text())["admin"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        token = client.post("/auth/token", json={"username": "admin", "password": password}).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        runs = "/api/v2/dags/nightscout_daily/dagRuns"
        deadline = time.monotonic() + 120
        while True:
            scheduled = client.get(runs, params={"run_type": "scheduled"}).json()["dag_runs"]
            if scheduled:
                path = (
                    f"{runs}/{scheduled[0]['dag_run_id']}/taskInstances/ingest.ingest_entries/xcomEntries/return_value"
                )
                answer = client.get(path)
                if answer.is_success:
                    break
            assert time.monotonic() < deadline, "no scheduled run ingested anything"
            time.sleep(1)
    value = answer.json()["value"]
    result = json.loads(value) if isinstance(value, str) else value
    today = datetime.now(UTC).date()
    assert result["interval_start"][:10] == str(today - timedelta(days=1))
    assert result["interval_end"][:10] == str(today)


def test_no_secret_shows_in_any_log(stack: Stack, first_demo: str) -> None:
    secrets = [*json.loads((stack.home / "passwords.json").read_text()).values()]
    keys = json.loads((stack.home / "keys.json").read_text())
    secrets += [value for name, value in keys.items() if name != "auditor"]
    logs = [path for path in (stack.home / "logs").rglob("*") if path.is_file()]
    assert logs
    shown = [path for path in logs for secret in secrets if secret in path.read_text(errors="replace")]
    assert shown == []


def test_port_in_use_is_one_sentence(stack: Stack, first_demo: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lake-e2e-") as other:
        Path(other).chmod(0o755)
        taken = Stack(Path(other), {**stack.environment, "LAKE_HOME": other})
        done = taken.lake("up", "--detach")
        assert done.returncode == 1
        assert "is in use" in done.stderr
        assert "Traceback" not in done.stderr
        taken.lake("down")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _libpq(uri: str) -> str:
    return uri.replace("postgres://", "postgresql://")
