"""The database `demo_app`, made anew or carried on to a later day."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from include.connections import Postgres
from include.errors import SetupError
from include.lake.attach import literal
from include.lake.passfile import use_passwords
from include.local.saas.accounts import DAY, MOST_USERS, Rows, World, add_account
from include.local.saas.catalogue import Catalogue, day_of, rates, seconds
from include.local.saas.tables import TABLES

SCHEMA, NEXT = "app", "app_next"
READER = "saas_reader"
ACCOUNTS, YEARS = 5_800, 3  # 20,000 users at scale 1, at the end of the years
ACCOUNTS_AT_ONCE = 2_000
EVENT_DAYS_AT_ONCE = 20
# An event is uploaded up to 3 days late, taken back 3 days after, erased 6 days after.
EVENT_DAYS_CHANGING = 10
Report = Callable[[str], None]

STATE = """
    create schema if not exists generator;
    create table if not exists generator.state (
        scale double precision not null, seed bigint not null, start_date date not null, through date not null
    )
"""


@dataclass(frozen=True)
class State:
    """What the database holds: all that happened from `start` to before `through` (UTC days), at a scale and seed."""

    scale: float
    seed: int
    start: date
    through: date

    def __post_init__(self) -> None:
        if not 0.001 <= self.scale <= 1000:
            raise SetupError(f"The scale is {self.scale:g}; expected 0.001 to 1000 (1 is 20,000 users).")
        if self.start >= self.through:
            raise SetupError(f"The data starts on {self.start} and ends before {self.through}; the end must be later.")

    @classmethod
    def of(cls, scale: float, seed: int, through: date, start: date | None = None) -> "State":
        """By default the three years before `through`, from the first day of a month."""
        return cls(scale, seed, start or date(through.year - YEARS, through.month, 1), through)


def build(
    owner: Postgres, extensions: Path, state: State, *, keep: bool = False, report: Report = lambda _: None
) -> State:
    """Make the database hold `state`; quick where it does already, and where only days are to be added.

    Args:
        owner: the role that owns the database.
        extensions: folder of DuckDB's extensions.
        keep: take scale, seed and start from what is there, if anything, and only carry it on.

    Returns:
        What the database holds now.
    """
    use_passwords(owner)
    with psycopg.connect(owner.conninfo(), autocommit=True) as connection:
        connection.execute(STATE)
        found = connection.execute("select scale, seed, start_date, through from generator.state").fetchone()
        before = State(*found) if found else None
        if keep and before:
            state = State(before.scale, before.seed, before.start, max(state.through, before.through))
        if before == state:
            ensure_schema(connection)
            return state
        goes_on = before is not None and before == State(state.scale, state.seed, state.start, before.through)
        goes_on = goes_on and before is not None and before.through < state.through
        schema = NEXT if goes_on else SCHEMA
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(NEXT)))
        if not goes_on:
            connection.execute("delete from generator.state")
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(SCHEMA)))
        ensure_schema(connection, schema)
        changing = max(state.start, before.through - timedelta(days=EVENT_DAYS_CHANGING)) if before else state.start
        first_day = changing if goes_on else state.start
        with _writer(owner, extensions) as writer:
            _generate(writer, schema, state, first_day, report)
        if goes_on:
            report("differences")
            _carry_on(connection, first_day)
        else:
            connection.execute("analyze")
        connection.execute("delete from generator.state")
        connection.execute(
            "insert into generator.state values (%s, %s, %s, %s)",
            [state.scale, state.seed, state.start, state.through],
        )
    return state


def ensure_schema(connection: psycopg.Connection, schema: str = SCHEMA) -> None:
    """The tables, and what the pipeline's role may do with them: read."""
    name = sql.Identifier(schema)
    connection.execute(sql.SQL("create schema if not exists {}").format(name))
    for table in TABLES.values():
        for statement in table.create(schema):
            connection.execute(statement)
    if schema == SCHEMA:
        reader = sql.Identifier(READER)
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(name, reader))
        connection.execute(sql.SQL("grant select on all tables in schema {} to {}").format(name, reader))


