"""Plans with their price versions, and exchange rates: what all accounts share."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

DAY = 86_400
# name, monthly price in hundredths of USD, days of trial
TIERS = (
    ("starter", "Starter", 1_900, 14),
    ("team", "Team", 5_900, 14),
    ("business", "Business", 19_900, 30),
    ("enterprise", "Enterprise", 79_900, 0),
)
PERIODS = {"month": 1, "year": 10}  # a year costs ten months
CURRENCIES = {"USD": 1.0, "EUR": 0.9, "GBP": 0.8, "CHF": 0.95}
USD_OF = {"USD": 1.0, "EUR": 1.08, "GBP": 1.27, "CHF": 1.12}
# A new price is a new row: days after the start, and what the price of before grows by.
VERSIONS = ((-365, 1.0), (400, 1.1), (800, 1.08))
DRAFT = 9_001  # somebody's draft with a negative price, which nobody subscribes to


@dataclass(frozen=True)
class Price:
    plan_version_id: int
    tier: int
    period: str
    currency: str
    price: int
    trial_days: int
    effective_from: int


class Catalogue:
    """Every price version that there will ever be; who asks names the moment."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.prices: dict[int, Price] = {}
        for tier, (_, _, monthly, trial) in enumerate(TIERS):
            for p, (period, months) in enumerate(PERIODS.items()):
                for c, (currency, factor) in enumerate(CURRENCIES.items()):
                    rise = 1.0
                    for version, (days, by) in enumerate(VERSIONS, 1):
                        rise *= by
                        price = round(monthly * factor * rise / 100) * 100 * months
                        key = version * 1000 + tier * 100 + p * 10 + c
                        self.prices[key] = Price(key, tier, period, currency, price, trial, start + days * DAY)

    def price(self, tier: int, period: str, currency: str, at: int) -> Price:
        """The version on sale at a moment."""
        p, c = list(PERIODS).index(period), list(CURRENCIES).index(currency)
        versions = [self.prices[v * 1000 + tier * 100 + p * 10 + c] for v in range(1, len(VERSIONS) + 1)]
        return next(version for version in reversed(versions) if version.effective_from <= at or version is versions[0])

    def rows(self, through: int) -> Iterator[tuple[Any, ...]]:
        corrected = self._start + 200 * DAY
        for price in self.prices.values():
            # On the list a week before it is on sale.
            created = price.effective_from - 7 * DAY
            if created >= through:
                continue
            code, name, _, _ = TIERS[price.tier]
            updated = created
            if code == "business" and created < corrected:
                name, updated = (name, corrected) if corrected < through else ("Bussiness", created)
            yield (
                price.plan_version_id,
                f"{code}_{price.period}_{price.currency.lower()}",
                f"{name} ({price.period}ly)",
                code,
                price.plan_version_id // 1000,
                price.period,
                price.currency,
                price.price,
                price.trial_days,
                price.effective_from,
                created,
                updated,
                None,
            )
        drafted = self._start + 100 * DAY
        if drafted < through:
            yield (
                DRAFT,
                "starter_month_usd",
                "Starter (monthly)",
                "starter",
                99,
                "month",
                "USD",
                -100,
                14,
                self._start + 30_000 * DAY,
                drafted,
                drafted,
                None,
            )


def rates(seed: int, start: int, through: int) -> Iterator[tuple[Any, ...]]:
    """A rate a day and currency, known at 16:00 UTC of its day, from a month before the start."""
    first, end = day_of(start) - timedelta(days=31), day_of(through)
    for number in range((end - first).days):
        day = first + timedelta(days=number)
        since = (day - date(2020, 1, 1)).days
        known = seconds(day) + 16 * 3600
        for phase, (currency, usual) in enumerate(USD_OF.items()):
            noise = Random(f"{seed}:{currency}:{day}").uniform(-0.004, 0.004)  # noqa: S311
            wave = 0.05 * math.sin(since / 90 + phase) + noise
            rate = 1.0 if currency == "USD" else round(usual * (1 + wave), 8)
            yield (f"{currency}-{day}", currency, day, rate, known, known, None)


def seconds(day: date) -> int:
    """The midnight of a UTC day, in seconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def day_of(moment: int) -> date:
    return datetime.fromtimestamp(moment, UTC).date()
