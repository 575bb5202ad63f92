"""HTML of the gates: a page per table checked, one per run, and the index of runs. Readable without a network."""

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.quality import results
from include.quality.results import GateResult

LATEST = 200  # runs in the index; older ones stay where they are, found by their run id


def table_page(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What one gate found on one table: each check, with the SQL behind it and a few of the rows that break it."""
    ordered = sorted(rows, key=lambda row: (row["success"], row["severity"] != "fail", row["check"]))
    return _template("table").render(about=about, rows=ordered, broken=sum(not row["success"] for row in rows))


def write_run_page(quality_dir: Path, dag_run_id: str) -> None:
    """Every gate of the run; then the index of runs, which lists the latest."""
    gates = results.results(quality_dir, dag_run_id)
    page = _template("run").render(dag_run_id=dag_run_id, gates=gates)
    results.write_text(results.run_folder(quality_dir, dag_run_id) / "index.html", page)
    _write_index(quality_dir)


def _write_index(quality_dir: Path) -> None:
    folders = [folder for folder in (quality_dir / "runs").iterdir() if folder.is_dir()]
    latest = sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)[:LATEST]
    runs = []
    for folder in latest:
        gates = [GateResult.from_json(json.loads(path.read_text())) for path in folder.glob("gate_*.json")]
        if gates:
            gates.sort(key=lambda result: result.checked_at)
            runs.append({"href": f"runs/{folder.name}/index.html", "gates": gates, "last": gates[-1]})
    runs.sort(key=lambda run: run["last"].checked_at, reverse=True)
    page = _template("index").render(runs=runs, more=max(0, len(folders) - LATEST))
    results.write_text(quality_dir / "index.html", page)


def _minute(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M") if iso else ""


@lru_cache(maxsize=8)
def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minute"] = _minute
    return environment.get_template(f"{name}.html.j2")
