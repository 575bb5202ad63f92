"""A domain of each kind, made in a copy of the repository: it satisfies `make lint`, passes the tests, and runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import duckdb
import psycopg
import pytest

from include.connections import Postgres
from include.local.postgres import LocalPostgres
from include.scaffold.kinds import KINDS
from include.settings import ROOT
from tests.conftest import fresh_database
from tests.include.scaffold.sources import SOURCES, Source

FOREIGN = ("LAKE_", "AIRFLOW", "DBT_", "PYTEST", "COV_")
# Tests of the repository that look at every domain; those of gates, of this one only.
EVERY_DOMAIN = (
    "tests/dags",
    "tests/test_documents.py",
    "tests/include/quality/test_checks.py",
    "tests/include/scaffold/test_plan.py",
    "tests/include/test_settings.py",
)


class Checkout:
    """A copy of this checkout, and what runs in it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self._environment = kept | {"LAKE_HOME": str(root / ".lakehouse")} | dict(environment)

    def run(self, *command: str) -> str:
        """A command of this environment; fails with all that it said."""
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run(
            [str(program), *command[1:]],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
        return done.stdout

    def lake(self, *arguments: str) -> str:
        return self.run("python", "-c", "from include.cli import main; main()", *arguments)

    def pipeline(self, streams: list[str], first: str, end: str) -> list[dict]:
        """A run of all steps, as the DAG's tasks make them; gives the gates' summaries."""
        folder = self.root / ".lakehouse"
        shutil.rmtree(folder / "billing", ignore_errors=True)
        asked = {"streams": streams, "first": first, "end": end, "times": 1}
        folder.mkdir(exist_ok=True)
        (folder / "request.json").write_text(json.dumps({"billing": asked}))
        self.run("python", "-c", "from include.local.stack import build_manifest; build_manifest()")
        self.run("python", "-m", "tools.pull_request.run", str(folder))
        (run,) = json.loads((folder / "result.json").read_text())["domains"]["billing"]["runs"]
        assert run["failed"] is None, run["failed"]
        return run["gates"]

    def table(self, name: str) -> list[tuple]:
        """Rows of a table as the last run left it."""
        return duckdb.sql(f"from '{self.root}/.lakehouse/billing/1/{name}.parquet' order by all").fetchall()


@pytest.fixture(params=list(KINDS))
def source(request: pytest.FixtureRequest, server: LocalPostgres) -> Iterator[Source]:
    with SOURCES[request.param](server) as made:
        yield made


@pytest.fixture
def marts(server: LocalPostgres) -> Iterator[Postgres]:
    with fresh_database(server, "marts_publisher") as database:
        yield database


@pytest.fixture
def checkout(
    request: pytest.FixtureRequest,
    source: Source,
    marts: Postgres,
    server: LocalPostgres,
    extensions: Path,
    tmp_path: Path,
) -> Iterator[Checkout]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files are the project's")
    root = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    with ExitStack() as stack:
        catalog = stack.enter_context(fresh_database(server, "lake"))
        storage = {"conn_type": "file", "extra": {"path": str(tmp_path / "lake")}}
        key = {"conn_type": "generic", "password": "the key of the tests, long enough"}
        yield Checkout(
            root,
            {
                **source.environment,
                "LAKE_EXTENSION_DIR": str(extensions),
                "LAKE_MEMORY_LIMIT": "2GB",
                "AIRFLOW_HOME": str(tmp_path / "airflow"),
                "AIRFLOW_CONN_LAKE_CATALOG": catalog.uri(),
                "AIRFLOW_CONN_LAKE_STORAGE": json.dumps(storage),
                "AIRFLOW_CONN_MARTS": marts.uri(),
                "AIRFLOW_CONN_BILLING_PSEUDONYM": json.dumps(key),
            },
        )


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_domain_is_made_checked_tested_and_run(
    checkout: Checkout, source: Source, marts: Postgres, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["source"]
    checkout.lake("new", "domain", "billing", "--kind", kind, *source.flags, "--no-docs")

    # As the DAG runs it: everything lands, and is released.
    checkout.pipeline(["orders", "customers"], "2026-03-01", "2026-03-03")
    before = checkout.table("gold.mrt_billing_orders_daily")
    assert sum(row[2] for row in before) == 190
    assert published(marts, "mrt_billing_orders_daily") == before
    names = str(checkout.table("silver.dim_billing_customers")).lower()
    assert len(checkout.table("silver.dim_billing_customers")) == 20
    assert not [word for word in source.secrets if word in names]

    # A stream and a mart more; a row that changed; and again, which changes nothing.
    checkout.lake("new", "stream", "billing", *source.stream, "--no-docs")
    checkout.lake("new", "mart", "billing", "mrt_revenue_daily", "--from", "fct_billing_orders", "--sum", "total")
    source.change()
    for _ in range(2):
        gates = checkout.pipeline(["orders", "customers", "refunds"], "2026-03-03", "2026-03-04")
        assert all(gate["evaluated"] > 0 for gate in gates)
        assert len(checkout.table("silver.dim_billing_refunds")) == 9
        assert checkout.table("gold.mrt_billing_orders_daily") == before
        revenue = checkout.table("gold.mrt_revenue_daily")
        assert published(marts, "mrt_revenue_daily") == revenue
        assert float(sum(row[-1] for row in revenue)) == pytest.approx(1.10 * (190 * 191 / 2 - 7) + 1000)

    # What `make lint` and `make test` would say of it.
    checkout.run("ruff", "check", ".")
    checkout.run("ruff", "format", "--check", ".")
    checkout.run("sqlfluff", "lint", "--processes", "2", "dbt/models")
    quiet = ("-p", "no:cacheprovider", "-p", "no:xdist")
    checkout.run("pytest", *quiet, *EVERY_DOMAIN)
    of_it = ("tests/dbt", "tests/include", "tests/pipeline/test_billing.py")
    said = checkout.run("pytest", *quiet, *of_it, "-k", "billing or every_model or every_domain")
    assert "passed" in said


def published(marts: Postgres, mart: str) -> list[tuple]:
    with psycopg.connect(marts.conninfo()) as connection:
        return sorted(connection.execute(f"select * from marts.{mart}").fetchall())  # type: ignore[arg-type]
