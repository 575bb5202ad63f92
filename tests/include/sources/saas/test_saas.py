"""The demo's database through the source as a task and as a command runs it."""

import os
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from include import settings as environment
from include.connections import Connection, Postgres
from include.errors import SetupError, SourceError
from include.interval import Interval
from include.lake.attach import Lake
from include.lake.passfile import use_passwords
from include.local import saas
from include.local.postgres import LocalPostgres
from include.local.saas.tables import TABLES
from include.settings import ROOT, Settings
from include.sources.postgres.databases import Database, read_databases
from include.sources.postgres.pipeline import ingest
from include.sources.saas.run import ingest_stream
from include.sources.saas.streams import STREAMS
from tests.conftest import fresh_database

THROUGH = date(2026, 11, 1)
LAST_DAY = Interval.of_days(date(2026, 10, 31), THROUGH)
MONEY = {"list_price", "amount", "unit_amount", "subtotal", "tax", "total"}


@pytest.fixture(scope="module")
def source(server: LocalPostgres, extensions: Path) -> Iterator[Postgres]:
    """The demo's database, small, as the role of its owner."""
    with fresh_database(server, "saas_owner") as owner:
        saas.build(owner, extensions, saas.State.of(0.02, 1, THROUGH, date(2025, 9, 1)))
        superuser = server.as_role("postgres", owner.database)
        with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
            connection.execute(f"grant connect on database {owner.database} to saas_reader")  # type: ignore[arg-type]
        yield owner


@pytest.fixture
def configured(
    lake: Lake, source: Postgres, server: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Connection]:
    """Settings and connections as the stack has them."""
    file = tmp_path / "databases.yaml"
    file.write_text("databases:\n  - database: demo_app\n")
    settings = Settings(home=tmp_path, saas_databases=file)
    reader = server.as_role("saas_reader", source.database)
    use_passwords(reader)
    connection = Connection(
        "saas_demo_app", host=reader.host, login=reader.user, password=reader.password, schema=reader.database
    )
    connections = {"saas_demo_app": connection}
    for module in ("include.settings", "include.sources.saas.run", "include.sources.saas.__main__"):
        monkeypatch.setattr(f"{module}.settings", lambda: settings)
    monkeypatch.setattr(environment, "connection", connections.__getitem__)
    monkeypatch.setattr("include.runtime.lake", lambda: lake)
    return connections


