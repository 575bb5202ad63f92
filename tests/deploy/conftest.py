import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import files

# What Airflow knows, asked in a process of its own: it reads its environment when it is imported.
ASK_AIRFLOW = """
import ast, contextlib, io, json, sys
from pathlib import Path

question = json.load(sys.stdin)
from airflow.configuration import conf
import cosmos

described = conf.configuration_description
options = {
    f"{section}.{key}": option.get("type")
    for section, values in described.items()
    for key, option in values["options"].items()
}
kinds = {"getboolean": "boolean", "getint": "integer"}
tree = ast.parse((Path(cosmos.__file__).parent / "settings.py").read_text())
for call in ast.walk(tree):
    if isinstance(call, ast.Call) and getattr(call.func, "attr", "").startswith("get") and len(call.args) > 1:
        section, key = call.args[0], call.args[1]
        if getattr(section, "value", None) == "cosmos" and isinstance(key, ast.Constant):
            options[f"cosmos.{key.value}"] = kinds.get(call.func.attr, "string")

from airflow.cli import cli_parser

def refused(argv):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli_parser.get_parser().parse_args(argv)
    except SystemExit:
        return said.getvalue() or "refused"
    return None

answer = {
    "options": options,
    "refused": {" ".join(argv): why for argv in question["commands"] if (why := refused(argv))},
    "auth_manager": conf.getimport("core", "auth_manager").__name__,
    "parallelism": conf.getint("core", "parallelism"),
    "health_port": conf.get("scheduler", "scheduler_health_check_server_port"),
    "sql_alchemy_conn": conf.get("database", "sql_alchemy_conn"),
}
print("ANSWER" + json.dumps(answer))
"""


@pytest.fixture(scope="session")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .env that deploy/make-env made."""
    path = tmp_path_factory.mktemp("env") / ".env"
    subprocess.run([files.MAKE_ENV, path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def values(env_file: Path) -> dict[str, str]:
    return files.env_values(env_file)


@pytest.fixture(scope="session")
def services(values: dict[str, str]) -> dict[str, dict[str, Any]]:
    return files.compose(values)["services"]


@pytest.fixture(scope="session")
def airflow(services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow itself says, under the scheduler's environment, of our configuration and our commands."""
    commands = []
    for service in services.values():
        command = service.get("command", [])
        if service.get("user") == "50000:0" and isinstance(command, str):
            commands.append(command.split())
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["airflow"]:
            commands.append(test[2:])
    for path in ("deploy/airflow/init.sh", "docs/how-to/deploy-a-server.md"):
        commands += files.airflow_commands((files.ROOT / path).read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LAKE_"))}
    home = tmp_path_factory.mktemp("airflow")
    asked = subprocess.run(
        [sys.executable, "-c", ASK_AIRFLOW],
        input=json.dumps({"commands": commands}),
        env={**kept, **services["scheduler"]["environment"], "AIRFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(next(line for line in asked.stdout.splitlines() if line.startswith("ANSWER"))[6:])
    return {**answer, "commands": commands}
