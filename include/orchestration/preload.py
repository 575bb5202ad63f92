"""Import once in the scheduler what tasks would each import again.

LocalExecutor forks its workers from the scheduler and a task is a fork of its worker, so modules that the scheduler
holds cost a task nothing. Only libraries: our own code must be read anew by each task, or an edit would wait for the
next start of the scheduler. Other executors and components are left alone: they would pay for it and not gain.
"""

import importlib
import inspect
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

MODULES = (
    "airflow.api_fastapi.auth.managers.models.resource_details",
    "airflow.providers.amazon.aws.fs.s3",  # Cosmos reads the manifest as a path of Airflow's
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.retry_policy",
    "airflow.sdk.lineage",
    "asgiref.sync",
    "babel.dates",
    "boto3.s3.inject",
    "cosmos.airflow.task_group",
    "cosmos.converter",
    "cosmos.operators.local",
    "dbt.adapters.duckdb",
    "dbt.adapters.duckdb.__version__",
    "dbt.adapters.duckdb.environments.local",
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.task.test",
    "dbt_common.clients.agate_helper",
    "dlt.common.libs.pyarrow",
    "dlt.destinations.impl.ducklake.ducklake",
    "dlt.pipeline.pipeline",
    "dlt.sources.helpers.requests",
    "duckdb",
    "duckdb_engine",
    "fastapi",  # Cosmos' plugin, which the first task decorator loads
    "httpx",
    "openlineage.common.provider.dbt.local",  # Cosmos reads dbt's artifacts with it
    "orjson",
    "psycopg",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pyarrow.vendored.version",
    "pydantic_settings",
    "tabulate",
    "tenacity",
    "upath.implementations.local",
)

# Of include.dbt_project, which is our own code and so is not imported here.
PARSED = Path(__file__).parents[2] / "dbt" / "target" / "partial_parse.msgpack"

log = logging.getLogger(__name__)


def preload() -> None:
    """Import the tasks' libraries if this is a scheduler with LocalExecutor."""
    executor = os.environ.get("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    if "scheduler" not in sys.argv[1:2] or executor != "LocalExecutor":
        return
    load()


def load() -> None:
    """Import the tasks' libraries and fill their caches."""
    from include.quality.gx_import import great_expectations

    great_expectations()
    for module in MODULES:
        importlib.import_module(module)
    _fill_caches()


def _fill_caches() -> None:
    """What dbt computes anew at each start though it depends on the code alone: 1 s."""
    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.contracts import project
    from dbt.contracts.selection import SelectorFile
    from dbt_common.contracts.constraints import ColumnLevelConstraint, ModelLevelConstraint

    for schema in (
        DuckDBCredentials,
        project.Configuration,
        project.PackageConfig,
        project.ProfileConfig,
        project.Project,
        project.ProjectFlags,
        ColumnLevelConstraint,
        ModelLevelConstraint,
        SelectorFile,
    ):
        schema.json_schema()
        with suppress(Exception):  # fields are missing, but the code that reads them is made
            schema.from_dict({})
    inspect.stack()  # remembers the file of each module
    if PARSED.exists():
        _read_manifest()


def _read_manifest() -> None:
    """dbt makes the code that reads and writes each class of a manifest when it first does so, and compiles macros when
    they are first called: together 0.5 s of a task.

    It keeps compiled macros by their text, so that one that is edited later is compiled anew.
    """
    try:
        from dbt.contracts.graph.manifest import Manifest
        from dbt_common.clients.jinja import template_cache

        manifest = Manifest.from_msgpack(PARSED.read_bytes())
        manifest.build_flat_graph()
        next(iter(manifest.macros.values())).to_dict()
        for macro in manifest.macros.values():
            template_cache.get_node_template(macro)
    except Exception as error:  # noqa: BLE001 - the scheduler can do without; a dbt task says what is wrong with it
        log.warning("%s could not be read and compiled ahead of the tasks: %s", PARSED, error)
