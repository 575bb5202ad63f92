"""Row 6, against tools that people would check with: one table, the same eight statements about its rows."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from include.lake.attach import literal
from include.layers import Layer
from include.quality.checks import Check, Core, Query, Rows, Suite
from tests.bench.data import DOMAIN, Built, built
from tests.bench.places import Places
from tests.bench.rows.gates import SIZES, run_gate
from tests.bench.rows.peers import Environment
from tests.bench.spec import Clock, Row, Scale, Size

TABLE = "silver.fct_cgm_reading"
NEAR = "epoch_ms(slot_at) % 300000 = 0 and abs(epoch_ms(reading_at) - epoch_ms(slot_at)) < 600000"
AGREE = "abs(glucose_mg_dl - 18.018 * glucose_mmol_l) <= 0.1 + 0.0005 * glucose_mg_dl"
STATEMENTS = 8

SODA_CHECKS = f"""
checks for fct_cgm_reading:
  - row_count > 0
  - missing_count(site) = 0
  - missing_count(slot_at) = 0
  - missing_count(glucose_mg_dl) = 0
  - duplicate_count(site, slot_at) = 0
  - invalid_count(glucose_mg_dl) = 0:
      valid min: 10
      valid max: 1000
  - failed rows:
      name: near its slot
      fail condition: not coalesce({NEAR}, false)
  - failed rows:
      name: units agree
      fail condition: not coalesce({AGREE}, false)
"""
SODA_SOURCE = """
data_source lake:
  type: duckdb
  path: peer.duckdb
"""
SODA_LOAD = """
import sys
import duckdb

duckdb.connect("peer.duckdb").execute(f"create table fct_cgm_reading as from '{sys.argv[1]}'")
"""
PANDERA = """
import sys
import pandera.polars as pa
import polars as pl

slot, reading = (pl.col(name).dt.epoch("ms") for name in ("slot_at", "reading_at"))
near = (slot % 300_000 == 0) & ((reading - slot).abs() < 600_000)
agree = (pl.col("glucose_mg_dl") - 18.018 * pl.col("glucose_mmol_l")).abs() <= 0.1 + 0.0005 * pl.col("glucose_mg_dl")
schema = pa.DataFrameSchema(
    {
        "site": pa.Column(nullable=False),
        "slot_at": pa.Column(nullable=False),
        "glucose_mg_dl": pa.Column(float, pa.Check.in_range(10, 1000), nullable=False),
    },
    checks=[
        pa.Check(lambda data: data.lazyframe.select(pl.len() > 0), name="has rows"),
        pa.Check(lambda data: data.lazyframe.select(near.fill_null(False)), name="near its slot"),
        pa.Check(lambda data: data.lazyframe.select(agree.fill_null(False)), name="units agree"),
    ],
    unique=["site", "slot_at"],
)
schema.validate(pl.read_parquet(sys.argv[1]), lazy=True)
print("8/8 checks PASSED")
"""


def _suite() -> Suite:
    """The statements as ours."""
    shown = ("site", "slot_at")
    tests = {
        "has_rows": Core("ExpectTableRowCountToBeBetween", {"min_value": 1}, "at least one row"),
        "has_a_site": Rows("site is not null", show=shown),
        "has_a_slot": Rows("slot_at is not null", show=shown),
        "has_a_value": Rows("glucose_mg_dl is not null", show=shown),
        "is_the_only_one_of_its_slot": Query(
            f"select site, slot_at from {TABLE} group by site, slot_at having count(*) > 1", "one row of a slot"
        ),
        "is_plausible": Rows("glucose_mg_dl between 10 and 1000", show=shown),
        "is_near_its_slot": Rows(NEAR, show=shown),
        "has_units_that_agree": Rows(AGREE, show=shown),
    }
    breaks = (f"delete from {TABLE}",)
    checks = [Check(name, TABLE, test, "The bench asks it.", breaks) for name, test in tests.items()]
    return Suite(DOMAIN, Layer.SILVER, tuple(checks))


def _as_it_is(binaries: Path, folder: Path) -> None:
    """Nothing: the tool reads `rows.parquet`."""


@dataclass(frozen=True)
class Checker:
    """A tool that checks: its command for a folder with `rows.parquet`, and what makes that folder ready."""

    environment: Environment
    words: str
    command: Callable[[Path, Path], list[str]]
    prepare: Callable[[Path, Path], None] = _as_it_is


def _soda(binaries: Path, folder: Path) -> list[str]:
    return [str(binaries / "soda"), "scan", "-d", "lake", "-c", "source.yml", "checks.yml"]


def _soda_prepare(binaries: Path, folder: Path) -> None:
    (folder / "checks.yml").write_text(SODA_CHECKS)
    (folder / "source.yml").write_text(SODA_SOURCE)
    (folder / ".soda").mkdir()
    (folder / ".soda" / "config.yml").write_text("send_anonymous_usage_stats: false\n")
    load = [str(binaries / "python"), "-c", SODA_LOAD, "rows.parquet"]  # only its own DuckDB reads its file
    subprocess.run(load, cwd=folder, check=True, capture_output=True)


def _pandera(binaries: Path, folder: Path) -> list[str]:
    return [str(binaries / "python"), "-c", PANDERA, "rows.parquet"]


CHECKERS = (
    Checker(
        Environment("soda", ("soda-core-duckdb==3.5.6", "setuptools")),  # for its distutils, which Python 3.12 took out
        "Soda Core 3.5.6 on the same rows in a DuckDB file",
        _soda,
        _soda_prepare,
    ),
    Checker(
        Environment("pandera", ("pandera[polars]==0.35.0", "polars==2.1.0", "pyarrow")),
        "Pandera 0.35.0 with Polars on the same rows in a Parquet file",
        _pandera,
    ),
)


@contextmanager
def checked(places: Places, size: Size, *, checker: Checker) -> Iterator[Built]:
    """A built lake of ten sites, and the table's rows as the tool takes them."""
    checker.environment.install()
    with built(places, 10, size.number) as made:
        folder = places.scratch()
        with made.flow.lake.open(read_only=True) as connection:
            connection.execute(f"copy (from {TABLE}) to {literal(str(folder / 'rows.parquet'))}")
        checker.prepare(checker.environment.python().parent, folder)
        yield made.with_extra(layer=Layer.SILVER, folder=folder)
        shutil.rmtree(folder, ignore_errors=True)


def run_checker(world: Built, clock: Clock, *, checker: Checker) -> int:
    """The tool as a process, from its start."""
    folder = world.extra["folder"]
    command = checker.command(checker.environment.python().parent, folder)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with clock:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-1500:]
    assert f"{STATEMENTS}/{STATEMENTS} checks PASSED" in done.stdout, done.stdout[-500:]
    return STATEMENTS


def _row(checker: Checker) -> Row:
    return Row(
        number="6",
        name=f"peer_{checker.environment.name}",
        ours=f"a gate of {STATEMENTS} checks on fct_cgm_reading, with its evidence and Data Docs",
        bound=checker.words,
        goal=None,
        sizes={Scale.FULL: SIZES[Scale.FULL]},
        world=partial(checked, checker=checker),
        run=partial(run_gate, suite=_suite()),
        against=partial(run_checker, checker=checker),
        runs={Scale.FULL: 3},
        note="below 1x, ours is quicker; the peer's start is in its time, and it keeps no evidence",
    )


ROWS = tuple(_row(checker) for checker in CHECKERS)
