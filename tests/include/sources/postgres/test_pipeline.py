"""An operational database into bronze: exactly, whatever happens at the source between two loads."""

import dataclasses
import json
import random
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.connections import Storage
from include.errors import SourceError
from include.interval import Interval
from include.local.postgres import LocalPostgres
from include.sources.errors import SchemaError, SitesError
from include.sources.postgres.client import Patience
from include.sources.postgres.databases import Database
from include.sources.postgres.streams import Reconcile, Stream
from tests.conftest import fresh_database
from tests.include.sources.postgres.conftest import ITEMS, QUICK, World, at, connection_of, days

DAYS = days(1, 4)
BY_DAYS = dataclasses.replace(ITEMS, reconcile=Reconcile.DAYS)


def reason(world: World, interval: Interval = DAYS, **options: Any) -> str:
    """What a load that must fail says."""
    with pytest.raises(SitesError) as failed:
        world.ingest(interval, **options)
    assert world.reader.password not in str(failed.value)
    return str(failed.value)


def test_first_load_takes_all_that_was_changed_before_its_end_page_by_page(world: World) -> None:
    for item in range(1, 12):
        world.put(item, at(item))
    seen: list[int] = []
    result = world.ingest(days(9, 11), progress=lambda _, rows: seen.append(rows))
    assert world.live() == world.source(at(11, 0))
    assert len(world.live()) == 10
    assert seen == [3, 6, 9, 10]
    assert world.windows() == {9: 1, 10: 1}
    assert (result.sites[0].records, result.load_seq) == (10, 1)


def test_every_type_lands_exactly(world: World) -> None:
    world.execute("create type app.colour as enum ('red')")
    world.execute(
        "create table app.kinds (id int primary key, small smallint, big bigint, flag boolean, narrow real, "
        "wide double precision, money numeric(12, 2), digits numeric(38, 10), any_digits numeric, day date, "
        "moment timestamptz, milli timestamptz(3), local timestamp, fixed char(3), document jsonb, identity uuid, "
        "bytes bytea, list int[], colour app.colour, clock time, created_at timestamptz, updated_at timestamptz)"
    )
    world.execute(
        "insert into app.kinds values (1, -7, 9223372036854775807, true, 0.1, 0.1, -1234567890.12, "
        "1234567890123456789012345678.0123456789, 0.12345678901234567890123456789012345678901, '1969-12-31', "
        "'2026-11-01 23:59:59.999999+00', '2026-11-01 01:00:00.123+01', '2026-11-01 12:00', 'EUR', "
        """'{"a": [1.10, "ü"]}', '6f1c2d3e-0000-4000-8000-000000000001', '\\x00ff', '{1,2}', 'red', '12:34:56', """
        "'2026-11-01', '2026-11-01')"
    )
    world.execute("insert into app.kinds (id, created_at, updated_at) values (2, '2026-11-01', '2026-11-01')")
    kinds = Stream("shop", "kinds", ("id",))
    world.ingest(days(1, 2), kinds)
    world.ingest(days(1, 2), kinds)  # and has the types that the next load expects
    columns = {
        name: kind for name, kind, *_ in world.rows("describe (select * from bronze.shop_kinds)") if name != "site"
    }
    assert {name: columns[name] for name in ("small", "id", "big", "flag", "narrow", "wide")} == {
        "small": "SMALLINT",
        "id": "INTEGER",
        "big": "BIGINT",
        "flag": "BOOLEAN",
        "narrow": "DOUBLE",
        "wide": "DOUBLE",
    }
    assert (columns["money"], columns["digits"], columns["any_digits"]) == (
        "DECIMAL(12,2)",
        "DECIMAL(38,10)",
        "VARCHAR",
    )
    assert (columns["moment"], columns["local"], columns["day"]) == ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "DATE")
    (row,) = world.rows(
        "select small, big, flag, wide, money, digits, any_digits, day, moment, milli, local, fixed, document, "
        "identity, bytes, list, colour, clock from bronze.shop_kinds where record_id = '1'"
    )
    assert row == (
        -7,
        2**63 - 1,
        True,
        0.1,
        Decimal("-1234567890.12"),
        Decimal("1234567890123456789012345678.0123456789"),
        "0.12345678901234567890123456789012345678901",
        date(1969, 12, 31),
        datetime(2026, 11, 1, 23, 59, 59, 999999, UTC),
        datetime(2026, 11, 1, 0, 0, 0, 123000, UTC),
        datetime(2026, 11, 1, 12),  # noqa: DTZ001
        "EUR",
        '{"a": [1.10, "ü"]}',
        "6f1c2d3e-0000-4000-8000-000000000001",
        b"\x00\xff",
        "{1,2}",
        "red",
        "12:34:56",
    )
    (nulls,) = world.rows("select small, money, document from bronze.shop_kinds where record_id = '2'")
    assert nulls == (None, None, None)


