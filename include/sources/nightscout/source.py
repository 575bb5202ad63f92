"""Nightscout as a dlt source: Arrow tables with every column of bronze, window rows included."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from include.interval import Interval
from include.sources import dlt_runtime
from include.sources.nightscout.fetch import SiteAnswer
from include.sources.nightscout.streams import Stream
from include.sources.nightscout.tables import LINEAGE_FIELDS, payload_fields


def nightscout(
    stream: Stream, answers: Sequence[SiteAnswer], interval: Interval, load_seq: int, bronze: Mapping[str, str]
) -> Any:
    """A dlt source with one resource, the stream's bronze table; a load replaces whole (site, UTC day) windows.

    Args:
        answers: one of each site that landed.
        bronze: columns that the bronze table has, with DuckDB's type names; every one of them is in the load.

    Raises:
        SchemaError: a field has another type than the stream declares or bronze has.
    """
    tables = list(arrow_tables(stream, answers, interval, load_seq, bronze))
    return dlt_runtime.source(stream.table, lambda: tables, dlt_runtime.BY_WINDOW)


def arrow_tables(
    stream: Stream, answers: Sequence[SiteAnswer], interval: Interval, load_seq: int, bronze: Mapping[str, str]
) -> Iterator[pa.Table]:
    """One table per site, by window: its records by id, then the window's row.

    Raises:
        SchemaError: see `nightscout`.
    """
    payload = payload_fields(chain.from_iterable(answer.pages for answer in answers), stream, bronze)
    schema = pa.schema([*LINEAGE_FIELDS, *payload])
    for answer in answers:
        yield _site_table(answer, schema, interval, load_seq)


def _site_table(answer: SiteAnswer, schema: pa.Schema, interval: Interval, load_seq: int) -> pa.Table:
    received = (
        pa.concat_tables([page.table for page in answer.pages], promote_options="default") if answer.pages else None
    )
    days = received["interval_date"] if received is not None else pa.chunked_array([], pa.date32())
    counts = {each["values"]: each["counts"] for each in days.value_counts().to_pylist()}
    rows = len(answer.windows) + len(days)
    windows = {
        "interval_date": pa.array(answer.windows, pa.date32()),
        "window_records": pa.array([counts.get(day, 0) for day in answer.windows], pa.int64()),
    }
    same = {
        "site": answer.site.site,
        "load_seq": load_seq,
        "interval_start": interval.start,
        "interval_end": interval.end,
        "fetched_at": answer.fetched_at,
        "api_version": answer.api_version,
        "site_time_zone": answer.site.time_zone,
        "site_units": answer.site.units,
    }
    columns = []
    for field in schema:
        if field.name in same:
            columns.append(pa.repeat(pa.scalar(same[field.name], field.type), rows))
            continue
        first = windows.get(field.name)
        parts = [pa.nulls(len(answer.windows), field.type) if first is None else first]
        if received is not None:
            known = field.name in received.column_names
            parts += received[field.name].chunks if known else [pa.nulls(len(days), field.type)]
        columns.append(pa.chunked_array(parts, field.type))
    return pa.table(columns, schema=schema).sort_by([("interval_date", "ascending"), ("record_id", "ascending")])
