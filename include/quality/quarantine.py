"""Rows that break a row rule are set aside, with every rule that they broke, in `dl.quarantine.<bronze table>`.

Quarantine is a function of bronze and the rules: whatever the order of loads and gates, and however often they repeat,
it ends with the same rows (but for run, snapshot and time of judgement).

Beside them it keeps what no bronze table can hold: records that state no day. Their `interval_date` is null, and ingest
brings them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import duckdb

from include.errors import GateError, first_line
from include.interval import Interval, ranges
from include.lake.attach import Lake, identifier, literal, one_row, one_transaction, table_exists
from include.layers import META_SCHEMA, QUARANTINE_SCHEMA, Layer
from include.quality.checks import RowRule, Scope, Suite
from include.quality.suites import suite as suite_of

MODEL = "gate_bronze"
STATES_A_DAY = "states_a_day"

_QUARANTINE_COLUMNS = (
    "site varchar, interval_date date, record_id varchar, load_seq bigint, rules varchar[], payload json, "
    "dag_run_id varchar, snapshot_id bigint, quarantined_at timestamp with time zone"
)
_WATERMARK_COLUMNS = (
    "model varchar not null, source_table varchar not null, load_seq bigint not null, "
    "recorded_at timestamp with time zone not null"
)
# What dbt left out of its models; the dbt project creates it with the same columns.
_APPLIED_COLUMNS = (
    "model varchar not null, source_table varchar not null, site varchar not null, interval_date date not null, "
    "fingerprint varchar not null, recorded_at timestamp with time zone not null"
)
# After all that was recorded: the last record counts, and a clock may have been ahead.
_MOMENT = (
    f"greatest(now(), (select coalesce(max(recorded_at) + interval 1 second, now()) from {META_SCHEMA}.watermarks "
    f"where model = '{MODEL}'))"
)


@dataclass(frozen=True)
class SetAside:
    """What judging one bronze table came to.

    Args:
        windows: (site, UTC day) windows judged.
        landed: records in them.
        broken: records set aside.
    """

    windows: int
    landed: int
    broken: int


def ensure_tables(lake: Lake, domain: str) -> None:
    """Create the domain's quarantine tables and the bookkeeping beside them, empty, where they are missing."""
    with lake.open() as connection:
        _ensure_tables(connection, suite_of(domain, Layer.BRONZE))


