"""A source database with one table that everything can happen to, read by a role that may only read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from include.connections import Connection, Postgres
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.sources.postgres.client import Patience
from include.sources.postgres.databases import Database
from include.sources.postgres.pipeline import ingest
from include.sources.postgres.streams import Stream
from include.sources.results import IngestResult
from tests.conftest import fresh_database

QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, statement_timeout=20)
ITEMS = Stream("shop", "items", ("item_id",), page_rows=3)
MAKE = """
    create schema app;
    create table app.items (
        item_id bigint primary key, name text, price numeric(12, 2),
        created_at timestamptz not null, updated_at timestamptz not null, deleted_at timestamptz
    );
    grant usage on schema app to saas_reader;
    alter default privileges in schema app grant select on tables to saas_reader;
    grant select on all tables in schema app to saas_reader
"""


def days(first: int, end: int) -> Interval:
    """Days of November 2026, the end exclusive."""
    return Interval.of_days(date(2026, 11, first), date(2026, 11, end))


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


@dataclass
class World:
    """A source that its owner changes, and a lake that it is loaded into."""

    lake: Lake
    pipelines_dir: Path
    owner: psycopg.Connection
    reader: Postgres
    databases: list[Database] = field(default_factory=lambda: [Database("shop", "shop_db")])
    connections: dict[str, Connection] = field(default_factory=dict)
    watch: duckdb.DuckDBPyConnection | None = None

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self.owner.execute(sql, values or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def put(self, item_id: int, created: datetime, *, updated: datetime | None = None, **values: Any) -> None:
        """Insert a row, or change it."""
        given = {"name": f"item {item_id}", "price": "9.99", "deleted_at": None} | values
        self.execute(
            "insert into app.items (item_id, name, price, created_at, updated_at, deleted_at) "
            "values (%s, %s, %s, %s, %s, %s) on conflict (item_id) do update set name = excluded.name, "
            "price = excluded.price, created_at = excluded.created_at, updated_at = excluded.updated_at, "
            "deleted_at = excluded.deleted_at",
            item_id,
            given["name"],
            given["price"],
            created,
            updated or created,
            given["deleted_at"],
        )

    def ingest(self, interval: Interval, stream: Stream = ITEMS, **options: Any) -> IngestResult:
        options = {"patience": QUICK, "overlap_days": 1, "lake": self.lake} | options
        return ingest(
            options.pop("lake"),
            stream,
            interval,
            options.pop("databases", self.databases),
            self.connections.__getitem__,
            pipelines_dir=self.pipelines_dir,
            **options,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the lake answers now."""
        if self.watch is None:
            self.watch = self.lake.open(read_only=True)
        return self.watch.execute(query).fetchall()

    def live(self) -> dict[str, tuple[Any, ...]]:
        """Records that are not gone at the source."""
        found = self.rows(
            "select record_id, interval_date, name, price, created_at, updated_at, deleted_at from bronze.shop_items "
            "where record_id is not null and source_deleted_at is null"
        )
        assert len({record_id for record_id, *_ in found}) == len(found)
        return {record_id: tuple(values) for record_id, *values in found}

    def source(self, before: datetime) -> dict[str, tuple[Any, ...]]:
        """What the source holds of what was changed before a moment."""
        found = self.execute(
            "select item_id::text, (created_at at time zone 'UTC')::date, name, price, created_at, updated_at, "
            "deleted_at from app.items where updated_at < %s",
            before,
        )
        return {record_id: tuple(values) for record_id, *values in found}

    def windows(self) -> dict[int, int]:
        found = self.rows(
            "select extract(day from interval_date), window_records from bronze.shop_items where record_id is null"
        )
        assert len(dict(found)) == len(found)
        return dict(found)


@pytest.fixture
def world(server: LocalPostgres, lake: Lake, tmp_path: Path) -> Iterator[World]:
    with fresh_database(server, "saas_owner") as database:
        superuser = server.as_role("postgres", database.database)
        with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
            connection.execute(f"grant connect on database {database.database} to saas_reader")  # type: ignore[arg-type]
        reader = server.as_role("saas_reader", database.database)
        use_passwords(reader)
        with psycopg.connect(database.conninfo(), autocommit=True) as owner:
            owner.execute(MAKE)  # type: ignore[arg-type]
            world = World(lake, tmp_path / "pipelines", owner, reader)
            world.connections["shop_db"] = connection_of(reader)
            yield world
            if world.watch is not None:
                world.watch.close()


def connection_of(target: Postgres, **other: Any) -> Connection:
    values = {"login": target.user, "password": target.password, "schema": target.database}
    return Connection("shop_db", host=target.host, port=target.port, **{**values, **other})
