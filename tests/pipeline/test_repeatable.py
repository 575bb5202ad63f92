"""A small history of each kind; others are drawn at random (test_histories.py)."""

import pytest

from tests.pipeline.conftest import MakeFlow
from tests.pipeline.histories import (
    DAYS,
    V1_SITE,
    V3_SITE,
    Delete,
    Edit,
    History,
    Run,
    Until,
    Upload,
    World,
    play,
    require_rows_of_a_clean_run,
)

HISTORIES: dict[str, History] = {
    "days out of order, overlapping and twice, with a full refresh": [
        Run(2, until=Until.GOLD),
        Run(1, 2, until=Until.INGEST),
        Run(0, until=Until.GOLD, full_refresh=True),
    ],
    # On days that the look-back of the last day does not reach: API v3 tells of them, v1 has to be asked again.
    "late, edited, moved and deleted records": [
        Run(0, DAYS, until=Until.GOLD),
        Upload(V3_SITE, "entries", day=-2, minute=1437, hours_later=50),
        Edit(V3_SITE, "entries", pick=3, value=250),
        Delete(V3_SITE, "entries", pick=7),
        Edit(V3_SITE, "treatments", pick=1, value=31, to_day=2),
        Delete(V3_SITE, "devicestatus", pick=0),
        Edit(V3_SITE, "profile", pick=0, value=7),
        Upload(V1_SITE, "treatments", day=1, minute=3, value=5),
        Edit(V1_SITE, "treatments", pick=2, value=31, to_day=-1),
        Delete(V1_SITE, "entries", pick=5),
        Delete(V1_SITE, "profile", pick=1),
    ],
}


@pytest.mark.torture
@pytest.mark.parametrize("name", HISTORIES)
def test_history_ends_in_the_rows_of_one_clean_run(make_flow: MakeFlow, name: str) -> None:
    world = World()
    flow = make_flow(world.sites.values())
    play(flow, world, HISTORIES[name])
    require_rows_of_a_clean_run(flow, make_flow(world.sites.values()))
