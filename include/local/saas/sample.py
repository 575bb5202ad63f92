"""A company's first year, with a few hundred users, in the database `demo_app` of the given PostgreSQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from include.interval import Interval
from include.local.saas.database import READER, State, build
from include.local.sample import Place, Sample

START, END = date(2025, 3, 1), date(2026, 3, 4)
SCALE, SEED = 0.02, 1
# The first run takes what was before as well.
DAYS = 2
# Of people who never were.
PSEUDONYM_KEY = "a key for people who never were"


@contextmanager
def sample(place: Place) -> Iterator[Sample]:
    """See `include.local.sample`."""
    owner, reader = place.postgres.as_role("saas_owner"), place.postgres.as_role(READER)
    build(owner, place.extensions, State.of(SCALE, SEED, END, START))
    databases = place.folder / "databases.yaml"
    databases.write_text(f"databases:\n  - database: {reader.database}\n")
    environment = {
        "LAKE_SAAS_DATABASES": str(databases),
        f"AIRFLOW_CONN_SAAS_{reader.database.upper()}": reader.uri(),
        "AIRFLOW_CONN_SAAS_PSEUDONYM": json.dumps({"conn_type": "generic", "password": PSEUDONYM_KEY}),
    }
    yield Sample(Interval.of_days(END - timedelta(days=DAYS), END), environment)
