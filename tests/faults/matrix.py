"""The fault matrix: what each test measured, as a row of docs/reliability.md. Nothing in a row is typed in by hand.

A test marked `fault(fault, at)` records its rounds through the fixture `outcome`; if it passes, its row is a JSON file
in the results folder. `python -m tests.faults.matrix` writes the document from these; `--declared` lists the tests.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from include.errors import without_statements
from include.settings import ROOT
from tests.faults.judge import Difference
from tests.faults.watch import Seen

DOCUMENT = ROOT / "docs" / "reliability.md"
RESULTS = Path(os.environ.get("LAKE_FAULTS_RESULTS", ROOT / ".lakehouse" / "faults"))
ROUNDS = int(os.environ.get("LAKE_TORTURE_ROUNDS", "3"))
# Of a message in the document; dbt's lists each model that failed.
LONGEST = 400

INTRODUCTION = """\
# Reliability

What goes wrong in production, done on purpose to real engines: each row is a test below `tests/faults`, and its figures
are what that test measured. Written by `make reliability`; a test fails when rows and tests differ.

- **Lost, doubled**: rows of silver, gold, the marts in PostgreSQL and the lake's views that are missing or too many
  after recovery, compared one by one with a run that nothing disturbed.
- **Halves**: readers of PostgreSQL and of the lake read all marts again and again while the fault happens. A read that
  is not one whole release, by the ledger's hashes, is a half.
