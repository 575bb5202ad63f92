"""Rows 3, 9 and 10: what dbt makes of bronze."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from include.dbt_project import PROJECT_DIR
from include.interval import Interval
from include.lake.attach import identifier
from include.lake.dbt_environment import dbt_environment
from include.layers import Layer
from tests.bench.data import DOMAIN, READINGS_A_DAY, Built, bronze, built, replace_day, rows_of
from tests.bench.places import Places
from tests.bench.runner import in_child
from tests.bench.spec import Clock, Measure, Row, Scale, Size
from tests.pipeline.flow import TABLES, Flow

PARTS = {
    "dbt: load its manifest": "tests.pipeline.flow:dbt_runner",
    "dbt: models": "dbt.task.runnable:GraphRunnableTask.execute_nodes",
    "fsck.settle": "include.lake.fsck:settle",
}

# --- 3: a layer -------------------------------------------------------------------------------------------------


@contextmanager
def layers(places: Places, size: Size, *, layer: Layer) -> Iterator[Built]:
    """A built lake, and the layer's compiled SQL, model by model."""
    with built(places, 10, size.number) as made:
        yield made.with_extra(statements=in_child(compiled, made.flow, layer), layer=layer)


def compiled(flow: Flow, layer: Layer) -> list[tuple[str, str]]:
    """Each model of a layer and its SQL as dbt compiles it for a full refresh, in dbt's order."""
    import os

    from include.lake.passfile import use_passwords
    from tests.pipeline.flow import dbt_runner

    os.environ.update(dbt_environment(flow.lake, flow.keys))
    use_passwords(flow.lake.catalog)
    places = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
    places += ["--target-path", str(flow.home / "target"), "--log-path", str(flow.home / "logs")]
    arguments = ["compile", "--full-refresh", "--select", layer.selector(DOMAIN), *places]
    result = dbt_runner().invoke([*arguments, "--log-level", "none", "--log-level-file", "none"])
    assert result.success, result.exception
    return [
        (f"{each.node.schema}.{identifier(each.node.name)}", each.node.compiled_code)
        for each in result.result
        if each.node.resource_type == "model"
    ]


def dbt_layer(world: Built, clock: Clock) -> int:
    with clock:
        world.flow.dbt(world.extra["layer"], full_refresh=True, tests=False)
    return _rows(world)


def sql_alone(world: Built, clock: Clock) -> int:
    with clock, world.flow.lake.open() as connection:
        for table, select in world.extra["statements"]:
            connection.execute(f"create or replace table {table} as {select}")
    return _rows(world)


def dbt_start(world: Built, clock: Clock) -> int:
    """What dbt costs before its first model: the same call for one view of no rows' work, staging of profiles."""
    import os

    from include.lake.passfile import use_passwords
    from tests.pipeline.flow import dbt_runner

    os.environ.update(dbt_environment(world.flow.lake, world.flow.keys))
    use_passwords(world.flow.lake.catalog)
    home = world.flow.home
    places = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
    places += ["--target-path", str(home / "target"), "--log-path", str(home / "logs")]
    quiet = ["--log-level", "none", "--log-level-file", "none", "--no-write-json"]
    with clock:
        result = dbt_runner().invoke(["run", "--select", "stg_nightscout__profile", *places, *quiet])
    assert result.success, result.exception
    return len(result.result)


def _rows(world: Built) -> int:
    layer = world.extra["layer"]
    return rows_of(world.flow.lake, *(f"{layer}.{table}" for table in TABLES[layer]))


def _layer(layer: Layer) -> Row:
    from functools import partial

    return Row(
        number="3",
        name=f"transform_{layer}",
        ours=f"the {layer} layer in dbt, one process, everything rebuilt",
        bound="the compiled SQL run straight in DuckDB on the same lake",
        goal=1.2,
        sizes={
            Scale.SMALL: (Size("10 sites, 86 k readings", 30),),
            Scale.FULL: (Size("10 sites, 1.05 M readings", 365),),
        },
        world=partial(layers, layer=layer),
        run=dbt_layer,
        against=sql_alone,
        fixed=dbt_start,
        fixed_words="the start of dbt: the same call for one view",
        parts=PARTS,
        note="model by model, dbt asks what is to be rebuilt, holds contracts and records what was read",
    )


