"""One of the two trees: its processes, its throwaway lake and marts, and what they say."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.connections import Postgres
from include.errors import LakehouseError
from include.lake.extensions import link_extensions
from include.lake.passfile import use_passwords
from include.local import postgres
from include.local.postgres import LocalPostgres
from include.local.sample import Place, Sample
from include.local.stack import NO_TELEMETRY

TIMEOUT_SECONDS = 900
LINES_OF_A_TRACEBACK = 12
# The developer's own stack must not shine through.
FOREIGN = ("LAKE_", "AIRFLOW", "DBT_", "PG", "PYTHONPATH")
QUIET = {
    **NO_TELEMETRY,
    "AIRFLOW__COSMOS__ENABLE_CACHE": "False",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
}


class SideError(LakehouseError):
    """A process of a tree failed; the message holds the end of what it said."""


@dataclass(frozen=True)
class Side:
    """A tree of files, and the folder that its processes write to."""

    name: str
    tree: Path
    home: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return kept | QUIET | {"LAKE_HOME": str(self.home), "AIRFLOW_HOME": str(self.home / "airflow")}

    def parse(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The DAGs (see `parse`) and the dbt manifest.

        Raises:
            SideError: the dbt project does not parse, or the process fails. Errors of DAG files are in the result.
        """
        self.home.mkdir(parents=True)
        self._python("-c", "from include.local.stack import build_manifest; build_manifest()")
        target = self.home / "dags.json"
        self._python("-m", "tools.pull_request.parse", str(target))
        manifest = json.loads((self.tree / "dbt" / "target" / "manifest.json").read_bytes())
        return json.loads(target.read_bytes()), manifest

    def run(self, place: Place, samples: Mapping[str, Sample], streams: Mapping[str, list[str]], times: int) -> Any:
        """Run domains on their samples; see `run`.

        Raises:
            SideError: the process failed. A pipeline that fails is in the result.
        """
        request = {
            domain: {
                "streams": streams[domain],
                "first": str(sample.interval.start.date()),
                "end": str(sample.interval.end.date()),
                "times": times,
            }
            for domain, sample in samples.items()
        }
        (self.home / "request.json").write_text(json.dumps(request))
        sources = {name: value for sample in samples.values() for name, value in sample.environment.items()}
        self._python("-m", "tools.pull_request.run", str(self.home), environment=self._connections(place) | sources)
        return json.loads((self.home / "result.json").read_bytes())

    def tables(self, domain: str, run: int) -> dict[str, Path]:
        """The Parquet files of silver and gold after a run, by table; none if the run did not get there."""
        return {path.stem: path for path in sorted((self.home / domain / str(run)).glob("*.parquet"))}

    def _connections(self, place: Place) -> dict[str, str]:
        server, reader = place.postgres, "marts_reader"
        catalog = _create_database(server, "lake", f"{self.name}_lake")
        marts = _create_database(server, "marts_publisher", f"{self.name}_marts", reader)
        return {
            "LAKE_EXTENSION_DIR": str(place.extensions),
            "LAKE_MEMORY_LIMIT": "2GB",
            "LAKE_THREADS": "1",  # with several, DuckDB takes twice as long over tables this small
            "AIRFLOW_CONN_LAKE_CATALOG": catalog.uri(),
            "AIRFLOW_CONN_LAKE_STORAGE": json.dumps({"conn_type": "file", "extra": {"path": str(self.home / "lake")}}),
            "AIRFLOW_CONN_MARTS": marts.uri(),
            "AIRFLOW_CONN_MARTS_READER": server.as_role(reader, marts.database).uri(),
        }

    def _python(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        log = self.home / "process.log"
        with log.open("w") as output:
            try:
                done = subprocess.run(
                    [sys.executable, *arguments],
                    cwd=self.tree,
                    env=self.environment | dict(environment or {}),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise SideError(f"The {self.name} did not end within {TIMEOUT_SECONDS} s.") from None
        if done.returncode < 0:
            raise SideError(f"The {self.name}'s process was ended by signal {-done.returncode}; memory may be short.")
        if done.returncode:
            lines = log.read_text(errors="replace").strip().splitlines()[-LINES_OF_A_TRACEBACK:]
            raise SideError("\n".join(lines).replace(str(self.tree), "."))


@contextmanager
def throwaway() -> Iterator[Place]:
    """A folder and an embedded PostgreSQL that live until the block is left."""
    with tempfile.TemporaryDirectory(prefix="lake-pr-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user walks through it
        link_extensions(folder / "extensions")
        server = postgres.start(folder / "pg", postgres.THROWAWAY)
        try:
            use_passwords(*server.servers)
            yield Place(folder, server, folder / "extensions")
        finally:
            postgres.stop(folder / "pg")


@contextmanager
def worktree(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, in a worktree that is removed afterwards."""
    git = ["git", "-C", str(root), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _create_database(server: LocalPostgres, owner: str, name: str, reader: str | None = None) -> Postgres:
    superuser = server.as_role("postgres", "postgres")
    with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
        create = sql.SQL("create database {} owner {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(owner)))
        if reader:
            grant = sql.SQL("grant connect on database {} to {}")
            connection.execute(grant.format(sql.Identifier(name), sql.Identifier(reader)))
    return server.as_role(owner, name)
