"""An API into bronze: exactly, whatever it answers."""

import dataclasses
import json
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.connections import Connection, Storage
from include.errors import SourceError
from include.interval import Interval
from include.local.postgres import LocalPostgres
from include.sources.errors import SitesError
from include.sources.listing import Listed
from include.sources.subjects import Subject
from tests.conftest import fresh_database
from tests.include.sources.rest.conftest import CURSOR, EVENTS, ORDERS, SECRET, World, days, moment, order

DAYS = days(1, 4)


def reason(world: World, interval: Interval = DAYS, **options: Any) -> str:
    """What a load that must fail says."""
    with pytest.raises(SitesError) as failed:
        world.ingest(interval, **options)
    text = str(failed.value)
    assert SECRET not in text
    assert "Site north (connection shop_north)" in text
    return text


def test_values_land_exactly(world: World) -> None:
    world.api.lists["orders"] = [
        order(
            1,
            1,
            total="=1234567890.10",
            rate="=0.123456789",
            count=3,
            isPaid=True,
            customerId="c-1",
            lines=[{"price": "=1.10"}],
            note=None,
            site="theirs",
            created_at="2026-11-02T00:30:00+01:00",
            updated_at="2026-11-01T12:00:00.123456Z",
        ),
        order(2, 1, total="9.90", note="x\u0000y"),
    ]
    world.ingest(days(1, 2), CURSOR)
    world.ingest(days(1, 2), CURSOR)  # and has the types that the next load expects
    (row,) = world.rows(
        "select interval_date, total, rate, count, is_paid, customer_id, lines, note, site, site_2, created_at, "
        "updated_at, id from bronze.shop_orders where record_id = '1'"
    )
    assert row == (
        date(2026, 11, 1),
        Decimal("1234567890.10"),
        Decimal("0.123456789"),
        Decimal(3),
        True,
        "c-1",
        '[{"price":1.10}]',
        None,
        "north",
        "theirs",
        datetime(2026, 11, 1, 23, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 12, 0, 0, 123456, UTC),
        1,
    )
    assert world.rows("select total, note from bronze.shop_orders where record_id = '2'") == [
        (Decimal("9.90"), "x\N{REPLACEMENT CHARACTER}y")
    ]
    (lineage,) = world.rows(
        "select load_seq, interval_start, interval_end, fetched_at > interval_end - interval 30 day, _dlt_load_id is "
        "not null from bronze.shop_orders where record_id = '1'"
    )
    assert lineage == (2, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), True, True)


def test_any_order_and_repetition_of_intervals_ends_in_the_same_rows(
    world: World, server: LocalPostgres, tmp_path: Path
) -> None:
    world.api.lists["orders"] = [order(n, 1 + n % 5, 1 + n % 5 + n % 4) for n in range(20)]
    expected = sorted(str(each["id"]) for each in world.api.lists["orders"] if each["updated_at"] < moment(6, 0))
    intervals = [days(1, 3), days(3, 4), days(4, 6)]
    orders = [*list(permutations(intervals))[::3], [days(1, 6)], [*intervals, intervals[0]]]
    for number, order_ in enumerate(orders):
        with fresh_database(server, "lake") as catalog:
            lake = dataclasses.replace(world.lake, catalog=catalog, storage=Storage(str(tmp_path / f"lake{number}")))
            for interval in order_:
                world.ingest(interval, CURSOR, lake=lake)
            world.watch = lake.open(read_only=True)
            assert [record_id for record_id, _ in world.live()] == expected
            assert set(world.windows()) == {1, 2, 3, 4, 5}
            world.watch.close()
            world.watch = None


def test_late_records_come_with_the_overlap_and_known_ones_are_left(world: World) -> None:
    world.api.lists["orders"] = [order(1, 2), order(2, 3)]
    world.ingest(days(2, 4), CURSOR)
    world.api.lists["orders"] += [order(3, 3), order(4, 4)]
    result = world.ingest(days(4, 5), CURSOR)
    assert (result.sites[0].records, result.sites[0].unchanged) == (2, 1)
    assert [record_id for record_id, _ in world.live()] == ["1", "2", "3", "4"]
    assert world.windows() == {2: 1, 3: 1, 4: 1}


