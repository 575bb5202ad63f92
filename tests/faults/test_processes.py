"""Under the real scheduler: tasks and scheduler are killed, runs start at once, upkeep runs, and no secret shows."""

import dataclasses
import itertools
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from include.connections import Connection, Storage
from include.interval import Interval
from include.lake.files import s3_client
from include.local import stack as stack_of_a_laptop
from include.local.airflow_api import Airflow
from include.local.nightscout import Fault, SiteServer, demo_sites, serve
from include.local.postgres import ROLES, SUPERUSER
from include.settings import ROOT
from tests.conftest import connection_to
from tests.faults import canary, children
from tests.faults.children import Before
from tests.faults.judge import Difference, compare, everything, leftovers, sweep
from tests.faults.matrix import ROUNDS, Outcome
from tests.faults.scheduler import (
    DAG,
    Reaper,
    flow_of,
    in_session,
    kill_scheduler,
    kill_worker,
    metadata,
    stop_scheduler,
    wait_for,
    wait_until,
    what_airflow_says,
)
from tests.faults.watch import Readers, Seen
from tests.pipeline.flow import Flow, Rows
from tests.pipeline.own_stack import Stack, own_stack

ORDEALS = max(1, ROUNDS // 10)  # minutes each
UNHEARD = 60  # seconds after which the scheduler gives a task up that gives no sign of life

# One process has them all: they share a stack.
pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800 * ORDEALS), pytest.mark.xdist_group("stack")]

DAY = timedelta(days=1)
POINTS = {
    "while it ingests": "ingest.%",
    "while dbt builds a model": "silver.%",
    "while a gate checks": "gate_silver",
    "while it releases": "release",
}
# Each run's first and last sign of work, tries that were killed included.
SPANS = """
select min(start_date) as first, max(end_date) as last from (
    select run_id, start_date, end_date from task_instance where run_id = any(%s)
    union all select run_id, start_date, end_date from task_instance_history where run_id = any(%s)
) as tries group by run_id order by 1
"""
DAGS = ("nightscout_daily", "lake_maintenance", "lake_backup", "lake_restore_drill")


@dataclass(frozen=True)
class Place:
    """The stack that all tests here share, and the rows of an undisturbed run over its days."""

    stack: Stack
    server: SiteServer
    flow: Flow
    backups: Storage
    clean: Rows
    secrets: dict[str, str]

    def airflow(self) -> Airflow:
        return Airflow(Connection.parse("airflow_api", self.stack.variable("AIRFLOW_CONN_AIRFLOW_API")))


@pytest.fixture(scope="module")
def place(s3_server: Storage, manifest: Path) -> Iterator[Place]:
    today = datetime.now(UTC).date()
    sites = demo_sites(today - 5 * DAY, today, secret_seed=uuid.uuid4().hex)[:2]
    storage, backups = bucket_with_its_key(s3_server), bucket_with_its_key(s3_server)
    with serve(sites) as server:
        variables = {
            **server.connections(),
            "AIRFLOW_CONN_LAKE_STORAGE": connection_to(storage),
            "AIRFLOW_CONN_LAKE_BACKUP": connection_to(backups),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(UNHEARD),
        }
        with own_stack([ROOT / "dags" / f"{dag}.py" for dag in DAGS], **variables) as stack:
            stack.use_sites(server)
            secrets = canaries(stack, server, {"storage": storage, "backup": backups})
            for command in (("setup",), ("up", "--detach")):
                done = stack.lake(*command)
                assert done.returncode == 0, done.stdout + done.stderr
            flow = flow_of(stack, server)
            children.run(flow, partial(Flow.run, first=today - 2 * DAY, end=today)).value()
            yield Place(stack, server, flow, backups, everything(flow), secrets)


