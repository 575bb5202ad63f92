"""Bronze tables as ingest lands them, from rows given as dicts; for tests that need a lake without a source."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from include.lake import schemas
from include.lake.attach import Lake
from include.layers import Layer

LINEAGE = {
    "site": "varchar not null",
    "interval_date": "date not null",
    "record_id": "varchar",
    "load_seq": "bigint not null",
    "interval_start": "timestamptz",
    "interval_end": "timestamptz",
    "fetched_at": "timestamptz",
    "api_version": "varchar",
    "site_time_zone": "varchar",
    "site_units": "varchar",
    "window_records": "bigint",
    "_dlt_load_id": "varchar",
}
COMMON = {
    "identifier": "varchar",
    "app": "varchar",
    "device": "varchar",
    "subject": "varchar",
    "srv_created": "bigint",
    "srv_modified": "bigint",
    "is_valid": "boolean",
}
PAYLOAD = {
    "entries": {
        "type": "varchar",
        "date": "bigint",
        "date_string": "varchar",
        "sgv": "double",
        "mbg": "double",
        "direction": "varchar",
        "noise": "double",
        "filtered": "double",
        "unfiltered": "double",
        "rssi": "double",
        "delta": "double",
        "slope": "double",
        "intercept": "double",
        "scale": "double",
        "sys_time": "varchar",
        "utc_offset": "double",
    },
    "treatments": {
        "event_type": "varchar",
        "created_at": "varchar",
        "date": "bigint",
        "insulin": "double",
        "carbs": "double",
        "protein": "double",
        "fat": "double",
        "glucose": "double",
        "glucose_type": "varchar",
        "units": "varchar",
        "duration": "double",
        "percent": "double",
        "absolute": "double",
        "rate": "double",
        "profile": "varchar",
        "notes": "varchar",
        "reason": "varchar",
        "entered_by": "varchar",
        "utc_offset": "double",
    },
    "devicestatus": {
        "created_at": "varchar",
        "date": "bigint",
        "uploader_battery": "double",
        "uploader": "varchar",
        "pump": "varchar",
        "loop": "varchar",
        "openaps": "varchar",
    },
    "profile": {
        "start_date": "varchar",
        "created_at": "varchar",
        "mills": "varchar",
        "default_profile": "varchar",
        "units": "varchar",
        "store": "varchar",
    },
}
STREAMS = tuple(PAYLOAD)
QUARANTINE = {
    "site": "varchar",
    "interval_date": "date",
    "record_id": "varchar",
    "load_seq": "bigint",
    "rules": "varchar[]",
    "payload": "json",
    "dag_run_id": "varchar",
    "snapshot_id": "bigint",
    "quarantined_at": "timestamptz",
}

Record = dict[str, Any]


def columns(stream: str) -> dict[str, str]:
    """Every declared column of a bronze table and its DuckDB type, lineage first."""
    return LINEAGE | PAYLOAD[stream] | COMMON


def create_bronze(lake: Lake, streams: Iterable[str] = STREAMS) -> None:
    """Empty bronze tables, partitioned as ingest makes them. Repeatable."""
    with lake.open() as connection:
        schemas.ensure(connection, Layer)
        for stream in streams:
            table = f"bronze.nightscout_{stream}"
            spelled = ", ".join(f'"{name}" {kind}' for name, kind in columns(stream).items())
            connection.execute(f"create table if not exists {table} ({spelled})")
            connection.execute(f"alter table {table} set partitioned by (interval_date)")


def load(
    lake: Lake,
    stream: str,
    days: Sequence[date],
    records: Iterable[Record],
    *,
    sites: Sequence[str] = ("site-a",),
    zone: str | Mapping[str, str] = "UTC",
    units: str = "mg/dl",
    api_version: str = "v3",
    fetched_at: datetime | None = None,
) -> int:
    """One load: replaces the windows `sites` x `days` with their window rows and `records`, in one transaction.

    Args:
        zone: of every site, or by site.
        records: need `record_id`; `site` and `interval_date` default to the only site and to the UTC day of `date`.

    Returns:
        The load's load_seq.
    """
    fetched = fetched_at or datetime.now(UTC)
    rows = [_record(stream, record, sites) for record in records]
    outside = {(row["site"], row["interval_date"]) for row in rows} - {(site, day) for site in sites for day in days}
    if outside:
        raise ValueError(f"Records outside the loaded windows: {sorted(outside)[:3]}")
    counts: dict[tuple[str, date], int] = {}
    for row in rows:
        window = (row["site"], row["interval_date"])
        counts[window] = counts.get(window, 0) + 1
    rows += [
        {"site": site, "interval_date": day, "window_records": counts.get((site, day), 0)}
        for site in sites
        for day in days
    ]
    table = f"bronze.nightscout_{stream}"
    names = columns(stream)
    with lake.open() as connection:
        connection.execute("begin")
        load_seq = connection.execute(f"select 1 + coalesce(max(load_seq), 0) from {table}").fetchall()[0][0]
        lineage = {
            "load_seq": load_seq,
            "interval_start": _midnight(min(days)),
            "interval_end": _midnight(max(days) + timedelta(days=1)),
            "fetched_at": fetched,
            "api_version": api_version,
            "site_units": units,
            "_dlt_load_id": f"test.{load_seq}",
        }
        zones = {site: zone if isinstance(zone, str) else zone[site] for site in sites}
        landed = _arrow([lineage | {"site_time_zone": zones[row["site"]]} | row for row in rows], names)  # noqa: F841 (read by name)
        spelled = ", ".join(f'"{name}"' for name in names)
        casts = ", ".join(f'cast("{name}" as {kind.removesuffix(" not null")})' for name, kind in names.items())
        connection.execute(
            f"delete from {table} where site in ({_marks(sites)}) and interval_date in ({_marks(days)})",
            [*sites, *days],
        )
        connection.execute(f"insert into {table} ({spelled}) select {casts} from landed")
        connection.execute("commit")
    return load_seq


def set_aside(lake: Lake, stream: str, site: str, day: date, record_ids: Iterable[str], rule: str = "test") -> None:
    """What a gate does to a window: its quarantined rows are exactly these, as they are in bronze now."""
    with lake.open() as connection:
        connection.execute("create schema if not exists quarantine")
        spelled = ", ".join(f"{name} {kind}" for name, kind in QUARANTINE.items())
        connection.execute(f"create table if not exists quarantine.nightscout_{stream} ({spelled})")
        connection.execute("begin")
        connection.execute(
            f"delete from quarantine.nightscout_{stream} where site = ? and interval_date = ?", [site, day]
        )
        for record_id in record_ids:
            connection.execute(
                f"""
                insert into quarantine.nightscout_{stream}
                select site, interval_date, record_id, load_seq, [?], '{{}}', 'test', 0, now()
                from bronze.nightscout_{stream}
                where site = ? and interval_date = ? and record_id = ?
                """,
                [rule, site, day, record_id],
            )
        connection.execute("commit")


def entry(at: datetime, glucose: float | None, *, record_id: str | None = None, **fields: Any) -> Record:
    """A sensor reading."""
    ms = round(at.timestamp() * 1000)
    return {
        "record_id": record_id or f"e{ms}",
        "type": "sgv",
        "date": ms,
        "date_string": at.isoformat(),
        "sgv": glucose,
        "direction": "Flat",
        "device": "sensor",
    } | fields


def treatment(at: datetime, *, record_id: str | None = None, **fields: Any) -> Record:
    """A treatment."""
    ms = round(at.timestamp() * 1000)
    return {
        "record_id": record_id or f"t{ms}",
        "date": ms,
        "created_at": at.isoformat(),
        "event_type": "Meal Bolus",
    } | fields


def utc_day(epoch_ms: int) -> date:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).date()


def _record(stream: str, record: Record, sites: Sequence[str]) -> Record:
    row = dict(record)
    if "site" not in row:
        if len(sites) != 1:
            raise ValueError(f"A record of {stream} names no site, and there are {len(sites)}.")
        row["site"] = sites[0]
    if "interval_date" not in row:
        row["interval_date"] = utc_day(row["date"])
    return row


def _arrow(rows: list[Record], names: dict[str, str]) -> pa.Table:
    kinds = {
        "varchar": pa.string(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
    }
    unknown = {name for row in rows for name in row} - set(names)
    if unknown:
        raise ValueError(f"Bronze has no column {sorted(unknown)}")
    return pa.table(
        {
            name: pa.array([row.get(name) for row in rows], kinds[kind.removesuffix(" not null")])
            for name, kind in names.items()
        }
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
