"""The whole stack on a laptop: PostgreSQL, demo sites and Airflow, all below one folder."""

import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from include import settings as environment
from include.domains import domains
from include.errors import SetupError
from include.local.airflow_api import Airflow
from include.settings import ROOT, Settings

Report = Callable[[str], None]

MINIMUM_FREE_BYTES = 2 * 1024**3
AIRFLOW_PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 120
# After this, a part that runs and that Airflow does not hear of hangs: a scheduler whose loop has ended waits for its
# idle workers for ever, as after a full disk.
HANG_SECONDS = 15
STOP_SECONDS = 20
NO_TELEMETRY = {
    "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
}


@dataclass(frozen=True)
class Login:
    url: str
    user: str
    password: str


def pseudonym_keys() -> list[str]:
    """Connections whose passwords are keys that people are pseudonymised with: one a domain."""
    return [f"{domain}_pseudonym" for domain in domains()]


def setup(report: Report = lambda _: None) -> None:
    """Make everything that must be there before a run: databases, environment, lake, manifest. Repeatable.

    Raises:
        SetupError: the disk is nearly full, or a step failed; the message says which and what to do.
    """
    settings = environment.settings()
    home = settings.home
    _require_space(home)
    for folder in ("logs", "run", "tmp", "lake", "quality", "airflow"):
        (home / folder).mkdir(parents=True, exist_ok=True)

    from include.lake.extensions import link_extensions

    link_extensions(settings.extensions)
    report("PostgreSQL")
    _start_postgres(settings)
    migration = _start_migration(settings)
    report("dbt manifest")
    build_manifest()
    report("lake and marts")
    prepare_databases()
    if migration is not None:
        report("Airflow's metadata")
        _finish_migration(settings, migration)


def up(report: Report = lambda _: None) -> Login:
    """Set up and start what does not run yet; returns where Airflow is and how to log in."""
    settings = environment.settings()
    with _locked(settings.home):
        setup(report)
        if settings.nightscout_sites is None:
            report("demo sites")
            _start_demo_sites(settings)
        if settings.saas_databases is None:
            report("demo database")
            _make_demo_database(settings)
        _start_airflow(settings, report)
    return login()


def down() -> list[str]:
    """Stop everything that `up` started and all that it started in turn; returns the names of what ran."""
    from include.local import postgres

    settings = environment.settings()
    stopped = []
    members = {name: found for name in [*AIRFLOW_PROCESSES, "demo-sites"] if (found := _members(settings, name))}
    for name in members:
        _terminate(_process(settings, name))
    for name in members:
        _wait(_process(settings, name))
        # Tasks that still run, and what a process that was killed had started.
        _kill(_members(settings, name))
        _pidfile(settings, name).unlink(missing_ok=True)
        stopped.append(name)
    if postgres.stop(settings.home / "pg"):
        stopped.append("postgresql")
    return stopped


def supervise(every: float = 2.0) -> None:
    """Stay until a process of the stack ends.

    Raises:
        SetupError: one ended; the message holds the end of its log.
    """
    settings = environment.settings()
    while True:
        for name, alive in running().items():
            if not alive:
                raise SetupError(f"{name} ended:\n{_tail(_log(settings, name).read_text(errors='replace'))}")
        time.sleep(every)


def ensure_postgres() -> None:
    """PostgreSQL up and the environment loaded, for commands that need no Airflow."""
    settings = environment.settings()
    from include.lake.extensions import link_extensions

    link_extensions(settings.extensions)
    _start_postgres(settings)


def running() -> dict[str, bool]:
    """Each process of the stack and whether it runs."""
    settings = environment.settings()
    states = {name: _process(settings, name) is not None for name in AIRFLOW_PROCESSES}
    if settings.nightscout_sites is None:
        states["demo-sites"] = _process(settings, "demo-sites") is not None
    return states


def needs_start() -> bool:
    """Whether a part of a stack that was started here has ended or hangs."""
    settings = environment.settings()
    here = _pidfile(settings, "scheduler").is_file()
    return here and (not all(running().values()) or bool(unhealthy(settings)))


def left_behind() -> dict[str, int]:
    """How many processes are left of those that do not run any more: idle workers, or a task that goes on."""
    settings = environment.settings()
    return {name: len(_members(settings, name)) for name, alive in running().items() if not alive}


def login() -> Login:
    """Where Airflow is and how to log in, from the connection `airflow_api`."""
    connection = environment.connection("airflow_api")
    return Login(f"http://{connection.host}:{connection.port}", connection.login or "admin", connection.password or "")


