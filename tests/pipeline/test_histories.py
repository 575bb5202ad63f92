"""Any history of runs and changes ends in the tables of one clean run over the whole range, row by row."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings

from tests.pipeline.conftest import MakeFlow
from tests.pipeline.histories import History, World, clean_run, histories, play
import os
ROUNDS=int(os.environ.get("LAKE_TORTURE_ROUNDS","3"))

@pytest.mark.torture
@pytest.mark.timeout(0)
@settings(max_examples=ROUNDS, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_any_history_ends_in_the_rows_of_one_clean_run(make_flow: MakeFlow, history: History) -> None:
    t=[(time.time(), time.process_time())]
    print(*history, sep="\n  ")
    world = World()
    flow = make_flow(world.sites.values())
    t.append((time.time(), time.process_time()))
    play(flow, world, history)
    t.append((time.time(), time.process_time()))
    clean = make_flow(world.sites.values())
    clean_run(clean)
    t.append((time.time(), time.process_time()))
    require_same(flow, clean)
    t.append((time.time(), time.process_time()))
    print([f"{b[0]-a[0]:.1f}/{b[1]-a[1]:.1f}" for a,b in zip(t,t[1:])], flush=True)


def require_same(flow, clean):
    expected = clean.lake_rows()
    gold = {t.partition(".")[2]: rows for t, rows in expected.items() if t.startswith("gold.")}
    for where, ours, theirs in (("lake", flow.lake_rows(), expected), ("postgres", flow.published_rows(), gold), ("views", flow.view_rows(), gold)):
        for table, rows in theirs.items():
            missing = [row for row in rows if row not in ours[table]][:3]
            extra = [row for row in ours[table] if row not in rows][:3]
            assert ours[table] == rows, f"{where} {table} lacks {missing} and has {extra}"
