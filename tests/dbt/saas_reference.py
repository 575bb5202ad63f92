"""MRR and its movements computed anew, in plain Python with decimal: what the marts are compared with, row by row.

Written from the descriptions of the models and not from their SQL: it walks through months account by account.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from tests.dbt.saas_bronze import Record

CENT = Decimal("0.01")
ZERO = Decimal("0.00")
STARTS = {"start": "active", "convert": "active", "resume": "active", "reactivate": "active"}
STATES = {"start_trial": "trialing", "pause": "paused", "cancel": "canceled"} | STARTS
BRIDGE = ("new", "reactivation", "expansion", "contraction", "churn")

Row = dict[str, object]


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def months_of(changes: Iterable[Record], last_day: date) -> list[tuple[date, datetime, date]]:
    """Months as (first day, instant that is looked at, last day that counts), from the first change on."""
    first = min(change["effective_at"] for change in changes).date().replace(day=1)
    end_of_data = _midnight(last_day + timedelta(days=1))
    months = []
    while first <= last_day:
        following = (first + timedelta(days=32)).replace(day=1)
        looked_at = min(_midnight(following), end_of_data)
        months.append((first, looked_at, (looked_at - timedelta(days=1)).date()))
        first = following
    return months


def state_before(history: list[Record], moment: datetime, deleted_at: datetime | None) -> tuple[str, Decimal]:
    """A subscription's state and monthly amount in the instant before `moment`."""
    if deleted_at is not None and deleted_at < moment:
        return "deleted", ZERO
    state, amount = "", ZERO
    for change in history:
        if change["effective_at"] >= moment:
            break
        state = STATES.get(change["change_type"], state or "active")
        amount = cents(change["amount"] / (12 if change["billing_period"] == "year" else 1))
    return state, amount if state == "active" else ZERO


def mrr_monthly(
    subscriptions: Iterable[Record],
    changes: Iterable[Record],
    accounts: Iterable[Record],
    rate_on: Mapping[str, Mapping[date, Decimal]],
    last_day: date,
) -> list[Row]:
    """The rows of mrt_mrr_monthly, by account and month."""
    changes = sorted(changes, key=lambda change: (change["effective_at"], change["change_id"]))
    histories: dict[int, list[Record]] = defaultdict(list)
    for change in changes:
        histories[change["subscription_id"]].append(change)
    deleted = {account["account_id"]: account.get("deleted_at") for account in accounts}
    of_account: dict[int, list[Record]] = defaultdict(list)
    for subscription in subscriptions:
        of_account[subscription["account_id"]].append(subscription)

    rows: list[Row] = []
    months = months_of(changes, last_day)
    for account_id, owned in of_account.items():
        before: list[tuple[str, Decimal]] = []
        previous, first = ZERO, None
        for month, looked_at, day in months:
            now, paused = [], False
            for subscription in owned:
                ends = [end for end in (subscription.get("deleted_at"), deleted.get(account_id)) if end is not None]
                state, amount = state_before(
                    histories[subscription["subscription_id"]], looked_at, min(ends, default=None)
                )
                paused = paused or state == "paused"
                if amount > 0:
                    now.append((subscription["currency"], amount))
            if now or before:
                first = first or month
                opening = sum((cents(amount * rate_on[currency][day]) for currency, amount in before), ZERO)
                closing = sum((cents(amount * rate_on[currency][day]) for currency, amount in now), ZERO)
                rows.append(
                    {
                        "account_id": account_id,
                        "month_start_date": month,
                        "movement": _movement(bool(before), bool(now), month == first, opening, closing),
                        "is_paused": paused and not now,
                        "subscriptions": len(now),
                        "previous_mrr": previous,
                        "fx_revaluation": opening - previous,
                        "opening_mrr": opening,
                        "mrr": closing,
                    }
                )
                previous = closing
            before = now
    return sorted(rows, key=lambda row: (row["account_id"], row["month_start_date"]))


def mrr_movements(rows: Iterable[Row], months: Iterable[date]) -> list[Row]:
    """The rows of mrt_mrr_movements: money and accounts by movement."""
    rows = list(rows)
    bridge = []
    for month in months:
        mine = [row for row in rows if row["month_start_date"] == month]
        by = {kind: [row for row in mine if row["movement"] == kind] for kind in (*BRIDGE, "renewal")}
        bridge.append(
            {"month_start_date": month, "opening_mrr": sum((row["opening_mrr"] for row in mine), ZERO)}
            | {f"{kind}_mrr": sum((abs(row["mrr"] - row["opening_mrr"]) for row in by[kind]), ZERO) for kind in BRIDGE}
            | {f"{kind}_accounts": len(found) for kind, found in by.items()}
            | {"closing_mrr": sum((row["mrr"] for row in mine), ZERO)}
        )
    return bridge


