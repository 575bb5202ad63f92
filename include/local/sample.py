"""What each domain's demo source offers to whoever runs its pipeline on a few days, whatever kind of source it is.

`include/local/<domain>/sample.py` holds `sample(place)`, a context manager: inside the block the source answers, and
what it gives (`Sample`) is all that a process needs to ingest from it. The same days at every call, whatever today is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from include.errors import SetupError
from include.interval import Interval
from include.local.postgres import LocalPostgres


@dataclass(frozen=True)
class Place:
    """Where a source may live: a folder of its own, a running PostgreSQL, and DuckDB's extensions."""

    folder: Path
    postgres: LocalPostgres
    extensions: Path


@dataclass(frozen=True)
class Sample:
    """A source that answers.

    Args:
        interval: the days to run; the source has data on each.
        environment: settings (`LAKE_…`) and connections (`AIRFLOW_CONN_…`) by which the domain's ingest finds it.
    """

    interval: Interval
    environment: Mapping[str, str]


def sample_of(domain: str, place: Place) -> Any:
    """The domain's `sample(place)`.

    Raises:
        SetupError: the domain has none.
    """
    name = f"include.local.{domain}.sample"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(str(error.name)):
            raise
        raise SetupError(
            f"Domain {domain} has no demo source to run on: there is no include/local/{domain}/sample.py; write one "
            "as include/local/sample.py says."
        ) from None
    return module.sample(place)
