import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.connections import Connection, Storage
from include.errors import SourceError
from include.interval import Interval
from include.lake.attach import Lake
from include.local.nightscout import Fault, NightscoutSite, demo_sites
from include.sources.errors import LoadError, SchemaError, SitesError
from include.sources.nightscout import pipeline
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import (
    DEVICESTATUS,
    ENTRIES,
    PROFILE,
    STREAMS,
    TREATMENTS,
    Column,
    Kind,
    Stream,
    milliseconds,
)
from tests.include.sources.nightscout.conftest import DAY, ONE_DAY, QUICK, World, at, reading

Served = Callable[..., World]


def days(first: int, end: int) -> Interval:
    """Days of November 2026."""
    return Interval.of_days(date(2026, 11, first), date(2026, 11, end))


def site_with(*documents: dict[str, Any], name: str = "amber", stream: Stream = ENTRIES) -> NightscoutSite:
    site = NightscoutSite(name)
    for document in documents:
        site.add(stream.v3_collection, document, visible_at=at("2026-11-03T23:00:00"))
    return site


# What lands


def test_window_rows_prove_that_an_empty_day_was_asked_for(served: Served) -> None:
    world = served(NightscoutSite("amber", time_zone="Europe/Berlin", units="mmol/l"))
    result = world.ingest(lookback_days=1)
    assert world.rows(
        "select site, interval_date, record_id, load_seq, window_records, api_version, site_time_zone, site_units, sgv "
        "from bronze.nightscout_entries order by 2"
    ) == [
        ("amber", date(2026, 11, 2), None, 1, 0, "v3", "Europe/Berlin", "mmol/l", None),
        ("amber", DAY, None, 1, 0, "v3", "Europe/Berlin", "mmol/l", None),
    ]
    assert (result.load_seq, result.records, result.sites[0].windows) == (1, 0, 2)


def test_first_load_makes_every_declared_column_with_its_type(served: Served) -> None:
    world = served(NightscoutSite("amber"))
    lineage = {
        "site": "VARCHAR",
        "interval_date": "DATE",
        "record_id": "VARCHAR",
        "load_seq": "BIGINT",
        "interval_start": "TIMESTAMP WITH TIME ZONE",
        "interval_end": "TIMESTAMP WITH TIME ZONE",
        "fetched_at": "TIMESTAMP WITH TIME ZONE",
        "api_version": "VARCHAR",
        "site_time_zone": "VARCHAR",
        "site_units": "VARCHAR",
        "window_records": "BIGINT",
        "_dlt_load_id": "VARCHAR",
    }
    payload = {"double": "DOUBLE", "bigint": "BIGINT", "boolean": "BOOLEAN"}
    for stream in STREAMS.values():
        world.ingest(stream)
        types = dict(world.rows(f"select column_name, column_type from (describe bronze.{stream.table})"))
        assert types == lineage | {column.name: payload.get(column.kind.value, "VARCHAR") for column in stream.columns}
    catalog = "__ducklake_metadata_dl.ducklake"
    assert world.rows(
        "select transform, count(*), count(*) filter (s.schema_name = 'bronze') "
        f"from {catalog}.ducklake_partition_column join {catalog}.ducklake_table t using (table_id) "
        f"join {catalog}.ducklake_schema s on s.schema_id = t.schema_id group by all order by all"
    ) == [("month", 4, 4), ("year", 4, 4)]


@pytest.mark.parametrize("v3", [True, False])
def test_values_land_as_they_are(served: Served, v3: bool) -> None:
    values = [0, 5000, None, 39.5, -3]
    site = NightscoutSite("amber", v3=v3)
    for hour, value in enumerate(values):
        site.add("entries", reading(f"2026-11-03T{hour:02}:00:00", value))
    site.add("entries", reading("2026-11-03T12:00:00", note="zero \x00 byte", nested={"a": [1, None]}, flag=True))
    world = served(site)
    world.ingest()
    rows = world.rows("select sgv from bronze.nightscout_entries where record_id is not null order by date")
    assert [row[0] for row in rows] == [0.0, 5000.0, None, 39.5, -3.0, 100.0]
    assert world.rows("select note, nested, flag from bronze.nightscout_entries where flag") == [
        ("zero \N{REPLACEMENT CHARACTER} byte", '{"a":[1,null]}', True)
    ]


