import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from include import runtime
from include.connections import Connection, Postgres, Storage
from include.settings import ROOT, Settings
from tests.deploy import files

SERVICES = {"postgres", "seaweedfs", "init", "api-server", "scheduler", "dag-processor", "triggerer", "lake"}
ONE_SHOT = {"init", "lake"}
AIRFLOW = SERVICES - {"postgres", "seaweedfs"}
# Where each secret may be; nowhere else.
HOLDERS = {
    "POSTGRES_PASSWORD": {"postgres"},
    "AIRFLOW_DB_PASSWORD": {"postgres"} | AIRFLOW,
    "CATALOG_DB_PASSWORD": {"postgres", "init", "scheduler", "lake"},
    "CATALOG_READER_PASSWORD": {"postgres", "api-server", "scheduler", "lake"},
    "MARTS_PUBLISHER_PASSWORD": {"postgres", "init", "scheduler", "lake"},
    "MARTS_READER_PASSWORD": {"postgres", "api-server", "scheduler", "lake"},
    "SAAS_PSEUDONYM_KEY": {"scheduler", "lake"},
    "NIGHTSCOUT_PSEUDONYM_KEY": {"scheduler", "lake"},
    "S3_ACCESS_KEY": {"seaweedfs", "init", "scheduler", "lake"},
    "S3_SECRET_KEY": {"seaweedfs", "init", "scheduler", "lake"},
    "S3_READER_ACCESS_KEY": {"seaweedfs", "api-server", "scheduler", "lake"},
    "S3_READER_SECRET_KEY": {"seaweedfs", "api-server", "scheduler", "lake"},
    "S3_ADMIN_ACCESS_KEY": {"seaweedfs", "init"},
    "S3_ADMIN_SECRET_KEY": {"seaweedfs", "init"},
    "AIRFLOW_FERNET_KEY": AIRFLOW,
    "AIRFLOW_API_SECRET_KEY": AIRFLOW,
    "AIRFLOW_JWT_SECRET": AIRFLOW,
    "AIRFLOW_ADMIN_PASSWORD": {"init", "lake"},
}
TELEMETRY_OFF = {
    "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "SCARF_ANALYTICS": "false",
}
# A laptop's alone: its login, its address, and where its files are.
LAPTOP_ONLY = {
    "AIRFLOW__API__HOST",
    "AIRFLOW__API__PORT",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS",
}


def test_services_are_exactly_these(services: dict[str, Any]) -> None:
    assert set(services) == SERVICES


@pytest.mark.parametrize("name", sorted(HOLDERS))
@pytest.mark.parametrize("missing", ["absent", "empty"])
def test_no_secret_has_a_default(values: dict[str, str], name: str, missing: str) -> None:
    without = {**values, name: ""} if missing == "empty" else {k: v for k, v in values.items() if k != name}
    with pytest.raises(files.Unset, match=rf"{name}: run deploy/make-env"):
        files.compose(without)


@pytest.mark.parametrize("name", sorted(HOLDERS))
def test_secret_is_known_to_those_who_need_it_only(services: dict[str, Any], values: dict[str, str], name: str) -> None:
    holders = {service for service, spec in services.items() if values[name] in yaml.safe_dump(spec)}
    assert holders == HOLDERS[name]