def test_a_changed_record_replaces_itself_on_the_day_it_was_made(world: World) -> None:
    world.api.lists["orders"] = [order(1, 1)]
    world.ingest(days(1, 2), CURSOR)
    world.api.lists["orders"] = [order(1, 1, 3, total="=20.00")]
    world.ingest(days(3, 4), CURSOR)
    assert world.live("record_id, interval_date, total, load_seq") == [("1", date(2026, 11, 1), Decimal("20.00"), 2)]


def test_an_event_that_is_answered_no_more_is_gone_and_may_come_back(world: World) -> None:
    world.api.lists["events"] = [{"id": n, "at": moment(n)} for n in (1, 2, 3)]
    world.ingest(days(1, 4), EVENTS)
    del world.api.lists["events"][1]
    result = world.ingest(days(2, 3), EVENTS)
    assert result.sites[0].deleted == 1
    assert world.live("record_id", "shop_events") == [("1",), ("3",)]
    world.api.lists["events"].append({"id": 2, "at": moment(2)})
    world.ingest(days(2, 3), EVENTS)
    assert world.live("record_id", "shop_events") == [("1",), ("2",), ("3",)]


def test_most_events_gone_at_once_are_not_believed(world: World) -> None:
    world.api.lists["events"] = [{"id": n, "at": moment(1)} for n in range(300)]
    world.ingest(days(1, 2), EVENTS)
    world.api.lists["events"] = []
    assert "300 of 300 records of events no more" in reason(world, days(1, 2), stream=EVENTS)
    assert len(world.live("record_id", "shop_events")) == 300
    assert world.ingest(days(1, 2), EVENTS, accept_deletes=True).sites[0].deleted == 300


def test_one_load_is_one_change_of_the_table(world: World) -> None:
    world.api.lists["orders"] = [order(n, 1) for n in range(5)]
    world.ingest(days(1, 2), CURSOR)
    world.ingest(days(1, 2), CURSOR)
    states = set()
    for (version,) in world.rows("select snapshot_id from dl.snapshots()"):
        with suppress(duckdb.CatalogException):  # before there was a table
            query = "select count(*), min(load_seq), max(load_seq) from bronze.shop_orders"
            states.update(world.rows(f"{query} at (version => {version})"))
    # Five records and a window row: nobody ever sees a part of them.
    assert states - {(0, None, None)} == {(6, 1, 1), (6, 2, 2)}


def test_records_without_a_time_are_kept_apart_until_they_have_one(world: World) -> None:
    world.api.lists["events"] = [{"id": 1, "at": moment(1)}, {"id": 2, "at": "soon"}]
    stream = dataclasses.replace(EVENTS, since_param=None, until_param=None)
    result = world.ingest(days(1, 2), stream)
    assert (result.sites[0].records, result.sites[0].undated) == (1, 1)
    ((rules, payload),) = world.rows("select rules, payload from quarantine.shop_events")
    assert (rules, json.loads(payload)) == (["states_a_day"], {"id": 2, "at": "soon"})
    world.api.lists["events"][1]["at"] = moment(1)
    world.ingest(days(1, 2), stream)
    assert world.rows("select count(*) from quarantine.shop_events") == [(0,)]


def test_a_record_that_comes_twice_lands_as_it_was_changed_last(world: World) -> None:
    world.api.lists["orders"] = [order(1, 1, 1), order(2, 1), order(1, 1, 2, total="=2.00")]
    world.ingest(days(1, 3), CURSOR)
    assert world.live("record_id, total") == [("1", Decimal("2.00")), ("2", Decimal("9.99"))]


def test_new_fields_are_added_and_those_that_go_stay_null(world: World) -> None:
    world.api.lists["orders"] = [order(1, 1, old="x")]
    world.ingest(days(1, 2), CURSOR)
    world.api.lists["orders"] = [order(2, 2, new=True)]
    world.ingest(days(2, 3), CURSOR)
    assert world.live("record_id, old, new") == [("1", "x", None), ("2", None, True)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"flag": "yes"}, "field 'flag' is text, expected BOOLEAN"),
        ({"total": "=9.999"}, "field 'total' is a number that it cannot hold exactly, expected DECIMAL(12,2)"),
        ({"note": 5}, "field 'note' is a number, expected VARCHAR"),
        ({"created_at": 17}, None),
        ({"rate": "=0.12345678901"}, "field 'rate' is a number that it cannot hold exactly"),
    ],
)
def test_a_changed_type_is_refused_and_nothing_lands(world: World, values: dict[str, Any], said: str | None) -> None:
    world.api.lists["orders"] = [order(1, 1, flag=True, note="x")]
    world.ingest(days(1, 2), CURSOR)
    world.api.lists["orders"] = [order(2, 2, **values)]
    if said is None:  # a number is a time too, though one of 1970
        world.ingest(days(2, 3), CURSOR)
        assert world.live()[1][1] == date(1970, 1, 1)
        return
    text = reason(world, days(2, 3), stream=CURSOR)
    assert said in text
    assert "include/sources/shop/streams.py" in text
    assert [record_id for record_id, _ in world.live()] == ["1"]