def test_record_id_is_the_same_in_both_apis(served: Served) -> None:
    site = site_with(reading("2026-11-03T01:00:00"), reading("2026-11-03T02:00:00"))
    world = served(site)
    world.ingest()
    through_v3 = world.rows("select record_id, sgv from bronze.nightscout_entries order by all")
    given = world.connections["nightscout_amber"]
    world.connections["nightscout_amber"] = replace(given, extra={**given.extra, "api": "v1"})
    world.ingest()
    assert world.rows("select record_id, sgv from bronze.nightscout_entries order by all") == through_v3
    assert world.rows("select distinct api_version from bronze.nightscout_entries") == [("v1",)]


def test_clock_change_day_holds_its_25_hours_of_utc(served: Served) -> None:
    # In Berlin, 2026-10-25 has 25 hours: 22:00 UTC the day before to 23:00 UTC.
    site = NightscoutSite("amber", time_zone="Europe/Berlin", v3=False)
    local = [f"2026-10-25T{time}" for time in ("00:00:00+02:00", "02:30:00+02:00", "02:30:00+01:00", "23:59:59+01:00")]
    for created_at in local:
        site.add("treatments", {"created_at": created_at, "eventType": "Note"})
    world = served(site)
    world.ingest(TREATMENTS, Interval.of_days(date(2026, 10, 24), date(2026, 10, 26)))
    found = dict(
        world.rows("select created_at, interval_date from bronze.nightscout_treatments where record_id is not null")
    )
    assert found == dict(zip(local, [date(2026, 10, 24), *[date(2026, 10, 25)] * 3], strict=True))


def test_nested_and_unknown_fields_land_and_stay(served: Served) -> None:
    status = {"created_at": "2026-11-03T01:00:00Z", "pump": {"reservoir": 1.5}, "extra": 7}
    site = site_with(status, stream=DEVICESTATUS)
    world = served(site)
    world.ingest(DEVICESTATUS)
    assert world.rows("select pump, extra from bronze.nightscout_devicestatus where extra is not null") == [
        ('{"reservoir":1.5}', 7.0)
    ]
    # A later load without the field, and one with another new field.
    world.ingest(DEVICESTATUS, days(5, 6))
    site.add("devicestatus", {"created_at": "2026-11-06T01:00:00Z", "other": "x"}, visible_at=at("2026-11-06T02:00:00"))
    world.ingest(DEVICESTATUS, days(6, 7))
    assert world.rows(
        "select extra, other from bronze.nightscout_devicestatus where record_id is not null order by interval_date"
    ) == [(7.0, None), (None, "x")]


def test_field_with_the_name_of_a_lineage_column_lands_beside_it(served: Served) -> None:
    world = served(site_with(reading("2026-11-03T01:00:00", site="sensor-arm", load_seq=5)))
    world.ingest()
    assert world.rows("select site, site_2, load_seq, load_seq_2 from bronze.nightscout_entries where sgv = 100") == [
        ("amber", "sensor-arm", 1, 5.0)
    ]