@pytest.mark.parametrize("overlap", [pytest.param(0, marks=pytest.mark.torture), 2])
def test_any_order_and_repetition_of_intervals_ends_in_the_same_rows(
    world: World, server: LocalPostgres, overlap: int, tmp_path: Path
) -> None:
    chance = random.Random(3)
    for item in range(1, 30):
        created = chance.randint(1, 11)
        world.put(item, at(created), updated=at(chance.randint(created, 12)))
    intervals = [days(2, 4), days(6, 7), days(9, 11)]
    orders = [*permutations(intervals), [intervals[1], *intervals, intervals[0]]]
    for number, order in enumerate(orders[:: 2 if overlap else 4]):
        with fresh_database(server, "lake") as catalog:
            lake = dataclasses.replace(world.lake, catalog=catalog, storage=Storage(str(tmp_path / f"lake{number}")))
            for interval in order:
                world.ingest(interval, lake=lake, overlap_days=overlap)
            world.watch = lake.open(read_only=True)
            assert world.live() == world.source(at(11, 0))
            assert set(world.windows()) == {2, 3, 6, 9, 10}
            world.watch.close()
            world.watch = None


@pytest.mark.parametrize("stream", [ITEMS, BY_DAYS], ids=["all keys", "keys of days"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.torture)])
def test_a_source_that_goes_on_is_followed(world: World, stream: Stream, seed: int) -> None:
    chance, known = random.Random(seed), set[int]()
    for today in range(2, 12):
        for _ in range(chance.randint(0, 6)):
            item, moment = chance.randint(1, 12), at(today - 1, chance.randint(0, 23))
            match chance.choice(["put", "put", "put", "soft", "gone"]):
                case "put":
                    created = world.execute("select created_at from app.items where item_id = %s", item)
                    world.put(item, created[0][0] if created else moment, updated=moment, price=chance.random() * 100)
                case "soft":
                    world.execute(
                        "update app.items set deleted_at = %s, updated_at = %s where item_id = %s", moment, moment, item
                    )
                case "gone":
                    world.execute("delete from app.items where item_id = %s", item)
            known.add(item)
        if chance.random() < 0.8 or today == 11:
            world.ingest(days(today - 1, today), stream)
    # Keys of days: what was deleted on other days is found when these are asked again.
    world.ingest(days(1, 11), stream)
    assert world.live() == world.source(at(11, 0))
    assert known


def test_a_load_repeated_changes_nothing_but_its_lineage(world: World) -> None:
    world.put(1, at(1))
    world.put(2, at(2))
    query = "select * exclude (load_seq, fetched_at, _dlt_load_id) from bronze.shop_items order by all"
    world.ingest(days(1, 3))
    before = world.rows(query)
    result = world.ingest(days(1, 3))
    assert world.rows(query) == before
    assert (result.load_seq, result.sites[0].records) == (2, 2)


