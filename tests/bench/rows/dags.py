"""Row 12: parsing each DAG file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from include.settings import ROOT
from tests.bench.places import Places
from tests.bench.spec import Clock, Measure, Row, Scale, Size

FILES = sorted((ROOT / "dags").glob("*.py"))
EMPTY = '''"""### Nothing"""

from airflow.sdk import dag


@dag(schedule=None)
def nothing():
    pass


nothing()
'''
TIMES = 3


@dataclass(frozen=True)
class Folder:
    file: Path
    empty: Path


@contextmanager
def folder(places: Places, size: Size, *, file: Path) -> Iterator[Folder]:
    """An empty DAG file beside it."""
    empty = places.scratch() / "nothing.py"
    empty.write_text(EMPTY)
    yield Folder(file, empty)


def parse(world: Folder, clock: Clock, *, which: str) -> int:
    """A file read again and again by a process that has read it before."""
    from airflow.dag_processing.dagbag import DagBag

    file = str(getattr(world, which))
    bag = DagBag(file, collect_dags=False)
    found = bag.process_file(file, only_if_updated=False)
    with clock:
        for _ in range(TIMES):
            found = bag.process_file(file, only_if_updated=False)
    assert clock.seconds is not None
    clock.seconds /= TIMES
    clock.parts = {label: seconds / TIMES for label, seconds in clock.parts.items()}
    assert not bag.import_errors, bag.import_errors
    return len(found)


def _row(file: Path) -> Row:
    return Row(
        number="12",
        name=f"parse_{file.stem}",
        ours=f"parse `dags/{file.name}` in a warm process",
        bound="an empty DAG file",
        goal=0.3,
        sizes={scale: (Size("one DAG"),) for scale in Scale},
        world=partial(folder, file=file),
        run=partial(parse, which="file"),
        against=partial(parse, which="empty"),
        measure=Measure.EXTRA_SECONDS,
        parts={"Cosmos: its group": "include.orchestration.tasks:layer"},
    )


ROWS = tuple(_row(file) for file in FILES)