@pytest.mark.parametrize("v3", [True, False])
def test_1970_and_future_records_get_into_no_other_day(served: Served, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    for moment in (0, 12_345, at("2026-11-03T12:00:00"), at("2100-01-01T00:00:00"), 9_999_999_999_999):
        site.add("entries", {"type": "sgv", "date": moment, "sgv": 100}, visible_at=at("2026-11-01T00:00:00"))
    world = served(site)
    world.ingest()
    assert world.rows("select date from bronze.nightscout_entries where record_id is not null") == [
        (at("2026-11-03T12:00:00"),)
    ]


def test_1970_and_future_records_land_in_their_own_day_when_history_tells_of_them(served: Served) -> None:
    site = site_with(*({"type": "sgv", "date": moment, "sgv": 100} for moment in (12_345, at("2100-01-01T00:00:00"))))
    world = served(site)
    result = world.ingest()
    assert result.sites[0].touched == ("1970-01-01", "2100-01-01")
    assert world.rows("select interval_date from bronze.nightscout_entries where record_id is not null order by 1") == [
        (date(1970, 1, 1),),
        (date(2100, 1, 1),),
    ]


def test_records_outside_of_what_was_asked_are_left_out_and_counted(served: Served) -> None:
    site = NightscoutSite("amber", v3=False)
    for day in range(1, 9):
        site.add("entries", reading(f"2026-11-0{day}T12:00:00"))
    site.fail(Fault("ignore_bounds", count=None, path="entries"))
    world = served(site)
    result = world.ingest()
    assert world.rows("select interval_date from bronze.nightscout_entries where record_id is not null") == [(DAY,)]
    assert (result.records, result.sites[0].outside) == (1, 5)


UNDATED = ({}, {"startDate": "yesterday"}, {"startDate": "1969-12-31T23:59:59Z"}, {"startDate": "2200-01-01T00:00:00Z"})


@pytest.mark.parametrize("v3", [True, False])
def test_record_without_a_day_is_quarantined_whole_until_its_source_states_one(served: Served, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    keys = [site.add("profile", {"defaultProfile": "D", "store": {"D": {}}, **stated}) for stated in UNDATED]
    site.add("profile", {"startDate": "2026-11-03T00:00:00Z", "defaultProfile": "D", "store": {"D": {}}})
    world = served(site)
    started = "select payload->>'startDate' from quarantine.nightscout_profile order by all nulls last"
    for load_seq in (1, 2):  # again changes nothing
        result = world.ingest(PROFILE)
        assert (result.records, result.sites[0].undated, result.sites[0].outside) == (1, 4, 0)
        assert [row[0] for row in world.rows(started)] == [*sorted(each["startDate"] for each in UNDATED[1:]), None]
        assert world.rows(
            "select distinct site, interval_date, load_seq, rules, payload->>'defaultProfile', dag_run_id "
            "from quarantine.nightscout_profile"
        ) == [("amber", None, load_seq, ["states_a_day"], "D", None)]
    site.edit("profile", keys[1], {"startDate": "2026-11-02T00:00:00Z"})
    result = world.ingest(PROFILE)
    assert (result.records, result.sites[0].undated) == (2, 3)
    assert len(world.rows(started)) == 3


@pytest.mark.parametrize("stream", STREAMS.values(), ids=lambda stream: stream.name)
def test_every_record_of_every_page_is_in_bronze_or_quarantine_or_the_load_is_red(
    served: Served, stream: Stream
) -> None:
    site = NightscoutSite("amber", v3=False)
    field = stream.time_field
    values = {"type": "sgv", "sgv": 100, "eventType": "Note", "defaultProfile": "D", "store": {"D": {}}, "device": "x"}
    times: list[Any] = ["2026-11-03T01:00:00Z", "2026-11-03T23:59:59Z", None, "never", "1950-01-01T00:00:00Z"]
    if field == "date":
        times = [at("2026-11-03T01:00:00"), at("2026-11-03T23:59:59"), None, -5, 10**15]
    for number, moment in enumerate(times):
        for odd in ({}, {"newField": number}, {"nested": {"a": [number]}}, {"utcOffset": None}):
            site.add(stream.v3_collection, {**values, field: moment, **odd})
    site.fail(Fault("ignore_bounds", count=None, path=stream.v1_path))
    world = served(site)
    world.ingest(stream)
    answered = {document["_id"] for document in site.documents(stream.v3_collection)}
    bronze = {row[0] for row in world.rows(f"select record_id from bronze.{stream.table} where record_id is not null")}
    aside = {row[0] for row in world.rows(f"select record_id from quarantine.{stream.table}")}
    assert bronze | aside == answered
    assert (len(bronze), len(aside)) == (8, 12)
    site.add(stream.v3_collection, {**values, field: times[0], "newField": "text"})
    with pytest.raises(SchemaError, match="newField"):
        world.ingest(stream)
    assert {row[0] for row in world.rows(f"select max(load_seq) from bronze.{stream.table}")} == {1}


@pytest.mark.parametrize("v3", [True, False])
def test_page_that_comes_twice_adds_no_rows(served: Served, v3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    site = NightscoutSite("amber", v3=v3)
    for hour in range(20):
        site.add("entries", reading(f"2026-11-03T{hour:02}:00:00"))
    world = served(site)
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 8)
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 8)
    world.ingest()
    expected = world.content()
    script = [Fault("slow", delay=0, path="entries?"), Fault("duplicate_page", path="entries?")]
    site.fail(*(script if v3 else [replace(fault, path="entries.json") for fault in script]))
    world.ingest()
    assert world.content() == expected
    assert len(expected) == 21


# Again, and in any order


@pytest.mark.parametrize("stream", STREAMS.values())
def test_days_out_of_order_split_or_repeated_give_the_same_table(
    lake: Lake, served: Served, stream: Stream, tmp_path: Path
) -> None:
    # One site with API v3, one without.
    world = served(*demo_sites(date(2026, 10, 31), date(2026, 11, 7))[:2])
    elsewhere = replace(lake, metadata_schema="other", storage=Storage(str(tmp_path / "other-lake")))
    other = replace(world, lake=elsewhere)
    world.ingest(stream, days(2, 6), lookback_days=2)
    for interval in (days(5, 6), days(2, 3), days(3, 5), days(2, 3)):
        other.ingest(stream, interval, lookback_days=2)
    assert other.content(stream) == world.content(stream)
    other.close()
    assert len(world.content(stream)) > 8


def test_emptied_day_keeps_only_its_window_row(served: Served) -> None:
    site = NightscoutSite("amber", v3=False)
    keys = [site.add("entries", reading(f"2026-11-03T{hour:02}:00:00")) for hour in range(3)]
    world = served(site)
    world.ingest()
    assert len(world.content()) == 4
    for key in keys:
        site.delete("entries", key)
    world.ingest()
    assert world.rows("select record_id, window_records, load_seq from bronze.nightscout_entries") == [(None, 0, 2)]


@pytest.mark.parametrize("v3", [True, False])
def test_late_upload_within_the_look_back_is_seen(served: Served, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    world = served(site)
    world.ingest(interval=days(3, 4), lookback_days=2)
    site.add("entries", reading("2026-11-03T12:00:00"), visible_at=at("2026-11-05T01:00:00"))
    world.ingest(interval=days(5, 6), lookback_days=2)
    assert world.rows("select interval_date, sgv from bronze.nightscout_entries where record_id is not null") == [
        (DAY, 100.0)
    ]


def test_edit_deletion_and_upload_older_than_the_look_back_are_seen_by_v3(served: Served) -> None:
    site = NightscoutSite("amber")
    old = {"visible_at": at("2026-11-01T23:00:00")}
    edited = site.add("treatments", {"created_at": "2026-11-01T12:00:00Z", "insulin": 1.5}, **old)
    deleted = site.add("treatments", {"created_at": "2026-11-01T13:00:00Z", "insulin": 2.5}, **old)
    world = served(site)
    world.ingest(TREATMENTS, days(1, 2))
    now = {"visible_at": at("2026-11-20T12:00:00")}
    site.edit("treatments", edited, {"insulin": 9.5}, **now)
    site.delete("treatments", deleted, **now)
    site.add("treatments", {"created_at": "2026-11-10T12:00:00Z", "insulin": 3.5}, **now)
    result = world.ingest(TREATMENTS, days(20, 21), lookback_days=1)
    assert result.sites[0].touched == ("2026-11-01", "2026-11-10")
    assert world.rows(
        "select interval_date, insulin from bronze.nightscout_treatments where record_id is not null order by 1"
    ) == [(date(2026, 11, 1), 9.5), (date(2026, 11, 10), 3.5)]


@pytest.mark.parametrize("ahead", [timedelta(days=7), timedelta(days=-7)], ids=["ahead", "behind"])
def test_edit_at_a_site_whose_clock_is_wrong_is_seen(
    served: Served, ahead: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    site = NightscoutSite("amber", clock=lambda: milliseconds(datetime.now(UTC) + ahead))
    edited = site.add(
        "treatments", {"created_at": "2026-11-01T12:00:00Z", "insulin": 1.5}, visible_at=at("2026-11-01T23:00:00")
    )
    world = served(site)
    world.ingest(TREATMENTS, days(1, 2))
    site.edit("treatments", edited, {"insulin": 9.5})
    result = world.ingest(TREATMENTS, Interval.of_days(now.date(), now.date() + timedelta(days=1)))
    assert result.sites[0].touched == ("2026-11-01",)
    assert world.rows("select insulin from bronze.nightscout_treatments where record_id is not null") == [(9.5,)]
    assert re.search(r"amber: its clock is 7 days, 0:00:00 (ahead|behind) of ours", caplog.text)


def test_treatment_that_an_edit_moved_is_not_left_on_its_old_day(served: Served) -> None:
    site = NightscoutSite("amber")
    key = site.add("treatments", {"created_at": "2026-11-01T12:00:00Z", "insulin": 1.5})
    site.edit("treatments", key, {}, visible_at=at("2100-01-01T00:00:00"))
    world = served(site)
    world.ingest(TREATMENTS, days(1, 2))
    site.edit("treatments", key, {"created_at": "2026-11-05T12:00:00Z"}, visible_at=at("2100-11-20T12:00:00"))
    world.ingest(TREATMENTS, Interval.of_days(date(2100, 11, 20), date(2100, 11, 21)))
    assert world.rows("select interval_date from bronze.nightscout_treatments where record_id is not null") == [
        (date(2026, 11, 5),)
    ]


@pytest.mark.parametrize("v3", [True, False])
def test_profiles_before_the_interval_land_and_removed_ones_go(served: Served, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    keys = [
        site.add(
            "profile", {"startDate": f"{day}T00:00:00.000Z", "defaultProfile": "Day", "store": {"Day": {}}, "mills": 0}
        )
        for day in ("2020-05-01", "2026-11-03", "2026-11-04")
    ]
    world = served(site)
    world.ingest(PROFILE)
    query = "select start_date, mills, store from bronze.nightscout_profile where record_id is not null order by 1"
    assert world.rows(query) == [
        ("2020-05-01T00:00:00.000Z", "0", '{"Day":{}}'),
        ("2026-11-03T00:00:00.000Z", "0", '{"Day":{}}'),
    ]
    site.delete("profile", keys[0])
    world.ingest(PROFILE)
    assert [row[0] for row in world.rows(query)] == ["2026-11-03T00:00:00.000Z"]


def test_profile_of_a_later_interval_survives_an_earlier_one_that_history_led_to_it(served: Served) -> None:
    site = site_with({"startDate": "2026-11-06T00:00:00.000Z", "store": {"Day": {}}}, stream=PROFILE)
    world = served(site)
    world.ingest(PROFILE, days(6, 7))
    assert world.ingest(PROFILE).sites[0].touched == ()
    assert world.rows("select count(record_id) from bronze.nightscout_profile") == [(1,)]


@pytest.mark.parametrize("v3", [True, False])
def test_profiles_are_written_again_only_where_they_differ(served: Served, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    old, new = (
        site.add("profile", {"startDate": f"{day}T00:00:00.000Z", "store": {"Day": {}}})
        for day in ("2020-05-01", "2026-11-03")
    )
    world = served(site)
    world.ingest(PROFILE)

    def loads() -> list[tuple[Any, ...]]:
        rows = "select interval_date, load_seq, store from bronze.nightscout_profile where record_id is not null"
        return [(str(day), *rest) for day, *rest in world.rows(f"{rows} order by 1")]

    assert world.ingest(PROFILE).sites[0].touched == ()
    assert loads() == [("2020-05-01", 1, '{"Day":{}}'), ("2026-11-03", 2, '{"Day":{}}')]
    site.edit("profile", old, {"store": {"Night": {}}})
    assert world.ingest(PROFILE).sites[0].touched == ("2020-05-01",)
    assert loads() == [("2020-05-01", 3, '{"Night":{}}'), ("2026-11-03", 3, '{"Day":{}}')]
    site.edit("profile", new, {"unknownField": "later"})
    assert world.ingest(PROFILE).sites[0].records == 2  # a column that bronze does not have yet
    assert [row[1] for row in loads()] == [4, 4]
    world.sites[0] = replace(world.sites[0], units="mmol/l")
    assert world.ingest(PROFILE).sites[0].touched == ("2020-05-01",)
    assert world.rows("select distinct site_units from bronze.nightscout_profile where record_id is not null") == [
        ("mmol/l",)
    ]


def test_profile_that_goes_as_another_gets_a_new_field_goes_at_once(served: Served) -> None:
    site = NightscoutSite("amber")
    gone, kept = (
        site.add("profile", {"startDate": f"{day}T00:00:00.000Z", "store": {"Day": {}}})
        for day in ("2020-05-01", "2020-06-01")
    )
    world = served(site)
    world.ingest(PROFILE)
    site.delete("profile", gone)
    site.edit("profile", kept, {"unknownField": "later"})
    world.ingest(PROFILE)
    rows = "select interval_date, unknown_field from bronze.nightscout_profile where record_id is not null"
    assert world.rows(rows) == [(date(2020, 6, 1), "later")]


def test_load_seq_counts_the_loads_of_a_table(served: Served) -> None:
    world = served(site_with(reading("2026-11-03T01:00:00")))
    assert [world.ingest().load_seq, world.ingest().load_seq, world.ingest(TREATMENTS).load_seq] == [1, 2, 1]


# Sites that fail


def test_site_that_is_down_fails_its_rows_only_and_the_run(served: Served) -> None:
    sites = [site_with(reading("2026-11-03T01:00:00"), name=name) for name in ("amber", "birch", "cedar")]
    world = served(*sites)
    world.ingest()
    sites[1].fail(Fault("503", count=None, retry_after=0))
    sites[0].add("entries", reading("2026-11-03T02:00:00"))
    with pytest.raises(SitesError) as caught:
        world.ingest()
    assert "1 of 3 sites failed for nightscout_entries" in str(caught.value)
    assert "Site birch (connection nightscout_birch)" in str(caught.value)
    assert caught.value.retryable
    assert caught.value.result.load_seq == 2
    assert [site.site for site in caught.value.result.sites] == ["amber", "cedar"]
    assert world.rows(
        "select site, load_seq, count(record_id) from bronze.nightscout_entries group by all order by all"
    ) == [("amber", 2, 2), ("birch", 1, 1), ("cedar", 2, 1)]


def test_optional_site_that_is_down_is_reported_and_the_run_stays_green(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    sites = [site_with(reading("2026-11-03T01:00:00"), name=name) for name in ("amber", "birch")]
    sites[1].fail(Fault("html", count=None))
    world = served(*sites, optional=["birch"])
    result = world.ingest()
    assert [(failure.site, failure.optional) for failure in result.failed] == [("birch", True)]
    assert "HTML page" in result.failed[0].reason
    assert "Optional site birch is missing" in caplog.text


def test_nothing_is_loaded_when_every_site_fails_even_if_all_are_optional(served: Served) -> None:
    sites = [NightscoutSite(name) for name in ("amber", "birch")]
    for site in sites:
        site.fail(Fault("401", count=None))
    world = served(*sites, optional=["amber", "birch"])
    with pytest.raises(SitesError, match=r"2 of 2 sites failed.*Nothing was loaded") as caught:
        world.ingest()
    assert not caught.value.retryable
    assert caught.value.result.load_seq is None
    assert world.rows("select count(*) from duckdb_tables() where table_name like 'nightscout%'") == [(0,)]


def test_site_without_a_connection_fails_alone(served: Served) -> None:
    world = served(*(site_with(reading("2026-11-03T01:00:00"), name=name) for name in ("amber", "birch")))
    world.connections["nightscout_amber"] = Connection("nightscout_amber")
    with pytest.raises(SitesError, match="Connection nightscout_amber of site amber has no host") as caught:
        world.ingest()
    assert not caught.value.retryable
    assert world.rows("select distinct site from bronze.nightscout_entries") == [("birch",)]


def test_no_site_at_all_is_an_error(world: World) -> None:
    with pytest.raises(SourceError, match="No site to ingest"):
        world.ingest()


# Types that change


def test_text_where_a_number_was_fails_before_anything_is_loaded(served: Served) -> None:
    site = site_with(reading("2026-11-03T01:00:00"))
    other = site_with(reading("2026-11-03T01:00:00"), name="birch")
    world = served(site, other)
    world.ingest()
    before = world.content()
    for minute in (1, 2):
        site.add("entries", reading(f"2026-11-03T02:0{minute}:00", "171"))
    with pytest.raises(SchemaError) as caught:
        world.ingest()
    message = str(caught.value)
    assert "nightscout_entries: field 'sgv' is text in 2 records of site amber, expected double" in message
    assert "Nothing was loaded" in message
    assert "add 'sgv' to variants of stream entries in include/sources/nightscout/streams.py" in message
    assert "171" not in message
    assert world.content() == before


def test_accepted_variant_lands_as_text_beside_its_column(served: Served) -> None:
    site = site_with(reading("2026-11-03T01:00:00", 90), reading("2026-11-03T02:00:00", "171"))
    world = served(site)
    world.ingest(replace(ENTRIES, variants=frozenset({"sgv"})))
    assert world.rows(
        "select sgv, sgv__v_text from bronze.nightscout_entries where date is not null order by date"
    ) == [
        (90.0, None),
        (None, "171"),
    ]
    world.ingest(replace(ENTRIES, variants=frozenset({"sgv"})), days(4, 5))


def test_undeclared_field_that_changes_its_type_fails_and_says_how_to_declare_it(served: Served) -> None:
    site = site_with(reading("2026-11-03T01:00:00", trend=4))
    world = served(site)
    world.ingest()
    site.add("entries", reading("2026-11-04T01:00:00", trend="Flat"))
    with pytest.raises(SchemaError, match=r"'trend' is text in 1 records of site amber, expected double.*declare"):
        world.ingest(interval=days(4, 5))


def test_field_declared_as_another_type_than_bronze_has_fails(served: Served) -> None:
    world = served(site_with(reading("2026-11-03T01:00:00", trend=4)))
    world.ingest()
    declared = replace(ENTRIES, columns=(*ENTRIES.columns, Column("trend", Kind.TEXT)))
    with pytest.raises(SchemaError, match="is DOUBLE, but stream entries declares it as VARCHAR"):
        world.ingest(declared, days(4, 5))


def test_new_field_of_two_types_at_two_sites_fails(served: Served) -> None:
    world = served(
        site_with(reading("2026-11-03T01:00:00", trend=4)),
        site_with(reading("2026-11-03T01:00:00", trend="Flat"), name="birch"),
    )
    with pytest.raises(SchemaError, match="trend of nightscout_entries is"):
        world.ingest()
    assert world.rows("select count(*) from duckdb_tables() where table_name like 'nightscout%'") == [(0,)]


def test_integers_and_fractions_of_a_millisecond_are_no_change_of_type(served: Served) -> None:
    site = NightscoutSite("amber", v3=False)
    site.add("entries", {"type": "sgv", "date": at("2026-11-03T01:00:00") + 0.75, "sgv": 90.5})
    world = served(site)
    world.ingest()
    assert world.rows("select date, sgv from bronze.nightscout_entries where sgv is not null") == [
        (at("2026-11-03T01:00:00"), 90.5)
    ]


# One transaction, killed runs, parallel runs


def test_no_snapshot_of_the_lake_shows_the_day_without_its_rows(served: Served) -> None:
    site = site_with(*(reading(f"2026-11-03T{hour:02}:00:00") for hour in range(20)))
    world = served(site)
    first = world.ingest().snapshot_id
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        with world.lake.open(read_only=True) as connection:
            while not stop.is_set():
                row = connection.execute("select count(*) from bronze.nightscout_entries").fetchone()
                assert row is not None
                seen.append(row[0])

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2):
        last = world.ingest().snapshot_id
    stop.set()
    reader.join()
    assert set(seen) == {21}
    assert first is not None and last is not None and last > first
    for snapshot in range(first, last + 1):
        with world.lake.open(snapshot=snapshot) as connection:
            count = "select count(*), count(distinct load_seq) from bronze.nightscout_entries"
            assert connection.execute(count).fetchone() == (21, 1)


KILLED = """
    import os, signal, sys
    from include.sources import dlt_runtime
    from tests.include.sources.nightscout.test_pipeline import _ingest_in_process

    from dlt.pipeline.pipeline import Pipeline
    Pipeline.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    _ingest_in_process(*eval(sys.stdin.read(), {}))
"""


def test_run_killed_between_extract_and_load_is_followed_by_a_whole_one(served: Served) -> None:
    site = site_with(reading("2026-11-03T01:00:00"))
    world = served(site)
    arguments = _for_process(world, "entries")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED)],
        input=repr(arguments),
        text=True,
        capture_output=True,
        cwd=Path(__file__).parents[4],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((world.pipelines_dir / "nightscout_entries").iterdir())
    site.add("entries", reading("2026-11-03T02:00:00"))
    result = world.ingest()
    assert result.records == 2
    assert len(world.content()) == 3
    assert not (world.pipelines_dir / "nightscout_entries").exists()


def test_four_streams_load_in_parallel_processes_into_a_new_lake(served: Served) -> None:
    world = served(*demo_sites(date(2026, 11, 2), date(2026, 11, 4)))
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        loads = list(pool.map(_ingest_in_process, *zip(*(_for_process(world, s) for s in STREAMS), strict=True)))
    assert loads == [1, 1, 1, 1]
    for stream in STREAMS.values():
        assert world.rows(f"select count(*) > 8 from bronze.{stream.table}") == [(True,)]
    assert world.rows("select count(*) from bronze._dlt_loads") == [(4,)]


def test_same_stream_twice_at_once_is_refused(served: Served) -> None:
    world = served(NightscoutSite("amber"))
    world.ingest()
    from include.sources.dlt_runtime import working_folder

    with working_folder(world.pipelines_dir, ENTRIES.table):
        with pytest.raises(LoadError, match="being loaded by another process"):
            world.ingest()
        world.ingest(TREATMENTS)


def test_load_that_lost_rows_is_noticed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    world = served(site_with(reading("2026-11-03T01:00:00")))
    honest = pipeline._Sites.load

    def losing(source: Any, connection: duckdb.DuckDBPyConnection, *rest: Any) -> str:
        load_id = honest(source, connection, *rest)
        connection.execute("delete from dl.bronze.nightscout_entries where record_id is not null")
        return load_id

    monkeypatch.setattr(pipeline._Sites, "load", losing)
    with pytest.raises(LoadError, match="load 1 holds"):
        world.ingest()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("insert into dl.bronze.nightscout_entries from dl.bronze.nightscout_entries", "holds rows twice"),
        (
            "update __ducklake_metadata_dl.ducklake.ducklake_data_file set record_count = record_count + 1000",
            "the catalog counts .* rows and a scan finds",
        ),
    ],
)
def test_table_that_contradicts_itself_is_noticed(
    served: Served, monkeypatch: pytest.MonkeyPatch, harm: str, says: str
) -> None:
    readings = [reading(f"2026-11-03T{hour:02}:{minute:02}:00") for hour in range(5) for minute in range(0, 60, 5)]
    world = served(site_with(*readings))
    world.ingest()
    honest = pipeline._Sites.check

    def after_harm(source: Any, connection: duckdb.DuckDBPyConnection, *rest: Any) -> int:
        connection.execute(harm.replace(" from dl.", " select * replace (2 as load_seq) from dl."))
        with world.lake.open() as anew:  # DuckLake keeps what it has read of the catalog
            return honest(source, anew, *rest)

    monkeypatch.setattr(pipeline._Sites, "check", after_harm)
    with pytest.raises(LoadError, match=says):
        world.ingest()


def test_s3_storage_holds_the_load(served: Served, s3_lake: Lake) -> None:
    world = served(site_with(*(reading(f"2026-11-03T{hour:02}:00:00") for hour in range(20))))
    world.lake = s3_lake
    world.ingest()
    world.ingest()
    assert world.rows("select count(*), max(load_seq) from bronze.nightscout_entries") == [(21, 2)]
    assert world.rows(f"from glob('{s3_lake.storage.url}/bronze/nightscout_entries/**/*.parquet')")
    assert not Path("s3:").exists()


# dlt keeps to itself


QUIET = """
    import sys
    opened, hosts = [], []
    def hook(event, args):
        if event == "open" and isinstance(args[0], str) and args[0].endswith(".toml"):
            opened.append(args[0])
        if event == "socket.getaddrinfo":
            hosts.append(args[0])
        if event == "import" and args[0].partition(".")[0] == "airflow":
            opened.append(args[0])
    sys.addaudithook(hook)
    from tests.include.sources.nightscout.test_pipeline import _ingest_in_process
    _ingest_in_process(*eval(sys.stdin.read(), {}))
    assert not [name for name in opened if "secrets" in name or "config.toml" in name or "airflow" in name], opened
    assert set(hosts) <= {"127.0.0.1"}, hosts
"""


def test_dlt_reads_no_settings_of_the_developer_and_says_nothing(served: Served, tmp_path: Path) -> None:
    world = served(site_with(reading("2026-11-03T01:00:00")))
    home = tmp_path / "home"
    (home / ".dlt").mkdir(parents=True)
    (home / ".dlt" / "secrets.toml").write_text("this is [not toml")
    (home / ".dlt" / "config.toml").write_text("this is [not toml")
    environment = {
        key: value for key, value in os.environ.items() if "TELEMETRY" not in key and key != "DO_NOT_TRACK"
    } | {"PYTHONPATH": str(Path(__file__).parents[4]), "DESTINATION__DUCKLAKE__CREDENTIALS": "wrong"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(QUIET)],
        input=repr(_for_process(world, "entries")),
        text=True,
        capture_output=True,
        cwd=home,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert sorted(path.name for path in home.rglob("*")) == [".dlt", "config.toml", "secrets.toml"]


def _for_process(world: World, stream: str) -> tuple[Any, ...]:
    """What a fresh process needs to ingest a day, as plain values."""
    lake, catalog = world.lake, world.lake.catalog
    return (
        (catalog.host, catalog.port, catalog.database, catalog.user, catalog.password),
        (lake.storage.url, str(lake.extensions), str(lake.temp_directory)),
        stream,
        [(site.site, site.time_zone, site.units) for site in world.sites],
        {key: (value.password, value.extra) for key, value in world.connections.items()},
        str(world.pipelines_dir),
    )


def _ingest_in_process(
    catalog: tuple, folders: tuple, stream: str, sites: list, connections: dict, pipelines_dir: str
) -> int | None:
    from include.connections import Postgres

    lake = Lake(Postgres(*catalog), Storage(folders[0]), Path(folders[1]), Path(folders[2]), memory_limit="1GB")
    return pipeline.ingest(
        lake,
        STREAMS[stream],
        ONE_DAY,
        [Site(name, zone, units) for name, zone, units in sites],
        lambda conn_id: Connection(conn_id, password=connections[conn_id][0], extra=connections[conn_id][1]),
        pipelines_dir=Path(pipelines_dir),
        patience=QUICK,
    ).load_seq
