"""How the dbt models of two trees differ, read from their manifests."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TABLES = ("model", "seed", "snapshot")


@dataclass(frozen=True)
class ModelChange:
    """A model that differs.

    Args:
        table: schema and name, as `gold.mrt_daily_glycaemia`.
        kind: added, changed or gone.
        why: what of it differs. A macro counts if the model uses it, itself or through others.
        rows_may_differ: false if only words and checks differ.
    """

    table: str
    domain: str
    kind: str
    why: tuple[str, ...] = ()
    rows_may_differ: bool = True


class Project:
    """The tables of a manifest, by schema and name."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._macros = manifest["macros"]
        nodes = {**manifest["nodes"], **manifest["sources"]}
        self._names = {key: _name(node) for key, node in nodes.items() if node["resource_type"] in (*TABLES, "source")}
        self.nodes = {self._names[key]: nodes[key] for key in self._names}
        self._checks: dict[str, dict[str, Any]] = {}
        for node in manifest["nodes"].values():
            owner = self._names.get(node.get("attached_node") or "")
            if node["resource_type"] == "test" and owner:
                about = (node["test_metadata"] or {}).get("kwargs"), node["config"]
                self._checks.setdefault(owner, {})[_check(node)] = about
        for node in manifest.get("unit_tests", {}).values():
            owner = next((name for name in self.nodes if name.endswith(f".{node['model']}")), None)
            if owner:
                about = [node["given"], node["expect"], node["overrides"]]
                self._checks.setdefault(owner, {})[f"unit test {node['name']}"] = about

    def models(self) -> dict[str, Any]:
        """All but sources."""
        return {name: node for name, node in self.nodes.items() if node["resource_type"] in TABLES}

    def domain(self, table: str) -> str:
        """The folder that a table's file lies in, below its layer's."""
        return self.nodes[table]["fqn"][2]

    def key(self, table: str) -> tuple[str, ...]:
        return tuple(self.nodes[table]["config"]["meta"].get("key", ()))

    def parents(self, table: str) -> list[str]:
        parents = self.nodes[table].get("depends_on", {}).get("nodes", ())
        return sorted(self._names[parent] for parent in parents if parent in self._names)

    def in_order(self) -> list[str]:
        """Every table after those that it reads."""
        done: dict[str, None] = {}

        def visit(table: str) -> None:
            if table not in done:
                for parent in self.parents(table):
                    visit(parent)
                done[table] = None

        for table in sorted(self.nodes):
            visit(table)
        return list(done)

    def downstream(self, tables: set[str]) -> set[str]:
        """The tables and everything that reads them, however far."""
        found = set(tables)
        for table in self.in_order():
            if found & set(self.parents(table)):
                found.add(table)
        return found

    def macros(self, table: str) -> dict[str, str]:
        """Text of every macro that a table's SQL uses, itself or through others."""
        node, found = self.nodes[table], dict[str, str]()
        waiting = [*node.get("depends_on", {}).get("macros", ()), *self._called(node["config"])]
        while waiting:
            key = waiting.pop()
            if key not in found and key in self._macros:
                found[key] = self._macros[key]["macro_sql"]
                waiting += self._macros[key]["depends_on"]["macros"]
        return found

    def _called(self, config: Mapping[str, Any]) -> list[str]:
        """Macros of hooks, and the one that a strategy's name stands for: they are in no node's dependencies."""
        hooks = " ".join(hook["sql"] for moment in ("pre-hook", "post-hook") for hook in config.get(moment, ()))
        names = {*re.findall(r"(\w+)\(", hooks), f"get_incremental_{config.get('incremental_strategy')}_sql"}
        return [key for key in self._macros if key.rpartition(".")[2] in names]

    def checks(self, table: str) -> dict[str, Any]:
        return self._checks.get(table, {})


def compare(before: Project | None, after: Project) -> list[ModelChange]:
    """Models and sources that are not the same in both; all of `after` are added where there is no `before`."""
    if before is None:
        return [ModelChange(table, after.domain(table), "added") for table in after.models()]
    changes = []
    for table in sorted({*before.nodes, *after.nodes}):
        if table not in before.nodes:
            changes.append(ModelChange(table, after.domain(table), "added"))
        elif table not in after.nodes:
            changes.append(ModelChange(table, before.domain(table), "gone"))
        else:
            found = dict(_differences(before, after, table))
            if found:
                changes.append(ModelChange(table, after.domain(table), "changed", tuple(found), any(found.values())))
    return changes


def _differences(before: Project, after: Project, table: str) -> Iterator[tuple[str, bool]]:
    """What differs, and whether rows may differ by it."""
    old, new = before.nodes[table], after.nodes[table]
    if old["resource_type"] == "source":
        for part in ("freshness", "loaded_at_field"):
            if old.get(part) != new.get(part):
                yield part, False
    elif old["checksum"] != new["checksum"]:
        yield "SQL", True
    macros = before.macros(table), after.macros(table)
    for key in sorted({*macros[0], *macros[1]}):
        if macros[0].get(key) != macros[1].get(key):
            yield f"macro {key.rpartition('.')[2]}", True
    configs = [{k: v for k, v in node["config"].items() if k != "meta"} for node in (old, new)]
    for name in sorted({*configs[0], *configs[1]}):
        if configs[0].get(name) != configs[1].get(name):
            yield f"setting {name}", True
    if old["config"].get("meta") != new["config"].get("meta"):
        yield "meta", False
    yield from _column_differences(old["columns"], new["columns"])
    if old["description"] != new["description"]:
        yield "description", False
    checks = before.checks(table), after.checks(table)
    for name in sorted({*checks[0], *checks[1]}):
        if checks[0].get(name) != checks[1].get(name):
            sign = "+" if name not in checks[0] else "-" if name not in checks[1] else "changed "
            yield f"check {sign}{name}", False


def _column_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield f"column +{name}", True
        elif name not in new:
            yield f"column -{name}", True
        elif old[name].get("data_type") != new[name].get("data_type"):
            yield f"column {name}: {old[name].get('data_type')} → {new[name].get('data_type')}", True
        elif old[name] != new[name]:
            yield f"words or constraints of {name}", False


def _name(node: Mapping[str, Any]) -> str:
    table = node["identifier"] if node["resource_type"] == "source" else node.get("alias") or node["name"]
    return f"{node['schema']}.{table}"


def _check(node: Mapping[str, Any]) -> str:
    kind = (node["test_metadata"] or {}).get("name", node["name"])
    return f"{kind}({node['column_name']})" if node.get("column_name") else kind
