"""A COMMIT that stuck while its reply was lost: DuckLake deletes its files; what the next writer does about it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest

from include.lake import catalog, fsck
from include.lake.attach import Lake
from include.lake.fsck import DamageError
from include.lake.listing import open_storage, stored
from include.lake.maintenance import Step, maintain
from tests.faults.postgres_proxy import ADDS_FILES, PostgresProxy, postgres_proxy
from tests.include.lake.small_lake import LATER, SmallLake, missing

EVENTS, FACTS = "bronze.demo_events", "silver.fct_event"
REPLACE_DAYS = (
    "begin",
    "delete from dl.bronze.demo_events where interval_date >= '2026-01-04' and interval_date < '2026-02-10'",
    "insert into dl.bronze.demo_events select 'a', date '2026-01-04' + (range % 37)::int, 5, range from range(500)",
    "commit",
)


@pytest.fixture
def proxy(small: SmallLake, scratch: Path) -> Iterator[PostgresProxy]:
    with postgres_proxy(small.lake.catalog, scratch / small.lake.catalog.database) as proxy:
        yield proxy


def lose(small: SmallLake, proxy: PostgresProxy, *statements: str) -> None:
    proxy.lose_reply(ADDS_FILES)
    by_proxy = dataclasses.replace(small.lake, catalog=proxy.of(small.lake.catalog))
    with pytest.raises(duckdb.Error, match="server closed the connection"), by_proxy.open() as connection:
        for statement in statements:
            connection.execute(statement)
    assert proxy.sprung, "no commit was lost"
    assert [item.problem for item in fsck.check(small.lake).current] != [], "nothing was damaged"


def test_load_whose_commit_was_lost_is_taken_back_and_can_come_again(small: SmallLake, proxy: PostgresProxy) -> None:
    before = small.tables()
    lose(small, proxy, *REPLACE_DAYS)
    with pytest.raises(duckdb.Error, match=r"Cannot open file|No such file"):
        small.tables()
    gone = fsck.missing(small.lake, [EVENTS, FACTS])
    assert {item.file.name for item in gone} == {EVENTS}
    fsck.take_back(small.lake, gone)
    assert small.tables() == before
    assert fsck.check(small.lake, deep=True).current == []
    with small.lake.open(read_only=True) as connection:
        assert connection.execute("select count(*) from dl.bronze.demo_events").fetchone() == (len(before[EVENTS]),)
    small.write(*REPLACE_DAYS)
    again = small.tables()[EVENTS]
    assert sum(row[2] == 5 for row in again) == 500 and len(again) == len(set(again))
    assert small.live(EVENTS)[-1].path.rpartition("month=")[1], "the table is no longer partitioned"


def test_taken_back_load_leaves_deletions_as_they_were(small: SmallLake, proxy: PostgresProxy) -> None:
    """Deletions that the catalog holds itself, that lie in files, and that a lost load put into wider files."""
    small.write(
        "call ducklake_flush_inlined_data('dl')",
        "delete from dl.bronze.demo_events where i = 1003",
        "delete from dl.bronze.demo_events where load_seq = 2 and i % 5 = 0",
        "delete from dl.bronze.demo_events where load_seq = 2 and i % 7 = 0",
    )
    before = small.tables()[EVENTS]
    lose(small, proxy, *REPLACE_DAYS)
    fsck.take_back(small.lake, fsck.missing(small.lake, [EVENTS]))
    assert small.tables()[EVENTS] == before
    assert fsck.check(small.lake, deep=True).current == []
    small.write("delete from dl.bronze.demo_events where i % 3 = 0")
    assert small.tables()[EVENTS] == [row for row in before if row[3] % 3]
    maintain(small.lake, small.marts, now=LATER)
    assert small.tables()[EVENTS] == [row for row in before if row[3] % 3]


def test_only_a_tables_last_commit_is_taken_back(small: SmallLake) -> None:
    first = small.live(EVENTS)[0]
    missing(Path(first.path))
    before = catalog.read(small.lake)
    with pytest.raises(DamageError, match=r"lake fsck --repair[\s\S]*" + first.path):
        fsck.take_back(small.lake, fsck.missing(small.lake, [EVENTS]))
    assert catalog.read(small.lake) == before


def test_builder_settles_its_table_and_forgets_what_it_had_read(small: SmallLake, proxy: PostgresProxy) -> None:
    before = small.tables()
    lose(
        small,
        proxy,
        "begin",
        "insert into dl.silver.fct_event select range, 1, 9 from range(100)",
        "insert into dl.meta.watermarks values ('fct_event', 'demo_events', 9)",
        "commit",
    )
    fsck.settle(small.lake, [FACTS, *fsck.BOOKKEEPING])
    after = small.tables()
    assert after[FACTS] == before[FACTS]
    assert [row[0] for row in after["meta.watermarks"]] == ["fct_other"], "what was lost would count as read"
    newest = catalog.read(small.lake).newest
    fsck.settle(small.lake, [FACTS, *fsck.BOOKKEEPING])
    assert catalog.read(small.lake).newest == newest


def test_builder_leaves_bronze_alone(small: SmallLake) -> None:
    missing(Path(small.live(EVENTS)[0].path))
    fsck.settle(small.lake, [EVENTS])
    assert fsck.check(small.lake).current != []


@pytest.mark.parametrize("away", [0.0, 600.0], ids=["answers again", "stays away"])
def test_flush_whose_commit_was_lost_takes_no_row_with_it(small: SmallLake, proxy: PostgresProxy, away: float) -> None:
    """The catalog gives its rows away in that commit: without their files they would be nowhere."""
    before = small.tables()
    by_proxy = dataclasses.replace(small.lake, catalog=proxy.of(small.lake.catalog))
    proxy.lose_reply(ADDS_FILES, away=away)
    with pytest.raises((duckdb.Error, psycopg.Error), match="server closed the connection"):
        maintain(by_proxy, small.marts, steps=[Step.FLUSH], now=LATER)
    damaged = fsck.check(small.lake).current
    assert bool(damaged) == bool(away)
    fsck.repair(small.lake, fsck.check(small.lake))
    assert small.tables() == before
    (report,) = maintain(small.lake, small.marts, steps=[Step.FLUSH], now=LATER)
    assert report.due and small.tables() == before
    with psycopg.connect(small.lake.catalog.conninfo()) as connection:
        kept = connection.execute("select nspname from pg_namespace where nspname like '%before_flush'").fetchall()
    assert kept == []


def test_folder_of_a_bucket_that_lost_all_its_files_is_empty_and_no_error(s3_lake: Lake) -> None:
    with open_storage(s3_lake) as connection:
        assert stored(s3_lake, connection, [f"{s3_lake.storage.root}bronze/nothing"]) == {}