def bucket_with_its_key(server: Storage) -> Storage:
    """A bucket, and a key that is good for it alone, whose secret breaks bad quoting."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.iam.models import iam_backends

    bucket = f"lake-{uuid.uuid4().hex[:12]}"
    s3_client(server).create_bucket(Bucket=bucket)
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    # The server is in this process. Over HTTP one cannot choose a secret.
    users = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    users.create_user("us-east-1", user_name=bucket)
    users.put_user_policy(bucket, "own", json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    key = users.create_access_key(bucket)
    key.secret_access_key = f"Canary{uuid.uuid4().hex}%@:'\"/+"
    return dataclasses.replace(
        server, url=f"s3://{bucket}/lake", key_id=key.access_key_id, secret=key.secret_access_key
    )


def canaries(stack: Stack, server: SiteServer, storages: dict[str, Storage]) -> dict[str, str]:
    """Every secret of the stack, by whose it is. Those that may be chosen hold what breaks bad quoting."""
    home = stack.home
    words = {f"role {role}": f"Canary{uuid.uuid4().hex}%@:'\"" for role in (*ROLES, SUPERUSER)}
    keys = ("admin", "auditor", "api", "jwt", *stack_of_a_laptop.pseudonym_keys())
    words |= {f"key {key}": f"Canary{uuid.uuid4().hex}" for key in keys}
    words["key fernet"] = Fernet.generate_key().decode()
    write_private(home / "passwords.json", json.dumps({role: words[f"role {role}"] for role in (*ROLES, SUPERUSER)}))
    write_private(home / "keys.json", json.dumps({key: words[f"key {key}"] for key in (*keys, "fernet")}))
    words |= {whose: storage.secret or "" for whose, storage in storages.items()}
    for site in server.sites.values():
        words |= {f"site {site.site}": site.credential, f"site {site.site}, hashed": site.secret_sha1}
    # The word alone: a text that quotes what follows it in another way is a leak as well.
    return {whose: re.sub(r"\W+$", "", word) for whose, word in words.items()}


def write_private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


@dataclass(frozen=True)
class Ordeal:
    """What one round of kills and of a scheduler's death came to."""

    states: dict[str, str]
    told: dict[str, str]
    status: str
    left: int
    spans: list[tuple[datetime, datetime]]
    waited: str
    difference: Difference
    seen: Seen
    found: canary.Searched


@pytest.fixture(scope="module")
def ordeals(place: Place) -> list[Ordeal]:
    return [ordeal(place, number) for number in range(ORDEALS)]


def ordeal(place: Place, number: int) -> Ordeal:
    """Two runs of the domain at once; in the first to come a task is killed at each point, then the scheduler dies."""
    stack, found = place.stack, canary.Searched(len(place.secrets))

    def search() -> None:
        canary.in_files(found, [stack.home / "dlt"], place.secrets)
        canary.in_processes(found, stack, place.secrets)

    reaper = Reaper(stack, dict(POINTS), search)
    with metadata(stack) as connection, place.airflow() as airflow, Readers(place.flow) as readers:
        run_ids = start_two_runs(place, airflow, connection, number)
        wait_for(connection, run_ids, lambda: reaper.look(connection), at_least=1)
        assert {kill.point for kill in reaper.kills} == set(POINTS), reaper.kills
        wait_until(connection, "select from task_instance where state = 'running' and task_id like 'silver.%'")
        leader = kill_scheduler(stack)
        left = in_session(leader)
        status = stack.lake("status")
        again = stack.lake("up", "--detach")
        assert again.returncode == 0, again.stdout + again.stderr
        assert in_session(leader) == []
        states = wait_for(connection, run_ids)
        spans = [(row["first"], row["last"]) for row in connection.execute(SPANS, [run_ids, run_ids])]
        told = {
            kill.point: what_airflow_says(airflow, kill.run_id, kill.task_id, kill.try_number) for kill in reaper.kills
        }
        waited = turns_waited_for(stack, run_ids)
    assert status.returncode == 1
    said = next(line for line in status.stdout.splitlines() if "scheduler" in line)
    difference = compare(place.flow, place.clean)
    return Ordeal(states, told, said, len(left), spans, waited, difference, readers.seen, found)


