"""Policies of DAGs, checked on the DAGs as Airflow loads them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.domains import domains
from include.settings import ROOT

DAGS = ROOT / "dags"
HEAVY = ("dlt", "duckdb", "great_expectations", "pyarrow", "pandas", "dbt", "psycopg")
PIPELINES = {f"{domain}_{kind}" for domain in domains() for kind in ("daily", "replay")}
EXPECTED = {*PIPELINES, "lake_maintenance", "lake_backup", "lake_restore_drill"}

PROBE = """
import importlib.util, json, sys, time
before = set(sys.modules)
started = time.perf_counter()
spec = importlib.util.spec_from_file_location("probed_dag", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


@pytest.fixture(scope="module")
def bag(manifest: Path):
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(DAGS)


def test_every_dag_file_imports(bag) -> None:
    assert bag.import_errors == {}


def test_exactly_the_expected_dags_exist(bag) -> None:
    assert set(bag.dags) == EXPECTED


def test_file_name_is_dag_id_and_fits_a_page(bag) -> None:
    for dag_id, dag in bag.dags.items():
        path = Path(dag.fileloc)
        assert path.stem == dag_id
        assert len(path.read_text().splitlines()) <= 80


def test_every_dag_has_owner_documentation_known_tags_and_a_failure_callback(bag) -> None:
    from include.orchestration.dags import Tag

    for dag in bag.dags.values():
        assert dag.doc_md and dag.doc_md.startswith("###")
        assert dag.tags <= {tag.value for tag in Tag} | set(domains())
        assert not dag.catchup
        assert dag.max_active_runs == 1
        for task in dag.tasks:
            assert task.owner != "airflow", task.task_id
            assert task.on_failure_callback, task.task_id
            assert task.retry_policy is not None, task.task_id


def test_every_writer_of_the_lake_runs_in_a_pool(bag) -> None:
    from include.orchestration.pools import INGEST, POOLS, TRANSFORM

    for dag in bag.dags.values():
        for task in dag.tasks:
            if task.task_id.startswith("ingest."):
                assert task.pool == INGEST
            elif task.task_id in ("gate_bronze", "release") or "." in task.task_id or dag.dag_id == "lake_maintenance":
                assert task.pool == TRANSFORM, task.task_id
            assert task.pool in {*POOLS, "default_pool"}


@pytest.mark.parametrize("dag_id", sorted(PIPELINES))
def test_every_dbt_task_settles_the_table_that_it_builds(bag, dag_id: str) -> None:
    from include import dbt_project
    from include.layers import Layer
    from include.orchestration.tasks import built_by

    for layer in (Layer.SILVER, Layer.GOLD):
        tasks = [task for task in bag.dags[dag_id].tasks if task.task_id.startswith(f"{layer}.")]
        models = {f"{layer}.{model.name}" for model in dbt_project.models(layer, dag_id.rpartition("_")[0])}
        assert {built_by(task, layer) for task in tasks} == models


@pytest.mark.parametrize("dag_id", sorted(PIPELINES))
def test_one_task_builds_all_views_of_bronze(bag, dag_id: str) -> None:
    from include import dbt_project
    from include.layers import Layer

    domain = dag_id.rpartition("_")[0]
    task = bag.dags[dag_id].get_task("bronze.views")
    assert task.select == [Layer.BRONZE.selector(domain)]
    nodes = json.loads(dbt_project.MANIFEST.read_bytes())["nodes"].values()
    ours = [node for node in nodes if node["original_file_path"].startswith(f"models/bronze/{domain}/")]
    kinds = {node["config"]["materialized"] for node in ours if node["resource_type"] == "model"}
    assert kinds == {"view"}


@pytest.mark.parametrize("dag_id", sorted(PIPELINES))
def test_gates_stand_between_the_layers(bag, dag_id: str) -> None:
    dag = bag.dags[dag_id]

    def upstream(task_id: str) -> set[str]:
        return dag.get_task(task_id).get_flat_relative_ids(upstream=True)

    layers = {layer: {t for t in dag.task_ids if t.startswith(f"{layer}.")} for layer in ("bronze", "silver", "gold")}
    assert all(layers.values())
    first = {t for t in dag.task_ids if t.startswith("ingest.")} or {"replay_is_due"}
    assert first <= upstream("gate_bronze")
    assert all("gate_bronze" in upstream(task) for task in layers["bronze"])
    assert layers["silver"] <= upstream("gate_silver")
    assert all("gate_silver" in upstream(task) for task in layers["gold"])
    assert layers["gold"] <= upstream("gate_gold")
    assert "gate_gold" in upstream("release")


def test_maintenance_takes_every_step_in_order_between_two_checks(bag) -> None:
    from include.lake.maintenance import Step

    tasks = [task.task_id for task in bag.dags["lake_maintenance"].topological_sort()]
    assert tasks == ["check_before", *(step.value for step in Step), "check_after"]


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_importing_a_dag_imports_nothing_heavy(file: Path, manifest: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, str(file)], capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.strip().splitlines()[-1])
    assert "cosmos" in imported
    assert [name for name in imported if name in HEAVY] == []


def test_missing_manifest_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from include import dbt_project
    from include.errors import SetupError
    from include.layers import Layer
    from include.orchestration.tasks import layer

    monkeypatch.setattr(dbt_project, "MANIFEST", tmp_path / "none.json")
    with pytest.raises(SetupError, match="make manifest"):
        layer("nightscout", Layer.SILVER)


def test_layer_that_selects_no_model_is_an_error(manifest: Path) -> None:
    from airflow.sdk import dag

    from include.errors import SetupError
    from include.layers import Layer
    from include.orchestration.tasks import layer

    @dag(schedule=None)
    def empty():
        layer("no_such_domain", Layer.SILVER)

    with pytest.raises(SetupError, match="no model under models/silver/no_such_domain/"):
        empty()


def test_airflow_home_of_the_tests_is_not_the_developers() -> None:
    assert ".lakehouse" not in os.environ["AIRFLOW_HOME"]
