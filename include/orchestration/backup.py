"""Backups and restore drills as tasks. They write nothing of the lake and need no pool; locks keep cleanup away."""

from typing import Any

from airflow.sdk import task


@task
def back_up() -> dict[str, Any]:
    """Make a backup and let go of old ones; what a failed try copied is not copied again."""
    from include import runtime
    from include.lake.backup import backup
    from include.orchestration.connections import airflow_connection
    from include.release.code_version import code_version
    from include.settings import settings

    made = backup(
        runtime.lake(airflow_connection),
        runtime.marts(airflow_connection),
        runtime.backups(airflow_connection),
        keep=settings().backup_keep,
        code_version=code_version(),
    )
    return {
        "backup_id": made.backup_id,
        "snapshot_id": made.snapshot_id,
        "files": len(made.files),
        "bytes": made.size,
        "copied": made.copied,
    }


@task
def restore_newest() -> dict[str, Any]:
    """Restore the newest backup into a scratch place; red unless every mart is what the ledger says."""
    from include import runtime
    from include.lake.restore import drill
    from include.orchestration.connections import airflow_connection

    return drill(
        runtime.lake(airflow_connection), runtime.marts(airflow_connection), runtime.backups(airflow_connection)
    )
