"""The tables of the schema `app`: their columns, and how rows become Arrow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Of a row that a generator makes: a count of seconds since 1970 in UTC, and an amount in hundredths.
MOMENT, MONEY = "timestamptz", "numeric(12,2)"
ARROW = {
    "bigint": pa.int64(),
    "int": pa.int64(),
    "text": pa.string(),
    "date": pa.date32(),
    "numeric(18,8)": pa.float64(),
    MOMENT: pa.timestamp("s", tz="UTC"),
    MONEY: pa.int64(),
}
TRACKED = {"created_at": f"{MOMENT} not null", "updated_at": f"{MOMENT} not null", "deleted_at": MOMENT}


@dataclass(frozen=True)
class Table:
    """One table of the operational database; its first column is its key.

    Attributes:
        columns: type by name, without those that every table has.
        indexes: columns with an index beside the key and `updated_at`.
    """

    name: str
    columns: dict[str, str]
    indexes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return next(iter(self.columns))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *TRACKED)

    def create(self, schema: str) -> list[str]:
        """Its DDL in PostgreSQL."""
        spelled = [f"{self.key} {self.columns[self.key]} primary key"]
        spelled += [f"{name} {kind}" for name, kind in (self.columns | TRACKED).items() if name != self.key]
        indexed = ("updated_at", *self.indexes)
        return [
            f"create table if not exists {schema}.{self.name} ({', '.join(spelled)})",
            *(f"create index if not exists {self.name}_{name} on {schema}.{self.name} ({name})" for name in indexed),
        ]

    def arrow(self, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
        """Rows in the order of `names`, with moments and amounts as counts."""
        kinds = [ARROW[kind.removesuffix(" not null")] for kind in (self.columns | TRACKED).values()]
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
        return pa.table(arrays, names=list(self.names))

    def select(self) -> str:
        """What turns `arrow` into the table's own types, in DuckDB."""
        exact = {MONEY: '("{0}" * 0.01::decimal(3, 2))::decimal(12, 2)', "numeric(18,8)": '"{0}"::decimal(18, 8)'}
        kinds = self.columns | TRACKED
        return ", ".join(exact.get(kind, '"{0}"').format(name) for name, kind in kinds.items())


TABLES = {
    table.name: table
    for table in (
        Table(
            "accounts",
            {"account_id": "bigint", "name": "text", "country": "text", "industry": "text", "time_zone": "text"},
        ),
        Table(
            "users",
            {
                "user_id": "bigint",
                "account_id": "bigint",
                "email": "text",
                "full_name": "text",
                "role": "text",
                "signed_up_at": MOMENT,
            },
        ),
        Table(
            "plans",
            {
                "plan_version_id": "bigint",
                "plan_code": "text",
                "plan_name": "text",
                "tier": "text",
                "version": "int",
                "billing_period": "text",
                "currency": "text",
                "list_price": MONEY,
                "trial_days": "int",
                "effective_from": MOMENT,
            },
        ),
        Table(
            "subscriptions",
            {
                "subscription_id": "bigint",
                "account_id": "bigint",
                "status": "text",
                "currency": "text",
                "started_at": MOMENT,
                "trial_ends_at": MOMENT,
                "first_paid_at": MOMENT,
                "canceled_at": MOMENT,
                "cancel_reason": "text",
            },
        ),
        Table(
            "subscription_changes",
            {
                "change_id": "bigint",
                "subscription_id": "bigint",
                "change_type": "text",
                "effective_at": MOMENT,
                "plan_version_id": "bigint",
                "quantity": "int",
                "amount": MONEY,
                "billing_period": "text",
            },
        ),
        Table(
            "invoices",
            {
                "invoice_id": "bigint",
                "account_id": "bigint",
                "subscription_id": "bigint",
                "invoice_number": "text",
                "status": "text",
                "currency": "text",
                "issued_at": MOMENT,
                "due_at": MOMENT,
                "paid_at": MOMENT,
                "period_start": MOMENT,
                "period_end": MOMENT,
                "subtotal": MONEY,
                "tax": MONEY,
                "total": MONEY,
            },
        ),
        Table(
            "invoice_lines",
            {
                "invoice_line_id": "bigint",
                "invoice_id": "bigint",
                "line_type": "text",
                "description": "text",
                "plan_version_id": "bigint",
                "quantity": "int",
                "unit_amount": MONEY,
                "amount": MONEY,
                "period_start": MOMENT,
                "period_end": MOMENT,
            },
        ),
        Table(
            "product_events",
            {
                "event_id": "bigint",
                "account_id": "bigint",
                "user_id": "bigint",
                "event_name": "text",
                "occurred_at": MOMENT,
                "properties": "jsonb",
            },
            indexes=("occurred_at",),
        ),
        Table(
            "exchange_rates",
            {"rate_id": "text", "currency": "text", "rate_date": "date", "rate_to_usd": "numeric(18,8)"},
        ),
    )
}
