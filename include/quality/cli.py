"""The quarantine commands of `lake`: see what was set aside, and judge it again."""

import itertools
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from include.cli_errors import in_one_sentence

if TYPE_CHECKING:
    from include.quality.replay import Group

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 120)

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
    for (table_name, rule_name), of_rule in itertools.groupby(groups, key=lambda group: (group.table, group.rule)):
        _print_rule(table_name, rule_name, list(of_rule))
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
    from include.local.watch import run_dag

    chosen = {"interval_start": first_day and str(first_day), "interval_end": end and str(end), "tables": table}
    if not run_dag(f"{domain}_replay", {**chosen, "dry_run": False}):
        raise typer.Exit(1)


def _print_rule(table: str, rule: str, groups: "list[Group]") -> None:
    from include.release.explain_page import said_by

    console.print(
        Text.assemble((table, "bold"), "  ", (rule, "yellow"), f"  {sum(each.rows for each in groups):,} rows")
    )
    shown = Table("day", "rows", "sites", "run", box=None, header_style="dim", padding=(0, 2))
    for group in groups:
        run = Text(group.dag_run_id or "–", overflow="ellipsis", no_wrap=True)
        shown.add_row(str(group.day or "none"), f"{group.rows:,}", ", ".join(group.sites), run)
    console.print(shown)
    record_id, payload = groups[0].example
    said = f"such as {record_id}: {said_by(json.loads(payload))}"
    console.print(Padding(Text(said, style="dim", no_wrap=True, overflow="ellipsis"), (0, 2)))
    console.print()


def _changes(tables: Any) -> Table:
    shown = Table(box=None, header_style="dim", padding=(0, 2))
    for heading in ("table", "records judged", "set aside", "would pass", "more set aside", "days that change"):
        shown.add_column(heading, justify="left" if heading in ("table", "days that change") else "right")
    for table in tables:
        counts = (table.records, table.set_aside, table.freed, table.newly)
        more = f" and {len(table.days) - 3} more" if len(table.days) > 3 else ""
        shown.add_row(table.table, *(f"{count:,}" for count in counts), ", ".join(table.days[:3]) + more or "–")
    return shown