def counts(source: Postgres, table: str) -> int:
    with psycopg.connect(source.conninfo()) as connection:
        row = connection.execute(f"select count(*) from app.{table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def test_every_table_of_the_demo_is_a_stream_and_a_task() -> None:
    assert set(STREAMS) == set(TABLES)
    listed = re.search(r"STREAMS = \((.*?)\)", (ROOT / "dags" / "saas_daily.py").read_text(), re.DOTALL)
    assert listed is not None
    assert re.findall(r'"(\w+)"', listed[1]) == list(STREAMS)
    for name, stream in STREAMS.items():
        assert stream.key == (TABLES[name].key,)
        assert stream.day in TABLES[name].names


def test_all_streams_land_whole_and_exactly(lake: Lake, source: Postgres, configured: dict[str, Connection]) -> None:
    for name in STREAMS:
        result = ingest_stream(lake, name, LAST_DAY, configured.__getitem__)
        assert result.records == counts(source, name), name
    with lake.open(read_only=True) as connection, psycopg.connect(source.conninfo()) as origin:
        for name, table in TABLES.items():
            kinds = dict(row[:2] for row in connection.execute(f"describe bronze.saas_{name}").fetchall())
            assert {kinds[column] for column in MONEY & set(table.names)} <= {"DECIMAL(12,2)"}
            assert kinds["created_at"] == kinds["updated_at"] == "TIMESTAMP WITH TIME ZONE"
            columns = [column for column in table.names if column != "properties"]
            landed = connection.execute(
                f"select {', '.join(columns)} from bronze.saas_{name} where record_id is not null order by {table.key}"
            ).fetchall()
            there = origin.execute(f"select {', '.join(columns)} from app.{name} order by {table.key}").fetchall()  # type: ignore[arg-type]
            assert sorted(landed) == sorted(there) if name == "exchange_rates" else landed == there, name


def test_command_loads_one_stream_and_says_what_it_did(lake: Lake, configured: dict[str, Connection]) -> None:
    from include.sources.saas.__main__ import app

    options = ["--from", "2026-10-31", "--to", "2026-11-01"]
    done = CliRunner().invoke(app, ["load", "plans", *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "demo_app" in done.output
    assert CliRunner().invoke(app, ["load", "plan", *options]).exit_code == 2
    assert CliRunner().invoke(app, ["load", "plans", "--database", "other"]).exit_code == 2


def test_command_checks_what_can_be_read(configured: dict[str, Connection]) -> None:
    from include.sources.saas.__main__ import app

    done = CliRunner().invoke(app, ["check"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "product_events" in done.output
    assert "yes" in done.output
    assert " no " not in done.output
    password = "not-the-password"
    configured["saas_demo_app"] = Connection(
        "saas_demo_app",
        host=configured["saas_demo_app"].host,
        login="saas_reader",
        password=password,
        schema=configured["saas_demo_app"].schema,
    )
    failed = CliRunner().invoke(app, ["check"], env={"COLUMNS": "200"})
    assert failed.exit_code == 1
    assert "password authentication failed" in failed.output
    assert password not in failed.output


def test_unknown_stream_is_a_sentence(lake: Lake, configured: dict[str, Connection]) -> None:
    with pytest.raises(SourceError, match="There is no stream people; expected one of accounts"):
        ingest_stream(lake, "people", LAST_DAY, configured.__getitem__)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "There is no databases file"),
        ("databases: []", "lists no database"),
        ("databases: [{schema: app}]", "lacks database"),
        ("databases: [{database: a, host: b}]", "unknown key host; known are database, connection_id"),
        ("databases: [{database: A b}]", "Database id 'A b' must be text of lower case letters"),
        ("databases: [{database: a, optional: often}]", "expected true or false"),
        ("databases: [{database: a}, {database: a}]", "lists a more than once"),
    ],
)
def test_wrong_databases_file_is_a_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "databases.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SetupError, match=re.escape(said)):
        read_databases(file, "saas")


def test_databases_file_is_read_with_defaults(tmp_path: Path) -> None:
    file = tmp_path / "databases.yaml"
    file.write_text("databases:\n  - database: my-app\n  - {database: b, schema: public, optional: true}\n")
    assert read_databases(file, "saas") == (
        Database("my-app", "saas_my_app"),
        Database("b", "saas_b", schema="public", optional=True),
    )


@pytest.mark.torture
def test_a_business_of_20_000_users_lands_in_a_few_times_what_reading_it_takes(
    lake: Lake, server: LocalPostgres, extensions: Path, tmp_path: Path
) -> None:
    with fresh_database(server, "saas_owner") as owner:
        saas.build(owner, extensions, saas.State.of(1, 1, THROUGH))
        connection = Connection("saas_demo_app", host=owner.host, login=owner.user, schema=owner.database)
        use_passwords(owner)
        started = time.perf_counter()
        with lake.open() as reader:
            reader.execute(f"attach '{owner.conninfo().replace(chr(39), chr(39) * 2)}' as source (type postgres)")
            for name in STREAMS:
                reader.execute(f"create or replace temp table bare as from source.app.{name}")
        bare = time.perf_counter() - started
        started, rows = time.perf_counter(), 0
        for stream in STREAMS.values():
            rows += ingest(
                lake,
                stream,
                LAST_DAY,
                [Database("demo_app", "saas_demo_app")],
                lambda _: connection,
                pipelines_dir=tmp_path / "pipelines",
            ).records
        took = time.perf_counter() - started
    print(f"{rows:,} rows in {took:.1f} s, {rows / took:,.0f} a second; read bare in {bare:.1f} s", os.cpu_count())
    assert rows > 900_000
    # Nine loads cost a second or two each, however few rows they bring.
    assert took < 15 * bare + 9 * 5
