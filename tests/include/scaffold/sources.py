"""A real source of each kind, for a domain that is made in front of it: what to say of it, and a row that changes."""

import csv
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from include.connections import Postgres
from include.lake.passfile import use_passwords
from include.local.postgres import LocalPostgres
from include.local.sample_api import serve
from include.sources.rest.streams import Stream as Rest
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


COLUMNS = {
    "orders": "order_id:bigint,customer_id:bigint,state:text,total:decimal(12,2),placed_at:timestamptz,"
    "updated_at:timestamptz,deleted_at:timestamptz",
    "customers": "customer_id:bigint,email:text,full_name:text,notes:text,created_at:timestamptz,"
    "updated_at:timestamptz",
    "refunds": "refund_id:bigint,order_id:bigint,amount:decimal(12,2),created_at:timestamptz,updated_at:timestamptz",
}
FLAGS = (
    "--stream", "orders:order_id:updated_at:placed_at", "--fact", "orders", "--columns", f"orders={COLUMNS['orders']}",
    "--subject", "orders=customer_id",
    "--stream", "customers:customer_id:updated_at", "--columns", f"customers={COLUMNS['customers']}",
    "--subject", "customers=customer_id",
)  # fmt: skip
REFUNDS = (
    "refunds:refund_id:updated_at", "--columns", f"refunds={COLUMNS['refunds']}",
    "--subject", "refunds=nobody: a refund is an order's",
)  # fmt: skip
CHANGED = datetime(2026, 3, 3, 9, tzinfo=UTC)


def shop() -> dict[str, list[dict[str, Any]]]:
    """What the database of `postgres` holds, as records."""
    first, month = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    orders = [
        {"order_id": n, "customer_id": n % 20, "state": "new" if n % 3 else "paid", "total": Decimal(f"{n * 1.1:.2f}")}
        | dict.fromkeys(("placed_at", "updated_at"), first + n * timedelta(minutes=14))
        | {"deleted_at": None}
        for n in range(1, 191)
    ]
    customers = [
        {"customer_id": n, "email": f"ada{n}@example.org", "full_name": f"Ada Lovelace {n}"}
        | {"notes": f"called ada{n}@example.org", "created_at": month + n * timedelta(hours=1)}
        | {"updated_at": first + n * timedelta(hours=1)}
        for n in range(20)
    ]
    refunds = [
        {"refund_id": n, "order_id": n, "amount": Decimal("1.00")}
        | {"created_at": first + timedelta(days=1, hours=n), "updated_at": first + timedelta(days=1, hours=12)}
        for n in range(1, 10)
    ]
    return {"orders": orders, "customers": customers, "refunds": refunds}


@contextmanager
def rest(server: LocalPostgres) -> Iterator[Source]:
    """An API that gives pages of 50 records to whoever has its token."""
    asked = Rest(
        "billing", "x", "x", ("id",), "updated_at", since_param="changed_since", until_param="changed_before",
        data="items", paginator="offset", page_size=50,
    )  # fmt: skip
    lists = shop()
    records = {f"v1/{name}": (dataclasses.replace(asked, name=name), rows) for name, rows in lists.items()}
    read = "data=items,paginator=offset,size=50,since=changed_since,until=changed_before"
    with serve(records) as (url, secret):
        yield Source(
            {"AIRFLOW_CONN_BILLING_MAIN": json.dumps({"conn_type": "http", "host": url, "password": secret})},
            (*FLAGS, "--read", f"orders=path=v1/orders,{read}", "--read", f"customers=path=v1/customers,{read}"),
            (*REFUNDS, "--read", f"refunds=path=v1/refunds,{read}"),
            lambda: lists["orders"][6].update(total=Decimal(1000), updated_at=CHANGED),
        )


@contextmanager
def files(server: LocalPostgres) -> Iterator[Source]:
    """A folder that files are dropped into, a day's orders each."""
    with tempfile.TemporaryDirectory() as folder:

        def drop(name: str, rows: list[dict[str, Any]]) -> None:
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            os.utime(path, (1_600_000_000, 1_600_000_000))

        lists = shop()
        for day in (1, 2):
            drop(f"orders/2026-03-0{day}.csv", [each for each in lists["orders"] if each["placed_at"].day == day])
        for day in (1, 3):
            drop(f"customers/2026-03-0{day}.csv", lists["customers"])
        drop("refunds/2026-03-03.csv", lists["refunds"])
        yield Source(
            {"AIRFLOW_CONN_BILLING_MAIN": json.dumps({"conn_type": "file", "extra": {"path": folder}})},
            FLAGS,
            REFUNDS,
            lambda: drop("orders/2026-03-03.csv", [{**lists["orders"][6], "total": 1000, "updated_at": CHANGED}]),
        )


SOURCES = {"postgres": postgres, "rest": rest, "files": files}
