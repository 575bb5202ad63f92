"""A real Airflow api-server for each auth manager: the simple one as on a laptop, FAB below a path as on a server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from include.connections import Postgres
from include.lake import catalog
from include.local.postgres import LocalPostgres
from include.settings import ROOT
from tests.conftest import fresh_database
from tests.include.web import sample

START_SECONDS = 300  # the machine may be busy
AIRFLOW = Path(sys.executable).parent / "airflow"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
USERS = {"reader": "Viewer", "nothing": "Nothing"}
PASSWORD = "a-password-of-the-test"


@dataclass(frozen=True)
class Airflow:
    """A running api-server. `url` has no slash at the end; `root` is the path below which it is served."""

    url: str
    root: str
    log: Path

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)  # type: ignore[arg-type]

    def token(self, user: str) -> str:
        answer = httpx.post(f"{self.url}/auth/token", json={"username": user, "password": PASSWORD}, timeout=60)
        assert answer.status_code == 201, answer.text
        return answer.json()["access_token"]

    def browser(self, user: str) -> httpx.Client:
        """What a browser sends once its user has logged in."""
        client = self.client(headers={"accept": "text/html"})
        client.cookies.set("_token", self.token(user), domain="127.0.0.1", path=self.root or "/")
        return client


@dataclass(frozen=True)
class Servers:
    simple: Airflow
    fab: Airflow


@pytest.fixture(scope="session")
def servers(server: LocalPostgres, extensions: Path, scratch: Path) -> Iterator[Servers]:
    home = scratch / "airflow"
    with (
        ExitStack() as stack,
        fresh_database(server, "airflow") as metadata,
        sample.two_releases(server, extensions, home) as (lake, marts),
    ):
        catalog.let_read(lake)
        environment = _environment(home, metadata, extensions)
        connections = {
            "marts_reader": _uri(server.as_role("marts_reader", marts.database)),
            "lake_catalog_reader": _uri(server.as_role("lake_reader", lake.catalog.database)),
            "lake_storage": f"file://?path={quote(lake.storage.url, safe='')}",
        }
        with_fab = {**environment, "AIRFLOW__CORE__AUTH_MANAGER": FAB}
        _run(with_fab, str(AIRFLOW), "db", "migrate")
        wanted = {
            "connections": connections,
            "runs": [["nightscout_daily", "scheduled__2026-11-02"], ["other_daily", "scheduled__2026-11-01"]],
            "users": [[user, role, PASSWORD] for user, role in USERS.items()],
        }
        _run(with_fab, sys.executable, str(Path(__file__).parent / "prepare_airflow.py"), text=json.dumps(wanted))
        simple = {f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in connections.items()}
        yield Servers(
            stack.enter_context(_api_server(home, {**environment, **simple}, "simple")),
            stack.enter_context(_api_server(home, with_fab, "fab", "/airflow")),
        )


def _environment(home: Path, metadata: Postgres, extensions: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    (home / "dags").mkdir()
    (home / "passwords.json").write_text(json.dumps({"reader": PASSWORD}))
    database = f"postgresql+psycopg2://{metadata.user}:{quote(metadata.password or '')}@/{metadata.database}"
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LAKE_"))}
    return {
        **known,
        "AIRFLOW_HOME": str(home),
        "LAKE_HOME": str(home),
        "LAKE_EXTENSION_DIR": str(extensions),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "reader:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"{database}?host={quote(metadata.host, safe='')}",
        "AIRFLOW__API__SECRET_KEY": "a-secret-of-the-test",
        "AIRFLOW__API_AUTH__JWT_SECRET": "another-secret-of-the-test-that-is-long-enough-for-hs512-which-is-64-bytes",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
    }


def _uri(database: Postgres) -> str:
    login = f"{database.user}:{quote(database.password or '', safe='')}"
    return f"postgres://{login}@/{database.database}?host={quote(database.host, safe='')}"


def _run(environment: dict[str, str], *command: str, text: str | None = None) -> None:
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@contextmanager
def _api_server(home: Path, environment: dict[str, str], name: str, root: str = "") -> Iterator[Airflow]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Airflow(f"http://127.0.0.1:{port}{root}", root, home / f"{name}.log")
    command = [str(AIRFLOW), "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    variables = {**environment, "AIRFLOW__API__BASE_URL": running.url}
    with running.log.open("wb") as log:
        process = subprocess.Popen(
            command, env=variables, stdout=log, stderr=subprocess.STDOUT, cwd=home, start_new_session=True
        )
    try:
        yield running
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its graceful end takes 20 s and holds nothing that is kept
        process.wait(10)


def wait_for(airflow: Airflow) -> Airflow:
    """Both servers start at once; a test waits for the one that it uses."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{airflow.url}/api/v2/version", timeout=5).status_code == 200:
                return airflow
        except httpx.HTTPError:
            time.sleep(0.25)
    raise AssertionError(f"The api-server did not start:\n{airflow.log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="session")
def simple(servers: Servers) -> Airflow:
    return wait_for(servers.simple)


@pytest.fixture(scope="session")
def fab(servers: Servers) -> Airflow:
    return wait_for(servers.fab)


@pytest.fixture(params=["simple", "fab"])
def airflow(request: pytest.FixtureRequest) -> Airflow:
    """Each of the two in turn."""
    return request.getfixturevalue(request.param)
