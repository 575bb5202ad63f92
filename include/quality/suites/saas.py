"""What must hold for the subscription business: on landing (bronze), of the facts (silver) and of the marts (gold).

Keys, not-nulls and accepted values that dbt tests on its own models are not repeated here.
"""

from include.layers import Layer
from include.quality.checks import Check, Query, RowRule, Severity, Suite
from include.quality.suites import saas_layers
from include.quality.suites.keyed import IN_INTERVAL, RECORDS, landed
from include.quality.suites.saas_layers import STREAMS

MAX_SHARE = 0.05
SPARE_ROWS = 5
BUSY_WEEK = 100  # events; with fewer, a weekend without any is no wonder

ACCOUNTS, USERS, PLANS = "saas_accounts", "saas_users", "saas_plans"
SUBSCRIPTIONS, CHANGES = "saas_subscriptions", "saas_subscription_changes"
INVOICES, LINES = "saas_invoices", "saas_invoice_lines"
EVENTS, RATES = "saas_product_events", "saas_exchange_rates"
CREATED_AT = dict.fromkeys(STREAMS, "created_at") | {EVENTS: "occurred_at"}

# What is billed in. A new one needs exchange rates as well.
CURRENCIES = ("USD", "EUR", "GBP", "CHF")


def _one_of(column: str, values: tuple[str, ...], why: str) -> RowRule:
    return RowRule(f"{column}_is_known", f"{column} in ({', '.join(map(repr, values))})", why)


_CURRENCY = _one_of("currency", CURRENCIES, "An amount in a currency without a rate cannot be added to any other.")
_PERIOD = _one_of("billing_period", ("month", "year"), "Without its period an amount is no monthly amount.")

ROW_RULES: dict[str, tuple[RowRule, ...]] = {
    ACCOUNTS: (
        RowRule(
            "country_is_a_code",
            "deleted_at is not null or regexp_matches(country, '^[A-Z]{2}$')",
            "Two letters, as taxes and currencies are looked up by.",
        ),
    ),
    USERS: (
        RowRule(
            "email_has_an_at",
            "deleted_at is not null or regexp_matches(email, '^[^@\\s]+@[^@\\s]+$')",
            "Nobody can be reached, or told apart, by an address that is none.",
        ),
        _one_of("role", ("owner", "admin", "member"), "What a user may do is one of three."),
    ),
    PLANS: (
        RowRule("list_price_not_negative", "list_price >= 0", "Nobody is paid for a subscription."),
        RowRule("trial_days_in_range", "trial_days between 0 and 365", "A trial of years is a typo."),
        _PERIOD,
        _CURRENCY,
    ),
    SUBSCRIPTIONS: (
        RowRule(
            "canceled_after_start", "canceled_at is null or canceled_at >= started_at", "Nothing ends before it starts."
        ),
        _one_of("status", ("trialing", "active", "paused", "canceled"), "A status that no model knows is no state."),
        _CURRENCY,
    ),
    CHANGES: (
        _one_of(
            "change_type",
            (
                "start_trial",
                "start",
                "convert",
                "upgrade",
                "downgrade",
                "change_quantity",
                "pause",
                "resume",
                "cancel",
                "reactivate",
            ),
            "A change that no model knows moves no revenue.",
        ),
        RowRule("quantity_positive", "quantity > 0", "Fewer than one seat is no subscription."),
        RowRule("amount_not_negative", "amount >= 0", "Nobody is paid for a subscription."),
        _PERIOD,
    ),
    INVOICES: (
        _one_of(
            "status",
            ("draft", "open", "paid", "void", "refunded", "uncollectible"),
            "A status that no model knows is neither revenue nor a loss.",
        ),
        RowRule("period_not_backwards", "period_end >= period_start", "Nothing ends before it starts."),
        _CURRENCY,
    ),
    LINES: (
        _one_of(
            "line_type",
            ("subscription", "proration", "refund", "discount", "tax", "one_off"),
            "A line that no model knows is neither revenue nor tax.",
        ),
        RowRule("amount_is_given", "amount is not null", "A line without an amount hides what was charged."),
    ),
    EVENTS: (
        RowRule(
            "occurred_before_upload",
            "occurred_at <= created_at + interval 1 day",
            "An event more than a day after it was uploaded is a wrong clock.",
        ),
        RowRule("name_is_given", "event_name <> ''", "What happened must be said."),
        RowRule("properties_are_json", "properties is null or json_valid(properties)", "Text cut short is no JSON."),
    ),
    RATES: (
        RowRule("rate_in_range", "rate_to_usd > 0 and rate_to_usd < 10", "No currency that is billed in costs this."),
        _CURRENCY,
    ),
}


def _bronze() -> Suite:
    checks = tuple(
        check
        for table in STREAMS
        for check in landed(
            table,
            table.removeprefix("saas_"),
            CREATED_AT[table],
            ROW_RULES[table],
            streams=STREAMS,
            max_share=MAX_SHARE,
            spare_rows=SPARE_ROWS,
        )
    )
    return Suite(
        domain="saas",
        layer=Layer.BRONZE,
        checks=(*checks, *_OVER_TIME),
        landed=STREAMS,
        row_rules=ROW_RULES,
        max_share=MAX_SHARE,
        spare_rows=SPARE_ROWS,
    )


_OVER_TIME = (
    Check(
        name="product_events_some_in_the_interval",
        table=f"bronze.{EVENTS}",
        test=Query(
            sql=f"select * from (select count(*) filter (where interval_date >= {{first_day}}) as events, "
            f"count(*) filter (where interval_date < {{first_day}}) as week_before from bronze.{EVENTS} "
            f"where {RECORDS} "
            "and interval_date >= {first_day} - 7 and interval_date < {end_day}) "
            f"where events = 0 and week_before >= {BUSY_WEEK}",
            expected=f"at least one product event, from any database, if there were {BUSY_WEEK} in the week before",
        ),
        why="Nobody used the product at all: its tracking or the way to the database is broken.",
        breaks=(
            f"insert into bronze.{EVENTS} select * exclude (n) replace ('copy ' || n as record_id, "
            f"{{first_day}} - 1 as interval_date) from bronze.{EVENTS}, range({BUSY_WEEK}) as copies (n) "
            f"where {RECORDS} and {IN_INTERVAL}",
            f"delete from bronze.{EVENTS} where {RECORDS} and {IN_INTERVAL}",
        ),
    ),
    Check(
        name="exchange_rates_on_each_day",
        table=f"bronze.{RATES}",
        test=Query(
            sql="with days as (select unnest(range({first_day}, {end_day}, interval 1 day))::date as rate_date), "
            f"used as (select distinct site, currency from bronze.{RATES} where {RECORDS}), "
            f"found as (select site, currency, rate_date from bronze.{RATES} where {RECORDS}) "
            "select * from days cross join used anti join found using (site, currency, rate_date) order by all",
            expected="a rate for each day of the interval and each currency that has any",
        ),
        why="The rate of a month's last day converts the whole month.",
        breaks=(f"update bronze.{RATES} set rate_date = rate_date + 1000 where {RECORDS} and {IN_INTERVAL}",),
        severity=Severity.WARN,
    ),
)

GOLD = [
    *saas_layers.gold(),
]

SUITES = {
    Layer.BRONZE: _bronze(),
    Layer.SILVER: saas_layers.silver(),
    Layer.GOLD: Suite("saas", Layer.GOLD, tuple(GOLD)),
}
