"""The tables of the subscription business's operational database, each a frozen spec."""

from functools import partial

from include.sources.postgres.streams import Reconcile, Stream
from include.sources.subjects import Subject, nobody

DOMAIN = "saas"
_table = partial(Stream, DOMAIN)

# A person is a user of one database; an account is a company, and what it pays is its own.
USER = ("site", "user_id")
COMPANY, PRICES = nobody("an account is a company"), nobody("prices are nobody's")

STREAMS = {
    stream.name: stream
    for stream in (
        _table("accounts", ("account_id",), subject=COMPANY),
        _table("users", ("user_id",), subject=Subject(USER, identifiers=("email", "full_name"))),
        _table("plans", ("plan_version_id",), subject=PRICES),
        _table("subscriptions", ("subscription_id",), subject=COMPANY),
        _table("subscription_changes", ("change_id",), subject=COMPANY),
        _table("invoices", ("invoice_id",), subject=COMPANY),
        _table("invoice_lines", ("invoice_line_id",), subject=COMPANY),
        _table(
            "product_events",
            ("event_id",),
            day="occurred_at",
            reconcile=Reconcile.DAYS,
            subject=Subject(USER),
        ),
        _table("exchange_rates", ("rate_id",), subject=PRICES),
    )
}
