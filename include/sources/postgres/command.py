"""The command of a domain whose source is operational databases: look at them, load them into the lake."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from include import runtime
from include import settings as environment
from include.sources.command import From, To, app_of, chosen, interval_of, show_check, show_load, stream_of, told
from include.sources.postgres.databases import Database, read_databases
from include.sources.postgres.streams import Stream
from include.sources.results import IngestResult


def command(
    domain: str,
    streams: Mapping[str, Stream],
    *,
    databases_file: Callable[[], Path],
    overlap_days: Callable[[], int],
) -> typer.Typer:
    """The domain's command; settings are read when it runs."""
    app = app_of(domain, "Databases")
    variable = f"LAKE_{domain.upper()}_DATABASES"
    databases_option = Annotated[
        Path | None, typer.Option("--databases", help=f"Databases file; by default {variable}.")
    ]
    names_option = Annotated[list[str] | None, typer.Option("--database", help="Only this database; may be repeated.")]
    listed = ", ".join(streams)

    def listed_databases(path: Path | None, names: Sequence[str] | None) -> list[Database]:
        known = {each.database: each for each in read_databases(path or databases_file(), domain)}
        return chosen(known, names, "databases")

    @app.command()
    def load(
        stream: Annotated[str, typer.Argument(help=f"One of {listed}, or all.")] = "all",
        first: From = None,
        end: To = None,
        databases: databases_option = None,
        database: names_option = None,
        overlap: Annotated[
            int | None, typer.Option("--overlap-days", min=0, help="Days before the interval that are asked again.")
        ] = None,
        whole: Annotated[bool, typer.Option("--whole", help="Ask for every row again, as the first time.")] = False,
        accept_deletes: Annotated[
            bool, typer.Option("--accept-deletes", help="Take in that most rows of a table are gone at the source.")
        ] = False,
    ) -> None:
        """Load what was changed in an interval into the lake's bronze tables, as the `ingest` tasks do."""
        with told():
            from include.sources.postgres.pipeline import ingest

            specs = list(streams.values()) if stream == "all" else [stream_of(stream, streams)]
            interval, sources = interval_of(first, end), listed_databases(databases, database)
            settings, lake = environment.settings(), runtime.lake()

            def ingest_one(spec: Stream, progress: Callable[[str, int], None]) -> IngestResult:
                return ingest(
                    lake,
                    spec,
                    interval,
                    sources,
                    environment.connection,
                    pipelines_dir=settings.home / "dlt",
                    overlap_days=overlap_days() if overlap is None else overlap,
                    whole=whole,
                    accept_deletes=accept_deletes,
                    progress=progress,
                )

            show_load(specs, interval, ingest_one, "database")

    @app.command()
    def check(databases: databases_option = None, database: names_option = None) -> None:
        """Can every database be read: its tables, their columns, an index on the time of changes. 1 if one cannot."""
        with told():
            from include.sources.postgres.check import look

            lake = runtime.lake()
            columns = ("database", "stream", "columns", "rows (estimate)", "newest change", "index on changes")
            show_check(
                columns,
                listed_databases(databases, database),
                lambda each: look(lake, each, environment.connection(each.connection_id), streams.values()),
            )

    return app
