"""A small sound lake, built once by the loader's rules, the gate and dbt; and lakes that hold bronze only."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from include.interval import Interval
from include.lake.attach import Lake
from tests.dbt import bronze

ONE_DAY = timedelta(days=1)
FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=i) for i in range(3)]
INTERVAL = Interval.of_days(DAYS[-1], DAYS[-1] + ONE_DAY)
SITES = ("ada", "bob")
STORE = (
    '{"Default": {"units": "mg/dl", "timezone": "UTC", "dia": 4, "basal": [{"time": "00:00", "value": "0.8"}, '
    '{"time": "08:00", "value": "0.6"}], "carbratio": [{"time": "00:00", "value": "10"}], '
    '"sens": [{"time": "00:00", "value": "45"}], "target_low": [{"time": "00:00", "value": "100"}], '
    '"target_high": [{"time": "00:00", "value": "120"}]}}'
)


def at(day: date, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)


def readings(site: str, day: date, values: list[float] | None = None) -> list[bronze.Record]:
    """A reading every five minutes of the day, or as many as there are values."""
    values = [90.0 + (i * 7 + day.day) % 110 for i in range(288)] if values is None else values
    return [
        bronze.entry(at(day, 5 * i), value, record_id=f"{site}-{day}-{i}", site=site) for i, value in enumerate(values)
    ]


def meals(site: str, day: date) -> list[bronze.Record]:
    return [
        bronze.treatment(at(day, 60 * hour), record_id=f"{site}-{day}-m{hour}", site=site, insulin=4.5, carbs=45.0)
        for hour in (8, 13, 19)
    ]


def statuses(site: str, day: date) -> list[bronze.Record]:
    return [
        {
            "record_id": f"{site}-{day}-s{hour}",
            "site": site,
            "created_at": at(day, 60 * hour).isoformat(),
            "date": round(at(day, 60 * hour).timestamp() * 1000),
            "device": "loop",
            "uploader_battery": 80.0,
            "pump": '{"reservoir": 120}',
        }
        for hour in (6, 18)
    ]


def profiles(site: str, day: date, store: str = STORE) -> list[bronze.Record]:
    return [
        {
            "record_id": f"{site}-{day}-p",
            "site": site,
            "interval_date": day,
            "start_date": at(day).isoformat(),
            "default_profile": "Default",
            "units": "mg/dl",
            "store": store,
        }
    ]


MAKE = {"entries": readings, "treatments": meals, "devicestatus": statuses, "profile": profiles}


def load_days(lake: Lake, days: list[date], sites: tuple[str, ...] = SITES) -> None:
    """Sound days of every stream, one load a stream."""
    for stream, make in MAKE.items():
        records = [record for day in days for site in sites for record in make(site, day)]
        fetched = at(max(days) + ONE_DAY, 60)
        bronze.load(lake, stream, days, records, sites=sites, fetched_at=fetched)


@pytest.fixture
def landed(lake: Lake) -> Lake:
    """A lake with three sound days in bronze, which no gate has seen."""
    bronze.create_bronze(lake)
    load_days(lake, DAYS)
    return lake


@dataclass(frozen=True)
class Built:
    """A lake with all layers, and the snapshot at which it is sound."""

    lake: Lake
    snapshot: int
    interval: Interval = INTERVAL


def built_lake_of(request: pytest.FixtureRequest, domain: str) -> Built:
    """The lake that a domain's checks are broken on."""
    try:
        return request.getfixturevalue(f"built_{domain}")
    except pytest.FixtureLookupError:
        return request.getfixturevalue("built_from_sample")(domain)
