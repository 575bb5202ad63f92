"""A folder of made-up files, for a domain that reads a drop: what its `sample.py` is made with."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from include.interval import Interval
from include.local.sample import Place, Sample
from include.local.sample_rows import PSEUDONYM_KEY, Statements, write_rows
from include.sources.files.streams import FILE_DATE, Format, Stream

# Long ago enough for nobody to be writing to them.
WRITTEN = 1_600_000_000


@contextmanager
def sample_drop(
    place: Place, domain: str, site: str, interval: Interval, statements: Statements, streams: Mapping[str, Stream]
) -> Iterator[Sample]:
    """A folder with a file of each stream for each day of the interval; it stays, as `place` does.

    Args:
        site: its id in the lake.
        statements: by stream, a query of DuckDB that gives its rows.
    """
    folder = place.folder / f"{domain}_drop"
    for stream in streams.values():
        for day in interval.days():
            drop_rows(folder, stream, statements, day)
    file = place.folder / f"{domain}_drops.yaml"
    file.write_text(f"drops:\n  - site: {site}\n    url: {folder}\n")
    yield Sample(
        interval,
        {
            f"LAKE_{domain.upper()}_DROPS": str(file),
            f"AIRFLOW_CONN_{domain.upper()}_PSEUDONYM": json.dumps({"conn_type": "generic", "password": PSEUDONYM_KEY}),
        },
    )


def drop_rows(folder: Path, stream: Stream, statements: Statements, day: date) -> Path:
    """The file of a stream's rows of a day, as the stream expects it."""
    path = folder / stream.files.replace("**/", "").replace("*", day.isoformat())
    where = "true" if stream.day == FILE_DATE else f"{stream.day}::date = date '{day}'"
    options = {
        Format.CSV: f"format csv, header, delimiter '{stream.csv.delimiter}', quote '{stream.csv.quote}'",
        Format.JSON_LINES: "format json",
        Format.PARQUET: "format parquet",
    }
    write_rows(statements, stream.name, where, path, options[stream.format])
    os.utime(path, (WRITTEN, WRITTEN))
    return path
