"""### As many empty tasks as the daily pipeline has, in the same shape, for the bench

`shape.json` beside the DAGs names each task and those that follow it.
"""

import json
from pathlib import Path

from airflow.sdk import dag, task

SHAPE = json.loads((Path(__file__).parent / "shape.json").read_text())


@dag(schedule=None, doc_md=__doc__)
def bench_empty():
    @task
    def nothing():
        return None

    made = {name: nothing.override(task_id=name.replace(".", "-"))() for name in SHAPE}
    for name, following in SHAPE.items():
        for other in following:
            made[name] >> made[other]


bench_empty()
