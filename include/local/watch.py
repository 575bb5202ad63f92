"""Start Airflow where none answers, run a DAG through it, and show how it goes."""

import sys
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from include import settings as environment
from include.interval import Interval
from include.local import airflow_api, stack

console = Console(width=None if sys.stdout.isatty() else 120)

SYMBOLS = {
    "success": ("✔", "green"),
    "failed": ("✘", "red"),
    "upstream_failed": ("✘", "red"),
    "running": ("▶", "cyan"),
    "up_for_retry": ("↻", "yellow"),
    "up_for_reschedule": ("…", "yellow"),
    "deferred": ("…", "cyan"),
    "skipped": ("–", "dim"),
}


def run_interval(domain: str, interval: Interval, *, full_refresh: bool = False) -> bool:
    """Run a domain's pipeline; see `run_dag`."""
    days = {"interval_start": str(interval.start.date()), "interval_end": str(interval.end.date())}
    console.print(f"[bold]{domain}[/] {interval} ({len(interval.days())} days)")
    return run_dag(f"{domain}_daily", {**days, "full_refresh": full_refresh}, interval)


def run_dag(dag_id: str, conf: dict[str, Any], interval: Interval | None = None) -> bool:
    """Run through Airflow with progress, starting the stack if none answers; True if the run succeeded.

    Args:
        interval: watch the run of these days that is under way already, if there is one.
    """
    if not airflow_api.reachable(environment.connection("airflow_api")) or stack.needs_start():
        start()
    with console.status("Parsing the dbt project"):
        changed = stack.build_manifest()
    with airflow_api.Airflow(environment.connection("airflow_api")) as airflow:
        airflow.wait_for_dag(dag_id)
        if changed:
            airflow.parse_anew(dag_id)
        run_id = airflow.unfinished_run(dag_id, interval) if interval else None
        if run_id:
            console.print(f"Run {run_id} of these days is under way; watching it.")
        else:
            run_id = airflow.trigger(dag_id, conf)
        console.print(f"[bold]{dag_id}[/], run {run_id}")
        state, tasks = "queued", []
        try:
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                for state, tasks in airflow.watch(dag_id, run_id):
                    live.update(_progress(state, tasks))
        except KeyboardInterrupt:
            again = " Give the same command again to watch it and go on." if interval else ""
            console.print(f"Stopped watching. The run goes on: {airflow.url}/dags/{dag_id}/runs/{run_id}.{again}")
            raise typer.Exit(130) from None
        console.print(_progress(state, tasks))
        for task in tasks:
            if task.state == "failed":
                reason = airflow.failure(dag_id, run_id, task.task_id)
                console.print(Text.assemble((f"{task.task_id}: ", "bold red"), reason))
        if state != "success":
            console.print(f"The run {state}: {airflow.url}/dags/{dag_id}/runs/{run_id}")
    return state == "success"


def _progress(state: str, tasks) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for task in tasks:
        symbol, colour = SYMBOLS.get(task.state or "", ("·", "dim"))
        seconds = f"{task.seconds:.1f} s" if task.seconds else ""
        table.add_row(Text(symbol, style=colour), task.task_id, task.state or "", seconds)
    done = sum(task.state == "success" for task in tasks)
    table.add_row("", Text(f"{done} of {len(tasks)} tasks", style="bold"), state, "")
    return table


def start() -> None:
    with console.status("Starting") as status:
        login = stack.up(lambda step: status.update(f"Starting: {step}"))
    console.print(
        f"Airflow runs at [link]{login.url}[/], user [bold]{login.user}[/], password [bold]{login.password}[/]"
    )
