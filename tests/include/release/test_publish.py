"""What a release does to the tables in Postgres."""

import psycopg
import pytest

from include.errors import ReleaseError
from include.release import ledger
from include.release.content_hash import Field
from include.release.publish import Mart
from include.release.reproduce import published_differences
from tests.include.release.building import DAILY, Releasing, build, model, whole, write


def test_identity_grants_views_and_indexes_survive(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    releasing.query("create view public.dashboard as select site, max(mean) as top from marts.mrt_daily group by site")
    releasing.query("create index by_mean on marts.mrt_daily (mean); grant select on public.dashboard to marts_reader")
    identity = "select c.oid, c.relacl::text from pg_class c where c.oid = 'marts.mrt_daily'::regclass"
    before = releasing.query(identity)
    for version in (2, 3):
        releasing.release(build(releasing.lake, version))
        assert releasing.query(identity) == before
        assert releasing.query("select top from public.dashboard", "marts_reader") == [(version,)]
    assert releasing.query("select to_regclass('marts.by_mean') is not null") == [(True,)]


def test_table_says_what_it_holds(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    comments = "select col_description('marts.mrt_daily'::regclass, n) from generate_series(0, 3) n"
    assert releasing.query("select obj_description('marts.mrt_daily'::regclass)") == [("About mrt_daily",)]
    assert releasing.query(comments)[1:] == [("What site means",), ("What day means",), ("What mean means",)]
    key = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'marts.mrt_daily'::regclass"
    assert ("PRIMARY KEY (site, day)",) in releasing.query(f"{key} and contype = 'p'")


def test_every_type_arrives_with_the_same_hash(releasing: Releasing) -> None:
    types = {
        "k": "integer",
        "small": "smallint",
        "big": "bigint",
        "yes": "boolean",
        "f": "float",
        "x": "double",
        "money": "decimal(38,10)",
        "words": "text",
        "day": "date",
        "at_time": "time",
        "local": "timestamp",
        "at": "timestamptz",
        "id": "uuid",
    }
    rows = [
        "1, -32768, 9223372036854775807, true, 0.1, 0.1, 1234567890123456789012345678.0123456789, 'é\"; drop table x', "
        "date '2026-11-01', time '23:59:59.999999', timestamp '2026-03-29 02:30:00', "
        "timestamptz '2026-03-29 01:30:00.000001+00', uuid '00000000-0000-0000-0000-000000000001'",
        "2, null, null, null, null, null, null, null, null, null, null, null, null",
        "3, 0, -1, false, '-0.0', '-0.0', 0, '', date '0001-01-01', time '00:00:00', 'infinity', 'infinity', "
        "uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "4, 1, 1, false, 'nan', 'nan', -0.0000000001, '\\N', 'infinity', '12:00:00', '-infinity', '-infinity', null",
        "5, 1, 1, false, 'inf', '-inf', 1, e'a\\nb\\tc\\\\', '-infinity', '12:00:00', null, null, null",
        "6, 1, 1, true, 3.4028235e38, 1.7976931348623157e308, 1, '😀', date '9999-12-31', '12:00:00', null, null, null",
        "7, 1, 1, true, 1e-45, 5e-324, 1, ' ', date '0044-03-15 (BC)', '12:00:00', null, null, null",
    ]
    casts = ", ".join(f'cast(c{i} as {type_}) as "{name}"' for i, (name, type_) in enumerate(types.items()))
    names = ", ".join(f"c{i}" for i in range(len(types)))
    # Each row as text, so that values of one column need no common type before the cast.
    union = " union all ".join(f"select {row}" for row in (_as_text(row) for row in rows))
    all_types = model("mrt_types", ["k"], **types)
    snapshot = write(releasing.lake, mrt_types=f"select {casts} from ({union}) t({names})")
    released = releasing.release(snapshot, models=[all_types])
    assert released.entry.marts["mrt_types"]["rows"] == len(rows)
    assert published_differences(releasing.lake, releasing.marts) == []
    assert releasing.query("select x::text, at::text, words from marts.mrt_types where k = 3") == [
        ("-0", "infinity", "")
    ]
    # A change that only the bits show is a change.
    write(releasing.lake, mrt_types="from dl.gold.mrt_types")
    flipped = write(
        releasing.lake,
        mrt_types="select * replace (case when k = 3 then 0.0::double else x end as x) from dl.gold.mrt_types",
    )
    again = releasing.release(flipped, models=[all_types])
    assert [(item.replaced, item.written) for item in again.published] == [(1, 1)]
    assert releasing.query("select x::text from marts.mrt_types where k = 3") == [("0",)]


def _as_text(row: str) -> str:
    with lake_free() as connection:
        values = connection.execute(f"select {row}").fetchone()
        assert values is not None
        cast = ", ".join(f"cast(v{i} as varchar)" for i in range(len(values)))
        names = ", ".join(f"v{i}" for i in range(len(values)))
        found = connection.execute(f"select {cast} from (select {row}) t({names})").fetchone()
    assert found is not None
    return ", ".join("null" if value is None else "'" + value.replace("'", "''") + "'" for value in found)


def lake_free():
    import duckdb

    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    return connection


def test_awkward_names_are_published(releasing: Releasing) -> None:
    columns = {'na"me; drop table x --': "integer", "größe": "text", "select": "text", "x" * 63: "text"}
    awkward = model('mrt_"odd" é', list(columns)[:1], **columns)
    listed = ", ".join(f"""cast(1 as {t}) as "{n.replace('"', '""')}\"""" for n, t in columns.items())
    changed = listed.replace("cast(1 as text)", "cast(2 as text)")
    releasing.release(write(releasing.lake, **{awkward.name: f"select {listed}"}), models=[awkward])
    releasing.release(write(releasing.lake, **{awkward.name: f"select {changed}"}), models=[awkward])
    two = f"select {listed} union all select {changed.replace('cast(1 as integer)', '2')}"
    releasing.release(write(releasing.lake, **{awkward.name: two}), models=[awkward])
    assert releasing.query('select "größe" from marts."mrt_""odd"" é" order by 1') == [("1",), ("2",)]
    assert releasing.view('select "größe" from dl.marts."mrt_""odd"" é" order by 1') == [("1",), ("2",)]
    assert published_differences(releasing.lake, releasing.marts) == []


REFUSED = [
    ("1 as k, 2::hugeint as n", {"n": "hugeint"}, "column n: HUGEINT cannot be published.*cast it to bigint"),
    ("1 as k, {'a': 1} as n", {"n": "struct(a integer)"}, "column n: STRUCT.* cannot be published"),
    ("1 as k, [1] as n", {"n": "integer[]"}, "column n: INTEGER\\[\\] cannot be published"),
    ("1 as k, 'a' || chr(0) as n", {"n": "text"}, "a text holds a zero byte"),
    ("1 as k, 2 as n", {"n": "bigint"}, "column n: its contract says BIGINT and the lake has INTEGER"),
    ("1 as k, 2 as n", {"n": "biggint"}, "DuckDB knows no type 'biggint'"),
    ("1 as k, 2 as n", {"n": ""}, "column n has no data_type"),
    ("1 as k, 2 as n, 3 as o", {"n": "integer"}, "column o is in the lake and not in its contract"),
    ("1 as k", {"n": "integer"}, "column n is in its contract and not in the lake"),
    (f"1 as k, 2 as {'é' * 35}", {"é" * 35: "integer"}, "has 70 bytes and PostgreSQL cuts names at 63"),
    ("null::integer as k, 2 as n", {"n": "integer"}, "1 rows have a null in the key"),
    ("i // 2 as k, 2 as n from range(4) t(i)", {"n": "integer"}, r"its key \(k\) is not unique"),
]


def test_what_postgres_cannot_hold_is_refused_by_name(releasing: Releasing) -> None:
    kept = model("mrt_kept", ["k"], k="integer")
    for query, contract, message in REFUSED:
        refused = model("mrt_new", ["k"], k="bigint" if "range" in query else "integer", **contract)
        snapshot = write(releasing.lake, mrt_kept="select 1 as k", mrt_new=f"select {query}")
        with pytest.raises(ReleaseError, match=message):
            releasing.release(snapshot, models=[kept, refused])
    assert releasing.query("select to_regclass('marts.mrt_new'), to_regclass('marts.mrt_kept')") == [(None, None)]
    assert ledger.entries(releasing.marts) == []


@pytest.mark.parametrize("name", ["ctid", "XMIN"])
def test_column_that_postgres_keeps_to_itself_is_refused(name: str) -> None:
    # Not through a lake: DuckLake's catalog fails on such a name as well, and tries for minutes before it says so.
    with pytest.raises(ReleaseError, match=f"column name {name} to itself"):
        Mart("m", ("k",), (Field("k", "INTEGER"), Field(name, "INTEGER")))


@pytest.mark.parametrize("key", [[], ["nothing"]])
def test_mart_without_a_key_is_refused(releasing: Releasing, key: list[str]) -> None:
    with pytest.raises(ReleaseError, match=r"key"):
        releasing.release(write(releasing.lake, m="select 1 as k"), models=[model("m", key, k="integer")])


def test_duplicate_key_in_a_later_release_leaves_the_earlier(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    twice = write(releasing.lake, mrt_daily="from dl.gold.mrt_daily union all from dl.gold.mrt_daily")
    with pytest.raises(ReleaseError, match=r"mrt_daily: its key \(site, day\) is not unique"):
        releasing.release(twice)
    assert releasing.seen() == whole(1)


# --- columns that come, change and go -----------------------------------------------------------------------------


def test_new_column_is_added_and_filled(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1), models=[DAILY])
    releasing.query("create view public.dashboard as select site, mean from marts.mrt_daily")
    wider = model("mrt_daily", ["site", "day"], site="text", low="integer", day="date", mean="double")
    snapshot = write(releasing.lake, mrt_daily="select site, 7 as low, day, mean from dl.gold.mrt_daily")
    released = releasing.release(snapshot, models=[wider])
    assert released.published[0].changes == ('alter table marts."mrt_daily" add column "low" integer',)
    assert releasing.query("select distinct low from marts.mrt_daily", "marts_reader") == [(7,)]
    assert releasing.query("select count(*) from public.dashboard") == [(5,)]


def test_column_that_left_the_mart_goes_unless_a_view_reads_it(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1), models=[DAILY])
    narrower = model("mrt_daily", ["site", "day"], site="text", day="date")
    snapshot = write(releasing.lake, mrt_daily="select site, day from dl.gold.mrt_daily")
    releasing.query("create view public.dashboard as select site, mean from marts.mrt_daily")
    with pytest.raises(ReleaseError, match=r"column mean is no longer in the mart.*dashboard"):
        releasing.release(snapshot, models=[narrower])
    assert releasing.query("select count(mean) from public.dashboard") == [(5,)]
    releasing.query("drop view public.dashboard")
    releasing.release(snapshot, models=[narrower])
    assert "mean" not in _columns(releasing)


def test_column_that_somebody_added_by_hand_is_not_dropped(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1), models=[DAILY])
    releasing.query("alter table marts.mrt_daily add column note text")
    with pytest.raises(ReleaseError, match="has a column note that no release made"):
        releasing.release(build(releasing.lake, 2), models=[DAILY])
    assert "note" in _columns(releasing)


