"""Damage is found, named, and mended as far as anything can mend it."""

import json
import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import psycopg
import pytest
from typer.testing import CliRunner

from include.connections import Postgres
from include.errors import ReleaseError
from include.lake import catalog, cli, fsck
from include.lake.attach import Lake
from include.lake.files import s3_client
from include.lake.fsck import DamageError, Reach
from include.lake.maintenance import maintain
from tests.include.lake.small_lake import LATER, LOADS, SmallLake, cut, flipped, missing
from tests.include.release.building import build, lake_connection

EVENTS, FACTS, DAILY = "bronze.demo_events", "silver.fct_event", "gold.mrt_daily"
KINDS = {missing: "is missing", cut: "the catalog says", flipped: "other content"}


def test_whole_lake_is_whole(small: SmallLake) -> None:
    report = fsck.check(small.lake, marts=small.marts)
    assert report.ok and report.damage == () and report.unknown == ()
    assert report.files == len(catalog.read(small.lake).files) > 10
    fsck.require_whole(report)


@pytest.mark.parametrize("table", [EVENTS, FACTS, DAILY])
@pytest.mark.parametrize("damage", KINDS, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_the_table_can_be_read_again(
    small: SmallLake, table: str, damage: Callable[[Path], None]
) -> None:
    deep = damage is flipped
    if deep:
        assert fsck.check(small.lake, deep=True).ok  # the hashes that it is compared with later
    before, file = small.tables(), small.live(table)[0]
    damage(Path(file.path))
    if deep:
        assert fsck.check(small.lake).ok  # neither size nor footer tells

    report = fsck.check(small.lake, marts=small.marts, deep=deep)
    (found,) = report.damage
    assert (found.file, found.reach, report.ok) == (file, Reach.CURRENT, False)
    assert KINDS[damage] in found.problem
    assert found.last_whole == file.begin - 1
    with pytest.raises(DamageError, match=file.path):
        fsck.require_whole(report)

    (repair,) = fsck.repair(small.lake, report)
    assert repair.table == table
    after = fsck.check(small.lake, deep=deep)
    assert after.current == []
    rows = small.tables()
    assert {name: found for name, found in rows.items() if name not in (table, "meta.watermarks")} == {
        name: found for name, found in before.items() if name not in (table, "meta.watermarks")
    }
    if table == EVENTS:
        assert set(rows[table]) < set(before[table])
        assert len(before[table]) - len(rows[table]) == int(repair.done.split()[3].replace(",", ""))
        assert repair.days is not None and repair.days[0] >= date(2026, 1, 1) and repair.days[1] <= date(2026, 3, 1)
        assert f"lake run demo --from {repair.days[0]} --to {repair.days[1]}" in repair.next_step
    elif table == FACTS:
        assert {row[2] for row in rows[table]} == {1}  # the build before
        assert [row[0] for row in rows["meta.watermarks"]] == ["fct_other"]
        assert "lake dbt build --full-refresh --select fct_event+" in repair.next_step
    else:
        assert {row[2] for row in rows[table]} == {1.0}  # the build before
    assert fsck.repair(small.lake, after) == []


def test_table_without_a_whole_version_keeps_what_is_left(small: SmallLake) -> None:
    for file in [file for file in catalog.read(small.lake).files if file.name == FACTS]:
        missing(Path(file.path))
    report = fsck.check(small.lake)
    assert [item.last_whole for item in report.current] == [None]
    (repair,) = fsck.repair(small.lake, report)
    assert "is without the" in repair.done
    assert small.tables()[FACTS] == []


def test_rows_whose_deletions_are_lost_do_not_come_back(small: SmallLake) -> None:
    small.write("call ducklake_flush_inlined_data('dl')")
    before = small.tables()[EVENTS]
    deletes = [file for file in catalog.read(small.lake).live() if file.name == EVENTS and file.kind == "delete"]
    assert deletes
    for file in deletes:
        missing(Path(file.path))
    fsck.repair(small.lake, fsck.check(small.lake))
    rows = small.tables()[EVENTS]
    assert set(rows) < set(before)
    assert fsck.check(small.lake).ok


def test_repaired_table_takes_loads_and_upkeep(small: SmallLake) -> None:
    missing(Path(small.live(EVENTS)[0].path))
    fsck.repair(small.lake, fsck.check(small.lake))
    small.write(f"insert into dl.bronze.demo_events select 'a', date '2026-01-02', {LOADS}, range from range(1000)")
    rows = small.tables()
    maintain(small.lake, small.marts, now=LATER)
    assert small.tables() == rows
    assert fsck.check(small.lake, deep=True).damage == ()  # what history lost is gone with it


def test_damage_that_only_history_reads_is_told_and_is_not_red(small: SmallLake) -> None:
    old = [file for file in catalog.read(small.lake).files if file.name == FACTS and file.end is not None]
    missing(Path(old[0].path))
    report = fsck.check(small.lake, marts=small.marts)
    assert [item.reach for item in report.damage] == [Reach.HISTORY]
    assert report.ok and report.damage[0].last_whole == catalog.read(small.lake).newest
    assert fsck.repair(small.lake, report) == []


def test_damaged_release_is_red_and_named(released: SmallLake) -> None:
    old = next(
        file for file in catalog.read(released.lake).files if file.name == DAILY and file.seen_at(released.released[0])
    )
    missing(Path(old.path))
    report = fsck.check(released.lake, marts=released.marts)
    assert [(item.reach, item.releases) for item in report.damage] == [(Reach.RELEASE, (1,))]
    assert not report.ok


def test_wrong_row_count_in_the_catalog_is_found_in_the_footer(small: SmallLake) -> None:
    (file,) = small.live(FACTS)
    with psycopg.connect(small.lake.catalog.conninfo()) as connection:
        connection.execute(
            "update ducklake.ducklake_data_file set record_count = 7 where data_file_id = %s", [file.file_id]
        )
    (found,) = fsck.check(small.lake).damage
    assert found.problem == f"holds {file.rows:,} rows, the catalog says 7"


def test_first_deep_check_decodes_what_it_has_no_hash_of(small: SmallLake) -> None:
    (file,) = small.live(FACTS)
    content = bytearray(Path(file.path).read_bytes())
    content[4:40] = bytes(36)
    Path(file.path).write_bytes(content)
    (found,) = fsck.check(small.lake, deep=True).damage
    assert found.file == file and "cannot be read" in found.problem


def test_files_that_nothing_names_are_told_once_they_are_old(small: SmallLake) -> None:
    stray = Path(small.lake.storage.url) / "stray.parquet"
    stray.write_text("x")
    assert fsck.check(small.lake).unknown == ()
    two_days_ago = time.time() - 2 * 86400
    os.utime(stray, (two_days_ago, two_days_ago))
    report = fsck.check(small.lake)
    assert report.unknown == (str(stray),) and report.ok


def test_release_from_damaged_files_is_refused_and_readers_keep_theirs(released: SmallLake) -> None:
    snapshot = build(released.lake, 4, days=3000)
    released.close()
    file = released.live(DAILY)[0]
    missing(Path(file.path))
    with pytest.raises(ReleaseError, match=f"{DAILY}: {file.path} is missing; last whole at snapshot {snapshot - 1}"):
        released.release(snapshot)
    assert released.query("select distinct mean from marts.mrt_daily") == [(2.0,)]
    assert released.view("select distinct mean from dl.marts.mrt_daily") == [(2.0,)]


def test_damage_elsewhere_does_not_stop_a_release(small: SmallLake) -> None:
    missing(Path(small.live(EVENTS)[0].path))
    assert small.release(build(small.lake, 4, days=3000)).created


def test_lake_in_a_bucket_is_checked_by_listing_and_footers(s3_lake: Lake, marts_server: Postgres) -> None:
    small = SmallLake(s3_lake, marts_server).make(releases=0)
    assert fsck.check(s3_lake, marts=marts_server, deep=True, now=LATER).ok
    storage = s3_lake.storage
    client = s3_client(storage)
    time.sleep(1)  # the time of an object has whole seconds

    def key(path: str) -> dict[str, str]:
        bucket, _, name = path.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": name}

    gone, broken, rotten = small.live(EVENTS)[0], small.live(FACTS)[0], small.live(DAILY)[0]
    client.delete_object(**key(gone.path))
    client.put_object(**key(broken.path), Body=b"x" * broken.size)
    content = bytearray(client.get_object(**key(rotten.path))["Body"].read())
    content[70] ^= 0xFF
    client.put_object(**key(rotten.path), Body=bytes(content))
    found = {item.file.path: item.problem for item in fsck.check(s3_lake).damage}
    assert found[gone.path] == "is missing" and "cannot be read" in found[broken.path]
    assert rotten.path not in found
    report = fsck.check(s3_lake, deep=True)
    assert "other content" in {item.file.path: item.problem for item in report.damage}[rotten.path]
    assert len(fsck.repair(s3_lake, report)) == 3
    assert fsck.check(s3_lake, deep=True).current == []
    small.close()


def test_footer_of_an_object_is_read_once(
    s3_lake: Lake, marts_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallLake(s3_lake, marts_server).make(releases=0)
    asked: list[int] = []
    footer_rows = fsck.footer_rows
    monkeypatch.setattr(fsck, "footer_rows", lambda *found: asked.append(len(found[2])) or footer_rows(*found))
    files = fsck.check(s3_lake).files
    assert fsck.check(s3_lake, now=LATER).ok and fsck.check(s3_lake, now=LATER).ok
    assert asked == [files, files, 0]  # what was written a moment ago may still change unseen
    build(s3_lake, 4, days=1)
    assert fsck.check(s3_lake, now=LATER).ok and 0 < asked[-1] < files
    assert fsck.check(s3_lake, deep=True).ok and asked[-1] >= files
    small.close()


def test_storage_that_is_gone_is_damage_and_not_silence(small: SmallLake) -> None:
    Path(small.lake.storage.url).rename(small.lake.storage.url + ".away")
    report = fsck.check(small.lake)
    assert len(report.damage) == report.files > 0


def test_command_repairs_and_its_status_tells(small: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.runtime.lake", lambda: small.lake)
    monkeypatch.setattr("include.runtime.marts", lambda: small.marts)
    monkeypatch.setattr(cli.console, "width", 200)

    def run(*arguments: str):
        return CliRunner().invoke(cli.app, list(arguments))

    assert run("fsck").exit_code == 0
    file = small.live(FACTS)[0]
    missing(Path(file.path))
    red = run("fsck")
    assert red.exit_code == 1
    assert FACTS in red.output and "is missing" in red.output and "--repair" in red.output
    assert json.loads(run("fsck", "--json").stdout)["damage"][0]["file"]["path"] == file.path
    mended = run("fsck", "--repair")
    assert mended.exit_code == 0, mended.output
    assert "fct_event+" in mended.output
    dry = run("maintain", "--dry-run", "--only", "merge", "--only", "flush")
    assert dry.exit_code == 0, dry.output
    assert "Nothing was changed" in dry.output and "merge" in dry.output and "expire" not in dry.output
    assert run("maintain", "--only", "polish").exit_code == 2


def test_pinned_view_fails_loudly_where_history_is_lost(small: SmallLake) -> None:
    """Repair never makes an older snapshot read fewer rows than it had."""
    first = small.live(EVENTS)[0]
    missing(Path(first.path))
    fsck.repair(small.lake, fsck.check(small.lake))
    with pytest.raises(duckdb.Error, match=r"No such file|Cannot open file|No files found"):
        lake_connection(small.lake).execute(
            f"select sum(i) from dl.bronze.demo_events at (version => {first.begin})"
        ).fetchall()
