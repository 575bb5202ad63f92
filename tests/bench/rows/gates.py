"""Row 6: a gate against its checks as one statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from include.layers import Layer
from include.quality import gate, quarantine
from include.quality.checks import Core, Query, Scope, Suite
from include.quality.suites import suite as suite_of
from include.release.certify import pinned_snapshot
from tests.bench.data import DOMAIN, Built, built, snapshot_of
from tests.bench.places import Places
from tests.bench.runner import in_child
from tests.bench.spec import Clock, Row, Scale, Size

SIZES = {
    Scale.SMALL: (Size("10 sites, 86 k readings", 30),),
    Scale.FULL: (Size("10 sites, 1.05 M readings", 365),),
}


@contextmanager
def gated(places: Places, size: Size, *, layer: Layer) -> Iterator[Built]:
    """A built lake of ten sites, and the layer's checks as one statement."""
    with built(places, 10, size.number) as made:
        in_child(_quarantine, made)  # what the gate makes when it first looks
        yield made.with_extra(layer=layer, statement=in_child(one_statement, made, layer))


def _quarantine(world: Built) -> None:
    world.flow.judge(world.interval, "first")


def one_statement(world: Built, layer: Layer) -> str:
    """Each table read once for all of its checks on rows; a query for each other check."""
    lake, suite = world.flow.lake, suite_of(DOMAIN, layer)
    with lake.open(read_only=True) as connection:
        released = pinned_snapshot(connection, DOMAIN)
        days = quarantine.answered_days(connection, suite.landed, world.interval, released)
    now = datetime.now(UTC)
    scope = Scope(world.interval, now.isoformat(), days)
    run = gate._Run(suite, layer.gate, scope, "bench", snapshot_of(lake), now, world.flow.home)
    questions = []
    for table in suite.tables:
        mine = [check for check in suite.checks if check.table == table]
        rows = [gate._aggregate(check, run) for check in mine if not isinstance(check.test, Query | Core)]
        columns = ", ".join(f"{sql} as c{number}" for number, sql in enumerate([*rows, "count(*)"]))
        questions.append(f"(select to_json(a) from (select {columns} from {run.rows_of(table)}) as a)")
    for check in suite.checks:
        if isinstance(check.test, Query):
            questions.append(f"(select count(*)::json from ({scope.fill(check.test.sql)}))")
    return "select " + ", ".join(questions)


def run_gate(world: Built, clock: Clock, *, suite: Suite | None = None) -> int:
    import uuid

    flow, layer = world.flow, world.extra["layer"]
    with clock:
        summary = flow.gate(layer, world.interval, f"bench__{uuid.uuid4().hex[:8]}", suite=suite)
    return summary["evaluated"]


def scan(world: Built, clock: Clock) -> int:
    with clock, world.flow.lake.open(read_only=True) as connection:
        row = connection.execute(world.extra["statement"]).fetchone()
    assert row is not None and all(row)
    return len(suite_of(DOMAIN, world.extra["layer"]).checks)


def first_import(world: Built, clock: Clock) -> int:
    """What a process pays that the scheduler has not spared it: Great Expectations from the disk."""
    import subprocess
    import sys

    command = "from include.quality.gx_import import great_expectations; great_expectations()"
    with clock:
        subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    return 1


def _row(layer: Layer) -> Row:
    return Row(
        number="6",
        name=f"gate_{layer}",
        ours=f"gate_{layer}: checks, evidence and Data Docs" + (", rows set aside" if layer is Layer.BRONZE else ""),
        bound="its checks written as one SQL statement",
        goal=2.0,
        sizes=SIZES,
        world=partial(gated, layer=layer),
        run=run_gate,
        against=scan,
        parts={
            "open the lake": "include.lake.attach:Lake.open",
            "set rows aside": "include.quality.quarantine:judge",
            "fsck.settle": "include.lake.fsck:settle",
            "Great Expectations: context": "include.quality.gate:_context",
            "Great Expectations: checks": "great_expectations:Checkpoint.run",
            "Data Docs": "include.quality.pages:write_run_page",
        },
        note="the import of Great Expectations is in the scheduler, which tasks are forked from",
    )


ROWS = tuple(_row(layer) for layer in Layer)