def test_type_is_widened_in_place_and_nothing_else(releasing: Releasing) -> None:
    def released(type_: str) -> None:
        mart = model("m", ["k"], k="integer", n=type_)
        releasing.release(write(releasing.lake, m=f"select 1 as k, cast(2 as {type_}) as n"), models=[mart])

    released("integer")
    released("bigint")
    assert _columns(releasing, "m")["n"] == "bigint"
    released("integer")  # as after a rollback: bigint holds it
    assert _columns(releasing, "m")["n"] == "bigint"
    with pytest.raises(ReleaseError, match=r"column n: PostgreSQL has bigint and the mart says text.*drop column"):
        released("text")
    releasing.query("alter table marts.m drop column n")
    released("text")
    assert _columns(releasing, "m")["n"] == "text"


def test_changed_key_is_the_new_primary_key(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1), models=[DAILY])
    by_day = model("mrt_daily", ["day"], site="text", day="date", mean="double")
    releasing.release(build(releasing.lake, 2), models=[by_day])
    query = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'marts.mrt_daily'::regclass"
    assert releasing.query(f"{query} and contype = 'p'") == [("PRIMARY KEY (day)",)]


def test_long_query_stops_a_change_of_columns_with_a_sentence(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.release.publish.LOCK_TIMEOUT_SECONDS", 1)
    releasing.release(build(releasing.lake, 1))
    wider = model("mrt_daily", ["site", "day"], site="text", day="date", mean="double", low="integer")
    with psycopg.connect(releasing.marts.conninfo()) as reader:
        reader.execute("select count(*) from marts.mrt_daily")
        # Rows are replaced under the reader's eyes; only new columns must wait.
        releasing.release(build(releasing.lake, 2))
        snapshot = write(releasing.lake, mrt_daily="select *, 7 as low from dl.gold.mrt_daily")
        with pytest.raises(ReleaseError, match="its columns change, and a long query has been reading it"):
            releasing.release(snapshot, models=[wider])
    assert releasing.seen() == whole(2)
    assert releasing.release(snapshot, models=[wider]).created


def _columns(releasing: Releasing, table: str = "mrt_daily") -> dict[str, str]:
    query = "select column_name, data_type from information_schema.columns where table_schema = 'marts'"
    return dict(releasing.query(f"{query} and table_name = '{table}'"))


# --- who may do what ----------------------------------------------------------------------------------------------


def test_reading_role_reads_and_does_nothing_else(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    assert releasing.query("select count(*) from marts.mrt_daily", "marts_reader") == [(5,)]
    assert releasing.query("select count(*) from ledger.releases", "marts_reader") == [(1,)]
    for statement in (
        "insert into marts.mrt_daily values ('x', '2026-01-01', 1)",
        "update marts.mrt_daily set mean = 0",
        "delete from marts.mrt_daily",
        "truncate marts.mrt_daily",
        "drop table marts.mrt_daily",
        "create table marts.mine (a int)",
        "create table ledger.mine (a int)",
        "insert into ledger.releases select * from ledger.releases",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            releasing.query(statement, "marts_reader")


def test_publishing_role_reaches_no_other_database(releasing: Releasing, server) -> None:
    for database in ("lake_catalog", "airflow"):
        target = server.as_role("marts_publisher", database)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(target.conninfo(), password=target.password)
