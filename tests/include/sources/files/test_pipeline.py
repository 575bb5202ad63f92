"""Dropped files into bronze: each once, whole, whatever order they come in."""

import dataclasses
import json
import threading
import time
from datetime import UTC, date, datetime
from itertools import permutations
from pathlib import Path

import duckdb
import pytest

from include.connections import Storage
from include.lake import erasures
from include.local.postgres import LocalPostgres
from include.sources.errors import SitesError
from include.sources.files.streams import Dated, Due, Format
from include.sources.listing import Listed
from include.sources.subjects import Subject
from tests.conftest import fresh_database
from tests.include.sources.files.conftest import ASSAYS, World, days


def reason(world: World, first: int = 1, end: int = 2, **options: object) -> str:
    """What a load that must fail says."""
    with pytest.raises(SitesError) as failed:
        world.ingest(days(first, end), **options)
    return str(failed.value)


@pytest.mark.parametrize("place", ["world", "bucket"])
def test_files_of_the_interval_land_once(place: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(place)
    world.assays(1, "a,1.5", "b,2.25")
    world.assays(2, "c,3")
    world.assays(9, "z,9")
    first = world.ingest(days(1, 3))
    assert world.live() == [("a", "1.500"), ("b", "2.250"), ("c", "3.000")]
    again = world.ingest(days(1, 3))
    assert [(each.sites[0].records, each.sites[0].files) for each in (first, again)] == [(3, 2), (0, 0)]
    assert world.live() == [("a", "1.500"), ("b", "2.250"), ("c", "3.000")]
    rows = world.rows(
        "select file_name, length(file_sha256), file_row, file_date, interval_date, load_seq, fetched_at is not null, "
        "_dlt_load_id is not null from bronze.lab_assays where record_id = 'b'"
    )
    day = date(2026, 11, 1)
    assert rows == [("assays/run_2026-11-01.csv", 64, 2, day, day, 1, True, True)]
    windows = world.rows(
        "select interval_date, window_records, window_files from bronze.lab_assays where record_id is null order by all"
    )
    assert [(each.day, records, [file["name"] for file in json.loads(files)]) for each, records, files in windows] == [
        (1, 2, ["assays/run_2026-11-01.csv"]),
        (2, 1, ["assays/run_2026-11-02.csv"]),
    ]


def test_the_same_content_again_adds_nothing_and_an_archived_file_stays(world: World) -> None:
    stream = dataclasses.replace(ASSAYS, key=(), day="measured_at")
    world.assays(1, "a,1")
    world.ingest(days(1, 2), stream)
    content = (Path(world.storage.url) / "assays/run_2026-11-01.csv").read_text()
    world.put("assays/copy_2026-11-01.csv", content)
    world.remove("assays/run_2026-11-01.csv")
    result = world.ingest(days(1, 2), stream)
    assert (result.sites[0].records, result.sites[0].files) == (0, 0)
    assert world.live("record_id") == [("assays/run_2026-11-01.csv:1",)]


def test_a_changed_file_replaces_its_rows(world: World) -> None:
    world.assays(1, "a,1", "b,2", "c,3")
    world.ingest(days(1, 2))
    world.assays(1, "a,1", "b,7", "d,4")
    result = world.ingest(days(1, 2))
    assert (result.sites[0].deleted, result.sites[0].files) == (1, 1)
    assert world.live() == [("a", "1.000"), ("b", "7.000"), ("d", "4.000")]
    assert world.rows("select record_id from bronze.lab_assays where source_deleted_at is not null") == [("c",)]
    assert world.rows("select window_records from bronze.lab_assays where record_id is null") == [(3,)]


def test_rows_without_a_key_go_by_file_and_row(world: World) -> None:
    stream = dataclasses.replace(ASSAYS, key=())
    world.assays(1, "a,1", "a,1")
    world.ingest(days(1, 2), stream)
    world.assays(1, "a,5")
    world.ingest(days(1, 2), stream)
    assert world.live() == [("assays/run_2026-11-01.csv:1", "5.000")]


def test_any_order_of_intervals_ends_in_the_same_rows(world: World, server: LocalPostgres, tmp_path: Path) -> None:
    world.assays(1, "a,1", "b,1")
    world.assays(2, "b,2", "c,2")
    world.assays(3, "c,3", "d,3")
    intervals = [days(1, 2), days(2, 3), days(3, 4)]
    orders = [*list(permutations(intervals))[1:], [days(1, 4)]]
    for number, order in enumerate(orders):
        with fresh_database(server, "lake") as catalog:
            lake = dataclasses.replace(world.lake, catalog=catalog, storage=Storage(str(tmp_path / f"lake{number}")))
            for interval in order:
                world.ingest(interval, dataclasses.replace(ASSAYS, overlap_days=0), lake=lake)
            world.watch = lake.open(read_only=True)
            assert world.live() == [("a", "1.000"), ("b", "2.000"), ("c", "3.000"), ("d", "3.000")], order
            world.close()


def test_a_late_file_comes_with_the_overlap(world: World) -> None:
    world.assays(2, "b,2")
    assert "no file like assays/*.csv" in reason(world)
    world.assays(1, "a,1", name="late_20261101.csv")
    world.ingest(days(2, 3))
    assert world.live("record_id, interval_date") == [("a", date(2026, 11, 1)), ("b", date(2026, 11, 2))]
    assert world.ingest(days(1, 2)).sites[0].files == 0


def test_rows_may_belong_to_another_day_than_their_file(world: World) -> None:
    world.put("assays/run_2026-11-02.csv", "assay_id,result,measured_at\na,1,2026-11-01T23:30:00Z\nb,1,\n")
    stream = dataclasses.replace(ASSAYS, day="measured_at")
    result = world.ingest(days(2, 3), stream)
    assert world.live("record_id, interval_date, file_date") == [("a", date(2026, 11, 1), date(2026, 11, 2))]
    assert result.sites[0].undated == 1
    ((rules, payload),) = world.rows("select rules, payload from quarantine.lab_assays")
    assert (rules, json.loads(payload)["assay_id"]) == (["states_a_day"], "b")
    # The row is moved to another day by a new version of the file: both days are rebuilt.
    world.put("assays/run_2026-11-02.csv", "assay_id,result,measured_at\na,1,2026-11-02T00:30:00Z\n")
    assert world.ingest(days(2, 3), stream).sites[0].moved == ("2026-11-01",)
    assert world.live("record_id, interval_date") == [("a", date(2026, 11, 2))]


def test_files_go_by_when_they_were_written_where_that_is_said(world: World) -> None:
    stream = dataclasses.replace(ASSAYS, dated=Dated.MODIFIED)
    world.assays(1, "a,1", name="results.csv")
    world.ingest(days(1, 2), stream)
    content = (Path(world.storage.url) / "assays/results.csv").read_text()
    # Touched, it is the same; written anew, it is of the day on which it was.
    world.put("assays/results.csv", content, datetime(2026, 11, 2, tzinfo=UTC).timestamp())
    assert world.ingest(days(2, 3), stream).sites[0].files == 0
    world.put("assays/results.csv", content.replace("a,1", "a,2"), datetime(2026, 11, 3, tzinfo=UTC).timestamp())
    assert world.ingest(days(3, 4), stream).sites[0].files == 1
    assert world.live("record_id, result::varchar, file_date") == [("a", "2.000", date(2026, 11, 3))]
    files = dict(world.rows("select interval_date, window_files from bronze.lab_assays where record_id is null"))
    assert {day.day: len(json.loads(text)) for day, text in files.items()} == {1: 0, 2: 0, 3: 1}


def test_a_file_without_a_date_in_its_name_is_told(world: World) -> None:
    world.assays(1, "a,1", name="results.csv")
    assert "a file (assays/results.csv) of stream assays without a date in the name" in reason(world)


def test_half_written_files_are_left_until_they_are_whole(world: World) -> None:
    whole = Path(world.storage.url).parent / "whole.parquet"
    duckdb.sql(f"copy (select 'p' as assay_id, 1.5::decimal(8,3) as result) to '{whole}' (format parquet)")
    stream = dataclasses.replace(ASSAYS, files="*.parquet", format=Format.PARQUET, types={})
    world.put("x_2026-11-01.parquet", whole.read_bytes()[:-20])
    world.put("y_2026-11-01.parquet.part", whole.read_bytes())
    text = reason(world, stream=stream)
    assert "has a file (x_2026-11-01.parquet) that is not whole yet for 2026-11-01" in text
    assert "Nothing was loaded" in text
    duckdb.sql(f"copy (select 'q' as assay_id, 2.5::decimal(8,3) as result) to '{whole}' (format parquet)")
    world.put("y_2026-11-01.parquet", whole.read_bytes())
    text = reason(world, stream=stream)
    assert "What was whole landed in load 1" in text
    assert "x_2026-11-01.parquet" in text
    assert world.live() == [("q", "2.500")]
    duckdb.sql(f"copy (select 'p' as assay_id, 1.5::decimal(8,3) as result) to '{whole}' (format parquet)")
    world.put("x_2026-11-01.parquet", whole.read_bytes())
    world.ingest(days(1, 2), stream)
    assert world.live() == [("p", "1.500"), ("q", "2.500")]


def test_a_file_that_grows_is_left_until_it_rests(world: World) -> None:
    world.assays(1, "a,1")
    path = Path(world.storage.url) / "assays/slow_2026-11-01.csv"
    done = threading.Event()

    def write() -> None:
        with path.open("w") as file:
            file.write("assay_id,result,measured_at\n")
            while not done.is_set():
                file.write("s,1,2026-11-01\n")
                file.flush()
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not path.exists():
            time.sleep(0.01)
        text = reason(world, settle=0.3)
    finally:
        done.set()
        writer.join()
    assert "slow_2026-11-01.csv) of stream assays that is not whole yet" in text
    assert world.live("record_id") == [("a",)]


@pytest.mark.parametrize(
    ("due", "present", "said"),
    [
        (Due.EVERY_INTERVAL, [], "for 2026-11-01 to 2026-11-03 (3 days); stream assays expects a file every interval"),
        (Due.EVERY_INTERVAL, [2], None),
        (Due.EVERY_DAY, [1, 3], "for 2026-11-02; stream assays expects a file every day"),
        (Due.EVERY_DAY, [1, 2, 3], None),
        (Due.NEVER, [], None),
    ],
)
def test_a_drop_that_is_empty_where_files_were_due_is_red(
    world: World, due: Due, present: list[int], said: str | None
) -> None:
    for day in present:
        world.assays(day, f"a{day},1")
    stream = dataclasses.replace(ASSAYS, due=due)
    if said:
        assert said in reason(world, 1, 4, stream=stream)
    else:
        assert world.ingest(days(1, 4), stream).sites[0].records == len(present)


def test_a_bad_cell_lands_nothing_and_the_last_rows_stay(world: World) -> None:
    world.assays(1, "a,1")
    world.ingest(days(1, 2))
    world.assays(2, "b,2", "c,broken")
    text = reason(world, 2, 3)
    assert "File assays/run_2026-11-02.csv of drop bench: column result is not DECIMAL(8,3) at line 3" in text
    assert world.live("record_id") == [("a",)]
    stream = dataclasses.replace(ASSAYS, variants=frozenset({"result"}))
    world.ingest(days(2, 3), stream)
    assert world.live("record_id, result__v_text") == [("a", None), ("b", None), ("c", "broken")]


def test_a_key_that_is_none_is_told(world: World) -> None:
    world.assays(1, "a,1", "a,2")
    assert "has the same (assay_id) in rows 1, 2; it is not the key of stream assays" in reason(world)
    world.assays(1, "a,1", ",2")
    assert "lacks (assay_id) in row 2" in reason(world)


def test_a_new_column_is_added_and_a_changed_type_is_refused(world: World) -> None:
    world.assays(1, "a,1")
    world.ingest(days(1, 2))
    world.put("assays/run_2026-11-02.csv", "assay_id,result,measured_at,Operator\nb,2,2026-11-02,ü\n")
    world.ingest(days(2, 3))
    assert world.live("record_id, operator") == [("a", None), ("b", "ü")]
    other = dataclasses.replace(ASSAYS, types={**ASSAYS.types, "result": "DOUBLE"})
    assert "is DECIMAL(8,3), but stream assays declares it as DOUBLE" in reason(world, 2, 3, stream=other)


def test_somebody_who_was_erased_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "k" * 32
    monkeypatch.setattr("include.runtime.pseudonym_key", lambda *_: key)
    with world.lake.open() as connection:
        erasures.begin(connection, "lab", erasures.subject_hash(key, "bench/a"), "test")
    world.assays(1, "a,1", "b,2")
    world.ingest(days(1, 2), dataclasses.replace(ASSAYS, subject=Subject(("site", "assay_id"))))
    assert world.live("record_id") == [("b",)]


def test_a_folder_that_is_not_there_is_told_and_the_others_land(world: World) -> None:
    world.assays(1, "a,1")
    drops = [*world.drops, Listed("gone", "lab_gone", url="/nowhere/at/all")]
    text = reason(world, drops=drops)
    assert "1 of 2 sites failed for lab_assays. The other 1 landed in load 1" in text
    assert "Drop gone is /nowhere/at/all, where there is no folder" in text
    assert world.live("record_id") == [("a",)]
