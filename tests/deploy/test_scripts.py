"""The shell scripts of the deployment, run with stand-ins for the programs that they start."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from include.settings import ROOT

START = ROOT / "deploy" / "seaweedfs" / "start.sh"
INIT = ROOT / "deploy" / "airflow" / "init.sh"
S3 = {
    "S3_BUCKET": "lake",
    "S3_ACCESS_KEY": "lake-key",
    "S3_SECRET_KEY": "lake-secret-0123",
    "S3_READER_ACCESS_KEY": "reader-key",
    "S3_READER_SECRET_KEY": "reader-secret-0123",
    "S3_ADMIN_ACCESS_KEY": "admin-key",
    "S3_ADMIN_SECRET_KEY": "admin-secret-0123",
}


def stand_in(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def started(tmp_path: Path):
    """Run start.sh; what it starts writes its arguments and its environment into files."""
    entrypoint = tmp_path / "entrypoint.sh"
    stand_in(entrypoint, f'printf "%s\\n" "$@" >{tmp_path}/arguments; env >{tmp_path}/environment')

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        variables = {**S3, "S3_CONFIG": str(tmp_path / "s3.json"), "SEAWEEDFS_ENTRYPOINT": str(entrypoint), **changes}
        environment = {"PATH": os.environ["PATH"], **variables}
        return subprocess.run(["/bin/sh", START], env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    "script", ["deploy/seaweedfs/start.sh", "deploy/airflow/init.sh", "deploy/make-env", ".ci/run"]
)
def test_script_is_executable_and_parses(script: str) -> None:
    assert (ROOT / script).stat().st_mode & stat.S_IXUSR
    subprocess.run(["sh", "-n", ROOT / script], check=True)


def test_storage_knows_who_writes_who_reads_and_who_makes_the_bucket(started, tmp_path: Path) -> None:
    assert started().returncode == 0
    identities = {each["name"]: each for each in json.loads((tmp_path / "s3.json").read_text())["identities"]}
    assert set(identities) == {"admin", "lake", "reader"}
    assert identities["lake"]["credentials"] == [{"accessKey": "lake-key", "secretKey": "lake-secret-0123"}]
    assert set(identities["lake"]["actions"]) == {"Read:lake", "Write:lake", "List:lake", "Tagging:lake"}
    assert identities["reader"]["credentials"] == [{"accessKey": "reader-key", "secretKey": "reader-secret-0123"}]
    assert set(identities["reader"]["actions"]) == {"Read:lake", "List:lake"}
    assert identities["admin"]["actions"] == ["Admin:lake"]


def test_only_the_s3_gateway_of_the_storage_leaves_the_container(started, tmp_path: Path) -> None:
    started()
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[0] == "server"
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-s3.port=8333"} <= set(arguments)
    assert f"-s3.config={tmp_path / 's3.json'}" in arguments


def test_storages_secrets_are_in_its_file_only(started, tmp_path: Path) -> None:
    done = started()
    shown = done.stdout + done.stderr
    shown += (tmp_path / "arguments").read_text() + (tmp_path / "environment").read_text()
    assert not [value for name, value in S3.items() if name.endswith("SECRET_KEY") and value in shown]
    assert "WEED_JWT_FILER_SIGNING_KEY=" in shown


@pytest.mark.parametrize("name", sorted(S3))
@pytest.mark.parametrize("value", ["", 'break"out', "two words", "line\nbreak"])
def test_storage_does_not_start_open_or_with_a_broken_file(started, tmp_path: Path, name: str, value: str) -> None:
    done = started(**{name: value})
    assert done.returncode == 1
    assert name in done.stderr
    assert "deploy/make-env" in done.stderr
    assert not (tmp_path / "s3.json").exists()
    assert not (tmp_path / "arguments").exists()


@pytest.fixture
def initialised(tmp_path: Path):
    """Run init.sh; `airflow` and `python` write down how they were called and what they were told."""
    log = tmp_path / "log"
    stand_in(
        tmp_path / "airflow",
        f'echo "airflow $*" >>{log}; [ "$1" != users ] || cat >>{log}; [ "$1" != "${{FAIL:-}}" ]',
    )
    stand_in(tmp_path / "python", f'echo "python $* in $(pwd)" >>{log}')

    def run(**changes: str) -> tuple[int, list[str]]:
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "AIRFLOW_ADMIN_USER": "ada",
            "AIRFLOW_ADMIN_EMAIL": "ada@example.org",
            "AIRFLOW_ADMIN_PASSWORD": "password-of-ada",
            **changes,
        }
        done = subprocess.run(
            ["bash", INIT], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, log.read_text().splitlines()

    return run


def test_init_migrates_then_makes_pools_admin_and_lake(initialised) -> None:
    status, log = initialised()
    assert status == 0
    assert log[0] == "airflow db migrate"
    assert log[1] == "airflow pools import deploy/airflow/pools.json"
    assert log[2].startswith("airflow users create --role Admin --username ada --email ada@example.org")
    assert log[3:5] == ["password-of-ada", "password-of-ada"]
    assert log[5] == f"python deploy/airflow/prepare.py in {ROOT}"
    assert "password" not in " ".join(log[:3] + log[5:])


@pytest.mark.parametrize("step", ["db", "pools", "users"])
def test_init_stops_where_a_step_fails(initialised, step: str) -> None:
    status, log = initialised(FAIL=step)
    assert status != 0
    assert log[-1].startswith(f"airflow {step}") or step == "users"
    assert not [line for line in log if line.startswith("python")]
