"""What flags say, what the database says, and what nobody said."""

from collections.abc import Iterator

import psycopg
import pytest

from include.connections import Connection, Postgres
from include.errors import SetupError
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.scaffold.flags import Flags, by_stream, connection_of
from include.scaffold.kinds import KINDS
from include.scaffold.names import ScaffoldError
from include.scaffold.source_columns import read_table
from tests.conftest import fresh_database

POSTGRES = KINDS["postgres"]
COLUMNS = {"orders": "order_id:bigint,total:numeric(12,2),created_at:timestamptz,updated_at:timestamptz"}
NOBODY = {"orders": "nobody: an order is a company's"}
TABLES = """
    create schema shop;
    create type shop.state as enum ('new', 'paid');
    create table shop.orders (
        shop_id integer, order_id bigint, customer_id bigint, state shop.state, total numeric(12, 2), tags text[],
        gone text, created_at timestamptz not null, updated_at timestamptz not null, primary key (order_id, shop_id)
    );
    alter table shop.orders drop column gone;
    create table shop.plain (id bigint)
"""


@pytest.fixture
def shop(server: LocalPostgres) -> Iterator[Connection]:
    """A database as a role sees it that may read one of its tables."""
    with fresh_database(server, "saas_owner") as owner:
        superuser = server.as_role("postgres", owner.database)
        with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as connection:
            connection.execute(TABLES)
            connection.execute("grant usage on schema shop to saas_reader; grant select on shop.orders to saas_reader")
            connection.execute(f"grant connect on database {owner.database} to saas_reader")  # type: ignore[arg-type]
        reader = server.as_role("saas_reader", owner.database)
        use_passwords(reader)
        yield Connection(
            "invented_main", host=reader.host, login=reader.user, password=reader.password, schema=reader.database
        )


def test_columns_types_and_key_are_the_databases_own(shop: Connection) -> None:
    table = read_table(shop, "shop", "orders")
    assert table.key == ("order_id", "shop_id")
    assert [(column.name, column.kind, column.data_type) for column in table.columns] == [
        ("shop_id", "integer", "integer"),
        ("order_id", "bigint", "bigint"),
        ("customer_id", "bigint", "bigint"),
        ("state", "shop.state", "varchar"),
        ("total", "numeric(12,2)", "decimal(12,2)"),
        ("tags", "text[]", "varchar"),
        ("created_at", "timestamp with time zone", "timestamp with time zone"),
        ("updated_at", "timestamp with time zone", "timestamp with time zone"),
    ]


def test_a_table_that_is_not_there_and_a_database_that_does_not_answer_are_sentences(shop: Connection) -> None:
    with pytest.raises(ScaffoldError, match=r"has no table shop.refunds, or the role may not see it.*--schema"):
        read_table(shop, "shop", "refunds")
    secret = "wrong-password"
    wrong = Connection("invented_main", host=shop.host, login=shop.login, password=secret, schema=shop.schema)
    with pytest.raises(ScaffoldError, match="connection invented_main could not be read") as caught:
        read_table(wrong, "shop", "orders")
    assert secret not in str(caught.value)


def test_the_session_that_reads_may_not_write(shop: Connection) -> None:
    server = Postgres.of(shop)
    options = "-c default_transaction_read_only=on"
    with (
        psycopg.connect(server.conninfo(), password=server.password, options=options) as session,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        session.execute("create temp sequence s")


def test_what_the_database_says_need_not_be_said(shop: Connection) -> None:
    flags = Flags(
        POSTGRES, subject={"orders": "customer_id"}, connection=lambda: shop, schema="shop", facts=("orders",)
    )
    stream = flags.stream("invented", "orders")
    assert (stream.key, stream.cursor, stream.day) == (("order_id", "shop_id"), "updated_at", "created_at")
    assert flags.stream("invented", "orders:order_id").key == ("order_id",)


@pytest.mark.parametrize(
    ("flags", "spelled", "said"),
    [
        ({}, "orders:order_id:updated_at", "Nobody said which columns orders has. Say --columns"),
        ({"columns": {"orders": "order_id"}}, "orders", "has no type; expected NAME:TYPE"),
        ({"columns": COLUMNS}, "orders", "Nobody said what the key of orders is"),
        ({"columns": {"orders": "id:bigint"}}, "orders:id", "Nobody said what the cursor of orders is"),
        ({"columns": {"orders": "id:bigint,at:timestamptz"}}, "orders:id:at", "Nobody said what the day of orders is"),
        ({"columns": COLUMNS}, "orders:order_id:updated_at", "Nobody said whose the rows of orders are"),
        (
            {"columns": COLUMNS, "subject": {"orders": "nobody"}},
            "orders:order_id",
            "Say why the rows of orders are nobody",
        ),
        ({"columns": COLUMNS}, "orders:a:b:c:d", "has more than four parts"),
    ],
)
def test_what_nobody_said_is_an_error_that_says_what_to_say(flags: dict, spelled: str, said: str) -> None:
    with pytest.raises(ScaffoldError, match=said):
        Flags(POSTGRES, **flags).stream("invented", spelled)


def test_what_is_not_said_is_asked_where_somebody_is_there() -> None:
    asked = {}

    def ask(question: str, likely: str) -> str:
        asked[question] = likely
        for word, answer in (
            ("Columns", f"{COLUMNS['orders']},shop_name:text"),
            ("Key", "order_id"),
            ("Whose", "nobody: an order is a company's"),
            ("looks as if", "no"),
        ):
            if word in question:
                return answer
        return likely

    stream = Flags(POSTGRES).stream("invented", "orders", ask)
    assert (stream.key, stream.cursor, stream.day) == (("order_id",), "updated_at", "created_at")
    assert (stream.whose.why, stream.whose.clear) == ("an order is a company's", ("shop_name",))
    assert len(asked) == 7


def test_an_append_only_table_is_of_events() -> None:
    columns = {"clicks": "click_id:bigint,at:timestamptz"}
    stream = Flags(POSTGRES, columns, {"clicks": "nobody: bots"}).stream("web", "clicks:click_id:at:at")
    assert stream.model == "fct_web_clicks"


def test_flags_of_a_stream_that_is_not_written_are_refused() -> None:
    flags = Flags(POSTGRES, columns=COLUMNS, subject=NOBODY, facts=("invoices",))
    with pytest.raises(ScaffoldError, match="--columns names orders, but the streams are customers"):
        flags.require_known(["customers"])
    with pytest.raises(ScaffoldError, match="--fact names invoices, but the streams are orders"):
        flags.require_known(["orders"])
    assert by_stream("clear", ["a = x,y", "b=z"]) == {"a": "x,y", "b": "z"}
    with pytest.raises(ScaffoldError, match="--clear 'orders' is not STREAM=VALUE"):
        by_stream("clear", ["orders"])
    with pytest.raises(ScaffoldError, match="--clear names a twice"):
        by_stream("clear", ["a=x", "a=y"])


def test_a_connection_that_is_not_set_is_none() -> None:
    def missing(conn_id: str) -> Connection:
        raise SetupError("missing")

    assert connection_of("invented_main", missing) is None
    known = connection_of("invented_main", Connection)
    assert known is not None and known().conn_id == "invented_main"
