"""The steps of a domain's pipeline: ingest, gate, layer, release. A DAG file calls these and chains them."""

import logging
import os
from functools import partial
from typing import Any

from airflow.sdk import TaskGroup, task
from airflow.sdk.definitions.taskgroup import TaskGroup as TaskGroupType

from include.errors import SetupError
from include.interval import Interval, day_of
from include.layers import Layer
from include.orchestration.dags import release_asset
from include.orchestration.pools import INGEST, TRANSFORM
from include.orchestration.runs import run_interval
from include.orchestration.turns import lake_in_turn

log = logging.getLogger(__name__)


def ingest(domain: str, streams: tuple[str, ...]) -> TaskGroupType:
    """One task per stream; each replaces, in one lake transaction, what the run's interval holds in its table."""
    with TaskGroup(group_id="ingest", tooltip=f"{domain}: source to bronze") as group:
        for stream in streams:
            _ingest_stream.override(task_id=f"ingest_{stream}")(domain=domain, stream=stream)
    return group


@task(pool=INGEST)
def _ingest_stream(domain: str, stream: str, **context: Any) -> dict[str, Any]:
    from importlib import import_module

    from include.orchestration.connections import airflow_connection

    lake = lake_in_turn(context, domain)
    source = import_module(f"include.sources.{domain}.run")
    return source.ingest_stream(lake, stream, run_interval(context), airflow_connection).as_dict()


def gate(domain: str, layer: Layer, replay: Any = None) -> Any:
    """The checkpoint at the door of a layer; red stops the run and changes nothing that anybody reads.

    Args:
        replay: what `replay_plan` gave, in a run that loads nothing.
    """
    pool = TRANSFORM if layer is Layer.BRONZE else None
    options = {"task_id": layer.gate, **({"pool": pool} if pool else {})}
    return _gate.override(**options)(domain=domain, layer=layer.value, replay=replay)


@task
def _gate(domain: str, layer: str, replay: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    from include.quality.gate import run_gate
    from include.quality.suites import suite
    from include.settings import settings

    lake = lake_in_turn(context, domain)
    checks = suite(domain, Layer(layer))
    result = run_gate(
        lake,
        domain,
        Layer(layer),
        _interval(replay, context),
        context["dag_run"].run_id,
        settings().quality_dir,
        suite=checks.without_load() if replay and layer == Layer.BRONZE else checks,
    )
    return result.summary()


def _interval(replay: dict[str, Any] | None, context: dict[str, Any]) -> Interval:
    from include.quality.replay import interval_of

    return interval_of(replay) if replay else run_interval(context)


@task
def replay_plan(domain: str, **context: Any) -> dict[str, Any]:
    """What the run's parameters choose to judge again, and what that would change; writes nothing."""
    from include import runtime
    from include.orchestration.connections import airflow_connection
    from include.quality.replay import plan

    params = context["params"]
    first, end = params["interval_start"], params["interval_end"]
    found = plan(
        runtime.lake(airflow_connection) if params["dry_run"] else lake_in_turn(context, domain),
        domain,
        first=day_of("interval_start", first) if first else None,
        end=day_of("interval_end", end) if end else None,
        tables=params["tables"] or (),
    )
    for table in found.tables:
        log.info(
            "%s: %d records judged, %d are set aside, %d of them would pass; %d more would be set aside. Days: %s",
            table.table,
            table.records,
            table.set_aside,
            table.freed,
            table.newly,
            ", ".join(table.days) or "none",
        )
    return found.as_dict()


@task.short_circuit
def replay_is_due(plan: dict[str, Any], **context: Any) -> bool:
    """False for a dry run, and where nothing is or was set aside: what follows is skipped."""
    return plan["interval_start"] is not None and not context["params"]["dry_run"]


def layer(domain: str, name: Layer) -> Any:
    """The dbt models of one layer as a task group: Cosmos makes a task of each, and one of all views of bronze.

    Raises:
        SetupError: the layer selects no model; an empty group would succeed.
    """
    from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
    from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior

    from include.dbt_project import MANIFEST, PROJECT_DIR, models

    built = models(name, domain, MANIFEST)
    profile = ProfileConfig(
        profile_name="lakehouse", target_name="folder", profiles_yml_filepath=PROJECT_DIR / "profiles.yml"
    )
    arguments = {
        "interceptors": [partial(_prepare_dbt, domain, name)],
        "full_refresh": "{{ params.full_refresh | default(false) }}",
        "pool": TRANSFORM,
    }
    if name is Layer.BRONZE:
        owner = ", ".join(sorted({model.owner for model in built}))
        return _views(name, select=[name.selector(domain)], profile_config=profile, owner=owner, **arguments)
    group = DbtTaskGroup(
        group_id=name.value,
        project_config=ProjectConfig(
            dbt_project_path=PROJECT_DIR, manifest_path=MANIFEST, install_dbt_deps=False, partial_parse=False
        ),
        profile_config=profile,
        execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL, invocation_mode=InvocationMode.DBT_RUNNER),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            select=[name.selector(domain)],
            test_behavior=TestBehavior.BUILD,
            emit_datasets=False,
        ),
        operator_args=arguments,
    )
    if not group.children:
        raise SetupError(
            f"Cosmos makes no task of {name.selector(domain)}; expected one for each of {len(built)} models."
        )
    return group