def test_rows_of_the_overlap_land_only_if_they_are_new(world: World) -> None:
    world.put(1, at(1))
    world.put(2, at(2))
    world.ingest(days(1, 3))
    world.put(3, at(2))  # committed late
    world.put(4, at(3))
    result = world.ingest(days(3, 4))
    assert (result.sites[0].records, result.sites[0].unchanged) == (2, 1)
    assert world.rows("select record_id, load_seq from bronze.shop_items where record_id is not null order by 1") == [
        ("1", 1),
        ("2", 1),
        ("3", 2),
        ("4", 2),
    ]


@pytest.mark.parametrize("following", [3, 7], ids=["the day after", "days later"])
def test_what_commits_after_the_load_is_found_by_the_next(world: World, following: int) -> None:
    world.put(1, at(1))
    with psycopg.connect(world.owner.info.dsn) as slow:
        for item, name in ((2, "new"), (1, "changed")):
            slow.execute(
                "insert into app.items values (%s, %s, 1, %s, %s) on conflict (item_id) "
                "do update set name = excluded.name, updated_at = excluded.updated_at",
                [item, name, at(2), at(2)],
            )
        world.ingest(days(1, 3))
        assert {values[1] for values in world.live().values()} == {"item 1"}
        slow.commit()
    world.ingest(days(following, following + 1), overlap_days=1)
    assert world.live() == world.source(at(following + 1, 0))
    assert {values[1] for values in world.live().values()} == {"new", "changed"}


def test_a_row_that_comes_too_late_for_the_overlap_is_found_by_its_key(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 9))
    world.put(2, at(2))
    result = world.ingest(days(9, 10), overlap_days=0)
    assert result.sites[0].found == 1
    assert world.live() == world.source(at(10, 0))


def test_a_soft_delete_is_a_change_like_any_other(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 2))
    world.put(1, at(1), updated=at(5), deleted_at=at(5))
    world.ingest(days(5, 6))
    assert world.rows(
        "select deleted_at, source_deleted_at, interval_date from bronze.shop_items where record_id = '1'"
    ) == [(at(5), None, date(2026, 11, 1))]


def test_a_row_that_is_gone_stays_as_a_tombstone_until_it_is_back(world: World) -> None:
    world.put(1, at(1))
    world.put(2, at(1))
    world.ingest(days(1, 2))
    world.execute("delete from app.items where item_id = 1")
    result = world.ingest(days(2, 3))
    assert result.sites[0].deleted == 1
    ((gone_at, load_seq, name, day),) = world.rows(
        "select source_deleted_at, load_seq, name, interval_date from bronze.shop_items where record_id = '1'"
    )
    assert (gone_at is not None, load_seq, name, day) == (True, 2, "item 1", date(2026, 11, 1))
    assert set(world.live()) == {"2"}
    # Said once, not with each load.
    assert world.ingest(days(3, 4)).sites[0].deleted == 0
    world.put(1, at(1), name="restored")
    assert world.ingest(days(4, 5)).sites[0].found == 1
    assert world.live() == world.source(at(5, 0))


def test_keys_of_a_big_table_are_compared_for_the_days_of_the_load_only(world: World) -> None:
    for item in (1, 2, 3):
        world.put(item, at(item))
    world.ingest(days(1, 4), BY_DAYS)
    world.execute("delete from app.items where item_id in (1, 3)")
    world.ingest(days(4, 5), BY_DAYS, overlap_days=1)
    assert set(world.live()) == {"1", "2"}
    world.ingest(days(1, 2), BY_DAYS)
    assert set(world.live()) == {"2"}


def test_a_table_that_was_emptied_is_refused_unless_told_so(world: World) -> None:
    world.execute(
        "insert into app.items select i, 'x', 1, '2026-11-01', '2026-11-01' from generate_series(1, 250) as s (i)"
    )
    stream = dataclasses.replace(ITEMS, page_rows=1000)
    world.ingest(days(1, 2), stream)
    world.execute("delete from app.items where item_id > 40")
    said = reason(world, days(2, 3), stream=stream)
    assert "210 of 250 rows of shop_items are gone" in said
    assert "--accept-deletes" in said
    assert len(world.live()) == 250
    assert world.ingest(days(2, 3), stream, accept_deletes=True).sites[0].deleted == 210
    assert world.live() == world.source(at(3, 0))


