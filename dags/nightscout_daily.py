"""### Continuous glucose monitoring: Nightscout sites to certified marts

Every day, for the UTC day before: read all sites of the sites file, check what came in, build the layers, check each,
and release. A red gate stops the run and leaves every reader with the previous release.

- **Run a range**: trigger with *From* and *To*; a long range is one run.
- **Run again**: any run may be repeated, in any order; the tables end the same.
- **A gate is red**: its log and Data Docs name the checks; see docs/runbook.md.
"""

from airflow.sdk import chain, dag

from include.layers import Layer
from include.orchestration.dags import daily
from include.orchestration.tasks import gate, ingest, layer, release

DOMAIN = "nightscout"


@dag(**daily(DOMAIN, doc_md=__doc__))
def nightscout_daily():
    chain(
        ingest(DOMAIN, streams=("entries", "treatments", "devicestatus", "profile")),
        gate(DOMAIN, Layer.BRONZE),
        layer(DOMAIN, Layer.BRONZE),
        layer(DOMAIN, Layer.SILVER),
        gate(DOMAIN, Layer.SILVER),
        layer(DOMAIN, Layer.GOLD),
        gate(DOMAIN, Layer.GOLD),
        release(DOMAIN),
    )


nightscout_daily()
