"""What `make demo` shows when the run is certified."""

from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from include import runtime
from include.interval import Interval
from include.local import stack
from include.naming import run_slug
from include.release import ledger

DOMAIN = "nightscout"


def show(console: Console, wanted: Interval) -> None:
    """Marts as tables, read by the role that only reads, and where to look next."""
    last = ledger.last(runtime.marts(), DOMAIN)
    assert last is not None
    reader = runtime.marts_reader()
    console.print()
    with psycopg.connect(reader.conninfo(), password=reader.password) as connection:
        for title, mart, columns, order, limit in TABLES:
            console.print(_table(connection, title, mart, columns, order, limit))
    login = stack.login()
    console.print(
        f"Release [bold]{last.release_id}[/] certified {last.interval_start.date()} to {last.interval_end.date()}"
    )
    console.print(f"  lake snapshot {last.snapshot_id}, code {last.code_version}, entry {last.entry_hash[:12]}…")
    console.print("\n[bold]Where to look next[/]")
    console.print(f"  Airflow     {login.url}/dags/{DOMAIN}_daily   user {login.user}, password {login.password}")
    console.print(f"  Data Docs   {login.url}/lakehouse/data-docs/runs/{run_slug(last.dag_run_id)}/")
    console.print(f"  Releases    {login.url}/lakehouse/releases/{last.release_id}")
    console.print("  Commands    .venv/bin/lake status, releases, reproduce, rollback, verify; make down stops it all")


# title, mart, columns, order, rows
TABLES = (
    (
        "the last 14 days of each site",
        "mrt_glucose_overview",
        ("site", "readings", "coverage_pct", "mean_mg_dl", "gmi_pct", "below_70_pct", "in_range_70_180_pct", "gri"),
        "site",
        10,
    ),
    (
        "the newest days",
        "mrt_daily_glycaemia",
        (
            "site",
            "local_date",
            "readings",
            "mean_mg_dl",
            "cv_pct",
            "below_70_pct",
            "in_range_70_180_pct",
            "above_180_pct",
        ),
        "local_date desc, site",
        8,
    ),
    (
        "what was set aside, repeated or late",
        "mrt_quality_coverage",
        ("site", "reading_date", "expected_readings", "received_readings", "quarantined_records", "late_pct"),
        "reading_date desc, site",
        8,
    ),
)
LEFT = ("site", "local_date", "reading_date")


def _table(
    connection: psycopg.Connection, title: str, mart: str, columns: tuple[str, ...], order: str, limit: int
) -> Table:
    statement = sql.SQL("select {} from {} order by {} limit {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier("marts", mart),
        sql.SQL(order),
        sql.Literal(limit),
    )
    table = Table(title=f"marts.{mart}: {title}", title_justify="left", header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for row in connection.execute(statement):
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
