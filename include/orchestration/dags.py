"""What every DAG here has in common: defaults, tags, the trigger form."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow.sdk import Asset, CronDataIntervalTimetable, CronTriggerTimetable

from include.orchestration.alerts import on_failure
from include.orchestration.maintenance import MAINTENANCE_PARAMS
from include.orchestration.retry import LakeRetryPolicy
from include.orchestration.runs import RUN_PARAMS, replay_params

# Before the first reading that anybody has; backfills go back to it.
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)


class Tag(StrEnum):
    """The only tags that DAGs carry, beside the name of their domain."""

    DAILY = "daily"
    CERTIFIED = "certified"
    REPLAY = "replay"
    MAINTENANCE = "maintenance"
    BACKUP = "backup"


def release_asset(domain: str) -> Asset:
    """The asset that a release of the domain updates; its events carry release id and interval."""
    return Asset(name=f"{domain}_marts", uri=f"x-lakehouse://marts/{domain}")


def daily(domain: str, *, doc_md: str | None) -> dict[str, Any]:
    """Arguments of `@dag` for a domain's daily pipeline.

    The timetable gives each run the UTC day before it as data interval; a run at a time, as a domain has one writer.
    """
    return _common(doc_md) | {
        "schedule": CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
        "tags": [domain, Tag.DAILY.value, Tag.CERTIFIED.value],
        "params": RUN_PARAMS,
    }


def replay(domain: str, *, doc_md: str | None) -> dict[str, Any]:
    """Arguments of `@dag` for judging a domain's quarantined rows again; only by hand."""
    return _common(doc_md) | {
        "schedule": None,
        "tags": [domain, Tag.REPLAY.value, Tag.CERTIFIED.value],
        "params": replay_params(domain),
    }


def weekly(*, doc_md: str | None) -> dict[str, Any]:
    """Arguments of `@dag` for the lake's upkeep: Sundays at 03:30 UTC, after the daily runs."""
    return _common(doc_md) | {
        "schedule": CronTriggerTimetable("30 3 * * 0", timezone="UTC"),
        "tags": [Tag.MAINTENANCE.value],
        "params": MAINTENANCE_PARAMS,
    }


def backups(cron: str, *, doc_md: str | None) -> dict[str, Any]:
    """Arguments of `@dag` for backups and for the proof that they restore, at times in UTC."""
    return _common(doc_md) | {"schedule": CronTriggerTimetable(cron, timezone="UTC"), "tags": [Tag.BACKUP.value]}


def _common(doc_md: str | None) -> dict[str, Any]:
    return {
        "start_date": EARLIEST,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": timedelta(hours=12),
        "doc_md": doc_md,
        "default_args": {
            "owner": "data-platform",
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": LakeRetryPolicy(),
            "on_failure_callback": on_failure,
        },
    }
