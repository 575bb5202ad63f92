"""Any history of a changing database and runs in any order ends in the tables of one clean run, row by row."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from include.connections import Postgres
from include.local import saas
from tests.faults.matrix import ROUNDS
from tests.pipeline.flow import require_same_rows
from tests.pipeline.histories import Until
from tests.pipeline.saas_histories import DAYS, END, START, Change, History, Kind, Run, World, histories, once, play
from tests.pipeline.test_saas import Make, make, source  # noqa: F401


def check(make: Make, source: Postgres, history: History) -> None:  # noqa: F811
    flow = make()
    play(flow, World(source), history)
    clean = make()
    once(clean, Run(DAYS - 1))
    require_same_rows(flow, clean)


@pytest.fixture
def filled(source: Postgres, extensions: Path) -> Postgres:  # noqa: F811
    saas.build(source, extensions, saas.State.of(0.02, 1, END, START))
    return source


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
def test_any_history_ends_in_the_rows_of_one_clean_run(make: Make, filled: Postgres, history: History) -> None:  # noqa: F811
    check(make, filled, history)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_late_commit_is_seen_by_the_next_run_even_if_days_are_left_out(make: Make, filled: Postgres) -> None:  # noqa: F811
    late = Change(Kind.RENAME_ACCOUNT, 5, 24 * 60)
    check(make, filled, [Run(0, 2, Until.INGEST), late, Run(3, until=Until.INGEST)])
