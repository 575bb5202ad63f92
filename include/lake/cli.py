"""The lake's upkeep: `lake maintain` and `lake fsck`."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 140)


@app.command()
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due; change nothing.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="This step alone; may be given again: flush, rewrite, merge, expire, cleanup, orphans, leftovers."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a step.")] = False,
) -> None:
    """Make the lake small and quick again; waits for writers, and they for it."""
    from include import runtime
    from include.lake import maintenance
    from include.settings import settings

    known = [step.value for step in maintenance.Step]
    for name in only or []:
        if name not in known:
            raise typer.BadParameter(f"there is no step {name}; expected one of {', '.join(known)}")
    steps = [step for step in maintenance.Step if not only or step.value in only]
    with console.status("Waiting for writers") as status:
        reports = maintenance.maintain(
            runtime.lake(),
            runtime.marts(),
            steps=steps,
            dry_run=dry_run,
            keep=maintenance.Keep.of(settings()),
            home=settings().home,
            progress=status.update,
        )
    if as_json:
        for report in reports:
            typer.echo(json.dumps(report.as_dict()))
        return
    console.print(maintenance_table(reports))
    console.print(
        "Nothing was changed." if dry_run else "Rows were compared before and after each step that was due.",
        style="dim",
    )


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged tables readable again.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte, not only sizes and footers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Compare catalog and storage; exit status 0 if every table and retained release can be read."""
    from include import runtime
    from include.lake import fsck as steps

    lake, marts = runtime.lake(), runtime.marts()
    with console.status("Comparing catalog and storage"):
        report = steps.check(lake, marts=marts, deep=deep)
    repairs = []
    if repair and report.current:
        with console.status("Waiting for writers, then repairing"):
            repairs = steps.repair(lake, report)
            after = steps.check(lake, marts=marts, deep=deep)
    else:
        after = report
    if as_json:
        typer.echo(json.dumps({**after.as_dict(), "repairs": [vars(item) for item in repairs]}, default=str))
    else:
        _print_report(report)
        for item in repairs:
            console.print(f"[green]✔[/] {item.table} {item.done}. Next: {item.next_step}.", soft_wrap=True)
        if report.current and not repair:
            console.print("`lake fsck --repair` makes the tables readable again.", soft_wrap=True)
    raise typer.Exit(0 if after.ok else 1)


def maintenance_table(reports) -> Table:
    """What each step found due and did."""
    table = Table(header_style="dim")
    for heading in ("step", "due", "in", "files read", "MB read", "files stored", "MB stored", "compared", "s"):
        table.add_column(heading, justify="left" if heading in ("step", "due", "in") else "right")
    for report in reports:
        before, after = report.before, report.after
        where = sorted(name for name in report.due if "." in name)
        table.add_row(
            report.step.value,
            f"{sum(report.due.values()):,} {report.unit}" if report.due else "nothing",
            ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else ""),
            _change(before.live_files, after.live_files, "{:,}"),
            _change(before.live_bytes / 1e6, after.live_bytes / 1e6, "{:,.1f}"),
            _change(before.stored_files, after.stored_files, "{:,}"),
            _change(before.stored_bytes / 1e6, after.stored_bytes / 1e6, "{:,.1f}"),
            str(report.verified or "–"),
            f"{report.seconds:.1f}",
        )
    return table


def _change(before: float, after: float, form: str) -> str:
    one, other = form.format(before), form.format(after)
    return one if one == other else f"{one} → {other}"


def _print_report(report) -> None:
    from include.lake.fsck import Reach

    if report.damage:
        table = Table(header_style="dim")
        for heading in ("table", "file", "what", "read by", "last whole at snapshot"):
            table.add_column(heading, overflow="fold")
        for item in report.damage:
            releases = f" {', '.join(str(number) for number in item.releases)}" if item.releases else ""
            reader = {
                Reach.CURRENT: "the table as it is",
                Reach.RELEASE: f"release{releases}: restore its file from a backup",
                Reach.HISTORY: "older snapshots alone",
            }[item.reach]
            whole = "none" if item.last_whole is None else str(item.last_whole)
            table.add_row(item.file.name, item.file.path, item.problem, reader, whole)
        console.print(table)
    for path in report.unknown[:10]:
        console.print(f"Nothing names {path}", soft_wrap=True)
    if report.unknown:
        console.print(f"{len(report.unknown)} files that nothing names; `lake maintain --only orphans` removes them.")
    symbol = "[green]✔[/]" if report.ok else "[red]✘[/]"
    how = "every byte" if report.deep else "sizes and footers"
    console.print(
        f"{symbol} {report.files:,} files of {report.tables} tables, {report.bytes / 1e6:,.1f} MB: {how} in "
        f"{report.seconds:.2f} s, {len(report.damage)} damaged.",
        soft_wrap=True,
    )
