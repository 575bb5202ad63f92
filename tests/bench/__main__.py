"""`python -m tests.bench`: measure, compare with what is recorded, record."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.bench import document, machine
from tests.bench.results import RECORDED, WORKING, Run, words, worse
from tests.bench.runner import Result
from tests.bench.spec import Row, Scale

TRIES = 3  # before a figure counts as worse: another program may have had the machine

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 160)


@app.command()
def main(
    scale: Annotated[
        Scale, typer.Option(help="small guards every change; full has the document's sizes.")
    ] = Scale.SMALL,
    only: Annotated[str, typer.Option(help="Names of rows, or their numbers, separated by commas.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Measure rows too that were measured with this code.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the results as what is compared with, and write docs/performance.md.")
    ] = False,
    runs: Annotated[int, typer.Option(min=0, help="Samples of each side; by default the row's own number.")] = 0,
    listed: Annotated[bool, typer.Option("--list", help="Show the rows and measure nothing.")] = False,
) -> None:
    """Speed as a ratio of our path to a bound. Exit status 1 if a figure is worse than the recorded one by half."""
    from tests.bench.rows import ROWS

    rows = chosen(ROWS, only)
    if listed:
        table = Table("#", "name", "ours", "the bound", "goal", box=None, header_style="dim")
        for row in rows:
            table.add_row(row.number, row.name, row.ours, row.bound, row.goal_words())
        console.print(table)
        return
    # Servers that were started are stopped, whatever ends the bench; in the background, Ctrl-C is ignored by default.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run = Run.read(WORKING, scale) or Run(scale, machine.describe())
    run.machine = machine.describe()
    due = [row for row in rows if row.sizes.get(scale) and (again or not run.has(row, machine.code()))]
    failed = _measure(due, run, runs)
    results = [result for row in rows for result in run.results.values() if result.row == row.name]
    _show(rows, run)
    if not results:
        raise SystemExit("No row was measured; a bench that measures nothing guards nothing.")
    if record:
        console.print(f"Recorded {len(results)} results in {keep(ROWS, run, results)}.")
        said = []
    else:
        said = _guard(rows, run, runs)
    for line in [*failed, *said]:
        console.print(f"[red]✘[/] {line}", highlight=False)
    raise typer.Exit(1 if failed or said else 0)


def _guard(rows: list[Row], run: Run, runs: int) -> list[str]:
    """A sentence for each figure that is worse than the recorded one by half, however often it is measured."""
    recorded = before.results if (before := Run.read(RECORDED, run.scale)) else {}
    known = {row.name: row for row in rows}

    def slower() -> list[Result]:
        return worse([result for result in run.results.values() if result.row in known], recorded, known)

    for _ in range(TRIES - 1):
        names = {result.row for result in slower()}
        if not names:
            break
        console.print(f"Worse than recorded, and so measured again: {', '.join(sorted(names))}.")
        _measure([known[name] for name in names], run, runs, again=True)
    return [words(result, recorded[result.key], known[result.row]) for result in slower()]


def keep(rows: tuple[Row, ...], run: Run, results: list[Result]) -> Path:
    """Record results, forget those of rows and sizes that are no more, and write the document."""
    recorded = Run.read(RECORDED, run.scale) or Run(run.scale, run.machine)
    recorded.machine = run.machine
    recorded.add(results)
    known = {f"{row.name}: {size.label}" for row in rows for size in row.sizes.get(run.scale, ())}
    recorded.results = {key: result for key, result in recorded.results.items() if key in known}
    path = recorded.write(RECORDED)
    document.write(rows)
    return path


def chosen(rows: tuple[Row, ...], only: str) -> list[Row]:
    """The rows that a list of names or numbers means; all without one.

    Raises:
        SystemExit: a name is no row's.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {name for row in rows for name in (row.name, row.number)}
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"There is no row {', '.join(unknown)}; `python -m tests.bench --list` names them.")
    return [row for row in rows if not names or row.name in names or row.number in names]


def _measure(due: list[Row], run: Run, runs: int, *, again: bool = False) -> list[str]:
    """Measure rows, keeping each at once; returns a sentence for each that could not be.

    Args:
        again: keep what is better than before.
    """
    if not due:
        return []
    from include.local import stack
    from tests.bench.places import open_places
    from tests.bench.runner import measure, preload

    stack.build_manifest()
    preload()
    failed = []
    with open_places() as places, console.status("Starting") as status:
        for number, row in enumerate(due, 1):
            report = lambda words, number=number: status.update(f"{number} of {len(due)}: {words}")  # noqa: E731
            try:
                results = measure(row, run.scale, places, report, runs=runs or None)
            except Exception as error:  # noqa: BLE001  the rows after it are measured all the same
                console.print(f"{row.name}: [red]could not be measured[/]: {error}", highlight=False)
                failed.append(f"{row.name} could not be measured.")
                continue
            run.add(results, if_better=again)
            run.write(WORKING)
            for result in results:
                console.print(
                    f"{result.key}: ours {result.ours_seconds:.2f} s, bound {result.bound_seconds:.2f} s, "
                    f"[bold]{document.shown(row, result)}[/] (goal {row.goal_words()})",
                    highlight=False,
                )
    return failed


def _show(rows: list[Row], run: Run) -> None:
    table = Table(
        "#", "row", "size", "ours", "bound", "result", "goal", "", "peak", "parts", box=None, header_style="dim"
    )
    for row in rows:
        for result in run.results.values():
            if result.row == row.name:
                number, _, _, size, ours, bound, _, figure, goal, met, peak, parts = document.cells(row, result)
                table.add_row(number, row.name, size, ours, bound, figure, goal, met, peak, parts)
    console.print(table)


if __name__ == "__main__":
    app()
