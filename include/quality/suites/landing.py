"""Checks for any bronze table: what each load must leave behind, whether it replaces windows or keys.

A window row (`record_id is null`) proves that a site was asked for a UTC day. `windows` and `keyed` add the rest.
"""

from collections.abc import Sequence

from include.layers import QUARANTINE_SCHEMA
from include.quality.checks import Check, Query, RowRule, Rows, Severity, has_rows, no_nulls

LINEAGE = ("site", "interval_date", "load_seq", "interval_start", "interval_end", "fetched_at")
RECORDS = "record_id is not null"
WINDOW = "record_id is null"
IN_INTERVAL = "interval_date >= {first_day} and interval_date < {end_day}"
LANDED = "{landed(interval_date)}"


def checks(
    table: str,
    stream: str,
    rules: tuple[RowRule, ...],
    *,
    streams: Sequence[str],
    max_share: float,
    spare_rows: int,
    lineage: Sequence[str] = LINEAGE,
) -> tuple[Check, ...]:
    """What must hold for a bronze table after any load.

    Args:
        table: without its schema.
        stream: prefix of the checks' names.
        rules: its row rules, for the identity of landed, passed and set aside.
        streams: all bronze tables of the source; a site that landed in one of them is due in each.
        lineage: columns that every row fills.
    """
    bronze, aside = f"bronze.{table}", f"{QUARANTINE_SCHEMA}.{table}"
    return (
        has_rows(bronze),
        no_nulls(
            bronze,
            *lineage,
            name=f"{stream}_lineage_complete",
            among=IN_INTERVAL,
            why="A row that does not say where it came from cannot be explained, replaced or rebuilt.",
        ),
        _windows_complete(bronze, stream, [f"bronze.{name}" for name in streams]),
        Check(
            name=f"{stream}_is_a_record_or_a_window",
            table=bronze,
            test=Rows(
                "(record_id is null) = (window_records is not null)",
                show=("site", "interval_date", "record_id", "window_records"),
                words="a record id in each row, or else how many records its window had",
            ),
            why="A record whose key was lost looks like a day that was asked for, and would never be replaced.",
            breaks=(
                f"update {bronze} set window_records = 1 "
                f"where rowid = (select min(rowid) from {bronze} where {RECORDS})",
            ),
        ),
        Check(
            name=f"{stream}_windows_once",
            table=bronze,
            test=Query(
                sql=f"select site, interval_date, count(*) as window_rows from {bronze} where {WINDOW} "
                f"and {LANDED} group by site, interval_date having count(*) > 1",
                expected="one window row for each site and day",
            ),
            why="A day that landed twice counts its readings twice.",
            breaks=(f"insert into {bronze} from {bronze} where {WINDOW} and {IN_INTERVAL} limit 1",),
        ),
        Check(
            name=f"{stream}_fetched_when_the_day_was_over",
            table=bronze,
            test=Query(
                sql=f"select site, interval_date, fetched_at from {bronze} where {WINDOW} and {IN_INTERVAL} "
                "and (fetched_at < interval_date + interval 1 day or fetched_at > {now} + interval 1 hour)",
                expected="each window of the interval fetched after its day ended, and not in the future",
            ),
            why="A day that was asked for before it ended is incomplete until it is loaded again.",
            breaks=(f"update {bronze} set fetched_at = interval_start where {WINDOW} and {IN_INTERVAL}",),
            severity=Severity.WARN,
        ),
        _identity(stream, bronze, aside, rules),
        Check(
            name=f"{stream}_set_aside_are_in_bronze",
            table=bronze,
            test=Query(
                sql=f"select site, interval_date, record_id, load_seq, dag_run_id from {aside} "
                f"anti join (from {bronze} where {LANDED}) as landed using (site, interval_date, record_id, load_seq) "
                f"where {LANDED}",
                expected="every row that was set aside to be in bronze still, under the load that brought it",
                reads=(aside,),
            ),
            why="A row set aside by a load that was replaced hides nothing and confuses whoever looks at it.",
            breaks=(
                f"insert into {aside} (site, interval_date, record_id, load_seq) values "
                "('nobody', {first_day}, 'nothing', 1)",
            ),
        ),
        _share(stream, bronze, aside, max_share, spare_rows),
    )


