"""What is in quarantine, and what judging it again would change. Nothing here writes: the bronze gate judges."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import duckdb

from include.errors import GateError, LakehouseError, first_line
from include.interval import ONE_DAY, Interval
from include.lake.attach import Lake, identifier, literal, one_row, table_exists
from include.layers import META_SCHEMA, QUARANTINE_SCHEMA, Layer
from include.quality.checks import RowRule, Suite
from include.quality.quarantine import broken_rules_sql
from include.quality.suites import suite as suite_of


@dataclass(frozen=True)
class Group:
    """Rows of one table and day (null: of none) that broke one rule.

    Args:
        rows: a row that broke several rules counts in each.
        example: the record id and the payload (JSON) of one of them.
    """

    table: str
    rule: str
    day: date | None
    rows: int
    sites: tuple[str, ...]
    dag_run_id: str | None
    snapshot_id: int | None
    example: tuple[str | None, str]


@dataclass(frozen=True)
class Judgement:
    """What today's rules say of one bronze table in the days of a replay, against what quarantine holds.

    Args:
        records: records judged.
        set_aside: rows in quarantine now.
        freed: those of them that break no rule any more, or are no longer in bronze.
        newly: records that pass now and would be set aside.
        days: those on which either happens, ISO.
    """

    table: str
    records: int
    set_aside: int
    freed: int
    newly: int
    days: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A replay: the days that are judged again and rebuilt. `interval_start` is None if nothing is or was set aside.

    Args:
        undated: rows in quarantine that have no day; only another answer of their source can bring them back.
    """

    domain: str
    interval_start: str | None
    interval_end: str | None
    tables: tuple[Judgement, ...]
    undated: int

    @property
    def interval(self) -> Interval:
        return interval_of(asdict(self))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def interval_of(plan: dict[str, Any]) -> Interval:
    """The interval of a plan that was JSON meanwhile."""
    first, end = plan["interval_start"], plan["interval_end"]
    if not first or not end:
        raise LakehouseError(f"The replay of {plan['domain']} has no days: nothing is or was set aside.")
    return Interval.of_days(date.fromisoformat(first), date.fromisoformat(end))


def listing(
    lake: Lake,
    domain: str,
    *,
    tables: Collection[str] = (),
    rule: str = "",
    first: date | None = None,
    end: date | None = None,
) -> list[Group]:
    """What is in quarantine, by table, rule and day.

    Args:
        tables: bronze tables (without schema); by default all of the domain.
        first: from this UTC day; rows without a day are left out then.
        end: up to but not including this day.

    Raises:
        LakehouseError: the domain has no such table.
    """
    groups = []
    with lake.open(read_only=True) as connection:
        for table in _chosen(suite_of(domain, Layer.BRONZE), tables):
            if table_exists(connection, QUARANTINE_SCHEMA, table):
                groups += _groups(connection, table, rule, first, end)
    return groups


def _groups(
    connection: duckdb.DuckDBPyConnection, table: str, rule: str, first: date | None, end: date | None
) -> list[Group]:
    found = connection.execute(
        f"""
        select rule, interval_date, count(*), list(distinct site order by site), max(dag_run_id), max(snapshot_id),
            min((record_id, payload::varchar))
        from (select * exclude (rules), unnest(rules) as rule from quarantine.{identifier(table)})
        where ($rule = '' or rule = $rule)
            and ($first is null or interval_date >= $first) and ($end is null or interval_date < $end)
        group by rule, interval_date order by rule, interval_date nulls first
        """,
        {"rule": rule, "first": first, "end": end},
    )
    return [Group(table, name, day, rows, tuple(sites), *rest) for name, day, rows, sites, *rest in found.fetchall()]


