"""The command of a domain whose source is dropped files: look at the drops, load them into the lake."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from include import runtime
from include import settings as environment
from include.sources.command import From, To, app_of, chosen, interval_of, show_check, show_load, stream_of, told
from include.sources.files.drops import read_drops
from include.sources.files.streams import Stream, is_unfinished
from include.sources.listing import Listed
from include.sources.results import IngestResult


def command(domain: str, streams: Mapping[str, Stream], *, drops_file: Callable[[], Path]) -> typer.Typer:
    """The domain's command; settings are read when it runs."""
    app = app_of(domain, "Drops")
    variable = f"LAKE_{domain.upper()}_DROPS"
    drops_option = Annotated[Path | None, typer.Option("--drops", help=f"Drops file; by default {variable}.")]
    names_option = Annotated[list[str] | None, typer.Option("--site", help="Only this drop; may be repeated.")]
    listed = ", ".join(streams)

    def listed_drops(path: Path | None, names: Sequence[str] | None) -> list[Listed]:
        return chosen({each.site: each for each in read_drops(path or drops_file(), domain)}, names, "drops")

    @app.command()
    def load(
        stream: Annotated[str, typer.Argument(help=f"One of {listed}, or all.")] = "all",
        first: From = None,
        end: To = None,
        drops: drops_option = None,
        site: names_option = None,
    ) -> None:
        """Load the files of an interval's days into the lake's bronze tables, as the `ingest` tasks do."""
        with told():
            from include.sources.files.pipeline import ingest

            specs = list(streams.values()) if stream == "all" else [stream_of(stream, streams)]
            interval, sources = interval_of(first, end), listed_drops(drops, site)
            settings, lake = environment.settings(), runtime.lake()

            def ingest_one(spec: Stream, progress: Callable[[str, int], None]) -> IngestResult:
                return ingest(
                    lake,
                    spec,
                    interval,
                    sources,
                    environment.connection,
                    pipelines_dir=settings.home / "dlt",
                    progress=progress,
                )

            show_load(specs, interval, ingest_one, "drop")

    @app.command()
    def check(drops: drops_option = None, site: names_option = None) -> None:
        """Can every drop be read: the files of each stream, and those still being written. 1 if one cannot."""
        with told():

            def look(drop: Listed) -> Iterator[tuple[str, ...]]:
                yield from found_files(drop, streams)

            show_check(("drop", "stream", "files", "newest day", "unfinished"), listed_drops(drops, site), look)

    return app


def found_files(drop: Listed, streams: Mapping[str, Stream]) -> Iterator[tuple[str, ...]]:
    """Of each stream its name, how many files it finds, their newest day, and how many are named as unfinished."""
    from include.sources.files.fetch import listed
    from include.sources.files.pipeline import open_drop

    files = open_drop(drop, environment.connection, environment.settings().home / "tmp")
    unfinished = sum(map(is_unfinished, files.entries()))
    for stream in streams.values():
        found = listed(files, drop, stream)
        newest = str(max(day for day, _ in found.values())) if found else "none"
        yield stream.name, str(len(found)), newest, str(unfinished)
