"""What people do without meaning harm: long queries, odd names, roles that try too much, broken tools."""

from functools import partial

import psycopg
import pytest

from include.layers import Layer
from include.release import ledger
from tests.faults.judge import compare
from tests.faults.matrix import Outcome
from tests.faults.watch import Readers
from tests.faults.world import BUILT, DONE, INTERVAL, LANDED, World, attempt, gold, record_all, release, silver
from tests.pipeline.flow import Flow

MART = "marts.mrt_daily_glycaemia"
# 70 characters, and every kind that somebody forgets to quote.
ODD = "rün 'quoted' \"doubly\"; drop table marts.x; -- %s {x} $1 \\ ✓ 測試 & <b> |#"
pytestmark = [pytest.mark.torture, pytest.mark.xdist_group("world")]


# --- long readers -----------------------------------------------------------------------------------------------


@pytest.mark.fault("Long reader", "a transaction in PostgreSQL reads a mart before, while and after it is published")
def test_long_reader_neither_waits_nor_sees_the_release_that_comes_meanwhile(world: World, outcome: Outcome) -> None:
    with world.copy(BUILT) as flow, _long_reader(flow) as reader:
        before = reader.execute(f"select * from {MART} order by 1, 2").fetchall()
        with Readers(flow) as readers:
            assert attempt(flow, release) is None
        assert reader.execute(f"select * from {MART} order by 1, 2").fetchall() == before
        reader.rollback()
        after = reader.execute(f"select * from {MART} order by 1, 2").fetchall()
        assert after != before
        outcome.record(
            compare(flow, world.clean), readers.seen, message="nothing: nobody waits for anybody", mended_by="nothing"
        )


@pytest.mark.fault("Long reader", "it reads a mart whose columns the release changes")
def test_long_reader_delays_a_change_of_columns_and_a_retry_makes_it(world: World, outcome: Outcome) -> None:
    with world.copy(BUILT) as flow:
        with psycopg.connect(flow.marts.conninfo()) as publisher:
            publisher.execute(f"alter table {MART} alter column readings type integer")  # the mart says bigint
        with _long_reader(flow) as reader:
            reader.execute(f"select count(*) from {MART}")
            failure = attempt(flow, impatient_release)
        assert failure is not None and failure.action == "RETRY", failure
        assert "lock timeout" in failure.message
        with _long_reader(flow) as older:
            older.execute("select 1")  # its snapshot; it has not read the mart
            assert attempt(flow, release) is None
            rows = older.execute(f"select count(*) from {MART}").fetchone()
        assert rows == (0,), "PostgreSQL has become better than its documentation: readers are safe here too"
        outcome.record(
            compare(flow, world.clean),
            message=failure.message,
            mended_by="Airflow's retry, once it ended",
            besides="a transaction that is older than such a release, and reads the mart only then, finds it empty: "
            "PostgreSQL's rule for tables whose column types change",
        )


def impatient_release(flow: Flow) -> None:
    from include.release import publish

    publish.LOCK_TIMEOUT_SECONDS = 1
    release(flow)


def _long_reader(flow: Flow) -> psycopg.Connection:
    assert flow.reader is not None
    reader = psycopg.connect(flow.reader.conninfo(), password=flow.reader.password)
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return reader


# --- Great Expectations -----------------------------------------------------------------------------------------


@pytest.mark.fault("Great Expectations raises", "its checkpoint, its import, the writing of its pages")
def test_gate_whose_tool_breaks_is_red_and_nothing_is_published(world: World, outcome: Outcome) -> None:
    with world.copy(BUILT) as flow:
        published = flow.published_rows()
        failures = []
        with Readers(flow) as readers:
            for broken in ("run", "import", "docs"):
                failure = attempt(flow, partial(release_with_broken_tool, broken=broken))
                assert failure is not None and failure.kind == "GateError" and failure.action == "FAIL", failure
                assert "broken on purpose" in failure.message, failure
                failures.append(failure)
            assert flow.published_rows() == published and len(ledger.entries(flow.marts)) == 1
            assert attempt(flow, release) is None
        found = compare(flow, world.clean)
        record_all(outcome, failures, found, readers.seen, mended_by="mend the tool, clear the gate")


def release_with_broken_tool(flow: Flow, broken: str) -> None:
    import great_expectations as gx

    from include.quality import gx_import

    def broke(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    if broken == "run":
        gx.Checkpoint.run = broke
    elif broken == "import":
        gx_import.great_expectations = broke
    else:
        from great_expectations.data_context import FileDataContext

        FileDataContext.build_data_docs = broke
    release(flow)


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("Odd names", "databases, folder and run with quotes, semicolons, unicode; a run id of 70 characters")
def test_odd_names_are_names_and_nothing_more(world: World, outcome: Outcome) -> None:
    assert len(ODD) >= 70
    name = "ünï 'q' \"d\"; drop -- %s {x} 測"
    with world.copy(LANDED, name=name) as flow:
        with Readers(flow) as readers:
            failure = attempt(flow, partial(run_named, run_id=ODD))
            assert failure is None, failure
        assert ledger.entries(flow.marts)[-1].dag_run_id == ODD
        outcome.record(
            compare(flow, world.clean), readers.seen, message="nothing: names are names", mended_by="nothing"
        )


def run_named(flow: Flow, run_id: str) -> None:
    gates = [flow.gate(Layer.BRONZE, INTERVAL, run_id)]
    silver(flow)
    gates.append(flow.gate(Layer.SILVER, INTERVAL, run_id))
    gold(flow)
    gates.append(flow.gate(Layer.GOLD, INTERVAL, run_id))
    flow.release(INTERVAL, run_id, gates)


# --- roles ------------------------------------------------------------------------------------------------------

READER_MUST_NOT = (
    f"insert into {MART} select * from {MART}",
    f"update {MART} set readings = 0",
    f"delete from {MART}",
    f"truncate {MART}",
    f"drop table {MART}",
    f"alter table {MART} add column x int",
    f"lock table {MART} in access exclusive mode",
    f"create index on {MART} (site)",
    "create table marts.mine (i int)",
    "create schema mine",
    "delete from ledger.releases",
    "insert into ledger.releases select * from ledger.releases",
    "update ledger.releases set domain = 'x'",
    "alter role marts_reader superuser",
    "set role marts_publisher",
    "copy ledger.releases to program 'true'",
    "select pg_read_file('/etc/passwd')",
)
HOME = {"airflow": "airflow", "lake": "lake_catalog", "marts_publisher": "marts", "marts_reader": "marts"}


@pytest.mark.fault(
    "A role tries what it must not", "each role, on every other's database; the reader, on marts and ledger"
)
def test_roles_are_refused_what_is_not_theirs(world: World, outcome: Outcome) -> None:
    with world.copy(DONE) as flow:
        assert flow.reader is not None
        with Readers(flow) as readers:
            for statement in READER_MUST_NOT:
                with (
                    psycopg.connect(flow.reader.conninfo(), password=flow.reader.password) as reader,
                    pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType)) as refused,
                ):
                    reader.execute(statement)
                outcome.record(message=str(refused.value).splitlines()[0], mended_by="nothing: it is refused")
            for role, home in HOME.items():
                for database in {*HOME.values()} - {home}:
                    target = world.server.as_role(role, database)
                    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                        psycopg.connect(target.conninfo(), password=target.password)
                outcome.record(
                    message=f'permission denied for database "{database}"', mended_by="nothing: it is refused"
                )
        outcome.record(
            compare(flow, world.clean), readers.seen, message="permission denied", mended_by="nothing: it is refused"
        )