def test_every_secret_of_the_example_is_watched_here() -> None:
    empty = {name for name, value in files.env_values(files.ENV_EXAMPLE).items() if value == ""}
    assert empty - {"LAKE_CODE_VERSION"} == set(HOLDERS)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_runs_with_least_rights_and_bounded_resources(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    if name == "seaweedfs":  # starts as root to give its volume to its own user
        assert set(service["cap_add"]) == {"CHOWN", "SETGID", "SETUID"}
    else:
        assert re.fullmatch(r"[1-9]\d+:\d+", service["user"])
        assert "cap_add" not in service
    assert "docker.sock" not in yaml.safe_dump(service)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_comes_back_and_says_when_it_is_well(services: dict[str, Any], name: str) -> None:
    service = services[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}


def test_services_wait_for_what_can_answer_them(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == "init" else "service_healthy"
            assert wait["condition"] == expected, (name, other)
            assert other not in ONE_SHOT - {"init"}
    for name in AIRFLOW - ONE_SHOT:
        assert "init" in services[name]["depends_on"]
    assert services["lake"]["depends_on"] == {}
    assert set(services["init"]["depends_on"]) == {"postgres", "seaweedfs"}
    assert services["init"]["depends_on"]["seaweedfs"]["required"] is False


def test_images_are_pinned_to_a_release(services: dict[str, Any], values: dict[str, str]) -> None:
    images = {service["image"] for service in services.values()}
    ours = f"open-lakehouse:{values['LAKE_CODE_VERSION']}"
    assert ours in images
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*", image) for image in images - {ours})
    assert {name for name, service in services.items() if service["image"] == ours} == AIRFLOW


def test_only_airflow_is_published_and_only_to_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"api-server": ["127.0.0.1:8080:8080"]}


def test_databases_and_storage_are_out_of_reach_from_outside(values: dict[str, str]) -> None:
    project = files.compose(values)
    internal = {name for name, network in project["networks"].items() if network and network.get("internal")}
    assert internal == {"airflow", "database", "storage"}
    services = project["services"]
    used = {name: set(service["networks"]) for name, service in services.items()}
    assert used["postgres"] == {"database"}
    assert used["seaweedfs"] == {"storage"}
    assert {name for name in used if "web" in used[name]} == {"api-server"}
    writers = {"init", "scheduler", "lake"}
    assert {name for name in used if "egress" in used[name]} == writers
    assert {name for name in used if "storage" in used[name]} == AIRFLOW - {"dag-processor", "triggerer"} | {
        "seaweedfs"
    }
    assert set().union(*used.values()) == set(project["networks"])


def test_every_volume_and_file_that_is_mounted_exists(values: dict[str, str]) -> None:
    project = files.compose(values)
    named = set()
    for name, service in project["services"].items():
        for mount in service.get("volumes", []):
            if isinstance(mount, dict):
                listed = ("LAKE_NIGHTSCOUT_SITES", "LAKE_SAAS_DATABASES")
                (variable,) = [name for name in listed if values[name] == mount["source"]]
                assert mount["read_only"] is True
                assert mount["bind"]["create_host_path"] is False
                assert mount["target"] == service["environment"][variable]
                continue
            source, _, rest = mount.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).is_file(), (name, mount)
                assert rest.endswith(":ro")
            else:
                named.add(source)
    assert named == set(project["volumes"])


def test_what_airflow_writes_lies_on_a_volume_or_in_memory(services: dict[str, Any]) -> None:
    for name in AIRFLOW - {"lake"}:
        service = services[name]
        written = [mount.split(":")[1] for mount in service["volumes"] if isinstance(mount, str)]
        written += [mount.split(":")[0] for mount in service["tmpfs"]]
        for variable in ("HOME", "AIRFLOW_HOME", "AIRFLOW__LOGGING__BASE_LOG_FOLDER"):
            assert service["environment"][variable] in written, (name, variable)
    writer = services["scheduler"]
    assert f"lakehouse:{writer['environment']['LAKE_HOME']}" in writer["volumes"]
    assert f"lakehouse:{writer['environment']['LAKE_HOME']}:ro" in services["api-server"]["volumes"]


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_no_telemetry_leaves_a_service(services: dict[str, Any], name: str) -> None:
    environment = services[name]["environment"]
    assert {variable: environment.get(variable) for variable in TELEMETRY_OFF} == TELEMETRY_OFF


def test_storage_sends_no_statistics() -> None:
    assert "-master.telemetry=false" in (ROOT / "deploy/seaweedfs/start.sh").read_text()