def _generate(writer: duckdb.DuckDBPyConnection, schema: str, state: State, first_day: date, report: Report) -> None:
    start, through = seconds(state.start), seconds(state.through)
    catalogue = Catalogue(start)
    horizon = seconds(date(state.start.year + YEARS, state.start.month, 1))
    accounts = max(1, round(ACCOUNTS * state.scale))
    world = World(state.seed, start, horizon, through, accounts, catalogue)

    def write(table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            made = TABLES[table].arrow(rows)  # noqa: F841  DuckDB finds it by its name
            writer.execute(f"insert into app.{schema}.{table} select {TABLES[table].select()} from made")

    write("plans", list(catalogue.rows(through)))
    write("exchange_rates", list(rates(state.seed, start, through)))
    writer.execute("create or replace table people (user_id bigint, account_id bigint, first_day int, end_day int)")
    for number, some in enumerate(_batches(world.account_ids()), 1):
        rows = Rows()
        for account_id in some:
            add_account(world, account_id, rows)
        people = rows.people
        for table, made in vars(rows).items():
            if table != "people":
                write(table, made)
        if people:
            import pyarrow as pa

            columns = [pa.array(values, pa.int64()) for values in zip(*people, strict=True)]
            batch = pa.table(columns, names=["user_id", "account_id", "first_day", "end_day"])  # noqa: F841
            writer.execute("insert into people from batch")
        report(f"{number * ACCOUNTS_AT_ONCE:,} accounts")
    first, end = seconds(first_day) // DAY, through // DAY
    for day in range(first, end, EVENT_DAYS_AT_ONCE):
        until = min(day + EVENT_DAYS_AT_ONCE, end)
        writer.execute(
            f"insert into app.{schema}.product_events "
            f"{_events_sql(state.seed, seconds(state.start) // DAY, day, until, through)}"
        )
        report(f"product events to {day_of((until - 1) * DAY)}")


def _events_sql(seed: int, start_day: int, first: int, end: int, through: int) -> str:
    """Events of the days [first, end), numbered from 1970, as they are at `through`; chance is a hash."""
    return f"""
        with days as (
            select user_id, account_id, day, hash({seed}, user_id) as person, hash({seed}, user_id, day) as chance,
                exists_from.day % 7 in (2, 3) as is_weekend
            from people, range({first}, {end}) as exists_from (day)
            where day >= first_day and day < end_day
        ),
        active as (
            from days where chance % 1000 < (20 + person % 180) * if(is_weekend, 0.3, 1)
        ),
        events as (
            select *, hash(chance, number) as draw
            from active, range(3) as several (number)
            where number <= hash(chance, 'how many') % 4
        ),
        timed as (
            select ((day - {start_day}) * {MOST_USERS * 10_000_000} + user_id) * 4 + number as event_id,
                account_id, user_id, draw,
                make_timestamptz(
                    ((day * {DAY} + draw % {DAY}) * 1000000 + hash(draw, 'us') % 1000000)::bigint
                ) as occurred_at,
                hash(draw, 'late') % 10000 as late
            from events
        ),
        uploaded as (
            select *,
                occurred_at + case
                    when late < 2 then to_hours(-120)
                    when late < 200 then to_hours((1 + draw % 71)::integer)
                    else to_seconds((draw % 30)::double)
                end as created_at
            from timed
        ),
        changed as (
            select *, if(late between 9000 and 9004, created_at + interval 3 day, null) as taken_back_at,
                to_timestamp({through}) as through
            from uploaded
        )
        select event_id, account_id, user_id,
            ['login', 'view_report', 'create_item', 'export', 'invite_user', 'api_call'][1 + (draw // 7 % 6)::bigint]
                as event_name,
            occurred_at,
            '{{"platform": "' || ['web', 'ios', 'android', 'api'][1 + (draw // 64 % 4)::bigint] || '", "items": '
                || draw // 512 % 40 || '}}' as properties,
            created_at,
            coalesce(if(taken_back_at < through, taken_back_at, null), created_at) as updated_at,
            if(taken_back_at < through, taken_back_at, null) as deleted_at
        from changed
        where created_at < through and not (late = 9500 and created_at + interval 6 day < through)
    """


def _carry_on(connection: psycopg.Connection, first_event_day: date) -> None:
    """From what was to what is: rows that are gone, new and changed ones."""
    changing = datetime(first_event_day.year, first_event_day.month, first_event_day.day, tzinfo=UTC)
    for table in TABLES.values():
        name, key = sql.Identifier(table.name), sql.Identifier(table.key)
        names = {"old": sql.SQL("app.{}").format(name), "new": sql.SQL("app_next.{}").format(name), "key": key}
        sets = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in table.names if c != table.key]
        only = sql.SQL("true")
        if table.name == "product_events":
            only = sql.SQL("o.occurred_at >= {}").format(sql.Literal(changing))
            connection.execute("delete from app.product_events where user_id not in (select user_id from app.users)")
        with connection.transaction():
            connection.execute(
                sql.SQL(
                    "delete from {old} o where {only} and not exists (select from {new} n where n.{key} = o.{key})"
                ).format(**names, only=only)
            )
            connection.execute(
                sql.SQL(
                    "insert into {old} as o select * from {new} on conflict ({key}) do update set {sets} "
                    "where o.* is distinct from excluded.*"
                ).format(**names, sets=sql.SQL(", ").join(sets))
            )
    connection.execute("drop schema app_next cascade")


def _batches(numbers: Iterator[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for number in numbers:
        batch.append(number)
        if len(batch) == ACCOUNTS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _writer(owner: Postgres, extensions: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    config: dict[str, str | bool | int] = {
        "extension_directory": str(extensions),
        "autoinstall_known_extensions": False,
        "allow_unsigned_extensions": True,
        "memory_limit": "1GB",
    }
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("load postgres_scanner; set TimeZone = 'UTC'; set preserve_insertion_order = false")
        connection.execute(f"attach {literal(owner.conninfo())} as app (type postgres)")
        yield connection
