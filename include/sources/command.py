"""What the commands of all sources have in common (`python -m include.sources.<name>`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Annotated, TypeVar

import typer

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