def test_tasks_get_the_connections_that_the_code_reads(services: dict[str, Any], values: dict[str, str]) -> None:
    given = {
        name.removeprefix("AIRFLOW_CONN_").lower(): Connection.parse(name.removeprefix("AIRFLOW_CONN_"), value)
        for name, value in services["scheduler"]["environment"].items()
        if name.startswith("AIRFLOW_CONN_")
    }
    readers = {"lake_catalog_reader", "lake_storage_reader", "marts_reader"}
    keys = {"saas_pseudonym", "nightscout_pseudonym"}
    assert set(given) == {"lake_catalog", "lake_storage", "lake_backup", "marts"} | keys | readers
    assert Postgres.of(given["lake_catalog"]) == Postgres(
        "postgres", 5432, "lake_catalog", "lake", values["CATALOG_DB_PASSWORD"]
    )
    assert Postgres.of(given["marts"]).user == "marts_publisher"
    assert Postgres.of(given["marts_reader"]).user == "marts_reader"
    written, read = Storage.of(given["lake_storage"]), Storage.of(given["lake_storage_reader"])
    assert written == Storage(
        "s3://lake/", "http://seaweedfs:8333", "us-east-1", values["S3_ACCESS_KEY"], values["S3_SECRET_KEY"]
    )
    assert Postgres.of(given["lake_catalog_reader"]).user == "lake_reader"
    assert read == replace(written, key_id=values["S3_READER_ACCESS_KEY"], secret=values["S3_READER_SECRET_KEY"])
    backups = Storage.of(given["lake_backup"]).url
    assert all(f"lakehouse-backup:{backups}" in services[name]["volumes"] for name in ("scheduler", "lake"))
    for domain in ("saas", "nightscout"):
        assert runtime.pseudonym_key(domain, given.__getitem__) == values[f"{domain.upper()}_PSEUDONYM_KEY"]
    storage = json.loads(services["scheduler"]["environment"]["AIRFLOW_CONN_LAKE_STORAGE"])
    assert storage["conn_type"] == "aws"


def test_web_server_holds_reading_roles_only(services: dict[str, Any]) -> None:
    connections = {name for name in services["api-server"]["environment"] if name.startswith("AIRFLOW_CONN_")}
    readers = ("LAKE_CATALOG_READER", "LAKE_STORAGE_READER", "MARTS_READER")
    assert connections == {f"AIRFLOW_CONN_{name}" for name in readers}


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_settings_of_a_service_are_accepted(
    services: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in services[name]["environment"].items():
        if variable.startswith("LAKE_"):
            monkeypatch.setenv(variable, value)
    settings = Settings()
    if "LAKE_HOME" in services[name]["environment"]:
        assert str(settings.home) == "/var/lib/lakehouse"
        assert str(settings.extensions) == "/opt/duckdb"
        assert str(settings.sites_file) == "/etc/lakehouse/sites.yaml"
        assert str(settings.databases_file) == "/etc/lakehouse/databases.yaml"


def test_server_configures_airflow_as_the_laptop_does(services: dict[str, Any]) -> None:
    laptop = set(re.findall(r'"(AIRFLOW__[A-Z0-9_]+)":', (ROOT / "include/local/stack.py").read_text()))
    assert len(laptop) > 10
    assert laptop - LAPTOP_ONLY - set(services["scheduler"]["environment"]) == set()


def test_postgres_is_configured_as_on_the_laptop(services: dict[str, Any]) -> None:
    from include.local.postgres import CONFIGURATION

    arguments = dict(argument.removeprefix("-c").split("=") for argument in services["postgres"]["command"][1:])
    assert {name: arguments[name] for name in CONFIGURATION} == CONFIGURATION


def test_postgres_is_not_well_before_its_roles_are_made(services: dict[str, Any]) -> None:
    assert "--host=127.0.0.1" in services["postgres"]["healthcheck"]["test"]


def test_compose_itself_accepts_the_project(env_file: Path) -> None:
    command = next((command for command in (["docker", "compose"], ["docker-compose"]) if _is_compose(command)), None)
    if command is None:
        pytest.skip("needs Docker Compose 2, which is not installed; no engine is needed")
    options = ["--project-directory", str(ROOT), "--env-file", str(env_file), "--profile", "*"]
    checked = subprocess.run(
        [*command, *options, "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    project = json.loads(checked.stdout)
    assert set(project["services"]) == SERVICES
    ours = files.compose(files.env_values(env_file))["services"]
    for name, service in project["services"].items():
        given = {key: value for key, value in service.get("environment", {}).items() if value is not None}
        assert given == ours[name]["environment"]


def _is_compose(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
    return version.returncode == 0 and not version.stdout.startswith("1.")