def test_the_day_that_a_record_moved_away_from_is_rebuilt_too(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 3))
    world.put(1, at(2), updated=at(5))
    result = world.ingest(days(5, 6))
    assert result.sites[0].moved == ("2026-11-01",)
    assert world.live() == world.source(at(6, 0))
    changed = world.rows("select distinct interval_date from bronze.shop_items where load_seq = 2 order by 1")
    assert [day.day for (day,) in changed] == [1, 2, 5]


def test_a_new_column_is_taken_in(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 2))
    world.execute("alter table app.items add column weight numeric(8, 3) default 1.5")
    world.put(2, at(2))
    world.ingest(days(2, 3))
    query = "select record_id, weight from bronze.shop_items where record_id is not null order by 1"
    assert world.rows(query) == [("1", None), ("2", Decimal("1.500"))]
    # Rows that were not changed since have it after a load of everything.
    world.ingest(days(2, 3), whole=True)
    assert world.rows(query) == [("1", Decimal("1.500")), ("2", Decimal("1.500"))]


def test_a_column_that_is_gone_is_null_in_what_lands_from_then_on(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 2))
    world.execute("alter table app.items drop column name")
    world.execute("update app.items set updated_at = %s", at(2))
    world.execute("insert into app.items values (2, 1, %s, %s)", at(2), at(2))
    world.ingest(days(2, 3))
    assert world.rows("select name from bronze.shop_items where record_id is not null") == [(None,), (None,)]


def test_a_changed_type_is_refused_and_says_how_to_go_on(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 2))
    world.execute("alter table app.items alter column price type numeric(14, 4)")
    world.put(1, at(1), updated=at(2), price="5.25")
    said = reason(world, days(2, 3))
    for part in ("field 'price'", "numeric(14,4)", "DECIMAL(12,2)", "Nothing of it was loaded", "casts", "--whole"):
        assert part in said
    # The old type.
    cast = dataclasses.replace(ITEMS, casts={"price": "numeric(12,2)"})
    world.ingest(days(2, 3), cast)
    assert world.live()["1"][2] == Decimal("5.25")
    # Or the new one.
    with world.lake.open() as connection:
        connection.execute("alter table bronze.shop_items rename column price to price_before")
    world.ingest(days(2, 3), whole=True)
    assert world.rows("select price, price_before from bronze.shop_items where record_id = '1'") == [
        (Decimal("5.2500"), None)
    ]


def test_a_type_that_no_column_of_the_lake_holds_is_refused_before_anything_is_read(world: World) -> None:
    world.execute("alter table app.items add column load_seq int")
    assert "which bronze uses for itself" in reason(world)
    world.execute('alter table app.items rename column load_seq to "Load"')
    assert "'Load'" in reason(world)


def test_wrong_password_names_database_and_connection_but_no_secret(world: World) -> None:
    wrong = "n0t-the-passw0rd"
    world.connections["shop_db"] = connection_of(world.reader, password=wrong)
    with pytest.raises(SitesError) as failed:
        world.ingest(days(1, 2))
    said = str(failed.value)
    assert "Database shop" in said
    assert "connection shop_db" in said
    assert "password authentication failed" in said
    assert wrong not in said
    assert world.reader.password not in said
    assert not failed.value.retryable


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("drop table app.items", "there is no table"),
        ("alter table app.items drop column updated_at", "no column updated_at, which stream items relies on"),
        ("revoke select on app.items from saas_reader", "permission denied for table items"),
    ],
)
def test_what_the_role_cannot_see_is_a_sentence(world: World, statement: str, said: str) -> None:
    world.execute(statement)
    assert said in reason(world)


def test_a_server_that_is_away_can_be_tried_again(world: World) -> None:
    world.connections["shop_db"] = dataclasses.replace(world.connections["shop_db"], host="127.0.0.1", port=1)
    with pytest.raises(SitesError, match="could not be reached in 3 attempts") as failed:
        world.ingest(days(1, 2))
    assert failed.value.retryable


