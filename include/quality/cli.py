"""The quarantine commands of `lake`: see what was set aside, and judge it again."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from include.release.cli import in_one_sentence

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console()

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
Tables = Annotated[list[str] | None, typer.Option("--table", help="Only this bronze table; may be repeated.")]


@app.command()
@in_one_sentence
def quarantine(
    domain: Annotated[str, typer.Argument(help="The domain, such as nightscout.")] = "nightscout",
    table: Tables = None,
    rule: Annotated[str, typer.Option(help="Only rows that broke this rule.")] = "",
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="From this UTC day.")] = None,
    to: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Up to but not including it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List rows that were set aside, by table, rule and day, each with an example."""
    from include import runtime
    from include.quality import replay

    first_day, end = first.date() if first else None, to.date() if to else None
    groups = replay.listing(runtime.lake(), domain, tables=table or (), rule=rule, first=first_day, end=end)
    if as_json:
        for group in groups:
            example = {"record_id": group.example[0], "payload": json.loads(group.example[1])}
            typer.echo(json.dumps(vars(group) | {"day": group.day and str(group.day), "example": example}))
        return
    if not groups:
        console.print(
            f"Nothing of {domain} is in quarantine{' for that choice' if table or rule or first or to else ''}."
        )
        return
    shown = Table(header_style="dim")
    for heading in ("table", "rule", "day", "rows", "sites", "run", "example"):
        shown.add_column(heading, justify="right" if heading == "rows" else "left", no_wrap=heading in ("rule", "day"))
    for group in groups:
        shown.add_row(
            group.table,
            group.rule,
            str(group.day or "none"),
            f"{group.rows:,}",
            ", ".join(group.sites),
            Text(group.dag_run_id or "–"),
            Text(_short(json.loads(group.example[1]))),
        )
    console.print(shown)
    console.print("A row that broke several rules is counted in each. `lake replay` judges again.", style="dim")


@app.command()
@in_one_sentence
def replay(
    domain: Annotated[str, typer.Argument(help="The domain, such as nightscout.")],
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")] = None,
    to: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day after the last, exclusive.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Table whose rows choose the days; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")] = False,
) -> None:
    """Judge quarantined rows again and rebuild their days; by default all days on which rows are set aside."""
    from include import runtime
    from include.quality.replay import plan

    first_day, end = first.date() if first else None, to.date() if to else None
    found = plan(runtime.lake(), domain, first=first_day, end=end, tables=table or ())
    if found.undated:
        console.print(f"{found.undated} rows state no day and wait for another answer of their source.")
    if found.interval_start is None:
        console.print(f"Nothing of {domain} is or was set aside on any day: there is nothing to replay.")
        return
    console.print(f"[bold]{domain}[/] {found.interval} ({len(found.interval.days())} days)")
    console.print(_changes(found.tables))
    if dry_run:
        return
    from include.cli import run_dag

    chosen = {"interval_start": first_day and str(first_day), "interval_end": end and str(end), "tables": table}
    if not run_dag(f"{domain}_replay", {**chosen, "dry_run": False}):
        raise typer.Exit(1)


def _changes(tables: Any) -> Table:
    shown = Table(header_style="dim")
    for heading in ("table", "records judged", "set aside", "would pass", "more set aside", "days that change"):
        shown.add_column(heading, justify="left" if heading in ("table", "days that change") else "right")
    for table in tables:
        counts = (table.records, table.set_aside, table.freed, table.newly)
        more = f" and {len(table.days) - 3} more" if len(table.days) > 3 else ""
        shown.add_row(table.table, *(f"{count:,}" for count in counts), ", ".join(table.days[:3]) + more or "–")
    return shown


def _short(payload: dict[str, Any], limit: int = 120) -> str:
    """What the record itself said: without lineage, which the other columns tell."""
    hidden = ("_dlt_load_id", "interval_date", "interval_end", "interval_start", "load_seq", "rules", "window_records")
    said = {name: value for name, value in payload.items() if value is not None and name not in hidden}
    text = ", ".join(f"{name}={value}" for name, value in said.items())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
