"""Any history of runs and changes ends in the tables of one clean run over the whole range, row by row."""

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.pipeline.conftest import MakeFlow
from tests.pipeline.histories import History, World, histories, play, require_rows_of_a_clean_run

ROUNDS = int(os.environ.get("LAKE_TORTURE_ROUNDS", "3"))


# The same histories each time; a hundred of them are the same three and more. Making one smaller takes minutes.
@pytest.mark.torture
@pytest.mark.timeout(600 + 60 * ROUNDS)
@settings(
    max_examples=ROUNDS,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories())
def test_any_history_ends_in_the_rows_of_one_clean_run(make_flow: MakeFlow, history: History) -> None:
    world = World()
    flow = make_flow(world.sites.values())
    play(flow, world, history)
    require_rows_of_a_clean_run(flow, make_flow(world.sites.values()))
