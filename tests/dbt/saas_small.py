"""A small sound SaaS business: every movement once, and something on the last day of each table."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from include.interval import Interval
from include.lake.attach import Lake
from tests.dbt.saas_bronze import STREAMS, Record, at, change, create_bronze, load, rates

FIRST, LAST = date(2025, 11, 1), date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
INTERVAL = Interval.of_days(LAST, LAST + timedelta(days=1))
FETCHED = at("2026-03-02 01:00")
NEW_PRICE = 2

# By subscription, which is also its account: currency, status, and its changes as (kind, when, amount).
STORIES: dict[int, tuple[str, str, list[tuple[str, str, str]]]] = {
    1: ("USD", "active", [("start", "2025-11-05", "10"), ("upgrade", "2026-01-10", "20")]),
    2: (
        "USD",
        "canceled",
        [("start", "2025-11-10", "30"), ("downgrade", "2026-01-15", "25"), ("cancel", "2026-02-10", "0")],
    ),
    3: ("EUR", "active", [("start_trial", "2025-11-20", "0"), ("convert", "2025-12-04", "15")]),
    4: (
        "USD",
        "active",
        [("start", "2025-11-15", "12"), ("cancel", "2025-12-20", "0"), ("reactivate", "2026-02-05", "12")],
    ),
    5: ("USD", "paused", [("start", "2025-12-01", "120"), ("pause", "2026-01-20", "0")]),
    6: ("USD", "trialing", [("start_trial", "2026-03-01", "0")]),
    7: ("USD", "canceled", [("start_trial", "2025-12-01", "0"), ("cancel", "2025-12-15", "0")]),
    8: ("USD", "active", [("start", "2026-03-01 08:00", "18")]),
}


def land(lake: Lake) -> None:
    """All of it in bronze, one load a stream."""
    create_bronze(lake)
    for stream, records in business().items():
        load(lake, stream, DAYS, records, fetched_at=FETCHED)


def business() -> dict[str, list[Record]]:
    """The rows of every table of the source."""
    found: dict[str, list[Record]] = {stream: [] for stream in STREAMS}
    found["plans"] = [
        _plan(1, "basic", "month", "USD", 1, "10.00", "2025-01-01"),
        _plan(NEW_PRICE, "basic", "month", "USD", 2, "12.00", "2026-03-01"),
        _plan(3, "pro", "month", "EUR", 1, "15.00", "2025-01-01"),
        _plan(4, "basic", "year", "USD", 1, "120.00", "2025-01-01"),
    ]
    found["exchange_rates"] = rates("EUR", {day: Decimal("1.1") + day.day % 3 / Decimal(100) for day in DAYS})
    for number, (currency, status, changes) in STORIES.items():
        begun = at(changes[0][1])
        found["accounts"].append(
            {
                "account_id": number,
                "name": f"Org {number}",
                "country": "DE",
                "industry": "retail",
                "time_zone": "Europe/Berlin",
                "created_at": begun,
            }
        )
        found["users"].append(
            {
                "user_id": number,
                "account_id": number,
                "email": f"person{number}@example.org",
                "full_name": f"Person {number}",
                "role": "owner",
                "signed_up_at": begun,
                "created_at": begun,
            }
        )
        found["subscriptions"].append(_subscription(number, currency, status, changes))
        version = 4 if number == 5 else 3 if currency == "EUR" else 1
        for kind, when, amount in changes:
            found["subscription_changes"].append(
                change(
                    len(found["subscription_changes"]) + 1,
                    number,
                    kind,
                    at(when),
                    amount,
                    plan_version_id=version,
                    billing_period="year" if number == 5 else "month",
                )
            )
            if Decimal(amount) > 0:
                _invoice(found, number, currency, at(when), Decimal(amount), 365 if number == 5 else 30)
        for days_before in range(0, 40, number):
            _event(found, number, at(str(LAST)) - timedelta(days=days_before) + timedelta(hours=9 + number))
    _refund(found, 2, at("2026-02-12"))
    return found


def _plan(version: int, code: str, period: str, currency: str, number: int, price: str, since: str) -> Record:
    return {
        "plan_version_id": version,
        "plan_code": code,
        "plan_name": code.title(),
        "tier": code,
        "version": number,
        "billing_period": period,
        "currency": currency,
        "list_price": Decimal(price),
        "trial_days": 14,
        "effective_from": at(since),
        "created_at": at(since),
    }


def _subscription(number: int, currency: str, status: str, changes: list[tuple[str, str, str]]) -> Record:
    begun = at(changes[0][1])
    ends = [at(when) for kind, when, _ in changes if kind == "cancel"]
    return {
        "subscription_id": number,
        "account_id": number,
        "status": status,
        "currency": currency,
        "started_at": begun,
        "trial_ends_at": begun + timedelta(days=14) if changes[0][0] == "start_trial" else None,
        "first_paid_at": next((at(when) for _, when, amount in changes if Decimal(amount) > 0), None),
        "canceled_at": ends[-1] if status == "canceled" else None,
        "cancel_reason": "too expensive" if status == "canceled" else None,
        "created_at": begun,
    }


def _invoice(
    found: dict[str, list[Record]], number: int, currency: str, issued: datetime, amount: Decimal, days: int
) -> None:
    tax = (amount / 5).quantize(Decimal("0.01"))
    lines = [("subscription", amount), ("tax", tax)]
    _document(found, number, currency, issued, "paid", lines, issued + timedelta(days=days))


def _refund(found: dict[str, list[Record]], number: int, issued: datetime) -> None:
    _document(found, number, "USD", issued, "refunded", [("refund", Decimal("-5.00"))], issued + timedelta(days=30))


def _document(
    found: dict[str, list[Record]],
    number: int,
    currency: str,
    issued: datetime,
    status: str,
    lines: list[tuple[str, Decimal]],
    until: datetime,
) -> None:
    invoice_id = len(found["invoices"]) + 1
    tax = sum((amount for kind, amount in lines if kind == "tax"), Decimal(0))
    total = sum((amount for _, amount in lines), Decimal(0))
    found["invoices"].append(
        {
            "invoice_id": invoice_id,
            "account_id": number,
            "subscription_id": number,
            "invoice_number": f"I-{invoice_id}",
            "status": status,
            "currency": currency,
            "issued_at": issued,
            "due_at": issued + timedelta(days=14),
            "paid_at": issued,
            "period_start": issued,
            "period_end": until,
            "subtotal": total - tax,
            "tax": tax,
            "total": total,
            "created_at": issued,
        }
    )
    for kind, amount in lines:
        found["invoice_lines"].append(
            {
                "invoice_line_id": len(found["invoice_lines"]) + 1,
                "invoice_id": invoice_id,
                "line_type": kind,
                "description": f"{kind} of {number}",
                "plan_version_id": 1,
                "quantity": 1,
                "unit_amount": amount,
                "amount": amount,
                "period_start": issued,
                "period_end": until,
                "created_at": issued,
            }
        )


def _event(found: dict[str, list[Record]], number: int, occurred: datetime, **fields: Any) -> None:
    found["product_events"].append(
        {
            "event_id": len(found["product_events"]) + 1,
            "account_id": number,
            "user_id": number,
            "event_name": "report_opened",
            "occurred_at": occurred,
            "properties": '{"pages": 3}',
        }
        | fields
    )
