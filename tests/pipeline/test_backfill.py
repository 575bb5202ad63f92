"""Backfills under the real scheduler: Airflow's own, run by run, and `lake backfill`, stopped and taken up again.

`LAKE_TORTURE_ROUNDS` is the number of days that Airflow's backfill covers, at most 30.
"""

import itertools
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.local.nightscout import demo_sites, serve
from include.settings import ROOT
from tests.pipeline.own_stack import Airflow, Stack, own_stack

DAG = "nightscout_daily"
DAY = timedelta(days=1)
DAYS = min(int(os.environ.get("LAKE_TORTURE_ROUNDS", "2")), 30)
MINUTES_A_RUN = 6

pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("backfill")]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # The sites of `lake demo` have four weeks.
    sites = demo_sites(today() - (DAYS + 4) * DAY, today(), secret_seed=uuid.uuid4().hex)
    with serve(sites) as server, own_stack([ROOT / "dags" / f"{DAG}.py"], **server.connections()) as made:
        made.use_sites(server)
        done = made.lake("up", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made


@pytest.fixture(scope="module")
def airflow(stack: Stack) -> Iterator[Airflow]:
    with stack.airflow() as api:
        wait_until(lambda: api.client.get(f"/api/v2/dags/{DAG}").is_success, 2, "Airflow to know the DAG")
        api.client.patch(f"/api/v2/dags/{DAG}", json={"is_paused": False}).raise_for_status()
        yield api


@pytest.mark.timeout(60 * MINUTES_A_RUN * 4)
def test_lake_backfill_that_is_stopped_goes_on_with_what_is_left(stack: Stack, airflow: Airflow) -> None:
    first = today() - (DAYS + 3) * DAY
    command = ("backfill", "nightscout", "--from", str(first), "--to", str(first + 2 * DAY), "--chunk", "1d")

    stopped = stack.start_lake(*command)
    wait_until(lambda: len(manual_runs(airflow)) == 1, 5, "the first run")
    beside = stack.lake(*command)
    assert beside.returncode == 1
    assert "Another `lake backfill nightscout` is under way" in beside.stderr
    time.sleep(2)  # for the command to get the answer to its trigger
    stopped.send_signal(signal.SIGINT)
    said, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, said + errors
    assert "Stopped watching. The run goes on" in said
    assert "Traceback" not in errors

    killed = stack.start_lake(*command)
    wait_until(lambda: len(manual_runs(airflow)) == 2, 3 * MINUTES_A_RUN, "the second run")
    killed.kill()
    said, errors = killed.communicate(timeout=60)
    assert "of these days is under way; watching it" in said

    rest = stack.lake(*command, timeout=60 * MINUTES_A_RUN)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert "1 days certified, 1 to run" in rest.stdout
    assert "of these days is under way; watching it" in rest.stdout
    assert "All 1 days are certified." in rest.stdout
    runs = manual_runs(airflow)
    assert_succeeded(airflow, runs)
    assert {airflow.interval(DAG, run, "ingest.ingest_entries")[0] for run in runs} == {first, first + DAY}
    again = stack.lake(*command)
    assert "2 days certified, 0 to run" in again.stdout
    assert len(manual_runs(airflow)) == 2


@pytest.mark.timeout(60 * MINUTES_A_RUN * (3 * DAYS + 2))
def test_reprocessing_ends_in_the_same_rows(stack: Stack, airflow: Airflow) -> None:
    first, last = today() - DAYS * DAY, today() - DAY

    backfill(stack, airflow, first, last, "none")
    runs = runs_of_days(airflow, first, last)
    assert_succeeded(airflow, runs)
    assert [run["logical_date"][:10] for run in runs] == [str(first + number * DAY) for number in range(DAYS)]
    assert {airflow.interval(DAG, run, "ingest.ingest_entries") for run in runs} == {
        (first + number * DAY, first + (number + 1) * DAY) for number in range(DAYS)
    }
    assert_no_two_at_once(airflow)
    rows, releases = published(stack)
    assert releases >= DAYS
    assert all(count for count, _ in rows.values())

    backfill(stack, airflow, first, last, "none")
    assert starts(runs_of_days(airflow, first, last)) == starts(runs)
    assert published(stack) == (rows, releases)

    torn = None

    def tear() -> bool:
        """Fail the first run that has changed bronze, in its middle."""
        nonlocal torn
        for run in runs_of_days(airflow, first, last):
            if run["state"] == "running" and airflow.task_state(DAG, run, "gate_bronze") == "success":
                torn = run["dag_run_id"]
                path = f"/api/v2/dags/{DAG}/dagRuns/{torn}"
                airflow.client.patch(path, json={"state": "failed"}).raise_for_status()
                return True
        return False

    backfill(stack, airflow, first, last, "completed", meanwhile=tear)
    completed = runs_of_days(airflow, first, last)
    assert {run["dag_run_id"] for run in completed if run["state"] == "failed"} == {torn}
    assert not set(starts(completed).items()) & set(starts(runs).items())
    after, _ = published(stack)
    assert after == rows

    backfill(stack, airflow, first, last, "failed")
    mended = runs_of_days(airflow, first, last)
    assert_succeeded(airflow, mended)
    assert {run for run, start in starts(mended).items() if starts(completed)[run] != start} == {torn}
    assert_no_two_at_once(airflow)
    after, _ = published(stack)
    assert after == rows
    assert stack.lake("verify").returncode == 0
    since = ("--from", str(first), "--to", str(today() + DAY))
    planned = stack.lake("backfill", "nightscout", *since, "--dry-run")
    assert f"{DAYS} days certified, 1 to run" in planned.stdout, planned.stdout + planned.stderr


def backfill(
    stack: Stack,
    airflow: Airflow,
    first: date,
    last: date,
    behaviour: str,
    meanwhile: Callable[[], bool] | None = None,
) -> None:
    """Airflow's own backfill, until it and all runs of its days have ended."""
    options = f"--from-date {first} --to-date {last} --max-active-runs 2 --reprocess-behavior {behaviour}"
    done = stack.airflow_command(f"backfill create --dag-id {DAG} {options}")
    assert done.returncode == 0, done.stdout + done.stderr
    if meanwhile is not None:
        wait_until(meanwhile, MINUTES_A_RUN, "a run to interrupt")

    def is_over() -> bool:
        backfills = airflow.client.get("/api/v2/backfills", params={"dag_id": DAG}).raise_for_status().json()
        ended = all(run["state"] in ("success", "failed") for run in airflow.runs(DAG))
        return ended and all(each["completed_at"] for each in backfills["backfills"])

    wait_until(is_over, MINUTES_A_RUN * (DAYS + 1), f"the backfill with {behaviour} to end")


def published(stack: Stack) -> tuple[dict[str, tuple[int, str]], int]:
    """Rows and their digest by mart, as a reader of PostgreSQL sees them, and the number of releases."""
    with psycopg.connect(stack.conninfo("marts_reader")) as reader:
        marts = reader.execute("select table_name from information_schema.tables where table_schema = 'marts'")
        digest = sql.SQL("select count(*), md5(string_agg(md5(t::text), '' order by md5(t::text))) from marts.{} as t")
        rows = {name: reader.execute(digest.format(sql.Identifier(name))).fetchone() for (name,) in marts.fetchall()}
        releases = reader.execute("select count(*) from ledger.releases").fetchone()
    assert rows
    assert releases is not None
    return rows, releases[0]


def runs_of_days(airflow: Airflow, first: date, last: date) -> list[dict[str, Any]]:
    days = {"logical_date_gte": f"{first}T00:00:00Z", "logical_date_lte": f"{last}T00:00:00Z"}
    return airflow.runs(DAG, order_by="logical_date", limit="100", **days)


def manual_runs(airflow: Airflow) -> list[dict[str, Any]]:
    return airflow.runs(DAG, run_type="manual")


def starts(runs: list[dict[str, Any]]) -> dict[str, str]:
    return {run["dag_run_id"]: run["start_date"] for run in runs}


def assert_succeeded(airflow: Airflow, runs: list[dict[str, Any]]) -> None:
    failed = {run["dag_run_id"]: airflow.errors(DAG, run) for run in runs if run["state"] != "success"}
    assert failed == {}


def assert_no_two_at_once(airflow: Airflow) -> None:
    ends = sorted(airflow.ends(DAG, run) for run in airflow.runs(DAG, limit="100"))
    assert all(last <= first for (_, last), (first, _) in itertools.pairwise(ends)), ends


def wait_until(holds: Callable[[], bool], minutes: float, what: str) -> None:
    deadline = time.monotonic() + 60 * minutes
    while not holds():
        assert time.monotonic() < deadline, f"waited {minutes} minutes for {what}"
        time.sleep(1)


def today() -> date:
    return datetime.now(UTC).date()
