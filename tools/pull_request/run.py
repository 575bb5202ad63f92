"""Pipelines of the tree in which this process runs, without a scheduler: `python -m tools.pull_request.run FOLDER`.

It makes the very calls that the DAGs' tasks make, in their order, on the lake and the sources that the environment
names. `FOLDER/request.json` says what to run; `FOLDER/result.json` says how it went, and after each run every table
of silver and gold is written to `FOLDER/<domain>/<run>/<table>.parquet`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from include import dbt_project, runtime
from include.errors import LakehouseError
from include.interval import Interval
from include.lake import fsck
from include.lake.attach import identifier, literal, table_exists
from include.lake.dbt_environment import dbt_environment
from include.layers import Layer
from include.settings import connection, settings
from tools.pull_request.parse import loaded

BUILT = (Layer.SILVER, Layer.GOLD)


def main(folder: Path) -> None:
    """Run each requested domain as often as requested; a step that fails ends its domain."""
    from include.local.stack import prepare_databases

    prepare_databases()
    request = json.loads((folder / "request.json").read_text())
    domains = {name: _run(Pipeline(name, **asked), folder / name) for name, asked in request.items()}
    result = {"domains": domains, "columns": _columns(), "modules": loaded()}
    (folder / "result.json").write_text(json.dumps(result, default=str))


@dataclass
class Pipeline:
    """One domain's flow, on the days `[first, end)`."""

    domain: str
    streams: list[str]
    first: str
    end: str
    times: int
    compiled: dict[str, str] = field(default_factory=dict)

    @property
    def interval(self) -> Interval:
        return Interval.of_days(date.fromisoformat(self.first), date.fromisoformat(self.end))

    def steps(self, run_id: str, gates: list[dict[str, Any]]) -> list[tuple[str, Callable[[], Any]]]:
        """What `dags/<domain>_daily.py` chains. Gates add their summaries to `gates`."""

        def gate(layer: Layer) -> tuple[str, Callable[[], Any]]:
            return layer.gate, lambda: gates.append(self._gate(layer, run_id))

        return [
            *((f"ingest {stream}", lambda stream=stream: self._ingest(stream)) for stream in self.streams),
            gate(Layer.BRONZE),
            ("bronze", lambda: self._dbt(Layer.BRONZE)),
            ("silver", lambda: self._dbt(Layer.SILVER)),
            gate(Layer.SILVER),
            ("gold", lambda: self._dbt(Layer.GOLD)),
            gate(Layer.GOLD),
            ("release", lambda: self._release(run_id, gates)),
        ]

    def _ingest(self, stream: str) -> Any:
        source = import_module(f"include.sources.{self.domain}.run")
        return source.ingest_stream(runtime.lake(), stream, self.interval, connection).as_dict()

    def _gate(self, layer: Layer, run_id: str) -> dict[str, Any]:
        from include.quality.gate import run_gate

        return run_gate(runtime.lake(), self.domain, layer, self.interval, run_id, settings().quality_dir).summary()

    def _dbt(self, layer: Layer) -> None:
        lake = runtime.lake()
        tables = [f"{layer}.{model.name}" for model in dbt_project.models(layer, self.domain)]
        fsck.settle(lake, [*tables, *fsck.BOOKKEEPING])
        os.environ.update(dbt_environment(lake, runtime.pseudonym_keys(self.domain)))
        places = ["--project-dir", str(dbt_project.PROJECT_DIR), "--profiles-dir", str(dbt_project.PROJECT_DIR)]
        places += ["--target-path", str(settings().home / "target"), "--log-path", str(settings().home / "logs")]
        quiet = ["--log-level", "none", "--log-level-file", "none", "--no-write-json"]
        select = ["--select", layer.selector(self.domain), "--exclude-resource-type", "unit_test"]
        done = _dbt_runner().invoke(["build", *select, *places, *quiet])
        results = list(getattr(done.result, "results", done.result) or ())
        bad = [f"{each.node.name}: {_words(each.message)}" for each in results if each.status in ("error", "fail")]
        if not done.success:
            raise LakehouseError("\n".join(bad) or str(done.exception))
        if not results:
            raise LakehouseError(f"dbt built nothing by {layer.selector(self.domain)}.")
        models = (each.node for each in results if each.node.resource_type == "model")
        # Of the first run: a later one's SQL is about what it has to rebuild.
        self.compiled = {model.name: model.compiled_code for model in models} | self.compiled

    def _release(self, run_id: str, gates: list[dict[str, Any]]) -> Any:
        from include.release.certify import release

        return release(
            lake=runtime.lake(),
            marts=runtime.marts(),
            models=dbt_project.marts(self.domain),
            domain=self.domain,
            interval=self.interval,
            dag_run_id=run_id,
            snapshot_id=gates[-1]["snapshot_id"],
            gates=gates,
            code_version="pull request",
        ).summary()


def _run(pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for number in range(1, pipeline.times + 1):
        steps: list[dict[str, Any]] = []
        gates: list[dict[str, Any]] = []
        run = {"steps": steps, "gates": gates, "failed": None}
        runs.append(run)
        for name, step in pipeline.steps(f"{pipeline.domain}__pr_{number}", gates):
            began = time.monotonic()
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever it is, the report says so, and that the run is red
                run["failed"] = {"step": name, "error": _text(error)}
            steps.append({"name": name, "seconds": round(time.monotonic() - began, 2)})
            if run["failed"]:
                break
        _write_tables(pipeline.domain, folder / str(number))
        if run["failed"]:
            break
    return {"runs": runs, "compiled": pipeline.compiled}


def _write_tables(domain: str, folder: Path) -> None:
    """Every table that is there: where a run failed, a layer may be missing."""
    folder.mkdir(parents=True)
    with runtime.lake().open(read_only=True) as lake:
        for layer in BUILT:
            for model in dbt_project.models(layer, domain):
                if not table_exists(lake, layer, model.name):
                    continue
                target = literal(str(folder / f"{layer}.{model.name}.parquet"))
                lake.execute(f"copy (from {layer}.{identifier(model.name)}) to {target} (format parquet)")


def _columns() -> dict[str, dict[str, dict[str, str]]]:
    """Schema, table, column and type of everything in the lake."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    with runtime.lake().open(read_only=True) as lake:
        query = (
            "select schema_name, table_name, column_name, data_type from duckdb_columns() where database_name = 'dl'"
        )
        for schema, table, column, kind in lake.execute(query).fetchall():
            found.setdefault(schema, {}).setdefault(table, {})[column] = kind
    return found


@cache
def _dbt_runner() -> Any:
    """dbt with the project parsed, made once a process."""
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=dbt_project.parsed())


def _text(error: Exception) -> str:
    text = str(error).strip() or "no message"
    return text if isinstance(error, LakehouseError) else f"{type(error).__name__}: {text}"


def _words(message: str | None) -> str:
    return " ".join((message or "no message").split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
