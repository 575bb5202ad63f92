"""A lake that has released a day, to be copied for each fault; and what the second day makes of it, undisturbed."""

import shutil
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from include.connections import Postgres, Storage
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.files import s3_client
from include.lake.passfile import use_passwords
from include.layers import Layer
from include.local import postgres
from include.local.nightscout import demo_sites, serve
from include.local.postgres import LocalPostgres
from include.release.certify import Release
from include.sources.nightscout.streams import STREAMS
from tests.faults import children
from tests.faults.children import Point, Step
from tests.faults.judge import Difference, difference, everything
from tests.faults.matrix import Outcome
from tests.faults.postgres_proxy import PostgresProxy, postgres_proxy
from tests.faults.watch import Seen
from tests.pipeline.flow import Flow, Rows

FIRST = date(2026, 3, 2)
SECOND, END = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
INTERVAL = Interval.of_days(SECOND, END)
# States to begin with: the first day is released; the second has landed too; is built up to gold; is released.
RELEASED, LANDED, BUILT, DONE = "released", "landed", "built", "done"
MOST_TRIES = 3  # Airflow's, with the two retries of our DAGs
LINEAGE = "load_seq, interval_start, interval_end, fetched_at, _dlt_load_id"


@dataclass(frozen=True)
class Failure:
    """An attempt that failed: the error as the operator reads it, and what Airflow does then."""

    kind: str
    message: str
    action: str


