"""Nightscout alone, without Airflow: `python -m include.sources.nightscout --help`."""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from include import runtime
from include import settings as environment
from include.errors import LakehouseError
from include.interval import Interval
from include.sources import command
from include.sources.command import From, To, chosen, end_with, interval_of, stream_of, told
from include.sources.nightscout.client import SiteClient
from include.sources.nightscout.sites import Site, read_sites
from include.sources.nightscout.streams import ENTRIES, STREAMS, Record, Stream

app = typer.Typer(
    help="Nightscout sites: look at them, fetch from them, load them into the lake.",
    no_args_is_help=True,
    add_completion=False,
)
console = command.console()

StreamName = Annotated[str, typer.Argument(help=f"One of {', '.join(STREAMS)}.")]
SitesFile = Annotated[Path | None, typer.Option("--sites", help="Sites file; by default LAKE_NIGHTSCOUT_SITES.")]
SiteNames = Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be repeated.")]


@app.command()
def fetch(
    stream: StreamName,
    first: From = None,
    end: To = None,
    sites: SitesFile = None,
    site: SiteNames = None,
    as_json: Annotated[bool, typer.Option("--json", help="Records as JSON lines instead of counts.")] = False,
) -> None:
    """Fetch records of an interval and print or count them; needs no lake and changes nothing."""
    with told():
        spec, interval = stream_of(stream, STREAMS), interval_of(first, end)
        table = Table("site", "API", "day", "records", title=f"{spec.name} {interval}")
        for client in _clients(_sites(sites, site)):
            counts = dict.fromkeys(interval.days(), 0)
            with client:
                client.connect()
                for record in _records(client, spec, interval):
                    day = spec.day(record)
                    if day not in counts:
                        continue
                    counts[day] += 1
                    if as_json:
                        typer.echo(orjson.dumps({"site": client.site.site, **record}))
                for day, count in counts.items():
                    table.add_row(client.site.site, client.api, str(day), str(count))
        if not as_json:
            console.print(table)


@app.command()
def load(
    stream: Annotated[str, typer.Argument(help=f"One of {', '.join(STREAMS)}, or all.")] = "all",
    first: From = None,
    end: To = None,
    sites: SitesFile = None,
    site: SiteNames = None,
    lookback_days: Annotated[int | None, typer.Option(min=0, help="Days before the interval to read again.")] = None,
) -> None:
    """Load an interval into the lake's bronze tables, as the `ingest` tasks do."""
    with told():
        from include.sources.nightscout.pipeline import ingest

        specs = list(STREAMS.values()) if stream == "all" else [stream_of(stream, STREAMS)]
        interval, chosen = interval_of(first, end), _sites(sites, site)
        settings = environment.settings()
        lake = runtime.lake()
        table = Table("stream", "site", "API", "windows", "records", "load", title=f"bronze {interval}")
        for spec in specs:
            with console.status(spec.name) as status:
                result = ingest(
                    lake,
                    spec,
                    interval,
                    chosen,
                    environment.connection,
                    pipelines_dir=settings.home / "dlt",
                    lookback_days=settings.nightscout_lookback_days if lookback_days is None else lookback_days,
                    progress=_progress(spec, status.update),
                )
            for loaded in result.sites:
                cells = (loaded.site, loaded.api_version, loaded.windows, loaded.records, result.load_seq)
                table.add_row(spec.name, *map(str, cells))
            for failure in result.failed:
                table.add_row(spec.name, failure.site, "", "", "", f"missing (optional): {failure.reason}")
        console.print(table)


@app.command()
def check(sites: SitesFile = None, site: SiteNames = None) -> None:
    """Can every site be reached: API, version, rights, clock, newest reading. Exit status 1 if one cannot."""
    with told():
        table = Table("site", "API", "version", "may", "clock ahead", "newest reading")
        failures: list[str] = []
        for each in _sites(sites, site):
            try:
                for client in _clients([each]):
                    with client:
                        client.connect()
                        status, newest = client.status(), client.newest(ENTRIES)
                        ahead = "" if status.ahead_seconds is None else f"{round(status.ahead_seconds)} s"
                        table.add_row(each.site, status.api, status.version, status.may, ahead, _when(newest))
            except LakehouseError as error:
                table.add_row(each.site, "", "", "", "", "[red]cannot be read[/red]")
                failures.append(str(error))
        console.print(table)
        end_with(failures)


def _records(client: SiteClient, stream: Stream, interval: Interval) -> Iterator[Record]:
    if stream.whole:
        yield from client.every_record(stream)
        return
    start, end = (int(moment.timestamp() * 1000) for moment in (interval.start, interval.end))
    for page in client.records(stream, start, end):
        yield from page


def _clients(sites: Sequence[Site]) -> Iterator[SiteClient]:
    for site in sites:
        yield SiteClient(site, environment.connection(site.connection_id))


def _sites(path: Path | None, names: Sequence[str] | None) -> list[Site]:
    listed = read_sites(path or environment.settings().sites_file)
    return chosen({site.site: site for site in listed}, names, "sites")


def _progress(stream: Stream, show: Callable[[str], None]) -> Callable[[str, int], None]:
    counts: dict[str, int] = {}

    def progress(site: str, records: int) -> None:
        counts[site] = records
        show(f"{stream.name}: {sum(counts.values())} records from {len(counts)} sites")

    return progress


def _when(record: Record | None) -> str:
    moment: Any = None if record is None else ENTRIES.event_time(record)
    return "none" if moment is None else datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    environment.load_local_environment()
    app()
