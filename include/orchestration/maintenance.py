"""The steps of the lake's upkeep. They queue with transformations; the lock of `include.lake.writers` does the rest."""

from typing import Any

from airflow.sdk import Param, task

from include.orchestration.pools import TRANSFORM

MAINTENANCE_PARAMS = {
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Say in the logs what is due; change nothing.",
    ),
}


@task(pool=TRANSFORM)
def check(deep: bool, **context: Any) -> dict[str, Any]:
    """Compare catalog and storage; red if a table, as it is now, cannot be read whole."""
    from include import runtime
    from include.lake import fsck
    from include.orchestration.connections import airflow_connection

    report = fsck.check(runtime.lake(airflow_connection), marts=runtime.marts(airflow_connection), deep=deep)
    fsck.require_whole(report)
    return report.summary()


@task(pool=TRANSFORM)
def maintain(step: str, **context: Any) -> dict[str, Any]:
    """One step of `include.lake.maintenance`, alone with the lake."""
    from include import runtime
    from include.lake.maintenance import Keep, Step
    from include.lake.maintenance import maintain as run
    from include.orchestration.connections import airflow_connection
    from include.settings import settings

    (report,) = run(
        runtime.lake(airflow_connection),
        runtime.marts(airflow_connection),
        steps=[Step(step)],
        dry_run=context["params"]["dry_run"],
        keep=Keep.of(settings()),
        home=settings().home,
    )
    return report.as_dict()
