import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from include.settings import ROOT
from tests.deploy import files
from tests.deploy.files import assignments, dockerfile, reaches_image

KNOWN = {"FROM", "SHELL", "USER", "ENV", "ARG", "RUN", "COPY", "WORKDIR"}
PROJECT = PurePosixPath("/opt/lakehouse")


def of(name: str, stage: int | None = None) -> list[files.Instruction]:
    return [each for each in dockerfile() if each.name == name and stage in (None, each.stage)]


def last_stage() -> int:
    return max(each.stage for each in dockerfile())


def image_environment() -> dict[str, str]:
    merged: dict[str, str] = {}
    for instruction in of("ENV", last_stage()):
        merged |= assignments(instruction)
    return merged


def test_only_instructions_that_are_understood_here_are_used() -> None:
    assert {each.name for each in dockerfile()} == KNOWN


def test_base_is_the_official_image_of_the_airflow_that_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    version = re.search(r"^apache-airflow==(\S+)", lock, re.MULTILINE)
    assert version
    bases = {each.words[0] for each in of("FROM")}
    assert bases == {f"apache/airflow:{version[1]}-python3.12"}


def test_image_runs_as_airflows_user_by_number() -> None:
    assert of("USER", last_stage())[-1].value == "50000:0"
    assert dockerfile()[-1].name == "USER"


def test_shell_stops_at_the_first_error() -> None:
    for stage in range(last_stage() + 1):
        first = next(each.name for each in dockerfile() if each.stage == stage and each.name in ("SHELL", "RUN"))
        assert first == "SHELL"
    assert all({"errexit", "nounset", "pipefail"} <= set(re.findall(r"\w+", each.value)) for each in of("SHELL"))


def test_packages_are_those_of_the_lock_with_their_hashes() -> None:
    installs = [each.value for each in of("RUN") if "pip install" in each.value]
    (locked,) = [value for value in installs if "requirements.lock" in value]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(locked.split())
    (own,) = [value for value in installs if "--editable ." in value]
    assert {"--no-deps", "--no-build-isolation"} <= set(own.split())
    assert len(installs) == 2
    build = {name: value for each in of("ENV", 0) for name, value in assignments(each).items()}
    assert build["PIP_NO_CACHE_DIR"] == "1"