def ensure_bookkeeping(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables that all domains write to. Set-up does, so that no two first runs create them at once."""
    _ensure(connection, META_SCHEMA, {"watermarks": _WATERMARK_COLUMNS, "quarantine_applied": _APPLIED_COLUMNS})


def set_aside(
    lake: Lake, domain: str, dag_run_id: str, interval: Interval | None = None, suite: Suite | None = None
) -> dict[str, SetAside]:
    """Judge the rows that are due and replace what quarantine holds of their windows, in one lake transaction.

    Due are the windows that were loaded since the last judgement, and all of the days that the loads of `interval`
    landed, so that a gate that runs again after a rule was mended judges again.

    Returns:
        By bronze table, what was judged. A table that is not there is left out; the gate's checks report it.

    Raises:
        GateError: a rule cannot be evaluated, as when a column that it names is missing.
    """
    with lake.open() as connection:
        return judge(connection, suite or suite_of(domain, Layer.BRONZE), dag_run_id, interval)


def judge(
    connection: duckdb.DuckDBPyConnection, suite: Suite, dag_run_id: str, interval: Interval | None = None
) -> dict[str, SetAside]:
    """`set_aside` on a connection whose lake is attached for writing."""
    _ensure_tables(connection, suite)
    with one_transaction(connection):
        again = "false"
        if interval is not None:
            days = landed_days(connection, suite.row_rules, interval)
            again = Scope(interval, "", days).fill("{landed(interval_date)}")
        judged = {
            table: _judge(connection, table, rules, dag_run_id, again)
            for table, rules in suite.row_rules.items()
            if table_exists(connection, Layer.BRONZE, table)
        }
        message = f"rows set aside in {suite.domain} by {dag_run_id}"
        connection.execute("call dl.set_commit_message('gate_bronze', ?)", [message])
    return judged


def keep_undated(
    connection: duckdb.DuckDBPyConnection, table: str, load_seq: int, records: Iterable[tuple[str, str, str]]
) -> None:
    """Keep what a load was answered and bronze cannot hold; forget what it had kept of records that have a day now.

    Run and snapshot are those of the gate that comes next.

    Args:
        records: site, record id and the record as JSON.
    """
    kept, aside = list(records), f"quarantine.{identifier(table)}"
    if not kept and not _keeps_undated(connection, table):
        return
    _ensure(connection, QUARANTINE_SCHEMA, {table: _QUARANTINE_COLUMNS})
    with one_transaction(connection):
        connection.execute(
            f"delete from {aside} where interval_date is null and (site, record_id) in (select (site, record_id) "
            f"from bronze.{identifier(table)} where load_seq = ? and record_id is not null)",
            [load_seq],
        )
        for site, record_id, payload in kept:
            connection.execute(
                f"delete from {aside} where interval_date is null and site = ? and record_id = ?", [site, record_id]
            )
            connection.execute(
                f"insert into {aside} (site, record_id, load_seq, rules, payload, quarantined_at) "
                "values (?, ?, ?, ?, ?, now())",
                [site, record_id, load_seq, [STATES_A_DAY], payload],
            )


def _keeps_undated(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    if not table_exists(connection, QUARANTINE_SCHEMA, table):
        return False
    found = connection.execute(f"select 1 from quarantine.{identifier(table)} where interval_date is null limit 1")
    return found.fetchone() is not None


def broken_rules_sql(rules: tuple[RowRule, ...]) -> str:
    """A list of the names of the rules that a row breaks. Null counts as broken."""
    names = ", ".join(
        f"case when coalesce(({rule.predicate}), false) then null else {literal(rule.name)} end" for rule in rules
    )
    return f"list_filter([{names}], rule -> rule is not null)::varchar[]"


def landed_days(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[str], interval: Interval
) -> tuple[tuple[date, date], ...]:
    """The interval's days and those that its loads landed beside them, as ranges with both ends included."""
    return tuple(ranges(_landed(connection, tables, interval)))


def answered_days(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[str], interval: Interval, released: int | None
) -> tuple[tuple[date, date], ...]:
    """`landed_days` and those that landed since the snapshot `released`; all that ever did, if there is none.

    A run whose gate was red has landed its days all the same. The next run builds and would publish them, so its
    gates answer for them as well.
    """
    days = _landed(connection, tables, interval)
    for table in tables:
        if table_exists(connection, Layer.BRONZE, table):
            days |= _days_of(connection, table, f"load_seq > {_newest_load(connection, table, released)}")
    return tuple(ranges(days))


def _landed(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], interval: Interval) -> set[date]:
    """In steps with literals, by which DuckLake leaves out files; by a join it would read them all."""
    first, end = interval.start.date(), interval.end.date()
    days = set(interval.days())
    for table in tables:
        if table_exists(connection, Layer.BRONZE, table):
            loads = connection.execute(
                f"select distinct load_seq from bronze.{identifier(table)} where record_id is null "
                f"and interval_date >= date '{first}' and interval_date < date '{end}'"
            ).fetchall()
            if loads:
                days |= _days_of(connection, table, f"load_seq in ({', '.join(str(load) for (load,) in loads)})")
    return days


def _newest_load(connection: duckdb.DuckDBPyConnection, table: str, snapshot: int | None) -> int:
    if snapshot is None:
        return 0
    name = f"bronze.{identifier(table)}"
    try:
        query = f"select coalesce(max(load_seq), 0) from {name} at (version => {int(snapshot)})"
        (newest,) = one_row(connection, query)
    except duckdb.CatalogException:  # the table came later
        return 0
    except (duckdb.IOException, duckdb.InvalidInputException):  # its files were lost: answer for all days
        return 0
    return int(newest)


