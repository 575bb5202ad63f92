"""The roles of a server's PostgreSQL, made for real in a fresh cluster and compared with the laptop's."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.local import postgres
from include.local.postgres import LocalPostgres
from include.settings import ROOT

ROLES_SQL = ROOT / "deploy" / "postgres" / "roles.sql"
PASSWORDS = {
    "AIRFLOW_DB_PASSWORD": "password-of-airflow",
    "CATALOG_DB_PASSWORD": "password'of;lake",
    "CATALOG_READER_PASSWORD": "password-of-lake-reader",
    "MARTS_PUBLISHER_PASSWORD": "password-of-publisher",
    "MARTS_READER_PASSWORD": "password-of-reader",
}
ROLES = dict(
    zip(("airflow", "lake", "lake_reader", "marts_publisher", "marts_reader"), PASSWORDS.values(), strict=True)
)

DATABASES = """
    select datname, pg_get_userbyid(datdba), coalesce(datacl::text, '')
    from pg_database where datname in ('airflow', 'lake_catalog', 'marts') order by 1
"""
RIGHTS = """
    select rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls
    from pg_roles
    where rolname in ('airflow', 'lake', 'lake_reader', 'marts_publisher', 'marts_reader') order by 1
"""


class Cluster:
    """A server that knows nobody but its superuser, as the image's is when it runs the script."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.running = postgres._server(data)
        self.running.ensure_pgdata_inited()
        self.running.ensure_postgres_running()
        self.host = str(self.running.get_postmaster_info().socket_dir)

    def connect(self, role: str = "postgres", database: str = "postgres", **more: Any) -> psycopg.Connection:
        return psycopg.connect(host=self.host, user=role, dbname=database, autocommit=True, **more)

    def run_roles(self, passwords: dict[str, str]) -> subprocess.CompletedProcess[str]:
        psql = self.running.bin_path / "psql"
        environment = {"PATH": os.environ["PATH"], "PGHOST": self.host, **passwords}
        command = [psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--username=postgres", f"--file={ROLES_SQL}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def log(self) -> str:
        return (self.data / "log").read_text(errors="replace")


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Cluster]:
    started = Cluster(scratch / "fresh")
    done = started.run_roles(PASSWORDS)
    assert done.returncode == 0, done.stderr
    yield started
    postgres.stop(started.data)


def test_server_has_the_laptops_databases_owners_and_grants(cluster: Cluster, server: LocalPostgres) -> None:
    laptop = psycopg.connect(server.as_role("postgres", "postgres").conninfo(), autocommit=True)
    with laptop, cluster.connect() as connection:
        assert connection.execute(DATABASES).fetchall() == laptop.execute(DATABASES).fetchall()
        assert connection.execute(RIGHTS).fetchall() == laptop.execute(RIGHTS).fetchall()


def test_each_role_reaches_its_own_database_only(cluster: Cluster) -> None:
    allowed = {
        ("airflow", "airflow"),
        ("lake", "lake_catalog"),
        ("lake_reader", "lake_catalog"),
        ("marts_publisher", "marts"),
        ("marts_reader", "marts"),
    }
    for role in ROLES:
        for database in ("airflow", "lake_catalog", "marts"):
            if (role, database) in allowed:
                cluster.connect(role, database).close()
            else:
                with pytest.raises(psycopg.OperationalError, match="permission denied"):
                    cluster.connect(role, database)


@pytest.mark.parametrize(("role", "database"), postgres.READERS.items())
def test_reader_can_make_nothing(cluster: Cluster, role: str, database: str) -> None:
    with cluster.connect(role, database) as connection:
        for statement in ("create schema s", "create table public.t (i int)", "create temporary table t (i int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_publisher_makes_schemas_and_lets_the_reader_read(cluster: Cluster) -> None:
    with cluster.connect("marts_publisher", "marts") as publisher:
        publisher.execute("create schema probe; create table probe.t as select 1 as i")
        publisher.execute("grant usage on schema probe to marts_reader; grant select on probe.t to marts_reader")
        with cluster.connect("marts_reader", "marts") as reader:
            assert reader.execute("select i from probe.t").fetchone() == (1,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("delete from probe.t")
        publisher.execute("drop schema probe cascade")


def test_passwords_are_those_of_the_environment_and_stored_as_scram(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        stored = connection.execute("select rolname, rolpassword from pg_authid where rolname = any(%s)", [list(ROLES)])
        assert all(password.startswith("SCRAM-SHA-256$") for _, password in stored.fetchall())
    hba = cluster.data / "pg_hba.conf"
    before = hba.read_text()
    with cluster.connect() as superuser:
        hba.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        superuser.execute("select pg_reload_conf()")
        try:
            for role, password in ROLES.items():
                database = postgres.ROLES[role]
                cluster.connect(role, database, password=password).close()
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    cluster.connect(role, database, password="another")
        finally:
            hba.write_text(before)
            superuser.execute("select pg_reload_conf()")


def test_second_run_changes_passwords_and_keeps_data(cluster: Cluster) -> None:
    with cluster.connect("lake", "lake_catalog") as connection:
        connection.execute("create table if not exists kept as select 1 as i")
    with cluster.connect() as superuser:
        query = "select rolpassword from pg_authid where rolname = 'lake'"
        before = superuser.execute(query).fetchone()
        done = cluster.run_roles({**PASSWORDS, "CATALOG_DB_PASSWORD": "a-new-one"})
        assert done.returncode == 0, done.stderr
        assert superuser.execute(query).fetchone() != before
    with cluster.connect("lake", "lake_catalog") as connection:
        assert connection.execute("select i from kept").fetchone() == (1,)
    assert cluster.run_roles(PASSWORDS).returncode == 0


def test_missing_password_stops_the_script(cluster: Cluster) -> None:
    done = cluster.run_roles({name: value for name, value in PASSWORDS.items() if name != "MARTS_READER_PASSWORD"})
    assert done.returncode != 0
    assert "reader_password" in done.stderr


def test_no_password_reaches_the_log_even_when_a_statement_fails(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute("alter system set log_statement = 'all'")
        connection.execute("alter database postgres set default_transaction_read_only = on")
        connection.execute("select pg_reload_conf()")
        try:
            done = cluster.run_roles(PASSWORDS)
        finally:
            connection.execute("set default_transaction_read_only = off")
            connection.execute("alter database postgres reset default_transaction_read_only")
            connection.execute("alter system reset log_statement")
            connection.execute("select pg_reload_conf()")
    assert done.returncode != 0
    assert "ALTER ROLE in a read-only transaction" in cluster.log()
    for password in PASSWORDS.values():
        assert password not in cluster.log()
