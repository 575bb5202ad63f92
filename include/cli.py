"""The `lake` command: what an operator does outside Airflow's pages."""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from include import settings as environment
from include.cli_errors import in_one_sentence
from include.erasure.cli import app as erasure_app
from include.errors import LakehouseError
from include.interval import Interval
from include.lake.backup_cli import app as backup_app
from include.lake.cli import app as lake_app
from include.quality.cli import app as quality_app
from include.release.cli import app as release_app
from include.scaffold.cli import app as scaffold_app

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", help=__doc__)
app.add_typer(release_app)
app.add_typer(quality_app)
app.add_typer(lake_app)
app.add_typer(backup_app)
app.add_typer(erasure_app)
app.add_typer(scaffold_app, name="new")
console = Console(width=None if sys.stdout.isatty() else 120)

LEVELS = {"ok": ("✔", "green"), "late": ("!", "yellow"), "unknown": ("?", "yellow"), "failed": ("✘", "red")}


@app.callback()
def _main() -> None:
    environment.load_local_environment()


@app.command()
def setup() -> None:
    """Make databases, environment and manifest; repeatable."""
    from include.local import stack

    with console.status("Setting up") as status:
        stack.setup(lambda step: status.update(f"Setting up: {step}"))
    console.print("Set up. [bold]make up[/] starts the stack, [bold]make demo[/] runs the demo.")


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once everything runs.")] = False,
) -> None:
    """Start PostgreSQL, Airflow and, unless a sites file is given, the demo sites."""
    from include.local import stack, watch

    watch.start()
    if detach:
        console.print("`make down` stops it.")
        return
    console.print("Ctrl-C stops it.")
    try:
        stack.supervise()
    except KeyboardInterrupt:
        console.print("\nStopping")
    finally:
        stack.down()


@app.command()
def down() -> None:
    """Stop everything that runs."""
    from include.local import stack

    with console.status("Stopping"):
        stopped = stack.down()
    console.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def run(
    domain: Annotated[str, typer.Argument(help="The domain whose daily pipeline runs, such as nightscout.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")],
    to: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last, exclusive.")],
    full_refresh: Annotated[bool, typer.Option(help="Rebuild silver and gold from all of bronze.")] = False,
) -> None:
    """Run a domain's pipeline for a range of days through Airflow; exit status 0 if it was certified."""
    from include.local import watch

    interval = Interval.of_days(first.date(), to.date())
    raise typer.Exit(0 if watch.run_interval(domain, interval, full_refresh=full_refresh) else 1)


@app.command()
def backfill(
    domain: Annotated[str, typer.Argument(help="The domain whose daily pipeline runs, such as nightscout.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")],
    to: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last, exclusive.")],
    chunk: Annotated[str, typer.Option(help="Days of one run at most, such as 30d; a longer run costs less.")] = "366d",
    again: Annotated[bool, typer.Option(help="Run days too that a release covers already.")] = False,
    full_refresh: Annotated[
        bool, typer.Option(help="Rebuild silver and gold from all of bronze, with each run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the runs and start none.")] = False,
) -> None:
    """Run the days that no release covers, run by run; stopped, the same command goes on with the rest."""
    from include import runtime
    from include.lake.locks import one_backfill
    from include.local import stack, watch
    from include.release import ledger
    from include.release.coverage import chunks, covered_days

    if not re.fullmatch(r"\d{1,5}d?", chunk):
        raise LakehouseError(f"--chunk is {chunk!r}; expected days, such as 30d.")
    wanted = Interval.of_days(first.date(), to.date())
    stack.ensure_postgres()
    covered = set() if again else covered_days(ledger.entries(runtime.marts(), domain))
    planned = chunks(wanted, covered, int(chunk.rstrip("d")))
    table = Table("run", "from", "to (exclusive)", "days", box=None, header_style="dim")
    for number, part in enumerate(planned, 1):
        table.add_row(str(number), str(part.start.date()), str(part.end.date()), str(len(part.days())))
    left = sum(len(part.days()) for part in planned)
    console.print(f"[bold]{domain}[/] {wanted}: {len(wanted.days()) - left} days certified, {left} to run.")
    if not planned:
        return
    console.print(table)
    if dry_run:
        return
    with one_backfill(runtime.lake().catalog, domain) as lock:
        done = 0
        for number, part in enumerate(planned, 1):
            lock.check()
            console.print(f"\nRun {number} of {len(planned)}, {done} of {left} days done")
            if not watch.run_interval(domain, part, full_refresh=full_refresh):
                rest = "" if not again else f" with --from {part.start.date()}"
                console.print(
                    f"{number - 1} of {len(planned)} runs were certified; mend it, then give the command again{rest}."
                )
                raise typer.Exit(1)
            done += len(part.days())
    console.print(f"All {left} days are certified.")


@app.command()
def status() -> None:
    """What is up, what is fresh, what is certified, what is backed up; exit status 0 if all of it is well."""
    from include.local.status import collect

    table = Table(box=None, show_header=False)
    found = collect()
    for group in found.groups:
        table.add_row("", Text(group.name, style="bold"))
        for state in group.states:
            symbol, colour = LEVELS[state.level]
            table.add_row(Text(symbol, style=colour), f"  {state.name}", Text(state.reason))
    console.print(table)
    raise typer.Exit(0 if found.level == "ok" else 1)


@app.command()
def demo(
    weeks: Annotated[int, typer.Option(min=1, max=52, help="Weeks of demo data, up to yesterday.")] = 4,
) -> None:
    """Set up, start, run the demo's days through Airflow and show the certified marts."""
    from include import runtime
    from include.local import demo as the_demo
    from include.local import watch
    from include.release import ledger
    from include.release.coverage import chunks, covered_days

    watch.start()
    today = datetime.now(UTC).date()
    wanted = Interval.of_days(today - timedelta(weeks=weeks), today)
    covered = covered_days(ledger.entries(runtime.marts(), the_demo.DOMAIN))
    missing = chunks(wanted, covered, len(wanted.days()))
    if not missing:
        console.print(f"The days {wanted} are certified already.")
    for part in missing:
        if not watch.run_interval(the_demo.DOMAIN, part):
            raise typer.Exit(1)
    the_demo.show(console, wanted)


@app.command("dbt", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def dbt(context: typer.Context) -> None:
    """Run dbt on the local lake, such as `lake dbt build --select gold`."""
    from include.local import stack

    stack.ensure_postgres()
    raise typer.Exit(stack.run_dbt(context.args or ["--help"]))


@app.command()
def manifest() -> None:
    """Parse the dbt project into the manifest that the DAGs are drawn from."""
    from include.local import stack

    stack.build_manifest(force=True)
    console.print("The manifest is new.")


@app.command("settings")
def show_settings() -> None:
    """Every setting with its value and what it is for."""
    values = environment.settings()
    table = Table("variable", "value", "what", box=None, header_style="dim")
    for name, field in type(values).model_fields.items():
        table.add_row(f"LAKE_{name.upper()}", str(getattr(values, name)), field.description or "")
    console.print(table)


main = in_one_sentence(app)
