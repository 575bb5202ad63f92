"""Releases made by the release code itself, of a small mart."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from include.connections import Postgres
from include.dbt_project import Column, Model
from include.interval import Interval
from include.lake.attach import Lake
from include.local.postgres import LocalPostgres
from include.quality import results
from include.quality.results import Finding, GateResult
from include.release import certify, rollback
from tests.conftest import fresh_database, lake_in

MODELS = [
    Model(
        name="mrt_daily_glycaemia",
        description="Glucose by day.",
        grain="one row per site and local day",
        key=("day_no",),
        columns=(Column("day_no", "bigint", "The day."), Column("mean_mg_dl", "double", "Mean glucose.")),
    )
]


@contextmanager
def two_releases(server: LocalPostgres, extensions: Path, folder: Path) -> Iterator[tuple[Lake, Postgres]]:
    """A lake and a marts database with the releases of two days; the gates' results are in `quality` of the folder."""
    with fresh_database(server, "lake") as catalog, fresh_database(server, "marts_publisher") as marts:
        lake = lake_in(folder, catalog, extensions)
        for run, rows in (("2026-11-01", 3), ("2026-11-02", 5)):
            release(lake, marts, folder / "quality", f"scheduled__{run}", date.fromisoformat(run), rows=rows)
        yield lake, marts


def release(
    lake: Lake, marts: Postgres, quality_dir: Path, dag_run_id: str, day: date, *, rows: int
) -> certify.Release:
    """Build the mart, let its gates pass and release it."""
    interval = Interval.of_days(day, day + timedelta(days=1))
    with lake.open() as connection:
        connection.execute("create schema if not exists dl.gold")
        connection.execute(
            "create or replace table dl.gold.mrt_daily_glycaemia as "
            f"select range::bigint as day_no, 100.5 + range::double as mean_mg_dl from range({rows})"
        )
        row = connection.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()
    assert row is not None
    gates = [
        gate(quality_dir, name, dag_run_id, interval, row[0]) for name in ("gate_bronze", "gate_silver", "gate_gold")
    ]
    return certify.release(
        lake,
        marts,
        MODELS,
        "nightscout",
        interval,
        dag_run_id,
        row[0],
        [found.to_json() for found in gates],
        "c0ffee12",
    )


def roll_back(lake: Lake, marts: Postgres, release_id: int) -> certify.Release:
    """Publish an earlier release again."""
    return rollback.rollback(
        lake, marts, "nightscout", release_id, models=MODELS, dag_run_id="manual__rollback", code_version="c0ffee12"
    )


def withdraw(lake: Lake, marts: Postgres) -> certify.Release:
    """Take every row out of the mart, and from its readers."""
    with lake.open() as connection:
        connection.execute(
            "create or replace table dl.gold.mrt_daily_glycaemia as from dl.gold.mrt_daily_glycaemia limit 0"
        )
    return certify.withdraw(lake, marts, MODELS, "nightscout", "forget__c0ffee12", "c0ffee12")


def gate(
    quality_dir: Path,
    name: str,
    dag_run_id: str,
    interval: Interval,
    snapshot_id: int,
    *,
    success: bool = True,
    observed: str = "-1",
    domain: str = "nightscout",
) -> GateResult:
    """The result of a gate as the gate leaves it, with a page of Data Docs."""
    finding = Finding("mean_in_range", "gold.mrt_daily_glycaemia", "40 to 400", observed, "Impossible otherwise.")
    folder = results.run_folder(quality_dir, dag_run_id)
    result = GateResult(
        gate=name,
        domain=domain,
        dag_run_id=dag_run_id,
        interval=(interval.start.isoformat(), interval.end.isoformat()),
        snapshot_id=snapshot_id,
        success=success,
        declared=12,
        evaluated=12,
        failed=() if success else (finding,),
        warned=(),
        rows={"gold.mrt_daily_glycaemia": 3},
        set_aside={},
        checked_at=datetime.now(UTC).isoformat(),
        seconds=0.4,
        docs=(folder / "index.html").relative_to(quality_dir).as_posix(),
        results_sha256="ab" * 32,
        pages={},
    )
    results.write_result(quality_dir, result)
    results.write_text(folder / "index.html", f"<!doctype html><title>{name}</title><p>Gates of the run")
    return result
