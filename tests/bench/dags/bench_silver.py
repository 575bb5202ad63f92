"""### One layer of the daily pipeline, alone, for the bench"""

from airflow.sdk import dag

from include.layers import Layer
from include.orchestration.dags import daily
from include.orchestration.tasks import layer


@dag(**daily("nightscout", doc_md=__doc__) | {"schedule": None})
def bench_silver():
    layer("nightscout", Layer.SILVER)


bench_silver()
