"""Checks for any bronze table that is loaded by windows: (site, UTC day), each with one window row beside its records.

The window row (`record_id is null`) proves that the site was asked for the day, and says how many records it answered.
"""

from collections.abc import Sequence

from include.quality.checks import Check, Query, RowRule
from include.quality.suites import landing
from include.quality.suites.landing import IN_INTERVAL, LANDED, RECORDS, WINDOW

__all__ = ["IN_INTERVAL", "LANDED", "RECORDS", "WINDOW", "landed"]

LINEAGE = (*landing.LINEAGE, "api_version", "site_time_zone", "site_units")


def landed(
    table: str,
    stream: str,
    event_at: str,
    rules: tuple[RowRule, ...],
    *,
    streams: Sequence[str],
    max_share: float,
    spare_rows: int,
) -> tuple[Check, ...]:
    """What must hold for a bronze table after a load; see `landing.checks`.

    Args:
        event_at: SQL for the event time of a record (timestamptz).
    """
    bronze = f"bronze.{table}"
    return (
        *landing.checks(
            table,
            stream,
            rules,
            streams=streams,
            max_share=max_share,
            spare_rows=spare_rows,
            lineage=LINEAGE,
        ),
        Check(
            name=f"{stream}_windows_hold_what_was_answered",
            table=bronze,
            test=Query(
                sql=f"select site, interval_date, max(window_records) as answered, count(record_id) as landed "
                f"from {bronze} where {LANDED} group by site, interval_date "
                "having max(window_records) is distinct from count(record_id)",
                expected="as many records in each window as its window row says were answered",
            ),
            why="Records were lost, or doubled, between the site's answer and the lake.",
            breaks=(f"update {bronze} set window_records = window_records + 1 where {WINDOW} and {IN_INTERVAL}",),
        ),
        Check(
            name=f"{stream}_records_once",
            table=bronze,
            test=Query(
                sql=f"select site, interval_date, record_id, count(*) as rows from {bronze} where {RECORDS} "
                f"and {LANDED} group by site, interval_date, record_id having count(*) > 1",
                expected="each record once in its window",
            ),
            why="A page that was answered twice landed twice.",
            breaks=(
                f"insert into {bronze} select * exclude (n) replace ('twice' as record_id) "
                f"from {bronze}, range(2) as copies (n) where {WINDOW} and {IN_INTERVAL}",
            ),
        ),
        landing.on_their_day(bronze, stream, event_at),
    )
