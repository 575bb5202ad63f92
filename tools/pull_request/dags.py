"""How the DAGs of two trees differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORT = 60


@dataclass(frozen=True)
class DagChange:
    """A DAG that differs.

    Args:
        kind: added, changed or gone.
        notes: what changed of the DAG itself.
        tasks: by task, how it differs; of a DAG that is added or gone, all of its tasks.
    """

    dag_id: str
    kind: str
    notes: tuple[str, ...]
    tasks: tuple[tuple[str, str], ...]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DagChange]:
    """The DAGs of two parses (see `parse`) that are not the same in both."""
    changes = []
    for dag_id in sorted({*before, *after}):
        if dag_id not in before or dag_id not in after:
            kind, dag = ("added", after[dag_id]) if dag_id in after else ("gone", before[dag_id])
            changes.append(DagChange(dag_id, kind, (), tuple((task, kind) for task in sorted(dag["tasks"]))))
            continue
        notes = tuple(_differences(before[dag_id]["properties"], after[dag_id]["properties"]))
        tasks = tuple(_tasks(before[dag_id]["tasks"], after[dag_id]["tasks"]))
        if notes or tasks:
            changes.append(DagChange(dag_id, "changed", notes, tasks))
    return changes


def _tasks(before: Mapping[str, Any], after: Mapping[str, Any]):
    for task in sorted({*before, *after}):
        if task not in before:
            yield task, "added"
        elif task not in after:
            yield task, "gone"
        elif differences := list(_differences(before[task], after[task])):
            yield task, "; ".join(differences)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]):
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list) and all(isinstance(each, str) for each in old + new):
            yield f"{name}: " + ", ".join(
                [f"+{each}" for each in new if each not in old] + [f"-{each}" for each in old if each not in new]
            )
        else:
            long = any(len(str(value)) > SHORT or "\n" in str(value) for value in (old, new))
            yield name if long else f"{name}: {old} → {new}"
