"""The DAGs of the tree in which this process runs, as Airflow loads them: `python -m tools.pull_request.parse FILE`."""

import json
import sys
from pathlib import Path
from typing import Any

from include.settings import ROOT

ROUNDS = 5
# Of Airflow's serialisation: what only shows, and what every task has from its DAG.
LEFT_OUT = ("params", "ui_color", "ui_fgcolor", "template_fields", "template_fields_renderers", "fileloc")
OF_THE_FOLDER = ("fileloc", "relative_fileloc", "_processor_dags_folder", "tasks", "task_group", "dag_dependencies")


def main(target: Path) -> None:
    """Write to `target`: each DAG with its tasks, errors of files, and how long each file takes, in seconds.

    Seconds are the least of five rounds in a process that has Airflow and Cosmos imported, as the DAG processor has.
    """
    from airflow.dag_processing.dagbag import DagBag

    seconds: dict[str, float] = {}
    for _ in range(ROUNDS):
        bag = DagBag(ROOT / "dags")
        for stats in bag.dagbag_stats:
            file = f"dags/{Path(stats.file).name}"
            seconds[file] = min(stats.duration.total_seconds(), seconds.get(file, float("inf")))
    found = {
        "dags": {dag_id: _dag(dag) for dag_id, dag in sorted(bag.dags.items())},
        "errors": {f"dags/{Path(file).name}": _last_line(text) for file, text in sorted(bag.import_errors.items())},
        "seconds": seconds,
        "modules": loaded(),
    }
    target.write_text(json.dumps(found, default=str).replace(str(ROOT), "."))


def loaded() -> list[str]:
    """Files of include/ that this process has imported."""
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return sorted(str(file.relative_to(ROOT)) for file in files if file.is_relative_to(ROOT / "include"))


def _dag(dag: Any) -> dict[str, Any]:
    from airflow.serialization.serialized_objects import DagSerialization

    written = DagSerialization.to_dict(dag)["dag"]
    tasks = {}
    for task in written["tasks"]:
        values = task["__var"]
        kept = {name: value for name, value in values.items() if name not in LEFT_OUT}
        tasks[values["task_id"]] = kept | {"downstream_task_ids": sorted(values.get("downstream_task_ids", ()))}
    given = [values.get("op_kwargs") or {} for values in tasks.values()]
    return {
        "file": f"dags/{Path(dag.fileloc).name}",
        "properties": {name: value for name, value in written.items() if name not in OF_THE_FOLDER},
        "tasks": tasks,
        "domain": next((values["domain"] for values in given if "domain" in values), None),
        "streams": [values["stream"] for values in given if "stream" in values],
    }


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
