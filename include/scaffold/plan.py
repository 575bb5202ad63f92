"""What `lake new` would write: whole files, and small insertions into files that exist."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from include.domains import domains
from include.layers import Layer
from include.scaffold import edits
from include.scaffold.kinds import Kind, kind_of
from include.scaffold.names import ScaffoldError, check_domain
from include.scaffold.render import files, part
from include.scaffold.spec import Column, Domain, Mart, Stream


@dataclass
class Plan:
    """Files to write, and files that change, each with its new text; paths are of the repository."""

    root: Path
    new: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Write all of it.

        Raises:
            ScaffoldError: a file is there already; nothing was written.
        """
        if taken := sorted(path for path in self.new if (self.root / path).exists()):
            raise ScaffoldError(
                f"There is {', '.join(taken)} already, and `lake new` overwrites nothing. Nothing was written. Move "
                "it away, or choose another name."
            )
        for path, text in (self.new | self.changed).items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def _read(self, path: str) -> str:
        if path in self.changed:
            return self.changed[path]
        if not (self.root / path).is_file():
            raise ScaffoldError(f"There is no {path}, which `lake new` would add to. Nothing was written.")
        return (self.root / path).read_text(encoding="utf-8")

    def _insert(self, path: str, name: str, text: str) -> None:
        self.changed[path] = edits.insert(self._read(path), name, text, path)


def new_domain(root: Path, kind: Kind, domain: Domain) -> Plan:
    """A whole domain: source, sample, models, suites, DAGs, tests and a how-to.

    Raises:
        ScaffoldError: the name is not free, or a model's is not.
    """
    check_domain(domain.name, root)
    if not domain.streams or not domain.marts:
        raise ScaffoldError(
            f"Domain {domain.name} has no stream; expected at least one, such as --stream orders:order_id:updated_at."
        )
    names = [stream.name for stream in domain.streams]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ScaffoldError(f"Stream {', '.join(sorted(twice))} is named more than once.")
    _require_free(
        root, [name for stream in domain.streams for name in _models(stream)] + [m.name for m in domain.marts]
    )
    plan, words = Plan(root), {"DOMAIN": domain.name}
    values = _values(kind, domain)
    plan.new |= dict(files("domain", words, **values)) | dict(files(f"kinds/{kind.name}/domain", words, **values))
    for stream in domain.streams:
        plan.new |= _stream_files(stream)
    for mart in domain.marts:
        plan.new |= _mart_files(mart)
    return plan


def new_stream(root: Path, stream: Stream) -> Plan:
    """A stream of a domain that is there: models, and a line or so in its source, sources, suites, sample and test.

    Raises:
        ScaffoldError: there is no such domain, the stream is not new, or a file is shaped otherwise.
    """
    name, kind = stream.domain, kind_of_domain(root, stream.domain)
    plan = Plan(root)
    streams_py = f"include/sources/{name}/streams.py"
    _require_free(root, _models(stream))
    schema = schema_of(root, name)
    piece = partial(_values(kind, Domain(name, (stream,), (), schema=schema))["part"], stream=stream)
    plan.new |= _stream_files(stream)
    plan._insert(streams_py, "STREAMS", piece("streams.py"))
    _import_subject(plan, streams_py, stream)
    suites = f"include/quality/suites/{name}.py"
    plan._insert(suites, "ROW_RULES", piece("rules.py"))
    plan._insert(suites, "SILVER", piece("silver.py"))
    plan._insert(f"include/local/{name}/sample.py", "STATEMENTS", piece("sample.py"))
    plan._insert(f"tests/dbt/test_{name}.py", "MODELS", piece("models.py"))
    sources = f"dbt/models/bronze/{name}/_{name}__sources.yml"
    plan.changed[sources] = edits.append_source(plan._read(sources), piece("source.yml"), sources)
    return plan


def new_mart(
    root: Path,
    domain: str,
    name: str,
    of: str,
    *,
    day: str | None = None,
    by: Iterable[str] = (),
    sums: Iterable[str] = (),
    owner: str,
) -> Plan:
    """A mart that counts the rows of a silver model by site and day.

    Args:
        day: column of the model that holds a day; by default its only one of type date.
        by: further columns to count by.
        sums: columns to sum.

    Raises:
        ScaffoldError: there is no such domain, model or column, or a name is not free.
    """
    _require_domain(root, domain)
    _require_free(root, [name])
    columns = _columns_of(root, domain, of)
    dates = [column.name for column in columns.values() if column.data_type == "date"]
    chosen = day or (dates[0] if len(dates) == 1 else None)
    if chosen is None:
        raise ScaffoldError(
            f"Model {of} has {', '.join(dates) or 'no column'} of type date; say which is the mart's: --day COLUMN."
        )
    wanted, summed = ["site", chosen, *by], list(sums)
    if missing := [column for column in (*wanted, *summed) if column not in columns]:
        raise ScaffoldError(f"Model {of} has no column {', '.join(missing)}; it has {', '.join(columns)}.")
    if columns[chosen].data_type != "date":
        raise ScaffoldError(f"Column {chosen} of {of} is {columns[chosen].data_type}; expected a date.")
    if odd := [column for column in summed if not columns[column].is_number]:
        raise ScaffoldError(f"Column {', '.join(odd)} of {of} is no number, which could be summed.")
    noun = of.partition("_")[2].removeprefix(f"{domain}_")
    mart = Mart(
        domain,
        name,
        of,
        tuple(columns[column] for column in dict.fromkeys(wanted)),
        noun,
        tuple(columns[column] for column in summed),
        "is_deleted" in columns,
        owner,
    )
    plan = Plan(root)
    plan.new |= _mart_files(mart)
    suites = f"include/quality/suites/{domain}.py"
    plan._insert(suites, "GOLD", part("gold.py", kind="", mart=mart))
    _import_built(plan, suites)
    plan._insert(f"tests/dbt/test_{domain}.py", "MODELS", f'"gold.{name}",')
    return plan