class World:
    """One PostgreSQL, one set of sites, and states of a lake; every `copy` is a lake and marts of its own."""

    def __init__(self, data: Path, home: Path, extensions: Path, stack: ExitStack) -> None:
        # A commit that was answered has to survive a crash of the server: only what the machine's crash needs is off.
        quick = {"fsync": "off", "full_page_writes": "off"}
        self.server: LocalPostgres = postgres.start(data, {**postgres.CONFIGURATION, **quick})
        stack.callback(postgres.stop, data)
        use_passwords(*self.server.servers)
        self.home, self._extensions = home, extensions
        self.sites = demo_sites(FIRST - timedelta(days=3), END, secret_seed="test")[:2]
        self._site_server = stack.enter_context(serve(self.sites))
        self._states: dict[str, Flow] = {}
        first = self._flow(RELEASED, Storage(str(home / RELEASED / "lake")))
        children.run(first, partial(Flow.run, first=FIRST, end=SECOND)).value()
        self._states[RELEASED] = first
        for state, before, step in ((LANDED, RELEASED, ingest), (BUILT, LANDED, build), (DONE, BUILT, release)):
            flow = self._copied(state, before, Storage(str(home / state / "lake")))
            children.run(flow, step).value()
            self._states[state] = flow
        self.clean, self.clean_bronze = everything(flow), bronze_rows(flow)
        assert all(self.clean.values()) and all(self.clean_bronze.values()), "the clean run is empty somewhere"

    @contextmanager
    def copy(self, state: str, storage: Storage | None = None, name: str = "") -> Iterator[Flow]:
        """A flow of its own in one of the states; `storage` is empty, by default a folder. Databases have its name."""
        name = name or f"c{uuid.uuid4().hex[:10]}"
        flow = self._copied(name, state, storage or Storage(str(self.home / name / "lake")))
        try:
            yield flow
        finally:
            self._drop(name)
            shutil.rmtree(flow.home, ignore_errors=True)

    def compare(self, flow: Flow, *schemas: str) -> Difference:
        """What a flow has in some schemas of the lake, against the undisturbed run."""

        def chosen(rows: Rows) -> Rows:
            return {name: found for name, found in rows.items() if name.split(".")[0] in schemas}

        ours = {**bronze_rows(flow), **(flow.lake_rows() if {"silver", "gold"} & {*schemas} else {})}
        return difference(chosen(ours), chosen({**self.clean, **self.clean_bronze}))

    def _copied(self, name: str, state: str, storage: Storage) -> Flow:
        flow = self._flow(name, storage, template=state)
        _copy_files(self._states[state].lake.storage, storage)
        with psycopg.connect(flow.lake.catalog.conninfo()) as catalog:
            catalog.execute("update ducklake.ducklake_metadata set value = %s where key = 'data_path'", [storage.root])
        return flow

    @contextmanager
    def proxied(self, flow: Flow) -> Iterator[tuple[Flow, PostgresProxy]]:
        """The same flow, whose catalog and marts are reached by way of a proxy."""
        with postgres_proxy(flow.lake.catalog, self.server.data.parent / f"p{uuid.uuid4().hex[:6]}") as proxy:
            lake = replace(flow.lake, catalog=proxy.of(flow.lake.catalog))
            use_passwords(lake.catalog, proxy.of(flow.marts))
            yield replace(flow, lake=lake, marts=proxy.of(flow.marts)), proxy

    def crash(self) -> None:
        """PostgreSQL is gone at once, without having put anything in order."""
        self._end(signal.SIGQUIT)

    def shut_down(self) -> None:
        """PostgreSQL ends every connection, then itself."""
        self._end(signal.SIGINT)

    def start(self) -> None:
        postgres.start(self.server.data)

    def _end(self, how: signal.Signals) -> None:
        postmaster = psutil.Process(int((self.server.data / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(how)
        postmaster.wait(60)

    def _flow(self, name: str, storage: Storage, template: str | None = None) -> Flow:
        home = self.home / name
        home.mkdir(parents=True)
        catalog = self._database(f"{name}_catalog", "lake", template and f"{template}_catalog")
        marts = self._database(f"{name}_marts", "marts_publisher", template and f"{template}_marts")
        reader = self.server.as_role("marts_reader", marts.database)
        use_passwords(catalog, marts, reader)
        lake = Lake(catalog, storage, self._extensions, home / "duckdb", memory_limit="2GB", threads=1)
        return Flow(lake, marts, home, self._site_server, reader)

    def _database(self, name: str, role: str, template: str | None) -> Postgres:
        with self._superuser() as connection:
            statement = sql.SQL("create database {} owner {} template {}").format(
                sql.Identifier(name), sql.Identifier(role), sql.Identifier(template or "template1")
            )
            connection.execute(statement)
            if role == "marts_publisher":
                grant = sql.SQL("grant connect on database {} to marts_reader")
                connection.execute(grant.format(sql.Identifier(name)))
        return self.server.as_role(role, name)

    def _drop(self, name: str) -> None:
        with self._superuser() as connection:
            for database in (f"{name}_catalog", f"{name}_marts"):
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))

    def _superuser(self) -> psycopg.Connection:
        return psycopg.connect(self.server.as_role("postgres", "postgres").conninfo(), autocommit=True)


def attempt(flow: Flow, step: Step) -> Failure | None:
    """A step in a process of its own, as a task's try; None if it succeeded. No failure may tell a secret."""
    return _without_secrets(flow, children.run(flow, partial(_judged, step=step)).value())


def attempt_during(flow: Flow, step: Step, at: Point, fault: Callable[[], None]) -> Failure | None:
    """The same, and something happens while the step stands still at a point."""
    with children.started(flow, partial(_judged, step=step), at) as child:
        child.reached()
        fault()
        child.go_on()
        return _without_secrets(flow, child.ended().value())


def record_all(
    outcome: Outcome, failures: Sequence[Failure], found: Difference, seen: Seen | None, *, mended_by: str
) -> None:
    """A round for each failure, all of which were compared after the last."""
    for failure in failures[1:]:
        outcome.record(message=failure.message, mended_by=mended_by)
    outcome.record(found, seen, message=failures[0].message, mended_by=mended_by)


def _without_secrets(flow: Flow, failure: Failure | None) -> Failure | None:
    sites = [flow.connection(site.connection_id).password for site in flow.sites]
    secrets = [flow.lake.catalog.password, flow.marts.password, flow.lake.storage.secret, *sites]
    assert len(sites) > 0 and not any(secret and failure and secret in failure.message for secret in secrets)
    return failure


def _judged(flow: Flow, step: Step) -> Failure | None:
    from include.orchestration.retry import LakeRetryPolicy

    try:
        step(flow)
    except Exception as error:  # noqa: BLE001  as Airflow does
        decision = LakeRetryPolicy().evaluate(error, 1, MOST_TRIES)
        return Failure(type(error).__name__, str(error), decision.action.name)
    return None


# --- steps, as the DAG has them ---------------------------------------------------------------------------------


def ingest(flow: Flow, streams: tuple[str, ...] = tuple(STREAMS)) -> None:
    flow.ingest(INTERVAL, streams)


def gate_bronze(flow: Flow) -> dict[str, Any]:
    return flow.gate(Layer.BRONZE, INTERVAL, "second")


def silver(flow: Flow) -> None:
    flow.dbt(Layer.BRONZE, Layer.SILVER)


def gold(flow: Flow) -> None:
    flow.dbt(Layer.GOLD)


def last_gates(flow: Flow) -> list[dict[str, Any]]:
    return [flow.gate(layer, INTERVAL, "second") for layer in (Layer.SILVER, Layer.GOLD)]


def publish(flow: Flow, gates: list[dict[str, Any]]) -> Release:
    """The release task alone: a retry gets the gates that its first try had."""
    return flow.release(INTERVAL, "second", gates)


def release(flow: Flow) -> Release:
    """The last two gates and the release that they allow."""
    return publish(flow, last_gates(flow))


def build(flow: Flow) -> None:
    """From landed to gold."""
    gate_bronze(flow)
    silver(flow)
    gold(flow)


def bronze_rows(flow: Flow) -> Rows:
    """Every row of bronze, but for which load brought it."""
    with flow.lake.open(read_only=True) as connection:
        return {
            f"bronze.{name}": sorted(
                connection.execute(f"select * exclude ({LINEAGE}) from bronze.nightscout_{name}").fetchall(), key=repr
            )
            for name in STREAMS
        }


def _copy_files(base: Storage, target: Storage) -> None:
    if not target.is_s3:
        shutil.copytree(base.url, target.url, dirs_exist_ok=True)
        return
    bucket, _, prefix = target.root.removeprefix("s3://").partition("/")
    client = s3_client(target)
    for path in Path(base.url).rglob("*.parquet"):
        client.upload_file(str(path), bucket, f"{prefix}{path.relative_to(base.url)}")