SILVER, GOLD = _layer(Layer.SILVER), _layer(Layer.GOLD)

# --- 9: a day at some length of history -------------------------------------------------------------------------


@contextmanager
def histories(places: Places, size: Size) -> Iterator[Built]:
    """Sites with so many days of history, built, gated and released."""
    with built(places, size.sites, size.number) as made:
        in_child(_release, made)
        yield made


def _release(world: Built) -> None:
    _gate_and_release(world.flow, world.interval, "first")


def _gate_and_release(flow: Flow, interval: Interval, run_id: str) -> None:
    gates = [flow.gate(layer, interval, run_id) for layer in Layer]
    flow.release(interval, run_id, gates)


def one_day(world: Built, clock: Clock) -> int:
    """The last day of one site landed anew: everything that a daily run does after its ingest."""
    import uuid

    flow, day = world.flow, world.last
    replace_day(flow.lake, day)
    interval, run_id = Interval.of_days(day, day + timedelta(days=1)), f"bench__{uuid.uuid4().hex[:8]}"
    with clock:
        gates = [flow.gate(Layer.BRONZE, interval, run_id)]
        flow.dbt(Layer.BRONZE, Layer.SILVER)
        gates.append(flow.gate(Layer.SILVER, interval, run_id))
        flow.dbt(Layer.GOLD)
        gates.append(flow.gate(Layer.GOLD, interval, run_id))
        released = flow.release(interval, run_id, gates)
    assert released.created
    return READINGS_A_DAY


INCREMENTAL = Row(
    number="9",
    name="incremental_day",
    ours="a day after its ingest (gates, dbt with its tests, release), with so much history",
    bound="itself with the shortest history",
    goal=1.3,
    sizes={
        Scale.SMALL: (Size("1 site, 30 days", 30, 1), Size("1 site, 1 year", 365, 1)),
        Scale.FULL: (
            Size("1 year of a site, 105 k readings", 365, 1),
            Size("10 years of a site, 1.05 M readings", 3650, 1),
            Size("100 years: 10 of each of 10 sites, 10.5 M readings", 3650, 10),
        ),
    },
    world=histories,
    run=one_day,
    measure=Measure.FLAT,
    runs={Scale.SMALL: 1, Scale.FULL: 3},
    parts={
        "gates": "tests.pipeline.flow:Flow.gate",
        "dbt": "tests.pipeline.flow:Flow.dbt",
        "release": "tests.pipeline.flow:Flow.release",
    },
)

# --- 10: everything anew ----------------------------------------------------------------------------------------


@contextmanager
def bronze_only(places: Places, size: Size) -> Iterator[Built]:
    """Bronze alone."""
    with bronze(places, size.sites, size.number) as made:
        yield made


def full_refresh(world: Built, clock: Clock) -> int:
    with clock:
        world.flow.dbt(Layer.BRONZE, Layer.SILVER, Layer.GOLD, full_refresh=True, tests=False)
    assert rows_of(world.flow.lake, "silver.fct_cgm_reading") == world.readings
    return world.readings


FULL_REFRESH = Row(
    number="10",
    name="full_refresh",
    ours="full refresh of all layers in dbt",
    bound="itself with the fewest readings",
    goal=1.0,
    sizes={
        Scale.SMALL: (Size("10 sites, 58 k readings", 20), Size("10 sites, 230 k readings", 80)),
        Scale.FULL: (
            Size("10 sites, 1 M readings", 348),
            Size("10 sites, 10 M readings", 3473),
            Size("100 sites, 100 M readings", 3473, 100),
        ),
    },
    world=bronze_only,
    run=full_refresh,
    measure=Measure.LINEAR,
    parts=PARTS,
    runs={Scale.SMALL: 1, Scale.FULL: 1},
    note="memory has to stay under 4 GB",
)

ROWS: tuple[Row, ...] = (SILVER, GOLD, INCREMENTAL, FULL_REFRESH)
