"""A domain's whole flow in this process: the very calls that the DAG's tasks make, without a scheduler."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg

from include import dbt_project, runtime
from include.connections import Connection, Postgres
from include.erasure.forget import Domain, Forgotten, forget
from include.interval import Interval
from include.lake import fsck
from include.lake.attach import Lake, identifier
from include.lake.dbt_environment import dbt_environment
from include.layers import Layer
from include.local.nightscout import SiteServer
from include.local.sample import Sample
from include.quality import quarantine, replay
from include.quality.gate import run_gate
from include.quality.suites import suite
from include.release.certify import Release, release
from include.sources.nightscout.pipeline import ingest
from include.sources.nightscout.sites import Site, read_sites
from include.sources.nightscout.streams import STREAMS
from tests.sampled import ingest_all

DOMAIN = "nightscout"
PSEUDONYM_KEY = "the key of the tests, long enough"
TABLES = {
    "silver": ("dim_device", "dim_profile_scd", "dim_date", "fct_cgm_reading", "fct_bolus_event", "fct_carb_event"),
    "gold": (
        "mrt_daily_glycaemia",
        "mrt_agp_hourly",
        "mrt_quality_coverage",
        "mrt_glucose_overview",
        "mrt_glucose_hourly_patterns",
        "mrt_glucose_readings",
    ),
}
Rows = dict[str, list[tuple[Any, ...]]]


class DomainFlow:
    """One lake and one marts database, and the steps of one domain. `reader` is the role that only reads the marts."""

    domain: ClassVar[str]
    tables: ClassVar[dict[str, tuple[str, ...]]]
    keys: ClassVar[dict[str, str]] = {}
    lake: Lake
    marts: Postgres
    home: Path
    reader: Postgres | None
    runs: itertools.count

    def ingest(self, interval: Interval) -> None:
        """Every stream."""
        raise NotImplementedError

    def for_a_child(self) -> Self:
        """What a process of its own gets: all that can be pickled."""
        return self

    def run(self, first: date, end: date, *, full_refresh: bool = False) -> Release:
        """Everything, from the sites to the certified marts."""
        interval, run_id = Interval.of_days(first, end), f"test__{next(self.runs)}"
        self.ingest(interval)
        gates = [self.gate(Layer.BRONZE, interval, run_id)]
        self.dbt(Layer.BRONZE, Layer.SILVER, full_refresh=full_refresh)
        gates.append(self.gate(Layer.SILVER, interval, run_id))
        self.dbt(Layer.GOLD, full_refresh=full_refresh)
        gates.append(self.gate(Layer.GOLD, interval, run_id))
        return self.release(interval, run_id, gates)

    def replay(self, **chosen: Any) -> Release:
        """What the replay DAG does."""
        plan, run_id = replay.plan(self.lake, self.domain, **chosen), f"test__{next(self.runs)}"
        resting = suite(self.domain, Layer.BRONZE).without_load()
        gates = [self.gate(Layer.BRONZE, plan.interval, run_id, suite=resting)]
        self.dbt(Layer.BRONZE, Layer.SILVER)
        gates.append(self.gate(Layer.SILVER, plan.interval, run_id))
        self.dbt(Layer.GOLD)
        gates.append(self.gate(Layer.GOLD, plan.interval, run_id))
        return self.release(plan.interval, run_id, gates)

    def gate(self, layer: Layer, interval: Interval, run_id: str, **options: Any) -> dict[str, Any]:
        return run_gate(self.lake, self.domain, layer, interval, run_id, self.home / "quality", **options).summary()

    def judge(self, interval: Interval, run_id: str) -> None:
        """What gate_bronze writes to the lake, without its verdict."""
        quarantine.set_aside(self.lake, self.domain, run_id, interval)

    def dbt(self, *layers: Layer, full_refresh: bool = False, tests: bool = True) -> None:
        fsck.settle(self.lake, [f"{layer}.{table}" for layer in layers for table in self.tables.get(layer, ())])
        os.environ.update(dbt_environment(self.lake, self.keys))
        places = ["--project-dir", str(dbt_project.PROJECT_DIR), "--profiles-dir", str(dbt_project.PROJECT_DIR)]
        places += ["--target-path", str(self.home / "target"), "--log-path", str(self.home / "logs")]
        select = ["--select", *(layer.selector(self.domain) for layer in layers)]
        refresh = ["--full-refresh"] if full_refresh else []
        quiet = ["--log-level", "none", "--log-level-file", "none", "--no-write-json"]
        command = ["build", *select, "--exclude-resource-type", "unit_test"] if tests else ["run", *select]
        result = dbt_runner().invoke([*command, *refresh, *places, *quiet])
        failed = [
            f"{each.node.name}: {each.message}" for each in result.result or () if each.status in ("error", "fail")
        ]
        assert result.success, failed or result.exception

    def release(self, interval: Interval, run_id: str, gates: Sequence[dict[str, Any]]) -> Release:
        return release(
            lake=self.lake,
            marts=self.marts,
            models=dbt_project.marts(self.domain),
            domain=self.domain,
            interval=interval,
            dag_run_id=run_id,
            snapshot_id=gates[-1]["snapshot_id"],
            gates=gates,
            code_version="test",
        )

    def forget(self, subject: str) -> Forgotten:
        """What `lake forget` does."""
        domain = self.erasing()
        return forget(self.lake, self.marts, domain, subject, by="test", code_version="test")

    def erasing(self) -> Domain:
        rebuild = partial(self.dbt, Layer.BRONZE, Layer.SILVER, Layer.GOLD, full_refresh=True, tests=False)
        return Domain.of(self.domain, PSEUDONYM_KEY, rebuild, self.home, self.home / "quality")

    # What readers see -----------------------------------------------------------------------------------------

    def lake_rows(self) -> Rows:
        """Every row of silver and gold, by table, in a stated order."""
        with self.lake.open(read_only=True) as connection:
            return {
                f"{schema}.{table}": _rows(connection.execute, f"{schema}.{identifier(table)}")
                for schema, tables in self.tables.items()
                for table in tables
            }

    def published_rows(self) -> Rows:
        """Every row of the marts in PostgreSQL, read by the role that only reads."""
        reader = self.reader or self.marts
        with psycopg.connect(reader.conninfo(), password=reader.password) as connection:
            return {mart: _rows(connection.execute, f"marts.{identifier(mart)}") for mart in self.tables["gold"]}

    def view_rows(self) -> Rows:
        """Every row of the lake's pinned views."""
        with self.lake.open(read_only=True) as connection:
            return {mart: _rows(connection.execute, f"marts.{identifier(mart)}") for mart in self.tables["gold"]}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.lake.open(read_only=True) as connection:
            return connection.execute(statement).fetchall()

    def write(self, statement: str) -> None:
        with self.lake.open() as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class _Sites:
    """What a flow asks of its site server, which itself stays with the test."""

    yaml: str
    variables: dict[str, str]

    def sites_yaml(self) -> str:
        return self.yaml

    def connections(self) -> dict[str, str]:
        return self.variables