def kind_of_domain(root: Path, domain: str) -> Kind:
    """The kind of source that a domain has.

    Raises:
        ScaffoldError: there is no such domain, or `lake new` does not know its kind.
    """
    _require_domain(root, domain)
    path = f"include/sources/{domain}/streams.py"
    return kind_of((root / path).read_text(encoding="utf-8"), path)


def schema_of(root: Path, domain: str) -> str:
    """The schema that a domain's first database names."""
    file = root / "include/sources" / domain / "databases.yaml"
    listed: list[Mapping[str, Any]] = yaml.safe_load(file.read_text())["databases"] if file.is_file() else [{}]
    return listed[0].get("schema", "app")


def _values(kind: Kind, domain: Domain) -> dict[str, Any]:
    def piece(name: str, **values: Any) -> str:
        request = kind.request(domain, values["stream"]) if "stream" in values else ""
        return part(name, kind.name, domain=domain, of_kind=kind, made_up=kind.made_up, request=request, **values)

    return {"domain": domain, "kind": kind, "part": piece, "made_up": kind.made_up}


def _stream_files(stream: Stream) -> dict[str, str]:
    words = {"DOMAIN": stream.domain, "STAGING": stream.staging, "MODEL": stream.model}
    return dict(files("stream", words, stream=stream))


def _mart_files(mart: Mart) -> dict[str, str]:
    return dict(files("mart", {"DOMAIN": mart.domain, "MART": mart.name}, mart=mart))


def _models(stream: Stream) -> list[str]:
    return [stream.staging, stream.model]


def _require_domain(root: Path, name: str) -> str:
    known = domains(root / "include/sources")
    if name not in known:
        raise ScaffoldError(
            f"There is no domain {name}; known are {', '.join(known)}. `lake new domain {name}` makes one."
        )
    return name


def _require_free(root: Path, models: Iterable[str]) -> None:
    there = {file.stem: file for file in (root / "dbt/models").rglob("*.sql")}
    for name in models:
        if name in there:
            raise ScaffoldError(
                f"There is a model {name} already, {there[name].relative_to(root)}, and dbt knows models by name "
                "alone; choose another."
            )


def _columns_of(root: Path, domain: str, model: str) -> dict[str, Column]:
    folder = root / "dbt/models" / Layer.SILVER / domain
    known = sorted(file.stem for file in folder.glob("*.sql"))
    if model not in known:
        raise ScaffoldError(f"There is no silver model {model} in {domain}; it has {', '.join(known) or 'none'}.")
    for file in folder.glob("*.yml"):
        for stated in (yaml.safe_load(file.read_text()) or {}).get("models", ()):
            if stated["name"] == model:
                return {c["name"]: Column(c["name"], c["data_type"], c["data_type"]) for c in stated["columns"]}
    raise ScaffoldError(f"No YAML file in {folder.relative_to(root)} states the columns of {model}.")


def _import_built(plan: Plan, path: str) -> None:
    """What the checks of a mart are made by must be imported; a domain may have had no use for it."""
    found = re.search(r"^from include\.quality\.suites import (.+)$", plan.changed[path], re.MULTILINE)
    if found is None:
        raise ScaffoldError(
            f"{path} has no line `from include.quality.suites import built`, which the mart's checks need; add it. "
            "Nothing was written."
        )
    names = sorted({*found[1].split(", "), "built"})
    line = f"from include.quality.suites import {', '.join(names)}"
    plan.changed[path] = plan.changed[path].replace(found[0], line, 1)


def _import_subject(plan: Plan, path: str, stream: Stream) -> None:
    """What the stream says of its subject must be imported; a domain may have had no use for one of the two."""
    wanted = "Subject" if stream.whose.columns else "nobody"
    for names in ("Subject", "nobody"):
        line = f"from include.sources.subjects import {names}\n"
        if names != wanted and line in plan.changed[path]:
            plan.changed[path] = plan.changed[path].replace(
                line, "from include.sources.subjects import Subject, nobody\n"
            )
