"""Run a gate by hand, or list what the gates check: `python -m include.quality --help`."""

import sys
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from include import runtime
from include.errors import LakehouseError
from include.interval import Interval
from include.layers import Layer
from include.quality.suites import domains, suite
from include.settings import load_local_environment, settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def run(
    domain: str,
    layer: Layer,
    first: Annotated[str, typer.Option("--from", help="First day of the interval (UTC), such as 2026-11-01.")],
    end: Annotated[str, typer.Option("--to", help="Day after the last one.")],
    run_id: Annotated[str, typer.Option(help="Run id that the results are kept under; by default a new one.")] = "",
    judge: Annotated[bool, typer.Option(help="On bronze, set broken rows aside before checking.")] = True,
) -> None:
    """Check one layer; exit status 1 if the gate is red. The results are kept as those of a DAG run are."""
    from include.quality.gate import run_gate

    load_local_environment()
    name = run_id or f"by-hand__{datetime.now(UTC).isoformat(timespec='seconds')}"
    try:
        interval = Interval.of_days(_day(first), _day(end))
        result = run_gate(runtime.lake(), domain, layer, interval, name, settings().quality_dir, judge=judge)
    except LakehouseError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{result.gate} of {domain} passed: {result.evaluated} checks on snapshot {result.snapshot_id}.")
    for finding in result.warned:
        console.print(f"warning: {finding}", style="yellow", markup=False)
    console.print(f"Data Docs: {settings().quality_dir / result.docs}", markup=False)


@app.command(name="list")
def list_checks(
    domain: Annotated[str, typer.Argument(help="By default every domain.")] = "",
) -> None:
    """Every check and row rule, with what it does to its gate and why it is there."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for name in [domain] if domain else domains():
        for layer in Layer:
            _print_suite(console, name, layer)


def _print_suite(console: Console, domain: str, layer: Layer) -> None:
    checks = suite(domain, layer)
    table = Table(
        Column("check", no_wrap=True),
        "table",
        "severity",
        "expected",
        "why",
        title=f"{domain}, {layer.gate}",
        title_justify="left",
    )
    for check in checks.checks:
        table.add_row(check.name, check.table, check.severity.value, check.test.expected, check.why)
    console.print(table, markup=False)
    if checks.row_rules:
        aside = f"set aside; more than {checks.max_share:.0%} of a day's records is red"
        rules = Table(
            Column("row rule", no_wrap=True), "table", "a good row has", "why", title=aside, title_justify="left"
        )
        for name, of_table in checks.row_rules.items():
            for rule in of_table:
                rules.add_row(rule.name, f"{layer}.{name}", " ".join(rule.predicate.split()), rule.why)
        console.print(rules, markup=False)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise LakehouseError(f"{text!r} is not a day; expected one such as 2026-11-01.") from None


if __name__ == "__main__":
    app()
