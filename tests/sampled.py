"""A domain's demo source (`include/local/<domain>/sample.py`), read as a task reads it: any domain, by its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from include import settings as environment
from include.domains import streams
from include.interval import Interval
from include.lake.attach import Lake
from include.local.postgres import LocalPostgres
from include.local.sample import Place, Sample, sample_of
from include.sources.results import IngestResult


@contextmanager
def sampled(domain: str, server: LocalPostgres, extensions: Path, folder: Path) -> Iterator[Sample]:
    """The source answers, and this process's settings and connections lead to it, and nowhere else."""
    folder.mkdir(parents=True, exist_ok=True)
    with sample_of(domain, Place(folder, server, extensions)) as sample:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**sample.environment, "LAKE_HOME": str(folder / "home")}.items():
                patch.setenv(name, value)
            environment.settings.cache_clear()
            yield sample
        environment.settings.cache_clear()


def ingest_all(lake: Lake, domain: str, interval: Interval) -> dict[str, IngestResult]:
    """What each stream's task of the DAG brings; inside `sampled`."""
    run: Any = import_module(f"include.sources.{domain}.run")
    return {name: run.ingest_stream(lake, name, interval, environment.connection) for name in streams(domain)}