def build_manifest(*, force: bool = False) -> bool:
    """Parse the dbt project into its manifest and static documentation, if it has changed; True if it did.

    Needs no lake and no database.

    Raises:
        SetupError: the project does not parse; the message holds the end of what dbt printed.
    """
    from include.dbt_project import MANIFEST, is_parsed

    MANIFEST.parent.mkdir(exist_ok=True)
    with (MANIFEST.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not force and is_parsed():
            return False
        command = [sys.executable, "-m", "include.local.manifest"]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"The dbt project does not parse:\n{_tail(done.stdout + done.stderr)}")
    return True


def run_dbt(arguments: list[str]) -> int:
    """Run dbt on the lake that the connections name, its output on the terminal; returns its exit status."""
    from include import runtime
    from include.dbt_project import PROJECT_DIR
    from include.lake.dbt_environment import dbt_environment
    from include.lake.passfile import use_passwords
    from include.lake.writers import writing

    lake = runtime.lake()
    use_passwords(lake.catalog)
    keys: dict[str, str] = {}
    for domain in domains():
        with suppress(SetupError):  # a model that needs it says so; others can do without
            keys |= runtime.pseudonym_keys(domain)
    variables = {**os.environ, **dbt_environment(lake, keys)}
    command = [_bin("dbt"), *arguments, "--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
    with writing(lake):
        return subprocess.run(command, env=variables, cwd=PROJECT_DIR, check=False).returncode


# --- PostgreSQL, environment, databases -------------------------------------------------------------------------


def _start_postgres(settings: Settings) -> None:
    from include.local import postgres

    server = postgres.start(settings.home / "pg")
    _write_environment(settings, server)
    environment.load_local_environment(settings.home)


def _write_environment(settings: Settings, server) -> None:
    """The connections and Airflow's configuration, for this command, for Airflow and for `source .lakehouse/env`."""
    home, url = settings.home, f"http://127.0.0.1:{settings.port}"
    keys = _generated(home / "keys.json")

    def uri(role: str, database: str | None = None) -> str:
        return server.as_role(role, database).uri()

    metadata = server.as_role("airflow")
    variables = {
        "LAKE_HOME": str(home),
        "LAKE_PORT": str(settings.port),
        "LAKE_DEMO_PORT": str(settings.demo_port),
        "PGPASSFILE": str(server.passfile),
        "AIRFLOW_CONN_LAKE_CATALOG": uri("lake"),
        "AIRFLOW_CONN_LAKE_CATALOG_READER": uri("lake_reader"),
        "AIRFLOW_CONN_LAKE_STORAGE": json.dumps({"conn_type": "file", "extra": {"path": str(home / "lake")}}),
        "AIRFLOW_CONN_LAKE_BACKUP": json.dumps({"conn_type": "file", "extra": {"path": str(home / "backup")}}),
        "AIRFLOW_CONN_MARTS": uri("marts_publisher"),
        "AIRFLOW_CONN_MARTS_READER": uri("marts_reader"),
        "AIRFLOW_CONN_SAAS_DEMO_OWNER": uri("saas_owner"),
        "AIRFLOW_CONN_SAAS_DEMO_APP": uri("saas_reader"),
        **{
            f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "generic", "password": keys[name]})
            for name in pseudonym_keys()
        },
        "AIRFLOW_CONN_AIRFLOW_API": f"http://admin:{quote(keys['admin'])}@127.0.0.1:{settings.port}",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH": "32768",  # compiled SQL, whole
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,auditor:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "airflow" / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
            f"postgresql+psycopg2://{metadata.user}@/{metadata.database}?host={quote(metadata.host, safe='')}"
        ),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": keys["api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # How long the tasks of a scheduler that was killed wait for the next one; Airflow's own 300 s feel like a hang.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "AIRFLOW__COSMOS__ENABLE_CACHE": "False",
        "AIRFLOW__COSMOS__ENABLE_ORJSON_PARSER": "True",
        **NO_TELEMETRY,
    }
    passwords = home / "airflow" / "passwords.json"
    _write_private(passwords, json.dumps({"admin": keys["admin"], "auditor": keys["auditor"]}))
    config = home / "airflow" / "config"
    config.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "deploy" / "airflow_local_settings.py", config / "airflow_local_settings.py")
    write_environment(home / "env", variables)


def write_environment(file: Path, variables: Mapping[str, str]) -> None:
    """A file that a shell may source: what is exported already stays."""
    lines = ["# Written by `make setup`; what you export yourself wins. Holds secrets."]
    lines += [f'[ "${{{name}+set}}" ] || export {name}={shlex.quote(value)}' for name, value in variables.items()]
    _write_private(file, "\n".join(lines) + "\n")


