"""Small gold layers by hand, and what a release of them needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

import duckdb
import psycopg

from include.connections import Postgres
from include.dbt_project import Column, Model
from include.interval import Interval
from include.lake.attach import Lake, identifier
from include.release.certify import Release, release, withdraw

DOMAIN = "demo"
INTERVAL = Interval.of_days(date(2026, 11, 1), date(2026, 11, 2))


def model(name: str, key: Sequence[str], **columns: str) -> Model:
    """A mart's contract: columns and their data types."""
    listed = tuple(Column(column, data_type, f"What {column} means") for column, data_type in columns.items())
    return Model(name, f"About {name}", "one row", tuple(key), listed)


DAILY = model("mrt_daily", ["site", "day"], site="text", day="date", mean="double")
HOURLY = model("mrt_hourly", ["site", "hour"], site="varchar", hour="integer", readings="bigint")


def build(lake: Lake, version: int, days: int = 5) -> int:
    """Both marts with numbers that tell the version; the snapshot."""
    daily = f"select 'a' as site, date '2026-11-01' + i::int as day, {version}::double as mean from range({days}) t(i)"
    hourly = f"select 'a' as site, i::int as hour, {version}::bigint as readings from range(24) t(i)"
    return write(lake, mrt_daily=daily, mrt_hourly=hourly)


def write(lake: Lake, **tables: str) -> int:
    """Replace gold tables by queries; the snapshot."""
    connection = lake_connection(lake)
    connection.execute("create schema if not exists dl.gold")
    connection.begin()
    for name, query in tables.items():
        connection.execute(f"create or replace table dl.gold.{identifier(name)} as {query}")
    connection.commit()
    row = connection.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()
    assert row is not None
    return row[0]


@lru_cache(maxsize=1)
def lake_connection(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection to the lake of the running test, kept open: opening takes longer than most tests."""
    return lake.open()


def close_lake() -> None:
    """Close the connection that is kept open, as when the lake is lost or somebody must be alone with it."""
    lake_connection.cache_clear()


def gate(name: str, snapshot_id: int, **changes: Any) -> dict[str, Any]:
    """A gate's result as the JSON that it leaves."""
    return {
        "gate": name,
        "domain": DOMAIN,
        "dag_run_id": "run-1",
        "interval": ["2026-11-01T00:00:00+00:00", "2026-11-02T00:00:00+00:00"],
        "snapshot_id": snapshot_id,
        "success": True,
        "declared": 3,
        "evaluated": 3,
        "failed": [],
        "warned": [{"check": "late share", "observed": 0.25}],
        "docs": "runs/run-1/index.html",
        "results_sha256": "0" * 64,
    } | changes


@dataclass
class Releasing:
    """A lake and a marts database, and how a test releases from one to the other."""

    lake: Lake
    marts: Postgres
    models: list[Model] = field(default_factory=lambda: [DAILY, HOURLY])

    def release(self, snapshot_id: int, **changes: Any) -> Release:
        arguments: dict[str, Any] = {
            "models": self.models,
            "domain": DOMAIN,
            "interval": INTERVAL,
            "dag_run_id": f"run-{snapshot_id}",
            "snapshot_id": snapshot_id,
            "gates": [gate("gate_bronze", 1), gate("gate_gold", snapshot_id)],
            "code_version": "abc",
        }
        return release(self.lake, self.marts, **(arguments | changes))

    def withdraw(self, models: list[Model] | None = None) -> Release:
        return withdraw(self.lake, self.marts, models or self.models, DOMAIN, "run-w", "abc")

    def query(self, statement: str, role: str | None = None) -> list[tuple]:
        """Ask the marts database, as the publishing role or another."""
        conninfo = self.marts.conninfo() if role is None else self.as_role(role).conninfo()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def as_role(self, role: str) -> Postgres:
        return Postgres(self.marts.host, self.marts.port, self.marts.database, role)

    def view(self, statement: str) -> list[tuple]:
        """Ask the lake."""
        return lake_connection(self.lake).execute(statement).fetchall()

    def seen(self) -> dict[str, set]:
        """The versions that readers see, in each mart of Postgres and of the lake: one each if all is well."""
        found = {}
        with psycopg.connect(self.marts.conninfo()) as connection:
            connection.execute("set transaction isolation level repeatable read")
            if connection.execute("select to_regclass('marts.mrt_daily')").fetchone() != (None,):
                found["postgres daily"] = {row[0] for row in connection.execute("select mean from marts.mrt_daily")}
                found["postgres hourly"] = {
                    row[0] for row in connection.execute("select readings from marts.mrt_hourly")
                }
        lake = lake_connection(self.lake)
        lake.begin()
        if self.view("select true from duckdb_views() where schema_name = 'marts' and database_name = 'dl'"):
            for name, column in (("daily", "mean"), ("hourly", "readings")):
                rows = self.view(f"select distinct {column} from dl.marts.mrt_{name}")
                found[f"lake {name}"] = {row[0] for row in rows}
        lake.commit()
        return found


def whole(*versions: int | None) -> dict[str, set]:
    """What `seen` gives when Postgres is on one version and the lake's views on another (or the same)."""
    postgres, lake = versions if len(versions) == 2 else (versions[0], versions[0])
    found = {}
    if postgres is not None:
        found |= {"postgres daily": {postgres}, "postgres hourly": {postgres}}
    if lake is not None:
        found |= {"lake daily": {lake}, "lake hourly": {lake}}
    return found
