"""docs/dags.md and docs/models.md, written from the DAGs and the dbt manifest: `make docs`."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from include.dbt_project import MANIFEST
from include.errors import SetupError
from include.layers import Layer
from include.settings import ROOT

DOCS = ROOT / "docs"
NOTE = "<!-- Written by `make docs`; edit what it is made from. -->"


def main() -> None:
    """Write both documents."""
    for name, text in {"dags.md": dags_page(ROOT / "dags"), "models.md": models_page(MANIFEST)}.items():
        (DOCS / name).write_text(text)


def dags_page(folder: Path) -> str:
    """Every DAG: what it is for, when it runs, its parameters, and its tasks with pools and retries.

    Raises:
        SetupError: a DAG file does not import, or there is none.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    if bag.import_errors or not bag.dags:
        raise SetupError(f"The DAGs in {folder} cannot be described: {bag.import_errors or 'there are none'}.")
    return _page("DAGs", (part for _, dag in sorted(bag.dags.items()) for part in _dag(dag)))


def models_page(manifest: Path) -> str:
    """Every dbt model by domain and layer, with grain, key and upstream; the columns of the marts."""
    project = json.loads(manifest.read_text())
    models = {key: node for key, node in project["nodes"].items() if node["resource_type"] == "model"}
    domains = sorted({_domain(node) for node in models.values()})
    return _page("Models", (part for domain in domains for part in _models(domain, models, project["sources"])))


def _dag(dag: Any) -> Iterator[str]:
    lines = dag.doc_md.strip().splitlines()
    yield f"## {dag.dag_id}\n\n{lines[0].lstrip('# ')}.\n\n" + "\n".join(lines[1:]).strip()
    expression = getattr(dag.timetable, "expression", None)
    schedule = f"`{expression}` (UTC)" if expression else "none, it is triggered"
    tags = ", ".join(f"`{tag}`" for tag in sorted(dag.tags))
    yield f"Schedule: {schedule}. Tags: {tags}. Runs at once: {dag.max_active_runs}."
    parameters = []
    for name in dag.params:
        param = dag.params.get_param(name)
        parameters.append((f"`{name}`", param.schema.get("title", ""), param.description or ""))
    if parameters:
        yield _table(("Parameter", "In the form", "What"), parameters)
    yield _flow(dag)
    tasks = [
        (f"`{task.task_id}`", f"`{task.pool}`", str(task.retries))
        for task in sorted(dag.tasks, key=lambda t: t.task_id)
    ]
    yield _table(("Task", "Pool", "Retries"), tasks)


def _flow(dag: Any) -> str:
    """The DAG's top level as a picture: a group is one box."""
    children = dag.task_group.children
    boxes = [f'    {_box(name)}["{name}"]' for name in sorted(children)]
    arrows = [
        f"    {_box(name)} --> {_box(after)}"
        for name, child in sorted(children.items())
        for after in sorted({*getattr(child, "downstream_group_ids", ()), *child.downstream_task_ids})
        if after in children
    ]
    return "\n".join(["```mermaid", "flowchart LR", *boxes, *arrows, "```"])


def _models(domain: str, models: dict[str, Any], sources: dict[str, Any]) -> Iterator[str]:
    mine = {key: node for key, node in models.items() if _domain(node) == domain}
    yield f"## {domain}"
    for layer in Layer:
        nodes = sorted((node for node in mine.values() if node["schema"] == layer.value), key=lambda node: node["name"])
        rows = [
            (
                f"`{node['name']}`",
                _first_sentence(node["description"]),
                node["config"]["meta"].get("grain", ""),
                ", ".join(f"`{column}`" for column in node["config"]["meta"].get("key", ())),
                node["config"]["materialized"],
                node["config"]["meta"].get("owner", ""),
                ", ".join(f"`{_name(parent, models, sources)}`" for parent in sorted(node["depends_on"]["nodes"])),
            )
            for node in nodes
        ]
        yield f"### {domain}: {layer.value}"
        yield _table(("Model", "What", "Grain", "Key", "Kind", "Owner", "Made from"), rows)
    for node in sorted(mine.values(), key=lambda node: node["name"]):
        if node["schema"] == Layer.GOLD.value:
            yield f"#### `{node['name']}`\n\n{' '.join(node['description'].split())}"
            columns = [
                (f"`{column['name']}`", column["data_type"] or "", " ".join(column["description"].split()))
                for column in node["columns"].values()
            ]
            yield _table(("Column", "Type", "What"), columns)


def _domain(node: dict[str, Any]) -> str:
    return node["fqn"][2]


def _name(key: str, models: dict[str, Any], sources: dict[str, Any]) -> str:
    source = sources.get(key)
    return f"{source['schema']}.{source['identifier']}" if source else models[key]["name"]


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _box(name: str) -> str:
    return name.replace(".", "_")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(title: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


if __name__ == "__main__":
    main()
