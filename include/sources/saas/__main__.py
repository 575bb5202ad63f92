"""The subscription business's databases alone, without Airflow: `python -m include.sources.saas --help`."""

import logging

from include import settings as environment
from include.settings import settings
from include.sources.postgres.command import command
from include.sources.saas.streams import DOMAIN, STREAMS

app = command(
    DOMAIN,
    STREAMS,
    databases_file=lambda: settings().databases_file,
    overlap_days=lambda: settings().saas_overlap_days,
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    environment.load_local_environment()
    app()
