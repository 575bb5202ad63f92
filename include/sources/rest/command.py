"""The command of a domain whose source is APIs: look at them, load them into the lake."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from include import runtime
from include import settings as environment
from include.interval import Interval
from include.sources.command import From, To, app_of, chosen, interval_of, show_check, show_load, stream_of, told
from include.sources.listing import Listed
from include.sources.rest.apis import read_apis
from include.sources.rest.streams import Stream
from include.sources.results import IngestResult


def command(domain: str, streams: Mapping[str, Stream], *, apis_file: Callable[[], Path]) -> typer.Typer:
    """The domain's command; settings are read when it runs."""
    app = app_of(domain, "APIs")
    variable = f"LAKE_{domain.upper()}_APIS"
    apis_option = Annotated[Path | None, typer.Option("--apis", help=f"APIs file; by default {variable}.")]
    names_option = Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be repeated.")]
    listed = ", ".join(streams)

    def listed_apis(path: Path | None, names: Sequence[str] | None) -> list[Listed]:
        return chosen({each.site: each for each in read_apis(path or apis_file(), domain)}, names, "apis")

    @app.command()
    def load(
        stream: Annotated[str, typer.Argument(help=f"One of {listed}, or all.")] = "all",
        first: From = None,
        end: To = None,
        apis: apis_option = None,
        site: names_option = None,
        accept_deletes: Annotated[
            bool, typer.Option("--accept-deletes", help="Take in that most records of these days are gone.")
        ] = False,
    ) -> None:
        """Load what was changed in an interval into the lake's bronze tables, as the `ingest` tasks do."""
        with told():
            from include.sources.rest.pipeline import ingest

            specs = list(streams.values()) if stream == "all" else [stream_of(stream, streams)]
            interval, sources = interval_of(first, end), listed_apis(apis, site)
            settings, lake = environment.settings(), runtime.lake()

            def ingest_one(spec: Stream, progress: Callable[[str, int], None]) -> IngestResult:
                return ingest(
                    lake,
                    spec,
                    interval,
                    sources,
                    environment.connection,
                    pipelines_dir=settings.home / "dlt",
                    accept_deletes=accept_deletes,
                    progress=progress,
                )

            show_load(specs, interval, ingest_one, "site")

    @app.command()
    def check(apis: apis_option = None, site: names_option = None) -> None:
        """Can every API be read: the first page of each stream, of yesterday. Exit status 1 if one cannot."""
        with told():

            def look(api: Listed) -> Iterator[tuple[str, ...]]:
                yield from first_pages(api, streams)

            show_check(("site", "stream", "records of the first page", "fields"), listed_apis(apis, site), look)

    return app


def first_pages(api: Listed, streams: Mapping[str, Stream]) -> Iterator[tuple[str, ...]]:
    """Of each stream its name, the records of its first page of yesterday, and how many fields they have."""
    from include.sources.rest.client import ApiClient

    yesterday = Interval.last_complete_day(datetime.now(UTC))
    with ApiClient(api, environment.connection(api.connection_id)) as client:
        for stream in streams.values():
            page = next(client.pages(stream, yesterday.start, yesterday.end), [])
            yield stream.name, str(len(page)), str(len({field for record in page for field in record}))
