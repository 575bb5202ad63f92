"""A task's process is killed at stated points and at random moments, again and again, each time with news to load."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest

from include.interval import Interval
from include.layers import Layer
from include.local.nightscout import NightscoutSite, demo_sites
from tests.faults.children import After, Before, Delay, Ended, Point, killed, run
from tests.faults.judge import compare, everything, sweep
from tests.faults.matrix import ROUNDS, Outcome
from tests.faults.watch import Readers
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.flow import Flow, Rows

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]

DAY = timedelta(days=1)
FIRST, END = date(2026, 3, 2), date(2026, 3, 3)
INTERVAL = Interval.of_days(FIRST, END)
KILLED = "A worker is killed (kill -9)"
MOMENT = "at a random moment"

LANDS = Before("insert into .* by name")
BRONZE = "select sgv from bronze.nightscout_entries where record_id = '{}'"
SET_ASIDE = "select count(*) from quarantine.nightscout_entries where record_id = '{}'"


@dataclass
class News:
    """A reading that its site changes between rounds, as it was at first."""

    site: NightscoutSite
    reading: dict[str, Any]

    @property
    def record_id(self) -> str:
        return self.reading["identifier"]

    def say(self, glucose: float) -> None:
        self.site.edit("entries", self.record_id, {"sgv": glucose})


@dataclass
class Place:
    flow: Flow
    news: News
    clean: Rows


def ingest(flow: Flow) -> None:
    flow.ingest(INTERVAL, ["entries"])


def gate(flow: Flow) -> None:
    flow.gate(Layer.BRONZE, INTERVAL, "test__kills")


def rest(flow: Flow) -> None:
    """All that follows ingest."""
    gates = [flow.gate(Layer.BRONZE, INTERVAL, "test__rest")]
    flow.dbt(Layer.BRONZE, Layer.SILVER)
    gates.append(flow.gate(Layer.SILVER, INTERVAL, "test__rest"))
    flow.dbt(Layer.GOLD)
    gates.append(flow.gate(Layer.GOLD, INTERVAL, "test__rest"))
    flow.release(INTERVAL, "test__rest", gates)


@pytest.fixture
def place(make_flow: MakeFlow) -> Iterator[Place]:
    sites = demo_sites(FIRST - 3 * DAY, END, secret_seed="test")[:2]
    flow = make_flow(sites)
    run(flow, partial(Flow.run, first=FIRST, end=END)).value()
    readings = [each for each in sites[0].documents("entries") if "sgv" in each]
    yield Place(flow, News(sites[0], readings[-20]), everything(flow))


def rounds(values: Callable[[int], float], news: News) -> Iterator[tuple[int, float]]:
    """What the source says in each round; in the last one what it said at first."""
    for number in range(ROUNDS):
        glucose = values(number) if number < ROUNDS - 1 else news.reading["sgv"]
        news.say(glucose)
        yield number, glucose


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(LANDS, marks=pytest.mark.fault(KILLED, "before a load's rows are written")),
        pytest.param(Before("^commit"), marks=pytest.mark.fault(KILLED, "before a load is committed")),
        pytest.param(After("^commit"), marks=pytest.mark.fault(KILLED, "after a load is committed, before it says so")),
        pytest.param(None, marks=pytest.mark.fault(KILLED, "at a random moment of a load")),
    ],
    ids=["landing", "committing", "committed", "random"],
)
def test_killed_load_leaves_bronze_as_it_was_or_whole(place: Place, outcome: Outcome, point: Point | None) -> None:
    flow, news = place.flow, place.news
    ends: list[Ended] = []
    before = news.reading["sgv"]
    with Readers(flow) as readers:
        for _, glucose in rounds(lambda number: 100 + number, news):
            ends.append(killed(flow, ingest, point or Delay(random.uniform(0, 0.6))))
            assert flow.query(BRONZE.format(news.record_id)) in ([(before,)], [(glucose,)])
            run(flow, ingest).value()
            assert flow.query(BRONZE.format(news.record_id)) == [(glucose,)]
            before = glucose
        run(flow, rest).value()
    record(place, outcome, readers, ends)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            Before("insert into meta.watermarks"),
            marks=pytest.mark.fault(KILLED, "in a gate, before the rows that it sets aside are committed"),
        ),
        pytest.param(None, marks=pytest.mark.fault(KILLED, "at a random moment of a gate")),
    ],
    ids=["setting aside", "random"],
)
def test_killed_gate_sets_each_broken_row_aside_once(place: Place, outcome: Outcome, point: Point | None) -> None:
    flow, news = place.flow, place.news
    ends: list[Ended] = []
    with Readers(flow) as readers:
        for number, glucose in rounds(lambda number: 9000 if number % 2 == 0 else 100, news):
            run(flow, ingest).value()
            ends.append(killed(flow, gate, point or Delay(random.uniform(0, 0.6))))
            run(flow, gate).value()
            assert flow.query(SET_ASIDE.format(news.record_id)) == [(int(glucose == 9000),)], number
        run(flow, rest).value()
    record(place, outcome, readers, ends)


def record(place: Place, outcome: Outcome, readers: Readers, ends: list[Ended]) -> None:
    """All rounds as one outcome: rows are compared after the last, when the source says what it said at first."""
    died = sum(end.killed for end in ends)
    assert died, "every kill came too late"
    difference = compare(place.flow, place.clean)
    sweep(place.flow)
    message = next(end.message for end in ends if end.killed)
    besides = f"{died} of {len(ends)} kills met the process at work; leftovers found and removed"
    outcome.record(
        difference, readers.seen, message=message, mended_by="the step again", besides=besides, rounds=len(ends)
    )
