"""Real losses: the folder, PostgreSQL, both. What comes back is every row, and it is what the ledger says."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from include.connections import Postgres, Storage
from include.errors import ReleaseError
from include.interval import Interval
from include.lake import writers
from include.lake.attach import Lake
from include.lake.backup import BackupError, Location, backup
from include.lake.database_dump import DumpError
from include.lake.restore import RestoreError, drill, plan, restore, restore_aside
from include.layers import Layer
from include.local.nightscout import demo_sites, serve
from include.local.postgres import LocalPostgres
from include.release import ledger, reproduce
from tests.conftest import fresh_database, lake_in
from tests.include.release.building import Releasing, build, close_lake, whole, write
from tests.pipeline.flow import TABLES, Flow

FIRST = date(2026, 5, 4)
DAY = timedelta(days=1)
BIG = "select 'a' as site, date '2026-11-01' + (i % 9)::int as day, i::double as mean from range(30000) t(i)"


# --- the whole flow ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow(
    server: LocalPostgres, extensions: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flow]:
    """A release of a demo day and its backup."""
    home = tmp_path_factory.mktemp("flow")
    with ExitStack() as stack:
        catalog = stack.enter_context(fresh_database(server, "lake"))
        marts = stack.enter_context(fresh_database(server, "marts_publisher"))
        lake = lake_in(home, catalog, extensions)
        flow = Flow(
            lake, marts, home, stack.enter_context(serve(demo_sites(FIRST - DAY, FIRST + 2 * DAY, secret_seed="test")))
        )
        flow.run(FIRST, FIRST + DAY)
        made = backup(lake, marts, place(flow), keep=7, code_version="test")
        assert made.files and len(made.releases) == 1
        yield flow


def place(flow: Flow) -> Storage:
    return Storage(str(flow.home / "backup"))


def bring_flow_back(flow: Flow, **changes):
    # The processes that wrote have ended when somebody restores; here they are this one, and dlt keeps its connection.
    for session in writers._sessions().values():
        session.connection.close()
    writers._sessions().clear()
    return restore(flow.lake, flow.marts, place(flow), code_version="test", **changes)


def lose_folder(server: LocalPostgres, flow: Flow) -> None:
    shutil.rmtree(flow.lake.storage.url)
    with pytest.raises(ReleaseError, match="restore them from a backup"):
        reproduce.reproduce(flow.lake, flow.marts, "mrt_glucose_readings", 1)


def lose_postgres(server: LocalPostgres, flow: Flow) -> None:
    lose_databases(server, flow.lake.catalog, flow.marts)
    assert ledger.entries(flow.marts) == []


def lose_both(server: LocalPostgres, flow: Flow) -> None:
    lose_folder(server, flow)
    lose_postgres(server, flow)


def lose_databases(server: LocalPostgres, *databases: Postgres) -> None:
    with psycopg.connect(server.as_role("postgres", "postgres").conninfo(), autocommit=True) as connection:
        for each in databases:
            name, owner = sql.Identifier(each.database), sql.Identifier(each.user)
            connection.execute(sql.SQL("drop database {} with (force)").format(name))
            connection.execute(sql.SQL("create database {} owner {}").format(name, owner))
            connection.execute(sql.SQL("grant connect on database {} to marts_reader").format(name))


@pytest.mark.torture
@pytest.mark.parametrize("lose", [lose_folder, lose_postgres, lose_both])
def test_every_row_comes_back_after(lose: Callable, flow: Flow, server: LocalPostgres) -> None:
    before = (flow.lake_rows(), flow.published_rows(), flow.view_rows(), ledger.read(flow.marts))
    assert all(before[1][mart] for mart in ("mrt_daily_glycaemia", "mrt_glucose_readings"))
    lose(server, flow)
    done = bring_flow_back(flow, overwrite=lose is lose_folder)
    assert done.compared.marts == len(TABLES["gold"])
    assert done.compared.rows == sum(map(len, before[1].values()))
    assert (flow.lake_rows(), flow.published_rows(), flow.view_rows(), ledger.read(flow.marts)) == before
    assert done.files == (0 if lose is lose_postgres else len(done.manifest.files))


@pytest.mark.torture
def test_restored_lakehouse_takes_the_next_day(flow: Flow, server: LocalPostgres) -> None:
    """The last test of this flow: what was restored is not only read."""
    lose_both(server, flow)
    bring_flow_back(flow)
    readings = "select count(*) from silver.fct_cgm_reading"
    before = flow.query(readings)
    flow.ingest(Interval.of_days(FIRST + DAY, FIRST + 2 * DAY), ["entries"])
    flow.dbt(Layer.BRONZE, Layer.SILVER)
    assert flow.query(readings) > before
    with psycopg.connect(flow.marts.conninfo()) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("delete from ledger.releases")


# --- small releases, made by hand -------------------------------------------------------------------------------------


def make(releasing: Releasing, backups: Storage):
    return backup(releasing.lake, releasing.marts, backups, keep=7, code_version="abc")


def bring_back(releasing: Releasing, backups: Storage, at: str = "latest", **changes):
    close_lake()
    return restore(releasing.lake, releasing.marts, backups, at, code_version="abc", **changes)


@pytest.fixture
def one_backup(releasing: Releasing, backups: Storage) -> Storage:
    """A backup of release 1 and of a table that is in a file."""
    write(releasing.lake, staging=BIG)
    releasing.release(build(releasing.lake, 1))
    make(releasing, backups)
    return backups


@pytest.fixture
def two_backups(releasing: Releasing, backups: Storage) -> Storage:
    """A backup after release 1, another after releases 2 and 3."""
    releasing.release(build(releasing.lake, 1))
    make(releasing, backups)
    for version in (2, 3):
        releasing.release(build(releasing.lake, version))
    make(releasing, backups)
    return backups


def test_restore_at_a_release_shows_readers_that_release(releasing: Releasing, two_backups: Storage) -> None:
    for release_id, entry in (("2", 4), ("3", None)):
        dry = plan(releasing.lake, releasing.marts, two_backups, release_id)
        done = bring_back(releasing, two_backups, release_id, overwrite=True)
        assert dry.roll_back_to == (2 if release_id == "2" else None)
        assert done.release_id == entry
        assert releasing.seen() == whole(int(release_id))
    older = Location(two_backups, releasing.lake.temp_directory).ids()[0]
    assert bring_back(releasing, two_backups, older, overwrite=True).release_id is None
    assert releasing.seen() == whole(1)
    assert [entry.release_id for entry in ledger.entries(releasing.marts)] == [1]
    with pytest.raises(BackupError, match="holds release 9; they hold releases 1 to 3"):
        bring_back(releasing, two_backups, "9")
    with pytest.raises(BackupError, match="no backup 2020"):
        bring_back(releasing, two_backups, "20200101T000000Z")
    with pytest.raises(BackupError, match="holds no backup"):
        bring_back(releasing, Storage("/nowhere/at/all"))
    # An older state is a state to go on from.
    assert releasing.release(build(releasing.lake, 7)).release_id == 2
    assert releasing.seen() == whole(7)


def test_lake_that_holds_something_is_kept_unless_told_otherwise(releasing: Releasing, backups: Storage) -> None:
    releasing.release(build(releasing.lake, 1))
    make(releasing, backups)
    releasing.release(build(releasing.lake, 2))
    loses = r"2 tables at snapshot.*2 entries, of which 2 came after the backup.*marts.*: 2 tables"
    assert "; ".join(plan(releasing.lake, releasing.marts, backups).loses)
    with pytest.raises(RestoreError, match=rf"(?s){loses}.*--replace"):
        bring_back(releasing, backups)
    assert releasing.seen() == whole(2)
    bring_back(releasing, backups, overwrite=True)
    assert releasing.seen() == whole(1)


def set_up(releasing: Releasing) -> None:
    """As `make setup` does."""
    with releasing.lake.open() as connection:
        connection.execute("create schema gold; create schema silver")
    ledger.ensure(releasing.marts)


def test_database_that_was_only_set_up_again_is_nothing_to_lose(
    releasing: Releasing, one_backup: Storage, server: LocalPostgres
) -> None:
    close_lake()
    lose_databases(server, releasing.lake.catalog, releasing.marts)
    set_up(releasing)
    bring_back(releasing, one_backup)
    assert releasing.seen() == whole(1)


def test_damaged_backup_is_found_before_anything_is_touched(releasing: Releasing, one_backup: Storage) -> None:
    close_lake()
    shutil.rmtree(releasing.lake.storage.url)
    for what in ("files/gold/staging/*", "backups/*/catalog.zip", "backups/*/marts.zip"):
        (file,) = (path for path in Path(one_backup.url).rglob(what) if path.is_file())
        intact, changed = file.read_bytes(), bytearray(file.read_bytes())
        changed[len(changed) // 2] ^= 1
        for content, says in ((changed, "is damaged"), (intact[:-1], "is damaged"), (None, "is missing")):
            file.unlink() if content is None else file.write_bytes(content)
            with pytest.raises(BackupError, match=rf"cannot be trusted: \S*{file.name} {says}.*Nothing was touched"):
                bring_back(releasing, one_backup, overwrite=True)
        assert not Path(releasing.lake.storage.url).exists()
        if what.endswith("marts.zip"):
            with pytest.raises(BackupError, match="is missing"):
                drill(releasing.lake, releasing.marts, one_backup)
        file.write_bytes(intact)
    assert releasing.query("select count(*) from ledger.releases") == [(1,)]
    (listed,) = Location(one_backup, releasing.lake.temp_directory).listed()
    assert listed.drill is not None and listed.drill["success"] is False
    bring_back(releasing, one_backup, overwrite=True)
    assert releasing.seen() == whole(1)


def test_damaged_file_of_the_lake_is_mended_and_good_ones_stay(releasing: Releasing, one_backup: Storage) -> None:
    close_lake()
    files = sorted(Path(releasing.lake.storage.url).rglob("*.parquet"))
    times = {file: file.stat().st_mtime_ns for file in files}
    content = bytearray(files[-1].read_bytes())
    content[100] ^= 1
    files[-1].write_bytes(content)
    assert bring_back(releasing, one_backup, overwrite=True).files == 1
    assert {file: file.stat().st_mtime_ns for file in files[:-1]} == {file: times[file] for file in files[:-1]}
    assert releasing.view("select sum(mean) from dl.gold.staging") == [(29999 * 15000,)]


def test_lake_moves_to_another_folder_and_another_schema(
    releasing: Releasing, one_backup: Storage, tmp_path: Path, server: LocalPostgres
) -> None:
    close_lake()
    lose_databases(server, releasing.lake.catalog, releasing.marts)
    moved = replace(releasing.lake, storage=Storage(str(tmp_path / "elsewhere")), metadata_schema="other")
    shutil.rmtree(releasing.lake.storage.url)
    releasing.lake = moved
    bring_back(releasing, one_backup)
    assert releasing.seen() == whole(1)
    assert releasing.release(build(moved, 4)).release_id == 2
    assert not Path(tmp_path / "lake").exists()


def test_grants_views_comments_and_the_ledgers_guard_come_back(
    releasing: Releasing, backups: Storage, server: LocalPostgres
) -> None:
    releasing.release(build(releasing.lake, 1))
    releasing.query(
        """
        create view marts.a_first as select site from marts.mrt_daily;
        create view marts.b (place) with (security_barrier = true) as select site from marts.a_first where site <> '%';
        create or replace view marts.a_first as select site, mean * 2 as twice from marts.mrt_daily;
        grant select on marts.b to marts_reader with grant option;
        grant update (mean) on marts.mrt_daily to marts_reader;
        alter default privileges in schema marts grant select on tables to marts_reader;
        create table marts.odd ("Weird "" name" text collate "C" default 'x' not null, n numeric(6, 2) check (n > 0),
            doubled numeric generated always as (n * 2) stored, unique ("Weird "" name"));
        create index odd_index on marts.odd (lower("Weird "" name")) where n > 1;
        insert into marts.odd values (E'tab\\t\\\\ line\\n null \\\\N', 1.5), ('', 2);
        """
    )
    questions = (
        "select * from marts.odd order by n",
        "select place from marts.b order by 1",
        "select schemaname, viewname, definition from pg_views where schemaname = 'marts' order by 2",
        "select schemaname, tablename, indexdef from pg_indexes where schemaname in ('marts', 'ledger') order by 2, 3",
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
        "where connamespace in ('marts'::regnamespace, 'ledger'::regnamespace) order by 1, 2",
        "select c.oid::regclass::text, reloptions, obj_description(c.oid), "
        "array(select unnest(relacl)::text order by 1) from pg_class c "
        "where relnamespace in ('marts'::regnamespace, 'ledger'::regnamespace) order by 1",
        "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attacl::text, "
        "col_description(attrelid, attnum) from pg_attribute a join pg_class c on c.oid = attrelid "
        "where relnamespace = 'marts'::regnamespace and relkind <> 'i' and attnum > 0 order by 1, attnum",
        "select nspname, array(select unnest(nspacl)::text order by 1) from pg_namespace "
        "where nspname in ('marts', 'ledger') order by 1",
        "select defaclobjtype::text, defaclacl::text from pg_default_acl",
        "select tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1",
        "select pg_get_functiondef('ledger.refuse'::regproc)",
    )
    before = [releasing.query(question) for question in questions]
    assert all(before)
    assert releasing.query("select count(*) from marts.mrt_daily", role="marts_reader") == [(5,)]
    make(releasing, backups)
    close_lake()
    lose_databases(server, releasing.lake.catalog, releasing.marts)
    bring_back(releasing, backups)
    for question, answer in zip(questions, before, strict=True):
        assert releasing.query(question) == answer, question
    assert releasing.query("select count(*) from marts.mrt_daily", role="marts_reader") == [(5,)]
    with pytest.raises(psycopg.Error, match="append-only"):
        releasing.query("truncate ledger.releases")


def test_what_a_backup_could_not_restore_exactly_makes_none(releasing: Releasing, backups: Storage) -> None:
    releasing.release(build(releasing.lake, 1))
    releasing.query("create table marts.numbered (n bigint generated always as identity, t text)")
    with pytest.raises(DumpError, match=r"could not restore exactly: .*marts\.numbered"):
        make(releasing, backups)
    assert Location(backups, releasing.lake.temp_directory).ids() == []


def test_view_of_somebody_else_is_not_taken_along(releasing: Releasing, one_backup: Storage) -> None:
    releasing.query("create schema theirs; create view theirs.report as select * from marts.mrt_daily")
    with pytest.raises(RestoreError, match=r"theirs\.report.*Nothing was touched"):
        bring_back(releasing, one_backup, overwrite=True)
    assert releasing.query("select count(*) from theirs.report") == [(5,)]


def test_reader_who_does_not_let_go_stops_a_restore_before_the_databases_change(
    releasing: Releasing, one_backup: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.lake.restore.LOCK_SECONDS", 1)
    with psycopg.connect(releasing.marts.conninfo()) as reader:
        reader.execute("select * from marts.mrt_daily")
        with pytest.raises(RestoreError, match=r"Somebody has been using marts, ledger.*Pause the DAGs"):
            bring_back(releasing, one_backup, overwrite=True)
    assert releasing.seen() == whole(1)


def test_restore_aside_and_drill_leave_the_lake_alone(
    releasing: Releasing, one_backup: Storage, tmp_path: Path
) -> None:
    lake, where = releasing.lake, Storage(str(tmp_path / "aside"))
    location = Location(one_backup, lake.temp_directory)
    releasing.release(build(lake, 2))
    _, aside, compared = restore_aside(lake, releasing.marts, one_backup, where)
    assert (compared.marts, compared.rows) == (2, 29)
    assert releasing.seen() == whole(2)
    with aside.lake.open(read_only=True) as connection:
        assert connection.execute("select distinct mean from marts.mrt_daily").fetchall() == [(1,)]
    assert releasing.query(f"select distinct mean from {aside.marts_schema}.mrt_daily") == [(1,)]
    with pytest.raises(RestoreError, match="from an earlier restore"):
        restore_aside(lake, releasing.marts, one_backup, where)

    schemas = "select nspname from pg_namespace order by 1"
    before = releasing.query(schemas)
    record = drill(lake, releasing.marts, one_backup)
    assert record["success"] is True
    assert (record["marts"], record["rows"]) == (2, 29)
    assert location.drill(location.ids()[-1]) == record
    assert releasing.seen() == whole(2)
    assert releasing.query(schemas) == before
    assert not list(lake.temp_directory.rglob("*.parquet"))


def test_drill_that_compared_nothing_is_red(lake: Lake, marts_server: Postgres, backups: Storage) -> None:
    lake.open().close()
    ledger.ensure(marts_server)
    made = backup(lake, marts_server, backups, keep=1, code_version="x")
    with pytest.raises(RestoreError, match="compared nothing"):
        drill(lake, marts_server, backups)
    record = Location(backups, lake.temp_directory).drill(made.backup_id)
    assert record is not None and record["success"] is False and "compared nothing" in record["error"]


def test_drill_finds_rows_that_were_not_certified(releasing: Releasing, backups: Storage) -> None:
    releasing.release(build(releasing.lake, 1))
    releasing.query("update marts.mrt_daily set mean = 5 where day = '2026-11-01'")
    make(releasing, backups)
    with pytest.raises(RestoreError, match="mrt_daily in the backup of PostgreSQL is not what release 1 published"):
        drill(releasing.lake, releasing.marts, backups)
