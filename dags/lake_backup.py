"""### Backup of the lakehouse

Every day at 02:30 UTC: the lake's catalog, the marts and the ledger as they were at one moment, and every file that the
catalog names and no backup has yet, to the place that connection `lake_backup` names. Then the oldest backups go.

- **Beside runs**: writers go on; no file is deleted meanwhile.
- **Again**: any number of times; a run that was killed left no backup, and its files are not copied again.
- **Red**: there is no new backup, the ones before stand; see docs/how-to/back-up-and-restore.md.
"""

from airflow.sdk import dag

from include.orchestration.backup import back_up
from include.orchestration.dags import backups


@dag(**backups("30 2 * * *", doc_md=__doc__))
def lake_backup():
    back_up()


lake_backup()