def test_a_query_that_takes_too_long_is_stopped_at_the_source(world: World) -> None:
    world.put(1, at(1))
    world.execute(
        "alter table app.items rename to slow; create view app.items as select s.* from app.slow s, "
        "(select pg_sleep(3)) as z; grant select on app.items to saas_reader"
    )
    said = reason(world, patience=dataclasses.replace(QUICK, statement_timeout=0.3))
    assert "within 0.3 s (statement timeout)" in said


def test_a_connection_that_is_lost_is_made_again(world: World, server: LocalPostgres) -> None:
    for item in range(1, 12):
        world.put(item, at(1))
    superuser = server.as_role("postgres", "postgres")
    lost = []

    def cut(_: str, rows: int) -> None:
        with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
            lost.extend(
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'saas_reader'"
                )
            )

    world.ingest(days(1, 2), progress=cut, patience=Patience(attempts=5, first_wait=0.01))
    assert lost
    assert world.live() == world.source(at(2, 0))


def test_no_transaction_stays_open_at_the_source_between_pages(world: World, server: LocalPostgres) -> None:
    superuser = server.as_role("postgres", "postgres")
    for item in range(1, 12):
        world.put(item, at(1))
    states: list[tuple[Any, ...]] = []

    def look(_: str, rows: int) -> None:
        with psycopg.connect(superuser.conninfo(), password=superuser.password) as connection:
            states.extend(
                connection.execute(
                    "select state, xact_start, backend_xmin from pg_stat_activity where application_name = 'lakehouse'"
                )
            )

    world.ingest(days(1, 2), progress=look)
    assert len(states) >= 4
    assert set(states) == {("idle", None, None)}


def test_the_source_is_only_ever_read(world: World) -> None:
    world.put(1, at(1))
    # Even by a role that may write: the session itself refuses.
    owner = connection_of(world.reader, login="saas_owner", password=None)
    world.connections["shop_db"] = owner
    world.execute(
        "create sequence app.calls; create function app.writes() returns text language sql volatile as "
        "$$ insert into app.items values (99, 'x', 1, now(), now()) returning name $$; "
        "alter table app.items rename to real_items; create view app.items as select r.*, app.writes() as w "
        "from app.real_items r"
    )
    assert world.execute("select count(*) from app.real_items") == [(1,)]
    with pytest.raises(SitesError, match=r"(read-only transaction|does not exist)"):
        world.ingest(days(1, 2))
    assert world.execute("select count(*) from app.real_items") == [(1,)]


def test_a_database_that_fails_keeps_its_rows_and_the_others_land(world: World) -> None:
    world.put(1, at(1))
    world.connections["other_db"] = connection_of(world.reader, schema="no_such_database")
    both = [*world.databases, Database("other", "other_db", optional=True)]
    result = world.ingest(days(1, 2), databases=both)
    assert [site.site for site in result.sites] == ["shop"]
    assert "Database other" in result.failed[0].reason
    red = [world.databases[0], Database("other", "other_db")]
    with pytest.raises(SitesError, match="The other 1 landed in load 2"):
        world.ingest(days(1, 2), databases=red)


def test_two_databases_share_a_table_and_keep_apart(world: World) -> None:
    world.put(1, at(1))
    world.connections["twin_db"] = world.connections["shop_db"]
    both = [*world.databases, Database("twin", "twin_db")]
    world.ingest(days(1, 2), databases=both)
    world.execute("delete from app.items")
    world.put(2, at(2))
    world.ingest(days(2, 3))
    assert world.rows(
        "select site, record_id, source_deleted_at is null from bronze.shop_items where record_id is not null "
        "order by all"
    ) == [("shop", "1", False), ("shop", "2", True), ("twin", "1", True)]


