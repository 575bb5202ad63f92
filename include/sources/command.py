"""What the commands of all sources have in common (`python -m include.sources.<name>`)."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from include.errors import LakehouseError
from include.interval import ONE_DAY, Interval

From = Annotated[str | None, typer.Option("--from", help="First UTC day, as 2026-11-01; by default yesterday.")]
To = Annotated[str | None, typer.Option("--to", help="UTC day after the last; by default the day after --from.")]
Value = TypeVar("Value")


def interval_of(first: str | None, end: str | None) -> Interval:
    """The days that --from and --to choose."""
    if first is None and end is None:
        return Interval.last_complete_day(datetime.now(UTC))
    if first is None:
        raise typer.BadParameter("--to needs --from.")
    try:
        start = date.fromisoformat(first)
        return Interval.of_days(start, date.fromisoformat(end) if end else start + ONE_DAY)
    except ValueError:
        raise typer.BadParameter(f"{first} or {end} is not a date such as 2026-11-01.") from None


def stream_of(name: str, streams: Mapping[str, Value]) -> Value:
    """The stream of a name."""
    if name not in streams:
        raise typer.BadParameter(f"{name} is no stream; known are {', '.join(streams)}.")
    return streams[name]


def chosen(listed: Mapping[str, Value], names: Sequence[str] | None, file: str) -> list[Value]:
    """Those of the entries of a file that options name; by default all."""
    unknown = sorted(set(names or ()) - set(listed))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is not in the {file} file; known are {', '.join(listed)}.")
    return [entry for name, entry in listed.items() if not names or name in names]


@contextmanager
def told() -> Iterator[None]:
    """An error of ours is its sentence and exit status 1."""
    try:
        yield
    except LakehouseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def end_with(failures: Sequence[str]) -> None:
    """What could not be read, after all that could; exit status 1 if there is any."""
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


def console() -> Console:
    """What a command prints its tables on; whole when it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)


def app_of(domain: str, what: str) -> typer.Typer:
    """The command of a domain, for `load` and `check` to be added."""
    return typer.Typer(
        help=f"{what} of {domain}: look at them, load them into the lake.",
        no_args_is_help=True,
        add_completion=False,
    )


def show_load(
    streams: Iterable[Any], interval: Interval, ingest: Callable[[Any, Callable[[str, int], None]], Any], site: str
) -> None:
    """Load streams whose records land by key, one after the other, and print what came.

    Args:
        ingest: one stream, with whom to tell of progress.
        site: what a site is called.
    """
    columns = ("stream", site, "windows", "records", "unchanged", "deleted", "found", "load")
    table, out = Table(*columns, title=f"bronze {interval}"), console()
    for stream in streams:
        with out.status(stream.name) as status:

            def progress(name: str, rows: int, stream: Any = stream, status: Any = status) -> None:
                status.update(f"{stream.name}: {rows:,} rows of {name}")

            result = ingest(stream, progress)
        for one in result.sites:
            counts = (one.windows, one.records, one.unchanged, one.deleted, one.found, result.load_seq)
            table.add_row(stream.name, one.site, *map(str, counts))
        for failure in result.failed:
            table.add_row(stream.name, failure.site, "", f"missing (optional): {failure.reason}")
    out.print(table)


def show_check(columns: Sequence[str], sites: Iterable[Any], look: Callable[[Any], Iterable[tuple[str, ...]]]) -> None:
    """Look at each site and print what is there; exit status 1 if one cannot be read.

    Args:
        columns: the first is what a site is called.
        look: the cells of one site, a row each.
    """
    table, failures = Table(*columns), []
    for each in sites:
        try:
            for cells in look(each):
                table.add_row(each.site, *cells)
        except LakehouseError as error:
            table.add_row(each.site, "[red]cannot be read[/red]")
            failures.append(str(error))
    console().print(table)
    end_with(failures)
