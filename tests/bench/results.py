"""Results as files: those of a run, which goes on from them, and the recorded ones, which the guard compares with."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from include.settings import ROOT
from tests.bench.runner import Result
from tests.bench.spec import Measure, Row, Scale

RECORDED = Path(__file__).parent / "recorded"
WORKING = ROOT / ".lakehouse" / "bench"
WORSE = 1.5
# A difference of seconds is as big as the machine is slow, and near to nothing: it may grow by this before it counts.
SPARE_SECONDS = 0.15


@dataclass
class Run:
    """The results of a scale and the machine that they are from."""

    scale: Scale
    machine: dict[str, str]
    results: dict[str, Result] = field(default_factory=dict)

    def add(self, results: Iterable[Result], *, if_better: bool = False) -> None:
        for result in results:
            before = self.results.get(result.key)
            if not (if_better and before and before.value <= result.value):
                self.results[result.key] = result

    def has(self, row: Row, commit: str) -> bool:
        """Whether every size of a row was measured with this code."""
        found = [self.results.get(f"{row.name}: {size.label}") for size in row.sizes[self.scale]]
        return bool(found) and all(result is not None and result.commit == commit for result in found)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.scale}.json"
        content = {"machine": self.machine, "results": [result.as_dict() for result in self.results.values()]}
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, folder: Path, scale: Scale) -> "Run | None":
        path = folder / f"{scale}.json"
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text())
        known = {each.name for each in fields(Result)}
        made = [Result(**{name: value for name, value in each.items() if name in known}) for each in content["results"]]
        return cls(scale, content["machine"], {result.key: result for result in made})


def worse(results: Iterable[Result], recorded: Mapping[str, Result], rows: Mapping[str, Row]) -> list[Result]:
    """The results that are worse than their recorded value by half."""
    return [result for result in results if result.value > _most(recorded.get(result.key), rows[result.row])]


def words(result: Result, before: Result, row: Row) -> str:
    """What is said of a result that is worse than the recorded one."""
    return (
        f"{result.key}: {result.value:.2f}, recorded is {before.value:.2f} and at most {_most(before, row):.2f} "
        "passes. Find what made it slower (the parts in docs/performance.md say where the time was), or, if it is "
        "meant to be, record it: make bench RECORD=yes."
    )


def _most(before: Result | None, row: Row) -> float:
    if before is None:
        return math.inf
    spare = SPARE_SECONDS if row.measure is Measure.EXTRA_SECONDS else 0.0
    return before.value * WORSE + spare if before.value > 0 else spare or before.value
