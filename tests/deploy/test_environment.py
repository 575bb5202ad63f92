"""The .env file: what the example lists, and what deploy/make-env makes of it."""

import re
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from include.settings import ROOT, Settings
from tests.deploy import files

SECRETS = {name for name, value in files.env_values(files.ENV_EXAMPLE).items() if value == ""} - {"LAKE_CODE_VERSION"}


def make_env(path: Path) -> str:
    done = subprocess.run([files.MAKE_ENV, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed() -> set[str]:
    """Names in the example, those in a comment's assignment too."""
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", files.ENV_EXAMPLE.read_text(), re.MULTILINE))


def test_example_lists_every_setting_and_no_other() -> None:
    settings = {f"LAKE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in listed() if name.startswith("LAKE_")} == settings


@pytest.mark.parametrize("path", ["docker-compose.yaml", "Dockerfile", "airflow_settings.yaml"])
def test_no_file_names_a_setting_that_does_not_exist(path: str) -> None:
    settings = {f"LAKE_{name.upper()}" for name in Settings.model_fields}
    text = re.sub(r"AIRFLOW_CONN_LAKE_\w+", "", (ROOT / path).read_text())
    assert set(re.findall(r"\bLAKE_[A-Z_]+\b", text)) <= settings


def test_settings_in_the_example_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"^(?:# )?(LAKE_[A-Z_]+)=(.+)$", files.ENV_EXAMPLE.read_text(), re.MULTILINE):
        monkeypatch.setenv(name, value)
    Settings()


def test_every_setting_is_told_to_the_server_or_is_not_for_one() -> None:
    services = files.compose(dict.fromkeys(listed(), "1"))["services"]
    told = {name for name in services["scheduler"]["environment"] if name.startswith("LAKE_")}
    # The port is that of the published address, the image has the version, the demo is a laptop's.
    elsewhere = {"LAKE_PORT", "LAKE_CODE_VERSION", "LAKE_DEMO_PORT", "LAKE_SAAS_DEMO_SCALE"}
    assert {f"LAKE_{name.upper()}" for name in Settings.model_fields} - told == elsewhere


def test_example_and_compose_name_the_same_variables() -> None:
    taken = files.variables(files.COMPOSE.read_text())
    set_by_example = set(files.env_values(files.ENV_EXAMPLE))
    assert taken - set_by_example == set()
    passed_on = {"LAKE_MEMORY_LIMIT", "LAKE_METADATA_SCHEMA", "LAKE_NIGHTSCOUT_LOOKBACK_DAYS", "LAKE_SAAS_OVERLAP_DAYS"}
    passed_on |= {"LAKE_SNAPSHOT_DAYS", "LAKE_RELEASE_DAYS", "LAKE_BACKUP_KEEP"}
    assert set_by_example - taken - passed_on == {"COMPOSE_PROFILES"}


def test_default_in_compose_is_that_of_the_example() -> None:
    example = files.env_values(files.ENV_EXAMPLE)
    defaults = re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", files.COMPOSE.read_text())
    assert len(defaults) > 10
    assert dict(defaults) == {name: example[name] for name, _ in defaults}


def test_example_holds_no_secret() -> None:
    suspicious = {name for name in listed() if re.search(r"PASSWORD|SECRET|_KEY$", name)}
    assert suspicious == SECRETS


def test_made_file_is_private_and_complete(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    make_env(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    made = files.env_values(target)
    assert set(made) == set(files.env_values(files.ENV_EXAMPLE))
    assert "\t" not in target.read_text()
    assert list(tmp_path.iterdir()) == [target]
    files.compose(made)


def test_secrets_are_random_long_and_safe_in_urls_and_json(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        make_env(tmp_path / name)
        made.append(files.env_values(tmp_path / name))
    secrets = [values[name] for values in made for name in SECRETS]
    assert len(set(secrets)) == len(secrets)
    for value in secrets:
        assert re.fullmatch(r"[A-Za-z0-9_-]{20,}=?", value)
    Fernet(made[0]["AIRFLOW_FERNET_KEY"])
    assert len(made[0]["AIRFLOW_JWT_SECRET"]) >= 64


def test_second_run_keeps_every_value_and_renews_the_version(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    make_env(target)
    before = files.env_values(target)
    target.write_text(
        target.read_text()
        .replace(f"LAKE_CODE_VERSION={before['LAKE_CODE_VERSION']}", "LAKE_CODE_VERSION=of-last-week")
        .replace("LAKE_PORT=8080", "LAKE_PORT=9090")
    )
    make_env(target)
    assert files.env_values(target) == {**before, "LAKE_PORT": "9090"}


def test_name_of_a_newer_example_is_added_and_the_file_made_private(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    target.write_text("# mine\nAIRFLOW_ADMIN_USER=ada\nPOSTGRES_PASSWORD=my-own")  # no newline at its end
    target.chmod(0o644)
    make_env(target)
    made = files.env_values(target)
    assert made["AIRFLOW_ADMIN_USER"] == "ada"
    assert made["POSTGRES_PASSWORD"] == "my-own"
    assert set(made) == set(files.env_values(files.ENV_EXAMPLE))
    assert all(made[name] for name in SECRETS)
    assert target.read_text().startswith("# mine\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_no_secret_is_printed(tmp_path: Path) -> None:
    printed = make_env(tmp_path / ".env")
    made = files.env_values(tmp_path / ".env")
    assert "generated POSTGRES_PASSWORD" in printed
    assert not [name for name in SECRETS if made[name] in printed]


def test_env_is_kept_out_of_git() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    private = [".env", ".env.connections", "sites.yaml", "databases.yaml"]
    done = subprocess.run(["git", "check-ignore", *private], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == private