@dataclass
class Flow(DomainFlow):
    """The flow of Nightscout, with one set of sites."""

    domain = DOMAIN
    tables = TABLES

    lake: Lake
    marts: Postgres
    home: Path
    server: SiteServer
    reader: Postgres | None = None
    runs: itertools.count = field(default_factory=lambda: itertools.count(1))

    @property
    def sites(self) -> tuple[Site, ...]:
        file = self.home / "sites.yaml"
        file.write_text(self.server.sites_yaml())
        return read_sites(file)

    def for_a_child(self) -> "Flow":
        return replace(self, server=_Sites(self.server.sites_yaml(), self.server.connections()))  # type: ignore[arg-type]

    def connection(self, conn_id: str) -> Connection:
        if conn_id == f"{DOMAIN}_pseudonym":
            return Connection(conn_id, password=PSEUDONYM_KEY)
        return Connection.parse(conn_id, self.server.connections()[f"AIRFLOW_CONN_{conn_id.upper()}"])

    def ingest(self, interval: Interval, streams: Sequence[str] = tuple(STREAMS), lookback_days: int = 2) -> None:
        for stream in streams:
            ingest(
                self.lake,
                STREAMS[stream],
                interval,
                self.sites,
                self.connection,
                pipelines_dir=self.home / "dlt",
                lookback_days=lookback_days,
            )


class SampledFlow(DomainFlow):
    """The flow of any domain on its demo source, inside `sampled`."""

    def __init__(self, domain: str, sample: Sample, lake: Lake, marts: Postgres, home: Path, reader: Postgres) -> None:
        self.domain, self.sample = domain, sample  # type: ignore[misc]
        self.lake, self.marts, self.home, self.reader = lake, marts, home, reader
        self.runs = itertools.count(1)
        self.keys = runtime.pseudonym_keys(domain)  # type: ignore[misc]
        self.tables = {  # type: ignore[misc]
            layer.value: tuple(model.name for model in dbt_project.models(layer, domain))
            for layer in (Layer.SILVER, Layer.GOLD)
        }

    def ingest(self, interval: Interval) -> None:
        ingest_all(self.lake, self.domain, interval)

    def run_sample(self) -> Release:
        """Everything, on the days of the demo source."""
        days = self.sample.interval
        return self.run(days.start.date(), days.end.date())


def require_same_rows(flow: DomainFlow, clean: DomainFlow) -> None:
    """Compare all that a flow's readers may see with a flow that is as it should be, row by row.

    Raises:
        AssertionError: silver, gold, the lake's views or the marts in PostgreSQL differ, or a table has no row at all.
    """
    expected = clean.lake_rows()
    assert all(expected.values()), [table for table, rows in expected.items() if not rows]
    gold = {name.partition(".")[2]: rows for name, rows in expected.items() if name.startswith("gold.")}
    seen = {"the lake": (flow.lake_rows(), expected), "PostgreSQL": (flow.published_rows(), gold)}
    for place, (ours, theirs) in {**seen, "the views": (flow.view_rows(), gold)}.items():
        for table, rows in theirs.items():
            lacks = [row for row in rows if row not in ours[table]][:3]
            has = [row for row in ours[table] if row not in rows][:3]
            assert ours[table] == rows, f"{table} in {place} lacks {lacks} and has {has}, against one clean run"


@lru_cache(maxsize=1)
def dbt_runner() -> Any:
    """dbt with the project parsed, once a process."""
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=dbt_project.parsed())


def _rows(execute: Callable[[str], Any], table: str) -> list[tuple[Any, ...]]:
    return sorted(execute(f"select * from {table}").fetchall(), key=repr)