def test_another_declared_type_than_bronze_holds_is_refused(world: World) -> None:
    world.api.lists["orders"] = [order(1, 1)]
    world.ingest(days(1, 2), CURSOR)
    with pytest.raises(SitesError, match=r"is DECIMAL\(12,2\), but stream orders declares it as DOUBLE"):
        world.ingest(days(1, 2), dataclasses.replace(CURSOR, types={"total": "DOUBLE"}))


def test_pages_of_a_whole_answer_land_together(world: World) -> None:
    world.api.lists["orders"] = [order(number, 1 + number // 3) for number in range(9)]
    seen: list[int] = []
    result = world.ingest(days(1, 3), CURSOR, progress=lambda _, rows: seen.append(rows))
    assert [int(record_id) for record_id, _ in world.live()] == [0, 1, 2, 3, 4, 5]
    assert (result.sites[0].records, world.windows(), seen) == (6, {1: 3, 2: 3}, [2, 4, 6])


def test_an_answer_that_breaks_off_lands_nothing(world: World) -> None:
    world.api.fault = lambda _: (200, {}, b'{"data": [{"id": 1')
    text = reason(world, stream=CURSOR)
    assert "JSON that breaks off or cannot be read" in text
    assert "Nothing was loaded" in text
    assert world.rows("select * from duckdb_tables() where table_name = 'shop_orders'") == []


def test_an_api_that_fails_keeps_its_rows_and_the_others_land(world: World) -> None:
    world.api.lists["orders"] = [order(1, 1)]
    world.apis.append(Listed("south", "shop_south"))
    world.connections["shop_south"] = Connection("shop_south", host="http://127.0.0.1:9", password=SECRET)
    with pytest.raises(
        SitesError, match=r"1 of 2 sites failed for shop_orders\. The other 1 landed in load 1"
    ) as failed:
        world.ingest(days(1, 2), CURSOR)
    assert failed.value.retryable
    assert "Site south (connection shop_south) GET /orders failed 3 times" in str(failed.value)
    assert len(world.live()) == 1
    optional = [world.apis[0], Listed("south", "shop_south", optional=True)]
    assert world.ingest(days(1, 2), CURSOR, apis=optional).failed[0].optional


def test_somebody_who_was_erased_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.lake import erasures

    stream = dataclasses.replace(CURSOR, subject=Subject(("site", "customer_id")))
    world.connections["shop_pseudonym"] = Connection("shop_pseudonym", password="k" * 32)
    world.api.lists["orders"] = [order(1, 1, customerId=7), order(2, 1, customerId=8)]
    with world.lake.open() as connection:
        erasures.begin(connection, "shop", erasures.subject_hash("k" * 32, "north/7"), "test")
    world.ingest(days(1, 2), stream)
    assert world.live("record_id") == [("2",)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": ()}, "has no key"),
        ({"key": ("orderId",)}, "goes by orderId; expected the names of columns: order_id"),
        ({"path": "https://elsewhere/orders"}, "the address belongs into the connection"),
        ({"paging": {"page": 1}}, "has paging option page"),
        ({"types": {"total": "MONEY"}}, "Column total of stream orders: 'MONEY' is no type"),
        ({"types": {"updated_at": "VARCHAR"}}, "must be TIMESTAMPTZ"),
        ({"page_size": 0}, "needs page_size above 0"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_where_it_is_written(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(ORDERS, **changes)


def test_no_api_is_an_error(world: World) -> None:
    with pytest.raises(SourceError, match="No API to ingest orders from"):
        world.ingest(days(1, 2), apis=[])
