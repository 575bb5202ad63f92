"""Rows 4, 5, 11 and 13: what runs under the real scheduler."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from include.connections import Connection, Postgres, Storage
from include.dbt_project import PROJECT_DIR
from include.interval import Interval
from include.lake.attach import Lake, identifier
from include.lake.dbt_environment import dbt_environment
from include.layers import Layer
from include.local.airflow_api import Airflow
from include.settings import ROOT
from include.sources.nightscout.sites import Site, read_sites
from include.sources.nightscout.streams import STREAMS
from tests.bench import sites as bench_sites
from tests.bench.places import MEMORY_LIMIT, Places
from tests.bench.rows.transform import compiled
from tests.bench.runner import in_child
from tests.bench.spec import Clock, Row, Scale, Size
from tests.faults.scheduler import leaders
from tests.pipeline.flow import Flow
from tests.pipeline.own_stack import Stack, free_port, own_stack

DAILY, SILVER, EMPTY = "nightscout_daily", "bench_silver", "bench_empty"
DAGS = (ROOT / "dags" / f"{DAILY}.py", *sorted((Path(__file__).parents[1] / "dags").glob("*.py")))
END = date(2026, 11, 1)
EVERY = 0.25


@dataclass(frozen=True)
class Running:
    """A stack with a history that is released, and what the bounds need of it.

    Attributes:
        pids: of Airflow's components; tasks are forked from the scheduler.
        tasks: how many the daily pipeline has.
        questions: addresses and headers that the last day's ingest asks, by site.
        statements: table and compiled SQL of all models.
    """

    stack: Stack
    api: Connection
    flow: Flow
    interval: Interval
    pids: tuple[int, ...]
    tasks: int = 0
    questions: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = ()
    statements: tuple[tuple[str, str], ...] = ()

    @property
    def day(self) -> Interval:
        end = self.interval.end.date()
        return Interval.of_days(end - timedelta(days=1), end)


@contextmanager
def running(places: Places, size: Size, *, sites: int = 4) -> Iterator[Running]:
    """The stack as `lake up` starts it, sites of so many days, and one run of all of them that was certified."""
    first = END - timedelta(days=size.number)
    with bench_sites.served(sites, first, END) as (yaml, variables):
        file = places.scratch() / "sites.yaml"
        file.write_text(yaml)
        nowhere = {"LAKE_SAAS_DATABASES": str(places.folder / "none.yaml"), "LAKE_NIGHTSCOUT_SITES": str(file)}
        with own_stack(DAGS, **variables, **nowhere) as made:
            shape = in_child(shape_of, ROOT / "dags" / f"{DAILY}.py")
            (made.home / "dags" / "shape.json").write_text(json.dumps(shape))
            # A file that reads another beside it must lie beside it.
            copied = made.home / "dags" / f"{EMPTY}.py"
            source = copied.resolve()
            copied.unlink()
            shutil.copyfile(source, copied)
            done = made.lake("up", "--detach")
            assert done.returncode == 0, done.stdout + done.stderr
            api = Connection.parse("airflow_api", made.variable("AIRFLOW_CONN_AIRFLOW_API"))
            world = Running(made, api, _flow(made), Interval.of_days(first, END), tuple(leaders(made)), len(shape))
            _run(world, DAILY, world.interval)
            _wait_for_the_scheduled_run(world)
            yield world


@contextmanager
def stack(places: Places, size: Size) -> Iterator[Running]:
    """One for several rows."""
    yield places.kept(("stack", size.number), lambda: running(places, size))


@contextmanager
def with_bounds(places: Places, size: Size) -> Iterator[Running]:
    """The same with what the whole day's bound is made of."""
    with stack(places, size) as world:
        statements = [each for layer in Layer for each in in_child(compiled, world.flow, layer)]
        questions = in_child(_questions, _sites(world), _connections(world), world.day)
        yield Running(
            world.stack, world.api, world.flow, world.interval, world.pids, world.tasks, questions, tuple(statements)
        )


def shape_of(file: Path) -> dict[str, list[str]]:
    """Each task of a DAG file and the tasks that follow it."""
    from airflow.dag_processing.dagbag import DagBag

    (dag,) = DagBag(file, collect_dags=False).process_file(str(file), only_if_updated=False)
    return {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}


# --- 4: a layer -------------------------------------------------------------------------------------------------


def layer_run(world: Running, clock: Clock) -> int:
    with clock:
        _run(world, SILVER, world.day, full_refresh=True)
    return 1


def dbt_build(world: Running, clock: Clock) -> int:
    """One dbt process, from its start."""
    with clock:
        _dbt_build(world, Layer.SILVER)
    return 1


