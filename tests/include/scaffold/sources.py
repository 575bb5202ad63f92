"""A real source of each kind, for a domain that is made in front of it: what to say of it, and a row that changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from include.connections import Postgres
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from tests.conftest import fresh_database

SHOP = """
    create schema shop;
    create type shop.state as enum ('new', 'paid', 'gone');
    create table shop.orders (
        order_id bigint primary key, customer_id bigint not null, state shop.state not null, total numeric(12, 2),
        placed_at timestamptz not null, updated_at timestamptz not null, deleted_at timestamptz
    );
    insert into shop.orders
    select n, n % 20, case when n % 3 = 0 then 'paid' else 'new' end::shop.state, n * 1.10,
        timestamptz '2026-03-01' + n * interval '14 minutes', timestamptz '2026-03-01' + n * interval '14 minutes', null
    from generate_series(1, 190) as n;
    create table shop.customers (
        customer_id bigint primary key, email text, full_name text, notes text,
        created_at timestamptz not null, updated_at timestamptz not null
    );
    insert into shop.customers
    select n, 'ada' || n || '@example.org', 'Ada Lovelace ' || n, 'called ada' || n || '@example.org',
        timestamptz '2026-02-01' + n * interval '1 hour', timestamptz '2026-03-01' + n * interval '1 hour'
    from generate_series(0, 19) as n;
    create table shop.refunds (
        refund_id bigint primary key, order_id bigint, amount numeric(12, 2),
        created_at timestamptz, updated_at timestamptz
    );
    insert into shop.refunds
    select n, n, 1.00, timestamptz '2026-03-02' + n * interval '1 hour', timestamptz '2026-03-02 12:00'
    from generate_series(1, 9) as n
"""


@dataclass(frozen=True)
class Source:
    """A source with orders, customers and refunds, 190, 20 and 9 of them.

    Attributes:
        environment: the connection that it is read by.
        flags: what is said of it to `lake new domain`; orders and customers are streams.
        stream: what is said to `lake new stream` of refunds.
        change: order 7 is moved to another total, on the next day.
        secrets: words that name people.
    """

    environment: dict[str, str]
    flags: tuple[str, ...]
    stream: tuple[str, ...]
    change: Callable[[], None]
    secrets: tuple[str, ...] = ("ada7@example.org", "lovelace 7")


@contextmanager
def postgres(server: LocalPostgres) -> Iterator[Source]:
    """A database that a role may read and nothing else."""
    with fresh_database(server, "saas_owner") as database:
        owner = server.as_role("postgres", database.database)
        reader: Postgres = server.as_role("saas_reader", database.database)
        use_passwords(reader)
        with psycopg.connect(owner.conninfo(), password=owner.password, autocommit=True) as connection:
            connection.execute(SHOP)
            connection.execute("grant usage on schema shop to saas_reader")
            connection.execute("grant select on all tables in schema shop to saas_reader")
            connection.execute(f"grant connect on database {database.database} to saas_reader")  # type: ignore[arg-type]

            def change() -> None:
                connection.execute(
                    "update shop.orders set total = 1000, updated_at = timestamptz '2026-03-03 09:00' where "
                    "order_id = 7"
                )

            yield Source(
                {"AIRFLOW_CONN_BILLING_MAIN": reader.uri()},
                ("--schema", "shop", "--stream", "orders:::placed_at", "--fact", "orders", "--subject",
                 "orders=customer_id", "--stream", "customers", "--subject", "customers=customer_id"),
                ("refunds", "--subject", "refunds=nobody: a refund is an order's"),
                change,
            )  # fmt: skip


SOURCES = {"postgres": postgres}
