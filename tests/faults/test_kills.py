"""kill -9 of ingest, of dbt and of a release, at several points; the step runs once more, as Airflow lets it.

One small lake for all. Each round gives the sites the other one of two states, so that there is always something to
write, and is compared with what that state gave when nothing was killed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from include.lake import fsck
from include.layers import Layer
from include.local.postgres import LocalPostgres
from include.release import ledger
from tests.faults import children
from tests.faults.children import After, Before, Commits, Delay, Ended, Entering, Point, Step
from tests.faults.judge import Difference, difference, leftovers, sweep
from tests.faults.matrix import ROUNDS, Outcome
from tests.faults.watch import Readers
from tests.pipeline.conftest import flow_maker
from tests.pipeline.flow import TABLES, Flow, Rows
from tests.pipeline.histories import V3_SITE, WHOLE_RANGE, made_sites

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300 + 30 * ROUNDS)]

COPIES = "copies"
DLT, DBT, PUBLISH = "ingest (dlt) is killed", "dbt is killed", "a release is killed"
MODEL_WRITES = r'(?s)"node_id": "model\..*\b(create (or replace )?table|insert into)\b'
MART_IS_HASHED, LEDGER_IS_WRITTEN = "canonical_line", "insert into ledger.releases"


@dataclass(frozen=True)
class Kill:
    """Where a step is killed: a point, drawn anew each round, and for up to how many seconds it goes on behind it."""

    fault: str
    at: str
    point: Callable[[Random], Point]
    later: float = 0.0


INGEST = (
    Kill(DLT, "while a site answers", lambda _: After(r"max\(load_seq\)"), later=0.03),
    Kill(DLT, "in dlt's extract", lambda _: Entering("dlt.extract.extract:Extract.extract"), later=0.04),
    Kill(DLT, "in dlt's normalise", lambda _: Entering("dlt.normalize.normalize:Normalize.run"), later=0.04),
    Kill(DLT, "between staging and merge", lambda _: After("insert into .*bronze_staging")),
    Kill(DLT, "before the lake's commit", lambda _: Before("^commit$")),
    Kill(DLT, "during the lake's commit", lambda _: Before("^commit$"), later=0.03),
    Kill(DLT, "after the lake's commit", lambda _: After("^commit$")),
    Kill(DLT, "at any time", lambda random: Delay(random.uniform(0, 0.6))),
)
BUILD = (
    Kill(DBT, "between a model's rows and its commit", lambda random: After(MODEL_WRITES, random.randint(1, 12))),
    Kill(DBT, "while a model writes", lambda random: Before(MODEL_WRITES, random.randint(1, 12)), later=0.02),
    Kill(DBT, "during a model's commit", lambda random: Before("^commit$", random.randint(4, 14)), later=0.02),
    Kill(DBT, "between two models", lambda random: After("^commit$", random.randint(4, 14))),
    Kill(DBT, "at any time", lambda random: Delay(random.uniform(0, 1.5))),
)
RELEASE = (
    Kill(PUBLISH, "while it writes marts to PostgreSQL", lambda random: After(MART_IS_HASHED, random.randint(1, 12))),
    Kill(PUBLISH, "before PostgreSQL's commit", lambda _: After(LEDGER_IS_WRITTEN)),
    Kill(PUBLISH, "during PostgreSQL's commit", lambda _: After(LEDGER_IS_WRITTEN), later=0.03),
    Kill(PUBLISH, "between PostgreSQL and the lake's views", lambda _: Before("create schema if not exists dl.marts")),
    Kill(PUBLISH, "before the views' commit", lambda _: After("set_commit_message")),
    Kill(PUBLISH, "when the views are set", lambda _: Commits(1)),
    Kill(PUBLISH, "at any time", lambda random: Delay(random.uniform(0, 0.8))),
)


def rows_of(kills: Sequence[Kill]) -> Any:
    marked = [pytest.param(kill, marks=pytest.mark.fault(kill.fault, kill.at), id=kill.at) for kill in kills]
    return pytest.mark.parametrize("kill", marked)


class Bench:
    """A flow whose sites are in one of two states, and the rows that each gave when nothing was killed."""

    def __init__(self, flow: Flow, sites: dict) -> None:
        self.flow, self._site, self._state, self._run = flow, sites[V3_SITE], 0, 0
        self._readings = sorted(each["identifier"] for each in self._site.documents("entries"))[:6]
        children.run(flow, partial(Flow.run, first=WHOLE_RANGE.start.date(), end=WHOLE_RANGE.end.date())).value()
        self._gates = [children.run(flow, partial(gate, layer=layer)).value() for layer in Layer]
        self._lake: list[Rows] = []
        self._bronze: list[Rows] = []
        flow.write(f"create schema {COPIES}")
        for state in (1, 0):
            self.turn()
            children.run(flow, load).value()
            children.run(flow, build).value()
            self._lake.insert(0, flow.lake_rows())
            self._bronze.insert(0, self.bronze())
            for mart in TABLES["gold"]:
                flow.write(f"create table {COPIES}.{mart}_{state} as from gold.{mart}")
        assert self._lake[0] != self._lake[1] and self._bronze[0] != self._bronze[1]
        assert all(self._lake[0].values())

    def turn(self) -> None:
        """Let readings be others, and one be there or not."""
        self._state = 1 - self._state
        *edited, deleted = self._readings
        for number, key in enumerate(edited):
            self._site.edit("entries", key, {"sgv": 100 + number + 80 * self._state})
        self._site.edit("entries", deleted, {"isValid": bool(self._state)})

    def turn_gold(self) -> None:
        """Let the marts be those of the other state, as a build would leave them."""
        self._state = 1 - self._state
        with self.flow.lake.open() as lake:
            lake.execute("begin")
            for mart in TABLES["gold"]:
                lake.execute(f"delete from gold.{mart}")
                lake.execute(f"insert into gold.{mart} from {COPIES}.{mart}_{self._state}")
            lake.execute("commit")

    def release(self) -> Step:
        """The release of the lake as it is, judged by gates that passed earlier: they are not what is tried here."""
        self._run += 1
        ((snapshot,),) = self.flow.query("select max(snapshot_id) from dl.snapshots()")
        gates = [{**each, "snapshot_id": snapshot} for each in self._gates]
        return partial(Flow.release, interval=WHOLE_RANGE, run_id=f"test__{self._run}", gates=gates)

    def bronze(self) -> Rows:
        """What the loads brought, without which load it was."""
        lineage = "load_seq, fetched_at, interval_start, interval_end, _dlt_load_id, srv_modified"
        rows = self.flow.query(f"select * exclude ({lineage}) from bronze.nightscout_entries")
        return {"bronze.nightscout_entries": rows}

    def loaded(self) -> Difference:
        return difference(self.bronze(), self._bronze[self._state])

    def built(self) -> Difference:
        return difference(self.flow.lake_rows(), self._lake[self._state])

    def published(self) -> Difference:
        clean = {name: rows for name, rows in self._lake[self._state].items() if name.startswith("gold.")}
        views = {f"gold.{mart}": rows for mart, rows in self.flow.view_rows().items()}
        assert self.flow.published_rows() == self.flow.view_rows()
        return difference(views, clean)


def load(flow: Flow) -> None:
    flow.ingest(WHOLE_RANGE, streams=("entries",))


def build(flow: Flow) -> None:
    flow.dbt(Layer.SILVER, Layer.GOLD, tests=False)


def gate(flow: Flow, layer: Layer) -> dict[str, Any]:
    return flow.gate(layer, WHOLE_RANGE, "test__bench")


@pytest.fixture(scope="module")
def bench(
    server: LocalPostgres, extensions: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    sites = {site.site: site for site in made_sites()}
    with flow_maker(server, extensions, tmp_path_factory.mktemp("bench")) as make:
        yield Bench(make(sites.values()), sites)


@rows_of(INGEST)
def test_killed_ingest_is_whole_after_its_retry(bench: Bench, kill: Kill, outcome: Outcome) -> None:
    def round_of(random: Random) -> tuple[Ended, Difference]:
        bench.turn()
        ended = _killed_and_retried(bench, kill, random, load)
        return ended, bench.loaded()

    _rounds(bench, kill, outcome, round_of)
    children.run(bench.flow, build).value()
    bench.built().require_none()


@rows_of(BUILD)
def test_killed_build_is_whole_after_its_retry(bench: Bench, kill: Kill, outcome: Outcome) -> None:
    def round_of(random: Random) -> tuple[Ended, Difference]:
        bench.turn()
        children.run(bench.flow, load).value()
        ended = _killed_and_retried(bench, kill, random, build)
        return ended, bench.built()

    _rounds(bench, kill, outcome, round_of)


@rows_of(RELEASE)
def test_killed_release_is_whole_after_its_retry(bench: Bench, kill: Kill, outcome: Outcome) -> None:
    def round_of(random: Random) -> tuple[Ended, Difference]:
        bench.turn_gold()
        ended = _killed_and_retried(bench, kill, random, bench.release())
        return ended, bench.published()

    _rounds(bench, kill, outcome, round_of)
    assert ledger.verify(bench.flow.marts, bench.flow.lake).entries > ROUNDS


def _killed_and_retried(bench: Bench, kill: Kill, random: Random, step: Step) -> Ended:
    ended = children.killed(bench.flow, step, kill.point(random), random.uniform(0, kill.later))
    children.run(bench.flow, step).value()
    return ended


def _rounds(bench: Bench, kill: Kill, outcome: Outcome, round_of: Callable[[Random], tuple[Ended, Difference]]) -> None:
    """The rounds of a row, with readers beside all of them; then upkeep finds and removes what is left."""
    with Readers(bench.flow) as readers:
        done = [round_of(Random(f"{kill.fault} {kill.at} {number}")) for number in range(ROUNDS)]
    found = len(leftovers(bench.flow))
    sweep(bench.flow)
    assert fsck.check(bench.flow.lake).damage == []
    killed = sum(ended.killed for ended, _ in done)
    assert killed, "the step had always ended before it was killed"
    besides = f"{killed} of {ROUNDS} were killed before they ended; upkeep removed {found} leftovers"
    for number, (ended, found_rows) in enumerate(done):
        last = number == len(done) - 1
        outcome.record(
            found_rows,
            readers.seen if last else None,
            message=ended.message or "nothing: the step had ended",
            mended_by="Airflow's retry",
            besides=besides if last else "",
        )