def test_what_builds_the_project_is_in_the_lock() -> None:
    import tomllib

    (requirement,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    needed = re.fullmatch(r"setuptools>=(\d+)", requirement)
    locked = re.search(r"^setuptools==(\d+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert needed
    assert locked
    assert int(locked[1]) >= int(needed[1])


def test_nothing_is_fetched_but_packages() -> None:
    for each in of("RUN"):
        assert not re.search(r"\b(apt|apt-get|curl|wget|git|sudo|npm)\b", each.value), each.value
    assert not any("://" in each.value for each in dockerfile())


def test_no_secret_is_baked_in() -> None:
    names = {name for each in [*of("ENV"), *of("ARG")] for name in assignments(each)}
    assert not [name for name in names if re.search(r"PASSWORD|SECRET|TOKEN|KEY|AIRFLOW_CONN", name)]


def test_copied_files_exist_and_pass_the_dockerignore() -> None:
    copies = [each for each in of("COPY") if not each.value.startswith("--from")]
    assert len(copies) >= 6
    for copy in copies:
        for source in [word for word in copy.words if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert reaches_image(source), f"{source} is left out by .dockerignore"


def test_code_in_the_image_belongs_to_root() -> None:
    copies = of("COPY", last_stage())
    assert {copy.words[-1] for copy in copies} == {"/opt/venv", "/opt/duckdb", "/opt/lakehouse"}
    assert all("--chown=root:root" in copy.words for copy in copies)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.connections",
        ".git/config",
        ".lakehouse/passwords.json",
        ".venv/bin/python",
        "sites.yaml",
        "databases.yaml",
        "tests/conftest.py",
        "deploy/make-env",
        "deploy/postgres/roles.sql",
        "dbt/target/manifest.json",
        "dbt/logs/dbt.log",
        "include/__pycache__/settings.cpython-312.pyc",
        "include/local/__pycache__/stack.cpython-312.pyc",
    ],
)
def test_private_and_generated_files_do_not_reach_the_image(path: str) -> None:
    assert not reaches_image(path)


@pytest.mark.parametrize(
    "path", ["include/release/ledger.py", "dbt/models/gold/x.sql", "dags/nightscout_daily.py", "deploy/airflow/init.sh"]
)
def test_the_project_reaches_the_image(path: str) -> None:
    assert reaches_image(path)


def test_image_without_a_code_version_is_refused() -> None:
    (check,) = [each.value for each in of("RUN", last_stage()) if "CODE_VERSION" in each.value]
    for value, expected in (("", 1), ("abc123", 0)):
        done = subprocess.run(["bash", "-euc", check], env={"CODE_VERSION": value}, capture_output=True, check=False)
        assert done.returncode == expected
    assert image_environment()["LAKE_CODE_VERSION"] == "${CODE_VERSION}"


def test_compose_builds_the_image_with_the_version_that_tags_it(
    services: dict[str, Any], values: dict[str, str]
) -> None:
    built = {name: service["build"] for name, service in services.items() if "build" in service}
    assert built == {"init": {"context": ".", "args": {"CODE_VERSION": values["LAKE_CODE_VERSION"]}}}
    (argument,) = of("ARG")
    assert argument.value == "CODE_VERSION"


def test_image_and_compose_agree_on_paths_and_switches(services: dict[str, Any]) -> None:
    baked, given = image_environment(), services["scheduler"]["environment"]
    shared = set(baked) & set(given)
    assert {"LAKE_HOME", "LAKE_EXTENSION_DIR", "AIRFLOW__CORE__DAGS_FOLDER"} <= shared
    assert {name: baked[name] for name in shared} == {name: given[name] for name in shared}


def test_paths_that_compose_names_in_the_image_are_there(services: dict[str, Any]) -> None:
    environment = services["scheduler"]["environment"]
    named = [environment["AIRFLOW__CORE__DAGS_FOLDER"], environment["AIRFLOW__CORE__PLUGINS_FOLDER"]]
    named.append(services["init"]["command"][-1])
    for path in named:
        local = str(PurePosixPath(path).relative_to(PROJECT))
        assert (ROOT / local).exists(), path
        assert reaches_image(local)
    assert services["lake"]["entrypoint"] == ["/opt/venv/bin/lake"]
    assert re.search(r'^lake = "include\.cli:', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_folders_that_volumes_cover_are_made_for_airflows_user(services: dict[str, Any]) -> None:
    (made,) = [each.value for each in of("RUN", last_stage()) if "install --directory" in each.value]
    assert "--owner=50000 --group=0 --mode=0770" in made
    for mount in services["scheduler"]["volumes"]:
        if isinstance(mount, str):
            assert mount.split(":")[1] in made


def test_build_steps_work_on_what_reaches_the_image(tmp_path: Path) -> None:
    """The steps after the installation, run for real on the files that the build would see, without a network."""
    project = tmp_path / "lakehouse"
    sources = [
        (word, copy.words[-1])
        for copy in of("COPY", 0)
        for word in copy.words[:-1]
        if not word.startswith("--") and not word.startswith("requirements")
    ]
    for source, target in sources:
        for path in [ROOT / source, *(ROOT / source).rglob("*")]:
            relative = path.relative_to(ROOT)
            if path.is_file() and reaches_image(str(relative)):
                destination = project / target / path.relative_to(ROOT / source) if path != ROOT / source else None
                destination = destination or project / (target if "." in Path(target).name else relative.name)
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, destination)
    commands = [each.value.split("&&") for each in of("RUN", 0)]
    steps = [step.strip() for command in commands for step in command if "pip" not in step and "venv /opt" not in step]
    assert [step.split()[1:3] for step in steps] == [["-m", "compileall"], ["deploy/airflow/build.py"]]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(project),  # in the image the project is installed; here another checkout is
        "LAKE_EXTENSION_DIR": str(tmp_path / "duckdb"),
        "LAKE_HOME": str(tmp_path / "home"),
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    for step in steps:
        command = [sys.executable, *step.split()[1:]]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "dbt" / "target" / "manifest.json").is_file()
    assert len(list((tmp_path / "duckdb").rglob("*.duckdb_extension"))) == 3
    assert (project / "config" / "airflow_local_settings.py").is_file()
    assert not (project / ".lakehouse").exists()