def _dbt_build(world: Running, *layers: Layer) -> None:
    variables = {**world.stack.environment, **dbt_environment(world.flow.lake)}
    variables["PGPASSFILE"] = str(world.stack.home / "pgpass")
    command = [str(Path(sys.executable).parent / "dbt"), "build", "--full-refresh"]
    command += ["--select", *(layer.selector("nightscout") for layer in layers), "--exclude-resource-type", "unit_test"]
    command += ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
    done = subprocess.run(command, env=variables, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


LAYER = Row(
    number="4",
    name="layer_group",
    ours="the silver layer as Cosmos group under the scheduler, everything rebuilt",
    bound="`dbt build` of that layer as one process",
    goal=2.0,
    sizes={
        Scale.SMALL: (Size("4 sites, 7 days", 7),),
        Scale.FULL: (Size("4 sites, 1 year, 420 k readings", 365),),
    },
    world=stack,
    run=layer_run,
    against=dbt_build,
    runs={Scale.SMALL: 1, Scale.FULL: 3},
    note="6 tasks, two at a time, each of which starts dbt",
)

# --- 5: the whole day -------------------------------------------------------------------------------------------


def daily_run(world: Running, clock: Clock) -> int:
    with clock:
        _run(world, DAILY, world.day, full_refresh=True)
    return world.tasks


def empty_run(world: Running, clock: Clock) -> int:
    """Empty tasks in the same shape, then the pages alone, then the compiled SQL alone."""
    import httpx

    verify = httpx.create_ssl_context()

    def read(question: tuple[dict[str, str], tuple[str, ...]]) -> int:
        headers, urls = question
        with httpx.Client(headers=headers, verify=verify, trust_env=False, timeout=60) as client:
            return sum(orjson.loads(client.get(url).content) is not None for url in urls)

    with clock:
        _trigger(world, EMPTY, {})
        with ThreadPoolExecutor(len(world.questions)) as pool:
            assert sum(pool.map(read, world.questions)) > 0
        with world.flow.lake.open() as connection:
            connection.execute("create schema if not exists dl.bench")
            for table, select in world.statements:
                name = f"dl.bench.{identifier(table.partition('.')[2].strip(chr(34)))}"
                connection.execute(f"create or replace table {name} as {select}")
    return world.tasks


DAY = Row(
    number="5",
    name="daily_run",
    ours="the whole daily run under the scheduler, everything rebuilt",
    bound="as many empty tasks in the same shape under the same scheduler, plus the bounds of rows 1 and 3",
    goal=1.5,
    sizes=LAYER.sizes,
    world=with_bounds,
    run=daily_run,
    against=empty_run,
    runs={Scale.SMALL: 1, Scale.FULL: 3},
    note="each task opens the lake, and each model starts dbt; the bound has neither gates nor release",
)


def by_hand(world: Running, clock: Clock) -> int:
    """Each command as a process, one after the other."""
    days = f"--from {world.day.start.date()} --to {world.day.end.date()}"
    with clock:
        loaded = world.stack.command(f"python -m include.sources.nightscout load {days}")
        assert loaded.returncode == 0, loaded.stdout[-2000:] + loaded.stderr[-2000:]
        _dbt_build(world, *Layer)
    return world.tasks


BY_HAND = Row(
    number="5",
    name="peer_by_hand",
    ours=DAY.ours,
    bound="the loads and one `dbt build` by hand, one process each: no orchestrator, no gates, no release",
    goal=None,
    sizes=LAYER.sizes,
    world=stack,
    run=daily_run,
    against=by_hand,
    runs=LAYER.runs,
    note="what scheduler, gates and release cost on top",
)

# --- 11: a backfill ---------------------------------------------------------------------------------------------


def backfill(world: Running, clock: Clock, *, chunk: int) -> int:
    """`lake backfill` of days that are certified already, each run again."""
    first, end = (str(moment.date()) for moment in (world.interval.start, world.interval.end))
    options = ["--chunk", f"{chunk}d"] if chunk else []
    with clock:
        done = world.stack.lake(
            "backfill", "nightscout", "--from", first, "--to", end, "--again", *options, timeout=7200
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return len(world.interval.days())


def one_run(world: Running, clock: Clock) -> int:
    with clock:
        _run(world, DAILY, world.interval)
    return len(world.interval.days())


def _backfill(name: str, chunk: int, words: str) -> Row:
    return Row(
        number="11",
        name=name,
        ours=f"`lake backfill`, {words}",
        bound="one run over all of it",
        goal=2.0,
        sizes={Scale.FULL: (Size("4 sites, 1 year", 365),)},
        world=stack,
        run=partial(backfill, chunk=chunk),
        against=one_run,
        runs={Scale.FULL: 1},
    )


BACKFILL = _backfill("backfill", 0, "as it is called")
BACKFILL_MONTHS = _backfill("backfill_months", 31, "in runs of a month")

# --- 13: a fresh clone ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clone:
    folder: Path
    environment: dict[str, str]


@contextmanager
def clone(places: Places, size: Size) -> Iterator[Clone]:
    """A checkout of this commit that nothing was set up in."""
    folder = Path(tempfile.mkdtemp(prefix="lake-clone-"))
    folder.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LAKE_", "PG"))}
    try:
        yield Clone(folder, {**kept, "LAKE_PORT": str(free_port()), "LAKE_DEMO_PORT": str(free_port())})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def demo(world: Clone, clock: Clock) -> int:
    """`make demo`: from nothing to a certified release."""
    checkout = _checkout(world, "demo")
    try:
        with clock:
            _do(["make", "demo", f"PYTHON={sys.executable}"], checkout, world.environment)
    finally:
        _do(["make", "down"], checkout, world.environment)
        shutil.rmtree(checkout)
    return 1


def steps_alone(world: Clone, clock: Clock) -> int:
    """A virtual environment with the locked packages, Airflow's tables in SQLite, and the dbt project parsed."""
    checkout = _checkout(world, "bound")
    python, home = checkout / ".venv" / "bin", checkout / "airflow"
    uv = [str(Path(sys.executable).parent / "uv")]
    airflow = {**world.environment, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    with clock:
        _do([*uv, "venv", "--quiet", "--python", sys.executable, ".venv"], checkout, world.environment)
        install = ["pip", "install", "--quiet", "--python", str(python / "python"), "-r", "requirements.lock"]
        _do([*uv, *install], checkout, world.environment)
        _do([str(python / "airflow"), "db", "migrate"], checkout, airflow)
        _do([str(python / "python"), "-m", "include.local.manifest"], checkout, world.environment)
    shutil.rmtree(checkout)
    return 1


FRESH = Row(
    number="13",
    name="fresh_clone",
    ours="`make demo` on a fresh clone, packages cached: to a certified release of four weeks",
    bound="`uv` alone installs the lock, `airflow db migrate`, the dbt project parsed",
    goal=None,
    sizes={Scale.FULL: (Size("4 sites, 4 weeks"),)},
    world=clone,
    run=demo,
    against=steps_alone,
    runs={Scale.FULL: 1},
    note="the run itself and the start of Airflow are on top of the bound",
)

ROWS = (LAYER, DAY, BY_HAND, BACKFILL, BACKFILL_MONTHS, FRESH)


def _run(world: Running, dag_id: str, interval: Interval, *, full_refresh: bool = False) -> None:
    days = {"interval_start": str(interval.start.date()), "interval_end": str(interval.end.date())}
    _trigger(world, dag_id, {**days, "full_refresh": full_refresh})


def _trigger(world: Running, dag_id: str, conf: dict[str, Any]) -> None:
    with Airflow(world.api) as airflow:
        airflow.wait_for_dag(dag_id)
        run_id = airflow.trigger(dag_id, conf)
        *_, (state, _) = airflow.watch(dag_id, run_id, EVERY)
        if state != "success":
            failed = [task.task_id for task in airflow.tasks(dag_id, run_id) if task.state == "failed"]
            said = [f"{task}: {airflow.failure(dag_id, run_id, task)}" for task in failed[:3]]
            raise AssertionError(f"{dag_id}, run {run_id} {state}: {said}")


def _wait_for_the_scheduled_run(world: Running) -> None:
    """Of yesterday, of which no site has anything; what is measured would wait for its turn behind it."""
    with Airflow(world.api) as airflow:
        while any(airflow.unfinished(DAILY)):
            time.sleep(EVERY)


def _flow(stack: Stack) -> Flow:
    def connection(conn_id: str) -> Connection:
        return Connection.parse(conn_id, stack.variable(f"AIRFLOW_CONN_{conn_id.upper()}"))

    lake = Lake(
        Postgres.of(connection("lake_catalog")),
        Storage.of(connection("lake_storage")),
        stack.home / "extensions",
        stack.home / "tmp",
        memory_limit=MEMORY_LIMIT,
    )
    return Flow(lake, Postgres.of(connection("marts")), stack.home, None)  # type: ignore[arg-type]


def _sites(world: Running) -> tuple[Site, ...]:
    return tuple(read_sites(Path(world.stack.environment["LAKE_NIGHTSCOUT_SITES"])))


def _connections(world: Running) -> dict[str, Connection]:
    names = {site.connection_id: f"AIRFLOW_CONN_{site.connection_id.upper()}" for site in _sites(world)}
    return {conn_id: Connection.parse(conn_id, world.stack.environment[name]) for conn_id, name in names.items()}


def _questions(
    sites: tuple[Site, ...], connections: dict[str, Connection], interval: Interval
) -> tuple[tuple[dict[str, str], tuple[str, ...]], ...]:
    """The headers and addresses of what ingest of all streams asks, by site."""
    from include.sources.nightscout.client import SiteClient
    from include.sources.nightscout.fetch import fetch_site

    asked = []
    for site in sites:
        urls: list[str] = []
        headers: dict[str, str] = {}
        for stream in STREAMS.values():
            with SiteClient(site, connections[site.connection_id]) as client:
                client._http.event_hooks["request"] = [lambda request, urls=urls: urls.append(str(request.url))]
                fetch_site(client, stream, interval, 2)
                headers = client._v3_headers()
        asked.append((headers, tuple(url for url in urls if "/authorization/" not in url)))
    return tuple(asked)


def _checkout(world: Clone, name: str) -> Path:
    target = world.folder / name
    _do(["git", "clone", "--quiet", str(ROOT), str(target)], ROOT, world.environment)
    return target


def _do(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}"
