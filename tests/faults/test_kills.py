"""kill -9 of ingest, of dbt and of a release, at several points; the step runs once more, as Airflow lets it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from include.lake import fsck
from include.local.postgres import LocalPostgres
from include.release import ledger
from tests.faults import children
from tests.faults.bench import Bench, build, load
from tests.faults.children import After, Before, Delay, Ended, Entering, Point, Step
from tests.faults.judge import Difference, forget_history, leftovers, sweep
from tests.faults.matrix import ROUNDS, Outcome
from tests.faults.watch import Readers
from tests.pipeline.conftest import flow_maker
from tests.pipeline.histories import made_sites

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600 + 60 * ROUNDS)]

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
    Kill(DLT, "between the new rows and what they replace", lambda _: After("insert into .* by name")),
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
    Kill(PUBLISH, "while it writes marts to PostgreSQL", lambda random: After(MART_IS_HASHED, random.randint(1, 6))),
    Kill(PUBLISH, "before PostgreSQL's commit", lambda _: After(LEDGER_IS_WRITTEN)),
    Kill(PUBLISH, "during PostgreSQL's commit", lambda _: After(LEDGER_IS_WRITTEN), later=0.03),
    Kill(PUBLISH, "between PostgreSQL and the lake's views", lambda _: Before("create schema if not exists dl.marts")),
    Kill(PUBLISH, "before the views' commit", lambda _: After("set_commit_message")),
    Kill(PUBLISH, "when the views are set", lambda _: Entering("include.release.certify:_vanished")),
    Kill(PUBLISH, "at any time", lambda random: Delay(random.uniform(0, 0.8))),
)


def rows_of(kills: Sequence[Kill]) -> Any:
    marked = [pytest.param(kill, marks=pytest.mark.fault(kill.fault, kill.at), id=kill.at) for kill in kills]
    return pytest.mark.parametrize("kill", marked)


@pytest.fixture(scope="module")
def bench(
    server: LocalPostgres, extensions: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    sites = made_sites()
    for site in sites:
        for document in site.documents("entries"):
            if document["sgv"] < 20:  # no gate sets it aside here
                site.delete("entries", document["identifier" if site.v3 else "_id"])
    with flow_maker(server, extensions, tmp_path_factory.mktemp("bench")) as make:
        yield Bench(make(sites), sites[0])


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
    # Only a release may change what they see; beside the other steps they look less often, which costs less.
    with Readers(bench.flow, **({} if kill.fault == PUBLISH else {"pause": 2.0})) as readers:
        done = [round_of(Random(f"{kill.fault} {kill.at} {number}")) for number in range(ROUNDS)]
    found = len(leftovers(bench.flow))
    sweep(bench.flow)
    forget_history(bench.flow)
    assert not fsck.check(bench.flow.lake).damage
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
