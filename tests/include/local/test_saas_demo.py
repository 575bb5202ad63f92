"""The demo's operational database: the same arguments give the same rows, and days may be added."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from include.connections import Postgres
from include.errors import SetupError
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.local.saas import State, build
from include.local.saas.tables import TABLES
from tests.conftest import fresh_database

THROUGH = date(2026, 11, 1)
STATE = State.of(0.05, 7, THROUGH, date(2024, 1, 1))


@pytest.fixture(scope="module")
def owner(server: LocalPostgres) -> Iterator[Postgres]:
    with fresh_database(server, "saas_owner") as database:
        yield database


@pytest.fixture(scope="module")
def made(owner: Postgres, extensions: Path) -> Postgres:
    build(owner, extensions, STATE)
    return owner


def query(database: Postgres, statement: str) -> list[tuple]:
    with psycopg.connect(database.conninfo()) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def content(database: Postgres) -> dict[str, list[tuple]]:
    return {
        name: query(database, f"select t::text from app.{name} t order by {table.key}")
        for name, table in TABLES.items()
    }


def test_the_database_holds_all_that_a_subscription_business_has(made: Postgres) -> None:
    changes = {kind for (kind,) in query(made, "select distinct change_type from app.subscription_changes")}
    assert changes >= {"start_trial", "start", "convert", "upgrade", "downgrade", "change_quantity"}
    assert changes >= {"pause", "resume", "cancel", "reactivate"}
    assert {p for (p,) in query(made, "select distinct billing_period from app.subscription_changes")} == {
        "month",
        "year",
    }
    assert len(query(made, "select distinct currency from app.subscriptions")) == 4
    assert query(made, "select 1 from app.invoice_lines where line_type = 'refund' and amount < 0 limit 1")
    for table in ("accounts", "users", "product_events"):
        assert query(made, f"select 1 from app.{table} where deleted_at is not null limit 1"), table
    for table in TABLES:
        ((rows, before, future),) = query(
            made,
            f"select count(*), count(*) filter (where updated_at < created_at), "
            f"count(*) filter (where updated_at >= '{THROUGH}') from app.{table}",
        )
        assert rows > 0, table
        assert (before, future) == (0, 0), table


def test_what_belongs_together_is_there(made: Postgres) -> None:
    for child, key in (
        ("users", "account_id"),
        ("subscriptions", "account_id"),
        ("product_events", "user_id"),
        ("subscription_changes", "subscription_id"),
        ("invoices", "subscription_id"),
        ("invoice_lines", "invoice_id"),
    ):
        parent = next(table.name for table in TABLES.values() if table.key == key)
        orphans = f"select 1 from app.{child} c where not exists (select from app.{parent} p where p.{key} = c.{key})"
        assert query(made, f"{orphans} limit 1") == [], child


def test_same_arguments_give_the_same_rows_and_another_seed_others(
    made: Postgres, server: LocalPostgres, extensions: Path
) -> None:
    expected = content(made)
    with fresh_database(server, "saas_owner") as other:
        build(other, extensions, STATE)
        assert content(other) == expected
        build(other, extensions, State(STATE.scale, 8, STATE.start, STATE.through))
        assert content(other)["invoices"] != expected["invoices"]


def test_a_database_that_is_carried_on_is_as_one_made_anew(
    made: Postgres, server: LocalPostgres, extensions: Path
) -> None:
    with fresh_database(server, "saas_owner") as other:
        for through in (date(2026, 6, 1), date(2026, 10, 20), THROUGH):
            keep = through != date(2026, 6, 1)
            held = build(other, extensions, State.of(STATE.scale, STATE.seed, through), keep=keep)
        assert held == State(STATE.scale, STATE.seed, date(2023, 6, 1), THROUGH)
        carried = content(other)
        # Made anew: an earlier end cannot be carried on to.
        build(other, extensions, State(STATE.scale, STATE.seed, date(2023, 6, 1), date(2026, 1, 1)))
        assert content(other) != carried
        with psycopg.connect(other.conninfo(), autocommit=True) as connection:
            connection.execute("delete from generator.state")
        build(other, extensions, held)
        assert content(other) == carried


def test_twice_the_scale_is_about_twice_the_users(made: Postgres, server: LocalPostgres, extensions: Path) -> None:
    with fresh_database(server, "saas_owner") as other:
        build(other, extensions, State(STATE.scale * 2, STATE.seed, STATE.start, STATE.through))
        ((few,),) = query(made, "select count(*) from app.users")
        ((many,),) = query(other, "select count(*) from app.users")
    assert 1.5 < many / few < 2.6


def test_the_pipelines_role_may_only_read(made: Postgres, server: LocalPostgres) -> None:
    superuser = server.as_role("postgres", made.database)
    with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
        connection.execute(f"grant connect on database {made.database} to saas_reader")  # type: ignore[arg-type]
    reader = server.as_role("saas_reader", made.database)
    use_passwords(reader)
    assert query(reader, "select count(*) > 0 from app.users") == [(True,)]
    for statement in ("delete from app.users", "create table app.t (i int)", "select * from generator.state"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(reader, statement)


def test_wrong_arguments_are_a_sentence() -> None:
    with pytest.raises(SetupError, match=r"scale is 0; expected 0\.001 to 1000"):
        State.of(0, 1, THROUGH)
    with pytest.raises(SetupError, match="the end must be later"):
        State.of(1, 1, THROUGH, THROUGH)


def test_command_makes_the_database(
    made: Postgres, server: LocalPostgres, extensions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include import settings as environment
    from include.connections import Connection
    from include.local.saas.__main__ import app
    from include.settings import Settings

    monkeypatch.setattr(environment, "load_local_environment", lambda: None)
    monkeypatch.setattr(environment, "settings", lambda: Settings(extension_dir=extensions))
    owner = Connection("saas_demo_owner", login=made.user, password=made.password, schema=made.database, host=made.host)
    monkeypatch.setattr(environment, "connection", {"saas_demo_owner": owner}.__getitem__)
    options = ["--scale", "0.05", "--seed", "7", "--start", "2024-01-01"]
    done = CliRunner().invoke(app, [*options, "--through", "2026-11-01"])
    assert done.exit_code == 0, done.output
    assert f"{made.database} holds 2024-01-01 to 2026-11-01" in done.output
    failed = CliRunner().invoke(app, [*options, "--through", "tomorrow"])
    assert failed.exit_code == 2
    assert "'tomorrow' does not match" in failed.output


def test_stack_makes_the_demo_once_and_lists_it(
    made: Postgres, extensions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include import settings as environment
    from include.connections import Connection
    from include.local import stack
    from include.settings import Settings
    from include.sources.postgres.databases import read_databases

    owner = Connection("saas_demo_owner", login=made.user, schema=made.database, host=made.host)
    monkeypatch.setattr(environment, "connection", {"saas_demo_owner": owner}.__getitem__)
    settings = Settings(home=tmp_path, extension_dir=extensions, saas_demo_scale=1)
    before = query(made, "select * from generator.state")
    stack._make_demo_database(settings)
    ((scale, seed, start, through),) = query(made, "select scale, seed, start_date, through from generator.state")
    # What is there is carried on, at its own scale and from its own start.
    assert [(scale, seed, start)] == [row[:3] for row in before]
    assert through >= before[0][3]
    assert [each.database for each in read_databases(settings.databases_file, "saas")] == [made.database]
