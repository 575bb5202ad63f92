"""Any history of runs and changes ends in the tables of one clean run over the whole range, row by row."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.faults.matrix import ROUNDS
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.histories import History, World, histories, play, require_rows_of_a_clean_run


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
