"""Upkeep makes the lake smaller and changes no row that anybody can read."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.connections import Postgres
from include.lake import catalog, fsck, maintenance
from include.lake.attach import Lake
from include.lake.listing import open_storage, stored
from include.lake.maintenance import Keep, MaintenanceError, Step, maintain
from tests.include.lake.small_lake import LATER, SmallLake
from tests.include.release.building import build


@pytest.fixture
def released_on_s3(s3_lake: Lake, marts_server: Postgres) -> Iterator[SmallLake]:
    made = SmallLake(s3_lake, marts_server).make(releases=2)
    yield made
    made.close()


def files_of(lake: Lake) -> dict:
    with open_storage(lake) as connection:
        return stored(lake, connection)


@pytest.mark.parametrize("where", ["released", "released_on_s3"])
def test_all_steps_make_the_lake_smaller_and_keep_every_row(where: str, request: pytest.FixtureRequest) -> None:
    small: SmallLake = request.getfixturevalue(where)
    rows, released, before = small.tables(), small.released_rows(), catalog.read(small.lake)
    assert len(released) == 2

    reports = {report.step: report for report in maintain(small.lake, small.marts, now=LATER)}
    for step in (Step.FLUSH, Step.REWRITE, Step.MERGE, Step.EXPIRE, Step.CLEANUP):
        assert reports[step].due, step
        assert reports[step].verified >= len(rows)
    assert "bronze.demo_events" in reports[Step.FLUSH].due
    assert reports[Step.MERGE].after.live_files < reports[Step.MERGE].before.live_files
    assert reports[Step.CLEANUP].after.stored_files < reports[Step.CLEANUP].before.stored_files

    assert small.tables() == rows
    assert small.released_rows() == released
    after = catalog.read(small.lake)
    assert set(after.snapshots) >= set(small.released)
    assert len(after.snapshots) < len(before.snapshots) / 2
    assert fsck.check(small.lake, marts=small.marts, deep=True).damage == ()
    assert set(files_of(small.lake)) == {file.path for file in after.files} | after.scheduled.keys()

    again = maintain(small.lake, small.marts, now=LATER + timedelta(days=3))
    assert {report.step for report in again if report.due} <= {Step.CLEANUP}
    assert small.tables() == rows


def test_dry_run_says_what_is_due_and_changes_nothing(released: SmallLake) -> None:
    before, there = catalog.read(released.lake), files_of(released.lake)
    reports = {report.step: report for report in maintain(released.lake, released.marts, dry_run=True, now=LATER)}
    assert reports[Step.FLUSH].due["bronze.demo_events"] > 0
    assert reports[Step.EXPIRE].due["snapshots"] == len(before.snapshots) - 3  # two releases and the newest
    assert (catalog.read(released.lake), files_of(released.lake)) == (before, there)


def test_release_past_its_retention_is_let_go_and_the_one_that_readers_are_on_is_not(released: SmallLake) -> None:
    maintain(released.lake, released.marts, steps=[Step.EXPIRE], now=LATER, keep=Keep(releases=timedelta(days=1)))
    kept = set(catalog.read(released.lake).snapshots)
    assert kept & set(released.released) == {released.released[-1]}
    assert released.view("select distinct mean from dl.marts.mrt_daily") == [(2.0,)]


def test_snapshot_that_a_view_shows_stays_though_the_ledger_does_not_know_it(released: SmallLake) -> None:
    shown = build(released.lake, 9)
    released.write(f"create or replace view dl.marts.other as select * from dl.gold.mrt_daily at (version => {shown})")
    released.close()
    maintain(released.lake, released.marts, steps=[Step.EXPIRE], now=LATER)
    assert released.view("select count(*) from dl.marts.other") == [(5,)]
    released.close()
    with pytest.raises(MaintenanceError, match="no ledger was given"):
        maintain(released.lake, None, steps=[Step.EXPIRE], now=LATER)


def test_young_snapshots_stay(released: SmallLake) -> None:
    before = set(catalog.read(released.lake).snapshots)
    (report,) = maintain(released.lake, released.marts, steps=[Step.EXPIRE], keep=Keep(releases=timedelta(0)))
    assert report.due == {}
    assert set(catalog.read(released.lake).snapshots) == before


def test_only_old_files_that_nothing_names_are_removed(small: SmallLake) -> None:
    folder = Path(small.lake.storage.url) / "bronze" / "demo_events"
    old, young = folder / "old.parquet", folder / "young.parquet"
    for file in (old, young):
        file.write_bytes(b"from a writer that was killed")
    three_days_ago = time.time() - 3 * 86400
    os.utime(old, (three_days_ago, three_days_ago))
    (report,) = maintain(small.lake, small.marts, steps=[Step.ORPHANS])
    assert report.due == {"files": 1}
    assert (old.exists(), young.exists()) == (False, True)


def test_leftovers_of_killed_processes_go_and_those_of_running_ones_stay(small: SmallLake, tmp_path: Path) -> None:
    home = tmp_path / "home"
    old, young = home / "dlt" / "killed", home / "dlt" / "running"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "load.parquet").write_text("x")
    three_days_ago = time.time() - 3 * 86400
    for path in (old / "load.parquet", old):
        os.utime(path, (three_days_ago, three_days_ago))
    (report,) = maintain(small.lake, small.marts, steps=[Step.LEFTOVERS], home=home)
    assert report.due == {"leftovers": 1}
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("step", [Step.FLUSH, Step.REWRITE, Step.MERGE, Step.EXPIRE, Step.ORPHANS])
def test_step_that_was_due_and_did_nothing_is_red(
    small: SmallLake, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(small.lake.storage.url) / "stray.parquet").write_text("x")
    if step is Step.REWRITE:
        maintain(small.lake, small.marts, steps=[Step.FLUSH], now=LATER)
    find, _, unit = maintenance._STEPS[step]
    monkeypatch.setitem(maintenance._STEPS, step, (find, lambda work, due: None, unit))
    with pytest.raises(MaintenanceError, match=f"{step} left .* undone"):
        maintain(small.lake, small.marts, steps=[step], now=LATER)


def test_step_that_changes_a_row_is_red(small: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    find, flush, unit = maintenance._STEPS[Step.FLUSH]

    def careless(work, due) -> None:
        flush(work, due)
        work.connection.execute("update dl.silver.fct_event set j = j + 1 where i = 1003")
        work.connection.execute("call ducklake_flush_inlined_data('dl')")

    monkeypatch.setitem(maintenance._STEPS, Step.FLUSH, (find, careless, unit))
    with pytest.raises(MaintenanceError, match=r"flush changed the rows of silver\.fct_event"):
        maintain(small.lake, small.marts, steps=[Step.FLUSH])


def test_count_that_a_scan_does_not_confirm_is_red(small: SmallLake) -> None:
    (file,) = small.live("silver.fct_event")
    with psycopg.connect(small.lake.catalog.conninfo()) as connection:
        connection.execute(
            "update ducklake.ducklake_data_file set record_count = record_count + 1 where data_file_id = %s",
            [file.file_id],
        )
    with pytest.raises(MaintenanceError, match=r"silver.fct_event: the catalog counts 3,\d+ rows and a scan finds"):
        maintain(small.lake, small.marts, steps=[Step.FLUSH])


def test_keep_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from include.settings import Settings

    monkeypatch.setenv("LAKE_SNAPSHOT_DAYS", "7")
    monkeypatch.setenv("LAKE_RELEASE_DAYS", "90")
    keep = Keep.of(Settings())
    assert (keep.snapshots, keep.releases) == (timedelta(days=7), timedelta(days=90))


def test_now_is_the_clock_unless_told(small: SmallLake) -> None:
    assert datetime.now(UTC) < LATER
    assert maintain(small.lake, small.marts, steps=[Step.CLEANUP])[0].due == {}
