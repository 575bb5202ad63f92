"""Pools, connections and the workflow, as files that other programs read."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.connections import Connection
from include.orchestration.pools import POOLS
from include.settings import ROOT
from tests.deploy import files

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
PULL_REQUEST = WORKFLOW.with_name("pull-request.yml")


def astro() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())
    assert set(content) == {"airflow"}
    return content["airflow"]


def test_pools_are_the_same_wherever_they_are_written() -> None:
    imported = json.loads((ROOT / "deploy/airflow/pools.json").read_text())
    assert {name: (pool["slots"], pool["description"]) for name, pool in imported.items()} == POOLS
    assert all(set(pool) == {"slots", "description", "include_deferred"} for pool in imported.values())
    described = {pool["pool_name"]: (pool["pool_slot"], pool["pool_description"]) for pool in astro()["pools"]}
    assert described == POOLS


def test_astro_connections_are_those_of_the_server_without_passwords(services: dict[str, Any]) -> None:
    keys = {
        "conn_id",
        "conn_type",
        "conn_host",
        "conn_schema",
        "conn_login",
        "conn_password",
        "conn_port",
        "conn_extra",
    }
    connections = {connection["conn_id"]: connection for connection in astro()["connections"]}
    given = {name for name in services["scheduler"]["environment"] if name.startswith("AIRFLOW_CONN_")}
    assert {f"AIRFLOW_CONN_{name.upper()}" for name in connections} == given
    for connection in connections.values():
        assert set(connection) == keys
        assert connection["conn_password"] is None
    storage = json.loads(services["scheduler"]["environment"]["AIRFLOW_CONN_LAKE_STORAGE"])
    assert connections["lake_storage"]["conn_extra"] == storage["extra"]
    backups = Connection.parse("lake_backup", services["scheduler"]["environment"]["AIRFLOW_CONN_LAKE_BACKUP"])
    assert connections["lake_backup"]["conn_extra"] == backups.extra
    assert connections["lake_storage"]["conn_type"] == storage["conn_type"]


def test_astro_settings_use_no_airflow_variables() -> None:
    assert astro()["variables"] == []


def test_sites_example_is_a_sites_file() -> None:
    from include.sources.nightscout.sites import read_sites

    assert [site.connection_id for site in read_sites(ROOT / "deploy/sites.example.yaml")] == ["nightscout_home"]


def test_databases_example_is_a_databases_file() -> None:
    from include.sources.postgres.databases import read_databases

    listed = read_databases(ROOT / "deploy/databases.example.yaml", "saas")
    assert [database.connection_id for database in listed] == ["saas_billing"]


def test_workflow_runs_what_a_laptop_runs_on_every_python_that_is_supported() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    triggers = workflow[True]  # YAML 1.1 reads `on` so
    assert set(triggers) == {"push", "pull_request"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", bounds).groups())  # type: ignore[union-attr]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high)]
    assert job["timeout-minutes"] <= 90
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", sorted(WORKFLOW.parent.glob("*")), ids=lambda path: path.name)
def test_workflow_may_only_read_and_its_actions_are_pinned(path: Path) -> None:
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    assert re.fullmatch(r"ubuntu-\d+\.\d+", job["runs-on"])
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(used) == 3
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", action) for action in used)
    assert job["steps"][0]["with"]["persist-credentials"] is False


def test_guide_names_only_files_and_services_that_exist(services: dict[str, Any]) -> None:
    guide = (ROOT / "docs/how-to/deploy-a-server.md").read_text()
    commands = re.findall(r"docker compose ([^\n`]+)", guide)
    assert len(commands) >= 8
    for service in re.findall(r"docker compose (?:exec|run|logs|restart|stop)(?: --?\S+| \d+)* ([\w-]+)", guide):
        assert service in services
    for path in re.findall(r"(?<![\w/.])(?:deploy|docs|include)/[\w./-]+\w", guide):
        assert (ROOT / path).exists() or (ROOT / "docs" / path).exists(), path
    for name in re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", guide):
        known = set(files.env_values(files.ENV_EXAMPLE)) | {"AIRFLOW_CONN_NIGHTSCOUT_HOME", "COMPOSE_PROFILES"}
        assert name in known, name


def test_pull_requests_are_checked_against_their_base_with_its_history() -> None:
    workflow = yaml.safe_load(PULL_REQUEST.read_text())
    assert set(workflow[True]) == {"pull_request"}
    steps = workflow["jobs"]["check"]["steps"]
    assert next(step for step in steps if "checkout" in step.get("uses", ""))["with"]["fetch-depth"] == 0
    (run,) = [step for step in steps if "run" in step]
    # The branch's name is somebody's text: it comes by the environment, never into the script.
    assert run["run"] == 'make pr BASE="origin/$BASE_BRANCH"'
    assert run["env"] == {"BASE_BRANCH": "${{ github.base_ref }}"}
