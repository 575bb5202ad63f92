"""The runs whose gates left results, from the files that the gates wrote."""

import json
from dataclasses import dataclass
from pathlib import Path

from include.quality.results import GateResult

PAGE = 50
GATES = ("gate_bronze", "gate_silver", "gate_gold")


@dataclass(frozen=True)
class Run:
    """The gates of one DAG run, in the order in which they were checked.

    Args:
        folder: the run's folder below `runs`.
        unreadable: result files that could not be read, with the reason; such a gate counts as unknown.
    """

    folder: str
    gates: tuple[GateResult, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def dag_run_id(self) -> str:
        return self.gates[-1].dag_run_id if self.gates else self.folder

    def gate(self, name: str) -> GateResult | None:
        return next((gate for gate in self.gates if gate.gate == name), None)


def runs(quality_dir: Path, page: int = 1) -> tuple[list[Run], int]:
    """One page of runs, newest first, and how many pages there are (none if no gate ever ran)."""
    folders = _folders(quality_dir)
    pages = -(-len(folders) // PAGE)
    return [_run(folder) for folder in folders[(page - 1) * PAGE : page * PAGE]], pages


def latest(quality_dir: Path, domain: str, *, within: int = 200) -> dict[str, GateResult | None]:
    """The latest result of each gate of a domain among the newest runs; None where there is none."""
    found: dict[str, GateResult | None] = dict.fromkeys(GATES)
    for folder in _folders(quality_dir)[:within]:
        for gate in _run(folder).gates:
            if gate.domain != domain:
                continue
            known = found.get(gate.gate)
            if known is None or gate.checked_at > known.checked_at:
                found[gate.gate] = gate
    return found


def unreadable(quality_dir: Path, *, within: int = 200) -> list[str]:
    """Why results of the newest runs could not be read, if any could not."""
    return [reason for folder in _folders(quality_dir)[:within] for reason in _run(folder).unreadable]


def _folders(quality_dir: Path) -> list[Path]:
    root = quality_dir / "runs"
    if not root.is_dir():
        return []
    folders = [(folder.stat().st_mtime, folder) for folder in root.iterdir() if folder.is_dir()]
    return [folder for _, folder in sorted(folders, reverse=True)]


def _run(folder: Path) -> Run:
    gates: list[GateResult] = []
    broken: list[str] = []
    for path in sorted(folder.glob("gate_*.json")):
        try:
            gates.append(GateResult.from_json(json.loads(path.read_text())))
        except (OSError, ValueError, KeyError, TypeError) as error:
            broken.append(f"{folder.name}/{path.name}: {type(error).__name__}: {error}")
    return Run(folder.name, tuple(sorted(gates, key=lambda gate: gate.checked_at)), tuple(broken))