def start_two_runs(place: Place, airflow: Airflow, connection: Any, number: int) -> list[str]:
    """The scheduled run of yesterday and a backfill of the day before, at once."""
    if number == 0:
        day = datetime.now(UTC).date() - 2 * DAY
        airflow.wait_for_dag(DAG)
        made = place.stack.airflow_command(f"backfill create --dag-id {DAG} --from-date {day} --to-date {day}")
        assert made.returncode == 0, made.stdout + made.stderr
        airflow._client.patch(f"/api/v2/dags/{DAG}", json={"is_paused": False}).raise_for_status()
        wait_until(connection, "select from dag_run where dag_id = 'nightscout_daily' having count(*) = 2")
    runs = connection.execute("select run_id, run_type from dag_run where dag_id = %s", [DAG]).fetchall()
    assert sorted(run["run_type"] for run in runs) == ["backfill", "scheduled"], runs
    run_ids = [run["run_id"] for run in runs]
    if number:
        for run_id in run_ids:
            airflow._post(f"/api/v2/dags/{DAG}/dagRuns/{quote(run_id)}/clear", {"dry_run": False, "only_failed": False})
    return run_ids


def turns_waited_for(stack: Stack, run_ids: list[str]) -> str:
    """What the log of a task says whose run had to wait."""
    for run_id in run_ids:
        for log in (stack.home / "logs" / "tasks" / f"dag_id={DAG}" / f"run_id={run_id}").rglob("*.log"):
            for line in log.read_text().splitlines():
                if "It is the turn of run" in line:
                    return str(json.loads(line)["event"])
    return ""


def run(airflow: Airflow, dag_id: str, **conf: Any) -> tuple[str, dict[str, str]]:
    """A run by hand, to its end: its id, and its tasks' states."""
    airflow.wait_for_dag(dag_id)
    run_id = airflow.trigger(dag_id, conf)
    *_, (_, tasks) = airflow.watch(dag_id, run_id, every=0.5)
    return run_id, {task.task_id: task.state or "none" for task in tasks}


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=pytest.mark.fault("A worker is killed (kill -9)", point)) for point in POINTS]
)
def test_run_whose_task_is_killed_recovers_by_itself(ordeals: list[Ordeal], outcome: Outcome, point: str) -> None:
    for each in ordeals:
        assert set(each.states.values()) == {"success"}
        outcome.record(each.difference, each.seen, message=each.told[point], mended_by="Airflow's retry")


@pytest.mark.fault("The executor's worker is killed (kill -9)", "while its task builds a model")
def test_run_whose_worker_is_killed_recovers_by_itself(place: Place, ordeals: list[Ordeal], outcome: Outcome) -> None:
    today = datetime.now(UTC).date()
    with metadata(place.stack) as connection, place.airflow() as airflow, Readers(place.flow) as readers:
        airflow.wait_for_dag(DAG)
        run_id = airflow.trigger(DAG, {"interval_start": str(today - DAY), "interval_end": str(today)})
        task_id = kill_worker(connection, run_id, "silver.%")
        states = wait_for(connection, [run_id])
        said = connection.execute(
            "select event, task_id from log where run_id = %s and event = 'heartbeat timeout'", [run_id]
        ).fetchall()
    assert set(states.values()) == {"success"}
    assert [row["task_id"] for row in said] == [task_id]
    outcome.record(
        compare(place.flow, place.clean),
        readers.seen,
        message=f"audit log: {said[0]['event']}",
        mended_by="Airflow's retry",
    )


@pytest.mark.fault("The scheduler is killed (kill -9)", "in the middle of a run")
def test_killed_scheduler_is_said_by_status_and_mended_by_up(ordeals: list[Ordeal], outcome: Outcome) -> None:
    for each in ordeals:
        assert set(each.states.values()) == {"success"}
        assert each.left, "it left no worker, so nothing shows that they are ended"
        assert re.search(r"Does not run, and left \d+ processes", each.status)
        besides = "of the processes that it left, 0 were there after `lake up`"
        outcome.record(each.difference, each.seen, message=each.status, mended_by="`lake up`", besides=besides)


