"""### Upkeep of the lake: check, compact, expire, clean up, check

Every Sunday: compare catalog and storage byte by byte; write small rows to files; rewrite files with many deleted rows;
merge small files; let go of snapshots that no retained release pins; delete files that nothing needs; compare again.

- **Never beside writers**: each step waits for them and holds them off; see docs/decisions/0013.
- **Proof**: every table's rows are compared before and after each step; a step that was due and did nothing is red.
- **Red**: nothing is lost by stopping here; see docs/how-to/maintain-the-lake.md.
"""

from airflow.sdk import chain, dag

from include.orchestration.dags import weekly
from include.orchestration.maintenance import check, maintain


@dag(**weekly(doc_md=__doc__))
def lake_maintenance():
    chain(
        check.override(task_id="check_before")(deep=True),
        maintain.override(task_id="flush")(step="flush"),
        maintain.override(task_id="rewrite")(step="rewrite"),
        maintain.override(task_id="merge")(step="merge"),
        maintain.override(task_id="expire")(step="expire"),
        maintain.override(task_id="cleanup")(step="cleanup"),
        maintain.override(task_id="orphans")(step="orphans"),
        maintain.override(task_id="leftovers")(step="leftovers"),
        check.override(task_id="check_after")(deep=False),
    )


lake_maintenance()
