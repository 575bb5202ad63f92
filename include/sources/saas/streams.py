"""The tables of the subscription business's operational database, each a frozen spec."""

from functools import partial

from include.sources.postgres.streams import Reconcile, Stream

DOMAIN = "saas"
_table = partial(Stream, DOMAIN)

STREAMS = {
    stream.name: stream
    for stream in (
        _table("accounts", ("account_id",)),
        _table("users", ("user_id",)),
        _table("plans", ("plan_version_id",)),
        _table("subscriptions", ("subscription_id",)),
        _table("subscription_changes", ("change_id",)),
        _table("invoices", ("invoice_id",)),
        _table("invoice_lines", ("invoice_line_id",)),
        _table("product_events", ("event_id",), day="occurred_at", reconcile=Reconcile.DAYS),
        _table("exchange_rates", ("rate_id",)),
    )
}
