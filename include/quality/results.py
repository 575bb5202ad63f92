"""What a gate found, as values and files: `<quality_dir>/runs/<run>/<gate>.json` beside the evidence that it hashes."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from include.errors import GateError
from include.naming import run_slug


@dataclass(frozen=True)
class Finding:
    """A check that does not hold, or a reason why a gate could not check.

    Args:
        check: the check's name; for a table or suite that could not be checked, what is wrong with it.
        page: the Data Docs page that shows it, relative to the quality folder; empty if there is none.
    """

    check: str
    table: str
    expected: str
    observed: str
    why: str
    page: str = ""

    def __str__(self) -> str:
        return f"{self.check} ({self.table}): expected {self.expected}; observed {self.observed}."


@dataclass(frozen=True)
class GateResult:
    """One gate of one run. JSON-serialisable by `to_json`.

    Args:
        gate: gate_bronze, gate_silver or gate_gold.
        interval: start and end of the run's interval, ISO, UTC, half open.
        snapshot_id: the lake snapshot that every check read.
        evaluated: checks that were answered. Less than `declared` only in a failed gate.
        rows: rows of each table that was checked.
        set_aside: bronze only: per table, records landed in the judged windows and how many of them broke a rule.
        docs: page of the run, relative to the quality folder.
        pages: page of each table, relative to the quality folder.
        results_sha256: hash of the evidence file, which holds every check with its SQL and what was observed.
    """

    gate: str
    domain: str
    dag_run_id: str
    interval: tuple[str, str]
    snapshot_id: int
    success: bool
    declared: int
    evaluated: int
    failed: tuple[Finding, ...]
    warned: tuple[Finding, ...]
    rows: dict[str, int]
    set_aside: dict[str, dict[str, int]]
    checked_at: str
    seconds: float
    docs: str
    pages: dict[str, str]
    results_sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "GateResult":
        findings = {name: tuple(Finding(**finding) for finding in values[name]) for name in ("failed", "warned")}
        start, end = values["interval"]
        return cls(**{**values, **findings, "interval": (start, end)})

    def summary(self) -> dict[str, Any]:
        """What the release ledger keeps of it."""
        return {
            "gate": self.gate,
            "domain": self.domain,
            "success": self.success,
            "snapshot_id": self.snapshot_id,
            "evaluated": self.evaluated,
            "failed": [finding.check for finding in self.failed],
            "warned": [finding.check for finding in self.warned],
            "dag_run_id": self.dag_run_id,
            "results_sha256": self.results_sha256,
            "docs": self.docs,
        }


def run_folder(quality_dir: Path, dag_run_id: str) -> Path:
    """Where everything about a run's gates is."""
    return quality_dir / "runs" / run_slug(dag_run_id)


def read_result(quality_dir: Path, dag_run_id: str, gate: str) -> GateResult:
    """The latest result of a gate in a run.

    Raises:
        GateError: the gate wrote none.
    """
    path = run_folder(quality_dir, dag_run_id) / f"{gate}.json"
    if not path.is_file():
        raise GateError(f"{gate} has no result for the run {dag_run_id} ({path} is not there); run the gate first.")
    return GateResult.from_json(json.loads(path.read_text()))


def results(quality_dir: Path, dag_run_id: str) -> list[GateResult]:
    """The latest result of each gate of a run, in the order in which they were checked; none if there are none."""
    paths = run_folder(quality_dir, dag_run_id).glob("gate_*.json")
    found = [GateResult.from_json(json.loads(path.read_text())) for path in paths]
    return sorted(found, key=lambda result: result.checked_at)


def summaries(quality_dir: Path, dag_run_id: str) -> list[dict[str, Any]]:
    """For the release ledger: each gate of the run, in order. Empty if no gate ran, which no release should accept."""
    return [result.summary() for result in results(quality_dir, dag_run_id)]


def evidence_path(quality_dir: Path, dag_run_id: str, sha256: str) -> Path:
    """The evidence of a result, named by its own hash, so that a gate that runs again overwrites none."""
    return run_folder(quality_dir, dag_run_id) / "evidence" / f"{sha256}.json"


def write_evidence(quality_dir: Path, dag_run_id: str, evidence: dict[str, Any]) -> str:
    """Write evidence in canonical form; returns its SHA-256."""
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    write_text(evidence_path(quality_dir, dag_run_id, sha256), text)
    return sha256


def write_result(quality_dir: Path, result: GateResult) -> None:
    path = run_folder(quality_dir, result.dag_run_id) / f"{result.gate}.json"
    write_text(path, json.dumps(result.to_json(), indent=1, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, so that whoever reads it meanwhile sees the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
