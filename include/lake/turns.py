"""Whose turn a domain has: one run at a time, whatever started it.

The gates of a run look at the newest snapshot, so two runs of one domain side by side would judge each other's halves.
Airflow's `max_active_runs` holds neither between DAGs nor for backfills.
"""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from include.connections import Postgres
from include.lake.passfile import use_passwords

_TABLE = """
create schema if not exists lakehouse;
create table if not exists lakehouse.turns (
    domain text primary key, dag_id text not null, run_id text not null, since timestamptz not null default now()
)
"""
# Any number will do as long as every version of this code uses the same.
_LOCK = 5_205_311_964_770_103


@dataclass(frozen=True)
class Run:
    """A DAG run."""

    dag_id: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.run_id} of {self.dag_id}"


def take_turn(catalog: Postgres, domain: str, run: Run, is_running: Callable[[Run], bool]) -> Run:
    """The run whose turn it is now: `run`, unless another has the domain and `is_running` says that it still runs."""
    use_passwords(catalog)
    with psycopg.connect(catalog.conninfo()) as connection:
        holder = _holder(connection, domain)
        if holder == run:
            return run
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(_TABLE)
        holder = _holder(connection, domain)
        if holder is not None and holder != run and is_running(holder):
            return holder
        connection.execute(
            "insert into lakehouse.turns (domain, dag_id, run_id) values (%s, %s, %s) on conflict (domain) "
            "do update set dag_id = excluded.dag_id, run_id = excluded.run_id, since = now()",
            [domain, run.dag_id, run.run_id],
        )
        return run


def _holder(connection: psycopg.Connection, domain: str) -> Run | None:
    there = connection.execute("select to_regclass('lakehouse.turns')").fetchone()
    if there is None or there[0] is None:
        return None
    row = connection.execute("select dag_id, run_id from lakehouse.turns where domain = %s", [domain]).fetchone()
    return Run(*row) if row else None