@pytest.mark.fault("The scheduler hangs", "its process is there and gives no sign of life")
def test_scheduler_that_hangs_is_said_by_status_and_mended_by_up(
    place: Place, ordeals: list[Ordeal], outcome: Outcome
) -> None:
    stack = place.stack
    with metadata(stack) as connection, Readers(place.flow) as readers:
        leader = stop_scheduler(stack)
        late = "select from job where job_type = 'SchedulerJob' having max(latest_heartbeat) < now() - interval '40 s'"
        wait_until(connection, late)
        status = stack.lake("status")
        again = stack.lake("up", "--detach")
    assert status.returncode == 1
    assert again.returncode == 0, again.stdout + again.stderr
    assert in_session(leader) == []
    said = next(line for line in status.stdout.splitlines() if "scheduler" in line)
    assert "gives no sign of life" in said
    today = datetime.now(UTC).date()
    with place.airflow() as airflow:
        _, states = run(airflow, DAG, interval_start=str(today - DAY), interval_end=str(today))
    assert set(states.values()) == {"success"}
    outcome.record(compare(place.flow, place.clean), readers.seen, message=said, mended_by="`lake up`")


@pytest.mark.fault("Two runs of a domain start at once", "and tasks of the one whose turn it is are killed")
def test_runs_that_start_at_once_take_turns_though_tasks_are_killed(ordeals: list[Ordeal], outcome: Outcome) -> None:
    for each in ordeals:
        assert len(each.spans) == 2
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(each.spans)), each.spans
        outcome.record(each.difference, each.seen, message=each.waited, mended_by="nothing to do")


@pytest.mark.fault("A killed load leaves files that nothing names", "upkeep, a backup and a drill come next")
def test_upkeep_backup_and_drill_are_green_and_leftovers_go(
    place: Place, ordeals: list[Ordeal], outcome: Outcome
) -> None:
    flow, today = place.flow, datetime.now(UTC).date()
    load = partial(Flow.ingest, interval=Interval.of_days(today - DAY, today), streams=["entries"])
    children.killed(flow, load, Before("^commit"))
    assert leftovers(flow), "the load left nothing, so nothing shows that it is found"
    with place.airflow() as airflow, Readers(flow) as readers:
        for dag_id in ("lake_maintenance", "lake_backup", "lake_restore_drill"):
            _, states = run(airflow, dag_id)
            assert states
            assert set(states.values()) == {"success"}, (dag_id, states)
    left = leftovers(flow)
    due = [f"{report.step}: {sum(report.due.values())} {report.unit} due" for report in sweep(flow) if report.due]
    outcome.record(
        compare(flow, place.clean),
        readers.seen,
        message=f"`lake maintain --dry-run`, once they are two days old: {', '.join(due)}",
        mended_by="`lake_maintenance`",
        besides=f"{len(left)} leftovers before, {len(leftovers(flow))} afterwards; all three DAGs green",
    )


@pytest.mark.fault("Secrets are searched for", "after kills, a site's 401 and a red gate")
def test_no_secret_is_anywhere(place: Place, ordeals: list[Ordeal], outcome: Outcome) -> None:
    today = datetime.now(UTC).date()
    days = {"interval_start": str(today - DAY), "interval_end": str(today)}
    sites = list(place.server.sites.values())
    with place.airflow() as airflow:
        for site in sites:
            site.fail(Fault("401", count=None))
        refused, states = run(airflow, DAG, **days)
        assert states["ingest.ingest_entries"] == "failed"
        message = what_airflow_says(airflow, refused, "ingest.ingest_entries", 1)
        for site in sites:
            site.heal()
        midnight = int(datetime.combine(today - DAY, time(), UTC).timestamp() * 1000)
        for slot in range(288):
            sites[0].add("entries", {"type": "sgv", "date": midnight + slot * 300_000 + 60_000, "sgv": 9000})
        _, states = run(airflow, DAG, **days)
        assert states["gate_bronze"] == "failed"
    found = canary.everywhere(place.stack, [place.flow.lake.storage, place.backups], place.secrets)
    assert found.hits == []
    assert [each.found.hits for each in ordeals] == [[] for _ in ordeals]
    # Words that are everywhere: what finds them in Parquet, tables, Data Docs and logs would find a secret there.
    words = {"a site": sites[0].site, "the domain": "nightscout"}
    control = canary.everywhere(place.stack, [place.flow.lake.storage, place.backups], words)
    for where in (".parquet holds", "airflow.public.xcom", "marts.marts.", "lake_catalog.", "/quality/", "/logs/"):
        assert [hit for hit in control.hits if where in hit], where
    outcome.record(message=message, mended_by="correct the connection", besides=str(found))
