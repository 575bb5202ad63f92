"""What the code needs to know of the dbt project, read from its manifest so that nothing is listed twice."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from include.errors import SetupError
from include.layers import Layer
from include.settings import ROOT

PROJECT_DIR = ROOT / "dbt"
MANIFEST = PROJECT_DIR / "target" / "manifest.json"
PARSED = PROJECT_DIR / "target" / "partial_parse.msgpack"
FINGERPRINT = PROJECT_DIR / "target" / "fingerprint"
FOLDERS = ("models", "macros", "tests", "seeds", "snapshots")


@dataclass(frozen=True)
class Column:
    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class Model:
    """A dbt model with what its YAML states: grain, key and owner (under `config.meta`), columns and their types."""

    name: str
    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    owner: str = ""


def models(layer: Layer, domain: str, manifest: Path = MANIFEST) -> list[Model]:
    """The models of one domain in one layer, by name.

    Raises:
        SetupError: there is no manifest, or it holds no such model.
    """
    prefix = f"models/{layer.value}/{domain}/"
    found = [
        Model(
            name=node["name"],
            description=node["description"],
            grain=node["config"]["meta"].get("grain", ""),
            key=tuple(node["config"]["meta"].get("key", ())),
            columns=tuple(
                Column(column["name"], column.get("data_type") or "", column.get("description") or "")
                for column in node["columns"].values()
            ),
            owner=node["config"]["meta"].get("owner", ""),
        )
        for node in _manifest(manifest, manifest.stat().st_mtime if manifest.exists() else 0.0)["nodes"].values()
        if node["resource_type"] == "model" and node["original_file_path"].startswith(prefix)
    ]
    if not found:
        raise SetupError(f"The dbt manifest has no model under {prefix}; expected at least one. Run `make manifest`.")
    return sorted(found, key=lambda model: model.name)


def marts(domain: str, manifest: Path = MANIFEST) -> list[Model]:
    """The marts that a release of the domain publishes: every model of its gold layer."""
    return models(Layer.GOLD, domain, manifest)


@dataclass(frozen=True)
class Node:
    """A model or source table in dbt's lineage, by the name of its table.

    Args:
        parents: names of the tables that it reads.
        explained_by: by ancestor, which of its rows a row of this model was computed from (`config.meta`): a
            condition on `this` and `upstream`.
        meta: all of `config.meta`.
    """

    name: str
    schema: str
    is_source: bool
    key: tuple[str, ...]
    columns: tuple[str, ...]
    parents: tuple[str, ...]
    explained_by: dict[str, str]
    meta: dict[str, Any]


def lineage(domain: str, manifest: Path = MANIFEST) -> dict[str, Node]:
    """The models of a domain and everything upstream of them, by table name.

    Raises:
        SetupError: there is no manifest, or it holds no model of the domain.
    """
    content = _manifest(manifest, manifest.stat().st_mtime if manifest.exists() else 0.0)
    every = {**content["nodes"], **content["sources"]}
    wanted = {
        unique_id
        for unique_id, node in every.items()
        if node["resource_type"] == "model" and f"/{domain}/" in node["original_file_path"]
    }
    if not wanted:
        raise SetupError(f"The dbt manifest has no model of {domain}; run `make manifest`.")
    open_ = list(wanted)
    while open_:
        for parent in every[open_.pop()].get("depends_on", {}).get("nodes", ()):
            if parent not in wanted:
                wanted.add(parent)
                open_.append(parent)
    nodes = [_node(every[unique_id], every) for unique_id in sorted(wanted)]
    return {node.name: node for node in nodes}


def _node(node: dict[str, Any], every: dict[str, Any]) -> Node:
    meta = node["config"].get("meta") or {}
    return Node(
        name=_table(node),
        schema=node["schema"],
        is_source=node["resource_type"] == "source",
        key=tuple(meta.get("key", ())),
        columns=tuple(node["columns"]),
        parents=tuple(_table(every[parent]) for parent in node.get("depends_on", {}).get("nodes", ())),
        explained_by=dict(meta.get("explained_by", {})),
        meta=meta,
    )


def _table(node: dict[str, Any]) -> str:
    return node["identifier"] if node["resource_type"] == "source" else node["alias"] or node["name"]


def pseudonymises(domain: str, project: Path = PROJECT_DIR) -> bool:
    """Whether a model of the domain hashes people, and so needs the domain's key."""
    return any("keyed_hash(" in file.read_text() for file in project.glob(f"models/*/{domain}/*.sql"))


def fingerprint(project: Path = PROJECT_DIR) -> str:
    """A hash of the project's files and of dbt's version: what a manifest was made from.

    Raises:
        SetupError: the project has no files.
    """
    files = [*project.glob("*.yml"), *(file for folder in FOLDERS for file in (project / folder).rglob("*"))]
    found = hashlib.sha256(version("dbt-core").encode())
    names = sorted((file.relative_to(project).as_posix(), file) for file in files if file.is_file())
    if not names:
        raise SetupError(f"The dbt project in {project} has no files; expected models.")
    for name, file in names:
        found.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return found.hexdigest()


def is_parsed() -> bool:
    """Whether there is a manifest, made from the project's files as they are now."""
    return MANIFEST.exists() and FINGERPRINT.exists() and FINGERPRINT.read_text() == fingerprint()


def parsed(path: Path = PARSED) -> Any:
    """dbt's own manifest object, for `dbtRunner(manifest=...)`: dbt then parses nothing.

    Raises:
        SetupError: the project was not parsed since its files changed; dbt would run what they were before.
    """
    from dbt.contracts.graph.manifest import Manifest

    if not path.exists():
        raise SetupError(f"The dbt project is not parsed: there is no {path}; run `make manifest`.")
    if path == PARSED and not is_parsed():
        raise SetupError("The dbt project was changed since it was parsed; run `make manifest`, then clear this task.")
    manifest = Manifest.from_msgpack(path.read_bytes())
    manifest.build_flat_graph()  # what a parse does last, and macros read
    return manifest


@lru_cache(maxsize=4)
def _manifest(path: Path, _modified: float) -> dict:
    if not path.exists():
        raise SetupError(f"There is no dbt manifest at {path}; run `make manifest`.")
    return orjson.loads(path.read_bytes())