def _days_of(connection: duckdb.DuckDBPyConnection, table: str, loads: str) -> set[date]:
    """Days of all rows of the loads: a load by keys has no window row on the days of the records that it changed."""
    found = connection.execute(
        f"select distinct interval_date from bronze.{identifier(table)} where interval_date is not null and {loads}"
    )
    return {day for (day,) in found.fetchall()}


def _judge(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rules: tuple[RowRule, ...],
    dag_run_id: str,
    again: str,
) -> SetAside:
    name = identifier(table)
    judged = _judged(connection, table)
    if _keeps_undated(connection, table):
        connection.execute(
            f"update quarantine.{name} set dag_run_id = ?, snapshot_id = (select max(snapshot_id) from dl.snapshots()) "
            "where interval_date is null and dag_run_id is null",
            [dag_run_id],
        )
    connection.execute(
        f"create or replace temp table due_windows as "
        f"select distinct site, interval_date from bronze.{name} where load_seq > {judged} "
        f"union select distinct site, interval_date from bronze.{name} where {again}"
    )
    windows, days = one_row(connection, "select count(*), list(distinct interval_date) from due_windows")
    if not windows:
        return SetAside(0, 0, 0)
    literals = ", ".join(f"date '{day}'" for day in days)
    due = (
        f"(from bronze.{name} where interval_date in ({literals}) and record_id is not null) as landed "
        "semi join due_windows using (site, interval_date)"
    )
    try:
        connection.execute(
            f"create or replace temp table broken_rows as select site, interval_date, record_id, load_seq, "
            f"rules, to_json(judged) as payload from (select *, {broken_rules_sql(rules)} as rules "
            f"from {due}) as judged where len(rules) > 0"
        )
    except duckdb.IOException:  # the storage, not the rule
        raise
    except duckdb.Error as error:
        raise GateError(
            f"The row rules of bronze.{table} cannot be evaluated: {first_line(error)}. Mend the rule in the suite, "
            "or the load that left out what it needs; nothing was set aside."
        ) from error
    connection.execute(
        f"delete from quarantine.{name} where (site, interval_date) in (select (site, interval_date) from due_windows)"
    )
    connection.execute(
        f"insert into quarantine.{name} select site, interval_date, record_id, load_seq, rules, payload, ?, "
        "(select max(snapshot_id) from dl.snapshots()), now() from broken_rows",
        [dag_run_id],
    )
    landed, broken = one_row(connection, f"select (select count(*) from {due}), (select count(*) from broken_rows)")
    connection.execute(
        f"insert into {META_SCHEMA}.watermarks (model, source_table, load_seq, recorded_at) "
        f"select '{MODEL}', ?, max(load_seq), {_MOMENT} from bronze.{name} where load_seq >= {judged}",
        [table],
    )
    return SetAside(windows, landed, broken)


def _judged(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """The load up to which the table has been judged; 0 if it counts its loads from a lower number since."""
    (judged,) = one_row(
        connection,
        f"select coalesce(max_by(load_seq, recorded_at), 0) from {META_SCHEMA}.watermarks "
        f"where model = '{MODEL}' and source_table = {literal(table)}",
    )
    found = connection.execute(f"select 1 from bronze.{identifier(table)} where load_seq >= {judged} limit 1")
    return int(judged) if found.fetchone() else 0


def _ensure_tables(connection: duckdb.DuckDBPyConnection, suite: Suite) -> None:
    ensure_bookkeeping(connection)
    _ensure(connection, QUARANTINE_SCHEMA, dict.fromkeys(suite.row_rules, _QUARANTINE_COLUMNS))


def _ensure(connection: duckdb.DuckDBPyConnection, schema: str, tables: Mapping[str, str]) -> None:
    # "if not exists" alone would commit a snapshot that changes nothing.
    for table, columns in tables.items():
        if not table_exists(connection, schema, table):
            connection.execute(f"create schema if not exists {schema}")
            connection.execute(f"create table if not exists {schema}.{identifier(table)} ({columns})")