def _generated(path: Path) -> dict[str, str]:
    keys = json.loads(path.read_text()) if path.exists() else {}
    makers = {
        **dict.fromkeys(("api", "jwt", *pseudonym_keys()), lambda: secrets.token_urlsafe(32)),
        **dict.fromkeys(("admin", "auditor"), lambda: secrets.token_urlsafe(12)),
        "fernet": _fernet_key,
    }
    missing = [name for name in makers if name not in keys]  # a checkout may be older than what it needs now
    if missing:
        keys |= {name: makers[name]() for name in missing}
        _write_private(path, json.dumps(keys))
    return keys


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def prepare_databases() -> None:
    """The lake's schemas and bookkeeping, what its readers may see, and the ledger; repeatable."""
    from include import runtime
    from include.lake import catalog, schemas
    from include.quality.quarantine import ensure_bookkeeping
    from include.release import ledger

    with runtime.lake().open() as connection:
        schemas.ensure(connection)
        ensure_bookkeeping(connection)
    catalog.let_read(runtime.lake())
    ledger.ensure(runtime.marts())


# --- Airflow ----------------------------------------------------------------------------------------------------


def _start_migration(settings: Settings) -> subprocess.Popen[str] | None:
    """Begin `airflow db migrate` unless this version has done it; it takes seconds that other steps can use."""
    import importlib.metadata

    version = importlib.metadata.version("apache-airflow")
    done = settings.home / "airflow" / "migrated"
    # Older than the server's files: it speaks of a server that was lost.
    since = (settings.home / "pg" / "PG_VERSION").stat().st_mtime
    if done.exists() and done.read_text() == version and done.stat().st_mtime > since:
        return None
    return subprocess.Popen(
        [_bin("airflow"), "db", "migrate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish_migration(settings: Settings, migration: subprocess.Popen[str]) -> None:
    import importlib.metadata

    output, _ = migration.communicate()
    if migration.returncode:
        raise SetupError(f"`airflow db migrate` failed:\n{_tail(output)}")
    (settings.home / "airflow" / "migrated").write_text(importlib.metadata.version("apache-airflow"))


def _start_airflow(settings: Settings, report: Report) -> None:
    missing = [name for name in AIRFLOW_PROCESSES if _process(settings, name) is None]
    if "api-server" in missing:
        _require_port(settings.port, "LAKE_PORT")
    for name in missing:
        _start_process(settings, name)
    report("Airflow")
    started, begun = set(missing), time.monotonic()
    while unwell := unhealthy(settings):
        ended = {name for name in AIRFLOW_PROCESSES if _process(settings, name) is None}
        for name in ended & started:
            raise SetupError(f"Airflow's {name} stopped while starting:\n{_tail(_log(settings, name).read_text())}")
        waited = time.monotonic() - begun
        if waited > START_SECONDS:
            raise SetupError(
                f"Airflow did not become healthy within {START_SECONDS} s ({', '.join(sorted(unwell))}); "
                f"see {settings.home / 'logs'} for its logs."
            )
        for name in (ended | (unwell if waited > HANG_SECONDS else set())) - started:
            report(f"{name} anew")
            _kill(_members(settings, name))
            _start_process(settings, name)
            started.add(name)
        time.sleep(0.25)
    from include.orchestration.pools import POOLS

    with Airflow(environment.connection("airflow_api")) as airflow:
        airflow.set_pools(POOLS)


def _start_process(settings: Settings, name: str) -> None:
    logs = [] if name not in ("scheduler", "triggerer") else ["--skip-serve-logs"]  # read from the folder instead
    _start(settings, name, [_bin("airflow"), name, *logs])


def unhealthy(settings: Settings) -> set[str]:
    """Processes of Airflow that it has not heard of lately; the api-server if it says nothing or has no database.

    What was heard before PostgreSQL started is no sign of life: a process may be about to end without its database.
    """
    try:
        answer = httpx.get(f"http://127.0.0.1:{settings.port}/api/v2/monitor/health", timeout=5)
        health = answer.json()
    except (httpx.HTTPError, ValueError):
        return {"api-server"}
    if not answer.is_success or (health.get("metadatabase") or {}).get("status") != "healthy":
        return {"api-server"}
    since = _postgres_started(settings)
    silent = set()
    for name in AIRFLOW_PROCESSES[1:]:
        part = name.replace("-", "_")
        state = health.get(part) or {}
        heard = state.get(f"latest_{part}_heartbeat")
        if state.get("status") != "healthy" or not heard or datetime.fromisoformat(heard) < since:
            silent.add(name)
    return silent


def _postgres_started(settings: Settings) -> datetime:
    try:
        started = int((settings.home / "pg" / "postmaster.pid").read_text().splitlines()[2])
    except (OSError, ValueError, IndexError):
        started = 0
    return datetime.fromtimestamp(started, UTC)


def _start_demo_sites(settings: Settings) -> None:
    if _process(settings, "demo-sites") is not None:
        return
    _require_port(settings.demo_port, "LAKE_DEMO_PORT")
    command = [sys.executable, "-m", "include.local.nightscout", "serve", "--port", str(settings.demo_port)]
    command += ["--write-sites", str(settings.sites_file), "--write-env", str(settings.home / "demo.env")]
    command += ["--secret-file", str(settings.home / "demo.secret")]
    _start(settings, "demo-sites", command)
    deadline = time.monotonic() + 30
    while not _answers(settings.demo_port):
        if _process(settings, "demo-sites") is None or time.monotonic() > deadline:
            log = _tail(_log(settings, "demo-sites").read_text())
            raise SetupError(f"The demo sites did not start:\n{log}")
        time.sleep(0.1)
    environment.load_local_environment(settings.home)


def _make_demo_database(settings: Settings) -> None:
    """The demo's operational database as of this midnight; made at the first start, carried on at others."""
    from datetime import UTC, datetime

    from include.connections import Postgres
    from include.local import saas

    owner = Postgres.of(environment.connection("saas_demo_owner"))
    state = saas.State.of(settings.saas_demo_scale, 1, datetime.now(UTC).date())
    saas.build(owner, settings.extensions, state, keep=True)
    settings.databases_file.write_text(f"databases:\n  - database: {owner.database}\n")


# --- processes --------------------------------------------------------------------------------------------------


def _start(settings: Settings, name: str, command: list[str]) -> None:
    # A task that a killed scheduler left would run beside its own next try.
    _kill(_members(settings, name))
    with _log(settings, name).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=settings.home,
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    _pidfile(settings, name).write_text(json.dumps({"pid": process.pid, "created": created}))


def _process(settings: Settings, name: str) -> psutil.Process | None:
    """The running process of that name; the start time tells it from a later process with the same number."""
    record = _record(settings, name)
    try:
        process = psutil.Process(record["pid"])
        if not _is_of(record, process) or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except (KeyError, psutil.NoSuchProcess):
        return None
    return process


def _members(settings: Settings, name: str) -> list[psutil.Process]:
    """The process of that name and all that it started: they share its session, also when it was killed itself.

    Groups would not do: Airflow gives each task its own.
    """
    record = _record(settings, name)
    if not record or record["created"] < psutil.boot_time() - 1:
        return []
    with suppress(psutil.NoSuchProcess):
        if not _is_of(record, psutil.Process(record["pid"])):
            return []  # the number is somebody else's now
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == record["pid"] and process.status() != psutil.STATUS_ZOMBIE:
                ours = process.uids().real == os.getuid() and process.create_time() >= record["created"] - 1
                found += [process] if ours else []
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def _is_of(record: dict[str, Any], process: psutil.Process) -> bool:
    return abs(process.create_time() - record["created"]) <= 1


def _record(settings: Settings, name: str) -> dict[str, Any]:
    """Number and start, in seconds since 1970, of the process of that name that was started last; empty if none was."""
    try:
        return json.loads(_pidfile(settings, name).read_text())
    except (OSError, ValueError):
        return {}


def _terminate(process: psutil.Process | None) -> None:
    if process is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _wait(process: psutil.Process | None) -> None:
    if process is not None:
        with suppress(psutil.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def _pidfile(settings: Settings, name: str) -> Path:
    return settings.home / "run" / f"{name}.json"


def _log(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One command at a time sets up or starts."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError("Another `lake` or `make` command is setting up; wait for it to end.") from None
        yield


def _require_space(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if free < MINIMUM_FREE_BYTES:
        raise SetupError(f"Only {free / 1024**3:.1f} GB are free on the disk of {home}; make room for at least 2 GB.")


def _require_port(port: int, variable: str) -> None:
    if _port_open(port):
        raise SetupError(f"Port {port} is in use; stop what uses it, or set {variable} to a free port.")


def _port_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    """Whether an HTTP server answers there. One whose port is merely open has not written its connections yet."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
    except httpx.TransportError:
        return False
    return True


def _bin(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
