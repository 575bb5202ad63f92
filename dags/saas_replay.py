"""### Judge quarantined rows of the subscription business again

After a row rule or the data was mended: judge every record of the chosen days by today's rules, rebuild the days on
which quarantine changed, and release. Nothing is fetched.

- **Days**: *From* and *To*, or neither for all days on which rows are set aside (those of the chosen tables).
- **Dry run**: only the log of `replay_plan` says what would change; the rest is skipped.
- **A gate is red**: readers keep the previous release; mend and clear the gate, as in `saas_daily`.

It takes turns with `saas_daily`. See docs/how-to/replay-quarantine.md.
"""

from airflow.sdk import chain, dag

from include.layers import Layer
from include.orchestration.dags import replay
from include.orchestration.tasks import gate, layer, release, replay_is_due, replay_plan

DOMAIN = "saas"


@dag(**replay(DOMAIN, doc_md=__doc__))
def saas_replay():
    plan = replay_plan(domain=DOMAIN)
    chain(
        replay_is_due(plan),
        gate(DOMAIN, Layer.BRONZE, plan),
        layer(DOMAIN, Layer.BRONZE),
        layer(DOMAIN, Layer.SILVER),
        gate(DOMAIN, Layer.SILVER, plan),
        layer(DOMAIN, Layer.GOLD),
        gate(DOMAIN, Layer.GOLD, plan),
        release(DOMAIN, plan),
    )


saas_replay()