def on_their_day(bronze: str, stream: str, event_at: str) -> Check:
    """Each record on the UTC day that `event_at` (SQL, timestamptz) lies in."""
    return Check(
        name=f"{stream}_on_the_day_of_their_event",
        table=bronze,
        test=Rows(
            predicate=f"interval_date = ({event_at})::date",
            where=f"{RECORDS} and ({event_at}) is not null",
            show=("site", "interval_date", "record_id", f"({event_at}) as event_at"),
            words="each record in the window of the UTC day that its event lies in",
        ),
        why="A record in the wrong window is not replaced when its own day is loaded again.",
        breaks=(
            # One from before the interval, where the source had any.
            f"update {bronze} set interval_date = {{first_day}} - (interval_date = {{first_day}})::integer "
            f"where rowid = (select first(rowid order by interval_date >= {{first_day}}, rowid) from {bronze} "
            f"where {RECORDS})",
        ),
    )


def _windows_complete(bronze: str, stream: str, streams: Sequence[str]) -> Check:
    sites = " union ".join(f"select site from {name} where {WINDOW} and {IN_INTERVAL}" for name in streams)
    # No site at all leaves the days without one, which are then found: never nothing to compare, hence green.
    sql = f"""
        with days as (select unnest(range({{first_day}}, {{end_day}}, interval 1 day))::date as interval_date),
        due as (select interval_date, site from days left join ({sites}) as sites on true),
        asked as (select site, interval_date from {bronze} where {WINDOW} and {IN_INTERVAL})
        select site, interval_date from due anti join asked using (site, interval_date) order by all
    """
    return Check(
        name=f"{stream}_windows_complete",
        table=bronze,
        test=Query(
            sql=sql,
            expected="a window row for each day of the interval and each site that any stream landed in it",
            reads=tuple(name for name in streams if name != bronze),
        ),
        why="A day that nobody asked the site for looks like a day without readings.",
        breaks=(f"delete from {bronze} where interval_date = {{first_day}}",),
    )


def _identity(stream: str, bronze: str, aside: str, rules: tuple[RowRule, ...]) -> Check:
    passes = " and ".join(f"coalesce(({rule.predicate}), false)" for rule in rules) or "true"
    sql = f"""
        with records as (
            select site, interval_date, count(*) as landed, count(*) filter (where {passes}) as passed
            from {bronze} where {RECORDS} and {LANDED} group by all
        ),
        set_aside as (
            select site, interval_date, count(*) as quarantined from {aside} where {LANDED} group by all
        )
        select site, interval_date, coalesce(landed, 0) as landed, coalesce(passed, 0) as passed,
            coalesce(quarantined, 0) as quarantined
        from records full join set_aside using (site, interval_date)
        where coalesce(landed, 0) <> coalesce(passed, 0) + coalesce(quarantined, 0)
    """
    return Check(
        name=f"{stream}_landed_is_passed_plus_set_aside",
        table=bronze,
        test=Query(
            sql=sql,
            expected="landed = passed + quarantined in each window of the days that landed with the interval",
            reads=(aside,),
        ),
        why="A record that is neither passed nor set aside has vanished; one that is both would count twice.",
        breaks=(
            f"insert into {aside} (site, interval_date, record_id, load_seq) "
            f"select site, interval_date, 'extra', load_seq from {bronze} where {WINDOW} and {IN_INTERVAL} limit 1",
        ),
    )


def _share(stream: str, bronze: str, aside: str, max_share: float, spare_rows: int) -> Check:
    sql = f"""
        with broken as (
            select distinct site, interval_date, record_id, load_seq, true as is_broken from {aside} where {LANDED}
        )
        select interval_date, count(*) as landed, count(is_broken) as set_aside,
            round(100.0 * count(is_broken) / count(*), 1)::double as set_aside_pct
        from {bronze} left join broken using (site, interval_date, record_id, load_seq)
        where {RECORDS} and {LANDED} group by interval_date
        having count(is_broken) > greatest({max_share} * count(*), {spare_rows}) order by interval_date
    """
    copies = (
        f"insert into {bronze} select * exclude (n) replace ('copy ' || n as record_id) "
        f"from {bronze}, range(50) as copies (n) where {WINDOW} and {IN_INTERVAL}"
    )
    return Check(
        name=f"{stream}_share_set_aside",
        table=bronze,
        test=Query(
            sql=sql,
            expected=f"at most {max_share:.0%} of a day's records (or {spare_rows} records) set aside",
            reads=(aside,),
        ),
        why="So many broken rows are a broken source or a wrong rule, not a few bad readings to leave out in silence.",
        breaks=(
            copies,
            f"insert into {aside} (site, interval_date, record_id, load_seq) "
            f"select site, interval_date, record_id, load_seq from {bronze} where {RECORDS}",
        ),
    )