def _views(layer: Layer, **arguments: Any) -> TaskGroupType:
    """A layer whose models are views, in one task: to make a view takes a tenth of what a task takes."""
    from cosmos.constants import InvocationMode
    from cosmos.operators.local import DbtBuildLocalOperator

    from include.dbt_project import PROJECT_DIR

    with TaskGroup(group_id=layer.value) as group:
        DbtBuildLocalOperator(
            task_id="views",
            project_dir=PROJECT_DIR,
            invocation_mode=InvocationMode.DBT_RUNNER,
            install_deps=False,
            partial_parse=False,
            emit_datasets=False,
            **arguments,
        )
    return group


def _prepare_dbt(domain: str, layer: Layer, context: Any, operator: Any) -> None:
    """Give dbt the lake and the parsed project when the task runs; set here, they show in no rendered template."""
    from cosmos.dbt import runner
    from dbt.cli.main import dbtRunner

    from include import dbt_project, runtime
    from include.lake import fsck
    from include.lake.dbt_environment import dbt_environment
    from include.lake.passfile import use_passwords
    from include.lake.writers import hold
    from include.orchestration.connections import airflow_connection

    lake = lake_in_turn(context, domain)
    use_passwords(lake.catalog)
    hold(lake, operator)  # for as long as this task's process lives: dbt opens the lake by itself
    tables = [] if layer is Layer.BRONZE else [built_by(operator, layer)]  # a view has no files
    fsck.settle(lake, [*tables, *fsck.BOOKKEEPING])
    environment = {
        **dbt_environment(lake, runtime.pseudonym_keys(domain, airflow_connection)),
        "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test",  # those ran in `make test`
        "DBT_WRITE_JSON": "false",  # nobody reads the artifacts of a single task
        "DBT_LOG_LEVEL_FILE": "none",  # dbt.log would go with Cosmos' folder; Airflow's log has what dbt says
    }
    os.environ.update(environment)
    operator.profile_config.target_name = environment["LAKE_DBT_TARGET"]
    operator.env = {**(operator.env or {}), **environment, "PGPASSFILE": os.environ.get("PGPASSFILE", "")}
    # Cosmos has no setting for dbt's programmatic manifest; without it each task parses the project, for seconds.
    if not hasattr(runner, "_get_cached_dbt_runner"):
        raise SetupError("This version of Cosmos makes its dbtRunner elsewhere; adapt include/orchestration/tasks.py.")
    runner._get_cached_dbt_runner = lambda: dbtRunner(manifest=dbt_project.parsed())


def built_by(operator: Any, layer: Layer) -> str:
    """The table of a dbt task: Cosmos selects one model by its path."""
    return f"{layer}.{operator.select.rpartition('.')[2]}"


def release(domain: str, replay: Any = None) -> Any:
    """Publish and certify what gate_gold has passed; updates the domain's asset."""
    return _release.override(outlets=[release_asset(domain)])(domain=domain, replay=replay)


@task(task_id="release", pool=TRANSFORM)
def _release(domain: str, replay: dict[str, Any] | None = None, **context: Any) -> Any:
    from include import dbt_project, runtime
    from include.orchestration.connections import airflow_connection
    from include.release.certify import release as certify
    from include.release.code_version import code_version

    lake = lake_in_turn(context, domain)
    gates = [context["ti"].xcom_pull(task_ids=each.gate) for each in Layer]
    certified = certify(
        lake=lake,
        marts=runtime.marts(airflow_connection),
        models=dbt_project.marts(domain),
        domain=domain,
        interval=_interval(replay, context),
        dag_run_id=context["dag_run"].run_id,
        snapshot_id=gates[-1]["snapshot_id"],
        gates=gates,
        code_version=code_version(),
    )
    summary = certified.summary()
    context["outlet_events"][release_asset(domain)].extra = summary
    return summary
