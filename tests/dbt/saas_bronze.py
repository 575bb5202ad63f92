"""Bronze tables of the SaaS domain as ingest lands them, from rows given as dicts: loads replace keys, not days."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from include.lake import schemas
from include.lake.attach import Lake
from include.layers import Layer

SITE = "demo_app"
LINEAGE = {
    "site": "varchar not null",
    "interval_date": "date not null",
    "record_id": "varchar",
    "load_seq": "bigint not null",
    "interval_start": "timestamptz",
    "interval_end": "timestamptz",
    "window_records": "bigint",
    "fetched_at": "timestamptz",
    "_dlt_load_id": "varchar",
}
COMMON = {
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "deleted_at": "timestamptz",
    "source_deleted_at": "timestamptz",
}
MONEY = "decimal(12,2)"
PAYLOAD = {
    "accounts": {
        "account_id": "bigint",
        "name": "varchar",
        "country": "varchar",
        "industry": "varchar",
        "time_zone": "varchar",
    },
    "users": {
        "user_id": "bigint",
        "account_id": "bigint",
        "email": "varchar",
        "full_name": "varchar",
        "role": "varchar",
        "signed_up_at": "timestamptz",
    },
    "plans": {
        "plan_version_id": "bigint",
        "plan_code": "varchar",
        "plan_name": "varchar",
        "tier": "varchar",
        "version": "integer",
        "billing_period": "varchar",
        "currency": "varchar",
        "list_price": MONEY,
        "trial_days": "integer",
        "effective_from": "timestamptz",
    },
    "subscriptions": {
        "subscription_id": "bigint",
        "account_id": "bigint",
        "status": "varchar",
        "currency": "varchar",
        "started_at": "timestamptz",
        "trial_ends_at": "timestamptz",
        "first_paid_at": "timestamptz",
        "canceled_at": "timestamptz",
        "cancel_reason": "varchar",
    },
    "subscription_changes": {
        "change_id": "bigint",
        "subscription_id": "bigint",
        "change_type": "varchar",
        "effective_at": "timestamptz",
        "plan_version_id": "bigint",
        "quantity": "integer",
        "amount": MONEY,
        "billing_period": "varchar",
    },
    "invoices": {
        "invoice_id": "bigint",
        "account_id": "bigint",
        "subscription_id": "bigint",
        "invoice_number": "varchar",
        "status": "varchar",
        "currency": "varchar",
        "issued_at": "timestamptz",
        "due_at": "timestamptz",
        "paid_at": "timestamptz",
        "period_start": "timestamptz",
        "period_end": "timestamptz",
        "subtotal": MONEY,
        "tax": MONEY,
        "total": MONEY,
    },
    "invoice_lines": {
        "invoice_line_id": "bigint",
        "invoice_id": "bigint",
        "line_type": "varchar",
        "description": "varchar",
        "plan_version_id": "bigint",
        "quantity": "integer",
        "unit_amount": MONEY,
        "amount": MONEY,
        "period_start": "timestamptz",
        "period_end": "timestamptz",
    },
    "product_events": {
        "event_id": "bigint",
        "account_id": "bigint",
        "user_id": "bigint",
        "event_name": "varchar",
        "occurred_at": "timestamptz",
        "properties": "varchar",
    },
    "exchange_rates": {
        "rate_id": "varchar",
        "currency": "varchar",
        "rate_date": "date",
        "rate_to_usd": "decimal(18,8)",
    },
}
KEYS = {table: next(iter(payload)) for table, payload in PAYLOAD.items()}
STREAMS = tuple(PAYLOAD)
KINDS = {
    "varchar": pa.string(),
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    MONEY: pa.decimal128(12, 2),
    "decimal(18,8)": pa.decimal128(18, 8),
}

Record = dict[str, Any]


def columns(stream: str) -> dict[str, str]:
    """Every column of a bronze table and its DuckDB type, lineage first."""
    return LINEAGE | PAYLOAD[stream] | COMMON


def create_bronze(lake: Lake, streams: Iterable[str] = STREAMS) -> None:
    """Empty bronze tables; not partitioned, since a file for each day of years makes tests slow. Repeatable."""
    with lake.open() as connection:
        schemas.ensure(connection, Layer)
        for stream in streams:
            spelled = ", ".join(f'"{name}" {kind}' for name, kind in columns(stream).items())
            connection.execute(f"create table if not exists bronze.saas_{stream} ({spelled})")


def load(
    lake: Lake,
    stream: str,
    days: Sequence[date],
    records: Iterable[Record],
    *,
    site: str = SITE,
    gone: Iterable[Any] = (),
    fetched_at: datetime | None = None,
) -> int:
    """One load: replaces the rows of the keys that it brings, and the window rows of `days`, in one transaction.

    Args:
        days: for which the source was asked what had changed.
        records: need their key; `created_at` is by default the event's time or the first of 2020.
        gone: keys that a reconciliation did not find: their rows become tombstones.

    Returns:
        The load's load_seq.
    """
    fetched = fetched_at or datetime(2026, 1, 1, tzinfo=UTC)
    names, table = columns(stream), f"bronze.saas_{stream}"
    rows = [_record(stream, record) | {"site": site} for record in records]
    changed = Counter(row["updated_at"].date() for row in rows)
    windows = [{"site": site, "interval_date": day, "window_records": changed[day]} for day in days]
    with lake.open() as connection:
        connection.execute("begin")
        (load_seq,) = connection.execute(f"select 1 + coalesce(max(load_seq), 0) from {table}").fetchall()[0]
        lineage = {
            "load_seq": load_seq,
            "interval_start": _midnight(min(days)) if days else None,
            "interval_end": _midnight(max(days) + timedelta(days=1)) if days else None,
            "fetched_at": fetched,
            "_dlt_load_id": f"test.{load_seq}",
        }
        landed = _arrow([lineage | row for row in [*rows, *windows]], names)  # noqa: F841 (read by name)
        lost = [str(key) for key in gone]
        connection.execute(
            f"create or replace temp table lost as select * replace ({load_seq} as load_seq, "
            f"?::timestamptz as source_deleted_at) from {table} where site = ? and list_contains(?, record_id)",
            [fetched, site, lost],
        )
        connection.execute(
            f"delete from {table} where site = ? and (record_id in (select record_id from landed) "
            "or record_id in (select record_id from lost) "
            "or record_id is null and interval_date in (select interval_date from landed where record_id is null))",
            [site],
        )
        spelled = ", ".join(f'"{name}"' for name in names)
        connection.execute(f"insert into {table} ({spelled}) select {spelled} from landed")
        connection.execute(f"insert into {table} ({spelled}) select {spelled} from lost")
        connection.execute("commit")
    return load_seq


def set_aside(lake: Lake, stream: str, keys: Iterable[Any], site: str = SITE) -> None:
    """What a gate does: the quarantined rows of the table are exactly these, as they are in bronze now."""
    with lake.open() as connection:
        connection.execute("create schema if not exists quarantine")
        connection.execute(
            f"create table if not exists quarantine.saas_{stream} (site varchar, interval_date date, "
            "record_id varchar, load_seq bigint, rules varchar[], payload json, dag_run_id varchar, "
            "snapshot_id bigint, quarantined_at timestamptz)"
        )
        connection.execute("begin")
        connection.execute(f"delete from quarantine.saas_{stream} where site = ?", [site])
        connection.execute(
            f"insert into quarantine.saas_{stream} select site, interval_date, record_id, load_seq, ['test'], '{{}}', "
            f"'test', 0, now() from bronze.saas_{stream} where site = ? and list_contains(?, record_id)",
            [site, [str(key) for key in keys]],
        )
        connection.execute("commit")


def at(text: str) -> datetime:
    """A UTC instant from `2024-01-31` or `2024-01-31 10:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def change(change_id: int, subscription_id: int, kind: str, when: datetime, amount: Any = 0, **fields: Any) -> Record:
    """A change of a subscription, recorded when it took effect."""
    return {
        "change_id": change_id,
        "subscription_id": subscription_id,
        "change_type": kind,
        "effective_at": when,
        "plan_version_id": 1,
        "quantity": 1,
        "amount": Decimal(str(amount)),
        "billing_period": "month",
        "created_at": when,
    } | fields


def rates(currency: str, quotes: dict[date, Any]) -> list[Record]:
    """Quotes of a currency by day, in dollars."""
    return [
        {
            "rate_id": f"{currency}-{day}",
            "currency": currency,
            "rate_date": day,
            "rate_to_usd": Decimal(str(rate)),
            "created_at": _midnight(day),
        }
        for day, rate in quotes.items()
    ]


def _record(stream: str, record: Record) -> Record:
    created = record.get("created_at") or record.get("occurred_at") or datetime(2020, 1, 1, tzinfo=UTC)
    day = (record["occurred_at"] if stream == "product_events" else created).date()
    return {
        "record_id": str(record[KEYS[stream]]),
        "interval_date": day,
        "created_at": created,
        "updated_at": created,
    } | record


def _arrow(rows: list[Record], names: dict[str, str]) -> pa.Table:
    unknown = {name for row in rows for name in row} - set(names)
    if unknown:
        raise ValueError(f"Bronze has no column {sorted(unknown)}")
    return pa.table(
        {
            name: pa.array([row.get(name) for row in rows], KINDS[kind.removesuffix(" not null")])
            for name, kind in names.items()
        }
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
