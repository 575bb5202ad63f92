"""Checks for any bronze table that is loaded by keys: a load replaces the rows of the keys that it brings.

A record lies on the day of its creation, wherever the load that changed it lies; the window rows of a load say which
days its source was asked for.
"""

from collections.abc import Sequence

from include.quality.checks import Check, Query, RowRule
from include.quality.suites import landing
from include.quality.suites.landing import IN_INTERVAL, LANDED, RECORDS, WINDOW

__all__ = ["IN_INTERVAL", "LANDED", "RECORDS", "WINDOW", "landed"]


def landed(
    table: str,
    stream: str,
    created_at: str,
    rules: tuple[RowRule, ...],
    *,
    streams: Sequence[str],
    max_share: float,
    spare_rows: int,
    updated_at: str = "updated_at",
) -> tuple[Check, ...]:
    """What must hold for a bronze table after a load; see `landing.checks`.

    Args:
        created_at: SQL for the time that a record's day follows from (timestamptz).
        updated_at: column that grows with each change.
    """
    bronze = f"bronze.{table}"
    common = landing.checks(table, stream, rules, streams=streams, max_share=max_share, spare_rows=spare_rows)
    return (
        *common,
        Check(
            name=f"{stream}_records_once",
            table=bronze,
            test=Query(
                sql=f"select site, record_id, count(*) as rows, list(interval_date) as days from {bronze} "
                f"where (site, record_id) in (select (site, record_id) from {bronze} where {RECORDS} and {LANDED}) "
                "group by site, record_id having count(*) > 1",
                expected="each record once, on whatever day",
            ),
            why="A record that a load did not replace but repeat counts twice.",
            breaks=(
                f"insert into {bronze} select * exclude (n) replace ('twice' as record_id, interval_date + n::integer "
                f"as interval_date) from {bronze}, range(2) as copies (n) where {WINDOW} and {IN_INTERVAL}",
            ),
        ),
        Check(
            name=f"{stream}_landed_no_more_than_was_answered",
            table=bronze,
            test=Query(
                sql=f"""
                    with asked as (
                        select site, load_seq, interval_date as day, window_records as answered from {bronze}
                        where {WINDOW} and {IN_INTERVAL}
                    ),
                    changed as (
                        select site, load_seq, {updated_at}::date as day, count(*) as landed from {bronze}
                        where {RECORDS} and source_deleted_at is null
                        and {updated_at} >= {{start}} and {updated_at} < {{end}} group by all
                    )
                    select site, day, answered, landed from asked left join changed using (site, load_seq, day)
                    where answered is null or answered < coalesce(landed, 0)
                """,
                expected="for each day of the interval at most as many changed records as its window row says",
            ),
            why="Records were doubled between the source's answer and the lake.",
            breaks=(f"update {bronze} set window_records = -1 where {WINDOW} and {IN_INTERVAL}",),
        ),
        landing.on_their_day(bronze, stream, created_at),
    )
