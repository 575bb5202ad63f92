"""### Proof that the newest backup restores

Every Sunday at 05:30 UTC: read every file of the newest backup, restore it into a scratch place, compare each mart with
the ledger, in the lake and in PostgreSQL, and clean up. `lake backups` shows what was found.

- **Red**: the backup cannot be trusted, or it held no mart to compare; see docs/how-to/back-up-and-restore.md.
"""

from airflow.sdk import dag

from include.orchestration.backup import restore_newest
from include.orchestration.dags import backups


@dag(**backups("30 5 * * 0", doc_md=__doc__))
def lake_restore_drill():
    restore_newest()


lake_restore_drill()
