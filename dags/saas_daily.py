"""### Subscription revenue: an operational PostgreSQL to certified marts

Every day, for the UTC day before: ask all databases of the databases file for what was changed, check what came in,
build the layers, check each, and release. A red gate stops the run and leaves every reader with the previous release.

- **First run**: takes everything that was changed before the interval's end, whatever the interval.
- **Run a range**: trigger with *From* and *To*; a long range is one run.
- **Run again**: any run may be repeated, in any order; the tables end the same.
- **A gate is red**: its log and Data Docs name the checks; see docs/runbook.md.
"""

from airflow.sdk import chain, dag

from include.layers import Layer
from include.orchestration.dags import daily
from include.orchestration.tasks import gate, ingest, layer, release

DOMAIN = "saas"
STREAMS = (
    "accounts",
    "users",
    "plans",
    "subscriptions",
    "subscription_changes",
    "invoices",
    "invoice_lines",
    "product_events",
    "exchange_rates",
)


@dag(**daily(DOMAIN, doc_md=__doc__))
def saas_daily():
    chain(
        ingest(DOMAIN, streams=STREAMS),
        gate(DOMAIN, Layer.BRONZE),
        layer(DOMAIN, Layer.BRONZE),
        layer(DOMAIN, Layer.SILVER),
        gate(DOMAIN, Layer.SILVER),
        layer(DOMAIN, Layer.GOLD),
        gate(DOMAIN, Layer.GOLD),
        release(DOMAIN),
    )


saas_daily()