def test_a_record_without_a_day_is_kept_in_quarantine(world: World) -> None:
    world.execute("alter table app.items add column happened_at timestamptz")
    world.put(1, at(1))
    world.put(2, at(1))
    world.execute("update app.items set happened_at = %s where item_id = 1", at(1))
    stream = dataclasses.replace(ITEMS, day="happened_at")
    result = world.ingest(days(1, 2), stream)
    assert (result.sites[0].records, result.sites[0].undated) == (1, 1)
    ((record_id, payload),) = world.rows("select record_id, payload from quarantine.shop_items")
    assert record_id == "2"
    assert json.loads(payload)["name"] == "item 2"


def test_a_key_that_is_none_is_refused(world: World) -> None:
    world.put(1, at(1), name="same")
    world.put(2, at(1), name="same")
    said = reason(world, stream=Stream("shop", "items", ("name",)))
    assert "(name) is not its key" in said


def test_keys_of_several_columns_and_of_text_are_read_to_the_end(world: World) -> None:
    world.execute(
        "create table app.rates (currency text, day date, rate numeric(18, 8), created_at timestamptz, "
        "updated_at timestamptz, primary key (currency, day)); "
        "insert into app.rates select c, d::date, 1.00000001, d, d from unnest(array['EUR', 'eur', 'a-b', 'Ä']) as c, "
        "generate_series(timestamptz '2026-11-01', '2026-11-05', '1 day') as d"
    )
    stream = Stream("shop", "rates", ("currency", "day"), page_rows=3)
    for interval in (days(1, 4), days(4, 6)):
        world.ingest(interval, stream)
    rows = world.rows("select record_id, rate from bronze.shop_rates where record_id is not null")
    assert len(rows) == len(set(rows)) == 20
    assert ("EUR-2026-11-03", Decimal("1.00000001")) in rows


def test_no_database_is_an_error(world: World) -> None:
    with pytest.raises(SourceError, match="No database to ingest items from"):
        world.ingest(days(1, 2), databases=[])


def test_two_databases_that_disagree_on_a_new_field_are_refused(world: World, server: LocalPostgres) -> None:
    world.put(1, at(1))
    with fresh_database(server, "saas_owner") as other, psycopg.connect(other.conninfo(), autocommit=True) as owner:
        owner.execute(
            "create schema app; create table app.items (item_id bigint primary key, name int, created_at timestamptz, "
            "updated_at timestamptz)"
        )
        world.connections["other_db"] = connection_of(other)
        both = [*world.databases, Database("other", "other_db")]
        with pytest.raises(SchemaError, match="Field 'name' of shop_items is INTEGER at other"):
            world.ingest(days(1, 2), databases=both)


def test_a_page_that_is_being_written_to_loses_no_row(world: World) -> None:
    """Rows that are changed while pages are read move past the end of the interval, and come with the next."""
    for item in range(1, 40):
        world.put(item, at(1))
    stop = threading.Event()

    def writer() -> None:
        with psycopg.connect(world.owner.info.dsn, autocommit=True) as connection:
            chance = random.Random(5)
            while not stop.is_set():
                connection.execute(
                    "update app.items set name = name || '.', updated_at = %s where item_id = %s",
                    [at(5) + timedelta(seconds=chance.randint(0, 9999)), chance.randint(1, 39)],
                )

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        world.ingest(days(1, 3))
    finally:
        stop.set()
        thread.join()
    world.ingest(days(3, 7))
    assert world.live() == world.source(at(7, 0))


def test_rows_land_without_a_table_beside_bronze(world: World) -> None:
    world.put(1, at(1))
    world.ingest(days(1, 2))
    world.put(1, at(1), name="again")
    world.ingest(days(1, 2))
    tables = world.rows("select schema_name, table_name from duckdb_tables() where database_name = 'dl'")
    assert {schema for schema, table in tables if table == "shop_items"} == {"bronze"}
    assert [values[1] for values in world.live().values()] == ["again"]
    loads = world.rows("select distinct _dlt_load_id from bronze.shop_items")
    assert loads == world.rows("select load_id from bronze._dlt_loads order by inserted_at desc limit 1")
