"""Rows to measure with, made by arithmetic: the same at each call, in no time, in the shape that ingest gives them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from include import dbt_project
from include.interval import Interval
from include.lake.attach import Lake
from include.layers import Layer
from include.sources.bronze import PARTITION
from tests.bench.places import Places
from tests.dbt.bronze import STREAMS, columns, create_bronze
from tests.dbt.conftest import copy_of
from tests.pipeline.flow import Flow

END = date(2026, 11, 1)
READINGS_A_DAY = 288
DOMAIN = "nightscout"
MADE = """
    site interval_date record_id load_seq interval_start interval_end fetched_at api_version site_time_zone site_units
    window_records _dlt_load_id type date date_string sgv direction device identifier srv_created srv_modified is_valid
    app
"""


def site_names(count: int) -> list[str]:
    return [f"site-{number:02d}" for number in range(count)]


def history(lake: Lake, sites: int, first: date, end: date, *, load_seq: int = 1) -> int:
    """Bronze as one load of the days leaves it: a reading each five minutes, window rows; other streams are empty.

    Returns:
        How many readings there are.
    """
    create_bronze(lake)
    names = columns("entries")
    listed = ", ".join(f"('{name}')" for name in site_names(sites))
    with lake.open() as connection:
        if load_seq == 1:
            for stream in STREAMS:
                connection.execute(f"alter table bronze.nightscout_{stream} set partitioned by ({PARTITION})")
        # A year at a time, as a run of a year would.
        for start in _years(first, end):
            until = min(end, start + timedelta(days=366))
            rows = _readings_sql(listed, start, until, load_seq)
            spelled = ", ".join(f'"{name}"' for name in names)
            connection.execute(
                f"insert into bronze.nightscout_entries ({spelled}) select {_typed(names)} from ({rows})"
            )
        for stream in set(STREAMS) - {"entries"}:
            made = (
                "site interval_date window_records load_seq interval_start interval_end fetched_at api_version "
                "site_time_zone site_units _dlt_load_id"
            ).replace(" ", ", ")
            windows = _landed_sql(_windows_sql(listed, first, end, "0"), first, end, load_seq)
            connection.execute(f"insert into bronze.nightscout_{stream} ({made}) select {made} from ({windows})")
        (count,) = connection.execute(
            "select count(*) from bronze.nightscout_entries where record_id is not null and load_seq = ?", [load_seq]
        ).fetchall()[0]
    return count


def replace_day(lake: Lake, day: date) -> None:
    """A day of the first site once more, as a later load brings it: other values, and the next load_seq."""
    names = columns("entries")
    (site,) = site_names(1)
    listed = f"('{site}')"
    spelled = ", ".join(f'"{name}"' for name in names)
    with lake.open() as connection:
        ((load_seq,),) = connection.execute("select 1 + max(load_seq) from bronze.nightscout_entries").fetchall()
        connection.execute("begin")
        where = f"site = '{site}' and interval_date = date '{day}'"
        connection.execute(f"delete from bronze.nightscout_entries where {where}")
        rows = _readings_sql(listed, day, day + timedelta(days=1), load_seq)
        connection.execute(f"insert into bronze.nightscout_entries ({spelled}) select {_typed(names)} from ({rows})")
        connection.execute("commit")


@dataclass(frozen=True)
class Built:
    """A lake with a history, and the flow that its steps run in.

    Attributes:
        readings: how many bronze holds.
        last: the last day of the history.
        extra: what a row adds.
    """

    places: Places
    flow: Flow
    sites: int
    readings: int
    first: date
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> Interval:
        return Interval.of_days(self.first, END)

    @property
    def last(self) -> date:
        return END - timedelta(days=1)

    def with_extra(self, **extra: Any) -> "Built":
        return replace(self, extra={**self.extra, **extra})


@contextmanager
def bronze(places: Places, sites: int, days: int) -> Iterator[Built]:
    """A lake whose bronze holds a history that ends with END, and marts of its own."""
    first = END - timedelta(days=days)
    with places.lake() as lake, places.marts() as marts:
        home = places.scratch()
        readings = history(lake, sites, first, END)
        yield Built(places, _flow(lake, marts, home), sites, readings, first)


@contextmanager
def built(places: Places, sites: int, days: int) -> Iterator[Built]:
    """A copy of such a lake with every layer built by dbt, which is done once for all rows."""
    finished = places.kept((sites, days), lambda: _built(places, sites, days))
    data = places.scratch() / "lake"
    with copy_of(finished.flow.lake, places.server, data) as lake, places.marts() as marts:
        yield replace(finished, flow=_flow(lake, marts, places.scratch()))
    shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _built(places: Places, sites: int, days: int) -> Iterator[Built]:
    from tests.bench.runner import in_child

    with bronze(places, sites, days) as made:
        in_child(build, made.flow)
        yield made


def build(flow: Flow) -> None:
    """What dbt makes of bronze, from the start."""
    flow.dbt(*Layer, full_refresh=True, tests=False)


def snapshot_of(lake: Lake) -> int:
    with lake.open(read_only=True) as connection:
        ((snapshot,),) = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()
    return snapshot


def rows_of(lake: Lake, *tables: str) -> int:
    with lake.open(read_only=True) as connection:
        return sum(connection.execute(f"select count(*) from {table}").fetchall()[0][0] for table in tables)


def models_of(layer: Layer) -> list[str]:
    return [model.name for model in dbt_project.models(layer, DOMAIN)]


def _flow(lake: Lake, marts: Any, home: Path) -> Flow:
    return Flow(lake, marts, home, None)  # type: ignore[arg-type]  its sites are not asked


def _years(first: date, end: date) -> Iterator[date]:
    day = first
    while day < end:
        yield day
        day += timedelta(days=366)


def _readings_sql(sites: str, first: date, end: date, load_seq: int) -> str:
    slots = (end - first).days * READINGS_A_DAY
    made = f"""
        with slots as (
            select site, slot, timestamptz '{first} 00:00:00+00' + to_minutes(5 * slot::bigint) as moment,
                hash(site, slot) as chance
            from (values {sites}) as sites (site), range({slots}) as slots (slot)
        ),
        readings as (
            select site, moment::date as interval_date, 'e' || epoch_ms(moment)::varchar as record_id,
                epoch_ms(moment) as date,
                strftime(moment, '%Y-%m-%dT%H:%M:%S.000Z') as date_string,
                (40 + (chance % 60 + {load_seq}) % 60 + 80 * (1 + sin(slot / 37.0)) + 20 * (1 + sin(slot / 5.0)))
                    ::integer::double as sgv,
                ['Flat', 'FortyFiveUp', 'FortyFiveDown', 'SingleUp', 'SingleDown'][1 + (chance % 5)::bigint]
                    as direction
            from slots
        )
    """
    rows = f"""
        {made}
        select *, 'sgv' as type, 'sensor' as device, record_id as identifier, date + 4000 as srv_created,
            date + 4000 as srv_modified, true as is_valid, 'bench' as app, null::bigint as window_records
        from readings
        union all by name
        {_windows_sql(sites, first, end, str(READINGS_A_DAY))}
    """
    return f"{_landed_sql(rows, first, end, load_seq)} order by interval_date, site, record_id"


def _windows_sql(sites: str, first: date, end: date, records: str) -> str:
    return f"""
        select site, day::date as interval_date, {records}::bigint as window_records
        from (values {sites}) as sites (site), range(date '{first}', date '{end}', interval 1 day) as days (day)
    """


def _landed_sql(rows: str, first: date, end: date, load_seq: int) -> str:
    return f"""
        select *, {load_seq}::bigint as load_seq, timestamptz '{first} 00:00:00+00' as interval_start,
            timestamptz '{end} 00:00:00+00' as interval_end, timestamptz '{end} 00:10:00+00' as fetched_at,
            'v3' as api_version, 'UTC' as site_time_zone, 'mg/dl' as site_units, 'bench.{load_seq}' as _dlt_load_id
        from ({rows})
    """


def _typed(names: dict[str, str]) -> str:
    made = set(MADE.split())
    return ", ".join(
        (f'"{name}"' if name in made else f'cast(null as {kind}) as "{name}"') for name, kind in names.items()
    )