def retention_over_a_year(rows: Iterable[Row], then_at_rates_of: Mapping[tuple[int, date], Decimal]) -> dict[date, Row]:
    """Gross and net retention by month, in percent.

    Args:
        then_at_rates_of: by account and month, what it paid twelve months before at the rates of the month.
    """
    now = {(row["account_id"], row["month_start_date"]): row["mrr"] for row in rows}
    found = {}
    for month in sorted({month for _, month in then_at_rates_of}):
        of_month = {key: then for key, then in then_at_rates_of.items() if key[1] == month}
        opening = sum(of_month.values(), ZERO)
        kept = sum((min(then, now.get(key, ZERO)) for key, then in of_month.items()), ZERO)
        retained = sum((now.get(key, ZERO) for key in of_month), ZERO)
        found[month] = {
            "gross_revenue_retention_12m_pct": _pct(kept, opening),
            "net_revenue_retention_12m_pct": _pct(retained, opening),
        }
    return found


def paid_a_year_before(
    subscriptions: Iterable[Record],
    changes: Iterable[Record],
    accounts: Iterable[Record],
    rate_on: Mapping[str, Mapping[date, Decimal]],
    last_day: date,
) -> dict[tuple[int, date], Decimal]:
    """By account and month, what it paid twelve months before at the rates of the month's last day."""
    changes = sorted(changes, key=lambda change: (change["effective_at"], change["change_id"]))
    deleted = {account["account_id"]: account.get("deleted_at") for account in accounts}
    months = months_of(changes, last_day)
    paid: dict[tuple[int, date], Decimal] = {}
    for (_, before, _), (month, _, day) in zip(months, months[12:], strict=False):
        for subscription in subscriptions:
            account_id = subscription["account_id"]
            history = [change for change in changes if change["subscription_id"] == subscription["subscription_id"]]
            ends = [end for end in (subscription.get("deleted_at"), deleted.get(account_id)) if end is not None]
            _, amount = state_before(history, before, min(ends, default=None))
            if amount > 0:
                key = (account_id, month)
                paid[key] = paid.get(key, ZERO) + cents(amount * rate_on[subscription["currency"]][day])
    return paid


def earned_by_month(
    lines: Iterable[Record],
    invoices: Iterable[Record],
    rate_on: Mapping[str, Mapping[date, Decimal]],
    months: Iterable[tuple[date, datetime, date]],
) -> dict[date, Decimal]:
    """What was invoiced for subscriptions, spread over the periods of its lines by time."""
    documents = {invoice["invoice_id"]: invoice for invoice in invoices}
    months = list(months)
    sums: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
    for line in lines:
        invoice = documents[line["invoice_id"]]
        if invoice["status"] in ("draft", "void") or line["line_type"] in ("tax", "one_off"):
            continue
        begins, ends = line["period_start"], line["period_end"]
        for month, _, _ in months:
            following = _midnight((month + timedelta(days=32)).replace(day=1))
            if begins is None:
                earned = line["amount"] if month == invoice["issued_at"].date().replace(day=1) else ZERO
            else:
                earned = _earned(line["amount"], begins, ends, following) - _earned(
                    line["amount"], begins, ends, _midnight(month)
                )
            sums[invoice["currency"], month] += earned
    return {
        month: sum((cents(sums[currency, month] * of_day[day]) for currency, of_day in rate_on.items()), ZERO)
        for month, _, day in months
    }


def _earned(amount: Decimal, begins: datetime, ends: datetime, until: datetime) -> Decimal:
    millisecond = timedelta(milliseconds=1)
    elapsed = min(max(until - begins, timedelta()), ends - begins) // millisecond
    return cents(amount * elapsed / ((ends - begins) // millisecond))


def survival(lives: Iterable[tuple[int, bool]]) -> dict[int, float]:
    """Kaplan and Meier's estimate after each day with a churn, of (days, churned)."""
    lives, left, curve = list(lives), 1.0, {}
    for day in sorted({days for days, churned in lives if churned}):
        at_risk = sum(days >= day for days, _ in lives)
        left *= 1 - sum(days == day and churned for days, churned in lives) / at_risk
        curve[day] = left
    return curve


def _pct(part: Decimal, whole: Decimal) -> Decimal:
    return (100 * part / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _movement(was_paying: bool, is_paying: bool, is_first: bool, opening: Decimal, closing: Decimal) -> str:
    if not was_paying:
        return "new" if is_first else "reactivation"
    if not is_paying:
        return "churn"
    return "renewal" if closing == opening else "expansion" if closing > opening else "contraction"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