- **Operator sees**: the message, in Airflow or from the command; `…` stands for what differs each time.
- **–**: not at stake in this fault; with 0 rounds, not measured yet.
"""
HEADER = (
    "Fault",
    "When",
    "Rounds",
    "Lost",
    "Doubled",
    "Halves",
    "Operator sees",
    "What brings it back",
    "Measured besides",
)


@dataclass(frozen=True)
class Row:
    """One fault at one point. None: not at stake."""

    test: str
    fault: str
    at: str
    rounds: int
    lost: int | None
    doubled: int | None
    reads: int | None
    halves: int | None
    messages: tuple[str, ...]
    mended_by: tuple[str, ...]
    besides: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        halves = "–" if self.reads is None else f"{self.halves} of {self.reads:,} reads"
        return (
            self.fault,
            self.at,
            str(self.rounds),
            "–" if self.lost is None else str(self.lost),
            "–" if self.doubled is None else str(self.doubled),
            halves,
            "<br>".join(self.messages),
            "<br>".join(self.mended_by),
            "<br>".join(self.besides),
        )


@dataclass
class Outcome:
    """What a test measures, round by round. A row that would say that something was lost is a failure instead."""

    differences: list[Difference] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    rounds: int = 0
    messages: dict[str, None] = field(default_factory=dict)
    mended_by: dict[str, None] = field(default_factory=dict)
    besides: dict[str, None] = field(default_factory=dict)

    def record(
        self,
        difference: Difference | None = None,
        seen: Seen | None = None,
        *,
        message: str,
        mended_by: str,
        besides: str = "",
        rounds: int = 1,
    ) -> None:
        """One round, or several that were compared after the last.

        Args:
            difference: rows after recovery against a clean run; None where no row is at stake.
            seen: what readers saw meanwhile; None where none is.
            message: what the operator was told, as it was.
            mended_by: what the test did to recover: `Airflow's retry`, or a command.
            besides: another figure that the test measured.
        """
        assert message.strip(), "the operator was told nothing"
        if difference is not None:
            difference.require_none()
            self.differences.append(difference)
        if seen is not None:
            seen.require_whole()
            self.seen.append(seen)
        self.rounds += rounds
        self.messages[normalised(message)] = None
        self.mended_by[mended_by] = None
        if besides:
            self.besides[besides] = None

    def row(self, test: str, fault: str, at: str) -> Row:
        assert self.rounds, f"{test} passed and recorded nothing."
        return Row(
            test,
            fault,
            at,
            self.rounds,
            sum(each.lost for each in self.differences) if self.differences else None,
            sum(each.doubled for each in self.differences) if self.differences else None,
            sum(each.reads for each in self.seen) if self.seen else None,
            sum(len(each.halves) for each in self.seen) if self.seen else None,
            tuple(self.messages),
            tuple(self.mended_by),
            tuple(self.besides),
        )


def normalised(message: str) -> str:
    """A message, cut to LONGEST, without what differs from run to run: folders, ids, times, numbers over a digit."""
    text = without_statements(" ".join(message.split()))
    text = re.sub(r"(?:/[\w.+=@-]+){2,}/?", "…", text)
    text = re.sub(r"\b(?:manual|scheduled|backfill|test)__\S+", "…", text)
    text = re.sub(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bt_[0-9a-f]{12}\b|\b[0-9a-f]{16,64}\b", "…", text)
    text = re.sub(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "…", text)
    text = re.sub(r"\d[\d,.]*\d", "…", text)
    text = re.sub(r"…(?:[ .:/-]?…)+", "…", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip('… ')}…"


def file_of(test: str, results: Path = RESULTS) -> Path:
    return results / f"{hashlib.sha256(test.encode()).hexdigest()[:16]}.json"


def write_row(row: Row, results: Path = RESULTS) -> None:
    results.mkdir(parents=True, exist_ok=True)
    file_of(row.test, results).write_text(json.dumps(asdict(row), indent=1))


def read_row(path: Path) -> Row:
    raw: dict[str, Any] = json.loads(path.read_text())
    lists = ("messages", "mended_by", "besides")
    return Row(**{name: tuple(value) if name in lists else value for name, value in raw.items()})


@cache
def declared() -> dict[str, tuple[str, str]]:
    """Every fault test that exists, in order: its id, fault and point."""
    command = [sys.executable, "-m", "tests.faults.matrix", "--declared"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {test: (fault, at) for test, fault, at in json.loads(done.stdout.splitlines()[-1])}


def listed(document: Path = DOCUMENT) -> list[tuple[str, str]]:
    """Fault and point of each row of the document."""
    lines = [line for line in document.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [(cells[0], cells[1]) for cells in rows if cells[0] != HEADER[0]]


def render(rows: Iterable[Row]) -> str:
    lines = [INTRODUCTION, _line(HEADER), _line("---" for _ in HEADER).replace(" ", "")]
    lines += [_line(row.cells()) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _collect() -> None:
    import pytest

    found: list[tuple[str, str, str]] = []

    class Collected:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            for item in session.items:
                marker = item.get_closest_marker("fault")
                assert marker is not None
                found.append((item.nodeid, *marker.args))

    arguments = ["--collect-only", "-qqq", "-p", "no:cacheprovider", "-m", "fault", str(ROOT / "tests" / "faults")]
    status = pytest.main(arguments, plugins=[Collected()])
    print(json.dumps(found))
    raise SystemExit(0 if status is pytest.ExitCode.NO_TESTS_COLLECTED else int(status))


def main() -> None:
    if "--declared" in sys.argv:
        _collect()
    tests = declared()
    missing = [test for test in tests if not file_of(test).exists()]
    if missing and "--partial" not in sys.argv:
        raise SystemExit(
            f"{len(missing)} of {len(tests)} fault tests have no result in {RESULTS}, the first: {missing[0]}. They "
            "failed or did not run; `make reliability` runs them all. With --partial their rows say so."
        )
    unmeasured = {
        test: Row(test, *tests[test], 0, None, None, None, 0, (), (), ("not measured yet",)) for test in missing
    }
    DOCUMENT.write_text(render(unmeasured.get(test) or read_row(file_of(test)) for test in tests))
    print(f"{DOCUMENT.relative_to(ROOT)}: {len(tests)} rows, {len(missing)} of them not measured yet.")


if __name__ == "__main__":
    main()
