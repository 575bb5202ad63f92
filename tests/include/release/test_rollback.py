"""Going back, and reading again what was published."""

import hashlib
import shutil
from pathlib import Path

import duckdb
import pytest

from include.errors import ReleaseError
from include.release import ledger
from include.release.reproduce import published_differences, reproduce
from include.release.rollback import plan, rollback
from tests.include.release.building import DAILY, HOURLY, Releasing, build, lake_connection, model, whole, write


def back(releasing: Releasing, release_id: int):
    return rollback(releasing.lake, releasing.marts, "demo", release_id, models=releasing.models, code_version="abc")


def test_rollback_then_reproduce_byte_for_byte(releasing: Releasing, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        releasing.release(build(releasing.lake, version))
    files = [tmp_path / f"{name}{suffix}" for name in ("before", "after") for suffix in (".csv", ".parquet")]
    for out in files[:2]:
        reproduce(releasing.lake, releasing.marts, "mrt_daily", 1, out)
    done = back(releasing, 1)
    assert releasing.seen() == whole(1)
    assert (done.entry.release_id, done.entry.kind, done.entry.rolled_back_to) == (4, "rollback", 1)
    assert done.entry.marts == ledger.entry(releasing.marts, 1).marts
    for out, release_id in ((files[2], 1), (files[3], 4)):
        reproduce(releasing.lake, releasing.marts, "mrt_daily", release_id, out)
    assert files[0].read_bytes() == files[2].read_bytes()
    assert files[1].read_bytes() == files[3].read_bytes()
    certified = done.entry.marts["mrt_daily"]["sha256"]
    assert hashlib.sha256(files[0].read_bytes()).hexdigest() == certified
    assert duckdb.execute(f"select count(*), max(mean) from '{files[1]}'").fetchone() == (5, 1.0)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(path.name for path in files)
    assert published_differences(releasing.lake, releasing.marts) == []
    assert ledger.verify(releasing.marts, releasing.lake).entries == 4


def test_rerun_of_a_release_does_not_undo_a_rollback(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    second = build(releasing.lake, 2)
    releasing.release(second)
    back(releasing, 1)
    assert not releasing.release(second).created
    assert releasing.seen() == whole(1)
    releasing.release(build(releasing.lake, 3))
    assert releasing.seen() == whole(3)


def test_plan_tells_what_would_change_and_changes_nothing(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1, days=3), models=[DAILY])
    wider = model("mrt_daily", ["site", "day"], site="text", day="date", mean="double", low="integer")
    build(releasing.lake, 2)
    snapshot = write(releasing.lake, mrt_daily="select *, 7 as low from dl.gold.mrt_daily")
    releasing.release(snapshot, models=[wider, HOURLY])
    before = releasing.seen()
    (change,), kept = (planned := plan(releasing.lake, releasing.marts, "demo", 1)).changes, planned.kept
    assert (change.mart, change.rows_now, change.rows_then) == ("mrt_daily", 5, 3)
    assert (change.gained, change.lost, kept) == ((), ("low",), ("mrt_hourly",))
    assert releasing.seen() == before
    assert len(ledger.entries(releasing.marts)) == 2
    # And the rollback does it: the column goes, the other mart stays.
    done = back(releasing, 1)
    assert done.vanished == ("mrt_hourly",)
    assert releasing.query("select * from marts.mrt_daily limit 0") == []
    assert releasing.query("select count(*) from marts.mrt_hourly") == [(24,)]
    columns = "select string_agg(column_name, ',' order by ordinal_position) from information_schema.columns"
    assert releasing.query(f"{columns} where table_name = 'mrt_daily'") == [("site,day,mean",)]


def test_rollback_that_makes_no_sense_is_refused(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    with pytest.raises(ReleaseError, match="are on release 1 already"):
        back(releasing, 1)
    with pytest.raises(ReleaseError, match="no release 9; the last is 1"):
        back(releasing, 9)
    with pytest.raises(ReleaseError, match="is one of demo, not of other"):
        rollback(releasing.lake, releasing.marts, "other", 1, code_version="abc")


def test_expired_snapshot_cannot_be_gone_back_to(releasing: Releasing) -> None:
    first = build(releasing.lake, 1)
    releasing.release(first)
    releasing.release(build(releasing.lake, 2))
    lake_connection(releasing.lake).execute(f"call ducklake_expire_snapshots('dl', versions => [{first}])")
    with pytest.raises(ReleaseError, match=f"no snapshot {first}"):
        back(releasing, 1)
    with pytest.raises(ReleaseError, match=f"no snapshot {first}"):
        reproduce(releasing.lake, releasing.marts, "mrt_daily", 1)
    assert releasing.seen() == whole(2)


def test_marks_outlive_the_snapshots_that_hold_them(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    build(releasing.lake, 2)
    pinned = ledger.pinned_snapshots(releasing.marts)
    lake = lake_connection(releasing.lake)
    snapshots = {row[0] for row in lake.execute("select snapshot_id from ducklake_snapshots('dl')").fetchall()}
    expire = sorted(snapshots - pinned - {max(snapshots)})
    lake.execute(f"call ducklake_expire_snapshots('dl', versions => {expire})")
    assert releasing.seen() == whole(1)
    assert ledger.verify(releasing.marts, releasing.lake).anchored == 2  # in the views


def test_reproduction_is_refused_when_the_lakes_files_are_not_those(releasing: Releasing, tmp_path: Path) -> None:
    many = "select 'a' as site, date '2026-11-01' + i::int as day, {}::double as mean from range(1000) t(i)"
    releasing.release(write(releasing.lake, mrt_daily=many.format(1)), models=[DAILY])
    files = sorted(Path(releasing.lake.storage.url).rglob("*.parquet"))
    write(releasing.lake, mrt_daily=many.format(2))
    other = (set(Path(releasing.lake.storage.url).rglob("*.parquet")) - set(files)).pop()
    shutil.copy(other, files[0])
    out = tmp_path / "m.csv"
    with pytest.raises(ReleaseError, match=r"does not reproduce|cannot be read"):
        reproduce(releasing.lake, releasing.marts, "mrt_daily", 1, out)
    files[0].unlink()
    with pytest.raises(ReleaseError, match="cannot be read at snapshot"):
        reproduce(releasing.lake, releasing.marts, "mrt_daily", 1, out)
    assert not out.exists()


def test_row_that_somebody_changed_in_postgres_is_found_and_put_right(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    releasing.query("update marts.mrt_daily set mean = 1.0000000001 where day = '2026-11-02'")
    (problem,) = published_differences(releasing.lake, releasing.marts)
    assert "Mart mrt_daily in PostgreSQL is not what release 1 published" in problem
    releasing.query("drop table marts.mrt_hourly")
    assert len(published_differences(releasing.lake, releasing.marts)) == 2
    releasing.release(write(releasing.lake, other="select 1 as a"))
    assert published_differences(releasing.lake, releasing.marts) == []
    assert releasing.seen() == whole(1)


@pytest.mark.parametrize(
    ("mart", "out", "message"),
    [
        ("mrt_none", None, "Release 1 has no mart mrt_none; it has mrt_daily, mrt_hourly"),
        ("mrt_daily", "m.xlsx", "ends in .xlsx; expected .csv or .parquet"),
        ("mrt_daily", "nowhere/m.csv", "no folder"),
    ],
)
def test_reproduction_that_cannot_be_is_refused(
    releasing: Releasing, tmp_path: Path, mart: str, out: str | None, message: str
) -> None:
    releasing.release(build(releasing.lake, 1))
    with pytest.raises(ReleaseError, match=message):
        reproduce(releasing.lake, releasing.marts, mart, 1, tmp_path / out if out else None)
