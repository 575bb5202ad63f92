"""Any history of runs and changes ends in the tables of one clean run over the whole range, row by row."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from include.sources.nightscout import fetch, pipeline
from tests.faults.matrix import ROUNDS
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.histories import (
    DAYS,
    V1_SITE,
    V3_SITE,
    Edit,
    History,
    Run,
    Upload,
    World,
    histories,
    play,
    require_rows_of_a_clean_run,
)

Break = Callable[[pytest.MonkeyPatch], None]


# The same histories each time. One that fails is printed as it is: to make it smaller, add Phase.shrink and patience.
@pytest.mark.torture
@pytest.mark.timeout(900 + 120 * ROUNDS)
@settings(
    max_examples=ROUNDS,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories())
def test_any_history_ends_in_the_rows_of_one_clean_run(make_flow: MakeFlow, history: History) -> None:
    world = World()
    flow = make_flow(world.sites.values())
    play(flow, world, history)
    require_rows_of_a_clean_run(flow, make_flow(world.sites.values()))


def no_history(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetch, "_changed_days", lambda *_: set())


def no_moves(patch: pytest.MonkeyPatch) -> None:
    whole = fetch.fetch_site
    nowhere: dict[str, Any] = {"days_in_bronze": lambda site, records: set()}
    patch.setattr(pipeline, "fetch_site", lambda *args, **options: whole(*args, **options | nowhere))


def no_lookback(patch: pytest.MonkeyPatch) -> None:
    whole = fetch.fetch_site
    patch.setattr(
        pipeline,
        "fetch_site",
        lambda client, stream, interval, lookback, **options: whole(client, stream, interval, 0, **options),
    )


EVERY_DAY = Run(0, DAYS)
# Each changes a day that the run which settles it neither covers nor looks back to, but for the defect's own reason.
LATE = [EVERY_DAY, Upload(V3_SITE, "entries", -2, 600, value=100, hours_later=60)]
MOVED = [
    EVERY_DAY,
    *(Edit(V3_SITE, "treatments", pick, pick, to_day=2, hours_later=60 * (not pick)) for pick in range(10)),
]
BEFORE = [EVERY_DAY, Upload(V1_SITE, "entries", -1, 600, value=100)]


@pytest.mark.torture
@pytest.mark.parametrize(
    ("defect", "history"),
    [
        pytest.param(no_history, LATE, id="what v3's history says is not read"),
        pytest.param(no_moves, MOVED, id="the day that a record has left is not fetched"),
        pytest.param(no_lookback, BEFORE, id="there is no look-back"),
    ],
)
def test_a_defect_of_ingest_shows(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch, defect: Break, history: History
) -> None:
    world = World()
    flow = make_flow(world.sites.values())
    with monkeypatch.context() as patch:
        defect(patch)
        play(flow, world, history)
    with pytest.raises(AssertionError, match="against one clean run"):
        require_rows_of_a_clean_run(flow, make_flow(world.sites.values()))
