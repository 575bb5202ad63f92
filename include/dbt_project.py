"""What the code needs to know of the dbt project, read from its manifest so that nothing is listed twice."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.errors import SetupError
from include.layers import Layer
from include.settings import ROOT

PROJECT_DIR = ROOT / "dbt"
MANIFEST = PROJECT_DIR / "target" / "manifest.json"
PARSED = PROJECT_DIR / "target" / "partial_parse.msgpack"


@dataclass(frozen=True)
class Column:
    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class Model:
    """A dbt model with what its YAML states: grain and key (under `config.meta`), columns and their types."""

    name: str
    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


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


def parsed(path: Path = PARSED) -> Any:
    """dbt's own manifest object, for `dbtRunner(manifest=...)`: dbt then parses nothing.

    Raises:
        SetupError: the project was not parsed yet.
    """
    from dbt.contracts.graph.manifest import Manifest

    if not path.exists():
        raise SetupError(f"The dbt project is not parsed: there is no {path}; run `make manifest`.")
    manifest = Manifest.from_msgpack(path.read_bytes())
    manifest.build_flat_graph()  # what a parse does last, and macros read
    return manifest


@lru_cache(maxsize=4)
def _manifest(path: Path, _modified: float) -> dict:
    if not path.exists():
        raise SetupError(f"There is no dbt manifest at {path}; run `make manifest`.")
    return json.loads(path.read_bytes())
