"""Airflow is asked whether what the deployment's files name exists."""

import re
from typing import Any

import pytest

from include.settings import ROOT
from tests.deploy import files

NAMED_IN = ("docker-compose.yaml", "Dockerfile", ".env.example", "airflow_settings.yaml", "include/local/stack.py")


@pytest.mark.parametrize("path", NAMED_IN)
def test_every_option_that_a_file_names_exists(airflow: dict[str, Any], path: str) -> None:
    named = set(re.findall(r"\bAIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)\b", (ROOT / path).read_text()))
    if path in ("docker-compose.yaml", "Dockerfile"):
        assert len(named) >= 4
    unknown = {f"{section}.{key}".lower() for section, key in named} - set(airflow["options"])
    assert unknown == set()


def test_values_are_of_the_type_that_the_option_has(airflow: dict[str, Any], services: dict[str, Any]) -> None:
    fits = {"boolean": r"True|False", "integer": r"\d+", "float": r"\d+(\.\d+)?"}
    checked = 0
    for service in services.values():
        for name, value in service["environment"].items():
            if not name.startswith("AIRFLOW__"):
                continue
            section, key = name.removeprefix("AIRFLOW__").lower().split("__")
            kind = airflow["options"][f"{section}.{key}"]
            assert re.fullmatch(fits.get(kind, ".+"), value), (name, value, kind)
            checked += kind in fits
    assert checked > 20


def test_every_airflow_command_is_understood(airflow: dict[str, Any]) -> None:
    first_words = {command[0] for command in airflow["commands"]}
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "db", "pools", "users", "jobs"} <= first_words
    assert airflow["refused"] == {}


def test_airflow_takes_its_configuration_from_the_environment(airflow: dict[str, Any], values: dict[str, str]) -> None:
    assert airflow["auth_manager"] == "FabAuthManager"
    assert airflow["parallelism"] == int(values["AIRFLOW_PARALLELISM"])
    assert airflow["sql_alchemy_conn"].startswith("postgresql+psycopg2://airflow:")


def test_health_is_asked_where_airflow_answers_it(airflow: dict[str, Any], services: dict[str, Any]) -> None:
    import importlib.util

    scheduler = services["scheduler"]
    assert scheduler["environment"]["AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"] == "True"
    assert scheduler["healthcheck"]["test"][-1] == f"http://127.0.0.1:{airflow['health_port']}/health"
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations
    routes = files.Path(spec.submodule_search_locations[0]) / "api_fastapi/core_api/routes/public"
    assert 'prefix="/api/v2"' in (routes / "__init__.py").read_text()
    monitor = (routes / "monitor.py").read_text()
    assert 'prefix="/monitor"' in monitor
    assert '"/health"' in monitor
    assert services["api-server"]["healthcheck"]["test"][-1] == "http://127.0.0.1:8080/api/v2/monitor/health"