def plan(
    lake: Lake,
    domain: str,
    *,
    first: date | None = None,
    end: date | None = None,
    tables: Collection[str] = (),
    suite: Suite | None = None,
) -> Plan:
    """What a replay would do.

    Args:
        first: first UTC day and, as `end`, the day after the last; without them from the first to the last day on
            which rows are set aside, or were when silver was built last.
        tables: bronze tables (without schema) whose quarantined rows choose these days; by default all.
        suite: instead of the domain's own.

    Raises:
        LakehouseError: only one of the two days is given, there is no such table, or the days hold no record.
        GateError: a rule cannot be evaluated.
    """
    suite = suite or suite_of(domain, Layer.BRONZE)
    chosen = _chosen(suite, tables)
    if (first is None) != (end is None):
        raise LakehouseError(f"A replay needs both days or neither, and was given {first} to {end}.")
    with lake.open(read_only=True) as connection:
        there = {
            table: rules for table, rules in suite.row_rules.items() if table_exists(connection, Layer.BRONZE, table)
        }
        undated = sum(_undated(connection, table) for table in there)
        if first is None or end is None:
            days = [day for table in chosen if table in there for day in _days_set_aside(connection, table)]
            if not days:
                return Plan(domain, None, None, (), undated)
            first, end = min(days), max(days) + ONE_DAY
        interval = Interval.of_days(first, end)
        judged = tuple(_judgement(connection, table, rules, interval) for table, rules in there.items())
    if not any(table.records for table in judged):
        raise LakehouseError(f"Bronze holds no record of {domain} from {first} to {end}; there is nothing to replay.")
    return Plan(domain, str(first), str(end), judged, undated)


def _chosen(suite: Suite, tables: Collection[str]) -> list[str]:
    unknown = sorted(set(tables) - set(suite.row_rules))
    if unknown:
        known = ", ".join(suite.row_rules)
        raise LakehouseError(f"{suite.domain} has no row rules for {', '.join(unknown)}; expected some of {known}.")
    return [table for table in suite.row_rules if not tables or table in tables]


def _judgement(
    connection: duckdb.DuckDBPyConnection, table: str, rules: tuple[RowRule, ...], interval: Interval
) -> Judgement:
    within = f"interval_date >= date '{interval.start.date()}' and interval_date < date '{interval.end.date()}'"
    key = "site, interval_date, record_id, load_seq"
    aside = f"(select {key}, true as is_aside from quarantine.{identifier(table)} where {within})"
    if not table_exists(connection, QUARANTINE_SCHEMA, table):
        aside = "(select null::varchar as site, null::date as interval_date, null::varchar as record_id, "
        aside += "null::bigint as load_seq, true as is_aside where false)"
    try:
        found = connection.execute(
            f"""
            with judged as (
                select {key}, len({broken_rules_sql(rules)}) > 0 as is_broken, true as is_landed
                from bronze.{identifier(table)} where record_id is not null and {within}
            ),
            compared as (
                select *, coalesce(is_broken, false) as breaks, coalesce(is_aside, false) as aside
                from judged full join {aside} as held using ({key})
            )
            select count(is_landed), count(*) filter (aside), count(*) filter (aside and not breaks),
                count(*) filter (breaks and not aside),
                coalesce(list(distinct interval_date::varchar order by interval_date::varchar)
                    filter (aside <> breaks), [])
            from compared
            """
        ).fetchone()
    except duckdb.Error as error:
        raise GateError(
            f"The row rules of bronze.{table} cannot be evaluated: {first_line(error)} Mend the rule."
        ) from error
    assert found is not None
    *counts, days = found
    return Judgement(table, *counts, days=tuple(days))


def _days_set_aside(connection: duckdb.DuckDBPyConnection, table: str) -> list[date]:
    """Days on which rows are in quarantine, or were when a model was built last: that build is still to be mended."""
    held = []
    if table_exists(connection, QUARANTINE_SCHEMA, table):
        held.append(f"select interval_date from quarantine.{identifier(table)} where interval_date is not null")
    if table_exists(connection, META_SCHEMA, "quarantine_applied"):
        held.append(
            f"select interval_date from {META_SCHEMA}.quarantine_applied where source_table = {literal(table)} "
            "group by model, site, interval_date having max_by(fingerprint, recorded_at) <> ''"
        )
    return [day for (day,) in connection.execute(" union ".join(held)).fetchall()] if held else []


def _undated(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    if not table_exists(connection, QUARANTINE_SCHEMA, table):
        return 0
    query = f"select count(*) from quarantine.{identifier(table)} where interval_date is null"
    return int(one_row(connection, query)[0])
